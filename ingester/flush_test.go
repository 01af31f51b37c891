package ingester

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// A flush cuts everything into blocks at block borders and leaves nothing in
// memory; all of it is read as before.
func TestFlush(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name   string
		block  time.Duration
		window time.Duration
		write  func(n *node)
		blocks int
	}{
		{"one block", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(at(0), 1).float(at(2*hour)-1, 2))
		}, 1},
		{"one sample at a border", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(at(2*hour), 1))
		}, 1},
		{"both sides of a border", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(at(2*hour)-1, 1).float(at(2*hour), 2))
		}, 2},
		{"several blocks", hour, 0, func(n *node) {
			for i := range 100 {
				n.write(team, new(frame).series(metric("a")).float(at(time.Duration(i)*5*time.Minute), float64(i)).
					series(metric("b")).hist(at(time.Duration(i)*5*time.Minute), intHistogram(uint64(i))))
			}
		}, 9},
		{"a gap of a year", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(at(-365*24*hour), 1).float(at(0), 1))
		}, 2},
		{"late samples have blocks of their own", 2 * hour, 10 * time.Minute, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(at(5*time.Minute), 1))
			n.write(team, new(frame).known(metric("a")).float(at(time.Minute), 1).float(at(-time.Minute), 1).hist(at(2*time.Minute), intHistogram(1)))
		}, 3},
		{"1970", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(-2*3600_000, 1).float(-2*3600_000+1, 2).float(-1, 3).float(0, 4).float(1, 5))
		}, 2},
		{"before 1970, not at a border", 2 * hour, 0, func(n *node) {
			n.write(team, new(frame).series(metric("a")).float(-3*3600_000, 1).float(-2*3600_000-1, 2).float(-2*3600_000, 2).float(5, 3))
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, withConfig(func(cfg *Config) { cfg.BlockDuration, cfg.Retention = c.block, 10*365*24*hour }), withWindow(c.window))
			c.write(n)
			want := n.read(team)
			require.NotEmpty(t, want)
			n.pass(team, hour)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			require.NoError(t, n.Flush(ctx, team))
			require.Equal(t, want, n.read(team))
			require.Equal(t, c.blocks, n.blocks(team))
			tdb := n.find(team)
			require.Zero(t, tdb.db.Head().NumSeries())
			require.Zero(t, tdb.series.len())
			length := c.block.Milliseconds()
			for _, b := range tdb.db.Blocks() {
				first, last := b.MinTime(), b.MaxTime()-1 // a block's end is exclusive
				require.Equal(t, math.Floor(float64(first)/float64(length)), math.Floor(float64(last)/float64(length)), "the block from %d to %d crosses a border", first, last)
			}
			mint, maxt, ok := n.Extent(team)
			require.True(t, ok)
			for _, ps := range want {
				require.LessOrEqual(t, mint, ps[0].T)
				require.GreaterOrEqual(t, maxt, ps[len(ps)-1].T)
			}

			require.NoError(t, n.Flush(ctx, team), "again")
			require.Equal(t, c.blocks, n.blocks(team))
			n.crash()
			require.Equal(t, want, n.read(team))
			require.Equal(t, c.blocks, n.blocks(team))
		})
	}
}

func TestFlushTenants(t *testing.T) {
	n := start(t)
	for _, id := range []string{"a", "b", "c"} {
		n.write(id, new(frame).series(metric("m", "of", id)).float(at(0), 1))
	}
	n.flush("b")
	require.Equal(t, []int{0, 1, 0}, []int{n.blocks("a"), n.blocks("b"), n.blocks("c")})
	n.flush("")
	require.Equal(t, []int{1, 1, 1}, []int{n.blocks("a"), n.blocks("b"), n.blocks("c")})

	err := n.Flush(t.Context(), "nobody")
	require.Equal(t, proto.KindNotFound, proto.KindOf(err), "%v", err)
	require.Nil(t, n.find("nobody"))

	n.stop()
	err = n.Flush(t.Context(), "a")
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
}

// A flush that is interrupted leaves everything readable and the tenant
// writable, and can be done again.
func TestFlushInterrupted(t *testing.T) {
	n := start(t)
	a := metric("a")
	f := new(frame).series(a)
	for i := range 10 {
		f.float(at(time.Duration(i)*time.Hour), float64(i))
	}
	writtenAll(t, f, n.write(team, f))
	want := n.read(team)

	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, n.Flush(ctx, team), cause)
	require.Equal(t, want, n.read(team))

	again := n.send(team, f.without())
	require.Empty(t, rejections(again), "the flush has left its mark")
	n.flush(team)
	require.Equal(t, want, n.read(team))
	n.restart()
	require.Equal(t, want, n.read(team))
}

// Writers go on while the tenant is flushed again and again. What they are told
// is written is there; what is refused because of the flush is written when they
// repeat it.
func TestFlushWhileWriting(t *testing.T) {
	const writers, frames, flushes = 3, 150, 8
	n := start(t)
	n.write(team, new(frame).series(metric("m", "w", "first")).float(at(0), 1))
	var (
		g       errgroup.Group
		refused atomic.Int64
		clock   atomic.Int64
		stopped atomic.Int64
	)
	for w := range writers {
		ls := metric("m", "w", fmt.Sprint(w))
		late := metric("late", "w", fmt.Sprint(w))
		g.Go(func() error {
			defer stopped.Add(1)
			for i := range frames {
				ts := t0 + clock.Add(500)
				f := new(frame).series(ls).float(ts, float64(i)).series(late).hist(ts-3000, intHistogram(uint64(i)))
				for {
					var reply proto.Reply
					err := n.Write(context.Background(), team, &f.only(nil).Frame, &reply)
					var e *proto.Error
					if errors.As(err, &e) && e.ID == "weir-flush-running" {
						if e.Kind != proto.KindUnavailable {
							return fmt.Errorf("a sender must repeat: %w", err)
						}
						refused.Add(1)
						for n.find(team).cutting.Load() != notCutting {
							runtime.Gosched()
						}
						continue
					}
					if err != nil {
						return err
					}
					if reply.Written.Total() != 2 {
						return fmt.Errorf("frame %d: %+v, %v", i, reply.Written, rejections(&reply))
					}
					break
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for i := 0; i < flushes || stopped.Load() < writers; i++ {
			if err := n.Flush(context.Background(), team); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, g.Wait())
	check := func() {
		t.Helper()
		got := n.read(team)
		require.Len(t, got, 2*writers+1)
		for name, ps := range got {
			if name != metric("m", "w", "first").String() {
				require.Len(t, ps, frames, name)
			}
		}
	}
	check()
	require.NotZero(t, n.blocks(team))
	n.crash()
	check()
	t.Logf("%d refused, %d blocks", refused.Load(), n.blocks(team))
}

// A frame is refused as a whole while a flush cuts the time of one of its
// samples; newer ones are taken.
func TestWritesRefusedWhileCutting(t *testing.T) {
	n := start(t)
	a := metric("a")
	n.write(team, new(frame).series(a).float(at(0), 1))
	tdb := n.find(team)
	tdb.cutting.Store(at(0)) // as flush does
	for _, c := range []struct {
		name    string
		frame   *frame
		refused bool
	}{
		{"newer float", new(frame).known(a).float(at(0)+1, 1), false},
		{"float of the cut", new(frame).known(a).float(at(0), 1), true},
		{"older float", new(frame).known(a).float(at(-time.Minute), 1), true},
		{"both", new(frame).known(a).float(at(0)+2, 1).float(at(0), 1), true},
		{"histogram of the cut", new(frame).known(a).hist(at(0), intHistogram(1)), true},
		{"newer histogram", new(frame).known(a).hist(at(time.Second), intHistogram(1)), false},
		{"exemplar and metadata", new(frame).known(a).exemplar(at(-time.Minute), 1, "trace", "x"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reply proto.Reply
			err := n.Write(t.Context(), team, &c.frame.Frame, &reply)
			if c.refused {
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
				require.ErrorContains(t, err, "weir-flush-running")
			} else {
				require.NoError(t, err)
				writtenAll(t, c.frame, &reply)
			}
		})
	}
	require.Len(t, n.read(team)[a.String()], 3, "nothing of the refused frames is stored")
}

// The head is cut when it holds more than one and a half blocks' time, and not
// before the tenant's share of the spread has passed.
func TestMaintain(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.BlockDuration = time.Hour }))
	a := metric("a")
	ctx := t.Context()
	now := time.Now()
	n.write(team, new(frame).series(a).float(at(0), 1).series(metric("ended")).float(at(0), 1))
	tdb := n.find(team)
	maintain := func(d time.Duration) {
		t.Helper()
		require.NoError(t, tdb.maintain(ctx, now.Add(d), 8*time.Hour))
	}
	jitter := tdb.jitter(8 * time.Hour)

	n.write(team, new(frame).known(a).float(at(90*time.Minute), 1))
	maintain(0)
	require.Zero(t, tdb.compactable, "exactly one and a half blocks stay")
	maintain(1000 * time.Hour)
	require.Zero(t, n.blocks(team))

	n.write(team, new(frame).known(a).float(at(90*time.Minute)+1, 1).float(at(91*time.Minute), 1))
	n.write(team, new(frame).known(a).float(at(85*time.Minute), 1))
	want := n.read(team)
	maintain(0)
	require.Zero(t, n.blocks(team), "its turn comes in %s", jitter)
	maintain(jitter - 1)
	require.Zero(t, n.blocks(team))
	n.pass(team, time.Hour)
	maintain(jitter)
	require.Equal(t, 2, n.blocks(team), "one of the head, one of late samples")
	require.Equal(t, want, n.read(team))
	require.Zero(t, tdb.compactable)
	require.Equal(t, 1, tdb.series.len(), "the series that ended is swept")
	for _, b := range tdb.db.Blocks() {
		if meta := b.Meta(); !meta.Compaction.FromOutOfOrder() {
			require.Equal(t, []int64{at(0), at(time.Hour)}, []int64{b.MinTime(), b.MaxTime()})
		}
	}
	n.restart()
	require.Equal(t, want, n.read(team))

	// Several blocks at once, after a long break.
	n.write(team, new(frame).series(a).float(at(9*time.Hour), 1))
	want = n.read(team)
	tdb = n.find(team)
	require.NoError(t, tdb.maintain(ctx, now, 0))
	require.Equal(t, want, n.read(team))
	require.EqualValues(t, 1, tdb.db.Head().NumSeries())

	// Nothing happens to a tenant that is closed, or empty.
	n.stop()
	require.NoError(t, tdb.maintain(ctx, now, 0))
}

// What cannot be saved of the metadata must not keep the head from being cut.
func TestMaintainWithoutMetadata(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.BlockDuration = time.Hour }))
	f := new(frame).series(metric("a")).float(at(0), 1).float(at(2*time.Hour), 1)
	f.Metadata = []proto.Metadata{{Family: "a", Metadata: metadata.Metadata{Type: "counter", Help: "Help."}}}
	writtenAll(t, f, n.write(team, f))
	require.NoError(t, os.MkdirAll(filepath.Join(n.dir, team, metadataFile, "in the way"), 0o755))
	tdb := n.find(team)
	_ = tdb.maintain(t.Context(), time.Now(), 0) // reports it, or logs it
	require.Equal(t, 1, n.blocks(team))
	require.NoError(t, os.RemoveAll(filepath.Join(n.dir, team, metadataFile)))
	require.NoError(t, tdb.maintain(t.Context(), time.Now(), 0))
	n.restart()
	got, err := n.Metadata(t.Context(), team, "")
	require.NoError(t, err)
	require.Len(t, got, 1)
}

// The background work does what the tests above do by hand, and counts failures.
func TestMaintenanceRuns(t *testing.T) {
	n := start(t, withConfig(func(c *Config) {
		c.BlockDuration, c.MaintenanceInterval = 80*time.Millisecond, time.Millisecond // tenants are spread over 10 ms
	}))
	n.write(team, new(frame).series(metric("a")).float(at(0), 1).float(at(time.Second), 1))
	require.Eventually(t, func() bool { return n.blocks(team) > 0 }, 10*time.Second, time.Millisecond)
	require.Zero(t, testutil.ToFloat64(n.metrics.maintenanceFailures))

	// A cut that keeps failing is tried again: here because of a block without index.
	broken := filepath.Join(n.dir, team, "01HF0000000000000000000000")
	require.NoError(t, os.Mkdir(broken, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "meta.json"),
		[]byte(`{"version":1,"ulid":"01HF0000000000000000000000","minTime":0,"maxTime":1}`), 0o644))
	f := new(frame).series(metric("a")).float(at(2*time.Second), 1).float(at(3*time.Second), 1)
	writtenAll(t, f, n.write(team, f))
	require.Eventually(t, func() bool { return testutil.ToFloat64(n.metrics.maintenanceFailures) > 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, os.RemoveAll(broken))
	blocks := n.blocks(team)
	require.Eventually(t, func() bool { return n.blocks(team) > blocks }, 10*time.Second, time.Millisecond)
	require.Len(t, n.read(team)[metric("a").String()], 4)
	n.stop()
	require.Contains(t, n.log.String(), "will try again")
}

// Tenants take turns: their shares are spread evenly over the time there is.
func TestJitter(t *testing.T) {
	const tenants = 2000
	for _, d := range []time.Duration{7500 * time.Millisecond, 15 * time.Minute, 3 * time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			var tenths [10]int
			for i := range tenants {
				j := (&tenantDB{id: fmt.Sprintf("tenant-%d", i)}).jitter(d)
				require.GreaterOrEqual(t, j, time.Duration(0))
				require.LessOrEqual(t, j, d)
				tenths[min(9, int(10*j/d))]++
			}
			for i, got := range tenths {
				require.InDelta(t, tenants/10, got, tenants/20, "tenth %d of %v", i, tenths)
			}
		})
	}
	require.Zero(t, (&tenantDB{id: "x"}).jitter(0))
	require.Equal(t, (&tenantDB{id: "x"}).jitter(time.Hour), (&tenantDB{id: "x"}).jitter(time.Hour))
}

// Blocks that are older than the retention go.
func TestRetention(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.BlockDuration, c.Retention = time.Hour, 3*time.Hour }), withLimits(func(l *tenant.Limits) {}))
	ls := metric("a")
	for i := range 8 {
		f := new(frame).series(ls).float(at(time.Duration(i)*time.Hour), float64(i))
		writtenAll(t, f, n.write(team, f))
		n.flush(team)
	}
	got := n.read(team)[ls.String()]
	require.Equal(t, at(7*time.Hour), got[len(got)-1].T)
	require.GreaterOrEqual(t, got[0].T, at(3*time.Hour), "retention is 3h")
	require.LessOrEqual(t, got[0].T, at(5*time.Hour))
}
