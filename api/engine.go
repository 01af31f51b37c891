package api

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// subqueryInterval is the step of a subquery that names none; Prometheus takes
// its global evaluation interval, whose default this is.
const subqueryInterval = time.Minute

// newParser returns the parser of every query and selector, within limits.
func newParser(cfg Config) parser.Parser {
	return limitedParser{limits: cfg.textLimits(), Parser: parser.NewParser(parser.Options{
		EnableExperimentalFunctions:  cfg.enables(experimentalFunctions),
		ExperimentalDurationExpr:     true, // no experiment any more, whatever its name
		EnableExtendedRangeSelectors: cfg.enables(extendedRangeSelectors),
		EnableBinopFillModifiers:     cfg.enables(fillModifiers),
	})}
}

// NewEngine returns Prometheus' engine with the limits of cfg.
func NewEngine(cfg Config, logger *slog.Logger, reg prometheus.Registerer) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:                   logger,
		Reg:                      reg,
		MaxSamples:               cfg.MaxSamples,
		Timeout:                  cfg.Timeout,
		ActiveQueryTracker:       newGate(cfg.MaxConcurrent),
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
