package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestUsageInTheTenant: a tenant reads from its own series what it used and how near
// its limits it is. What it stored is exact through a kill, and so is what it asked
// for until maintenance looked last.
func TestUsageInTheTenant(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own series")
	}
	const series, every = 50, time.Second
	all := harness.Start(t, harness.Config{Set: []string{
		"auth.mode=header", "self_metrics.tenant=admin", "ingester.maintenance_interval=" + every.String(),
		fmt.Sprintf("limits.max_active_series=%d", series), "limits.ingestion_rate=100000",
	}})
	s := all.As("team-a")
	var sent, asked int
	var newest int64 // ms; the same sample once more would not be stored
	push := func() harness.Answer {
		t.Helper()
		newest = max(newest+1, time.Now().UnixMilli())
		batch := make([]harness.Series, series)
		for i := range batch {
			batch[i] = harness.Series{Labels: []string{"__name__", "us_value", "i", fmt.Sprint(i)}, Samples: []harness.Sample{{T: newest, V: 1}}}
		}
		a := s.Push(t, harness.V2, batch...)
		require.Equal(t, http.StatusNoContent, a.Status, a.Body)
		sent += series
		return a
	}
	used := func(name string) float64 {
		t.Helper()
		values := s.Instant(t, "weir_tenant_"+name, time.Now().UnixMilli())
		asked++
		require.Len(t, values, 1, name)
		v, err := strconv.ParseFloat(values[0], 64)
		require.NoError(t, err)
		return v
	}
	// settle returns when all that was done before is written into the tenant.
	settle := func() {
		t.Helper()
		push()
		time.Sleep(3 * every)
	}
	queries := func() {
		t.Helper()
		settle()
		want := asked // without this one
		require.EqualValues(t, want, used("queries_total"))
	}
	stored := func() {
		t.Helper()
		settle()
		require.EqualValues(t, sent, used("stored_samples_total"))
		require.EqualValues(t, sent, used("received_samples_total"))
		var limits struct {
			MaxSeries int `json:"max_global_series_per_user"`
			Usage     struct {
				Stored   int `json:"stored_samples"`
				Received int `json:"received_samples"`
				Active   int `json:"active_series"`
				Limits   []struct {
					Limit    string
					Ratio    float64
					Forecast any
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(s.Text(t, "/api/v1/user_limits")), &limits))
		asked++
		require.Equal(t, series, limits.MaxSeries)
		require.Equal(t, []int{sent, sent, series}, []int{limits.Usage.Stored, limits.Usage.Received, limits.Usage.Active})
		require.Len(t, limits.Usage.Limits, 2)
		require.Equal(t, "max_active_series", limits.Usage.Limits[1].Limit)
		require.EqualValues(t, 1, limits.Usage.Limits[1].Ratio)
		require.Nil(t, limits.Usage.Limits[1].Forecast)
	}
	push()
	require.Equal(t, "max_active_series=1.00", push().Header.Get("X-Weir-Limit-Used"))
	stored()
	queries()
	require.EqualValues(t, series, used("active_series"))
	require.EqualValues(t, 1, used(`limit_used_ratio{limit="max_active_series"}`))
	require.Positive(t, used(`limit_used_ratio{limit="ingestion_rate"}`))
	require.Positive(t, used("stored_bytes"))
	require.Positive(t, used("read_samples_total"))
	queries()

	settle()
	saved := asked
	for range 5 {
		used("active_series")
	}
	push()
	s.Kill()
	s.Again()
	push()
	stored()
	settle()
	want := asked
	lost := float64(want) - used("queries_total")
	require.GreaterOrEqual(t, lost, 0.0)
	require.LessOrEqual(t, lost, 5.0, "those after the %d that were saved", saved)

	s.Stop()
	s.Again()
	asked -= int(lost)
	push()
	stored()
	queries()
	require.Contains(t, all.Text(t, "/metrics"), "weir_ingester_usage_failures_total 0\n")
}
