package integration

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestTenantsOfAProcess has two tenants write to a real process and ask it for
// everything, before and after a restart: each is told what it wrote, and nothing
// of the other. TestIsolation of package api asks every route, in every way to say
// who one is.
func TestTenantsOfAProcess(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=header", "self_metrics.enabled=false"}})
	now := time.Now()
	secrets := map[string]string{"north": "aurora", "south": "penguin"}
	for tenant, secret := range secrets {
		s.As(tenant).Accept(t, harness.V2, harness.Series{
			Labels:    []string{"__name__", secret, "shared", "1", secret, secret},
			Samples:   []harness.Sample{{T: now.UnixMilli(), V: 1}},
			Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", secret}, T: now.UnixMilli(), V: 1}},
			Metadata:  &harness.Metadata{Type: model.MetricTypeGauge, Help: secret},
		})
	}
	ask := func() {
		for tenant := range secrets {
			for path, answer := range everything(t, s, tenant, now) {
				for other, secret := range secrets {
					require.Equal(t, tenant == other, bytes.Contains(answer, []byte(secret)), "%s as %s: %s", path, tenant, answer)
				}
			}
		}
	}
	ask()
	for _, path := range []string{"/metrics", "/api/v1/status/config", "/api/v1/status/flags", "/api/v1/status/runtimeinfo", "/api/v1/status/walreplay"} {
		status, answer := fetch(t, s, "GET", path, nil, "north")
		require.Equal(t, http.StatusForbidden, status, "%s: %s", path, answer)
		status, _ = fetch(t, s, "GET", path, nil, "")
		require.Equal(t, http.StatusOK, status, "an operator asks past the proxy")
	}
	s.Stop()
	s.Again()
	ask()
}

// everything is what a tenant is told by each endpoint that tells of series.
func everything(t *testing.T, s *harness.Server, tenant string, now time.Time) map[string][]byte {
	t.Helper()
	values := url.Values{
		"query": {`{shared="1"}`}, "match[]": {`{shared="1"}`}, "step": {"60"},
		"start": {strconv.FormatInt(now.Add(-time.Hour).Unix(), 10)}, "end": {strconv.FormatInt(now.Add(time.Hour).Unix(), 10)},
	}.Encode()
	answers := map[string][]byte{}
	for _, path := range []string{
		"/api/v1/query", "/api/v1/query_range", "/api/v1/query_exemplars", "/api/v1/series", "/api/v1/labels", "/api/v1/label/__name__/values",
		"/api/v1/metadata", "/api/v1/targets/metadata", "/api/v1/status/tsdb", "/federate", "/prometheus/api/v1/series", "/prometheus/federate",
	} {
		status, answer := fetch(t, s, "GET", path+"?"+values, nil, tenant)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, answer)
		answers[path] = answer
	}
	for _, typ := range []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
		req := prompb.ReadRequest{AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{typ}, Queries: []*prompb.Query{{
			StartTimestampMs: 0, EndTimestampMs: now.Add(time.Hour).UnixMilli(), Matchers: []*prompb.LabelMatcher{{Name: "shared", Value: "1"}},
		}}}
		b, err := req.Marshal()
		require.NoError(t, err)
		status, answer := fetch(t, s, "POST", "/api/v1/read", s2.EncodeSnappy(nil, b), tenant)
		require.Equal(t, http.StatusOK, status, "%s", answer)
		if typ == prompb.ReadRequest_SAMPLES {
			answer, err = s2.Decode(nil, answer)
			require.NoError(t, err)
		}
		answers["/api/v1/read by "+typ.String()] = answer
	}
	return answers
}

// fetch asks for a path as a tenant, or as nobody.
func fetch(t *testing.T, s *harness.Server, method, path string, body []byte, tenant string) (status int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Process().URL+path, bytes.NewReader(body))
	require.NoError(t, err)
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	answer, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, answer
}
