package integration

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// bell is an integer histogram with buckets on both sides of zero.
func bell() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 1, ZeroThreshold: 0.01, ZeroCount: 3, Count: 3 + 2 + 5 + 4 + 1 + 7, Sum: 17.25,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{2, 3, -1},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}, {Offset: 1, Length: 1}}, NegativeBuckets: []int64{1, 6},
	}
}

// custom is an integer histogram with custom bounds, one bucket left empty.
func custom() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 2 + 5 + 9, Sum: 44.5,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{2, 3, 4},
		CustomValues: []float64{-1, 0.5, 10},
	}
}

// with changes a copy.
func with[H any](h *H, change func(*H)) *H {
	change(h)
	return h
}

// histogramCases are all kinds of native histograms.
var histogramCases = []struct {
	name string
	harness.Sample
}{
	{"int", harness.Sample{H: bell()}},
	{"float", harness.Sample{FH: bell().ToFloat(nil).Mul(0.3)}},
	{"custom_int", harness.Sample{H: custom()}},
	{"custom_float", harness.Sample{FH: custom().ToFloat(nil).Mul(1.7)}},
	{"empty", harness.Sample{H: &histogram.Histogram{Schema: 3, ZeroThreshold: 1e-128}}},
	{"only_zero_bucket", harness.Sample{H: &histogram.Histogram{ZeroThreshold: 0.5, ZeroCount: 9, Count: 9, Sum: -0.25}}},
	{"coarsest", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.Schema = -4 })}},
	{"finest", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.Schema = 8 })}},
	{"sum_nan", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.Sum = math.NaN(); h.Count += 2 })}},
	{"sum_inf", harness.Sample{FH: with(bell().ToFloat(nil), func(h *histogram.FloatHistogram) { h.Sum = math.Inf(-1) })}},
	{"large_counts", harness.Sample{H: &histogram.Histogram{ZeroThreshold: 0.5, ZeroCount: 1 << 52, Count: 1 << 52, Sum: 1e300}}},
	{"tiny_counts", harness.Sample{FH: bell().ToFloat(nil).Mul(1e-9)}},
	{"gauge_int", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.CounterResetHint = histogram.GaugeType })}},
	{"gauge_float", harness.Sample{FH: with(bell().ToFloat(nil), func(h *histogram.FloatHistogram) { h.CounterResetHint = histogram.GaugeType })}},
	{"gauge_custom", harness.Sample{H: with(custom(), func(h *histogram.Histogram) { h.CounterResetHint = histogram.GaugeType })}},
	{"reset", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.CounterResetHint = histogram.CounterReset })}},
	{"reset_float", harness.Sample{FH: with(bell().ToFloat(nil), func(h *histogram.FloatHistogram) { h.CounterResetHint = histogram.CounterReset })}},
	{"no_reset", harness.Sample{H: with(bell(), func(h *histogram.Histogram) { h.CounterResetHint = histogram.NotCounterReset })}},
	{"stale_int", harness.Sample{H: &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}}},
	{"stale_float", harness.Sample{FH: &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}}},
}

// TestRoundTripHistograms writes every kind of native histogram by both
// protocols, in order and late, and reads them back by query and from disk.
func TestRoundTripHistograms(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	times := writeHistograms(t, s, base)
	for _, p := range protocols {
		for _, c := range histogramCases {
			checkHistogramQuery(t, s, p, c.name, c.Sample, times)
		}
	}
	s.Stop()
	disk := s.OnDisk(t)
	for _, p := range protocols {
		for _, c := range histogramCases {
			key := labels.FromStrings("__name__", "rt_histogram", "case", c.name, "protocol", p.String()).String()
			require.Len(t, disk[key], len(times), "%s on disk", key)
			for i, x := range disk[key] {
				checkHistogramDisk(t, fmt.Sprintf("%s sample %d on disk", key, i), c.Sample, x)
			}
		}
	}
}

// writeHistograms writes each of histogramCases by both protocols, twice and
// late, and returns these three times.
func writeHistograms(t *testing.T, s *harness.Server, base int64) []int64 {
	t.Helper()
	times := []int64{base, base + 1000, base - 90_000}
	for _, p := range protocols {
		for _, c := range histogramCases {
			ls := []string{"__name__", "rt_histogram", "case", c.name, "protocol", p.String()}
			s.Accept(t, p, harness.Series{Labels: ls, Samples: []harness.Sample{at(c.Sample, times[0]), at(c.Sample, times[1])}})
			s.Accept(t, p, harness.Series{Labels: ls, Samples: []harness.Sample{at(c.Sample, times[2])}})
		}
	}
	return times
}

func at(x harness.Sample, t int64) harness.Sample {
	x.T = t
	return x
}

func checkHistogramQuery(t *testing.T, s *harness.Server, p harness.Protocol, name string, x harness.Sample, times []int64) {
	t.Helper()
	selector := fmt.Sprintf(`rt_histogram{case=%q,protocol=%q}`, name, p)
	stale := (x.H != nil && value.IsStaleNaN(x.H.Sum)) || (x.FH != nil && value.IsStaleNaN(x.FH.Sum))
	if stale {
		require.Empty(t, s.Samples(t, selector, times[2]-1000, times[1]+1000))
		return
	}
	got := s.Only(t, selector, times[2]-1000, times[1]+1000)
	require.Empty(t, got.Floats)
	require.Len(t, got.Histograms, len(times))
	for _, at := range times {
		require.Equal(t, harness.JSONOfSample(x), got.Histograms[at], "%s by %s at %d", name, p, at)
	}
}

// checkHistogramDisk compares everything but the hint of counters, which the
// store derives from the samples around; gauges stay gauges.
func checkHistogramDisk(t *testing.T, what string, want, got harness.Sample) {
	t.Helper()
	if want.H != nil {
		require.NotNil(t, got.H, what)
		if value.IsStaleNaN(want.H.Sum) {
			require.True(t, value.IsStaleNaN(got.H.Sum), what)
			return
		}
		require.True(t, want.H.Equals(got.H), "%s: %v, want %v", what, got.H, want.H)
		require.Equal(t, want.H.CounterResetHint == histogram.GaugeType, got.H.CounterResetHint == histogram.GaugeType, what)
		return
	}
	require.NotNil(t, got.FH, what)
	if value.IsStaleNaN(want.FH.Sum) {
		require.True(t, value.IsStaleNaN(got.FH.Sum), what)
		return
	}
	require.True(t, want.FH.Equals(got.FH), "%s: %v, want %v", what, got.FH, want.FH)
	require.Equal(t, want.FH.CounterResetHint == histogram.GaugeType, got.FH.CounterResetHint == histogram.GaugeType, what)
}
