package ingester

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// TestLateSamplesSurviveSeveralKills copies the directory of a running ingester,
// as a kill leaves it: what was in the buffer of the chunk files is not there.
// It checks that the markers go and the samples stay; what the TSDB alone loses
// under load shows in integration's TestKillUnderLoad.
func TestLateSamplesSurviveSeveralKills(t *testing.T) {
	const series = 200 // enough chunks to fill the buffer of the chunk files
	lim := tenant.DefaultLimits()
	now := time.Now().UnixMilli()
	want := map[int]map[int64]float64{}
	dir := t.TempDir()
	written := 0
	for life, writes := range []int{70, 3, 40, 3, 40} {
		ctx, cancel := context.WithCancel(context.Background())
		ing := New(DefaultConfig(), Deps{Dir: dir, Limits: func(string) *tenant.Limits { return &lim },
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
		done := make(chan error, 1)
		go func() { done <- ing.Run(ctx) }()
		require.Eventually(t, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
		for i := range writes {
			written++
			var f proto.Frame
			for s := range series {
				ts := now - int64(written*1000+s)
				v := float64(written)
				f.Labels = append(f.Labels, proto.SeriesLabels{Series: uint32(s), Labels: labels.FromStrings("__name__", "late", "s", fmt.Sprint(s))})
				f.Series = append(f.Series, proto.FrameSeries{ID: proto.Hash{Hi: 1, Lo: uint64(s)}, Handle: proto.NoHandle, Floats: 1})
				f.Floats = append(f.Floats, proto.Float{T: ts, V: v})
				if want[s] == nil {
					want[s] = map[int64]float64{}
				}
				want[s][ts] = v
			}
			var reply proto.Reply
			require.NoError(t, ing.Write(ctx, "t", &f, &reply))
			require.Equal(t, series, reply.Written.Samples, "life %d write %d: %+v", life, i, reply)
		}
		copied := t.TempDir()
		require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
		require.NoError(t, os.RemoveAll(filepath.Join(copied, lockFile)))
		cancel()
		require.NoError(t, <-done)
		dir = copied
	}

	ctx, cancel := context.WithCancel(context.Background())
	ing := New(DefaultConfig(), Deps{Dir: dir, Limits: func(string) *tenant.Limits { return &lim },
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	done := make(chan error, 1)
	go func() { done <- ing.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	require.Eventually(t, func() bool { return ing.Ready() == nil }, 10*time.Second, time.Millisecond)
	check := func() {
		q, err := ing.find("t").db.Querier(0, now)
		require.NoError(t, err)
		defer q.Close()
		for s, samples := range want {
			set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchEqual, "s", fmt.Sprint(s)))
			got := map[int64]float64{}
			for set.Next() {
				for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
					ts, v := it.At()
					got[ts] = v
				}
			}
			require.NoError(t, set.Err())
			require.Equal(t, samples, got, "series %d", s)
		}
	}
	check()
	require.True(t, ing.find("t").replayedLate)
	require.NoError(t, ing.find("t").maintain(ctx, time.Now(), 0))
	require.False(t, ing.find("t").replayedLate)
	check()
}

// After a start the chunk files have late chunks that blocks have, too, and the
// log has none. What comes later must not take their place.
func TestLateChunksOfBeforeTheStart(t *testing.T) {
	n := start(t)
	a, b := metric("a"), metric("b")
	n.write(team, new(frame).series(a).float(at(0), 1).series(b).float(at(0), 1))
	late := func(second int) {
		t.Helper()
		for i := range 40 { // more than a chunk
			f := new(frame).series(b).float(at(-5*time.Minute+time.Duration(second)*time.Second+time.Duration(i)*time.Millisecond), float64(i))
			writtenAll(t, f, n.write(team, f))
		}
	}
	late(0)
	n.flush(team)
	n.restart()
	n.write(team, new(frame).series(a).float(at(time.Second), 1))
	n.flush(team)
	late(1)
	want := n.read(team)
	require.Len(t, want[b.String()], 81)
	n.write(team, new(frame).series(a).float(at(2*time.Second), 1)) // for a cut of the head, which drops late chunks
	n.flush(team)
	require.Equal(t, want[b.String()], n.read(team)[b.String()])
	n.crash()
	require.Equal(t, want[b.String()], n.read(team)[b.String()])
}

// A series gets a second record in the log, and after a start late samples of it
// are in chunk files only, as the TSDB has it: prometheus#19804. And a cut makes a
// checkpoint before those samples are in a block: prometheus#19744.
func TestLateSamplesOfASeriesWithTwoRecords(t *testing.T) {
	a, b := metric("a"), metric("b")
	for _, c := range []struct {
		name string
		then func(n *node)
	}{
		{"another start", func(n *node) { n.crash() }},
		{"a cut, and another start", func(n *node) {
			for i := range 6 { // one block's time each, until there is a checkpoint
				n.write(team, new(frame).series(b).float(at(time.Duration(2+i)*time.Hour), 1))
				require.NoError(t, n.find(team).maintain(t.Context(), time.Now(), 0))
			}
			n.crash()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, withConfig(func(c *Config) { c.BlockDuration = time.Hour }))
			n.write(team, new(frame).series(a).float(at(0), 1))
			n.flush(team) // the head drops the series
			n.write(team, new(frame).series(a).float(at(time.Minute), 1).float(at(30*time.Second), 1).series(b).float(at(time.Minute), 1))
			n.crash()
			for i := range 35 {
				f := new(frame).series(a).float(at(time.Duration(i+1)*time.Second), float64(i))
				if i != 29 {
					writtenAll(t, f, n.write(team, f))
				}
			}
			want := n.read(team)[a.String()]
			require.Len(t, want, 37)
			c.then(n)
			require.Equal(t, want, n.read(team)[a.String()])
			n.crash()
			require.Equal(t, want, n.read(team)[a.String()])
		})
	}
}

// The log for late samples is made with the first of them, whatever it is that
// comes late; and at a start when it has some.
func TestLogForLateSamplesOnDemand(t *testing.T) {
	a, b := metric("a"), metric("b")
	for _, c := range []struct {
		name string
		late *frame
	}{
		{"a late sample", new(frame).series(a).float(at(-time.Minute), 2)},
		{"of a new series, of which the block of its time may be cut", new(frame).series(b).float(at(-6*time.Minute), 2)},
		{"a histogram", new(frame).series(b).hist(at(-6*time.Minute), tsdbutil.GenerateTestHistogram(1))},
		{"an exemplar", new(frame).series(a).exemplar(at(-time.Minute), 2)},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, withConfig(func(cfg *Config) { cfg.BlockDuration = 10 * time.Minute }))
			hasLog := func() bool {
				_, err := os.Stat(filepath.Join(n.dir, team, wlog.WblDirName))
				return err == nil
			}
			first := new(frame).series(a).float(at(0), 1).exemplar(at(0), 1)
			if len(c.late.Exemplars) == 0 {
				first = new(frame).series(a).float(at(0), 1)
			}
			writtenAll(t, first, n.write(team, first))
			require.Equal(t, len(first.Exemplars) > 0, hasLog(), "the window of exemplars comes with it")
			n.crash()
			require.Equal(t, len(first.Exemplars) > 0, hasLog())
			writtenAll(t, c.late, n.write(team, c.late))
			require.True(t, hasLog())
			want, exemplars := n.read(team), n.exemplars(team)
			n.crash()
			require.Equal(t, want, n.read(team))
			require.Equal(t, exemplars, n.exemplars(team))
			n.restart()
			require.Equal(t, want, n.read(team))
			writtenAll(t, c.late, n.write(team, c.late))
		})
	}
}
