package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

// fuzzTime is how long any one request of a fuzz test may take, on a machine
// that does other things.
const fuzzTime = time.Second

// newFuzzServer has limits so small that what is within them is quick.
func newFuzzServer(f *testing.F) *server {
	f.Helper()
	return newServer(f, func(s *server) {
		s.cfg.MaxSamples = 100_000
		s.cfg.MaxSubquerySteps = 10_000
		s.cfg.MaxPointsPerSeries = 1000
		s.cfg.MaxResponseBytes = 1 << 20
		s.cfg.Timeout = 10 * time.Second
		s.cfg.Features = []string{
			"promql-experimental-functions", "promql-extended-range-selectors", "promql-binop-fill-modifiers", "promql-delayed-name-removal", "use-start-timestamps",
		}
	})
}

// try sends a request, whose answer must not be our fault, and come soon.
func (s *server) try(t *testing.T, method, path string, params url.Values) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, "/", nil)
	r.URL.Path, r.URL.RawQuery = path, params.Encode()
	r.Header.Set(tenant.Header, teamA)
	w := httptest.NewRecorder()
	start := time.Now()
	s.ServeHTTP(w, r)
	took := time.Since(start)
	require.Less(t, w.Code, 500, "%s %s?%s: %.300s", method, path, params.Encode(), w.Body)
	require.Less(t, took, fuzzTime, "%s %s?%s", method, path, params.Encode())
	require.NotContains(t, s.logs.String(), "panic")
	return w
}

// FuzzQueryParameters is about what is in the parameters of a query.
func FuzzQueryParameters(f *testing.F) {
	s := newFuzzServer(f)
	for _, seed := range [][7]string{
		{"up", "300", "0", "600", "60", "5s", ""},
		{"rate(up[1m])", "NaN", "-Inf", "1e300", "0.001", "NaN", "1"},
		{"max_over_time(up[1h:1ms] @ end())", "1970-01-01T00:00:00Z", "-292273086-05-16T16:47:06Z", "9e15", "1y", "-1", "99999999999999999999"},
		{"vector(1)[10y:1ms]", "1e9", "0", "1", "1e-9", "292y", "0"},
		{"topk(1e18, up)", "300", "0", "600", "0.0005", "0", "all"},
		{"rate(up[1ms:1ms])", "300", "0", "600", "1ms", "", ""},
		{`label_replace(up, "a", "$1$1", "job", "(.*)")`, "300", "", "", "", "", ""},
		{`count_values("v", special)`, "80", "0", "600", "7", "1h", ""},
		{"quantile(NaN, special) or quantile(Inf, special)", "80", "0", "600", "7", "1h", ""},
		{"histogram_quantile(NaN, latency) + up offset -292y", "80", "0", "600", "7", "1h", ""},
		{"sum by (a,b) (up) / on () group_left () up", "80", "0", "600", "7", "1h", ""},
		{"up @ 9223372036854775", "80", "0", "600", "7", "1h", ""},
		{"predict_linear(requests[1m], 1e300) % 0 ^ -1", "80", "0", "600", "7", "1h", ""},
		{"((((((up))))))", "80", "0", "600", "7", "1h", ""},
		{"-+-+-+up", "80", "0", "600", "7", "1h", ""},
		{"absent_over_time(up[0.0001]) unless days_in_month()", "80", "0", "600", "7", "1h", ""},
		{"round(up, 0) atan2 clamp(up, NaN, -Inf)", "80", "0", "600", "7", "1h", ""},
		{"label_join(up, \"__name__\", \"\xff\", \"job\")", "80", "0", "600", "7", "1h", ""},
		{"max_over_time(up[range()*1e300+1h:step()/2])", "80", "0", "600", "7", "1h", ""},
		{"rate(up[1m] smoothed) + fill(NaN) increase(up[1m] anchored) offset -(step()^9)", "80", "0", "600", "7", "1h", ""},
		{"limitk(1e18, up) or limit_ratio(NaN, up) or sort_by_label(up, \"job\") or mad_over_time(up[1m])", "80", "0", "600", "7", "1h", ""},
		{"info(up, {a=~\".+\"})", "80", "0", "600", "7", "1h", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6])
	}
	f.Fuzz(func(t *testing.T, query, at, start, end, step, duration, other string) {
		for path, params := range map[string]url.Values{
			"query":           {"query": {query}, "time": {at}, "timeout": {duration}, "limit": {other}, "stats": {other}, "lookback_delta": {step}},
			"query_range":     {"query": {query}, "start": {start}, "end": {end}, "step": {step}, "lookback_delta": {duration}, "limit": {other}, "stats": {other}},
			"query_exemplars": {"query": {query}, "start": {start}, "end": {end}},
			"format_query":    {"query": {query}},
			"parse_query":     {"query": {query}},
			"rules":           {"type": {at}, "group_limit": {start}, "group_next_token": {end}, "exclude_alerts": {step}, "match[]": {query}},
			"status/tsdb":     {"limit": {other}},
		} {
			if path == "query" && shortTimeout(duration) {
				params.Del("timeout")
			}
			s.try(t, http.MethodGet, "/api/v1/"+path, params)
		}
	})
}

// shortTimeout reports whether a timeout may be over before the query is, which
// is answered by 503, as it should be.
func shortTimeout(s string) bool {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f > 0 && f < 60
	}
	d, err := model.ParseDuration(s)
	return err == nil && d > 0 && time.Duration(d) < time.Minute
}

// FuzzSelectors is about what selects series, and where.
func FuzzSelectors(f *testing.F) {
	s := newFuzzServer(f)
	for _, seed := range [][4]string{
		{`up`, `{job=~"a|b"}`, "job", "0"},
		{`{__name__=~".+"}`, `{a!~"(x{100}){10}"}`, "__name__", "NaN"},
		{`{"with.dots","le.bel"!=""}`, `{a="\xff"}`, "le.bel", "1e300"},
		{`{job=~"(?i)[B-\\x{1e943}]"}`, `{job=~"\\pL+"}`, "U__le_2e_bel", "-Inf"},
		{`{}`, `{job=~".*"}`, "%ff", "1970-01-01T00:00:00Z"},
		{`up{job=~"((a*)*)*b"}`, `up{job=~"a{1000}"}`, "", "9223372036854775807"},
		{`{job=~""}`, `{job!~"(?:)|^$|\\b\\B"}`, "a/b", "-9223372036854775808"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, a, b, label, at string) {
		if strings.Contains(label, "/") || label == "." || label == ".." {
			label = "job"
		}
		for _, path := range []string{"/api/v1/series", "/api/v1/labels", "/api/v1/label/" + label + "/values", "/api/v1/targets/metadata", "/federate"} {
			for _, params := range []url.Values{
				{"match[]": {a}, "match_target": {a}, "start": {at}},
				{"match[]": {a, b}, "match_target": {b}, "end": {at}, "limit": {at}},
			} {
				s.try(t, http.MethodGet, path, params)
			}
		}
	})
}
