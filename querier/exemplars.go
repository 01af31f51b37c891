package querier

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/tenant"
)

type exemplarQueryable struct{ view *View }

// ExemplarQuerier implements storage.ExemplarQueryable.
func (e exemplarQueryable) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	queriers := make([]storage.ExemplarQuerier, 0, len(e.view.sources))
	for _, src := range e.view.sources {
		q, err := src.ExemplarQuerier(ctx, e.view.tenant)
		if err != nil {
			return nil, sourceErrorf("open exemplar querier: %w", err)
		}
		queriers = append(queriers, q)
	}
	return exemplarQueriers{queriers, e.view.policy}, nil
}

// exemplarQueriers are the queriers of all sources.
type exemplarQueriers struct {
	sources []storage.ExemplarQuerier
	policy  *tenant.LabelPolicy // nil: everything may be read
}

// Select implements storage.ExemplarQuerier: series by labels, exemplars by
// time, what several sources have once. The answer is never nil.
func (e exemplarQueriers) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	all := []exemplar.QueryResult{}
	for _, q := range e.sources {
		results, err := q.Select(start, end, matchers...)
		if err != nil {
			return nil, sourceErrorf("select exemplars: %w", err)
		}
		all = append(all, results...)
	}
	if e.policy != nil {
		all = slices.DeleteFunc(all, func(r exemplar.QueryResult) bool { return e.policy.First(r.SeriesLabels) < 0 })
	}
	if len(e.sources) > 1 {
		all = mergeExemplars(all)
	}
	return all, nil
}

// mergeExemplars makes one result of those with the same labels.
func mergeExemplars(all []exemplar.QueryResult) []exemplar.QueryResult {
	slices.SortStableFunc(all, func(a, b exemplar.QueryResult) int {
		return labels.Compare(a.SeriesLabels, b.SeriesLabels)
	})
	merged := all[:0]
	for _, r := range all {
		if n := len(merged); n == 0 || !labels.Equal(merged[n-1].SeriesLabels, r.SeriesLabels) {
			merged = append(merged, r)
			continue
		}
		last := &merged[len(merged)-1]
		// The sources own their slices: concatenate into a new one.
		last.Exemplars = slices.Concat(last.Exemplars, r.Exemplars)
		slices.SortStableFunc(last.Exemplars, compareExemplars)
		last.Exemplars = slices.CompactFunc(last.Exemplars, func(a, b exemplar.Exemplar) bool {
			return compareExemplars(a, b) == 0
		})
	}
	return merged
}

// compareExemplars orders by time, value and labels. Values are compared by
// their bits, for NaN too must equal itself.
func compareExemplars(a, b exemplar.Exemplar) int {
	return cmp.Or(
		cmp.Compare(a.Ts, b.Ts),
		cmp.Compare(a.Value, b.Value),
		cmp.Compare(math.Float64bits(a.Value), math.Float64bits(b.Value)),
		labels.Compare(a.Labels, b.Labels),
	)
}
