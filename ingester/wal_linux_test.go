package ingester

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// fillDisk makes every write to the tenant's write-ahead log fail as on a full
// file system, until the returned function is called.
func (n *node) fillDisk(t *testing.T, id string) (release func()) {
	t.Helper()
	wal := filepath.Join(n.dir, id, "wal")
	_, last, err := wlog.Segments(wal)
	require.NoError(t, err)
	path := wlog.SegmentName(wal, last)
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
