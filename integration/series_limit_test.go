package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// At its limit a tenant goes on with the series it has, also after a kill; new ones
// are refused and counted, and what was stored is counted through the kill.
func TestSeriesLimit(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own limits")
	}
	const limit, rounds = 100, 30
	s := harness.Start(t, harness.Config{Set: []string{
		"auth.mode=header", "self_metrics.tenant=admin", "limits.max_active_series=" + strconv.Itoa(limit),
		`limits.label_sets=[{name: even, match: '{odd="0"}'}]`,
	}}).As("team-a")
	from := time.Now().Add(-time.Minute).UnixMilli()
	push := func(metric string, at int64) harness.Answer {
		var series []harness.Series
		for i := range limit {
			series = append(series, harness.Series{
				Labels: []string{"__name__", metric, "i", fmt.Sprint(i), "odd", fmt.Sprint(i % 2)}, Samples: []harness.Sample{{T: at, V: 1}},
			})
		}
		return s.Push(t, harness.V2, series...)
	}
	full := func() {
		t.Helper()
		a := push("beyond", from)
		require.Equal(t, http.StatusBadRequest, a.Status, a.Body)
		require.Contains(t, a.Body, "weir-series-limit: refused 100 samples of this request, stored 0")
		require.Contains(t, a.Body, "the limit max_active_series is 100")
		require.Zero(t, a.Written.Samples)
	}
	cardinality := func() (r struct {
		Series int `json:"activeSeries"`
		Sets   []struct {
			Series int `json:"activeSeries"`
		} `json:"labelSets"`
	}) {
		require.NoError(t, json.Unmarshal([]byte(s.Text(t, "/api/v1/cardinality")), &r))
		return r
	}
	for i := range int64(rounds) {
		require.Equal(t, http.StatusNoContent, push("known", from+i*1000).Status)
	}
	full()
	require.Equal(t, limit, cardinality().Series)
	require.Equal(t, limit/2, cardinality().Sets[0].Series)

	s.Kill()
	s.Again()
	full() // though nobody who has a place has been heard of
	require.Equal(t, http.StatusNoContent, push("known", from+rounds*1000).Status)
	require.Equal(t, limit, cardinality().Series)
	stored := regexp.MustCompile(`weir_ingester_tenant_stored_samples_total\{tenant="team-a"\} (\d+)`).FindStringSubmatch(s.As("").Text(t, "/metrics"))
	require.Equal(t, []string{strconv.Itoa(limit * (rounds + 1))}, stored[1:])
}
