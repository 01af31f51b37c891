package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestRoundTripExemplars writes exemplars of floats and histograms.
func TestRoundTripExemplars(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	for _, p := range protocols {
		float := harness.Series{
			Labels:  []string{"__name__", "rt_exemplar_total", "protocol", p.String()},
			Samples: []harness.Sample{{T: base, V: 7}},
			Exemplars: []harness.Exemplar{
				{Labels: []string{"trace_id", "4bf92f3577b34da6"}, T: base - 20, V: 0.25},
				{Labels: []string{"span_id", "00f067aa", "trace_id", "🔥"}, T: base - 10, V: -1e-9},
				{Labels: nil, T: base, V: 3},
			},
		}
		native := harness.Series{
			Labels:    []string{"__name__", "rt_exemplar_seconds", "protocol", p.String()},
			Samples:   []harness.Sample{{T: base, H: bell()}},
			Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "a"}, T: base - 10, V: 1.5}},
		}
		s.Accept(t, p, float, native)
		for _, sent := range []harness.Series{float, native} {
			checkExemplars(t, s, p, sent)
		}
	}
}

func checkExemplars(t *testing.T, s *harness.Server, p harness.Protocol, sent harness.Series) {
	t.Helper()
	at := sent.Samples[0].T
	got := s.Exemplars(t, fmt.Sprintf(`%s{protocol=%q}`, sent.Labels[1], p), at-1000, at+1000)
	require.Len(t, got, 1)
	require.Equal(t, map[string]string{"__name__": sent.Labels[1], "protocol": p.String()}, got[0].Labels)
	require.Equal(t, sent.Exemplars, got[0].Exemplars)
}

// TestRoundTripMetadata writes type, help and unit, and finds them after a
// restart too.
func TestRoundTripMetadata(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	types := []model.MetricType{
		model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram, model.MetricTypeGaugeHistogram,
		model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset, model.MetricTypeUnknown,
	}
	want := map[string]harness.Metadata{}
	for _, p := range protocols {
		var series []harness.Series
		for _, typ := range types {
			name := fmt.Sprintf("rt_meta_%s_%s", typ, p)
			m := harness.Metadata{Type: typ, Help: "Help of \"" + name + "\",\nwith a second line.", Unit: "seconds"}
			want[name] = m
			series = append(series, harness.Series{Labels: []string{"__name__", name}, Samples: []harness.Sample{{T: base, V: 1}}, Metadata: &m})
		}
		s.Accept(t, p, series...)
	}
	if harness.Against() == "prometheus" {
		return // it keeps metadata of remote write in its log, and shows that of its own targets only
	}
	checkMetadata(t, s, want)
	s.Stop()
	s.Again()
	checkMetadata(t, s, want)
}

func checkMetadata(t *testing.T, s *harness.Server, want map[string]harness.Metadata) {
	t.Helper()
	var got map[string][]struct{ Type, Help, Unit string }
	s.Get(t, "/api/v1/metadata", nil, &got)
	for name, m := range want {
		require.Len(t, got[name], 1, name)
		require.Equal(t, harness.Metadata{Type: model.MetricType(got[name][0].Type), Help: got[name][0].Help, Unit: got[name][0].Unit}, m)
	}
}

// TestRepeatedRequestsAreHarmless sends one request of everything again and
// again, through a kill and a restart: always a success with the same counts,
// always the same samples.
func TestRepeatedRequestsAreHarmless(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	for _, p := range protocols {
		floats := harness.Series{
			Labels:    []string{"__name__", "rt_repeat_total", "protocol", p.String()},
			Samples:   []harness.Sample{{T: base, V: 1}, {T: base + 1000, V: 2}, {T: base + 2000, V: 3}},
			Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "x"}, T: base, V: 1}, {Labels: []string{"trace_id", "y"}, T: base + 10, V: 1}},
			Metadata:  &harness.Metadata{Type: model.MetricTypeCounter, Help: "h"},
		}
		natives := harness.Series{
			Labels:  []string{"__name__", "rt_repeat_seconds", "protocol", p.String()},
			Samples: []harness.Sample{{T: base, H: bell()}, {T: base + 1000, H: bell()}},
		}
		late := harness.Series{
			Labels:  []string{"__name__", "rt_repeat_total", "protocol", p.String()},
			Samples: []harness.Sample{{T: base - 200_000, V: 9}, {T: base - 100_000, V: 8}},
		}
		requests := [][]harness.Series{{floats, natives}, {late}, {floats, natives}, {late}, {late, floats, natives}}
		for round := range 3 {
			for _, r := range requests {
				s.Accept(t, p, r...)
			}
			got := s.Only(t, fmt.Sprintf(`rt_repeat_total{protocol=%q}`, p), base-300_000, base+5000)
			require.Equal(t, map[int64]float64{base: 1, base + 1000: 2, base + 2000: 3, base - 200_000: 9, base - 100_000: 8}, got.Floats)
			got = s.Only(t, fmt.Sprintf(`rt_repeat_seconds{protocol=%q}`, p), base-300_000, base+5000)
			require.Len(t, got.Histograms, 2)
			switch round {
			case 0:
				s.Kill()
				s.Again()
			case 1:
				s.Stop()
				s.Again()
			}
		}
	}
}

// TestLateWithinAndBeyondTheWindow holds the out-of-order window, whose default
// is 10 minutes behind the newest sample.
func TestLateWithinAndBeyondTheWindow(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	now := time.Now().UnixMilli()
	for _, p := range protocols {
		series := func(at int64) harness.Series {
			return harness.Series{Labels: []string{"__name__", "rt_late", "protocol", p.String()}, Samples: []harness.Sample{{T: at, V: float64(at)}}}
		}
		s.Accept(t, p, series(now))
		s.Accept(t, p, series(now-9*60_000))
		a := s.Push(t, p, series(now-11*60_000))
		require.Equal(t, http.StatusBadRequest, a.Status)
		got := s.Only(t, fmt.Sprintf(`rt_late{protocol=%q}`, p), now-3600_000, now)
		require.Equal(t, map[int64]float64{now: float64(now), now - 9*60_000: float64(now - 9*60_000)}, got.Floats)
		now++
	}
}
