package ingester

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-metrics/weir/tenant"
)

// tenantDB is one tenant's TSDB and what goes with it.
type tenantDB struct {
	id       string
	dir      string
	log      *slog.Logger
	db       *tsdb.DB
	blockMS  int64
	disk     *disk
	logs     logFailures
	series   seriesTable
	metadata metadataStore

	users    users       // whoever reads, writes or maintains
	draining atomic.Bool // newcomers are kept out, until it is opened anew

	// commits is held for reading while samples are appended and committed, and
	// for writing by whoever needs that none are.
	commits sync.RWMutex
	closed  bool // guarded by commits
	writes  inFlight

	snapshots bool // one is written when the TSDB is closed

	failed   atomic.Int64 // since when a log cannot be written, Unix ms; 0: it can
	broken   atomic.Bool  // chunk files cannot be written either: it must not be closed, only left
	sync     *logSync
	unsynced atomic.Bool   // something was logged since the last sync
	written  atomic.Uint64 // samples and histograms since open
	stored   atomic.Uint64 // in all the tenant's life; changed under commits, together with the log
	saved    atomic.Uint64 // of stored, in usageFile
	activity *activity     // of the slot
	cutting  atomic.Int64  // a flush is cutting samples up to here, ms; or notCutting

	// applied is the version of the limits that the TSDB works under; changing
	// is held while it is brought to another one.
	changing  sync.Mutex
	applied   atomic.Pointer[tenant.Limits]
	exemplars atomic.Bool // the exemplar buffer has its full size
	late      atomic.Bool // the TSDB has a log for late samples

	wrote, read atomic.Bool // since maintenance looked last

	maintenance  sync.Mutex // held while blocks are cut
	compactable  time.Time  // since when the head could be cut; guarded by maintenance
	lastWrite    time.Time  // guarded by maintenance
	lastUse      time.Time  // guarded by maintenance
	newest       int64      // time of the newest sample when maintenance looked last, ms; guarded by maintenance
	exported     int64      // when what the tenant uses was written into it, ms; guarded by maintenance
	replayedLate bool       // there were out-of-order samples at start; guarded by maintenance

	droppedMu sync.Mutex
	dropped   map[storage.SeriesRef]struct{} // by the head, not yet swept; guarded by droppedMu
}

const notCutting = math.MinInt64

// exemplarsFile marks a tenant that sends exemplars: the buffer for them is
// large, so it is made with the first one, and at start before the replay.
const exemplarsFile = "exemplars"

// openTenant opens or creates a tenant's TSDB and replays its log. What is damaged
// is set aside; an error means that the tenant cannot be opened now.
func (i *Ingester) openTenant(s *slot, job *replayJob) (*tenantDB, error) {
	id, lim := s.id, i.Limits(s.id)
	t := &tenantDB{
		id: id, dir: i.tenantDir(id), log: i.Logger.With("tenant", id), disk: i.disk, blockMS: i.cfg.BlockDuration.Milliseconds(),
		activity: s.activity,
	}
	t.sync = newLogSync(t.dir)
	t.cutting.Store(notCutting)
	t.applied.Store(lim)
	r := repair{dir: t.dir, log: t.log, metrics: i.metrics, compression: i.cfg.WALCompression, read: job.read}
	if err := r.run(); err != nil {
		return nil, fmt.Errorf("read the files of tenant %s: %w", id, err)
	}
	// A tenant whose log has a series under two references goes without snapshots
	// until it has not: a TSDB that starts from one knows of one reference only,
	// and would drop the other with samples that are not in a block yet.
	t.snapshots = i.cfg.Snapshots && !r.refs.twice
	if _, err := os.Stat(filepath.Join(t.dir, exemplarsFile)); err == nil || r.refs.exemplars {
		t.exemplars.Store(true)
	}
	late, err := dirBytes(filepath.Join(t.dir, wlog.WblDirName))
	if err != nil {
		return nil, fmt.Errorf("read the files of tenant %s: %w", id, err)
	}
	t.late.Store(late > 0 || t.exemplars.Load()) // the window is that of exemplars as well
	used, err := loadUsage(t.dir, r.refs.own)
	if err != nil {
		return nil, fmt.Errorf("read the usage of tenant %s: %w", id, err)
	}
	t.stored.Store(used.Samples)
	t.activity.learn(used.Activity)
	o := i.tsdbOptions(t, lim)
	o.WALReplayConcurrency = job.concurrency()
	o.EnableMemorySnapshotOnShutdown = r.snapshot
	db, err := t.openTSDB(o, job.stats)
	if err != nil {
		return nil, fmt.Errorf("open the TSDB of tenant %s: %w", id, err)
	}
	db.DisableCompactions() // ours are spread over the tenants
	t.db = db
	if err := t.saveUsage(true); err != nil { // the position of before may be of a log that is gone
		t.log.Warn("the number of samples stored may be off after a kill", "err", err)
	}
	if err := t.restoreActive(lim); err != nil {
		return nil, errors.Join(fmt.Errorf("count the series of tenant %s: %w", id, err), db.Close())
	}
	t.replayedLate = db.Head().MinOOOTime() != math.MaxInt64
	if err := dropSnapshots(t.dir); err != nil {
		t.log.Warn("a used snapshot cannot be removed", "err", err)
	}
	if err := t.metadata.load(t.dir); err != nil {
		if err := r.setAside(damagedMetadata, filepath.Join(t.dir, metadataFile), err); err != nil {
			t.log.Warn("metric metadata starts empty", "err", err)
		}
	}
	if r.lost && r.snapshot {
		// The snapshot has what the log lost, and is good for this start only.
		if err := t.flush(context.Background()); err != nil {
			t.log.Warn("what a damaged log lost is in memory only until blocks are cut", "err", err)
		}
	}
	return t, nil
}

// openTSDB opens the TSDB. When that repaired the write-ahead log, it has not
// read the out-of-order log, and would drop it with the next cut: so it is opened
// again.
func (t *tenantDB) openTSDB(o *tsdb.Options, stats *tsdb.DBStats) (db *tsdb.DB, err error) {
	for range 2 {
		t.logs = logFailures{}
		db, err = tsdb.Open(t.dir, slog.New(quiet{t.log.Handler()}), &t.logs, o, stats)
		if err != nil || !t.logs.repaired() {
			return db, err
		}
		if err := errors.Join(db.Close(), dropSnapshots(t.dir)); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("a log is damaged again right after it was repaired")
}

func (i *Ingester) tsdbOptions(t *tenantDB, lim *tenant.Limits) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.MinBlockDuration = t.blockMS
	o.MaxBlockDuration = t.blockMS // merging blocks is the compactor's work
	o.RetentionDuration = i.cfg.Retention.Milliseconds()
	o.WALCompression = i.cfg.WALCompression
	o.StripeSize = i.cfg.StripeSize
	o.HeadChunksWriteBufferSize = chunks.MinWriteBufferSize // the default takes 4 MiB of every tenant
	o.MaxBlockChunkSegmentSize = blockSegmentBytes          // the default is 512 MiB
	o.BlockReloadInterval = never                           // it would write chunk files whenever it likes, and end the process when it cannot
	o.NoLockfile = true                                     // the directory above is locked
	o.IsolationDisabled = true
	o.EnableOverlappingCompaction = false
	o.OutOfOrderTimeWindow = windowMS(lim, t.late.Load())
	o.EnableExemplarStorage = true
	o.MaxExemplars = maxExemplars(lim, t.exemplars.Load())
	o.SeriesLifecycleCallback = t
	if i.cfg.StartTimestamps {
		o.EnableSTStorage = true
		o.FloatChunkEncoding = chunkenc.EncXOR2
		o.EnableHistogramSTEncoding = true
	}
	return o
}

// never is later than any process lives.
const never = 100 * 365 * 24 * time.Hour

// windowMS is the out-of-order window of the TSDB. It is 0 until the first late
// sample comes, because the log for them takes memory and an open file of every
// tenant, and never after: with no window, the TSDB does not say which samples are
// too old.
func windowMS(lim *tenant.Limits, late bool) int64 {
	if !late {
		return 0
	}
	return max(lim.OutOfOrderWindow.Milliseconds(), 1)
}

// maxExemplars is the size of the exemplar buffer: one until the first exemplar
// comes, because the TSDB makes the whole buffer at once.
func maxExemplars(lim *tenant.Limits, expected bool) int64 {
	if expected || lim.MaxExemplars == 0 {
		return int64(lim.MaxExemplars)
	}
	return 1
}

// limits is the version that the TSDB works under.
func (t *tenantDB) limits() *tenant.Limits { return t.applied.Load() }

func (t *tenantDB) window() time.Duration { return t.limits().OutOfOrderWindow }

// follow brings the TSDB to lim.
func (t *tenantDB) follow(lim *tenant.Limits) error {
	if t.applied.Load() == lim {
		return nil
	}
	t.changing.Lock()
	err := t.apply(lim, t.exemplars.Load(), t.late.Load())
	t.changing.Unlock()
	if err != nil {
		return err
	}
	return t.limitSeries() // not under changing, which may be wanted under commits
}

// apply makes lim take effect, with a full-sized exemplar buffer or a small one,
// and with a log for late samples or none. The caller holds changing.
func (t *tenantDB) apply(lim *tenant.Limits, exemplars, late bool) error {
	err := t.db.ApplyConfig(&config.Config{StorageConfig: config.StorageConfig{
		TSDBConfig:      &config.TSDBConfig{OutOfOrderTimeWindow: windowMS(lim, late)},
		ExemplarsConfig: &config.ExemplarsConfig{MaxExemplars: maxExemplars(lim, exemplars)},
	}})
	if err != nil {
		return fmt.Errorf("apply limits to tenant %s: %w", t.id, err)
	}
	t.applied.Store(lim)
	return nil
}

// expectExemplars makes the exemplar buffer full-sized, with the window for those
// that come late.
func (t *tenantDB) expectExemplars() error {
	if t.exemplars.Load() {
		return nil
	}
	t.commits.Lock() // the window comes with the log for late samples, for which a commit looks
	defer t.commits.Unlock()
	if err := t.writable(nil); err != nil || t.exemplars.Load() {
		return err
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	if err := os.WriteFile(filepath.Join(t.dir, exemplarsFile), nil, 0o644); err != nil {
		return unavailable(err)
	}
	if err := t.apply(t.applied.Load(), true, true); err != nil {
		return unavailable(err)
	}
	t.late.Store(true)
	t.exemplars.Store(true) // not before, or others would write into the small buffer
	return nil
}

// expectLate makes the log for late samples. The caller holds commits for
// writing: the TSDB looks for that log when it commits.
func (t *tenantDB) expectLate() error {
	if t.late.Load() {
		return nil
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	if err := t.apply(t.applied.Load(), t.exemplars.Load(), true); err != nil {
		return unavailable(err)
	}
	t.late.Store(true)
	return nil
}

// close ends the TSDB after the writes under way; later ones are refused.
func (t *tenantDB) close() (err error) {
	if t.broken.Load() {
		return t.abandon()
	}
	t.maintenance.Lock()
	defer t.maintenance.Unlock()
	t.commits.Lock()
	defer t.commits.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	u, err := t.usageAt()
	if err == nil {
		err = t.writeUsage(u)
	}
	defer t.survive(&err)
	return errors.Join(err, t.metadata.save(t.dir), t.closeDB())
}

// abandon ends as much of a broken TSDB as it lets go of: closing it panics again,
// or waits for a lock that nobody will release. Its log has what its chunk files
// have not.
func (t *tenantDB) abandon() error {
	const patience = 5 * time.Second
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		defer t.survive(&err)
		err = t.db.Close()
	}()
	select {
	case err := <-done:
		t.log.Warn("left a tenant whose chunk files cannot be written", "err", err)
	case <-time.After(patience):
		t.log.Warn("left a tenant whose chunk files cannot be written, and which does not close")
	}
	return nil
}

// leave ends a use that Ingester.enter began.
func (t *tenantDB) leave() { t.users.leave() }

// fail notes that a log cannot be written. Its last record may lie there in part,
// and what is logged behind it could not be replayed: so no more is taken until
// the tenant is opened anew, which repairs the log.
func (t *tenantDB) fail(err error) {
	if t.failed.CompareAndSwap(0, time.Now().UnixMilli()) {
		t.log.Error("a log cannot be written; this tenant takes no more writes until it is opened anew", "err", err)
	}
	t.disk.measure()
}

// survive is deferred by whatever makes the TSDB write chunk files. The TSDB
// panics when it cannot; that becomes an error here, and the TSDB must be left:
// it lost count of what is in the files, and may hold locks.
func (t *tenantDB) survive(err *error) {
	r := recover()
	if r == nil {
		return
	}
	cause, ok := r.(error)
	if errno := syscall.Errno(0); !ok || !errors.As(cause, &errno) {
		panic(r)
	}
	t.broken.Store(true)
	t.fail(cause)
	*err = errors.Join(*err, unavailable(cause))
}

// jitter spreads what tenants do at block borders over d, by their ids.
func (t *tenantDB) jitter(d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.id))
	return time.Duration(float64(h.Sum32()) / (1 << 32) * float64(d))
}

// inFlight numbers the Writes of a tenant and knows which have not ended.
type inFlight struct {
	mu      sync.Mutex
	last    uint64   // guarded by mu
	numbers []uint64 // guarded by mu
}

// begin returns the number of a new Write, and appends those of the others that
// have not ended to dst.
func (r *inFlight) begin(dst []uint64) (number uint64, others []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dst = append(dst, r.numbers...)
	r.last++
	r.numbers = append(r.numbers, r.last)
	return r.last, dst
}

func (r *inFlight) end(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers = slices.DeleteFunc(r.numbers, func(n uint64) bool { return n == number })
}

// PreCreation implements tsdb.SeriesLifecycleCallback.
func (t *tenantDB) PreCreation(labels.Labels) error { return nil }

// PostCreation implements tsdb.SeriesLifecycleCallback.
func (t *tenantDB) PostCreation(labels.Labels) {}

// PostDeletion implements tsdb.SeriesLifecycleCallback: it notes what the head
// dropped, for the next sweep.
func (t *tenantDB) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	t.droppedMu.Lock()
	defer t.droppedMu.Unlock()
	if t.dropped == nil {
		t.dropped = make(map[storage.SeriesRef]struct{}, len(gone))
	}
	for ref := range gone {
		t.dropped[storage.SeriesRef(ref)] = struct{}{}
	}
}

// quiet shows a TSDB's informational messages at debug level only: with
// thousands of tenants they would bury everything else.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	if l == slog.LevelInfo {
		l = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
