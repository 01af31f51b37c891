// Package api is the HTTP surface: the route table, the Prometheus query API,
// and what operators and orchestrators ask.
//
//	Handler ──┬─ POST /api/v1/push …                  -> Deps.Writer
//	          ├─ [/prometheus]/api/v1/query …         -> read: tenant, timeout ── query.go, labels.go …
//	          │                                            └─ querier, engine -> payload -> encode.go
//	          └─ /metrics /ready /ingester/flush …    -> operate.go
//	AdminHandler ── /metrics /ready /ingester/flush /debug/pprof/
//
// Parameters, status codes and bodies of the query API are those of Prometheus'
// own, to which the tests hold it, request by request.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
)

// Config of the query API.
type Config struct {
	Timeout            time.Duration `yaml:"timeout"`
	MaxSamples         int           `yaml:"max_samples"`
	LookbackDelta      time.Duration `yaml:"lookback_delta"`
	MaxConcurrent      int           `yaml:"max_concurrent"`
	MaxPointsPerSeries int           `yaml:"max_points_per_series"`
	Features           []string      `yaml:"features"`
}

// DefaultConfig returns the defaults, which are Prometheus'.
func DefaultConfig() Config {
	return Config{
		Timeout:            2 * time.Minute, // of a read; its own timeout parameter can only shorten it
		MaxSamples:         50_000_000,      // in memory at once, of one query
		LookbackDelta:      5 * time.Minute, // after which a series without a newer sample is gone
		MaxConcurrent:      20,              // queries evaluated at once; others wait, within their timeout
		MaxPointsPerSeries: 11_000,          // steps of one range query
		Features:           []string{},      // experimental parts of PromQL, see features.go
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	var errs []error
	positive := func(name string, v int) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %d: must be at least 1", prefix, name, v))
		}
	}
	positiveDuration := func(name string, d time.Duration) {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("%s.%s: %s: must be longer than 0s", prefix, name, d))
		}
	}
	positiveDuration("timeout", c.Timeout)
	positive("max_samples", c.MaxSamples)
	positiveDuration("lookback_delta", c.LookbackDelta)
	positive("max_concurrent", c.MaxConcurrent)
	positive("max_points_per_series", c.MaxPointsPerSeries)
	return append(errs, c.validateFeatures(prefix)...)
}

// BuildInfo says which program this is.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	Branch    string `json:"branch"`
	BuildUser string `json:"buildUser"`
	BuildDate string `json:"buildDate"`
	GoVersion string `json:"goVersion"`
}

// Deps are the collaborators of an API.
type Deps struct {
	Querier *querier.Querier
	Engine  promql.QueryEngine // see NewEngine
	Tenants tenant.Resolver
	Writer  http.Handler // remote write; it finds the tenant and answers by itself

	// Flush cuts blocks of what is in memory now, of one tenant or, when empty,
	// of all, and returns when they are on disk.
	Flush func(ctx context.Context, tenant string) error
	// Ready is nil while writes and reads can be served; reads are refused with
	// its error otherwise.
	Ready func() error

	Registry  prometheus.Registerer // nil: metrics are kept but shown nowhere
	Gatherer  prometheus.Gatherer   // of /metrics
	Logger    *slog.Logger
	BuildInfo BuildInfo
}

// API serves HTTP. It holds no state between requests but its metrics.
type API struct {
	Deps
	cfg     Config
	parser  parser.Parser
	metrics *metrics
}

// New checks and wires; it starts nothing. Call it once for a Registry.
func New(cfg Config, deps Deps) *API {
	return &API{
		Deps:    deps,
		cfg:     cfg,
		parser:  newParser(cfg),
		metrics: newMetrics(deps.Registry),
	}
}
