package ingester

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// fillDisk makes every write to the tenant's write-ahead log fail as on a full
// file system, until the returned function is called.
func (n *node) fillDisk(t *testing.T, id string) (release func()) {
	t.Helper()
	return n.fillFile(t, id, walDir)
}

// fillFile does that with the last file of a directory.
func (n *node) fillFile(t *testing.T, id, name string) (release func()) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, id, name, "0*"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	path := files[len(files)-1]
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	defer full.Close()
	replaced := map[int]int{} // open file by the copy of it
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || target != path {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		if _, ours := replaced[fd]; ours {
			continue // a copy that took the number of a file closed since
		}
		kept, err := syscall.Dup(fd)
		require.NoError(t, err)
		require.NoError(t, syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC))
		replaced[kept] = fd
	}
	require.NotEmpty(t, replaced, "nobody has %s open", path)
	return func() {
		for kept, fd := range replaced {
			// Unless the store gave the file up in the meantime.
			if target, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd)); err == nil && target == "/dev/full" {
				require.NoError(t, syscall.Dup3(kept, fd, syscall.O_CLOEXEC))
			}
			require.NoError(t, syscall.Close(kept))
		}
	}
}

// A log that cannot be written: the request is refused as unavailable and
// nothing of it is stored. What is acknowledged later, at the latest after a
// restart, survives a crash.
func TestWALFailure(t *testing.T) {
	a, b := metric("a"), metric("b")
	wide := func(name string, ts int64, v float64) *frame { // its record is larger than a page of the log
		f := &frame{}
		for i := range 3000 {
			f.series(metric(name, "i", fmt.Sprint(i))).float(ts, v)
		}
		return f
	}
	for _, c := range []struct {
		name    string
		refused []*frame
		retried *frame
	}{
		{"a sample", []*frame{new(frame).known(a).float(at(time.Minute), 1)}, new(frame).known(a).float(at(time.Minute), 1)},
		{"another value in the end", []*frame{new(frame).known(a).float(at(time.Minute), 1)}, new(frame).known(a).float(at(time.Minute), 2)},
		{"a late sample", []*frame{new(frame).known(a).float(at(-time.Minute), 1)}, new(frame).known(a).float(at(-time.Minute), 1)},
		{"a histogram", []*frame{new(frame).known(a).hist(at(time.Minute), intHistogram(1))}, new(frame).known(a).hist(at(time.Minute), intHistogram(1))},
		{"a new series", []*frame{new(frame).series(b).float(at(time.Minute), 1)}, new(frame).known(b).float(at(time.Minute), 1)},
		{"exemplars", []*frame{new(frame).known(a).exemplar(at(0), 1)}, new(frame).known(a).exemplar(at(0), 1)},
		{"a large frame", []*frame{wide("x", at(time.Minute), 1)}, wide("x", at(time.Minute), 1)},
		{"several large frames, then a small one", []*frame{wide("x", at(time.Minute), 1), wide("y", at(time.Minute), 1)}, new(frame).known(a).float(at(time.Minute), 1)},
		{"several of all, then a large one", []*frame{wide("x", at(time.Minute), 1), new(frame).series(b).float(at(time.Minute), 1), wide("x", at(2*time.Minute), 1)}, wide("y", at(time.Minute), 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t)
			f := new(frame).series(a).float(at(0), 0)
			writtenAll(t, f, n.write(team, f))
			want := n.read(team)

			release := n.fillDisk(t, team)
			for i, f := range c.refused {
				_, err := n.tryWrite(team, f)
				require.Error(t, err, "frame %d", i)
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "frame %d: %v", i, err)
				require.Equal(t, want, n.read(team), "frame %d", i)
				require.Empty(t, n.exemplars(team))
			}
			release()

			// A sender repeats. What was refused may have been stored after all, as with
			// any request that gets no answer.
			reply, err := n.tryWrite(team, c.retried.only(nil))
			if err != nil {
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
				n.restart()
				reply = n.send(team, c.retried.only(nil))
			}
			require.Equal(t, c.retried.counts().Total(), reply.Written.Total()+rejections(reply)[duplicate])
			next := wide("next", at(time.Minute), 1)
			writtenAll(t, next, n.write(team, next))
			again := new(frame).series(a).float(at(5*time.Minute), 5).series(b).float(at(5*time.Minute), 5)
			writtenAll(t, again, n.write(team, again))

			want = n.read(team)
			require.Len(t, want[metric("next", "i", "7").String()], 1)
			exemplars := n.exemplars(team)
			n.crash()
			require.Equal(t, len(want), len(n.read(team)), "series after a crash")
			require.Equal(t, want, n.read(team), "after a crash")
			require.Equal(t, exemplars, n.exemplars(team), "after a crash")
		})
	}
}

// unhealed keeps a tenant from being healed until the returned function is called.
func unhealed(t *testing.T, s *slot) (end func()) {
	s.changing.Lock()
	end = sync.OnceFunc(s.changing.Unlock)
	t.Cleanup(end)
	return end
}

// healed waits until the tenant takes f again, which nothing but maintenance made
// possible.
func (n *node) healed(t *testing.T, f *frame) {
	t.Helper()
	require.Eventually(t, func() bool {
		reply, err := n.tryWrite(team, f.only(nil))
		if err != nil {
			require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
			return false
		}
		require.Equal(t, f.counts().Total(), reply.Written.Total()+rejections(reply)[duplicate])
		return true
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, 1.0, testutil.ToFloat64(n.metrics.healed))
}

// When the log can be written again, the tenant takes writes again, without help.
func TestWALHeals(t *testing.T) {
	for _, c := range []struct {
		name string
		wide bool // the record that fails is larger than a page of the log
	}{{"a small record", false}, {"a large record", true}} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t)
			a := metric("a")
			f := new(frame).series(a).float(at(0), 0).float(at(-time.Second), 1).exemplar(at(0), 1)
			writtenAll(t, f, n.write(team, f))
			want := n.read(team)
			s, tdb := n.look(team)
			heal := unhealed(t, s)
			release := n.fillDisk(t, team)
			next := new(frame).series(a).float(at(time.Minute), 1).exemplar(at(time.Minute), 2)
			for i := range 3000 {
				if c.wide {
					next.series(metric("wide", "i", fmt.Sprint(i))).float(at(time.Minute), 1)
				}
			}
			for range 3 {
				_, err := n.tryWrite(team, next.only(nil))
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err), "%v", err)
				require.ErrorContains(t, err, "weir-store-unavailable")
			}
			require.Equal(t, want, n.read(team), "what is there can be read")
			require.Equal(t, 1.0, n.count(stateFailed))
			release()
			heal()
			n.healed(t, next)
			require.NotSame(t, tdb, n.find(team))
			require.Equal(t, 1.0, n.count(stateOpen))
			want = n.read(team)
			require.Len(t, want[a.String()], 3)
			n.crash()
			require.Equal(t, want, n.read(team))
			require.Len(t, n.exemplars(team)[a.String()], 2)
		})
	}
}

// A commit that succeeds behind one that failed may lie behind what no replay can
// read: it is not acknowledged either.
func TestCommitBehindFailure(t *testing.T) {
	n := start(t)
	a, b := metric("a"), metric("b")
	f := new(frame).series(a).float(at(0), 0).series(b).float(at(0), 0)
	writtenAll(t, f, n.write(team, f))
	s, tdb := n.look(team)
	unhealed(t, s)
	release := n.fillDisk(t, team)
	_, err := n.tryWrite(team, new(frame).known(a).float(at(time.Second), 1))
	require.Error(t, err)
	release()
	tdb.failed.Store(0) // the other one has not come to note it yet
	_, err = n.tryWrite(team, new(frame).known(b).float(at(2*time.Second), 1))
	require.ErrorContains(t, err, "weir-store-unavailable")
	require.NotZero(t, tdb.failed.Load())
}

// The TSDB takes late samples whose log cannot be written. They are not
// acknowledged, and taken when the log is in order again.
func TestWBLHeals(t *testing.T) {
	n := start(t)
	a := metric("a")
	f := new(frame).series(a).float(at(0), 0).float(at(-time.Second), 1)
	writtenAll(t, f, n.write(team, f))
	release := n.fillFile(t, team, "wbl")
	late := new(frame).series(a).float(at(-time.Minute), 1)
	_, err := n.tryWrite(team, late)
	require.ErrorContains(t, err, "weir-store-unavailable")
	release()
	n.healed(t, late)
	want := n.read(team)
	require.Len(t, want[a.String()], 3)
	n.crash()
	require.Equal(t, want, n.read(team))
}

// A chunk file that cannot be written makes the TSDB panic. The process lives, the
// tenant comes back, and nothing acknowledged is missing. The TSDB that panicked
// leaves goroutines behind, so this runs in a process of its own.
func TestChunkFileHeals(t *testing.T) {
	if os.Getenv(leaking) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChunkFileHeals$")
		cmd.Env = append(os.Environ(), leaking+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	a, b := metric("a"), metric("b")
	for _, c := range []struct {
		name string
		full func(n *node) error // writes chunks
	}{
		{"late samples", func(n *node) (err error) {
			for i := range 10_000 { // incompressible, until the buffer is full
				f := new(frame).series(b).float(at(-time.Minute-time.Duration(i)*time.Millisecond), rand.NormFloat64())
				if _, err = n.tryWrite(team, f); err != nil {
					return err
				}
			}
			return nil
		}},
		{"full chunks", func(n *node) (err error) {
			for i := range 2000 {
				f := new(frame)
				for s := range 20 {
					f.series(metric("m", "i", fmt.Sprint(s))).float(at(time.Duration(i)*time.Second), rand.NormFloat64())
				}
				writtenAll(t, f, n.write(team, f))
			}
			return n.find(team).maintain(t.Context(), time.Now(), 0)
		}},
		{"a cut", func(n *node) error {
			for i := range 2000 {
				f := new(frame)
				for s := range 20 {
					f.series(metric("m", "i", fmt.Sprint(s))).float(at(time.Duration(-i)*100*time.Millisecond), rand.NormFloat64())
				}
				if _, err := n.tryWrite(team, f); err != nil {
					return err
				}
			}
			return n.Flush(t.Context(), team)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t, withConfig(forever))
			f := new(frame).series(a).float(at(0), 0).series(b).float(at(0), 0)
			writtenAll(t, f, n.write(team, f))
			for i := range 33 { // a chunk, so that there is a file
				f := new(frame).series(a).float(at(-time.Duration(i+1)*time.Second), 1)
				writtenAll(t, f, n.write(team, f))
			}
			release := n.fillFile(t, team, headChunksDir)
			s, _ := n.look(team)
			heal := unhealed(t, s)
			require.ErrorContains(t, c.full(n), "weir-store-unavailable")
			_, err := n.tryWrite(team, new(frame).known(a).float(at(time.Hour), 1))
			require.ErrorContains(t, err, "weir-store-unavailable")
			release()
			heal()
			n.healed(t, new(frame).series(a).float(at(time.Hour), 1))
			got := n.read(team)
			require.Len(t, got[a.String()], 35)
			n.crash()
			require.Equal(t, got, n.read(team))
		})
	}
}

// Readers of a failed tenant come to their end before it is opened anew; those
// who come meanwhile are told to come again.
func TestHealWaitsForReaders(t *testing.T) {
	n := start(t)
	a := metric("a")
	f := new(frame).series(a).float(at(0), 0)
	writtenAll(t, f, n.write(team, f))
	s, tdb := n.look(team)
	q, err := n.ChunkQuerier(team, t0, at(time.Hour))
	require.NoError(t, err)
	release := n.fillDisk(t, team)
	_, err = n.tryWrite(team, new(frame).known(a).float(at(time.Second), 1))
	require.Error(t, err)
	release()
	n.heal(s, time.Now())
	require.Same(t, tdb, n.find(team))
	require.Len(t, n.read(team), 1, "there is patience")
	n.heal(s, time.Now().Add(11*time.Second))
	_, err = readChunks(n.Ingester, team, t0, at(time.Hour))
	require.ErrorContains(t, err, "weir-store-unavailable")
	require.NoError(t, q.Close())
	n.heal(s, time.Now().Add(11*time.Second))
	require.NotSame(t, tdb, n.find(team))
	require.Len(t, n.read(team), 1)
}

// One tenant's failing log is no concern of another's.
func TestWALFailureOfOneTenant(t *testing.T) {
	n := start(t)
	f := new(frame).series(metric("a")).float(at(0), 1)
	n.write("one", f)
	n.write("two", f)
	release := n.fillDisk(t, "one")
	next := new(frame).series(metric("a")).float(at(time.Second), 1)
	_, err := n.tryWrite("one", next)
	require.ErrorContains(t, err, "weir-store-unavailable")
	require.ErrorContains(t, err, "no space left on device")
	writtenAll(t, next, n.write("two", next))
	release()
}

// A log that was damaged, by a crash or a bad disk: what lies before the damage
// is served, the tenant is writable, others are not concerned, and no series
// gets the samples of another.
func TestDamagedWAL(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
		min    int // samples that must be left of 1000
	}{
		{"cut in a record", func(b []byte) []byte { return b[:len(b)-5] }, 990},
		{"zeroes at the end", func(b []byte) []byte { return append(b, make([]byte, 40_000)...) }, 1000},
		{"garbage at the end", func(b []byte) []byte { return append(b, strings.Repeat("\xde\xad\xbe\xef", 1000)...) }, 1000},
		{"a flipped bit in the middle", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := start(t)
			a, b := metric("a"), metric("b")
			n.write("other", new(frame).series(a).float(at(0), 1))
			for i := range 100 {
				f := new(frame).series(a)
				for j := range 10 {
					f.float(at(time.Duration(10*i+j)*time.Second), float64(10*i+j))
				}
				writtenAll(t, f, n.write(team, f))
			}
			n.stop()
			wal := filepath.Join(n.dir, team, "wal")
			_, last, err := wlog.Segments(wal)
			require.NoError(t, err)
			content, err := os.ReadFile(wlog.SegmentName(wal, last))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(wlog.SegmentName(wal, last), c.damage(content), 0o644))
			n.run()
			require.Len(t, n.read("other"), 1)
			got := n.read(team)[a.String()]
			require.GreaterOrEqual(t, len(got), c.min)
			for i, p := range got {
				require.Equal(t, point{T: at(time.Duration(i) * time.Second), V: floatKey(float64(i))}, p)
			}
			f := new(frame).series(b).float(at(time.Hour), 1)
			writtenAll(t, f, n.write(team, f))
			want := n.read(team)
			require.Len(t, want[b.String()], 1)
			n.restart()
			require.Equal(t, len(want[b.String()]), len(n.read(team)[b.String()]), "samples of a series that had one")
			require.Equal(t, want, n.read(team))
		})
	}
}

// openFiles counts the open files whose path begins with prefix.
func openFiles(t *testing.T, prefix string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, prefix) {
			n++
		}
	}
	return n
}

// Many tenants that nobody uses cost next to nothing: no series, no files open.
func TestManyIdle(t *testing.T) {
	const tenants = 50
	n := start(t, withConfig(forever))
	for i := range tenants {
		n.write(fmt.Sprint("tenant-", i), new(frame).series(metric("a")).float(at(0), 1))
	}
	open := openFiles(t, n.dir)
	n.rest()
	require.Equal(t, float64(tenants), n.count(stateClosed))
	require.Greater(t, open, tenants)
	require.Equal(t, 0, openFiles(t, n.dir+"/tenant-"))
	n.restart()
	require.Equal(t, float64(tenants), n.count(stateClosed))
	require.Len(t, n.read("tenant-7"), 1)
	require.Equal(t, 1.0, n.count(stateOpen))
}
