package ingester

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
)

// intHistogram has a zero bucket and buckets on both sides.
func intHistogram(n uint64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128, ZeroCount: n, Count: 6*n + 1, Sum: float64(n) / 3,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{int64(n), 0, int64(n)},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 2}}, NegativeBuckets: []int64{1, int64(n) - 1},
	}
}

func floatHistogram(n float64) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Schema: -4, ZeroThreshold: 0.5, ZeroCount: n / 2, Count: 3 * n, Sum: -n,
		PositiveSpans: []histogram.Span{{Offset: 5, Length: 2}}, PositiveBuckets: []float64{n, n / 2},
		NegativeSpans: []histogram.Span{{Offset: -1, Length: 1}}, NegativeBuckets: []float64{n},
	}
}

func customHistogram(n uint64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 2*n + 1, Sum: float64(n),
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{int64(n), 0, 1 - int64(n)},
		CustomValues: []float64{0.1, 0.5, 1, 10},
	}
}

func customFloatHistogram(n float64) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 2 * n, Sum: n,
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 2}}, PositiveBuckets: []float64{n, n},
		CustomValues: []float64{-1, 0, math.MaxFloat64},
	}
}

func gauge(h *histogram.Histogram) *histogram.Histogram {
	h.CounterResetHint = histogram.GaugeType
	return h
}

func fgauge(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	h.CounterResetHint = histogram.GaugeType
	return h
}

var payloadNaN = math.Float64frombits(0x7ff8_dead_beef_0001)

// Every kind of sample comes back bit by bit: from the head, from the replayed
// log, and from a block.
func TestWriteReadsBack(t *testing.T) {
	a, b := metric("a", "job", "x"), metric("b", "ünïcode.name", "värde 🐟")
	sec := func(n int) int64 { return at(time.Duration(n) * time.Second) }
	floats := func(vs ...float64) *frame {
		f := new(frame).series(a)
		for i, v := range vs {
			f.float(sec(i), v)
		}
		return f
	}
	floatPoints := func(vs ...float64) (ps []point) {
		for i, v := range vs {
			ps = append(ps, point{T: sec(i), V: floatKey(v)})
		}
		return ps
	}
	var many, manyHistograms frame
	var manyPoints, manyHistogramPoints []point
	many.series(a)
	manyHistograms.series(a)
	for i := range 700 { // several chunks
		v := math.Sqrt(float64(i)) * float64(i%7-3)
		many.float(sec(i*7), v)
		manyPoints = append(manyPoints, point{T: sec(i * 7), V: floatKey(v)})
		h := intHistogram(uint64(i))
		manyHistograms.hist(sec(i*5), h)
		manyHistogramPoints = append(manyHistogramPoints, point{T: sec(i * 5), V: histKey(h)})
	}
	stale := &histogram.Histogram{Sum: staleNaN}
	fstale := &histogram.FloatHistogram{Sum: staleNaN}
	nanSum := intHistogram(1)
	nanSum.Sum = payloadNaN
	fnanSum := floatHistogram(1)
	fnanSum.Sum = payloadNaN
	empty := &histogram.Histogram{Schema: 0, ZeroThreshold: 0.001}

	for _, c := range []struct {
		name   string
		frames []*frame
		want   map[string][]point
	}{
		{"one float", []*frame{floats(1.5)}, map[string][]point{a.String(): floatPoints(1.5)}},
		{"float specials",
			[]*frame{floats(0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1+0.2)},
			map[string][]point{a.String(): floatPoints(0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1+0.2)}},
		{"NaN payloads",
			[]*frame{floats(math.NaN(), payloadNaN, math.Float64frombits(0xfff8_0000_0000_0001), math.Float64frombits(0x7ff0_0000_0000_0001), 1)},
			map[string][]point{a.String(): floatPoints(math.NaN(), payloadNaN, math.Float64frombits(0xfff8_0000_0000_0001), math.Float64frombits(0x7ff0_0000_0000_0001), 1)}},
		{"stale marker, and on again", []*frame{floats(1, staleNaN), new(frame).known(a).float(sec(2), 2)},
			map[string][]point{a.String(): floatPoints(1, staleNaN, 2)}},
		{"stale marker first", []*frame{floats(staleNaN)}, map[string][]point{a.String(): floatPoints(staleNaN)}},
		{"many floats", []*frame{&many}, map[string][]point{a.String(): manyPoints}},
		{"before 1970", []*frame{new(frame).series(a).float(-5_000_001, 1).float(-1, 2).float(0, 3)},
			map[string][]point{a.String(): {{T: -5_000_001, V: floatKey(1)}, {T: -1, V: floatKey(2)}, {V: floatKey(3)}}}},
		{"int histograms", []*frame{new(frame).series(a).hist(sec(0), intHistogram(1)).hist(sec(1), intHistogram(2)).hist(sec(2), intHistogram(1)).hist(sec(3), empty)},
			map[string][]point{a.String(): {{T: sec(0), V: histKey(intHistogram(1))}, {T: sec(1), V: histKey(intHistogram(2))}, {T: sec(2), V: histKey(intHistogram(1))}, {T: sec(3), V: histKey(empty)}}}},
		{"many int histograms", []*frame{&manyHistograms}, map[string][]point{a.String(): manyHistogramPoints}},
		{"gauge histograms", []*frame{new(frame).series(a).hist(sec(0), gauge(intHistogram(5))).hist(sec(1), gauge(intHistogram(2))).fhist(sec(2), fgauge(floatHistogram(2)))},
			map[string][]point{a.String(): {{T: sec(0), V: histKey(gauge(intHistogram(5)))}, {T: sec(1), V: histKey(gauge(intHistogram(2)))}, {T: sec(2), V: fhistKey(fgauge(floatHistogram(2)))}}}},
		{"float histograms", []*frame{new(frame).series(a).fhist(sec(0), floatHistogram(1)).fhist(sec(1), floatHistogram(2.5))},
			map[string][]point{a.String(): {{T: sec(0), V: fhistKey(floatHistogram(1))}, {T: sec(1), V: fhistKey(floatHistogram(2.5))}}}},
		{"custom buckets", []*frame{new(frame).series(a).hist(sec(0), customHistogram(1)).hist(sec(1), customHistogram(2)).fhist(sec(2), customFloatHistogram(1))},
			map[string][]point{a.String(): {{T: sec(0), V: histKey(customHistogram(1))}, {T: sec(1), V: histKey(customHistogram(2))}, {T: sec(2), V: fhistKey(customFloatHistogram(1))}}}},
		{"NaN sums of histograms", []*frame{new(frame).series(a).hist(sec(0), nanSum).fhist(sec(1), fnanSum)},
			map[string][]point{a.String(): {{T: sec(0), V: histKey(nanSum)}, {T: sec(1), V: fhistKey(fnanSum)}}}},
		{"histogram stale markers", []*frame{new(frame).series(a).hist(sec(0), intHistogram(1)).hist(sec(1), stale).hist(sec(2), intHistogram(2)).
			series(b).fhist(sec(0), floatHistogram(1)).fhist(sec(1), fstale)},
			map[string][]point{
				a.String(): {{T: sec(0), V: histKey(intHistogram(1))}, {T: sec(1), V: histKey(stale)}, {T: sec(2), V: histKey(intHistogram(2))}},
				b.String(): {{T: sec(0), V: fhistKey(floatHistogram(1))}, {T: sec(1), V: fhistKey(fstale)}}}},
		// Prometheus ends any series with a float marker; the TSDB makes it one of
		// the series' kind.
		{"float stale marker on histogram series", []*frame{
			new(frame).series(a).hist(sec(0), intHistogram(1)).series(b).fhist(sec(0), floatHistogram(1)),
			new(frame).known(a).float(sec(1), staleNaN).known(b).float(sec(1), staleNaN)},
			map[string][]point{
				a.String(): {{T: sec(0), V: histKey(intHistogram(1))}, {T: sec(1), V: histKey(stale)}},
				b.String(): {{T: sec(0), V: fhistKey(floatHistogram(1))}, {T: sec(1), V: fhistKey(fstale)}}}},
		{"float stale marker in the frame of the histogram", []*frame{
			new(frame).series(a).hist(sec(0), intHistogram(1)).series(a).float(sec(1), staleNaN)},
			map[string][]point{a.String(): {{T: sec(0), V: histKey(intHistogram(1))}, {T: sec(1), V: histKey(stale)}}}},
		{"kinds take turns", []*frame{
			new(frame).series(a).float(sec(0), 1).series(a).hist(sec(1), intHistogram(1)).series(a).fhist(sec(2), floatHistogram(1)).
				series(a).hist(sec(3), customHistogram(1)).series(a).float(sec(4), 2)},
			map[string][]point{a.String(): {{T: sec(0), V: floatKey(1)}, {T: sec(1), V: histKey(intHistogram(1))}, {T: sec(2), V: fhistKey(floatHistogram(1))},
				{T: sec(3), V: histKey(customHistogram(1))}, {T: sec(4), V: floatKey(2)}}}},
		// Prometheus sends each sample as a series of its own.
		{"a series twice in a frame", []*frame{
			new(frame).series(a).float(sec(0), 1).series(b).float(sec(0), 5).known(a).float(sec(1), 2).known(a).float(sec(2), 3)},
			map[string][]point{a.String(): floatPoints(1, 2, 3), b.String(): floatPoints(5)}},
		{"a series twice in a frame, newest first", []*frame{
			new(frame).series(a).float(sec(2), 3).known(a).float(sec(0), 1).known(a).float(sec(1), 2)},
			map[string][]point{a.String(): floatPoints(1, 2, 3)}},
		{"descending in one series", []*frame{new(frame).series(a).float(sec(2), 3).float(sec(1), 2).float(sec(0), 1)},
			map[string][]point{a.String(): floatPoints(1, 2, 3)}},
		{"out of order histograms", []*frame{
			new(frame).series(a).hist(sec(9), intHistogram(9)),
			new(frame).known(a).hist(sec(3), intHistogram(3)).hist(sec(2), gauge(intHistogram(8))).hist(sec(1), customHistogram(4)).
				fhist(sec(5), floatHistogram(5)).fhist(sec(4), customFloatHistogram(5))},
			map[string][]point{a.String(): {{T: sec(1), V: histKey(customHistogram(4))}, {T: sec(2), V: histKey(gauge(intHistogram(8)))}, {T: sec(3), V: histKey(intHistogram(3))},
				{T: sec(4), V: fhistKey(customFloatHistogram(5))}, {T: sec(5), V: fhistKey(floatHistogram(5))}, {T: sec(9), V: histKey(intHistogram(9))}}}},
		{"series without samples", []*frame{new(frame).series(a).series(b).float(sec(0), 1)}, map[string][]point{b.String(): floatPoints(1)}},
		{"empty frame", []*frame{{}}, map[string][]point{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t)
			for _, f := range c.frames {
				writtenAll(t, f, n.write(team, f.only(nil).as(f)))
			}
			require.Equal(t, c.want, n.read(team), "from the head")
			n.restart()
			require.Equal(t, c.want, n.read(team), "after replay")
			n.flush(team)
			require.Equal(t, c.want, n.read(team), "from blocks")
			n.restart()
			require.Equal(t, c.want, n.read(team), "from blocks, after a start")
			for _, f := range c.frames {
				writtenAll(t, f, n.send(team, f.only(nil)))
			}
			require.Equal(t, c.want, n.read(team), "after writing all of it again")
		})
	}
}

// as gives f the labels that g carries, no others.
func (f *frame) as(g *frame) *frame {
	f.Labels = g.Labels
	return f
}

// Samples between two timestamps, not a sample more, are what a caller keeps of
// the chunks; the chunks of the range must hold them all.
func TestReadRange(t *testing.T) {
	n := start(t)
	a := metric("a")
	f := new(frame).series(a)
	for i := range 1000 {
		f.float(at(time.Duration(i)*10*time.Second), float64(i))
	}
	writtenAll(t, f, n.write(team, f))
	for _, stage := range []string{"head", "blocks", "blocks and head"} {
		switch stage {
		case "blocks":
			n.flush(team)
		case "blocks and head":
			f := new(frame).series(a).float(at(10_000*time.Second), 1000)
			writtenAll(t, f, n.write(team, f))
		}
		for _, r := range [][2]int{{0, 0}, {1, 2}, {100, 500}, {719, 721}, {998, 999}} {
			got := n.readRange(team, at(time.Duration(r[0])*10*time.Second), at(time.Duration(r[1])*10*time.Second))[a.String()]
			require.Len(t, got, r[1]-r[0]+1, "%s, range %v", stage, r)
			require.Equal(t, floatKey(float64(r[0])), got[0].V)
		}
		require.Empty(t, n.readRange(team, at(-time.Hour), at(-time.Millisecond)), stage)
	}
}
