package ingester

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/weir-metrics/weir/tenant"
)

const (
	// replayGC is the garbage collector's percentage while tenants are replayed:
	// decoded records are garbage at once, and with the default they would double
	// what the process takes later.
	replayGC = 50

	// replayMemory is the share of the memory limit that the tenants in replay may
	// be expected to take, in percent. Those that are done take the rest.
	replayMemory = 50

	// replayPerByte is what a tenant takes in memory for each byte on disk while it
	// is replayed, at most: a log with nothing but new series takes this.
	replayPerByte = 4

	// replayAlone is the number of bytes on disk from which the replay of one tenant
	// is worth several processors.
	replayAlone = 8 << 20

	// replayReport is the time between lines in the log about progress.
	replayReport = 5 * time.Second
)

// ReplayProgress is how far the start is.
type ReplayProgress struct {
	Tenants, TenantsDone int
	Bytes, BytesDone     int64         // on disk: of logs, chunk files and snapshots
	Elapsed              time.Duration // so far, or in all
	Left                 time.Duration // estimate; 0: not known, or done
}

// String is the reason of not being ready yet.
func (r ReplayProgress) String() string {
	s := fmt.Sprintf("%d of %d tenants done, %d of %d MiB", r.TenantsDone, r.Tenants, r.BytesDone>>20, r.Bytes>>20)
	if r.Left > 0 {
		s += fmt.Sprintf(", about %s left", r.Left.Round(time.Second))
	}
	return s
}

// replay is the state of the start.
type replay struct {
	mu    sync.Mutex
	jobs  []*replayJob // guarded by mu
	begun time.Time    // guarded by mu
	took  time.Duration
}

// replayJob is the replay of one tenant.
type replayJob struct {
	id       string
	bytes    int64 // on disk
	stats    *tsdb.DBStats
	verified atomic.Int64 // bytes read before the TSDB is opened
	done     atomic.Bool
}

func newReplayJob(id string, bytes int64) *replayJob {
	return &replayJob{id: id, bytes: bytes, stats: tsdb.NewDBStats()}
}

// read takes progress of the check before the TSDB is opened.
func (j *replayJob) read(bytes int64) { j.verified.Add(bytes) }

// concurrency is the number of workers of the TSDB's replay: each takes buffers
// and goroutines.
func (j *replayJob) concurrency() int {
	if j.bytes < replayAlone {
		return 1
	}
	return runtime.GOMAXPROCS(0)
}

// finished is an estimate of the bytes that are dealt with: the check of files
// and their replay count half each.
func (j *replayJob) finished() int64 {
	if j.done.Load() {
		return j.bytes
	}
	n := min(j.verified.Load(), j.bytes) / 2
	if s := j.stats.Head.WALReplayStatus.GetWALReplayStatus(); s.Max > s.Min {
		n += j.bytes / 2 * int64(max(s.Current-s.Min, 0)) / int64(s.Max-s.Min+1)
	}
	return n
}

// ReplayProgress says how far the start is.
func (i *Ingester) ReplayProgress() ReplayProgress {
	r := &i.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	out := ReplayProgress{Tenants: len(r.jobs), Elapsed: r.took}
	for _, j := range r.jobs {
		out.Bytes += j.bytes
		out.BytesDone += j.finished()
		if j.done.Load() {
			out.TenantsDone++
		}
	}
	if out.Elapsed == 0 && !r.begun.IsZero() {
		out.Elapsed = time.Since(r.begun)
		if out.BytesDone > 0 {
			out.Left = time.Duration(float64(out.Elapsed) * float64(out.Bytes-out.BytesDone) / float64(out.BytesDone))
		}
	}
	return out
}

// openAll replays every tenant on disk, the largest first, several at once as
// long as they are expected to fit into memory together. A tenant that cannot be
// opened does not keep the others from being served.
func (i *Ingester) openAll(ctx context.Context) error {
	jobs, err := i.findTenants()
	if err != nil {
		return err
	}
	i.replay.mu.Lock()
	i.replay.jobs, i.replay.begun = jobs, time.Now()
	i.replay.mu.Unlock()
	defer debug.SetGCPercent(debug.SetGCPercent(replayGC))
	reported, stop := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() { i.reportReplay(reported) })
	defer reporter.Wait()
	defer stop()

	budget := replayBudget(debug.SetMemoryLimit(-1))
	memory := semaphore.NewWeighted(budget)
	var g errgroup.Group
	g.SetLimit(i.cfg.OpenConcurrency)
	for _, j := range jobs {
		need := min(j.bytes*replayPerByte+1, budget)
		if memory.Acquire(ctx, need) != nil {
			break
		}
		g.Go(func() error {
			defer memory.Release(need)
			if ctx.Err() == nil {
				i.replayTenant(j)
			}
			return nil
		})
	}
	_ = g.Wait() // has no errors
	i.replay.mu.Lock()
	defer i.replay.mu.Unlock()
	i.replay.took = max(time.Since(i.replay.begun), 1)
	return ctx.Err()
}

// replayBudget is what the tenants in replay may be expected to take together,
// under a memory limit of the process.
func replayBudget(limit int64) int64 {
	if limit == math.MaxInt64 { // none
		return limit
	}
	return limit / 100 * replayMemory
}

// findTenants returns the tenants on disk, the largest first.
func (i *Ingester) findTenants() ([]*replayJob, error) {
	entries, err := os.ReadDir(i.Dir)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var jobs []*replayJob
	for _, e := range entries {
		switch {
		case e.IsDir() && tenant.ValidateID(e.Name()) == nil:
			jobs = append(jobs, newReplayJob(e.Name(), replayBytes(i.tenantDir(e.Name()))))
		case strings.HasPrefix(e.Name(), removedPrefix):
			if err := os.RemoveAll(filepath.Join(i.Dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove what is left of a removed tenant: %w", err)
			}
		}
	}
	slices.SortStableFunc(jobs, func(a, b *replayJob) int { return cmp.Compare(b.bytes, a.bytes) })
	return jobs, nil
}

// replayBytes is what has to be read before the tenant in dir is open.
func replayBytes(dir string) (n int64) {
	for _, size := range sizes(dir) {
		n += size
	}
	return n
}

// replayTenant gives a tenant found on disk its slot.
func (i *Ingester) replayTenant(j *replayJob) {
	s := i.admit(j)
	i.mu.Lock()
	i.slots[j.id] = s
	i.mu.Unlock()
	j.done.Store(true)
}

// admit makes the slot of a tenant found on disk. It is opened, unless it is at
// rest, or the disk has no room for that; then it is opened when it is used and
// there is room. One that cannot be opened does not keep others from it.
func (i *Ingester) admit(j *replayJob) *slot {
	s := &slot{id: j.id, activity: i.newActivity(j.id), rest: anyTime}
	if rest, ok := atRest(i.tenantDir(j.id)); ok {
		s.rest = rest
		return s
	}
	if err := i.roomToOpen(j.id); err != nil {
		i.Logger.Error("a tenant stays closed", "tenant", j.id, "err", err)
		return s
	}
	start := time.Now()
	t, err := i.openTenant(s, j)
	if err != nil {
		_ = i.setBroken(s, err)
		return s
	}
	s.open = t
	i.Logger.Debug("opened tenant", "tenant", j.id, "series", t.db.Head().NumSeries(),
		"blocks", len(t.db.Blocks()), "bytes", j.bytes, "took", time.Since(start))
	return s
}

// reportReplay logs progress until ctx ends.
func (i *Ingester) reportReplay(ctx context.Context) {
	tick := time.NewTicker(replayReport)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if r := i.ReplayProgress(); r.TenantsDone > 0 {
				i.Logger.Info("opened tenants", "tenants", r.TenantsDone, "of", r.Tenants, "mib", r.Bytes>>20, "took", r.Elapsed)
			}
			return
		case <-tick.C:
			r := i.ReplayProgress()
			i.Logger.Info("replaying", "tenants", r.TenantsDone, "of", r.Tenants,
				"mib", r.BytesDone>>20, "of_mib", r.Bytes>>20, "left", r.Left.Round(time.Second))
		}
	}
}
