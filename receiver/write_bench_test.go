package receiver_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// discard takes every frame for written: what is left is the receiver's share.
type discard struct{}

func (discard) Write(_ context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	reply.Written.Samples = len(f.Floats)
	for i := range f.Series {
		if f.Series[i].Handle != uint32(i) {
			reply.Handles = append(reply.Handles, proto.SeriesHandle{Series: uint32(i), Handle: uint32(i)})
		}
	}
	return nil
}

func startIngester(tb testing.TB, lim func(string) *tenant.Limits) *ingester.Ingester {
	tb.Helper()
	cfg := ingester.DefaultConfig()
	ing := ingester.New(cfg, ingester.Deps{Dir: tb.TempDir(), Limits: lim, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ing.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	require.Eventually(tb, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
	return ing
}

// tenRules are ten rules of relabelling and two detectors. They change nothing that
// would make other series of those that benchmarks send.
const tenRules = `
metric_relabel_configs:
- {source_labels: [__name__], regex: 'go_gc_.*|process_open_fds', action: drop}
- {source_labels: [namespace], regex: 'kube-(.*)', target_label: system, replacement: '$1'}
- {source_labels: [pod], regex: '(.+)-[a-z0-9]+-[a-z0-9]{5}', target_label: pod, replacement: '$0'}
- {regex: 'endpoint_.*|metrics_path', action: labeldrop}
- {source_labels: [job], target_label: job}
- {source_labels: [cluster], target_label: cluster, regex: '([a-z]+-[a-z]+-[0-9]+)-(.*)', replacement: '$1-$2'}
- {source_labels: [container], regex: POD, action: drop}
- {source_labels: [image], regex: '(.*/[^:]+:.*)', target_label: image}
- {source_labels: [node], action: lowercase, target_label: node}
- {regex: 'label_(.+)', action: labelmap}
redact:
- {detector: email, action: hash}
- {detector: card, action: mask}
`

// BenchmarkWrite measures a request of 2,000 series with 12 labels and one
// sample each, of 100,000 series that are sent round and round, without rules, with
// ten and two detectors, and with ten label sets that have a rate and every series.
func BenchmarkWrite(b *testing.B) {
	for _, v := range []proto.Version{proto.V1, proto.V2} {
		for _, to := range []string{"discard", "tsdb"} {
			for _, rules := range []string{"none", "ten", "sets"} {
				b.Run(fmt.Sprintf("version=%s/to=%s/rules=%s", v, to, rules), func(b *testing.B) {
					var ing receiver.Ingester = discard{}
					if to == "tsdb" {
						ing = startIngester(b, defaultLimits())
					}
					benchmarkKnown(b, v, newBenchmark(b, v, ing, rules))
				})
			}
		}
	}
}

// BenchmarkNewSeries measures the same when every series is new to the receiver.
func BenchmarkNewSeries(b *testing.B) {
	const perRequest = 2_000
	for _, rules := range []string{"none", "ten"} {
		b.Run("rules="+rules, func(b *testing.B) {
			ts := time.Now().UnixMilli()
			body := encode(proto.V1, 0, perRequest, ts)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				send := newBenchmark(b, proto.V1, discard{}, rules)
				b.StartTimer()
				send(body)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perRequest, "ns/series")
		})
	}
}

// tenSets have rates that nobody reaches, and every series.
func tenSets() (all []tenant.LabelSet) {
	for i := range 10 {
		all = append(all, tenant.LabelSet{Name: fmt.Sprint(i), Match: `{__name__=~".+"}`, IngestionRate: 1e9})
	}
	return all
}

// newBenchmark returns what sends a request to a new receiver.
func newBenchmark(b *testing.B, v proto.Version, ing receiver.Ingester, rules string) (send func(body []byte)) {
	var compiled *relabel.Rules
	if rules == "ten" {
		compiled = compileRules(b, tenRules)
	}
	lim := tenant.DefaultLimits()
	if rules == "sets" {
		lim.LabelSets = tenSets()
	}
	r := receiver.New(receiver.DefaultConfig(), receiver.Deps{
		Ingester: ing, Tenants: tenant.NewDirectory(tenant.ModeNone, tenant.DefaultSettings()), Settings: settingsOf(func(string) *tenant.Limits { return &lim }, compiled),
		Budget: overload.New(overload.DefaultConfig(), slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Writes,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	return func(body []byte) {
		hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(body))
		hr.Header.Set("Content-Type", contentType(v))
		hr.Header.Set("Content-Encoding", "snappy")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, hr)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body.String())
		}
	}
}

func benchmarkKnown(b *testing.B, v proto.Version, send func([]byte)) {
	const total, perRequest = 100_000, 2_000
	start := time.Now().Add(-time.Hour).UnixMilli()
	round := 0
	bodies := func() [][]byte {
		var out [][]byte
		for p := 0; p < total; p += perRequest {
			out = append(out, encode(v, p, perRequest, start+int64(round)*1000))
		}
		round++
		return out
	}
	for _, body := range bodies() {
		send(body)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		b.StopTimer()
		bs := bodies()
		b.StartTimer()
		for _, body := range bs {
			if n++; n > b.N {
				break
			}
			send(body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perRequest, "ns/sample")
}

// BenchmarkOTLP measures a request of 2,000 data points with 10 attributes, as
// protocol buffers, that are known.
func BenchmarkOTLP(b *testing.B) {
	const points = 2_000
	now := time.Now().UnixMilli()
	e := newExported("service.name", "cart", "service.instance.id", "cart-0")
	ps := e.sum("container.cpu.usage", cumulative, true)
	for i := range points {
		p := number(ps, now-60_000, now, float64(i))
		for _, l := range kubeLabels(i)[2:] {
			p.Attributes().PutStr(l[0], l[1])
		}
	}
	body := marshalOTLP(otlpProtobuf, e.Metrics)
	for _, to := range []string{"discard", "tsdb"} {
		b.Run("to="+to, func(b *testing.B) {
			s := newSetup(b, func(s *setup) {
				s.ing = discard{}
				if to == "tsdb" {
					s.ing = startIngester(b, defaultLimits())
				}
			})
			b.ReportAllocs()
			for b.Loop() {
				if w := s.serveOTLP(otlpRequest(otlpProtobuf, body)); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body.String())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/points, "ns/sample")
		})
	}
}
