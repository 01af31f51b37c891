package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBudget(t *testing.T) {
	at := func(scenario, server string, cpu float64) Measurement {
		return Measurement{Scenario: scenario, Server: server, CPUPerMillion: cpu, P99: cpu, CPUPerNewSeries: 7, PeakBytes: 1 << 30, Samples: 1e6, Longest: 0.1, LongestFirst: 0.4}
	}
	all := []Measurement{
		at(SteadyV1, "weir", 0.5), at(SteadyV1, "prometheus", 5), at(SteadyV1, "victoria-metrics", 1),
		at(SteadyV1, "weir", 0.9), at(SteadyV1, "prometheus", 5), at(SteadyV1, "victoria-metrics", 1),
		at(SteadyV1, "weir", 0.4), at(SteadyV1, "prometheus", 6), at(SteadyV1, "victoria-metrics", 1),
		at(SteadyV2, "weir", 0.4),
		at(SteadyV1, "weir-guarded", 0.55), at(SteadyV2, "weir-guarded", 0.43),
	}
	lines := Budget(all)
	byText := func(prefix string) Line {
		for _, l := range lines {
			if strings.HasPrefix(l.Text, prefix) {
				return l
			}
		}
		t.Fatalf("no line %q", prefix)
		return Line{}
	}
	l := byText("RW 1.0: CPU per sample, to Prometheus")
	require.True(t, l.Measured)
	require.True(t, l.Holds)
	require.InDelta(t, 0.1, l.Value, 1e-9)

	l = byText("RW 1.0: CPU per sample, to VictoriaMetrics")
	require.True(t, l.Measured)
	require.False(t, l.Holds)

	require.False(t, byText("RW 2.0: CPU per sample, to Prometheus").Measured)
	require.True(t, byText("RW 2.0: CPU per sample, to our").Holds)
	l = byText("RW 1.0: CPU per sample with")
	require.InDelta(t, 1.1, l.Value, 1e-9)
	require.False(t, l.Holds)
	require.True(t, byText("RW 2.0: CPU per sample with").Holds)
	l = byText("RW 1.0: longest")
	require.InDelta(t, 100, l.Value, 1e-9, "the first round creates series and is not steady")
	require.True(t, l.Holds)

	var out strings.Builder
	require.False(t, Print(&out, all))
	require.Contains(t, out.String(), "weir/prometheus")
	require.Contains(t, out.String(), "not measured")
}

func TestSelect(t *testing.T) {
	name := func(s Scenario) string { return s.Name }
	got, err := Select(Scenarios(), name, []string{Cardinality, SteadyV1})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, Cardinality, got[0].Name)
	_, err = Select(Scenarios(), name, []string{"steady"})
	require.ErrorContains(t, err, `"steady"`)
}

func TestStartsOverBudget(t *testing.T) {
	fine := Started{Ready: time.Minute, Peak: 130 << 20}
	for _, c := range []struct {
		name string
		m    StartMeasurement
		over int
	}{
		{"one tenant", StartMeasurement{Tenants: 1, Steady: 100 << 20, AfterStop: fine, AfterKill: fine}, 0},
		{"slow", StartMeasurement{Tenants: 1, Steady: 100 << 20, AfterStop: fine, AfterKill: Started{Ready: time.Minute + 1}}, 1},
		{"large while it starts", StartMeasurement{Tenants: 1, Steady: 100 << 20, AfterStop: Started{Peak: 131 << 20}, AfterKill: Started{Peak: 131 << 20}}, 2},
		{"many tenants", StartMeasurement{Tenants: 101, Idle: 1, Steady: 100 << 20, AfterStop: fine, AfterKill: Started{Ready: time.Hour}}, 0},
		{"many large tenants", StartMeasurement{Tenants: 101, Idle: 2, Steady: 100 << 20, AfterStop: fine, AfterKill: fine}, 1},
	} {
		t.Run(c.name, func(t *testing.T) { require.Len(t, c.m.missed(), c.over) })
	}
}
