package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

func TestRoutes(t *testing.T) {
	s := newServer(t, noDBs, func(s *server) {
		s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Writer", r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
		})
	})
	const writer, read, readGet = "GET, POST", "GET, HEAD, POST, OPTIONS", "GET, HEAD, OPTIONS"
	for _, tc := range []struct {
		method, path string
		admin        bool
		status       int
		allow        string // of 405
	}{
		{method: "POST", path: "/api/v1/push", status: 202},
		{method: "POST", path: "/api/v1/write", status: 202},
		{method: "POST", path: "/api/v1/receive", status: 202},
		{method: "POST", path: "/api/v1/remote_write", status: 202},
		{method: "GET", path: "/api/v1/push", status: 202},
		{method: "PUT", path: "/api/v1/write", status: 405, allow: writer},
		{method: "HEAD", path: "/api/v1/receive", status: 405, allow: writer},
		{method: "BREW", path: "/api/v1/push", status: 405, allow: writer},
		{method: "OPTIONS", path: "/api/v1/push", status: 405, allow: writer},
		{method: "POST", path: "/otlp/v1/metrics", status: 200},
		{method: "POST", path: "/api/v1/otlp/v1/metrics", status: 200},
		{method: "GET", path: "/otlp/v1/metrics", status: 405, allow: "POST"},
		{method: "POST", path: "/otlp/v1/traces", status: 404},
		{method: "POST", path: "/prometheus/api/v1/push", status: 404},
		{method: "POST", path: "/api/v1/push/", status: 404},
		{method: "GET", path: "/api/v1/query?query=1", status: 200},
		{method: "POST", path: "/prometheus/api/v1/query?query=1", status: 200},
		{method: "DELETE", path: "/api/v1/query", status: 405, allow: read},
		{method: "DELETE", path: "/prometheus/api/v1/series", status: 405, allow: read},
		{method: "POST", path: "/api/v1/label/job/values", status: 405, allow: readGet},
		{method: "POST", path: "/api/v1/metadata", status: 405, allow: readGet},
		{method: "OPTIONS", path: "/api/v1/query", status: 204},
		{method: "OPTIONS", path: "/prometheus/api/v1/status/flags", status: 204},
		{method: "OPTIONS", path: "/prometheus/federate", status: 204},
		{method: "OPTIONS", path: "/api/v1/nothing", status: 404},
		{method: "HEAD", path: "/api/v1/query?query=1", status: 200},
		{method: "HEAD", path: "/federate", status: 200},
		{method: "POST", path: "/federate", status: 405, allow: readGet},
		{method: "GET", path: "/api/v1/label/job", status: 404},
		{method: "GET", path: "/api/v1/nothing", status: 404},
		{method: "BREW", path: "/nothing", status: 404},
		{method: "GET", path: "/prometheus/api/v1/status/buildinfo", status: 200},
		{method: "GET", path: "/", status: 200},
		{method: "HEAD", path: "/", status: 200},
		{method: "POST", path: "/", status: 405, allow: "GET, HEAD"},
		{method: "GET", path: "/metrics", status: 403},
		{method: "GET", path: "/api/v1/status/flags", status: 403},
		{method: "GET", path: "/ready", status: 200},
		{method: "HEAD", path: "/-/ready", status: 200},
		{method: "GET", path: "/-/healthy", status: 200},
		{method: "POST", path: "/ingester/flush", status: 204},
		{method: "GET", path: "/ingester/flush", status: 405, allow: "POST"},
		{method: "GET", path: "/debug/pprof/", status: 404},
		{method: "GET", path: "/debug/pprof/", admin: true, status: 200},
		{method: "GET", path: "/debug/pprof/goroutine", admin: true, status: 200},
		{method: "GET", path: "/debug/pprof/cmdline", admin: true, status: 200},
		{method: "GET", path: "/debug/pprof/nothing", admin: true, status: 404},
		{method: "GET", path: "/metrics", admin: true, status: 200},
		{method: "GET", path: "/ready", admin: true, status: 200},
		{method: "GET", path: "/-/healthy", admin: true, status: 200},
		{method: "GET", path: "/", admin: true, status: 200},
		{method: "POST", path: "/ingester/flush", admin: true, status: 204},
		{method: "GET", path: "/ingester/flush", admin: true, status: 405, allow: "POST"},
		{method: "GET", path: "/ingester/tenants", status: 404},
		{method: "GET", path: "/ingester/tenants", admin: true, status: 200},
		{method: "POST", path: "/api/v1/push", admin: true, status: 404},
		{method: "GET", path: "/api/v1/user_limits", status: 200},
		{method: "GET", path: "/prometheus/api/v1/user_limits", status: 200},
		{method: "POST", path: "/api/v1/user_limits", status: 405, allow: readGet},
		{method: "GET", path: "/admin/tenants/a/limits", status: 404},
		{method: "GET", path: "/admin/tenants/a/limits", admin: true, status: 200},
		{method: "GET", path: "/admin/tenants/a%20b/limits", admin: true, status: 400},
	} {
		name := tc.method + " " + tc.path
		handler := s.Handler
		if tc.admin {
			name, handler = "admin "+name, s.admin
		}
		t.Run(name, func(t *testing.T) {
			w := send(t, handler, tc.method, tc.path, nil)
			require.Equal(t, tc.status, w.Code, w.Body)
			require.Equal(t, tc.allow, strings.Join(w.Header().Values("Allow"), ", "))
			if tc.status == http.StatusAccepted {
				require.Equal(t, tc.path, w.Header().Get("Writer"))
			}
		})
	}
}

func TestIndex(t *testing.T) {
	s := newServer(t, noDBs)
	w := s.do(t, "GET", "/", nil)
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	for _, line := range []string{"/api/v1/push", "GET, POST", "/prometheus/api/v1/query_range", "/ready"} {
		require.Contains(t, w.Body.String(), line)
	}
	require.NotContains(t, w.Body.String(), "pprof")
	require.Contains(t, send(t, s.admin, "GET", "/", nil).Body.String(), "/debug/pprof/")
}

func TestReady(t *testing.T) {
	reason := errors.New("replaying the write-ahead log")
	s := newServer(t, noDBs, func(s *server) { s.deps.Ready = func() error { return reason } })
	for _, path := range []string{"/ready", "/-/ready"} {
		w := s.do(t, "GET", path, nil)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Contains(t, w.Body.String(), reason.Error())
	}
	require.Equal(t, http.StatusOK, s.do(t, "GET", "/-/healthy", nil).Code)
	require.Equal(t, http.StatusNoContent, s.do(t, "POST", "/api/v1/push", nil).Code, "the writer knows for itself")

	w := s.do(t, "GET", "/api/v1/query?query=1", nil)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, envelope{Status: "error", ErrorType: "unavailable", Error: reason.Error()}, decode(t, w.Body.String()))
	require.Equal(t, http.StatusOK, s.do(t, "GET", "/api/v1/status/buildinfo", nil).Code)

	reason = nil
	require.Equal(t, "ready\n", s.do(t, "GET", "/ready", nil).Body.String())
	require.Equal(t, http.StatusOK, s.do(t, "GET", "/api/v1/query?query=1", nil).Code)
}

func TestFlush(t *testing.T) {
	var failure error
	s := newServer(t, noDBs, func(s *server) {
		ok := s.deps.Flush
		s.deps.Flush = func(ctx context.Context, tenantID string) error {
			if failure != nil {
				return failure
			}
			return ok(ctx, tenantID)
		}
	})
	require.Equal(t, 204, s.do(t, "POST", "/ingester/flush", nil).Code)
	require.Equal(t, 204, s.do(t, "POST", "/ingester/flush?tenant="+teamB, nil).Code, "one flushes oneself only")
	require.Equal(t, 401, s.do(t, "POST", "/ingester/flush", nil, tenant.Header, "").Code)
	require.Equal(t, 204, send(t, s.admin, "POST", "/ingester/flush", nil).Code)
	require.Equal(t, 204, send(t, s.admin, "POST", "/ingester/flush?tenant="+teamB, nil).Code)
	require.Equal(t, 204, send(t, s.admin, "POST", "/ingester/flush", url.Values{"tenant": {teamB}}).Code)
	require.Equal(t, 400, send(t, s.admin, "POST", "/ingester/flush?tenant=../x", nil).Code)
	require.Equal(t, []string{teamA, teamA, "", teamB, teamB}, s.flushed)

	failure = errors.New("disk full")
	w := s.do(t, "POST", "/ingester/flush", nil)
	require.Equal(t, 500, w.Code)
	require.Equal(t, envelope{Status: "error", ErrorType: "internal", Error: "disk full"}, decode(t, w.Body.String()))
	require.Contains(t, s.logs.String(), "disk full")
	failure = proto.Errorf(proto.KindNotFound, "weir-tenant-unknown", "no such tenant")
	require.Equal(t, 404, s.do(t, "POST", "/ingester/flush", nil).Code)
}

func TestLimits(t *testing.T) {
	s := newServer(t, noDBs)
	limits := func(handler http.Handler, path string, headers ...string) (e struct {
		tenant.Effective
		Exemplars int `json:"max_global_exemplars_per_user"`
		Series    int `json:"max_global_series_per_user"`
		Usage     any
	}) {
		w := send(t, handler, "GET", path, nil, headers...)
		require.Equal(t, 200, w.Code, w.Body)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
		require.Equal(t, "of "+e.Tenant, e.Usage)
		require.Equal(t, []int{100_000, 0}, []int{e.Exemplars, e.Series}, "as Mimir names them")
		require.Equal(t, "default", e.Origins["limits.max_exemplars"])
		require.EqualValues(t, 100_000, e.Settings["limits"].(map[string]any)["max_exemplars"])
		return e
	}
	require.Equal(t, teamA, limits(s.Handler, "/api/v1/user_limits", tenant.Header, teamA).Tenant)
	require.Equal(t, teamA, limits(s.Handler, "/api/v1/user_limits?tenant="+teamB, tenant.Header, teamA).Tenant, "one's own only")
	require.Equal(t, teamB, limits(s.admin, "/admin/tenants/"+teamB+"/limits").Tenant)
	require.Equal(t, 401, s.do(t, "GET", "/api/v1/user_limits", nil, tenant.Header, "").Code)
}

func TestBuildInfo(t *testing.T) {
	s := newServer(t, noDBs)
	for _, prefix := range []string{"", "/prometheus"} {
		w := s.do(t, "GET", prefix+"/api/v1/status/buildinfo", nil, tenant.Header, "")
		require.Equal(t, 200, w.Code, "no secret")
		require.JSONEq(t, `{"status":"success","data":{"application":"weir","version":"1.2.3","revision":"abc","branch":"",
			"buildUser":"","buildDate":"","goVersion":"go1.26","features":{"ruler_config_api":"false",
			"alertmanager_config_api":"false","query_sharding":"false","federated_rules":"false"}}}`, w.Body.String())
	}
}
