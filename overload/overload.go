// Package overload refuses work before memory is short, and lets the tenant that
// brings too much of it feel that first.
//
//	write ── Writes.Enter, Hold.Take ──┐
//	                                   ├── Budget: a tenant may hold as much as is free
//	read  ── Reads.Enter ──────────────┘        ▲
//	Guard.Run ── live heap, GOMEMLIMIT ── headroom
//
// A refusal costs a look into a map under a mutex, and nothing is read or decoded
// for it. Senders repeat what was refused (weir-overloaded, 503).
package overload

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Config of a Guard.
type Config struct {
	MaxInflightBytes    int `yaml:"max_inflight_bytes"`
	MaxConcurrentWrites int `yaml:"max_concurrent_writes"`
	MaxConcurrentReads  int `yaml:"max_concurrent_reads"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxInflightBytes:    0,    // of write requests, compressed and decoded; 0: a quarter of GOMEMLIMIT, or 1 GiB without one
		MaxConcurrentWrites: 1000, // one tenant gets half of them
		MaxConcurrentReads:  200,  // evaluated or waiting for query.max_concurrent; one tenant gets half of them
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	var errs []error
	if c.MaxInflightBytes < 0 || c.MaxInflightBytes > 0 && c.MaxInflightBytes < 1<<20 {
		errs = append(errs, fmt.Errorf("%s.max_inflight_bytes: %d: must be 0, or at least %d", prefix, c.MaxInflightBytes, 1<<20))
	}
	atLeastTwo := func(name string, v int) {
		if v < 2 {
			errs = append(errs, fmt.Errorf("%s.%s: %d: must be at least 2, because one tenant gets half of them", prefix, name, v))
		}
	}
	atLeastTwo("max_concurrent_writes", c.MaxConcurrentWrites)
	atLeastTwo("max_concurrent_reads", c.MaxConcurrentReads)
	return errs
}

const (
	// defaultBytes is the default of Config.MaxInflightBytes for a process whose
	// memory nobody limited.
	defaultBytes = 1 << 30

	// watchInterval is short beside the time in which the heap grows by the tenth
	// of the limit that safeShare leaves.
	watchInterval = 100 * time.Millisecond

	// safeShare is how much of GOMEMLIMIT may be in use. Beyond that the garbage
	// collector takes most of the CPU, and then the kernel's limit is near.
	safeShare = 0.9
)

// Guard is what bounds the requests of one process.
type Guard struct {
	Writes, Reads *Budget

	logger   *slog.Logger
	headroom atomic.Int64 // bytes; when last looked at
}

// New checks and wires; it starts nothing. The memory limit is that of the
// process at this time.
func New(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *Guard {
	f := promauto.With(reg)
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_overload_refused_requests_total",
		Help: "Requests answered 503 because the process is overloaded, by path (write, read) and by what was short (requests, bytes, memory).",
	}, []string{"path", "reason"})
	g := &Guard{logger: logger}
	g.Writes = newBudget(f, refused, "write", cfg.MaxConcurrentWrites, inflightBytes(cfg, readMemory().limit))
	g.Reads = newBudget(f, refused, "read", cfg.MaxConcurrentReads, math.MaxInt64)
	g.headroom.Store(noLimit)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_overload_memory_headroom_bytes",
		Help: "Memory until requests are refused because GOMEMLIMIT is near; +Inf without one.",
	}, func() float64 {
		if h := g.headroom.Load(); h < noLimit {
			return float64(h)
		}
		return math.Inf(1)
	})
	return g
}

func inflightBytes(cfg Config, limit int64) int64 {
	switch {
	case cfg.MaxInflightBytes > 0:
		return int64(cfg.MaxInflightBytes)
	case limit < noLimit:
		return limit / 4
	}
	return defaultBytes
}

// Run looks at the memory of the process until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			g.observe(readMemory())
		}
	}
}

// observe makes the memory that is in use count.
func (g *Guard) observe(m memory) {
	now := m.headroom()
	before := g.headroom.Swap(now)
	g.Writes.setHeadroom(now)
	g.Reads.setHeadroom(now)
	switch {
	case now <= 0 && before > 0:
		g.logger.Warn("memory is short: requests are refused", "in_use", m.inUse, "limit", m.limit)
	case now > 0 && before <= 0:
		g.logger.Info("memory suffices again", "in_use", m.inUse, "limit", m.limit)
	}
}

// Short reports whether memory is so short that every request is refused.
func (g *Guard) Short() bool { return g.headroom.Load() <= 0 }

// noLimit is the smallest memory limit that is none.
const noLimit = math.MaxInt64 / 2

// memory is what the Go runtime uses and may use, in bytes.
type memory struct {
	// inUse is what was live in the heap when it was last collected, and all
	// that is not heap. What lies in the heap by now would say nothing: garbage
	// is collected when the limit is near, and not before.
	inUse int64
	limit int64
}

func (m memory) headroom() int64 {
	if m.limit >= noLimit {
		return noLimit
	}
	return int64(float64(m.limit)*safeShare) - m.inUse
}

// readMemory asks the runtime.
func readMemory() memory {
	s := []metrics.Sample{
		{Name: "/gc/gomemlimit:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(s)
	value := func(i int) int64 { return int64(min(s[i].Value.Uint64(), math.MaxInt64)) }
	beside := value(2) - value(3) - value(4) - value(5) - value(6)
	return memory{limit: value(0), inUse: value(1) + beside}
}
