package ingester

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// retire closes a tenant that nobody uses and whose samples are all in blocks.
// Its log goes: nothing but exemplars is only there.
func (i *Ingester) retire(s *slot) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	t := i.openOf(s)
	if t == nil || !t.users.shut() {
		return nil
	}
	if t.db.Head().NumSeries() > 0 || t.failed.Load() != 0 {
		t.users.reopen()
		return nil
	}
	rest := t.span()
	if err := t.close(); err != nil {
		i.set(s, nil, anyTime)
		return fmt.Errorf("close an idle tenant: %w", err)
	}
	i.set(s, nil, rest)
	i.metrics.retired.Inc()
	return emptyLogs(t.dir)
}

// emptyLogs removes the logs of a closed tenant, whose samples are in blocks.
// The write-ahead log goes last, and whole: without it the tenant counts as
// closed, and with it what else is there must be either its own or gone.
func emptyLogs(dir string) error {
	if _, err := takeClosing(dir); err != nil { // what it lists goes
		return err
	}
	if err := dropSnapshots(dir); err != nil {
		return err
	}
	for _, name := range []string{wlog.WblDirName, headChunksDir} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	gone := filepath.Join(dir, walDir+".emptied")
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, walDir), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// dropSnapshots removes the snapshots of the head that the TSDB in dir made when
// it was closed.
func dropSnapshots(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "chunk_snapshot.") {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// expire drops the blocks of a closed tenant that are older than the retention,
// and the tenant with the last of them.
func (i *Ingester) expire(s *slot, now time.Time) error {
	before := now.Add(-i.cfg.Retention).UnixMilli()
	i.mu.RLock()
	due := s.open == nil && (s.rest.empty() || s.rest.firstEnd <= before)
	i.mu.RUnlock()
	if !due || !s.changing.TryLock() {
		return nil // or it is being opened
	}
	defer s.changing.Unlock()
	if s.removed || i.openOf(s) != nil {
		return nil
	}
	rest, err := dropBlocks(i.tenantDir(s.id), before)
	if err != nil {
		return fmt.Errorf("drop expired blocks of tenant %s: %w", s.id, err)
	}
	i.set(s, nil, rest)
	if !rest.empty() {
		return nil
	}
	return i.remove(s)
}

// removedPrefix begins the names of tenants' directories that are being removed.
const removedPrefix = "__removed-"

// remove takes a closed tenant without blocks off the disk. The caller holds
// changing.
func (i *Ingester) remove(s *slot) error {
	dir := i.tenantDir(s.id)
	if _, err := os.Stat(filepath.Join(dir, walDir)); err == nil {
		return nil // it was not closed well: it is opened, and closed, before it goes
	}
	i.creating.Lock() // or the tenant might be created in the directory that goes
	defer i.creating.Unlock()
	gone := filepath.Join(i.Dir, removedPrefix+s.id)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil {
		return fmt.Errorf("remove a tenant: %w", err)
	}
	s.removed = true
	i.mu.Lock()
	delete(i.slots, s.id)
	i.mu.Unlock()
	i.metrics.removed.Inc()
	i.Logger.Info("removed a tenant of which nothing is left", "tenant", s.id)
	return os.RemoveAll(gone)
}

// atRest returns the span of a tenant on disk that can stay closed: it has no
// log, so everything is in its blocks. One that was closed with a log has lost it.
func atRest(dir string) (rest span, ok bool) {
	if _, err := os.Stat(filepath.Join(dir, closingFile)); err == nil {
		return span{}, false
	}
	if _, err := os.Stat(filepath.Join(dir, walDir)); !errors.Is(err, fs.ErrNotExist) {
		return span{}, false
	}
	if err := emptyLogs(dir); err != nil {
		return span{}, false
	}
	rest, err := dropBlocks(dir, math.MinInt64)
	return rest, err == nil
}
