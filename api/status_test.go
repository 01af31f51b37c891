package api_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

func TestStatusOfTheProcess(t *testing.T) {
	s := newServer(t, noDBs)
	data := func(path string) map[string]any {
		t.Helper()
		w := s.do(t, "GET", "/api/v1/"+path, nil, tenant.Header, "")
		require.Equal(t, http.StatusOK, w.Code)
		return decode(t, w.Body.String()).Data.(map[string]any)
	}
	require.Equal(t, map[string]any{"yaml": "target: all\n"}, data("status/config"))
	require.Equal(t, map[string]any{"target": "all"}, data("status/flags"))
	require.Equal(t, map[string]any{"min": 0.0, "max": 3.0, "current": 2.0}, data("status/walreplay"))

	runtime := data("status/runtimeinfo")
	require.Equal(t, "15d", runtime["storageRetention"])
	require.Empty(t, runtime["CWD"])
	require.Positive(t, runtime["goroutineCount"])
	require.Positive(t, runtime["GOMAXPROCS"])
	started, err := time.Parse(time.RFC3339, runtime["startTime"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), started, time.Minute)

	features := data("features")
	require.Equal(t, true, features["promql_functions"].(map[string]any)["rate"])
	require.Equal(t, false, features["promql_functions"].(map[string]any)["info"], "experimental")
	require.Equal(t, true, features["api"].(map[string]any)["remote_write_receiver"])
	require.Equal(t, false, features["api"].(map[string]any)["admin"])
}

// TestOperatorsOnly asks for what is about all tenants as one of them.
func TestOperatorsOnly(t *testing.T) {
	paths := []string{"/metrics"}
	for _, page := range []string{"config", "flags", "runtimeinfo", "walreplay"} {
		paths = append(paths, "/api/v1/status/"+page, "/prometheus/api/v1/status/"+page)
	}
	header := newServer(t, noDBs)
	none := newServer(t, noDBs, func(s *server) { s.deps.Tenants = tenant.NewDirectory(tenant.ModeNone, tenant.DefaultSettings()) })
	for _, path := range paths {
		w := header.do(t, "GET", path, nil)
		require.Equal(t, http.StatusForbidden, w.Code, path)
		require.Contains(t, w.Body.String(), "weir-operators-only")
		require.Equal(t, http.StatusForbidden, header.do(t, "GET", path, nil, tenant.Header, "not/valid").Code)
		require.Equal(t, http.StatusOK, header.do(t, "GET", path, nil, tenant.Header, "").Code)
		require.Equal(t, http.StatusOK, none.do(t, "GET", path, nil).Code, "there are no others")
	}
	require.Equal(t, http.StatusOK, send(t, header.admin, "GET", "/metrics", nil).Code)
}

func TestStatusOfATenant(t *testing.T) {
	s := newServer(t)
	counts := func(tenantID string) []any {
		w := s.do(t, "GET", "/api/v1/status/tsdb", nil, tenant.Header, tenantID)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		head := decode(t, w.Body.String()).Data.(map[string]any)["headStats"].(map[string]any)
		return []any{head["numSeries"], head["chunkCount"]}
	}
	require.Equal(t, []any{6.0, 11.0}, counts(teamA))
	require.Equal(t, []any{0.0, 0.0}, counts("team-c"))

	require.NoError(t, s.source.dbs[teamA].Compact(t.Context()))
	for _, path := range []string{"status/tsdb", "status/tsdb/blocks"} {
		require.Equal(t, http.StatusUnauthorized, s.do(t, "GET", "/api/v1/"+path, nil, tenant.Header, "").Code)
		s.source.err = errors.New("disk on fire")
		require.Equal(t, http.StatusInternalServerError, s.do(t, "GET", "/api/v1/"+path, nil).Code)
		s.source.err = nil
	}
}

func TestStatusRelabel(t *testing.T) {
	s := newServer(t, noDBs)
	w := s.do(t, "GET", "/api/v1/status/relabel", nil, tenant.Header, teamA)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.JSONEq(t, `{"status": "success", "data": {"relabel": {"tenant": "team-a", "examples": true}}}`, w.Body.String())
	require.Equal(t, http.StatusUnauthorized, s.do(t, "GET", "/api/v1/status/relabel", nil, tenant.Header, "").Code)
}

func TestHead(t *testing.T) {
	srv := httptest.NewServer(newServer(t))
	defer srv.Close()
	for _, path := range []string{"/api/v1/query?query=up&time=300", "/federate", "/prometheus/api/v1/status/buildinfo"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, srv.URL+path, nil)
		require.NoError(t, err)
		r.Header.Set(tenant.Header, teamA)
		res, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.NoError(t, res.Body.Close())
	}
}

func TestCrossOrigin(t *testing.T) {
	const headers, methods, expose, allow = "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Expose-Headers", "Access-Control-Allow-Origin"
	nobody := newServer(t, noDBs)
	anybody := newServer(t, noDBs, func(s *server) { s.cfg.CORSOrigin = ".*" })
	some := newServer(t, noDBs, func(s *server) { s.cfg.CORSOrigin = `https?://(.*\.)?example\.com` })
	for _, tc := range []struct {
		name, origin, want string
		s                  *server
	}{
		{"none", "", "", anybody},
		{"any", "http://a.com", "*", anybody},
		{"allowed", "https://x.example.com", "https://x.example.com", some},
		{"not allowed", "https://example.com.evil.com", "", some},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, method := range []string{"GET", "OPTIONS"} {
				for _, path := range []string{"/api/v1/query?query=1", "/prometheus/api/v1/status/buildinfo", "/federate", "/api/v1/rules"} {
					w := tc.s.do(t, method, path, nil, "Origin", tc.origin)
					require.Equal(t, map[string]int{"GET": 200, "OPTIONS": 204}[method], w.Code)
					require.Equal(t, tc.want, w.Header().Get(allow))
					require.Contains(t, w.Header().Values("Vary"), "Origin")
					require.Equal(t, tc.origin != "", w.Header().Get(methods) == "GET, POST, OPTIONS")
					require.Equal(t, tc.origin != "", w.Header().Get(expose) == "Date")
					require.Equal(t, tc.origin != "", w.Header().Get(headers) != "")
				}
			}
		})
	}
	for _, method := range []string{"GET", "OPTIONS"} {
		w := nobody.do(t, method, "/api/v1/query?query=1", nil, "Origin", "http://a.com")
		require.Equal(t, map[string]int{"GET": 200, "OPTIONS": 204}[method], w.Code)
		for _, header := range []string{headers, methods, expose, allow} {
			require.NotContains(t, w.Header(), header, "by default")
		}
		require.NotContains(t, w.Header().Values("Vary"), "Origin")
	}
	w := anybody.do(t, "OPTIONS", "/api/v1/query", nil, "Origin", "http://a.com", tenant.Header, "")
	require.Equal(t, 204, w.Code, "browsers ask before they show who they are")
	require.Empty(t, anybody.do(t, "POST", "/api/v1/push", nil, "Origin", "http://a.com").Header().Get(allow), "scripts do not write")
}
