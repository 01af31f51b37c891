package ingester

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

const (
	outOfOrder = "weir-sample-out-of-order"
	duplicate  = "weir-sample-duplicate"
)

// step is a frame and the reply to it, or something that happens to the
// ingester in between.
type step struct {
	frame    *frame
	written  int
	rejected map[string]int
	event    func(*node)
}

func flushed(n *node)   { n.flush(team) }
func restarted(n *node) { n.restart() }
func crashed(n *node)   { n.crash() }

// The late rule: what repeats is written, what contradicts is refused and the
// first stays, what is new is stored unless it is too late.
func TestLate(t *testing.T) {
	a, b := metric("a"), metric("b")
	min := func(n float64) int64 { return at(time.Duration(n * float64(time.Minute))) }
	fa := func() *frame { return new(frame).series(a) }
	pts := func(ps ...point) map[string][]point { return map[string][]point{a.String(): ps} }
	fp := func(t int64, v float64) point { return point{T: t, V: floatKey(v)} }
	hp := func(t int64, h *histogram.Histogram) point { return point{T: t, V: histKey(h)} }
	fhp := func(t int64, h *histogram.FloatHistogram) point { return point{T: t, V: fhistKey(h)} }
	stale := &histogram.Histogram{Sum: staleNaN}
	fstale := &histogram.FloatHistogram{Sum: staleNaN}

	// A gauge with buckets that another one lacks: the store writes the second
	// with the layout of the first.
	wide := gauge(&histogram.Histogram{Count: 4, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 4}}, PositiveBuckets: []int64{1, 0, 0, 0}})
	narrow := gauge(&histogram.Histogram{Count: 2, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}}, PositiveBuckets: []int64{2}})
	fwide := fgauge(&histogram.FloatHistogram{Count: 4, Sum: 1, NegativeSpans: []histogram.Span{{Offset: 0, Length: 4}}, NegativeBuckets: []float64{1, 1, 1, 1}})
	fnarrow := fgauge(&histogram.FloatHistogram{Count: 2, Sum: 1, NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{2}})
	// A counter that stopped sending an empty bucket.
	filled := &histogram.Histogram{Count: 2, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 4}}, PositiveBuckets: []int64{1, -1, 0, 1}}
	gap := &histogram.Histogram{Count: 3, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}, {Offset: 2, Length: 1}}, PositiveBuckets: []int64{1, 1}}

	for _, c := range []struct {
		name   string
		window time.Duration // 0: the default of 10 minutes
		steps  []step
		want   map[string][]point
	}{
		{name: "the newest again", steps: []step{
			{frame: fa().float(min(0), 1), written: 1},
			{frame: fa().float(min(0), 1), written: 1},
			{frame: fa().float(min(0), 1).float(min(0), 1), written: 2},
			{event: restarted},
			{frame: fa().float(min(0), 1), written: 1},
			{event: flushed},
			{frame: fa().float(min(0), 1), written: 1},
		}, want: pts(fp(min(0), 1))},
		{name: "an older one again", steps: []step{
			{frame: fa().float(min(0), 1).float(min(1), 2).float(min(2), 3), written: 3},
			{frame: fa().float(min(1), 2), written: 1},
			{frame: fa().float(min(0), 1).float(min(1), 2).float(min(2), 3), written: 3},
			{event: restarted},
			{frame: fa().float(min(0), 1).float(min(1), 2).float(min(2), 3), written: 3},
			{event: flushed},
			{frame: fa().float(min(0), 1).float(min(1), 2).float(min(2), 3), written: 3},
			{event: crashed},
			{frame: fa().float(min(0), 1).float(min(1), 2).float(min(2), 3), written: 3},
		}, want: pts(fp(min(0), 1), fp(min(1), 2), fp(min(2), 3))},
		{name: "repeated far behind the window", steps: []step{
			{frame: fa().float(min(0), 1).float(min(1), 2), written: 2},
			{frame: new(frame).series(b).float(min(600), 1), written: 1},
			{frame: fa().float(min(0), 1), written: 1},
			{frame: fa().float(min(0), 2), rejected: map[string]int{duplicate: 1}},
			{event: flushed},
			{frame: fa().float(min(0), 1).float(min(1), 2), written: 2},
			{frame: fa().float(min(0), 2), rejected: map[string]int{duplicate: 1}},
		}, want: map[string][]point{a.String(): {fp(min(0), 1), fp(min(1), 2)}, b.String(): {fp(min(600), 1)}}},
		{name: "contradictions", steps: []step{
			{frame: fa().float(min(0), 1).float(min(1), 2), written: 2},
			{frame: fa().float(min(1), 3), rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(0), 3), rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(0), math.NaN()).float(min(1), 2), written: 1, rejected: map[string]int{duplicate: 1}},
			{event: restarted},
			{frame: fa().float(min(1), 3), rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(0), 3), rejected: map[string]int{duplicate: 1}},
			{event: flushed},
			{frame: fa().float(min(0), 3).float(min(1), 3), rejected: map[string]int{duplicate: 2}},
		}, want: pts(fp(min(0), 1), fp(min(1), 2))},
		{name: "zero and minus zero are two values", steps: []step{
			{frame: fa().float(min(0), 0).float(min(1), math.Copysign(0, -1)), written: 2},
			{frame: fa().float(min(0), math.Copysign(0, -1)).float(min(1), 0), rejected: map[string]int{duplicate: 2}},
		}, want: pts(fp(min(0), 0), fp(min(1), math.Copysign(0, -1)))},
		{name: "two NaNs are two values", steps: []step{
			{frame: fa().float(min(0), payloadNaN).float(min(1), 1), written: 2},
			{frame: fa().float(min(0), payloadNaN), written: 1},
			{frame: fa().float(min(0), math.NaN()), rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(0), staleNaN), rejected: map[string]int{duplicate: 1}},
		}, want: pts(fp(min(0), payloadNaN), fp(min(1), 1))},
		{name: "kinds contradict", steps: []step{
			{frame: fa().float(min(0), 1).series(a).hist(min(1), intHistogram(1)).series(a).fhist(min(2), floatHistogram(1)), written: 3},
			{frame: fa().hist(min(0), intHistogram(1)).series(a).float(min(1), 1).series(a).hist(min(2), intHistogram(1)), rejected: map[string]int{duplicate: 3}},
			{frame: fa().fhist(min(0), floatHistogram(1)).series(a).fhist(min(1), floatHistogram(1)).series(a).float(min(2), 1), rejected: map[string]int{duplicate: 3}},
			{frame: fa().hist(min(1), intHistogram(1)), written: 1},
		}, want: pts(fp(min(0), 1), hp(min(1), intHistogram(1)), fhp(min(2), floatHistogram(1)))},
		{name: "histograms again", steps: []step{
			{frame: fa().hist(min(0), intHistogram(1)).hist(min(1), intHistogram(2)), written: 2},
			{frame: fa().hist(min(0), intHistogram(1)).hist(min(1), intHistogram(2)), written: 2},
			{frame: fa().hist(min(0), intHistogram(2)).hist(min(1), intHistogram(1)), rejected: map[string]int{duplicate: 2}},
			{event: restarted},
			{frame: fa().hist(min(0), intHistogram(1)).hist(min(1), intHistogram(2)), written: 2},
			{frame: fa().hist(min(1), intHistogram(1)), rejected: map[string]int{duplicate: 1}},
		}, want: pts(hp(min(0), intHistogram(1)), hp(min(1), intHistogram(2)))},
		{name: "a histogram that was stored in another layout again", steps: []step{
			{frame: fa().hist(min(0), wide).hist(min(1), narrow), written: 2},
			{frame: fa().hist(min(1), narrow), written: 1},
			{frame: fa().hist(min(1), wide), rejected: map[string]int{duplicate: 1}},
			{event: restarted},
			{frame: fa().hist(min(1), narrow), written: 1},
			{frame: fa().hist(min(0), wide).hist(min(1), narrow), written: 2},
		}, want: pts(hp(min(0), wide), hp(min(1), narrow))},
		{name: "a float histogram that was stored in another layout again", steps: []step{
			{frame: fa().fhist(min(0), fwide).fhist(min(1), fnarrow), written: 2},
			{frame: fa().fhist(min(1), fnarrow), written: 1},
			{frame: fa().fhist(min(1), fwide), rejected: map[string]int{duplicate: 1}},
		}, want: pts(fhp(min(0), fwide), fhp(min(1), fnarrow))},
		{name: "a counter histogram that was stored in another layout again", steps: []step{
			{frame: fa().hist(min(0), filled).hist(min(1), gap), written: 2},
			{frame: fa().hist(min(1), gap), written: 1},
			{frame: fa().hist(min(0), filled).hist(min(1), gap), written: 2},
		}, want: pts(hp(min(0), filled), hp(min(1), gap))},
		{name: "the end of a series of histograms again", steps: []step{
			{frame: fa().hist(min(0), intHistogram(1)), written: 1},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{event: restarted},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{frame: fa().hist(min(2), intHistogram(2)), written: 1},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{frame: fa().hist(min(1), intHistogram(1)), rejected: map[string]int{duplicate: 1}},
		}, want: pts(hp(min(0), intHistogram(1)), hp(min(1), stale), hp(min(2), intHistogram(2)))},
		{name: "the end of a series of float histograms again", steps: []step{
			{frame: fa().fhist(min(0), floatHistogram(1)), written: 1},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{frame: fa().float(min(1), staleNaN), written: 1},
			{frame: fa().float(min(1), 1), rejected: map[string]int{duplicate: 1}},
		}, want: pts(fhp(min(0), floatHistogram(1)), fhp(min(1), fstale))},
		// The TSDB makes the marker a histogram only when it commits, behind the
		// histograms of the same transaction.
		{name: "the end of a series of histograms and its beginning as floats in one frame, behind the window", steps: []step{
			{frame: fa().hist(min(0), intHistogram(1)).series(b).float(min(20), 1), written: 2},
			{frame: fa().float(min(1), staleNaN).float(min(2), 5), written: 2},
		}, want: map[string][]point{a.String(): {hp(min(0), intHistogram(1)), hp(min(1), stale), fp(min(2), 5)}, b.String(): {fp(min(20), 1)}}},
		{name: "the end and the new beginning of a series of histograms in one frame, behind the window", steps: []step{
			{frame: fa().hist(min(0), intHistogram(1)).series(b).float(min(20), 1), written: 2},
			{frame: fa().float(min(1), staleNaN).series(a).hist(min(2), intHistogram(2)), written: 2},
		}, want: map[string][]point{a.String(): {hp(min(0), intHistogram(1)), hp(min(1), stale), hp(min(2), intHistogram(2))}, b.String(): {fp(min(20), 1)}}},
		{name: "a histogram and the end of its series in one entry, without a window", window: -1, steps: []step{
			{frame: fa().hist(min(1), intHistogram(1)).hist(min(2), intHistogram(2)).float(min(3), staleNaN), written: 3},
		}, want: pts(hp(min(1), intHistogram(1)), hp(min(2), intHistogram(2)), hp(min(3), stale))},
		{name: "out of order, of all kinds", steps: []step{
			{frame: fa().float(min(9), 9), written: 1},
			{frame: fa().float(min(3), 3), written: 1},
			{frame: fa().hist(min(2), intHistogram(2)), written: 1},
			{frame: fa().fhist(min(1), floatHistogram(1)), written: 1},
			{frame: fa().float(min(3), 3).hist(min(2), intHistogram(2)).fhist(min(1), floatHistogram(1)), written: 3},
			{frame: fa().float(min(1), 3).hist(min(3), intHistogram(2)).fhist(min(2), floatHistogram(1)), rejected: map[string]int{duplicate: 3}},
			{event: crashed},
			{frame: fa().float(min(3), 3).hist(min(2), intHistogram(2)).fhist(min(1), floatHistogram(1)), written: 3},
			{event: flushed},
			{frame: fa().float(min(3), 3).hist(min(2), intHistogram(2)).fhist(min(1), floatHistogram(1)), written: 3},
			{frame: fa().float(min(1), 3).hist(min(3), intHistogram(2)).fhist(min(2), floatHistogram(1)), rejected: map[string]int{duplicate: 3}},
		}, want: pts(fhp(min(1), floatHistogram(1)), hp(min(2), intHistogram(2)), fp(min(3), 3), fp(min(9), 9))},
		{name: "more out of order samples than a chunk holds", steps: []step{
			{frame: fa().float(min(9), 9), written: 1},
			{frame: func() *frame {
				f := fa()
				for i := range 100 {
					f.float(min(8)-int64(i)*1000, float64(i))
				}
				return f
			}(), written: 100},
			{frame: func() *frame {
				f := fa()
				for i := range 100 {
					f.float(min(8)-int64(i)*1000, float64(i+i%2)) // every other contradicts
				}
				return f
			}(), written: 50, rejected: map[string]int{duplicate: 50}},
		}, want: pts(append(func() (ps []point) {
			for i := 99; i >= 0; i-- {
				ps = append(ps, fp(min(8)-int64(i)*1000, float64(i)))
			}
			return ps
		}(), fp(min(9), 9))...)},
		{name: "the edge of the window", steps: []step{
			{frame: fa().float(min(60), 1), written: 1},
			{frame: fa().float(min(50), 1), written: 1},
			{frame: fa().float(min(50)-1, 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: fa().float(min(50), 2).float(min(49), 1).float(min(51), 1), written: 1, rejected: map[string]int{outOfOrder: 1, duplicate: 1}},
		}, want: pts(fp(min(50), 1), fp(min(51), 1), fp(min(60), 1))},
		{name: "no window", window: -1, steps: []step{
			{frame: fa().float(min(60), 1), written: 1},
			{frame: fa().float(min(60)-2, 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: fa().float(min(60), 1), written: 1},
			{frame: fa().float(min(60), 2), rejected: map[string]int{duplicate: 1}},
		}, want: pts(fp(min(60), 1))},
		{name: "a window wider than a block", window: 5 * time.Hour, steps: []step{
			{frame: fa().float(min(600), 1), written: 1},
			{frame: fa().float(min(300), 1).float(min(500), 1), written: 2},
			{frame: fa().float(min(299), 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).float(min(400), 1), written: 1},
			{frame: new(frame).series(b).float(min(301), 1), written: 1},
			{frame: new(frame).series(b).float(min(301), 1).float(min(400), 2), written: 1, rejected: map[string]int{duplicate: 1}},
			{event: crashed},
			{frame: new(frame).series(b).float(min(301), 1).float(min(400), 2), written: 1, rejected: map[string]int{duplicate: 1}},
			{event: flushed},
			{frame: new(frame).series(b).float(min(301), 1).float(min(400), 2), written: 1, rejected: map[string]int{duplicate: 1}},
		}, want: map[string][]point{a.String(): {fp(min(300), 1), fp(min(500), 1), fp(min(600), 1)}, b.String(): {fp(min(301), 1), fp(min(400), 1)}}},
		// Half a block is open to series that have had nothing newer, window or not.
		{name: "behind the window, but the first of its series", steps: []step{
			{frame: fa().float(min(120), 1), written: 1},
			{frame: new(frame).series(b).float(min(60), 1).float(min(61), 1), written: 2},
		}, want: map[string][]point{a.String(): {fp(min(120), 1)}, b.String(): {fp(min(60), 1), fp(min(61), 1)}}},
		{name: "a new series' sample is too late", steps: []step{
			{frame: fa().float(min(120), 1), written: 1},
			{frame: new(frame).series(b).float(min(60)-1, 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).hist(min(60)-1, intHistogram(1)), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).float(min(0), 1).float(min(1), 1).float(min(119), 1), written: 1, rejected: map[string]int{outOfOrder: 2}},
		}, want: map[string][]point{a.String(): {fp(min(120), 1)}, b.String(): {fp(min(119), 1)}}},
		{name: "late for a head that was just cut", steps: []step{
			{frame: fa().float(min(20), 1), written: 1},
			{event: flushed},
			{frame: fa().float(min(15), 1), written: 1},
			{frame: fa().float(min(20), 1), written: 1},
			{frame: fa().float(min(15), 2).float(min(20), 2), rejected: map[string]int{duplicate: 2}},
			{frame: fa().float(min(9), 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).float(min(16), 1), written: 1},
			{event: crashed},
			{frame: fa().float(min(15), 1).series(b).float(min(16), 1), written: 2},
			{frame: fa().float(min(21), 1), written: 1},
		}, want: map[string][]point{a.String(): {fp(min(15), 1), fp(min(20), 1), fp(min(21), 1)}, b.String(): {fp(min(16), 1)}}},
		{name: "one timestamp three times in a frame", steps: []step{
			{frame: fa().float(min(9), 9), written: 1},
			{frame: fa().float(min(1), 1).float(min(1), 2).float(min(1), 1), written: 2, rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(1), 2).float(min(1), 2).float(min(1), 1).float(min(1), 2), written: 1, rejected: map[string]int{duplicate: 3}},
			{frame: fa().float(min(9), 1).float(min(9), 1), rejected: map[string]int{duplicate: 2}},
			{frame: fa().float(min(-9), 1).float(min(-9), 1), rejected: map[string]int{outOfOrder: 2}},
			{frame: fa().float(min(10), 1).float(min(10), 2).float(min(10), 1), written: 2, rejected: map[string]int{duplicate: 1}},
		}, want: pts(fp(min(1), 1), fp(min(9), 9), fp(min(10), 1))},
		{name: "one timestamp in two entries of a series in a frame", steps: []step{
			{frame: fa().float(min(9), 9), written: 1},
			{frame: fa().float(min(1), 1).series(b).float(min(1), 5).series(a).float(min(1), 2).series(a).float(min(1), 1),
				written: 3, rejected: map[string]int{duplicate: 1}},
			{frame: fa().hist(min(2), intHistogram(1)).series(a).float(min(2), 1), written: 1, rejected: map[string]int{duplicate: 1}},
			{frame: fa().float(min(10), 1).series(a).float(min(10), 2), written: 1, rejected: map[string]int{duplicate: 1}},
		}, want: map[string][]point{a.String(): {fp(min(1), 1), hp(min(2), intHistogram(1)), fp(min(9), 9), fp(min(10), 1)}, b.String(): {fp(min(1), 5)}}},
		{name: "the frame's own newest sample closes the window", steps: []step{
			{frame: fa().float(min(0), 1).series(b).float(min(0), 1), written: 2},
			{frame: fa().float(min(60), 1).series(b).float(min(-5), 1), written: 1, rejected: map[string]int{outOfOrder: 1}},
		}, want: map[string][]point{a.String(): {fp(min(0), 1), fp(min(60), 1)}, b.String(): {fp(min(0), 1)}}},
		{name: "one bad histogram", steps: []step{
			{frame: fa().hist(min(0), intHistogram(1)), written: 1},
			{frame: fa().hist(min(1), &histogram.Histogram{Count: 5}).hist(min(2), intHistogram(2)), written: 1, rejected: map[string]int{"weir-histogram-invalid": 1}},
			{frame: fa().hist(min(1), intHistogram(2)), written: 1},
		}, want: pts(hp(min(0), intHistogram(1)), hp(min(1), intHistogram(2)), hp(min(2), intHistogram(2)))},
		{name: "the ends of time", steps: []step{
			{frame: fa().float(min(0), 1), written: 1},
			{frame: fa().float(math.MinInt64, 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).float(math.MinInt64, 1), rejected: map[string]int{outOfOrder: 1}},
			{frame: new(frame).series(b).float(math.MinInt64+1, 1), rejected: map[string]int{outOfOrder: 1}},
		}, want: pts(fp(min(0), 1))},
	} {
		for _, labelled := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/labels=%t", c.name, labelled), func(t *testing.T) {
				n := start(t)
				if c.window != 0 {
					n.setLimits(func(l *tenant.Limits) { l.OutOfOrderWindow = max(c.window, 0) })
				}
				for i, s := range c.steps {
					if s.event != nil {
						s.event(n)
						continue
					}
					f := s.frame.only(nil)
					if !labelled {
						f.Labels = nil
					}
					reply := n.send(team, f)
					if s.rejected == nil {
						s.rejected = map[string]int{}
					}
					require.Equal(t, s.rejected, rejections(reply), "step %d", i)
					require.Equal(t, s.written, reply.Written.Total(), "step %d", i)
				}
				require.Equal(t, c.want, n.read(team))
				n.crash()
				require.Equal(t, c.want, n.read(team), "after a crash")
				n.flush(team)
				require.Equal(t, c.want, n.read(team), "after a flush")
			})
		}
	}
}

// A refusal says how late the sample was and what the limit is.
func TestLateDetail(t *testing.T) {
	n := start(t)
	a := metric("a")
	n.write(team, new(frame).series(a).float(at(time.Hour), 1))
	reply := n.write(team, new(frame).known(a).float(at(0), 1))
	require.Len(t, reply.Rejected.Examples, 1)
	x := reply.Rejected.Examples[0]
	require.Equal(t, proto.Example{Reason: proto.SampleOutOfOrder, Series: 0, T: at(0),
		Detail: "1h0m0s older than the tenant's newest sample, the limit out_of_order_window is 10m0s"}, x)

	reply = n.write(team, new(frame).known(metric("x")).known(a).float(at(time.Hour), 2))
	require.Len(t, reply.Rejected.Examples, 1)
	require.Equal(t, proto.SampleDuplicate, reply.Rejected.Examples[0].Reason)
	require.Equal(t, uint32(1), reply.Rejected.Examples[0].Series)
}

// lateModel says what must become of each sample. It knows three things of the
// store: the newest timestamp of the tenant; that a series which has had nothing
// newer may reach back half a block; and that a flush closes the past to all but
// the window.
type lateModel struct {
	block, window int64
	begun         bool
	newest        int64 // of the tenant
	floor         int64 // nothing older may be appended in order
	series        map[string]*modelSeries
}

type modelSeries struct {
	given   int64            // newest timestamp given to the TSDB since it learned the series
	inOrder int64            // newest timestamp appended in order
	stored  map[int64]string // value by timestamp
}

func newLateModel(block, window time.Duration) *lateModel {
	return &lateModel{block: block.Milliseconds(), window: max(window.Milliseconds(), 1), floor: math.MinInt64, series: map[string]*modelSeries{}}
}

func (m *lateModel) of(ls labels.Labels) *modelSeries {
	s := m.series[ls.String()]
	if s == nil {
		s = &modelSeries{given: math.MinInt64, inOrder: math.MinInt64, stored: map[int64]string{}}
		m.series[ls.String()] = s
	}
	return s
}

// modelSample is one sample of a frame, in the order of the frame.
type modelSample struct {
	series    *modelSeries
	first     int // index of the first entry of the series in the frame
	t         int64
	value     string
	histogram bool
}

// key is the value of a sample. Any stale marker is the same one.
func key(f float64, h proto.Histogram) string {
	switch {
	case h.H != nil:
		if value.IsStaleNaN(h.H.Sum) {
			return "stale"
		}
		return histKey(h.H)
	case h.FH != nil:
		if value.IsStaleNaN(h.FH.Sum) {
			return "stale"
		}
		return fhistKey(h.FH)
	case value.IsStaleNaN(f):
		return "stale"
	}
	return floatKey(f)
}

// write returns the expected counts for the series of f that are not skipped.
func (m *lateModel) write(f *frame, skip []uint32) (written proto.Counts, rejected map[string]int) {
	rejected = map[string]int{}
	var samples, late []modelSample
	first := map[*modelSeries]int{}
	var fl, hi uint32
	for i, s := range f.Series {
		if !slices.Contains(skip, uint32(i)) {
			ms := m.of(f.names[i])
			if _, ok := first[ms]; !ok {
				first[ms] = i
			}
			for _, x := range f.Floats[fl : fl+s.Floats] {
				samples = append(samples, modelSample{ms, first[ms], x.T, key(x.V, proto.Histogram{}), false})
			}
			for _, x := range f.Histograms[hi : hi+s.Histograms] {
				samples = append(samples, modelSample{ms, first[ms], x.T, key(0, x), true})
			}
		}
		fl, hi = fl+s.Floats, hi+s.Histograms
	}
	count := func(s modelSample) {
		if s.histogram {
			written.Histograms++
		} else {
			written.Samples++
		}
	}
	decided := func(s modelSample) bool {
		v, ok := s.series.stored[s.t]
		if ok && v == s.value {
			count(s)
		} else if ok {
			rejected[duplicate]++
		}
		return ok
	}
	inOrder := func(s modelSample, newest int64) bool {
		return s.t > s.series.inOrder && s.t >= max(m.floor, newest-m.block/2)
	}
	newest := m.newest
	store := func(s modelSample, inOrder bool) {
		s.series.stored[s.t] = s.value
		if inOrder {
			s.series.inOrder = max(s.series.inOrder, s.t)
			newest = max(newest, s.t)
		}
		count(s)
	}

	// What is newer than all its series has had, under the newest timestamp there
	// was before the frame.
	for _, s := range samples {
		if s.t <= s.series.given {
			late = append(late, s)
			continue
		}
		s.series.given = s.t
		if !m.begun {
			m.begun, m.newest, newest = true, s.t, s.t
		}
		switch {
		case decided(s):
		case inOrder(s, m.newest):
			store(s, true)
		default:
			late = append(late, s)
		}
	}
	m.newest = newest
	// The rest, under the newest timestamp there is now.
	slices.SortStableFunc(late, func(a, b modelSample) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.t, b.t))
	})
	for _, s := range late {
		switch {
		case decided(s):
		case inOrder(s, m.newest):
			store(s, true)
		case s.t >= m.newest-m.window:
			store(s, false)
		default:
			rejected[outOfOrder]++
		}
	}
	m.newest = newest
	return written, rejected
}

// forget follows the ingester's table of series, which loses what the head drops.
func (m *lateModel) forget(n *node) {
	for name, s := range m.series {
		if _, ok := n.find(team).series.index.Find(identity(modelLabels(name))); !ok {
			s.given = math.MinInt64
		}
	}
}

func modelLabels(name string) labels.Labels {
	for _, ls := range modelNames {
		if ls.String() == name {
			return ls
		}
	}
	panic(name)
}

var modelNames = []labels.Labels{metric("a"), metric("a", "x", "y"), metric("b")}

// modelValues are few, so that samples often repeat or contradict.
var modelValues = map[string]func(f *frame, t int64){
	"1":          func(f *frame, t int64) { f.float(t, 1) },
	"2":          func(f *frame, t int64) { f.float(t, 2) },
	"NaN":        func(f *frame, t int64) { f.float(t, payloadNaN) },
	"stale":      func(f *frame, t int64) { f.float(t, staleNaN) },
	"int 1":      func(f *frame, t int64) { f.hist(t, intHistogram(1)) },
	"int 2":      func(f *frame, t int64) { f.hist(t, intHistogram(2)) },
	"int custom": func(f *frame, t int64) { f.hist(t, customHistogram(1)) },
	"int wide": func(f *frame, t int64) {
		f.hist(t, gauge(&histogram.Histogram{Count: 4, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 0, Length: 4}}, PositiveBuckets: []int64{1, 0, 0, 0}}))
	},
	"int narrow": func(f *frame, t int64) {
		f.hist(t, gauge(&histogram.Histogram{Count: 2, Sum: 1, PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}}, PositiveBuckets: []int64{2}}))
	},
	"float 1":      func(f *frame, t int64) { f.fhist(t, floatHistogram(1)) },
	"float custom": func(f *frame, t int64) { f.fhist(t, customFloatHistogram(1)) },
}

// Random frames, flushes, cuts, restarts and crashes: the counts in every reply
// and all that is stored must be the model's.
func TestLateModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const block = time.Hour
		window := rapid.SampledFrom([]time.Duration{0, time.Minute, 10 * time.Minute, 45 * time.Minute, 3 * time.Hour}).Draw(t, "window")
		n := start(t, withWindow(window), withConfig(func(c *Config) { c.BlockDuration = block }))
		m := newLateModel(block, window)
		var floats, histograms []string
		for _, v := range slices.Sorted(maps.Keys(modelValues)) {
			if strings.ContainsAny(v, " ") {
				histograms = append(histograms, v)
			} else if v != "stale" {
				floats = append(floats, v)
			}
		}
		clock := at(0)
		flushes := int64(0)

		write := func(t *rapid.T) {
			f := &frame{}
			// How the store orders what has one series' floats, its end and its histograms
			// in one frame is tested above.
			kinds := [][]string{floats, histograms}
			if rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				kinds = [][]string{append([]string{"stale"}, floats...)}
			}
			ended := map[string]bool{}
			for range rapid.IntRange(1, 5).Draw(t, "series") {
				ls := rapid.SampledFrom(modelNames).Draw(t, "name")
				f.series(ls)
				values := rapid.SampledFrom(kinds).Draw(t, "kind")
				for range rapid.IntRange(0, 4).Draw(t, "samples") {
					ts := clock + rapid.SampledFrom([]int64{
						-3*3600_000 - 1, -3 * 3600_000, -2 * 3600_000, -3600_000, -31 * 60_000, -30 * 60_000, -29 * 60_000, -10*60_000 - 1, -10 * 60_000,
						-60_000, -1000, -1, 0, 0, 0, 1, 2, 1000, 60_000, 11 * 60_000, 31 * 60_000,
					}).Draw(t, "t")
					v := rapid.SampledFrom(values).Draw(t, "value")
					if ended[ls.String()] {
						continue // what follows an end in one frame has a named case of its own
					}
					ended[ls.String()] = v == "stale"
					modelValues[v](f, ts)
				}
			}
			if rapid.Bool().Draw(t, "known") {
				f.Labels = nil
			}
			sent := f.only(nil).as(f)
			reply := n.write(team, sent)
			written, rejected := m.write(f, reply.Unknown)
			require.Equal(t, rejected, rejections(reply))
			require.Equal(t, written, reply.Written)
			if len(reply.Unknown) == 0 {
				return
			}
			require.Empty(t, f.Labels)
			f = f.only(reply.Unknown)
			reply = n.write(team, f.only(nil))
			require.Empty(t, reply.Unknown, "series whose labels were sent")
			written, rejected = m.write(f, nil)
			require.Equal(t, rejected, rejections(reply))
			require.Equal(t, written, reply.Written)
		}
		// Each flush moves the store's newest timestamp, and what it takes in order, one
		// millisecond beyond the newest sample; a start may take that back.
		follow := func() {
			tdb := n.find(team)
			if tdb == nil || !m.begun {
				return
			}
			newest := tdb.db.Head().MaxTime()
			require.GreaterOrEqual(t, newest, m.newest-flushes)
			require.LessOrEqual(t, newest, m.newest+flushes)
			m.newest = newest
			if floor, ok := tdb.db.Head().AppendableMinValidTime(); ok && floor < m.floor {
				require.GreaterOrEqual(t, floor, m.floor-flushes)
				m.floor = floor
			}
			m.forget(n)
		}
		check := func() {
			want := map[string]map[int64]string{}
			for name, s := range m.series {
				if len(s.stored) > 0 {
					want[name] = maps.Clone(s.stored)
				}
			}
			got := map[string]map[int64]string{}
			for name, ps := range n.read(team) {
				got[name] = map[int64]string{}
				for _, p := range ps {
					if strings.Contains(p.V, fmt.Sprintf("sum=%x", value.StaleNaN)) || p.V == floatKey(staleNaN) {
						p.V = "stale"
					}
					got[name][p.T] = p.V
				}
			}
			require.Equal(t, want, got)
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": write, "write 2": write, "write 3": write, "write 4": write, "write 5": write,
			"write 6": write, "write 7": write, "write 8": write, "write 9": write,
			"later": func(t *rapid.T) {
				clock += rapid.SampledFrom([]int64{1, 1000, 60_000, 20 * 60_000, 2 * 3600_000}).Draw(t, "by")
			},
			"flush": func(t *rapid.T) {
				tdb := n.find(team)
				if tdb == nil {
					t.Skip("nothing to flush")
				}
				n.flush(team)
				flushes++
				follow()
				m.floor = max(m.floor, m.newest)
			},
			"cut": func(t *rapid.T) {
				tdb := n.find(team)
				if tdb == nil {
					t.Skip("nothing to cut")
				}
				require.NoError(t, tdb.maintain(t.Context(), time.Now(), 0))
				follow()
			},
			"restart": func(*rapid.T) {
				n.restart()
				follow()
			},
			"crash": func(*rapid.T) {
				n.crash()
				follow()
			},
			"read": func(*rapid.T) { check() },
		})
		check()
		n.crash()
		check()
		if n.find(team) != nil {
			n.flush(team)
			check()
		}
	})
}
