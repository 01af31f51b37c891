package ingester

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/weir-metrics/weir/proto"
)

// Writers that come while a sync is under way share the next one, which begins
// after all of them came.
func TestSyncGroups(t *testing.T) {
	const writers, calls = 50, 20
	var begun, ended atomic.Int64
	s := newLogSync(t.TempDir())
	s.force = func() error {
		begun.Add(1)
		time.Sleep(time.Millisecond) // is the work
		ended.Add(1)
		return nil
	}
	var g errgroup.Group
	for range writers {
		g.Go(func() error {
			for range calls {
				before := begun.Load()
				if err := s.wait(); err != nil || ended.Load() <= before {
					return fmt.Errorf("the sync that answers began before the call: %v", err)
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Less(t, ended.Load(), int64(writers*calls/4))
}

// An error reaches everybody who waited for that sync, and not those after them.
func TestSyncFails(t *testing.T) {
	s := newLogSync(t.TempDir())
	var calls atomic.Int64
	first, held := make(chan struct{}), make(chan struct{})
	s.force = func() error {
		switch calls.Add(1) {
		case 1:
			close(first)
			<-held
		case 2:
			return errors.New("no")
		}
		return nil
	}
	var g, waiting errgroup.Group
	g.Go(s.wait)
	<-first
	for range 10 {
		waiting.Go(func() error {
			if s.wait() == nil {
				return errors.New("no error")
			}
			return nil
		})
	}
	time.Sleep(50 * time.Millisecond) // for all to be there; one that is not fails below
	close(held)
	require.NoError(t, g.Wait())
	require.NoError(t, waiting.Wait())
	require.NoError(t, s.wait())
	require.EqualValues(t, 3, calls.Load())
}

// A sync takes in every segment since the last one, and segments may go meanwhile.
func TestSyncSegments(t *testing.T) {
	dir := t.TempDir()
	wal := filepath.Join(dir, walDir)
	s := newLogSync(dir)
	require.NoError(t, s.wait(), "no log yet")
	w, err := wlog.New(nil, nil, wal, "none")
	require.NoError(t, err)
	defer w.Close()
	for range 3 {
		require.NoError(t, w.Log([]byte("x")))
		require.NoError(t, s.wait())
		_, err := w.NextSegment()
		require.NoError(t, err)
	}
	require.Equal(t, []int{2, -1}, s.synced)
	require.NoError(t, w.Truncate(3))
	require.NoError(t, s.wait())
	require.Equal(t, []int{3, -1}, s.synced)
	require.NoError(t, os.Mkdir(wlog.SegmentName(wal, 5), 0o755))
	require.Error(t, s.wait(), "a gap in the log")
}

// Each policy acknowledges and keeps samples; "always" syncs before it answers,
// also for a repetition, and what cannot be synced is not acknowledged.
func TestWALSync(t *testing.T) {
	for _, policy := range []string{WALSyncNone, WALSyncInterval, WALSyncAlways} {
		t.Run(policy, func(t *testing.T) {
			n := start(t, withConfig(func(c *Config) { c.WALSync = policy }))
			require.Empty(t, n.cfg.Validate(""))
			f := new(frame).series(metric("a")).float(at(0), 1).float(at(-time.Minute), 1)
			writtenAll(t, f, n.write(team, f))
			if policy != WALSyncAlways {
				writtenAll(t, f, n.write(team, f))
				require.Eventually(t, func() bool { return (n.syncs(t) > 0) == (policy == WALSyncInterval) }, 10*time.Second, 10*time.Millisecond)
				return
			}
			var syncs atomic.Int64
			db := n.find(team)
			db.sync.force = func() error {
				syncs.Add(1)
				return db.sync.sync()
			}
			writtenAll(t, f, n.write(team, f))
			require.EqualValues(t, 1, syncs.Load())
			db.sync.force = func() error { return errors.New("the disk is gone") }
			for i := range 2 {
				_, err := n.tryWrite(team, new(frame).series(metric("a")).float(at(time.Minute), float64(i)))
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err), fmt.Sprint(err))
				require.ErrorContains(t, err, "weir-store-unavailable")
			}
		})
	}
}

// syncs is how often the metrics say that a log was forced to the disk.
func (n *node) syncs(t *testing.T) uint64 {
	families, err := n.Registry.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "weir_ingester_log_sync_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}
