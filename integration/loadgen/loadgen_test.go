package loadgen

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// decoded is one series of a request, as the generated decoders see it.
type decoded struct {
	labels    labels.Labels
	timestamp int64
	value     float64
	histogram *histogram.Histogram
	help      string
}

func decodeV1(t *testing.T, b []byte) []decoded {
	var req prompb.WriteRequest
	require.NoError(t, req.Unmarshal(b))
	var out []decoded
	builder := labels.NewScratchBuilder(16)
	for _, ts := range req.Timeseries {
		d := decoded{labels: ts.ToLabels(&builder, nil)}
		require.Equal(t, 1, len(ts.Samples)+len(ts.Histograms))
		if len(ts.Samples) == 1 {
			d.timestamp, d.value = ts.Samples[0].Timestamp, ts.Samples[0].Value
		} else {
			d.timestamp, d.histogram = ts.Histograms[0].Timestamp, ts.Histograms[0].ToIntHistogram()
		}
		out = append(out, d)
	}
	return out
}

func decodeV2(t *testing.T, b []byte) []decoded {
	var req writev2.Request
	require.NoError(t, req.Unmarshal(b))
	require.Equal(t, "", req.Symbols[0])
	var out []decoded
	builder := labels.NewScratchBuilder(16)
	for _, ts := range req.Timeseries {
		ls, err := ts.ToLabels(&builder, req.Symbols)
		require.NoError(t, err)
		d := decoded{labels: ls, help: req.Symbols[ts.Metadata.HelpRef]}
		require.Equal(t, 1, len(ts.Samples)+len(ts.Histograms))
		if len(ts.Samples) == 1 {
			d.timestamp, d.value = ts.Samples[0].Timestamp, ts.Samples[0].Value
		} else {
			d.timestamp, d.histogram = ts.Histograms[0].Timestamp, ts.Histograms[0].ToIntHistogram()
		}
		out = append(out, d)
	}
	return out
}

func testConfig(p Protocol) Config {
	cfg := DefaultConfig()
	cfg.URL = "http://127.0.0.1:1/"
	cfg.Protocol = p
	cfg.Series = 5000
	cfg.SamplesPerRequest = 700
	cfg.NativeHistograms = 0.1
	cfg.Churn = 0.05
	return cfg
}

// TestRequestsDecodeToTheirSeries holds the hand-written encoders against the
// generated decoders.
func TestRequestsDecodeToTheirSeries(t *testing.T) {
	for _, p := range []Protocol{V1, V2} {
		for _, pairs := range []bool{false, true} {
			t.Run(fmt.Sprintf("v%d/pairs=%t", p, pairs), func(t *testing.T) {
				cfg := testConfig(p)
				cfg.HAPairs = pairs
				g, err := New(cfg)
				require.NoError(t, err)
				for _, round := range []int{0, 1, 7} {
					checkRound(t, g, p, round)
				}
			})
		}
	}
}

func checkRound(t *testing.T, g *Generator, p Protocol, round int) {
	seen := map[string]bool{}
	histograms := 0
	for _, s := range g.senders {
		for _, b := range s.batches {
			if !b.current(s.fleet, round) {
				b.encode(s.fleet, round)
			}
			request := s.encoder.appendRequest(nil, s.fleet, b, round)
			decode := decodeV1
			if p == V2 {
				decode = decodeV2
			}
			series := decode(t, request)
			require.Len(t, series, len(b.series))
			for i, d := range series {
				checkSeries(t, s.fleet, b, i, round, d)
				require.False(t, seen[d.labels.String()], "twice: %s", d.labels)
				seen[d.labels.String()] = true
				if d.histogram != nil {
					histograms++
				}
			}
		}
	}
	replicas := 1
	if g.cfg.HAPairs {
		replicas = 2
	}
	require.Len(t, seen, g.cfg.Series*replicas)
	require.InDelta(t, 0.1, float64(histograms)/float64(len(seen)), 0.02)
}

func checkSeries(t *testing.T, f *fleet, b *batch, i, round int, d decoded) {
	t.Helper()
	e := b.entries[i]
	v := f.variant(b.series[i])
	var want []string
	for _, l := range f.appendLabels(nil, b.series[i], e.generation, b.replica) {
		want = append(want, l.name, l.value)
	}
	require.Equal(t, labels.FromStrings(want...), d.labels)
	require.Equal(t, f.roundStart(round)+e.phase, d.timestamp)
	if f.cfg.Protocol == V2 {
		require.Equal(t, v.help, d.help)
	}
	if v.kind != native {
		require.Equal(t, value(v.kind, e.seed, round), d.value)
		return
	}
	require.NotNil(t, d.histogram)
	require.NoError(t, d.histogram.Validate())
	var h nativeHistogram
	histogramValue(&h, e.seed, round)
	require.Equal(t, h.count, d.histogram.Count)
	require.Equal(t, h.sum, d.histogram.Sum)
}

// TestSeriesLookLikeKubernetes holds the shape that the benchmarks promise.
func TestSeriesLookLikeKubernetes(t *testing.T) {
	f := newFleet(testConfig(V1), 0)
	names, text := 0, 0
	for i := range f.cfg.Series {
		ls := f.appendLabels(nil, i, 0, -1)
		require.True(t, slices.IsSortedFunc(ls, func(a, b label) int {
			if a.name < b.name {
				return -1
			}
			return 1
		}))
		names += len(ls)
		for _, l := range ls {
			text += len(l.name) + len(l.value)
		}
	}
	n := float64(f.cfg.Series)
	t.Logf("%.1f labels, %.0f bytes of label text a series", float64(names)/n, float64(text)/n)
	require.InDelta(t, 12.5, float64(names)/n, 1)
	require.InDelta(t, 300, float64(text)/n, 20)
}

// TestChurnReplacesTheSameShareEachRound counts generations.
func TestChurnReplacesTheSameShareEachRound(t *testing.T) {
	cfg := testConfig(V1)
	cfg.Series = 100_000
	f := newFleet(cfg, 0)
	for round := 1; round < 60; round++ {
		replaced := 0
		for pod := range f.pods {
			step := f.generation(pod, round) - f.generation(pod, round-1)
			require.GreaterOrEqual(t, step, 0)
			replaced += step
		}
		require.InDelta(t, cfg.Churn*float64(f.pods), replaced, 1)
	}
}

// TestRunCounts sends to a receiver that refuses every third request.
func TestRunCounts(t *testing.T) {
	var mu sync.Mutex // guards what follows
	var requests, samples int64
	last := map[string]int64{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		plain, err := s2.Decode(nil, body)
		mu.Lock()
		defer mu.Unlock()
		requests++
		if err != nil || requests%3 == 0 {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		for _, d := range decodeV1(t, plain) {
			samples++
			if d.timestamp <= last[d.labels.String()] {
				t.Errorf("%s: %d after %d", d.labels, d.timestamp, last[d.labels.String()])
			}
			last[d.labels.String()] = d.timestamp
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	cfg := testConfig(V1)
	cfg.URL = receiver.URL
	cfg.Churn = 0
	g, err := New(cfg)
	require.NoError(t, err)
	defer g.Close()
	var total Result
	for range 2 {
		r, err := g.Run(t.Context(), 3)
		require.NoError(t, err)
		total.Samples += r.Samples
		total.Refused += r.Refused
		total.Requests += r.Requests
		require.LessOrEqual(t, r.P50, r.P99)
		require.LessOrEqual(t, r.P99, r.Max)
		require.Equal(t, "400 Bad Request: no\n", r.FirstError)
	}
	require.Equal(t, samples, total.Samples)
	require.Equal(t, requests, total.Requests)
	require.Equal(t, int64(6*cfg.Series), total.Samples+total.Refused)
	require.Less(t, slices.Max(valuesOf(last)), time.Now().UnixMilli())
}

func valuesOf(m map[string]int64) []int64 {
	var out []int64
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// BenchmarkRequest is what the generator costs beside the server under test.
func BenchmarkRequest(b *testing.B) {
	for _, p := range []Protocol{V1, V2} {
		b.Run(fmt.Sprintf("v%d/2000x12labels", p), func(b *testing.B) {
			cfg := testConfig(p)
			cfg.Churn, cfg.NativeHistograms = 0, 0
			cfg.Series, cfg.SamplesPerRequest, cfg.Senders = 2000, 2000, 1
			g, err := New(cfg)
			require.NoError(b, err)
			s := g.senders[0]
			b.ReportAllocs()
			round := 0
			for b.Loop() {
				s.request = s.encoder.appendRequest(s.request[:0], s.fleet, s.batches[0], round)
				s.snappied = s2.EncodeSnappy(s.snappied[:cap(s.snappied)], s.request)
				round++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/sample")
			b.ReportMetric(float64(len(s.request))/2000, "B/sample")
			b.ReportMetric(float64(len(s.snappied))/2000, "sentB/sample")
		})
	}
}
