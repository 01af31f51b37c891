package api_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGrafana replays what Grafana asks of a Prometheus datasource: when it is
// saved, when an editor or the metrics browser opens, when a dashboard with
// variables loads, and on the alerting pages. It posts where it can.
func TestGrafana(t *testing.T) {
	now := time.Now()
	s := newRecentServer(t, now.UnixMilli())
	recent := url.Values{"start": {now.Add(-time.Hour).Format(time.RFC3339)}, "end": {now.Add(time.Minute).Format(time.RFC3339)}}
	with := func(pairs ...string) url.Values {
		v := url.Values{}
		for k, list := range recent {
			v[k] = list
		}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v
	}
	at := now.Format(time.RFC3339)
	for _, tc := range []struct {
		name, method, path string
		params             url.Values
		check              func(data any)
	}{
		{"health check", "POST", "query", url.Values{"query": {"1+1"}, "time": {at}}, func(data any) {
			require.Equal(t, "scalar", data.(map[string]any)["resultType"])
			require.Equal(t, "2", data.(map[string]any)["result"].([]any)[1])
		}},
		{"flavour and features", "GET", "status/buildinfo", nil, func(data any) {
			info := data.(map[string]any)
			require.NotEmpty(t, info["version"])
			require.Equal(t, "false", info["features"].(map[string]any)["ruler_config_api"], "a string, or alerting would offer to write rules")
		}},
		{"metric metadata", "GET", "metadata", url.Values{"limit": {"40000"}}, func(data any) {
			require.Equal(t, "gauge", data.(map[string]any)["up"].([]any)[0].(map[string]any)["type"])
		}},
		{"label names", "POST", "labels", with(), func(data any) { require.Contains(t, data, "job") }},
		{"label names of a metric", "POST", "labels", with("match[]", `{__name__="up"}`), func(data any) {
			require.Equal(t, []any{"__name__", "instance", "job"}, data)
		}},
		{"metrics", "GET", "label/__name__/values", with("limit", "40000"), func(data any) { require.Contains(t, data, "with.dots") }},
		{"values of a metric's label", "GET", "label/job/values", with("match[]", `{__name__="up"}`), func(data any) {
			require.Contains(t, data, "b")
			require.NotContains(t, data, "gauge")
		}},
		{"values of an escaped label", "GET", "label/U__na_EF_ve/values", with(), func(data any) { require.Len(t, data, 1) }},
		{"series", "POST", "series", with("match[]", `{__name__="up",job=~"a|b"}`, "limit", "40000"), func(data any) { require.Len(t, data, 2) }},
		{"variable by query", "POST", "query", url.Values{"query": {`count by (__name__) ({__name__=~"u.*|w.*"})`}, "time": {at}}, func(data any) {
			require.Len(t, data.(map[string]any)["result"], 2)
		}},
		{"panel", "POST", "query_range", with("query", `sum by (job) (up{job=~"^(?:a|b)$"})`, "step", "15"), func(data any) {
			require.Equal(t, "matrix", data.(map[string]any)["resultType"])
			require.Len(t, data.(map[string]any)["result"], 2)
		}},
		{"table panel", "POST", "query", url.Values{"query": {"up"}, "time": {at}}, func(data any) {
			require.Equal(t, "vector", data.(map[string]any)["resultType"])
		}},
		{"heatmap of native histograms", "POST", "query_range", with("query", `sum(latency{job="a"})`, "step", "15"), func(data any) {
			require.NotEmpty(t, data.(map[string]any)["result"].([]any)[0].(map[string]any)["histograms"])
		}},
		{"exemplars", "POST", "query_exemplars", with("query", "up"), func(data any) { require.Equal(t, []any{}, data) }},
		{"format button", "POST", "format_query", url.Values{"query": {"sum(up)by(job)"}}, func(data any) {
			require.Equal(t, "sum by (job) (up)", data)
		}},
		{"explain", "POST", "parse_query", url.Values{"query": {"up"}}, func(data any) {
			require.Equal(t, "vectorSelector", data.(map[string]any)["type"])
		}},
		{"rules", "GET", "rules", url.Values{"type": {"alert"}, "group_limit": {"40"}, "exclude_alerts": {"true"}}, func(data any) {
			require.Equal(t, map[string]any{"groups": []any{}}, data)
		}},
		{"alerts", "GET", "alerts", nil, func(data any) { require.Equal(t, map[string]any{"alerts": []any{}}, data) }},
		{"cardinality", "GET", "status/tsdb", url.Values{"limit": {"3"}}, func(data any) {
			require.Len(t, data.(map[string]any)["seriesCountByMetricName"], 3)
		}},
		{"targets metadata", "GET", "targets/metadata", url.Values{"limit": {"2"}}, func(data any) {
			require.Len(t, data, 2)
			require.Equal(t, "latency", data.([]any)[0].(map[string]any)["metric"])
		}},
		{"Thanos' parameters", "POST", "query_range", with("query", "up", "step", "15", "max_source_resolution", "auto", "partial_response", "true", "dedup", "true"),
			func(data any) { require.NotEmpty(t, data.(map[string]any)["result"]) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, prefix := range []string{"/api/v1/", "/prometheus/api/v1/"} {
				target, form := prefix+tc.path, tc.params
				if tc.method == http.MethodGet {
					target, form = target+"?"+form.Encode(), nil
				}
				w := s.do(t, tc.method, target, form, "Accept-Encoding", "identity", "X-Grafana-Org-Id", "1")
				require.Equal(t, http.StatusOK, w.Code, w.Body)
				require.Equal(t, "application/json", w.Header().Get("Content-Type"))
				e := decode(t, w.Body.String())
				require.Equal(t, "success", e.Status)
				require.Empty(t, e.Warnings)
				tc.check(e.Data)
			}
		})
	}
}
