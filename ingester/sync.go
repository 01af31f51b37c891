package ingester

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// When a tenant's logs are forced to the disk. A killed process loses nothing
// with either; a machine that loses power loses what was not forced.
const (
	WALSyncNone     = "none"     // by the kernel, and when a segment is full
	WALSyncInterval = "interval" // every second
	WALSyncAlways   = "always"   // before a write is acknowledged
)

const syncInterval = time.Second

// logSync forces a tenant's logs to the disk. The TSDB keeps its files to itself,
// but any descriptor of a file will do.
type logSync struct {
	dirs  []string     // of the logs
	force func() error // sync; tests put themselves between

	mu   sync.Mutex
	next *syncGroup // of those who wait for a sync that has not begun; guarded by mu

	running sync.Mutex
	synced  []int // for each log, the newest segment that was synced; guarded by running
}

// syncGroup is the writers that wait for the same sync.
type syncGroup struct {
	done chan struct{}
	err  error // read after done
}

func newLogSync(dir string) *logSync {
	s := &logSync{dirs: []string{filepath.Join(dir, walDir), filepath.Join(dir, wlog.WblDirName)}, synced: []int{-1, -1}}
	s.force = s.sync
	return s
}

// wait returns when all that was logged before the call is on the disk. Those who
// wait while a sync is under way share the next one.
func (s *logSync) wait() error {
	s.mu.Lock()
	g, first := s.next, s.next == nil
	if first {
		g = &syncGroup{done: make(chan struct{})}
		s.next = g
	}
	s.mu.Unlock()
	if !first {
		<-g.done
		return g.err
	}
	s.running.Lock()
	defer s.running.Unlock()
	s.mu.Lock()
	s.next = nil // who comes now may have logged too late for this one
	s.mu.Unlock()
	g.err = s.force()
	close(g.done)
	return g.err
}

// sync forces every segment that may have something new to the disk. The caller
// holds running.
func (s *logSync) sync() error {
	for i, dir := range s.dirs {
		first, last, err := wlog.Segments(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sync the log: %w", err)
		}
		for n := max(first, s.synced[i]); n >= 0 && n <= last; n++ {
			// One that is gone was cut into a block, which is on the disk.
			if err := syncFile(wlog.SegmentName(dir, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("sync the log: %w", err)
			}
		}
		if last != s.synced[i] {
			if err := syncFile(dir); err != nil { // the name of a new segment
				return fmt.Errorf("sync the log: %w", err)
			}
		}
		s.synced[i] = last
	}
	return nil
}

// syncFile forces a file or directory to the disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// acknowledge makes what a Write has committed as durable as configured, before
// it is acknowledged. After a sync that failed nobody can tell what is on the
// disk, so the tenant takes no more writes.
func (i *Ingester) acknowledge(t *tenantDB) error {
	switch i.cfg.WALSync {
	case WALSyncInterval:
		t.unsynced.Store(true)
	case WALSyncAlways:
		return i.forceLog(t)
	}
	return nil
}

// forceLog returns when a tenant's logs are on the disk.
func (i *Ingester) forceLog(t *tenantDB) error {
	start := time.Now()
	if err := t.sync.wait(); err != nil {
		t.fail(err)
		return unavailable(err)
	}
	i.metrics.syncSeconds.Observe(time.Since(start).Seconds())
	return nil
}

// syncLoop forces the logs of tenants that were written to the disk, until ctx
// ends.
func (i *Ingester) syncLoop(ctx context.Context) error {
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // closing the TSDBs syncs them
		case <-tick.C:
		}
		for _, s := range i.all() {
			if t := i.openOf(s); ctx.Err() == nil && t != nil && t.unsynced.Swap(false) {
				_ = i.forceLog(t) // is logged
			}
		}
	}
}
