package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/promql/parser"
)

// metadata lists what senders said of metric families: with a limit, of the
// first by name; with limit_per_metric, the newest of each.
func (a *API) metadata(ctx context.Context, r *request) (answer, error) {
	limit, err := parseCount(r, "limit")
	if err != nil {
		return answer{}, err
	}
	perMetric, err := parseCount(r, "limit_per_metric")
	if err != nil {
		return answer{}, err
	}
	all, err := r.view.Metadata(ctx, r.FormValue("metric"))
	if err != nil {
		return answer{}, err
	}
	if limit >= 0 && len(all) > limit {
		for _, family := range slices.Sorted(maps.Keys(all))[limit:] {
			delete(all, family)
		}
	}
	for family, sayings := range all {
		if perMetric > 0 && len(sayings) > perMetric {
			all[family] = sayings[:perMetric]
		}
	}
	return answer{data: metadataMap(all)}, nil
}

// parseCount reads a number that is -1 if missing.
func parseCount(r *request, name string) (int, error) {
	s := r.FormValue(name)
	if s == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, badData(errors.New(name + " must be a number"))
	}
	return n, nil
}

// queryExemplars lists the exemplars of the series that an expression selects.
func (a *API) queryExemplars(ctx context.Context, r *request) (answer, error) {
	span, err := parseRange(r)
	if err != nil {
		return answer{}, err
	}
	if span.end < span.start {
		return answer{}, badData(errors.New("end timestamp must not be before start timestamp"))
	}
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badData(err)
	}
	selectors := parser.ExtractSelectors(expr)
	if len(selectors) == 0 {
		return answer{}, nil
	}
	q, err := r.view.ExemplarQueryable().ExemplarQuerier(ctx)
	if err != nil {
		return answer{}, err
	}
	found, err := q.Select(span.start, span.end, selectors...)
	if err != nil {
		return answer{}, err
	}
	return answer{data: exemplarList(found)}, nil
}
