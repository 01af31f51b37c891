package ingester

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

func TestIdleAction(t *testing.T) {
	const idle = 3 * time.Hour
	for _, c := range []struct {
		name              string
		series            uint64
		unwritten, unused time.Duration
		want              action
	}{
		{"at work", 5, 0, 0, actionNone},
		{"read only, for a while", 5, idle - 1, 0, actionNone},
		{"not written for long, though read", 5, idle, 0, actionFlush},
		{"cut, and read", 0, idle, unusedAfter - 1, actionNone},
		{"cut, and not read", 0, idle, unusedAfter, actionClose},
		{"cut by hand, and forgotten", 0, unusedAfter, unusedAfter, actionClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, idleAction(c.series, c.unwritten, c.unused, idle))
		})
	}
}

// forever keeps what tests write, which is some years old.
func forever(c *Config) { c.Retention = 100 * 365 * 24 * time.Hour }

// keepAll does for every tenant what maintenance does at a time.
func (n *node) keepAll(now time.Time) {
	n.tb.Helper()
	for _, s := range n.all() {
		require.NoError(n.tb, n.keep(context.Background(), s, now))
	}
}

// rest closes every tenant, as if nobody had used it for long.
func (n *node) rest() {
	n.tb.Helper()
	n.flush("")
	for _, s := range n.all() {
		require.NoError(n.tb, n.retire(s))
	}
	require.Zero(n.tb, n.count(stateOpen))
}

// A tenant that nobody writes to is cut, one that nobody reads either is closed;
// both are there when somebody comes.
func TestIdle(t *testing.T) {
	n := start(t, withConfig(forever))
	a := metric("a")
	f := new(frame).series(a).float(at(0), 1).float(at(2*time.Hour), 2).series(metric("h")).hist(at(0), intHistogram(1))
	f.Metadata = []proto.Metadata{{Family: "a", Metadata: metadata.Metadata{Type: "counter", Help: "Help."}}}
	writtenAll(t, f, n.write(team, f))
	late := new(frame).known(a).float(at(110*time.Minute), 3)
	writtenAll(t, late, n.write(team, late))
	want := n.read(team)
	seen := time.Now()
	n.keepAll(seen)
	n.keepAll(seen.Add(n.cfg.IdleTimeout - 1))
	require.EqualValues(t, 2, n.find(team).db.Head().NumSeries(), "not idle yet")

	n.read(team)
	n.keepAll(seen.Add(n.cfg.IdleTimeout))
	require.Zero(t, n.find(team).db.Head().NumSeries())
	require.Equal(t, 3, n.blocks(team), "two of the head, one of late samples")
	require.Equal(t, want, n.read(team))
	n.keepAll(seen.Add(n.cfg.IdleTimeout + unusedAfter - 1))
	n.keepAll(seen.Add(n.cfg.IdleTimeout + 2*unusedAfter - 2))
	require.NotNil(t, n.find(team), "somebody reads it")
	n.keepAll(seen.Add(n.cfg.IdleTimeout + 2*unusedAfter))
	require.Nil(t, n.find(team))
	require.Equal(t, 1.0, n.count(stateClosed))
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.retired))
	for _, name := range []string{walDir, "wbl", headChunksDir} {
		require.NoDirExists(t, filepath.Join(n.dir, team, name))
	}
	mint, maxt, ok := n.Extent(team)
	require.True(t, ok && mint <= t0 && maxt >= at(2*time.Hour), "%d %d %t", mint, maxt, ok)
	require.Nil(t, n.find(team), "the extent is known without opening it")
	n.flush(team) // does nothing
	require.Nil(t, n.find(team))

	n.restart()
	require.Nil(t, n.find(team), "nor does a start open it")
	m, m2, ok := n.Extent(team)
	require.Equal(t, []any{mint, maxt, true}, []any{m, m2, ok})

	require.Equal(t, want, n.read(team), "a read opens it")
	require.NotNil(t, n.find(team))
	n.rest()
	got, err := n.Metadata(t.Context(), team, "")
	require.NoError(t, err)
	require.Len(t, got, 1)
	n.rest()

	// A write opens it; what is in blocks still repeats, contradicts and is late.
	again := new(frame).series(a).float(at(2*time.Hour), 2).float(at(110*time.Minute), 4).float(at(119*time.Minute), 5).float(at(121*time.Minute), 6)
	reply := n.write(team, again)
	require.Equal(t, 3, reply.Written.Samples, "%v", rejections(reply))
	require.Equal(t, map[string]int{duplicate: 1}, rejections(reply))
	n.crash()
	require.Len(t, n.read(team)[a.String()], 5)
}

// Whoever is at it keeps a tenant open: a reader, a writer, a failure.
func TestInUse(t *testing.T) {
	n := start(t, withConfig(forever))
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	n.flush(team)
	s, tdb := n.look(team)
	q, err := n.ChunkQuerier(team, t0, at(time.Hour))
	require.NoError(t, err)
	require.NoError(t, n.retire(s))
	require.Same(t, tdb, n.find(team), "a reader")
	require.NoError(t, q.Close())
	_ = q.Close() // once more does not count
	n.write(team, new(frame).series(metric("a")).float(at(time.Minute), 1))
	require.NoError(t, n.retire(s))
	require.Same(t, tdb, n.find(team), "a sample that came after the cut")
	n.flush(team)
	require.NoError(t, n.retire(s))
	require.Nil(t, n.find(team))
	require.Len(t, n.read(team)[metric("a").String()], 2)
}

// A tenant goes with its last block, block by block, and can come back.
func TestRemoved(t *testing.T) {
	n := start(t, withConfig(func(c *Config) { c.BlockDuration, c.Retention = time.Hour, 48*time.Hour; c.MaxTenants = 2 }))
	a := metric("a")
	n.write(team, new(frame).series(a).float(at(0), 1).float(at(25*time.Hour), 1))
	n.write("empty", new(frame).known(a).float(at(0), 1))
	n.rest()
	s := n.slots[team]
	t48 := time.UnixMilli(at(48 * time.Hour))
	require.NoError(t, n.keep(t.Context(), s, t48))
	require.Len(t, n.read(team)[a.String()], 2)
	n.rest()
	require.NoError(t, n.keep(t.Context(), s, t48.Add(time.Hour+time.Millisecond)))
	require.Equal(t, at(25*time.Hour), n.read(team)[a.String()][0].T, "the first block is gone")
	n.rest()

	require.NoError(t, n.keep(t.Context(), n.slots["empty"], t48))
	require.NotContains(t, n.slots, "empty")
	require.NoDirExists(t, filepath.Join(n.dir, "empty"))
	_, _, ok := n.Extent("empty")
	require.False(t, ok)
	require.Empty(t, n.read("empty"))

	require.NoError(t, n.keep(t.Context(), s, t48.Add(26*time.Hour)))
	require.Empty(t, n.slots)
	require.NoDirExists(t, filepath.Join(n.dir, team))
	require.Equal(t, 2.0, testutil.ToFloat64(n.metrics.removed))
	require.NoError(t, n.wake(s), "one who had looked it up before looks again")
	for _, id := range []string{team, "another"} { // there is room for two
		f := new(frame).series(a).float(at(0), 1)
		writtenAll(t, f, n.write(id, f))
		require.Len(t, n.read(id), 1)
	}
}

// What a removal left behind when it was interrupted goes at the next start.
func TestRemovalInterrupted(t *testing.T) {
	n := start(t)
	left := filepath.Join(n.dir, removedPrefix+team)
	require.NoError(t, os.Mkdir(left, 0o755))
	n.restart()
	require.NoDirExists(t, left)
	require.Empty(t, n.slots)
}

// A block whose meta.json is not readable is nobody's to delete.
func TestUnreadableBlockStays(t *testing.T) {
	n := start(t)
	n.write(team, new(frame).series(metric("a")).float(at(0), 1))
	n.rest()
	broken := filepath.Join(n.dir, team, "01HF0000000000000000000000")
	require.NoError(t, os.Mkdir(broken, 0o755))
	n.restart()
	n.keepAll(time.Now())
	require.DirExists(t, broken)
	require.Contains(t, n.slots, team)
}

// A close that was interrupted at any step leaves a tenant that opens with all of
// its samples.
func TestCloseInterrupted(t *testing.T) {
	n := start(t, withConfig(forever))
	a, b := metric("a"), metric("b")
	n.write(team, new(frame).series(a).float(at(0), 1).float(at(time.Minute), 2).float(at(30*time.Second), 3))
	n.flush(team)
	want := n.read(team)
	n.stop()
	dir := filepath.Join(n.dir, team)
	for _, gone := range []string{"wbl", headChunksDir, walDir} {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, gone)))
		n.run()
		require.Equal(t, want, n.read(team), "without %s", gone)
		f := new(frame).series(b).float(at(time.Hour), 1)
		require.NotZero(t, n.write(team, f).Written.Samples)
		n.flush(team)
		want = n.read(team)
		n.stop()
	}
}

// Writers, readers and idleness at once: nothing that was acknowledged is missing.
func TestIdleWhileUsed(t *testing.T) {
	const rounds = 60
	n := start(t, withConfig(forever), withWindow(rounds*time.Minute))
	var g errgroup.Group
	var done atomic.Int32
	for w := range 2 {
		g.Go(func() error {
			defer done.Add(1)
			ls := metric("m", "w", fmt.Sprint(w))
			for r := range rounds {
				for testutil.ToFloat64(n.metrics.retired) < float64(r/10) {
					runtime.Gosched() // now and then they pause long enough
				}
				f := new(frame).series(ls).float(at(time.Duration(r)*time.Minute), 1).exemplar(at(0), 1)
				for {
					reply, err := n.tryWrite(team, f)
					if err == nil && reply.Written.Samples == 1 {
						break
					}
					if err != nil && proto.KindOf(err) != proto.KindUnavailable {
						return err
					}
					if err == nil {
						return fmt.Errorf("%v", rejections(reply))
					}
				}
				got, err := readChunks(n.Ingester, team, t0, at(rounds*time.Minute))
				if err != nil {
					return err
				}
				if len(got[ls.String()]) != r+1 {
					return fmt.Errorf("round %d of %d: %d samples", r, w, len(got[ls.String()]))
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for now := time.Now(); done.Load() < 2; {
			if n.count(stateOpen) > 0 { // or years would pass
				now = now.Add(n.cfg.IdleTimeout)
			}
			for _, s := range n.all() {
				if err := n.keep(context.Background(), s, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	require.NoError(t, g.Wait())
	require.NotZero(t, testutil.ToFloat64(n.metrics.retired))
	n.crash()
	require.Len(t, n.read(team), 2)
	t.Logf("closed %v times", testutil.ToFloat64(n.metrics.retired))
}

// Any order of writes, reads, idleness, starts and crashes keeps every sample that
// was acknowledged.
func TestLifecycle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := start(t, withConfig(forever))
		ids := []string{"one", "two"}
		clock := map[string]int64{"one": t0, "two": t0}
		acked := map[string]map[string]map[int64]string{"one": {}, "two": {}}
		series := []labels.Labels{metric("a"), metric("b"), metric("c")}
		write := func(t *rapid.T) {
			id := rapid.SampledFrom(ids).Draw(t, "tenant")
			f := &frame{}
			for _, ls := range series[rapid.IntRange(0, 2).Draw(t, "first"):] {
				ts := clock[id] + rapid.Int64Range(-9*60_000, 30*60_000).Draw(t, "t")
				if acked[id][ls.String()] == nil {
					acked[id][ls.String()] = map[int64]string{}
				}
				if _, dup := acked[id][ls.String()][ts]; dup {
					continue
				}
				f.series(ls).float(ts, float64(ts))
			}
			if len(f.Series) == 0 {
				return
			}
			reply := n.send(id, f)
			require.Equal(t, len(f.Floats), reply.Written.Samples+rejections(reply)["weir-sample-out-of-order"])
			if len(rejections(reply)) > 0 {
				// Which of them is not said: read what is there.
				for name, ps := range n.read(id) {
					for _, p := range ps {
						acked[id][name][p.T] = p.V
					}
				}
			}
			for i, s := range f.Series {
				if len(rejections(reply)) == 0 && s.Floats == 1 {
					acked[id][f.names[i].String()][f.Floats[i].T] = floatKey(f.Floats[i].V)
				}
			}
			for _, x := range f.Floats {
				clock[id] = max(clock[id], x.T)
			}
		}
		check := func(*rapid.T) {
			for _, id := range ids {
				want := map[string]map[int64]string{}
				for name, ps := range acked[id] {
					if len(ps) > 0 {
						want[name] = maps.Clone(ps)
					}
				}
				got := map[string]map[int64]string{}
				for name, ps := range n.read(id) {
					got[name] = map[int64]string{}
					for _, p := range ps {
						got[name][p.T] = p.V
					}
				}
				require.Equal(t, want, got, id)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": write, "write 2": write, "write 3": write, "write 4": write,
			"read":    check,
			"idle":    func(*rapid.T) { n.rest() },
			"tick":    func(*rapid.T) { n.keepAll(time.Now()) },
			"flush":   func(*rapid.T) { n.flush("") },
			"restart": func(*rapid.T) { n.restart() },
			"crash":   func(*rapid.T) { n.crash() },
			"later": func(t *rapid.T) {
				for id := range clock {
					clock[id] += rapid.SampledFrom([]int64{1, 60_000, 3 * 3600_000}).Draw(t, "by")
				}
			},
		})
		check(t)
		n.crash()
		check(t)
	})
}
