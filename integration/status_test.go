package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestStatusPages asks a process about itself and its tenant.
func TestStatusPages(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	s.Accept(t, harness.V2, harness.Series{Labels: []string{"__name__", "st_sample"}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}}})

	var config struct{ YAML string }
	s.Get(t, "/api/v1/status/config", nil, &config)
	require.Contains(t, config.YAML, "max_query_bytes: 131072\n")
	var flags map[string]string
	s.Get(t, "/api/v1/status/flags", nil, &flags)
	require.Equal(t, "all", flags["target"])
	var runtime struct{ StorageRetention string }
	s.Get(t, "/api/v1/status/runtimeinfo", nil, &runtime)
	require.Equal(t, "15d", runtime.StorageRetention)
	var replay struct{ Max, Current int }
	s.Get(t, "/api/v1/status/walreplay", nil, &replay)
	require.Equal(t, replay.Max, replay.Current)
	var tsdb struct {
		HeadStats               struct{ NumSeries int }
		SeriesCountByMetricName []struct{ Name string }
	}
	s.Get(t, "/api/v1/status/tsdb", url.Values{"limit": {"10000"}}, &tsdb)
	require.Positive(t, tsdb.HeadStats.NumSeries)
	require.NotEmpty(t, tsdb.SeriesCountByMetricName)
}

// TestHostileQueries sends what hangs or kills others. The process answers at
// once, and goes on.
func TestHostileQueries(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{})
	for name, query := range map[string]string{
		"100,000 parentheses":     strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
		"50,000 parentheses":      strings.Repeat("(", 50_000) + "1" + strings.Repeat(")", 50_000),
		"1 MB regular expression": `up{a=~"` + strings.Repeat("x.", 1<<19) + `"}`,
		"10^13 steps":             "max_over_time(vector(1)[290y:1ms])",
		"labels that double":      strings.Repeat("label_join(", 40) + "up" + strings.Repeat(`,"a","","a","a")`, 40),
		"infinity":                "up @ Inf",
	} {
		start := time.Now()
		res, err := http.PostForm(s.Process().URL+"/api/v1/query", url.Values{"query": {query}, "time": {"1e9"}})
		require.NoError(t, err)
		var e harness.Envelope
		require.NoError(t, json.NewDecoder(res.Body).Decode(&e))
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusBadRequest, res.StatusCode, "%s: %.200s", name, e.Error)
		require.Less(t, time.Since(start), time.Second, name)
	}
	require.Equal(t, []string{"1"}, s.Instant(t, "vector(1)", 1_000_000), "it lives")
}
