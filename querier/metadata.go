package querier

import (
	"context"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// Metadata returns what senders said of the tenant's metric families, or of one
// if metric is not empty; the first source's first, each saying once. The caller
// owns the map.
//
// Sayings are about a metric, and nobody knows of which of its series. So a
// reader with a label policy gets those about each metric of which it may read a
// series, whoever said them, and none about others.
func (v *View) Metadata(ctx context.Context, metric string) (map[string][]metadata.Metadata, error) {
	all := map[string][]metadata.Metadata{}
	for _, src := range v.sources {
		families, err := src.Metadata(ctx, v.tenant, metric)
		if err != nil {
			return nil, sourceErrorf("read metadata: %w", err)
		}
		for family, sayings := range families {
			for _, m := range sayings {
				if !slices.ContainsFunc(all[family], m.Equals) {
					all[family] = append(all[family], m)
				}
			}
		}
	}
	if v.policy != nil && len(all) > 0 {
		return all, v.dropUnreadable(ctx, all, metric)
	}
	return all, nil
}

// dropUnreadable deletes what is said of metrics of which no series may be read.
// The families are one at most unless metric is empty. On an error none is left.
func (v *View) dropUnreadable(ctx context.Context, families map[string][]metadata.Metadata, metric string) error {
	readable, err := v.metricNames(ctx, metric)
	if err != nil {
		clear(families)
		return err
	}
	for family, sayings := range families {
		families[family] = slices.DeleteFunc(sayings, func(m metadata.Metadata) bool {
			return !slices.ContainsFunc(suffixes(m.Type), func(suffix string) bool { return readable[family+suffix] })
		})
	}
	maps.DeleteFunc(families, func(_ string, sayings []metadata.Metadata) bool { return len(sayings) == 0 })
	return nil
}

// metricNames returns the names of all metrics of which a series may be read, or
// if family is not empty of those that begin with it.
func (v *View) metricNames(ctx context.Context, family string) (map[string]bool, error) {
	sel, err := v.open(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer sel.Close() // nothing of it is used any more, whatever the error
	var matchers []*labels.Matcher
	if family != "" {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, regexp.QuoteMeta(family)+".*"))
	}
	values, _, err := sel.LabelValues(ctx, model.MetricNameLabel, nil, matchers...)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool, len(values))
	for _, name := range values {
		names[strings.Clone(name)] = true // the value is the source's until sel is closed
	}
	return names, nil
}

// suffixes returns what the names of the series of a metric family end in after
// its own, by its type. The empty one is among them: a native histogram has its
// family's name, and senders disagree whether _total and _info belong to it.
func suffixes(t model.MetricType) []string {
	switch t {
	case model.MetricTypeHistogram, model.MetricTypeGaugeHistogram:
		return []string{"", "_bucket", "_sum", "_count", "_gsum", "_gcount"}
	case model.MetricTypeSummary:
		return []string{"", "_sum", "_count"}
	case model.MetricTypeCounter:
		return []string{"", "_total"}
	case model.MetricTypeInfo:
		return []string{"", "_info"}
	}
	return []string{""}
}
