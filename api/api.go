// Package api is the HTTP surface: the route table, the Prometheus query API,
// and what operators and orchestrators ask.
//
//	Handler ──┬─ POST /api/v1/push …                  -> Deps.Writer
//	          ├─ POST /otlp/v1/metrics …              -> Deps.OTLP
//	          ├─ [/prometheus]/api/v1/query …         -> read: tenant, form, timeout ── query.go, labels.go …
//	          │                                            └─ querier, engine -> payload -> encode.go
//	          ├─ [/prometheus]/api/v1/read            -> remoteread.go: querier -> samples or chunks
//	          ├─ [/prometheus]/api/v1/rejections …    -> refusals.go; explain.go says why a sample is missing
//	          ├─ [/prometheus]/federate               -> federate.go
//	          ├─ [/prometheus]/api/v1/status/…        -> status.go; rules.go says that there are none
//	          └─ /metrics /ready /ingester/flush …    -> operate.go, health.go
//	AdminHandler ── /metrics /ready /ingester/flush /admin/log-level /debug/pprof/
//
// What a query may ask for is bounded before it is done: limits.go, regexp.go,
// work.go and gate.go. Around every handler are request id, span, metrics
// (observe.go) and deadlines for slow clients (slow.go).
//
// Parameters, status codes and bodies of the query API are those of Prometheus'
// own, to which the tests hold it, request by request.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
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
	MaxSubquerySteps   int           `yaml:"max_subquery_steps"`
	MaxQueryBytes      int           `yaml:"max_query_bytes"`
	MaxRegexpBytes     int           `yaml:"max_regexp_bytes"`
	MaxMatchers        int           `yaml:"max_matchers"`
	MaxSeries          int           `yaml:"max_series"`
	MaxChunkBytes      int64         `yaml:"max_chunk_bytes"`
	MaxResults         int           `yaml:"max_results"`
	MaxResponseBytes   int64         `yaml:"max_response_bytes"`
	CORSOrigin         string        `yaml:"cors_origin"`
	Features           []string      `yaml:"features"`
}

// DefaultConfig returns the defaults. Where Prometheus has a limit it is the same.
func DefaultConfig() Config {
	return Config{
		Timeout:            2 * time.Minute, // of a read; its own timeout parameter can only shorten it
		MaxSamples:         50_000_000,      // in memory at once, of one query
		LookbackDelta:      5 * time.Minute, // after which a series without a newer sample is gone
		MaxConcurrent:      20,              // queries evaluated at once, and remote reads; others wait, within their timeout
		MaxPointsPerSeries: 11_000,          // steps of one range query
		MaxSubquerySteps:   1_000_000,       // of all subqueries of one query: 16 bytes each, twice that with its points
		MaxQueryBytes:      128 << 10,       // of a query, or of all selectors of a request
		MaxRegexpBytes:     64 << 10,        // of all regular expressions of a request, their repetitions written out
		MaxMatchers:        1000,            // of all selectors of a request
		MaxSeries:          2_000_000,       // selected by one query, each selector counting anew
		MaxChunkBytes:      4 << 30,         // read by one query, encoded
		MaxResults:         100_000,         // series, label names or values listed in one answer; more are cut
		MaxResponseBytes:   256 << 20,       // of an answer, as JSON, about, or of one to a remote read
		CORSOrigin:         "",              // origins whose scripts may read answers, a regular expression; "": none
		Features:           []string{},      // experimental parts of PromQL, see features.go
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	var errs []error
	positive := func(name string, v int64) {
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
	positive("max_samples", int64(c.MaxSamples))
	positiveDuration("lookback_delta", c.LookbackDelta)
	positive("max_concurrent", int64(c.MaxConcurrent))
	positive("max_points_per_series", int64(c.MaxPointsPerSeries))
	positive("max_subquery_steps", int64(c.MaxSubquerySteps))
	positive("max_query_bytes", int64(c.MaxQueryBytes))
	positive("max_regexp_bytes", int64(c.MaxRegexpBytes))
	positive("max_matchers", int64(c.MaxMatchers))
	positive("max_series", int64(c.MaxSeries))
	positive("max_chunk_bytes", c.MaxChunkBytes)
	positive("max_results", int64(c.MaxResults))
	positive("max_response_bytes", c.MaxResponseBytes)
	if _, err := c.origins(); err != nil {
		errs = append(errs, fmt.Errorf("%s.cors_origin: %q: must be a regular expression: %w", prefix, c.CORSOrigin, err))
	}
	return append(errs, c.validateFeatures(prefix)...)
}

// SourceLimits bound what a query may read.
func (c *Config) SourceLimits() querier.Limits {
	return querier.Limits{Series: c.MaxSeries, ChunkBytes: c.MaxChunkBytes}
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
	Tenants *tenant.Directory
	Writer  http.Handler // remote write; it finds the tenant and answers by itself
	OTLP    http.Handler // OTLP metrics; so does it

	// Ledger is what refusals, senders and explain know; nil: nothing.
	Ledger *ledger.Ledger
	// Admits says why a series of a tenant is not admitted, proto.OK if it is; nil:
	// every series is.
	Admits func(tenant string, ls labels.Labels) (reason proto.Reason, detail string)

	// Flush cuts blocks of what is in memory now, of one tenant or, when empty,
	// of all, and returns when they are on disk.
	Flush func(ctx context.Context, tenant string) error
	// Storage is what the status pages describe.
	Storage Storage
	// Series is what the cardinality views show.
	Series SeriesReports
	// TenantStats describes the ingester's tenants, the largest first; for the admin
	// listener. Its type is what is encoded as JSON.
	TenantStats func() any
	// TenantUsage says what one tenant uses; nil: it is not known. Its type is what is
	// encoded as JSON.
	TenantUsage func(tenant string) any
	// RelabelReport says what relabel rules did to a tenant's new series, with
	// examples of what shadow rules would change if asked for. Its type is what is
	// encoded as JSON.
	RelabelReport func(tenant string, examples bool) any
	// Ready is nil while writes and reads can be served; reads are refused with
	// its error otherwise.
	Ready func() error
	// Subsystems is the state of each part of the process, for people; may be nil.
	Subsystems func() []Subsystem

	Usage    *tenant.Usage    // nil: what each tenant reads is counted nowhere
	Budget   *overload.Budget // nil: any number of reads at once
	Tracer   trace.Tracer     // nil: no traces
	LogLevel *slog.LevelVar   // nil: it changes nothing

	Registry  prometheus.Registerer // nil: metrics are kept but shown nowhere
	Gatherer  prometheus.Gatherer   // of /metrics
	Logger    *slog.Logger
	BuildInfo BuildInfo
	Settings  Settings
}

// Settings are how the program was started, for the status pages. They hold no
// secrets.
type Settings struct {
	YAML      string            // the whole configuration
	Flags     map[string]string // of the command line
	Retention time.Duration     // of blocks
}

// Storage describes the recent samples of a tenant; one that is unknown has none.
type Storage interface {
	// HeadStats counts the series in memory, and ranks the limit largest by metric
	// name, by label name and by pair. Chunks are those of the series, on disk as well.
	HeadStats(tenant string, limit int) (stats *tsdb.Stats, chunks int64, err error)
	// Blocks describes the blocks on disk, the oldest first.
	Blocks(tenant string) ([]tsdb.BlockMeta, error)
	// Replay says how many of the tenants found at start have been replayed.
	Replay() (done, of int)
}

// API serves HTTP. It holds no state between requests but its metrics, and whose
// remote reads are being answered.
type API struct {
	Deps
	cfg     Config
	parser  parser.Parser
	origins *regexp.Regexp // whose scripts may read answers
	started time.Time
	metrics *metrics

	remoteReads *gate
	days        *gate
}

// New checks and wires; it starts nothing. Call it once for a Registry.
func New(cfg Config, deps Deps) *API {
	origins, err := cfg.origins()
	if err != nil {
		panic("api: the configuration was validated: " + err.Error())
	}
	if deps.Usage == nil {
		deps.Usage = tenant.NewUsage(nil, nil)
	}
	if deps.Ledger == nil {
		deps.Ledger = ledger.New(nil)
	}
	if deps.Admits == nil {
		deps.Admits = admitsAll
	}
	if deps.LogLevel == nil {
		deps.LogLevel = new(slog.LevelVar)
	}
	if deps.Tracer != nil {
		deps.Engine = tracedEngine{deps.Engine}
	}
	return &API{
		Deps:    deps,
		cfg:     cfg,
		parser:  newParser(cfg),
		origins: origins,
		started: time.Now(),
		metrics: newMetrics(deps.Registry),

		remoteReads: newGate(cfg.MaxConcurrent),
		days:        newGate(daysAtOnce),
	}
}
