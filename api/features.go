package api

import (
	"fmt"
	"slices"
	"strings"
)

// The experimental parts of PromQL, by the names that they have in Prometheus'
// flag --enable-feature.
const (
	experimentalFunctions  = "promql-experimental-functions"
	durationExpressions    = "promql-duration-expr" // always on, as in Prometheus, which still takes the name
	extendedRangeSelectors = "promql-extended-range-selectors"
	fillModifiers          = "promql-binop-fill-modifiers"
	delayedNameRemoval     = "promql-delayed-name-removal"
	startTimestamps        = "use-start-timestamps"
	typeAndUnitLabels      = "type-and-unit-labels" // of what senders put into labels; we add none
)

var promqlFeatures = []string{
	experimentalFunctions, durationExpressions, extendedRangeSelectors, fillModifiers,
	delayedNameRemoval, startTimestamps, typeAndUnitLabels,
}

func (c *Config) enables(feature string) bool { return slices.Contains(c.Features, feature) }

func (c *Config) validateFeatures(prefix string) []error {
	var errs []error
	for i, f := range c.Features {
		switch {
		case !slices.Contains(promqlFeatures, f):
			errs = append(errs, fmt.Errorf("%s.features: %q: must be one of %s", prefix, f, strings.Join(promqlFeatures, ", ")))
		case slices.Contains(c.Features[:i], f):
			errs = append(errs, fmt.Errorf("%s.features: %q: must not be listed twice", prefix, f))
		}
	}
	return errs
}
