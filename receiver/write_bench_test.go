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

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ingester"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
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

func defaultLimits() func(string) *tenant.Limits {
	lim := tenant.DefaultLimits()
	return func(string) *tenant.Limits { return &lim }
}

// BenchmarkWrite measures a request of 2,000 series with 12 labels and one
// sample each, of 100,000 series that are sent round and round.
func BenchmarkWrite(b *testing.B) {
	const total, perRequest = 100_000, 2_000
	for _, v := range []proto.Version{proto.V1, proto.V2} {
		for _, to := range []string{"discard", "tsdb"} {
			b.Run(fmt.Sprintf("version=%s/to=%s", v, to), func(b *testing.B) {
				var ing receiver.Ingester = discard{}
				if to == "tsdb" {
					ing = startIngester(b, defaultLimits())
				}
				r := receiver.New(receiver.DefaultConfig(), receiver.Deps{
					Ingester: ing, Tenants: tenant.Resolver{Mode: tenant.ModeNone}, Limits: defaultLimits(),
					Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
				})
				start := time.Now().Add(-time.Hour).UnixMilli()
				round := 0
				send := func(part int, body []byte) {
					hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(body))
					hr.Header.Set("Content-Type", contentType(v))
					hr.Header.Set("Content-Encoding", "snappy")
					w := httptest.NewRecorder()
					r.ServeHTTP(w, hr)
					if w.Code != http.StatusNoContent {
						b.Fatal(part, w.Code, w.Body.String())
					}
				}
				bodies := func() [][]byte {
					var out [][]byte
					for p := 0; p < total; p += perRequest {
						out = append(out, encode(v, p, perRequest, start+int64(round)*1000))
					}
					round++
					return out
				}
				for p, body := range bodies() {
					send(p, body)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; {
					b.StopTimer()
					bs := bodies()
					b.StartTimer()
					for p, body := range bs {
						if n++; n > b.N {
							break
						}
						send(p, body)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perRequest, "ns/sample")
			})
		}
	}
}

func contentType(v proto.Version) string {
	if v == proto.V2 {
		return "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	}
	return "application/x-protobuf"
}

func kubeLabels(i int) [][2]string {
	return [][2]string{
		{"__name__", fmt.Sprintf("container_cpu_usage_seconds_total_%d", i%500)},
		{"cluster", "eu-central-1-production"}, {"container", fmt.Sprintf("app-%d", i%40)},
		{"cpu", "total"}, {"endpoint", "https-metrics"},
		{"id", fmt.Sprintf("/kubepods/burstable/pod%08x-11d2-4a5c-b7f4-%012x", i/100, i/100)},
		{"image", "registry.example.com/platform/service:v1.24.7"},
		{"instance", fmt.Sprintf("10.0.%d.%d:10250", i/100%250, i%250)}, {"job", "kubelet"},
		{"namespace", fmt.Sprintf("team-%d", i%60)}, {"node", fmt.Sprintf("ip-10-0-%d-%d.internal", i/100%250, i%250)},
		{"pod", fmt.Sprintf("service-%d-7d9c6b8f5d-%05x", i/10, i)},
	}
}

func encode(v proto.Version, from, n int, ts int64) []byte {
	var (
		b   []byte
		err error
	)
	if v == proto.V1 {
		var m prompb.WriteRequest
		for i := from; i < from+n; i++ {
			s := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: ts}}}
			for _, l := range kubeLabels(i) {
				s.Labels = append(s.Labels, prompb.Label{Name: l[0], Value: l[1]})
			}
			m.Timeseries = append(m.Timeseries, s)
		}
		b, err = m.Marshal()
	} else {
		st := writev2.NewSymbolTable()
		var m writev2.Request
		for i := from; i < from+n; i++ {
			s := writev2.TimeSeries{Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: ts}}}
			for _, l := range kubeLabels(i) {
				s.LabelsRefs = append(s.LabelsRefs, st.Symbolize(l[0]), st.Symbolize(l[1]))
			}
			s.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: st.Symbolize("Cumulative cpu time consumed.")}
			m.Timeseries = append(m.Timeseries, s)
		}
		m.Symbols = st.Symbols()
		b, err = m.Marshal()
	}
	if err != nil {
		panic(err)
	}
	return s2.EncodeSnappy(nil, b)
}
