// Package ingester keeps each tenant's recent samples in a Prometheus TSDB of
// its own.
//
//	write.go     Write: identity -> series reference -> TSDB append, commit, counts
//	late.go      samples that repeat, contradict or come late; past.go reads for it
//	exemplars.go exemplars of series
//	series.go    the table of identities
//	admit.go     which series of a frame are stored, and which refused or postponed
//	active.go    which series of the table are active;
//	             explore.go tells people what they consist of, and days.go those of
//	             a past day from the sections.go of its time; survey.go counts both
//	slot.go      a tenant's place: closed, open, failed, removed; opening and healing it
//	retire.go    closing unused tenants, removing those of which nothing is left
//	tenantdb.go  one tenant's opened TSDB: open, limits, close
//	replay.go    opening all tenants at start, within memory, with progress
//	repair.go    what is damaged on disk is set aside first; mend.go makes logs whole,
//	             logfile.go and chunkfile.go check files, wbl.go rewrites the
//	             out-of-order log
//	closing.go   the snapshot that a TSDB leaves, and when it is trusted
//	logs.go      noticing that a log cannot be written; sync.go forces it to the disk
//	disk.go      how full the disk is, and what is then refused
//	maintain.go  cutting blocks, idle tenants, forgetting dropped series
//	blocks.go    the blocks of closed tenants
//	query.go     reading; status.go counts
//	stats.go     what operators ask about tenants
//	usage.go     what tenants have used in all their life; usageseries.go writes it into them
//
// It knows nothing of HTTP or RPC.
package ingester

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/util/compression"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// Config of an ingester.
type Config struct {
	BlockDuration       time.Duration `yaml:"block_duration"`
	Retention           time.Duration `yaml:"retention"`
	WALCompression      string        `yaml:"wal_compression"`
	WALSync             string        `yaml:"wal_sync"`
	StartTimestamps     bool          `yaml:"start_timestamps"`
	StripeSize          int           `yaml:"stripe_size"`
	MaxTenants          int           `yaml:"max_tenants"`
	OpenConcurrency     int           `yaml:"open_concurrency"`
	Snapshots           bool          `yaml:"snapshots"`
	MaintenanceInterval time.Duration `yaml:"maintenance_interval"`
	IdleTimeout         time.Duration `yaml:"idle_timeout"`
	UsageSeries         bool          `yaml:"usage_series"`
	Disk                DiskConfig    `yaml:"disk"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		BlockDuration:       2 * time.Hour,
		Retention:           15 * 24 * time.Hour, // of local blocks
		WALCompression:      compression.None,    // none, snappy or zstd
		WALSync:             WALSyncNone,         // none, interval or always
		StartTimestamps:     false,               // keep start timestamps, in chunk encodings that older readers do not know
		StripeSize:          256,                 // of each tenant's series map; a power of two; 240 bytes each
		MaxTenants:          10_000,              // each costs memory and files, and senders create them
		OpenConcurrency:     4,                   // tenants replayed at once at start, and closed at once
		Snapshots:           true,                // of what is in memory, written when a TSDB is closed, so that the next start is fast
		MaintenanceInterval: time.Minute,         // between looks for heads to cut
		IdleTimeout:         3 * time.Hour,       // without a write, after which all of a tenant is cut into blocks
		UsageSeries:         true,                // write what each tenant uses into it, with each maintenance
		Disk: DiskConfig{
			NoNewSeriesPercent: 90,
			ReadOnlyPercent:    95,
			MinFreeBytes:       128 << 20, // nothing is written below, no new series below twice that
			ReserveBytes:       64 << 20,  // in a file, given up when weir starts on a full disk
		},
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	var errs []error
	bad := func(name string, v any, rule string) {
		errs = append(errs, fmt.Errorf("%s.%s: %v: %s", prefix, name, v, rule))
	}
	if c.BlockDuration < time.Minute || c.BlockDuration > 24*time.Hour {
		bad("block_duration", c.BlockDuration, "must be from 1m to 24h")
	}
	if c.Retention < c.BlockDuration {
		bad("retention", c.Retention, "must be at least block_duration")
	}
	if !slices.Contains([]string{compression.None, compression.Snappy, compression.Zstd}, c.WALCompression) {
		bad("wal_compression", c.WALCompression, "must be none, snappy or zstd")
	}
	if !slices.Contains([]string{WALSyncNone, WALSyncInterval, WALSyncAlways}, c.WALSync) {
		bad("wal_sync", c.WALSync, "must be none, interval or always")
	}
	if c.StripeSize < 1 || c.StripeSize&(c.StripeSize-1) != 0 {
		bad("stripe_size", c.StripeSize, "must be a power of two")
	}
	if c.MaxTenants < 1 {
		bad("max_tenants", c.MaxTenants, "must be at least 1")
	}
	if c.OpenConcurrency < 1 {
		bad("open_concurrency", c.OpenConcurrency, "must be at least 1")
	}
	if c.MaintenanceInterval <= 0 {
		bad("maintenance_interval", c.MaintenanceInterval, "must be above 0")
	}
	if c.IdleTimeout < time.Minute {
		bad("idle_timeout", c.IdleTimeout, "must be at least 1m")
	}
	c.Disk.validate(bad)
	return errs
}

// Deps are the collaborators of an Ingester.
type Deps struct {
	Dir      string                             // one sub-directory per tenant; locked while Run runs
	Limits   func(tenant string) *tenant.Limits // the current snapshot; a new version is a new pointer
	Logger   *slog.Logger
	Registry prometheus.Registerer

	Activity func(tenant string) tenant.Activity // that this process has counted; nil: none
	RateUse  func(tenant string) []proto.Quota   // of each rate of the tenant; nil: it has none
}

// Ingester is receiver.Ingester and querier.Source over local TSDBs. It is safe
// for concurrent use.
type Ingester struct {
	cfg Config
	Deps
	metrics *metrics
	disk    *disk

	phase  atomic.Int32
	replay replay

	creating sync.Mutex // held while a tenant is created or removed; taken after a slot's changing and before mu
	mu       sync.RWMutex
	slots    map[string]*slot // guarded by mu

	exploring *semaphore.Weighted // held by who walks all series of a tenant
	days      dayReports
}

// lockFile has a name that no tenant can have.
const lockFile = "__lock"

// Phases of an ingester's life, in order.
const (
	starting = iota
	running
	stopping
)

// New checks and wires; it starts nothing.
func New(cfg Config, deps Deps) *Ingester {
	i := &Ingester{cfg: cfg, Deps: deps, slots: make(map[string]*slot), disk: newDisk(cfg.Disk, deps.Dir, deps.Logger), exploring: semaphore.NewWeighted(1)}
	i.metrics = newMetrics(i)
	return i
}

// Run replays the tenants on disk, then keeps house until ctx ends, and closes
// every TSDB before it returns.
func (i *Ingester) Run(ctx context.Context) (err error) {
	if err := os.MkdirAll(i.Dir, 0o755); err != nil {
		return fmt.Errorf("create the ingester's directory: %w", err)
	}
	lock, _, err := fileutil.Flock(filepath.Join(i.Dir, lockFile))
	if err != nil {
		return fmt.Errorf("lock %s, which another weir may be using: %w", i.Dir, err)
	}
	defer func() {
		i.phase.Store(stopping)
		if cerr := i.closeAll(); err == nil {
			err = cerr
		}
		if lerr := lock.Release(); err == nil {
			err = lerr
		}
	}()
	i.disk.start()
	if err := i.openAll(ctx); err != nil {
		return err
	}
	i.phase.Store(running)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return i.disk.watch(ctx) })
	g.Go(func() error { return i.healAll(ctx) })
	g.Go(func() error { return i.maintain(ctx) })
	if i.cfg.WALSync == WALSyncInterval {
		g.Go(func() error { return i.syncLoop(ctx) })
	}
	return g.Wait()
}

// Ready is nil once every tenant on disk is replayed, until Run returns.
func (i *Ingester) Ready() error {
	switch i.phase.Load() {
	case running:
		return nil
	case starting:
		return proto.Errorf(proto.KindUnavailable, "weir-starting",
			"replaying the write-ahead logs: %s", i.ReplayProgress())
	default:
		return proto.Errorf(proto.KindUnavailable, "weir-shutting-down", "the server is shutting down; repeat the request")
	}
}

// ActiveSeries yields the tenants that are stored here, each with the number of
// its active series: none while it is closed.
func (i *Ingester) ActiveSeries(yield func(tenant string, series int) bool) {
	for _, slot := range i.all() {
		n := 0
		if t := i.openOf(slot); t != nil {
			t.series.count(time.Now(), func(a *cardinality.Active) { n = a.Total() })
		}
		if !yield(slot.id, n) {
			return
		}
	}
}

// all returns the tenants' slots.
func (i *Ingester) all() []*slot {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Collect(maps.Values(i.slots))
}

// closeAll closes every TSDB, after the writes under way.
func (i *Ingester) closeAll() error {
	i.creating.Lock() // waits for a tenant that is being created; no other begins
	slots := i.all()
	i.creating.Unlock()
	var g errgroup.Group
	g.SetLimit(i.cfg.OpenConcurrency)
	for _, s := range slots {
		g.Go(func() error {
			s.changing.Lock() // likewise for one that is being opened
			defer s.changing.Unlock()
			if t := i.openOf(s); t != nil {
				return t.close()
			}
			return i.saveActivity(s)
		})
	}
	return g.Wait()
}

func (i *Ingester) tenantDir(id string) string { return filepath.Join(i.Dir, id) }
