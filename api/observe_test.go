package api_test

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

func TestRequestID(t *testing.T) {
	var seen string
	s := newServer(t, noDBs, func(s *server) {
		s.deps.Writer = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = tracing.ID(r.Context()) })
	})
	ours := regexp.MustCompile(`^[0-9a-f]{32}$`)
	for _, tc := range []struct {
		name, sent string
		kept       bool
	}{
		{"none", "", false},
		{"uuid", "6e3e1f2a-8f57-4f0b-9d0c-0a4b7b6d7c11", true},
		{"as AWS makes them", "Root=1-67891233-abcdef012345678912345678", true},
		{"longest", strings.Repeat("x", 128), true},
		{"too long", strings.Repeat("x", 129), false},
		{"blank", "a b", false},
		{"would forge a log line", "a\" level=ERROR msg=\"b", false},
		{"not ASCII", "é", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := s.do(t, "POST", "/api/v1/push", nil, "X-Request-Id", tc.sent)
			got := w.Header().Get("X-Request-Id")
			require.Equal(t, seen, got)
			if tc.kept {
				require.Equal(t, tc.sent, got)
			} else {
				require.Regexp(t, ours, got)
			}
		})
	}
	first := s.do(t, "GET", "/ready", nil).Header().Get("X-Request-Id")
	require.NotEqual(t, first, s.do(t, "GET", "/ready", nil).Header().Get("X-Request-Id"))
	require.NotEmpty(t, s.do(t, "GET", "/no/such/thing", nil).Header().Get("X-Request-Id"))
}

// TestRequestIDInErrors: a 5xx says what to look for in the log; other bodies are
// those of Prometheus.
func TestRequestIDInErrors(t *testing.T) {
	s := newServer(t, noDBs, func(s *server) {
		s.source.err = errors.New("disk on fire")
		s.deps.Writer = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") })
	})
	for _, tc := range []struct {
		name   string
		method string
		target string
		status int
	}{
		{"internal", "GET", "/api/v1/query?query=up", 500},
		{"panic", "POST", "/api/v1/push", 500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := s.do(t, tc.method, tc.target, nil, "X-Request-Id", "abc")
			require.Equal(t, tc.status, w.Code)
			require.Contains(t, w.Body.String(), `"requestId":"abc"`)
			require.Equal(t, "abc", w.Header().Get("X-Request-Id"))
		})
	}
	w := s.do(t, "GET", "/api/v1/query?query=", nil, "X-Request-Id", "abc")
	require.Equal(t, 400, w.Code)
	require.NotContains(t, w.Body.String(), "abc")
}

func TestTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	s := newServer(t, func(s *server) { s.deps.Tracer = provider.Tracer(tracing.Scope) })
	s.do(t, "GET", "/api/v1/query?query=up", nil)
	require.Empty(t, spans.Ended(), "sampled although nobody wants it")

	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s.do(t, "GET", "/api/v1/query?query=up&time=0", nil, "traceparent", parent, "X-Request-Id", "abc")
	byName := map[string]sdktrace.ReadOnlySpan{}
	for _, span := range spans.Ended() {
		byName[span.Name()] = span
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.SpanContext().TraceID().String())
	}
	root := byName["GET /api/v1/query"]
	require.NotNil(t, root, "%v", byName)
	require.Equal(t, "b7ad6b7169203331", root.Parent().SpanID().String())
	attributes := map[string]string{}
	for _, a := range root.Attributes() {
		attributes[string(a.Key)] = a.Value.String()
	}
	require.Equal(t, teamA, attributes["weir.tenant"])
	require.Equal(t, "abc", attributes["weir.request_id"])
	require.Equal(t, "200", attributes["http.response.status_code"])
	require.Equal(t, "/api/v1/query", attributes["http.route"])
	require.Equal(t, root.SpanContext().SpanID(), byName["parse"].Parent().SpanID())

	// The duration has the trace as an exemplar.
	families, err := s.reg.Gather()
	require.NoError(t, err)
	found := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, e := range m.GetHistogram().GetExemplars() {
				require.Equal(t, "0af7651916cd43dd8448eb211c80319c", e.GetLabel()[0].GetValue())
				found++
			}
		}
	}
	require.Equal(t, 1, found)
}

func TestHealthInJSON(t *testing.T) {
	var notReady error
	s := newServer(t, noDBs, func(s *server) {
		s.deps.Ready = func() error { return notReady }
		s.deps.Subsystems = func() []api.Subsystem {
			return []api.Subsystem{
				{Name: "ingester", State: api.StateStarting, Reason: "replaying", ETA: 90*time.Second + time.Millisecond},
				{Name: "memory", State: api.StateOK},
			}
		}
	})
	const subsystems = `"subsystems":[{"name":"ingester","state":"starting","reason":"replaying","etaSeconds":90},{"name":"memory","state":"ok"}]`
	notReady = proto.Errorf(proto.KindUnavailable, "weir-starting", "replaying")
	for _, tc := range []struct {
		path, accept string
		status       int
		body         string
	}{
		{"/ready?format=json", "", 503, `{"status":"not ready","reason":"weir-starting: replaying",` + subsystems + `}`},
		{"/-/ready", "application/json", 503, `{"status":"not ready","reason":"weir-starting: replaying",` + subsystems + `}`},
		{"/livez?format=json", "", 200, `{"status":"healthy"}`},
		{"/-/healthy", "application/json", 200, `{"status":"healthy"}`},
	} {
		for _, h := range []http.Handler{s.Handler, s.admin} {
			w := send(t, h, "GET", tc.path, nil, "Accept", tc.accept)
			require.Equal(t, tc.status, w.Code, tc.path)
			require.JSONEq(t, tc.body, w.Body.String())
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		}
	}
	w := s.do(t, "GET", "/ready", nil, "Accept", "*/*")
	require.Equal(t, "weir-starting: replaying\n", w.Body.String())
	require.Equal(t, "healthy\n", s.do(t, "GET", "/livez", nil).Body.String())
	notReady = nil
	require.JSONEq(t, `{"status":"ready",`+subsystems+`}`, s.do(t, "GET", "/ready?format=json", nil).Body.String())
}

func TestLogLevel(t *testing.T) {
	level := new(slog.LevelVar)
	s := newServer(t, noDBs, func(s *server) { s.deps.LogLevel = level })
	require.Equal(t, "info\n", send(t, s.admin, "GET", "/admin/log-level", nil).Body.String())
	require.Equal(t, "debug\n", send(t, s.admin, "POST", "/admin/log-level?level=debug", nil).Body.String())
	require.Equal(t, slog.LevelDebug, level.Level())
	require.Equal(t, "error\n", send(t, s.admin, "POST", "/admin/log-level", url.Values{"level": {"ERROR"}}).Body.String())
	w := send(t, s.admin, "POST", "/admin/log-level?level=loud", nil)
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), "must be debug, info, warn or error")
	require.Equal(t, slog.LevelError, level.Level())
	require.Equal(t, http.StatusNotFound, s.do(t, "GET", "/admin/log-level", nil).Code, "not for everybody")
}

// TestReadsAreBounded: a tenant with too many reads is refused, and another is
// served.
func TestReadsAreBounded(t *testing.T) {
	s := newServer(t, func(s *server) {
		cfg := overload.DefaultConfig()
		cfg.MaxConcurrentReads = 4
		s.deps.Budget = overload.New(cfg, s.deps.Logger, s.reg).Reads
		s.deps.Usage = tenant.NewUsage(maps.All(map[string]int{teamA: 1}), s.reg)
		s.deps.Usage.Of(teamA)
	})
	const query = "/api/v1/query?query=up&time=0"
	var holds []overload.Hold
	for range 2 {
		h, err := s.deps.Budget.Enter(teamA)
		require.NoError(t, err)
		holds = append(holds, h)
	}
	for _, path := range []string{query, "/api/v1/labels", "/api/v1/metadata"} {
		w := s.do(t, "GET", path, nil)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Regexp(t, `^[1-5]$`, w.Header().Get("Retry-After"))
		got := decode(t, w.Body.String())
		require.Equal(t, "unavailable", got.ErrorType)
		require.Contains(t, got.Error, "weir-overloaded: the server works on 2 requests of this tenant")
	}
	require.Equal(t, http.StatusOK, s.do(t, "GET", query, nil, tenant.Header, teamB).Code)
	for _, h := range holds {
		h.Leave()
	}
	require.Equal(t, http.StatusOK, s.do(t, "GET", query, nil).Code)
	require.NoError(t, testutil.GatherAndCompare(s.reg, strings.NewReader(`
# HELP weir_tenant_refused_requests_total Requests refused because of overload, by tenant.
# TYPE weir_tenant_refused_requests_total counter
weir_tenant_refused_requests_total{tenant="__rest"} 0
weir_tenant_refused_requests_total{tenant="team-a"} 3
# HELP weir_overload_inflight_requests Requests that are worked on or wait for it, by path (write, read).
# TYPE weir_overload_inflight_requests gauge
weir_overload_inflight_requests{path="read"} 0
weir_overload_inflight_requests{path="write"} 0
`), "weir_tenant_refused_requests_total", "weir_overload_inflight_requests"))
}
