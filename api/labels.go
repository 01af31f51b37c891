package api

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// labelNames lists the names of labels, of all series or of those selected.
func (a *API) labelNames(ctx context.Context, r *request) (answer, error) {
	return a.labelStrings(ctx, r, storage.LabelQuerier.LabelNames)
}

// labelValues lists the values of a label, of all series or of those selected.
func (a *API) labelValues(ctx context.Context, r *request) (answer, error) {
	name, err := labelName(r)
	if err != nil {
		return answer{}, err
	}
	return a.labelStrings(ctx, r, func(q storage.LabelQuerier, ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, hints, ms...)
	})
}

// labelName reads the label name in the path. Names that are not legacy ones may
// be escaped: U__service_2e_name is service.name.
func labelName(r *request) (string, error) {
	name := chi.URLParam(r.Request, "name")
	if r.URL.RawPath != "" { // then that is what was routed
		unescaped, err := url.PathUnescape(name)
		if err != nil {
			return "", badData(fmt.Errorf("invalid label name: %q", name))
		}
		name = unescaped
	}
	if strings.HasPrefix(name, "U__") {
		name = model.UnescapeName(name, model.ValueEncodingEscaping)
	}
	if !model.UTF8Validation.IsValidLabelName(name) {
		return "", badData(fmt.Errorf("invalid label name: %q", name))
	}
	return name, nil
}

// askLabels is LabelNames, or LabelValues of some label.
type askLabels func(storage.LabelQuerier, context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error)

// labelStrings answers with the union of what ask says of each selector.
func (a *API) labelStrings(ctx context.Context, r *request, ask askLabels) (answer, error) {
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
		return answer{}, badData(err)
	}
	q, err := r.view.Queryable().Querier(span.start, span.end)
	if err != nil {
		return answer{}, err
	}
	r.whenDone(func() { a.close(q) })
	if len(sets) == 0 {
		sets = append(sets, nil)
	}
	var (
		ans answer
		all []string
	)
	for _, set := range sets {
		found, warnings, err := ask(q, ctx, &storage.LabelHints{Limit: limit + 1}, set...)
		if err != nil {
			return answer{}, err
		}
		ans.warnings.Merge(warnings)
		all = append(all, found...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > limit {
		all = all[:limit]
		ans.warnings.Add(cut)
	}
	ans.data = stringList(all)
	return ans, nil
}

// close closes what was read from; an error then changes no answer.
func (a *API) close(q storage.LabelQuerier) {
	if err := q.Close(); err != nil {
		a.Logger.Error("querier not closed", "err", err)
	}
}
