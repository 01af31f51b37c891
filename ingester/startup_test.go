package ingester

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

// large writes enough to a tenant for a snapshot.
func (n *node) large(id string, from int) {
	n.tb.Helper()
	for i := range 100 {
		f := &frame{}
		for s := range 100 {
			f.series(metric("large", "s", fmt.Sprint(s))).float(at(time.Duration(from+i)*time.Second), float64(i))
		}
		f.exemplar(at(time.Duration(from+i)*time.Second), float64(i))
		writtenAll(n.tb, f, n.write(id, f))
	}
}

func (n *node) snapshotsOnDisk(id string) int {
	all, err := filepath.Glob(filepath.Join(n.dir, id, snapshotPrefix+"*"))
	require.NoError(n.tb, err)
	return len(all)
}

// A stop leaves a snapshot where it is worth it, the next start uses and removes
// it, and nothing is lost whatever comes then: stops, kills, the setting off.
func TestSnapshots(t *testing.T) {
	n := start(t)
	n.large(team, 0)
	n.write("small", new(frame).series(metric("a")).float(at(0), 1))
	for i, step := range []func(){n.restart, n.crash, n.restart, n.restart, n.crash} {
		want, exemplars := n.read(team), n.exemplars(team)
		require.Len(t, want, 100)
		n.stop()
		require.Equal(t, 1, n.snapshotsOnDisk(team), "step %d", i)
		require.Zero(t, n.snapshotsOnDisk("small"))
		n.run()
		require.Zero(t, n.snapshotsOnDisk(team))
		step()
		require.Equal(t, want, n.read(team), "step %d", i)
		require.Equal(t, exemplars, n.exemplars(team), "step %d", i)
		n.large(team, (i+1)*100)
	}
	want := n.read(team)
	n.stop()
	n.cfg.Snapshots = false
	n.run()
	require.Equal(t, want, n.read(team))
	n.stop()
	require.Zero(t, n.snapshotsOnDisk(team))
	require.Zero(t, n.reported())
}

// A snapshot that cannot be written costs time at the next start only.
func TestSnapshotFails(t *testing.T) {
	for _, again := range []bool{false, true} {
		n := start(t)
		n.large(team, 0)
		want := n.read(team)
		if again { // the TSDB that wrote one before writes it by itself
			n.restart()
		}
		require.NoError(t, os.WriteFile(filepath.Join(n.dir, team, snapshotPrefix+"in-the-way"), nil, 0o644))
		n.stop()
		require.Contains(t, n.log.String(), "no snapshot for the next start")
		n.run()
		require.Equal(t, want, n.read(team))
	}
}

// A series that the log has under two references must not be forgotten under one
// of them, so such a tenant is started from the log.
func TestNoSnapshotOfSeriesTwice(t *testing.T) {
	n := start(t)
	n.large(team, 0)
	n.flush(team) // drops the series
	n.large(team, 100)
	n.crash()
	want := n.read(team)
	n.stop()
	require.Zero(t, n.snapshotsOnDisk(team))
	n.run()
	require.Equal(t, want, n.read(team))
}

// A new series never gets the reference of one that was dropped, as long as
// anything on the disk has it: a start from a snapshot would not know.
func TestReferencesAreNotUsedAgain(t *testing.T) {
	n := start(t, withShortBlocks)
	keep := func(ts int64) {
		f := &frame{}
		for s := range 500 {
			f.series(metric("kept", "s", fmt.Sprint(s))).float(ts, float64(s))
		}
		writtenAll(t, f, n.write(team, f))
	}
	keep(at(0))
	f := &frame{} // these get the highest references
	for s := range 50 {
		f.series(metric("old", "s", fmt.Sprint(s))).float(at(0), 1)
	}
	writtenAll(t, f, n.write(team, f))
	late := &frame{} // of series that are dropped below, in chunk files and the out-of-order log
	for s := range 50 {
		late.known(metric("old", "s", fmt.Sprint(s)))
		for i := range 40 {
			late.float(at(-time.Duration(i+1)*time.Second), float64(i))
		}
	}
	writtenAll(t, late, n.write(team, late))
	keep(at(time.Minute))
	keep(at(time.Hour))
	keep(at(2 * time.Hour))
	require.NoError(t, n.find(team).maintain(t.Context(), time.Now(), 0))
	require.NoError(t, n.find(team).db.CompactOOOHead(t.Context()))
	require.EqualValues(t, 500, n.find(team).db.Head().NumSeries(), "the old ones are dropped")
	for range 3 {
		n.stop()
		require.Equal(t, 1, n.snapshotsOnDisk(team))
		n.run()
		g := new(frame).series(metric("new", "at", fmt.Sprint(time.Now().UnixNano()))).float(at(2*time.Hour), 7)
		writtenAll(t, g, n.write(team, g))
		want := n.read(team)
		require.Len(t, want[g.names[0].String()], 1)
		n.crash()
		got := n.read(team)
		require.Equal(t, want[g.names[0].String()], got[g.names[0].String()])
		require.Equal(t, want, got)
	}
}

// The TSDB alone gives the reference of a lost series to a new one, which then
// has its chunks.
func TestLostSeriesRecord(t *testing.T) {
	n := start(t)
	for i := range 300 { // more than a chunk
		f := new(frame).series(metric("lost")).float(at(time.Duration(i)*time.Second), float64(i))
		f.series(metric("lost", "late", "y")).float(at(-time.Duration(i)*time.Second), float64(i))
		writtenAll(t, f, n.write(team, f))
	}
	n.crash() // writes chunks
	n.stop()
	path := wlog.SegmentName(filepath.Join(n.dir, team, walDir), 0)
	require.NoError(t, os.Remove(filepath.Join(n.dir, team, closingFile)))
	edit(t, path, func(b []byte) []byte { b[10] ^= 1; return b })
	n.run()
	require.Empty(t, n.read(team))
	require.EqualValues(t, 1, n.reported())
	f := new(frame).series(metric("a")).float(at(time.Hour), 1).series(metric("b")).float(at(time.Hour), 2)
	writtenAll(t, f, n.write(team, f))
	want := n.read(team)
	require.Len(t, want, 2)
	for _, again := range []func(){n.crash, n.restart, n.crash} {
		again()
		require.Equal(t, want, n.read(team))
	}
}

// The largest tenant goes first, and a memory limit that none fits into lets them
// go one by one.
func TestReplayOrder(t *testing.T) {
	require.EqualValues(t, math.MaxInt64, replayBudget(math.MaxInt64))
	require.EqualValues(t, 500, replayBudget(1000))

	n := start(t)
	for i, id := range []string{"b", "c", "a"} {
		f := &frame{}
		for s := range []int{10, 1000, 5000}[i] {
			f.series(metric("m", "s", fmt.Sprint(s))).float(at(0), 1)
		}
		writtenAll(t, f, n.write(id, f))
	}
	n.stop()
	var order []string
	cfg := n.cfg
	cfg.OpenConcurrency = 1
	i := New(cfg, Deps{Dir: n.dir, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Limits: func(id string) *tenant.Limits {
		order = append(order, id)
		return n.limits.Load()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	require.Eventually(t, func() bool { return i.Ready() == nil }, 10*time.Second, time.Millisecond)
	p := i.ReplayProgress()
	require.Equal(t, 3, p.TenantsDone)
	require.Equal(t, p.Bytes, p.BytesDone)
	require.Positive(t, p.Bytes)
	require.Positive(t, p.Elapsed)
	require.Zero(t, p.Left)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, []string{"a", "c", "b"}, order[:3])
}

// What is left is estimated by bytes: those that were checked count half.
func TestReplayEstimate(t *testing.T) {
	i := &Ingester{}
	require.Zero(t, i.ReplayProgress())
	large, small := newReplayJob("large", 600), newReplayJob("small", 200)
	i.replay.jobs, i.replay.begun = []*replayJob{large, small}, time.Now().Add(-10*time.Second)
	require.Zero(t, i.ReplayProgress().Left, "nothing is done yet")
	small.done.Store(true)
	require.InDelta(t, 30, i.ReplayProgress().Left.Seconds(), 1)
	large.read(400)
	p := i.ReplayProgress()
	require.EqualValues(t, 400, p.BytesDone)
	require.InDelta(t, 10, p.Left.Seconds(), 1)
	require.Contains(t, p.String(), "1 of 2 tenants done")
	require.Contains(t, p.String(), "about 10s left")
	large.done.Store(true)
	require.Zero(t, i.ReplayProgress().Left)
}
