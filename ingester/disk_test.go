package ingester

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

func TestDiskLevel(t *testing.T) {
	const gib = 1 << 30
	cfg := DefaultConfig().Disk
	for _, c := range []struct {
		name       string
		size, free int64
		was, want  diskLevel
	}{
		{"empty", 100 * gib, 100 * gib, diskRoomy, diskRoomy},
		{"just below 90 %", 100 * gib, 10*gib + 1<<20, diskRoomy, diskRoomy},
		{"90 %", 100 * gib, 10*gib - 1<<20, diskRoomy, diskLow},
		{"just below 95 %", 100 * gib, 5*gib + 1<<20, diskRoomy, diskLow},
		{"95 %", 100 * gib, 5*gib - 1<<20, diskRoomy, diskFull},
		{"nothing", 100 * gib, 0, diskRoomy, diskFull},
		{"full until a tenth more is free", 100 * gib, 5*gib + gib/4, diskFull, diskFull},
		{"full no more", 100 * gib, 5*gib + gib, diskFull, diskLow},
		{"low until a tenth more is free", 100 * gib, 10*gib + gib/2, diskLow, diskLow},
		{"low no more", 100 * gib, 12 * gib, diskLow, diskRoomy},
		{"at once from full to roomy", 100 * gib, 50 * gib, diskFull, diskRoomy},
		{"a huge disk is not full with as much free", 10_000 * gib, 17 * gib, diskRoomy, diskRoomy},
		{"but with less", 10_000 * gib, 15 * gib, diskRoomy, diskFull},
		{"a tiny disk keeps the least", gib, 150 << 20, diskRoomy, diskLow},
		{"of a tiny disk not even the least is left", gib, 120 << 20, diskRoomy, diskFull},
		{"smaller than the least", 64 << 20, 64 << 20, diskRoomy, diskFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, cfg.level(c.size, c.free, c.was))
		})
	}
}

// fakeDisk is a disk of 100 GB with as much free as a test says.
type fakeDisk struct {
	free atomic.Int64 // GB; negative: nobody knows
}

func (d *fakeDisk) space(string) (size, free int64, err error) {
	if d.free.Load() < 0 {
		return 0, 0, errors.New("not known")
	}
	return 100e9, d.free.Load() * 1e9, nil
}

// startOn starts a node on a disk with much space.
func startOn(t *testing.T, d *fakeDisk, options ...func(*node)) *node {
	d.free.Store(100)
	return start(t, append(options, func(n *node) { n.space = d.space })...)
}

func (d *fakeDisk) set(n *node, free int64) diskLevel {
	d.free.Store(free)
	return n.disk.measure()
}

// While the disk is low, new series wait, and everything else goes on.
func TestDiskLow(t *testing.T) {
	var d fakeDisk
	n := startOn(t, &d)
	a, b := metric("a"), metric("b")
	f := new(frame).series(a).float(at(0), 1).exemplar(at(0), 1)
	writtenAll(t, f, n.write(team, f))
	require.Equal(t, diskLow, d.set(n, 8))

	// The one that is known is stored, in and out of order, wherever it stands.
	f = new(frame).series(b).float(at(time.Minute), 1).hist(at(2*time.Minute), intHistogram(1)).exemplar(at(0), 1).
		series(a).float(at(time.Minute), 1).float(at(30*time.Second), 1).exemplar(at(time.Minute), 2).
		series(metric("only exemplars")).exemplar(at(0), 1)
	reply := n.write(team, f)
	require.Equal(t, proto.Counts{Samples: 2, Exemplars: 1}, reply.Written)
	require.Equal(t, proto.Counts{Samples: 1, Histograms: 1, Exemplars: 2}, reply.Postponed)
	require.Equal(t, proto.KindLimit, reply.Cause.Kind)
	require.ErrorContains(t, reply.Cause, "weir-disk-low")
	require.Equal(t, 4.0, testutil.ToFloat64(n.metrics.postponed.WithLabelValues("weir-disk-low")))
	require.Len(t, n.read(team), 1)
	require.Len(t, n.exemplars(team), 1)

	// It is the head that knows, not our table, which is empty after a restart.
	n.restart()
	require.Equal(t, diskLow, n.disk.level())
	f = new(frame).series(b).float(at(time.Minute), 1).series(a).float(at(5*time.Minute), 1)
	reply = n.write(team, f)
	require.Equal(t, proto.Counts{Samples: 1}, reply.Written)
	require.Equal(t, proto.Counts{Samples: 1}, reply.Postponed)

	_, err := n.tryWrite("another", f)
	require.Equal(t, proto.KindLimit, proto.KindOf(err))
	require.ErrorContains(t, err, "weir-disk-low")
	require.Nil(t, n.find("another"))

	require.Equal(t, diskRoomy, d.set(n, 50))
	writtenAll(t, f, n.write(team, f))
	writtenAll(t, f, n.write("another", f))
}

// While the disk is full, nothing is written and everything is read.
func TestDiskFull(t *testing.T) {
	var d fakeDisk
	n := startOn(t, &d)
	a := metric("a")
	f := new(frame).series(a).float(at(0), 1).exemplar(at(0), 1)
	writtenAll(t, f, n.write(team, f))
	want := n.read(team)
	require.Equal(t, diskFull, d.set(n, 3))
	refused := func() {
		t.Helper()
		for _, id := range []string{team, "another"} {
			_, err := n.tryWrite(id, new(frame).series(a).float(at(time.Minute), 1))
			require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
			require.ErrorContains(t, err, "weir-disk-full")
		}
		require.NoError(t, n.Ready(), "it serves reads")
		require.Equal(t, want, n.read(team))
		require.Len(t, n.exemplars(team), 1)
	}
	refused()
	n.restart()
	refused()
	d.set(n, -1)
	f = new(frame).series(a).float(at(time.Minute), 1)
	writtenAll(t, f, n.write(team, f)) // a disk that is not known is tried
	require.Equal(t, diskRoomy, d.set(n, 50))
	f = new(frame).series(a).float(at(2*time.Minute), 1)
	writtenAll(t, f, n.write(team, f))
}

// What may end the process when it does not fit is not begun: late samples, chunk
// files, blocks, opening.
func TestNoRoom(t *testing.T) {
	var d fakeDisk
	n := startOn(t, &d, withConfig(func(c *Config) { c.Disk = DiskConfig{100, 100, 1 << 20, 0} }))
	a := metric("a")
	f := new(frame).series(a).float(at(0), 1).float(at(8*time.Hour), 1)
	writtenAll(t, f, n.write(team, f))
	writtenAll(t, f, n.write("closed", f))
	want := n.read(team)
	d.free.Store(0) // and nobody has looked since
	require.Equal(t, diskRoomy, n.disk.level())

	_, err := n.tryWrite(team, new(frame).known(a).float(at(1), 1))
	require.ErrorContains(t, err, "weir-disk-full", "a late sample")
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
	tdb := n.find(team)
	require.ErrorContains(t, tdb.maintain(t.Context(), time.Now(), 0), "weir-disk-full", "a cut")
	require.ErrorContains(t, n.Flush(t.Context(), team), "weir-disk-full")
	require.Zero(t, n.blocks(team))
	require.Equal(t, want, n.read(team))

	n.restart() // which has no room to replay
	require.Nil(t, n.find(team))
	require.NoError(t, n.Ready())
	mint, maxt, ok := n.Extent(team)
	require.True(t, ok && mint < t0 && maxt > at(8*time.Hour), "a reader must ask, and hear why there is no answer")
	_, err = readChunks(n.Ingester, team, t0, at(time.Hour))
	require.ErrorContains(t, err, "weir-disk-full")
	_, err = n.tryWrite(team, f)
	require.ErrorContains(t, err, "weir-disk-full")
	require.NoError(t, n.keep(t.Context(), n.slots[team], time.Now().Add(1000*time.Hour)), "it has no known block, and must stay")

	d.set(n, 50)
	require.Equal(t, want, n.read(team))
	writtenAll(t, f, n.write("closed", f))
	n.flush(team)
	require.Equal(t, want, n.read(team))
}

// The reserve is given up for a start on a full disk, and made again later.
func TestReserve(t *testing.T) {
	var d fakeDisk
	n := startOn(t, &d, withConfig(func(c *Config) { c.Disk.ReserveBytes = 1 << 20 }))
	reserve := filepath.Join(n.dir, reserveFile)
	there := func() bool {
		st, err := os.Stat(reserve)
		return err == nil && st.Size() == 1<<20
	}
	require.Eventually(t, there, 5*time.Second, time.Millisecond)
	d.set(n, 3)
	require.True(t, there())
	n.restart()
	require.False(t, there())
	require.Equal(t, diskFull, n.disk.level())
	n.restart()
	require.Equal(t, diskFull, n.disk.level())
	d.set(n, 50)
	n.disk.keepReserve()
	require.True(t, there())
}

// What the reserve gave up is not for writes: after a start, and after the next.
func TestReserveIsOwed(t *testing.T) {
	var d fakeDisk
	n := startOn(t, &d)
	n.cfg.Disk = DiskConfig{100, 100, 1 << 20, 20e9}
	for range 2 {
		d.free.Store(19)
		n.restart()
		require.Equal(t, diskFull, n.disk.level())
		_, err := n.tryWrite(team, new(frame).series(metric("a")).float(at(0), 1))
		require.ErrorContains(t, err, "weir-disk-full")
	}
}

func TestBytesToOpen(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct{ wal, wbl, want int64 }{
		{0, 0, mib},
		{10 * mib, 0, 21 * mib},
		{10 * mib, 5 * mib, 41 * mib},
		{4096 * mib, 0, (128 + 1024 + 128 + 1) * mib},
	} {
		require.Equal(t, c.want, bytesToOpen(c.wal, c.wbl), "%d MiB, %d MiB", c.wal/mib, c.wbl/mib)
	}
}
