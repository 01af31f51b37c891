package receiver_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// bounded gives a receiver a budget.
func bounded(requests, bytes int) func(*setup) {
	return func(s *setup) {
		cfg := overload.DefaultConfig()
		cfg.MaxConcurrentWrites, cfg.MaxInflightBytes = requests, bytes
		s.mode = tenant.ModeHeader
		s.budget = overload.New(cfg, slog.New(slog.DiscardHandler), s.reg).Writes
	}
}

// stuck is an ingester that keeps every request until it is closed.
type stuck struct{ entered, release chan struct{} }

func (i stuck) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	i.entered <- struct{}{}
	<-i.release
	reply.Written.Samples = len(f.Floats)
	return nil
}

func (s *setup) inflight(t *testing.T, what string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "weir_overload_inflight_"+what {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == "write" {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatal("no such metric")
	return 0
}

// TestOverload: a tenant that holds its share is refused, with an answer that
// makes senders wait, another is served, and in the end nothing is held.
func TestOverload(t *testing.T) {
	for _, v := range versions {
		t.Run("version="+v.String(), func(t *testing.T) {
			ing := stuck{make(chan struct{}), make(chan struct{})}
			s := newSetup(t, bounded(8, 1<<20), func(s *setup) { s.ing = ing })
			of := func(tenantID string) *http.Request {
				hr := newRequest(v, marshal(v, series{labels: pairs("__name__", "up"), floats: []proto.Float{{T: time.Now().UnixMilli()}}}))
				hr.Header.Set(tenant.Header, tenantID)
				return hr
			}
			answers := make(chan int, 8)
			send := func(tenantID string) {
				go func() { answers <- s.serve(of(tenantID)).Code }()
				<-ing.entered
			}
			for range 4 {
				send("flood")
			}
			require.Equal(t, 4.0, s.inflight(t, "requests"))
			require.Positive(t, s.inflight(t, "bytes"))
			hr := of("flood")
			hr = hr.WithContext(tracing.WithID(hr.Context(), "abc"))
			w := s.serve(hr)
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Regexp(t, `^weir-overloaded: .* \(request id abc\)\n$`, w.Body.String())
			require.Regexp(t, `^[1-5]$`, w.Header().Get("Retry-After"))
			send("polite")
			close(ing.release)
			for range 5 {
				require.Equal(t, http.StatusNoContent, <-answers)
			}
			require.Zero(t, s.inflight(t, "requests"))
			require.Zero(t, s.inflight(t, "bytes"))
			require.Equal(t, 1, s.counters(t, "weir_receiver_requests_total")[v.String()+" weir-overloaded"])
			require.NoError(t, testutil.GatherAndCompare(s.reg, strings.NewReader(`
# HELP weir_overload_refused_requests_total Requests answered 503 because the process is overloaded, by path (write, read) and by what was short (requests, bytes, memory).
# TYPE weir_overload_refused_requests_total counter
weir_overload_refused_requests_total{path="read",reason="bytes"} 0
weir_overload_refused_requests_total{path="read",reason="memory"} 0
weir_overload_refused_requests_total{path="read",reason="requests"} 0
weir_overload_refused_requests_total{path="write",reason="bytes"} 0
weir_overload_refused_requests_total{path="write",reason="memory"} 0
weir_overload_refused_requests_total{path="write",reason="requests"} 1
`), "weir_overload_refused_requests_total"))
		})
	}
}

// endless is a body that never ends.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

// TestLargeForBudget: sizes count before memory is taken for them, whether they
// are announced or not.
func TestLargeForBudget(t *testing.T) {
	const budget = 4 << 20
	for _, tc := range []struct {
		name   string
		length int64
		body   io.Reader
		agent  string
		status int
	}{
		{"announced", 3 << 20, &endless{}, "", 413},
		{"not announced", -1, &endless{}, "", 413},
		{"by its snappy header", -1, strings.NewReader("\xff\xff\x3f" + strings.Repeat("x", 100_000)), "", 413},
		{"vmagent repeats a 413", 3 << 20, &endless{}, "vmagent", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSetup(t, bounded(8, budget))
			hr := newRequest(proto.V1, nil)
			hr.Header.Set(tenant.Header, "a")
			hr.Header.Set("User-Agent", tc.agent)
			hr.Body, hr.ContentLength = io.NopCloser(tc.body), tc.length
			w := s.serve(hr)
			require.Equal(t, tc.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), "weir-request-too-large: the request needs at least")
			require.Contains(t, w.Body.String(), "the limit is 2097152, half of overload.max_inflight_bytes")
			require.Zero(t, s.inflight(t, "bytes"))
			if e, ok := tc.body.(*endless); ok {
				require.LessOrEqual(t, e.read, budget/2)
			}
		})
	}
}
