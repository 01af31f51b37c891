package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/tenant"
)

// TestBoundsOfData lowers the limits that only the data can reach, one at a time.
func TestBoundsOfData(t *testing.T) {
	all := url.QueryEscape(`{__name__=~".+"}`)
	for _, tc := range []struct {
		name, read, id string
		lower, raise   func(*api.Config)
	}{
		{"series", "query?time=300&query=" + all, "weir-query-too-many-series",
			func(c *api.Config) { c.MaxSeries = 5 }, func(c *api.Config) { c.MaxSeries = 6 }},
		{"series of two selectors", "query?time=300&query=up%2Bup", "weir-query-too-many-series",
			func(c *api.Config) { c.MaxSeries = 3 }, func(c *api.Config) { c.MaxSeries = 4 }},
		{"chunks", "query?time=600&query=count_over_time(requests[10m])", "weir-query-too-many-chunk-bytes",
			func(c *api.Config) { c.MaxChunkBytes = 10 }, func(c *api.Config) { c.MaxChunkBytes = 100_000 }},
		{"samples", "query?time=600&query=up[10m]", "weir-query-too-many-samples",
			func(c *api.Config) { c.MaxSamples = 117 }, func(c *api.Config) { c.MaxSamples = 118 }},
		{"a matrix", "query_range?start=0&end=600&step=10&query=up", "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 2900 }, func(c *api.Config) { c.MaxResponseBytes = 3200 }},
		{"a vector", "query?time=300&query=" + all, "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 800 }, func(c *api.Config) { c.MaxResponseBytes = 2000 }},
		{"a string", `query?query="` + strings.Repeat("x", 1000) + `"`, "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 999 }, func(c *api.Config) { c.MaxResponseBytes = 1000 }},
		{"series listed", "series?match[]=" + all, "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 250 }, func(c *api.Config) { c.MaxResponseBytes = 500 }},
		{"names", "labels", "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 30 }, func(c *api.Config) { c.MaxResponseBytes = 100 }},
		{"metadata", "metadata", "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 100 }, func(c *api.Config) { c.MaxResponseBytes = 500 }},
		{"metadata of targets", "targets/metadata", "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 200 }, func(c *api.Config) { c.MaxResponseBytes = 500 }},
		{"exemplars", "query_exemplars?query=" + url.QueryEscape(`{"with.dots"}`), "weir-query-response-too-large",
			func(c *api.Config) { c.MaxResponseBytes = 150 }, func(c *api.Config) { c.MaxResponseBytes = 500 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within := newServer(t, func(s *server) { tc.raise(&s.cfg) })
			require.Equal(t, http.StatusOK, within.do(t, "GET", "/api/v1/"+tc.read, nil).Code)

			s := newServer(t, func(s *server) { tc.lower(&s.cfg) })
			w := s.do(t, "GET", "/api/v1/"+tc.read, nil)
			require.Equal(t, http.StatusUnprocessableEntity, w.Code, w.Body)
			e := decode(t, w.Body.String())
			require.Equal(t, "execution", e.ErrorType)
			require.Regexp(t, "^"+tc.id+": ", e.Error)
			require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
			require.Contains(t, s.metrics(t), `weir_api_refused_reads_total{reason="`+tc.id+`"} 1`)
		})
	}
}

// TestSizeIsEstimated compares estimates with what they estimate.
func TestSizeIsEstimated(t *testing.T) {
	all := url.QueryEscape(`{__name__=~".+"}`)
	for _, read := range []string{
		"query_range?start=0&end=600&step=1&query=" + all, "query?time=300&query=" + all, "series?match[]=" + all, "labels", "label/__name__/values",
		"query_exemplars?query=" + all, "metadata",
	} {
		length := newServer(t).do(t, "GET", "/api/v1/"+read, nil).Body.Len()
		for factor, status := range map[float64]int{0.4: 422, 2.5: 200} {
			s := newServer(t, func(s *server) { s.cfg.MaxResponseBytes = int64(factor * float64(length)) })
			require.Equal(t, status, s.do(t, "GET", "/api/v1/"+read, nil).Code, "%s: %v of %d", read, factor, length)
		}
	}
}

// TestListsAreCut is about max_results, which the request's limit can lower.
func TestListsAreCut(t *testing.T) {
	s := newServer(t, func(s *server) { s.cfg.MaxResults = 3 })
	for _, list := range []string{"series?match[]=" + url.QueryEscape(`{__name__=~".+"}`), "labels?", "label/__name__/values?"} {
		for limit, want := range map[string]int{"": 3, "limit=2": 2, "limit=3": 3, "limit=4": 3, "limit=0": 3} {
			w := s.do(t, "GET", "/api/v1/"+list+"&"+limit, nil)
			e := decode(t, w.Body.String())
			require.Len(t, e.Data, want, "%s %s", list, limit)
			require.Len(t, e.Warnings, 1)
			require.Contains(t, e.Warnings[0], "results truncated due to limit")
			require.Equal(t, want == 3 && limit != "limit=3", strings.Contains(e.Warnings[0], "query.max_results"), limit)
		}
	}
	w := s.do(t, "GET", "/api/v1/label/job/values", nil)
	require.Empty(t, decode(t, w.Body.String()).Warnings, "there are only two")
}

// TestLongForms is about parameters in bodies.
func TestLongForms(t *testing.T) {
	s := newServer(t, noDBs, func(s *server) { s.cfg.MaxQueryBytes = 1000 })
	w := s.do(t, "POST", "/api/v1/query", url.Values{"query": {"1"}, "more": {strings.Repeat("x", 20_000)}})
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, decode(t, w.Body.String()).Error, "weir-query-too-long: ")
	require.Equal(t, http.StatusOK, s.do(t, "POST", "/api/v1/query", url.Values{"query": {"1"}, "more": {strings.Repeat("\x01", 3000)}}).Code)

	multipart := func(value string) *httptest.ResponseRecorder {
		body := "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n" + value + "\r\n--b--\r\n"
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/query", strings.NewReader(body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		r.Header.Set(tenant.Header, teamA)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, http.StatusOK, multipart("1").Code)
	require.Contains(t, decode(t, multipart(strings.Repeat(" ", 20_000)).Body.String()).Error, "weir-query-too-long: ")
	require.Equal(t, http.StatusBadRequest, s.do(t, "GET", "/api/v1/query?query=%zz", nil).Code)
}

// TestQueryEndsWithItsClient has clients that go away while their query runs.
func TestQueryEndsWithItsClient(t *testing.T) {
	selecting, ended := make(chan struct{}), make(chan error)
	s := newServer(t, func(s *server) {
		s.source.beforeSelect = func(ctx context.Context) error {
			selecting <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
	})
	srv := httptest.NewServer(s)
	defer srv.Close()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, read := range []string{"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=0&end=1&step=1", "/api/v1/series?match[]=up", "/federate?match[]=up"} {
			if method == http.MethodPost && strings.HasPrefix(read, "/federate") {
				continue
			}
			ctx, leave := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, method, srv.URL+read, strings.NewReader("a=b"))
			require.NoError(t, err)
			r.Header.Set(tenant.Header, teamA)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			left := make(chan error)
			go func() {
				res, err := http.DefaultClient.Do(r)
				if err == nil {
					err = res.Body.Close()
				}
				left <- err
			}()
			select {
			case <-selecting:
			case err := <-left:
				t.Fatalf("%s %s: %v", method, read, err)
			}
			leave()
			require.ErrorIs(t, <-left, context.Canceled)
			select {
			case err := <-ended:
				require.ErrorIs(t, err, context.Canceled)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s %s goes on without its client", method, read)
			}
		}
	}
}
