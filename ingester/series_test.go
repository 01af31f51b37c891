package ingester

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// A series without labels is stored when the ingester knows it, whatever the
// handle says; the reply corrects the handle.
func TestHandles(t *testing.T) {
	a, b := metric("a"), metric("b")
	n := start(t)
	reply := n.write(team, new(frame).series(a).float(at(0), 1).series(b).float(at(0), 1))
	require.Equal(t, []proto.SeriesHandle{{Series: 0, Handle: 0}, {Series: 1, Handle: 1}}, reply.Handles)

	for i, c := range []struct {
		name   string
		handle uint32
		right  bool
	}{
		{"right", 1, true},
		{"none", proto.NoHandle, false},
		{"another series'", 0, false},
		{"nobody's", 2, false},
		{"beyond the table's pages", 64, false},
		{"far beyond", math.MaxUint32 - 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := new(frame).known(b).float(at(time.Duration(i+1)*time.Second), 1)
			f.last().Handle = c.handle
			reply := n.write(team, f)
			writtenAll(t, f, reply)
			if c.right {
				require.Empty(t, reply.Handles)
			} else {
				require.Equal(t, []proto.SeriesHandle{{Series: 0, Handle: 1}}, reply.Handles)
			}
		})
	}
	require.Len(t, n.read(team)[a.String()], 1)
	require.Len(t, n.read(team)[b.String()], 7)

	t.Run("of an unknown series", func(t *testing.T) {
		f := new(frame).known(metric("c")).float(at(0), 1)
		f.last().Handle = 1
		require.Equal(t, []uint32{0}, n.write(team, f).Unknown)
	})
	t.Run("from before a restart", func(t *testing.T) {
		n.restart()
		f := new(frame).known(b).float(at(time.Minute), 1)
		f.last().Handle = 1
		require.Equal(t, []uint32{0}, n.write(team, f).Unknown, "nothing is known by identity after a start")
	})
}

// Of a series that is unknown and came without labels, nothing is stored and
// nothing is counted but its being unknown.
func TestUnknown(t *testing.T) {
	a, b, c := metric("a"), metric("b"), metric("c")
	for _, tc := range []struct {
		name    string
		frame   *frame
		unknown []uint32
		written int
	}{
		{"float", new(frame).known(b).float(at(0), 1), []uint32{0}, 0},
		{"histogram", new(frame).known(b).hist(at(0), intHistogram(1)), []uint32{0}, 0},
		{"exemplar", new(frame).known(b).exemplar(at(0), 1, "trace", "x"), []uint32{0}, 0},
		{"all of them, with known series around", new(frame).known(a).float(at(1*time.Second), 1).exemplar(at(0), 1).
			known(b).float(at(1*time.Second), 1).hist(at(2*time.Second), intHistogram(1)).exemplar(at(1*time.Second), 1).
			known(a).float(at(2*time.Second), 1).known(c).exemplar(at(1*time.Second), 1).known(a).exemplar(at(3*time.Second), 2), []uint32{1, 3}, 4},
		{"the same one twice", new(frame).known(b).float(at(0), 1).known(b).float(at(1*time.Second), 1), []uint32{0, 1}, 0},
		{"nothing to store", new(frame).known(b).known(c), nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := start(t)
			n.write(team, new(frame).series(a).float(at(0), 1))
			reply := n.write(team, tc.frame)
			require.Equal(t, tc.unknown, append([]uint32(nil), reply.Unknown...))
			require.Equal(t, tc.written, reply.Written.Total())
			if tc.unknown == nil {
				return
			}
			require.NotContains(t, n.read(team), b.String())
			require.NotContains(t, n.read(team), c.String())
			taught := tc.frame.only(tc.unknown)
			writtenAll(t, taught, n.write(team, taught))
		})
	}
}

// dropFromHead cuts everything in the head of the tenant into blocks and so
// drops its series, as maintenance does, but does not sweep the table yet.
func (n *node) dropFromHead(id string) {
	n.tb.Helper()
	db := n.find(id).db
	require.NoError(n.tb, db.CompactHead(tsdb.NewRangeHead(db.Head(), db.Head().MinTime(), db.Head().MaxTime())))
	require.NoError(n.tb, db.CompactOOOHead(context.Background()))
	require.Zero(n.tb, db.Head().NumSeries())
}

// Between the moment the head drops a series and the sweep of the table, the
// table still has the series and its old reference.
func TestDroppedSeries(t *testing.T) {
	a, b, c := metric("a"), metric("b"), metric("c")
	full := func() *frame {
		return new(frame).series(a).float(at(0), 1).float(at(time.Minute), 2).series(b).float(at(time.Minute), 1).exemplar(at(0), 1).series(c).float(at(time.Minute), 1)
	}
	for _, tc := range []struct {
		name     string
		frame    *frame // with labels
		written  int
		rejected map[string]int
	}{
		{"newer samples", new(frame).series(a).float(at(2*time.Minute), 3).series(b).hist(at(2*time.Minute), intHistogram(1)), 2, nil},
		{"late samples", new(frame).series(a).float(at(30*time.Second), 3), 1, nil},
		{"late and newer samples", new(frame).series(a).float(at(30*time.Second), 3).float(at(2*time.Minute), 3), 2, nil},
		{"late and newer samples of two series", new(frame).series(a).float(at(30*time.Second), 3).float(at(2*time.Minute), 3).
			series(b).float(at(30*time.Second), 3).float(at(2*time.Minute), 3).exemplar(at(time.Minute), 1), 5, nil},
		{"late samples, then exemplars of the next series", new(frame).series(a).float(at(30*time.Second), 3).float(at(2*time.Minute), 3).
			series(metric("new")).float(at(2*time.Minute), 1).exemplar(at(time.Minute), 1), 4, nil},
		{"repeated samples", full(), 5, nil},
		{"contradicting samples", new(frame).series(a).float(at(0), 3).float(at(time.Minute), 2).series(b).float(at(time.Minute), 7), 1, map[string]int{duplicate: 2}},
		{"too late samples", new(frame).series(a).float(at(-time.Hour), 1).series(b).float(at(2*time.Minute), 1), 1, map[string]int{outOfOrder: 1}},
		{"exemplars with samples", new(frame).series(a).float(at(2*time.Minute), 1).exemplar(at(0), 2), 2, nil},
		{"exemplars alone", new(frame).series(metric("live")).float(at(2*time.Minute), 1).series(a).exemplar(at(0), 2), 2, nil},
	} {
		if tc.rejected == nil {
			tc.rejected = map[string]int{}
		}
		// The two ways to the same end: labels at once, or when they are asked for.
		for _, labelled := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/labels=%t", tc.name, labelled), func(t *testing.T) {
				n := start(t)
				writtenAll(t, full(), n.write(team, full()))
				want := n.read(team)
				n.dropFromHead(team)
				require.Equal(t, want, n.read(team))

				f := tc.frame.only(nil)
				if !labelled {
					f.Labels = nil
				}
				reply := n.send(team, f)
				require.Equal(t, tc.rejected, rejections(reply))
				require.Equal(t, tc.written, reply.Written.Total())

				n.find(team).sweep()
				got := n.send(team, tc.frame.only(nil))
				require.Equal(t, tc.rejected, rejections(got), "and the same again")
				require.Equal(t, tc.written, got.Written.Total(), "and the same again")
			})
		}
	}
}

// Of a series that comes several times in a frame, one entry with labels is enough.
func TestLabelsWithOneEntry(t *testing.T) {
	a, b := metric("a"), metric("b")
	n := start(t)
	n.write(team, new(frame).series(a).float(at(time.Minute), 1).series(b).float(at(time.Minute), 1))
	n.dropFromHead(team)
	f := new(frame).known(b).float(at(2*time.Minute), 1)
	require.Equal(t, []uint32{0}, n.write(team, f).Unknown)
	f = new(frame).series(a).float(at(30*time.Second), 3).known(a).float(at(20*time.Second), 2)
	writtenAll(t, f, n.write(team, f))
	require.Len(t, n.read(team)[a.String()], 3)
}

// The sweep drops what the head dropped, and nothing else.
func TestSweep(t *testing.T) {
	n := start(t)
	name := func(i int) labels.Labels { return metric("m", "i", fmt.Sprint(i)) }
	old := &frame{}
	for i := range 300 {
		old.series(name(i)).float(at(0), 1)
	}
	handles := n.write(team, old).Handles
	tdb := n.find(team)
	require.Equal(t, 300, tdb.series.len())

	// Every third series goes on beyond what is cut.
	alive := &frame{}
	for i := 0; i < 300; i += 3 {
		alive.known(name(i)).float(at(4*time.Hour), 1)
		alive.last().Handle = handles[i].Handle
	}
	reply := n.write(team, alive)
	writtenAll(t, alive, reply)
	require.Empty(t, reply.Handles)
	n.pass(team, time.Hour)
	require.NoError(t, tdb.maintain(t.Context(), time.Now(), 0))
	require.Equal(t, 1, n.blocks(team))
	require.EqualValues(t, 100, tdb.db.Head().NumSeries())
	require.Equal(t, 100, tdb.series.len())
	require.Empty(t, tdb.dropped)

	// Old handles of live series are corrected, and what their timestamps were is
	// still known.
	next := &frame{}
	for i := range 300 {
		next.known(name(i)).float(at(4*time.Hour), 2)
		next.last().Handle = handles[i].Handle
	}
	reply = n.write(team, next)
	require.Equal(t, map[string]int{duplicate: 100}, rejections(reply))
	require.Len(t, reply.Unknown, 200)
	for _, h := range reply.Handles {
		next.Series[h.Series].Handle = h.Handle
	}
	reply = n.write(team, next)
	require.Empty(t, reply.Handles, "the handles that were answered are right")

	// Nothing to sweep leaves everything.
	tdb.sweep()
	require.Equal(t, 100, tdb.series.len())
}

// A write that is under way while the table is swept must not lose track of the
// series' newest timestamp: another writer with the same timestamp and another
// value would be told that it was stored, too.
func TestSweepWhileWriting(t *testing.T) {
	a := metric("a")
	n := start(t)
	n.write(team, new(frame).series(a).float(at(0), 0))
	tdb := n.find(team)

	// A frame that takes long, with the contested sample at its beginning.
	long := new(frame).known(a).float(at(time.Second), 1)
	for i := range 30_000 {
		long.series(metric("filler", "i", fmt.Sprint(i))).float(at(0), 1)
	}
	tdb.commits.Lock() // as the sweep does
	known := tdb.series.len()
	var first proto.Reply
	done := make(chan error)
	go func() { done <- n.Write(context.Background(), team, &long.Frame, &first) }()
	for range 1_000_000 { // until the writer has looked its series up, if it does so already
		if tdb.series.len() > known {
			break
		}
		runtime.Gosched()
	}
	tdb.series.sweep(map[storage.SeriesRef]struct{}{1 << 40: {}})
	tdb.commits.Unlock()
	for tdb.db.Head().NumSeries() < 2 { // the contested sample is appended, not committed
		runtime.Gosched()
	}
	second := n.write(team, new(frame).known(a).float(at(time.Second), 2))
	require.NoError(t, <-done)
	require.NoError(t, accounts(long, &first))
	written := first.Written.Samples - 30_000 + second.Written.Samples
	require.Equal(t, 1, written, "of two values at one timestamp")
	require.Len(t, n.read(team)[a.String()], 2)
}
