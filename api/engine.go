package api

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// subqueryInterval is the step of a subquery that names none; Prometheus takes
// its global evaluation interval, whose default this is.
const subqueryInterval = time.Minute

// newParser returns the parser of every query and selector.
func newParser(cfg Config) parser.Parser {
	return parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  cfg.enables(experimentalFunctions),
		ExperimentalDurationExpr:     true, // no experiment any more, whatever its name
		EnableExtendedRangeSelectors: cfg.enables(extendedRangeSelectors),
		EnableBinopFillModifiers:     cfg.enables(fillModifiers),
	})
}

// NewEngine returns Prometheus' engine with the limits of cfg.
func NewEngine(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:                   logger,
		Reg:                      reg,
		MaxSamples:               cfg.MaxSamples,
		Timeout:                  cfg.Timeout,
		ActiveQueryTracker:       make(gate, cfg.MaxConcurrent),
		LookbackDelta:            cfg.LookbackDelta,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryInterval.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnablePerStepStats:       true, // computed when a request asks for stats=all
		EnableDelayedNameRemoval: cfg.enables(delayedNameRemoval),
		EnableTypeAndUnitLabels:  cfg.enables(typeAndUnitLabels),
		UseStartTimestamps:       cfg.enables(startTimestamps),
		Parser:                   newParser(cfg),
	})
}

// gate lets as many queries pass at once as it has capacity.
type gate chan struct{}

var _ promql.QueryTracker = gate(nil)

// GetMaxConcurrent implements promql.QueryTracker.
func (g gate) GetMaxConcurrent() int { return cap(g) }

// Insert implements promql.QueryTracker: it waits for a place.
func (g gate) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case g <- struct{}{}: // before ctx is looked at, so that who finds a place always takes it
		return 0, nil
	default:
	}
	select {
	case g <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete implements promql.QueryTracker: it gives the place back.
func (g gate) Delete(int) { <-g }

// Close implements promql.QueryTracker.
func (g gate) Close() error { return nil }
