package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

// spanStore is an OTLP collector that keeps what it gets.
type spanStore struct {
	mu       sync.Mutex
	spans    []*otlp.Span // guarded by mu
	services []string     // guarded by mu
}

func (s *spanStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &req) != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				s.services = append(s.services, a.Value.GetStringValue())
			}
		}
		for _, ss := range rs.ScopeSpans {
			s.spans = append(s.spans, ss.Spans...)
		}
	}
}

// oneTrace is the spans of a trace by their names.
type oneTrace map[string]*otlp.Span

func (s *spanStore) traceOf(t *testing.T, root string) oneTrace {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var id []byte
	for _, span := range s.spans {
		if span.Name == root {
			id = span.TraceId
		}
	}
	require.NotNil(t, id, "no span %s", root)
	found := oneTrace{}
	for _, span := range s.spans {
		if bytes.Equal(span.TraceId, id) {
			found[span.Name] = span
		}
	}
	return found
}

// requireBelow requires the span name, somewhere below parent.
func (tr oneTrace) requireBelow(t *testing.T, parent, name string) {
	t.Helper()
	byID := map[string]*otlp.Span{}
	for _, span := range tr {
		byID[string(span.SpanId)] = span
	}
	require.Contains(t, tr, name)
	for span := tr[name]; span != nil; span = byID[string(span.ParentSpanId)] {
		if span.Name == parent {
			return
		}
	}
	t.Fatalf("%s is not below %s", name, parent)
}

func attributeOf(span *otlp.Span, key string) string {
	for _, a := range span.Attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// push writes one sample and returns the id of the request.
func (p *process) push(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(p.url)
	require.NoError(t, err)
	message, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "pushed"}},
		Samples: []prompb.Sample{{Value: 1, Timestamp: time.Now().UnixMilli()}},
	}}}).Marshal()
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+u.Host+"/api/v1/push", bytes.NewReader(s2.EncodeSnappy(nil, message)))
	require.NoError(t, err)
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	return resp.Header.Get("X-Request-Id")
}

// TestSpansReachACollector pushes and queries, and looks at what an OTLP
// collector got of it.
func TestSpansReachACollector(t *testing.T) {
	defer goleak.VerifyNone(t)
	store := &spanStore{}
	backend := httptest.NewServer(store)
	defer backend.Close()
	p := start(t, t.TempDir(), "-set=tracing.endpoint="+backend.URL, "-set=tracing.sample_ratio=1")
	id := p.push(t)
	p.query(t, "")
	p.wait(t) // a stop sends what is left

	require.Contains(t, store.services, "weir")
	const push, query = "POST /api/v1/push", "GET /prometheus/api/v1/query"
	write := store.traceOf(t, push)
	write.requireBelow(t, push, "receive")
	write.requireBelow(t, push, "replicate")
	write.requireBelow(t, "replicate", "ingester write")
	write.requireBelow(t, "ingester write", "wal commit")
	require.Equal(t, id, attributeOf(write[push], "weir.request_id"))
	require.Equal(t, "anonymous", attributeOf(write[push], "weir.tenant"))
	read := store.traceOf(t, query)
	read.requireBelow(t, query, "parse")
	read.requireBelow(t, query, "promqlExec")
	read.requireBelow(t, "promqlExec", "querierSelect")
	require.Equal(t, "anonymous", attributeOf(read[query], "weir.tenant"))
}

// TestCollectorAway: a collector that does not answer neither hinders requests
// nor the stop.
func TestCollectorAway(t *testing.T) {
	defer goleak.VerifyNone(t)
	backend := httptest.NewServer(http.NotFoundHandler())
	backend.Close()
	p := start(t, t.TempDir(), "-set=tracing.endpoint="+backend.URL, "-set=tracing.sample_ratio=1")
	p.push(t)
	p.wait(t)
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	for _, tc := range []struct {
		name     string
		endpoint string
		env      map[string]string
		want     bool
	}{
		{"nothing", "", nil, false},
		{"configured", "http://c:4318", nil, true},
		{"by the environment", "", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, true},
		{"by the environment, for traces", "", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x"}, true},
		{"disabled", "http://c:4318", map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
		{"no exporter", "http://c:4318", map[string]string{"OTEL_TRACES_EXPORTER": "none"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := TracingConfig{Endpoint: tc.endpoint}
			require.Equal(t, tc.want, cfg.enabled(env(tc.env)))
		})
	}
}
