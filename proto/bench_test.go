package proto_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/weir-metrics/weir/proto"
)

// BenchmarkScan reads requests of 2,000 series with 12 labels and one sample
// each: their keys only, and all that a request of known series needs.
func BenchmarkScan(b *testing.B) {
	const series = 2000
	for _, v := range []proto.Version{proto.V1, proto.V2} {
		var message []byte
		if v == proto.V1 {
			m := kubeV1(series)
			message, _ = m.Marshal()
		} else {
			m := kubeV2(series)
			message, _ = m.Marshal()
		}
		for _, what := range []string{"keys", "samples"} {
			b.Run(fmt.Sprintf("version=%s/read=%s", v, what), func(b *testing.B) {
				var (
					r   proto.Request
					f   proto.Frame
					rej proto.Rejections
				)
				b.SetBytes(int64(len(message)))
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Reset(v, message, testSeed, maxSymbols); err != nil {
						b.Fatal(err)
					}
					f.Reset()
					n := uint32(0)
					for {
						var s proto.Series
						more, err := r.Next(&s)
						if err != nil {
							b.Fatal(err)
						}
						if !more {
							break
						}
						if what == "samples" {
							if err := r.AppendSamples(&f, &s, n, &rej); err != nil {
								b.Fatal(err)
							}
							r.MetadataHash(&s)
						}
						n++
					}
					if n != series {
						b.Fatal(n)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/series")
			})
		}
	}
}

// kubeLabels are the labels of one series of a Kubernetes cluster.
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

func kubeV1(n int) (m prompb.WriteRequest) {
	for i := range n {
		s := prompb.TimeSeries{Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}}}
		for _, l := range kubeLabels(i) {
			s.Labels = append(s.Labels, prompb.Label{Name: l[0], Value: l[1]})
		}
		m.Timeseries = append(m.Timeseries, s)
	}
	return m
}

func kubeV2(n int) (m writev2.Request) {
	symbols := writev2.NewSymbolTable()
	for i := range n {
		s := writev2.TimeSeries{Samples: []writev2.Sample{{Value: float64(i) * 1.5, Timestamp: 1_700_000_000_000}}}
		for _, l := range kubeLabels(i) {
			s.LabelsRefs = append(s.LabelsRefs, symbols.Symbolize(l[0]), symbols.Symbolize(l[1]))
		}
		s.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: symbols.Symbolize("Cumulative cpu time consumed.")}
		m.Timeseries = append(m.Timeseries, s)
	}
	m.Symbols = symbols.Symbols()
	return m
}
