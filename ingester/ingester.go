// Package ingester keeps each tenant's recent samples in a Prometheus TSDB of
// its own.
//
//	write.go     Write: identity -> series reference -> TSDB append, commit, counts
//	late.go      samples that repeat, contradict or come late; past.go reads for it
//	exemplars.go exemplars of series
//	series.go    the table of identities
//	tenantdb.go  one tenant's TSDB: open, limits, close
//	maintain.go  cutting blocks, forgetting dropped series
//	query.go     reading; status.go counts
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

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// Config of an ingester.
type Config struct {
	BlockDuration       time.Duration `yaml:"block_duration"`
	Retention           time.Duration `yaml:"retention"`
	WALCompression      string        `yaml:"wal_compression"`
	StartTimestamps     bool          `yaml:"start_timestamps"`
	StripeSize          int           `yaml:"stripe_size"`
	MaxTenants          int           `yaml:"max_tenants"`
	OpenConcurrency     int           `yaml:"open_concurrency"`
	MaintenanceInterval time.Duration `yaml:"maintenance_interval"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		BlockDuration:       2 * time.Hour,
		Retention:           15 * 24 * time.Hour, // of local blocks
		WALCompression:      compression.None,    // none, snappy or zstd
		StartTimestamps:     false,               // keep start timestamps, in chunk encodings that older readers do not know
		StripeSize:          512,                 // of each tenant's series map; a power of two
		MaxTenants:          10_000,              // each costs memory and files, and senders create them
		OpenConcurrency:     2,                   // tenants replayed at once at start
		MaintenanceInterval: time.Minute,         // between looks for heads to cut
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
	return errs
}

// Deps are the collaborators of an Ingester.
type Deps struct {
	Dir      string                             // one sub-directory per tenant; locked while Run runs
	Limits   func(tenant string) *tenant.Limits // the current snapshot; a new version is a new pointer
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// Ingester is receiver.Ingester and querier.Source over local TSDBs. It is safe
// for concurrent use.
type Ingester struct {
	cfg Config
	Deps
	metrics *metrics

	phase  atomic.Int32
	toOpen atomic.Int32 // tenants found on disk at start
	opened atomic.Int32 // of them, replayed

	creating sync.Mutex // held while a tenant is created; taken before mu
	mu       sync.RWMutex
	tenants  map[string]*tenantDB // guarded by mu
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
	i := &Ingester{cfg: cfg, Deps: deps, tenants: make(map[string]*tenantDB)}
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
	if err := i.openAll(ctx); err != nil {
		return err
	}
	i.phase.Store(running)
	return i.maintain(ctx)
}

// Ready is nil once every tenant on disk is replayed, until Run returns.
func (i *Ingester) Ready() error {
	switch i.phase.Load() {
	case running:
		return nil
	case starting:
		return proto.Errorf(proto.KindUnavailable, "weir-starting",
			"replaying the write-ahead log: %d of %d tenants done", i.opened.Load(), i.toOpen.Load())
	default:
		return proto.Errorf(proto.KindUnavailable, "weir-shutting-down", "the server is shutting down; repeat the request")
	}
}

// openAll replays every tenant on disk.
func (i *Ingester) openAll(ctx context.Context) error {
	entries, err := os.ReadDir(i.Dir)
	if err != nil {
		return fmt.Errorf("list tenants: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && tenant.ValidateID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	i.toOpen.Store(int32(len(ids)))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(i.cfg.OpenConcurrency)
	for _, id := range ids {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			start := time.Now()
			t, err := i.openTenant(id)
			if err != nil {
				return err
			}
			i.mu.Lock()
			i.tenants[id] = t
			i.mu.Unlock()
			i.Logger.Info("opened tenant", "tenant", id, "series", t.db.Head().NumSeries(),
				"blocks", len(t.db.Blocks()), "took", time.Since(start), "done", i.opened.Add(1), "of", len(ids))
			return nil
		})
	}
	return g.Wait()
}

// find returns an open tenant, or nil.
func (i *Ingester) find(id string) *tenantDB {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.tenants[id]
}

// open returns a tenant's TSDB, which it creates for a new tenant.
func (i *Ingester) open(id string) (*tenantDB, error) {
	if err := i.Ready(); err != nil {
		return nil, err
	}
	if t := i.find(id); t != nil {
		return t, t.follow(i.Limits(id))
	}
	i.creating.Lock()
	defer i.creating.Unlock()
	if t := i.find(id); t != nil {
		return t, nil
	}
	if err := i.Ready(); err != nil {
		return nil, err
	}
	i.mu.RLock()
	n := len(i.tenants)
	i.mu.RUnlock()
	if n >= i.cfg.MaxTenants {
		return nil, proto.Errorf(proto.KindLimit, "weir-too-many-tenants",
			"there are %d tenants, the limit ingester.max_tenants; raise it if the tenant %q is meant to exist", n, id)
	}
	t, err := i.openTenant(id)
	if err != nil {
		i.Logger.Error("cannot create a tenant", "tenant", id, "err", err)
		return nil, unavailable(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tenants[id] = t
	return t, nil
}

// all returns the open tenants.
func (i *Ingester) all() []*tenantDB {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.Collect(maps.Values(i.tenants))
}

// closeAll closes every TSDB, after the writes under way.
func (i *Ingester) closeAll() error {
	i.creating.Lock() // waits for a tenant that is being created, and lets no other begin
	defer i.creating.Unlock()
	var g errgroup.Group
	g.SetLimit(i.cfg.OpenConcurrency)
	for _, t := range i.all() {
		g.Go(t.close)
	}
	return g.Wait()
}

func (i *Ingester) tenantDir(id string) string { return filepath.Join(i.Dir, id) }
