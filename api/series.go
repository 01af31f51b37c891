package api

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/storage"
)

// contextCheck is after how many series a loop looks whether anybody still waits.
const contextCheck = 128

// series lists the labels of the series selected.
func (a *API) series(ctx context.Context, r *request) (answer, error) {
	if len(r.Form["match[]"]) == 0 {
		return answer{}, badData(errors.New("no match[] parameter provided"))
	}
	limit, cut, err := a.parseListLimit(r)
	if err != nil {
		return answer{}, err
	}
	span, err := parseRange(r)
	if err != nil {
		return answer{}, err
	}
	sets, err := parseSelectors(a.parser, r.Form["match[]"])
	if err != nil {
		return answer{}, badParam("match[]", err)
	}
	q, err := r.view.Queryable().Querier(span.start, span.end)
	if err != nil {
		return answer{}, err
	}
	r.whenDone(func() { a.close(q) })

	// Func "series": nobody looks at the samples.
	hints := &storage.SelectHints{Start: span.start, End: span.end, Func: "series", Limit: limit + 1}
	selected := make([]storage.SeriesSet, 0, len(sets))
	for _, set := range sets {
		selected = append(selected, q.Select(ctx, len(sets) > 1, hints, set...))
	}
	merged := storage.NewMergeSeriesSet(selected, 0, storage.ChainedSeriesMerge)
	var ans answer
	list := seriesList{}
	for n := 1; merged.Next(); n++ {
		if n%contextCheck == 0 && ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		if len(list) == limit {
			ans.warnings.Add(cut)
			break
		}
		list = append(list, merged.At().Labels())
	}
	if err := merged.Err(); err != nil {
		return answer{}, err
	}
	ans.warnings.Merge(merged.Warnings())
	ans.data = list
	return ans, nil
}
