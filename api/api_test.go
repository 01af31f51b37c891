package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
)

func TestValidate(t *testing.T) {
	cfg := api.DefaultConfig()
	require.Empty(t, cfg.Validate("query"))

	cfg = api.Config{Timeout: -time.Second, MaxSamples: -1, CORSOrigin: "("}
	var got []string
	for _, err := range cfg.Validate("query") {
		got = append(got, err.Error())
	}
	require.Equal(t, []string{
		"query.timeout: -1s: must be longer than 0s",
		"query.max_samples: -1: must be at least 1",
		"query.lookback_delta: 0s: must be longer than 0s",
		"query.max_concurrent: 0: must be at least 1",
		"query.max_points_per_series: 0: must be at least 1",
		"query.max_subquery_steps: 0: must be at least 1",
		"query.max_query_bytes: 0: must be at least 1",
		"query.max_regexp_bytes: 0: must be at least 1",
		"query.max_matchers: 0: must be at least 1",
		"query.max_series: 0: must be at least 1",
		"query.max_chunk_bytes: 0: must be at least 1",
		"query.max_results: 0: must be at least 1",
		"query.max_response_bytes: 0: must be at least 1",
		"query.cors_origin: \"(\": must be a regular expression: error parsing regexp: missing closing ): `^(?s:()$`",
	}, got)
}

func TestLimitsOfConfig(t *testing.T) {
	s := newServer(t, func(s *server) {
		s.cfg.MaxPointsPerSeries = 100
		s.cfg.MaxSamples = 50
		s.cfg.LookbackDelta = time.Second
	})
	for _, tc := range []struct {
		read, errorType, message string
		status                   int
	}{
		{"query_range?start=0&end=100&step=1&query=1", "", "", 422},
		{"query_range?start=0&end=101&step=1&query=1", "bad_data", "weir-query-too-many-steps: exceeded maximum resolution of 100 points per timeseries. Try decreasing the query resolution (?step=XX)", 400},
		{"query?time=300&query=up[10m]", "execution", "weir-query-too-many-samples: query processing would load too many samples into memory in query execution; the limit is query.max_samples: select fewer series or a shorter range", 422},
	} {
		w := s.do(t, "GET", "/api/v1/"+tc.read, nil)
		require.Equal(t, tc.status, w.Code, w.Body)
		if tc.errorType != "" {
			require.Equal(t, envelope{Status: "error", ErrorType: tc.errorType, Error: tc.message}, decode(t, w.Body.String()))
		}
	}
	w := s.do(t, "GET", "/api/v1/query?time=305&query=up", nil)
	require.Equal(t, `{"status":"success","data":{"resultType":"vector","result":[]}}`, w.Body.String(), "older than the lookback")
}

// TestMetrics also makes sure that clients cannot make up label values.
func TestMetrics(t *testing.T) {
	s := newServer(t, noDBs)
	s.do(t, "GET", "/api/v1/query?query=1", nil)
	s.do(t, "GET", "/api/v1/query?query=2", nil)
	s.do(t, "GET", "/prometheus/api/v1/query?query=", nil)
	s.do(t, "GET", "/api/v1/label/anything/values", nil)
	s.do(t, "POST", "/api/v1/push", nil)
	s.do(t, "GET", "/api/v1/push", nil)
	s.do(t, "GET", "/no/such/thing", nil)
	s.do(t, "BREW", "/nor/this", nil)
	send(t, s.admin, "POST", "/ingester/flush", nil)

	counts := map[string]uint64{}
	families, err := s.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			l := map[string]string{}
			for _, p := range m.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			switch f.GetName() {
			case "weir_http_request_duration_seconds":
				requireNative(t, m.GetHistogram())
				counts[fmt.Sprintf("%s %s %s", l["method"], l["route"], l["status_code"])] = m.GetHistogram().GetSampleCount()
			case "weir_http_requests_in_flight":
				require.Zero(t, m.GetGauge().GetValue())
			}
		}
	}
	require.Equal(t, map[string]uint64{
		"GET /api/v1/query 2xx":               2,
		"GET /prometheus/api/v1/query 4xx":    1,
		"GET /api/v1/label/{name}/values 2xx": 1,
		"POST /api/v1/push 2xx":               1,
		"GET /api/v1/push 2xx":                1,
		"GET none 4xx":                        1,
		"other none 4xx":                      1,
		"POST /ingester/flush 2xx":            1,
	}, counts)

	require.Contains(t, s.metrics(t), "weir_http_requests_in_flight 1\n", "this one")
}

func requireNative(t *testing.T, h *dto.Histogram) {
	t.Helper()
	require.NotNil(t, h.ZeroThreshold)
	require.NotEmpty(t, h.GetBucket(), "classic buckets beside")
}

// TestWithoutRegistry makes two in one process, as tests do.
func TestWithoutRegistry(t *testing.T) {
	for range 2 {
		s := newServer(t, noDBs, func(s *server) { s.deps.Registry, s.deps.Gatherer = nil, prometheus.NewRegistry() })
		require.Equal(t, http.StatusOK, s.do(t, "GET", "/api/v1/query?query=1", nil).Code)
	}
}
