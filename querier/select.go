package querier

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-metrics/weir/tenant"
)

// open takes a chunk querier of every source whose extent meets [mint, maxt]
// (milliseconds, inclusive).
func (v *View) open(mint, maxt millis) (*selector, error) {
	sel := &selector{mint: mint, maxt: maxt, policy: v.policy, budget: budget{limits: v.limits}}
	for _, src := range v.sources {
		lo, hi, ok := src.Extent(v.tenant)
		if !ok || hi < mint || maxt < lo {
			continue
		}
		cq, err := src.ChunkQuerier(v.tenant, mint, maxt)
		if err != nil {
			return nil, errors.Join(sourceErrorf("open chunk querier: %w", err), sel.Close())
		}
		sel.sources = append(sel.sources, cq)
	}
	return sel, nil
}

// selector selects from the chunk queriers of one tenant and time range what a
// policy lets be read. Like every storage.Querier it is used by one goroutine at
// a time.
type selector struct {
	mint, maxt millis // inclusive
	sources    []storage.ChunkQuerier
	policy     *tenant.LabelPolicy // nil: everything may be read
	budget     budget              // of the selector and all that it hands out
}

// Select implements storage.Querier. Samples outside the hints' time range, or
// without hints the selector's, are cut while iterating; chunks are not
// re-encoded for it. With more than one source the set is always sorted.
func (s *selector) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	return s.merge(ctx, sorted, hints, matchers)
}

// merge selects from every source. They are asked one after another, so that a
// remote one should start its stream and return.
func (s *selector) merge(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers []*labels.Matcher) *seriesSet {
	h := storage.SelectHints{Start: s.mint, End: s.maxt}
	if hints != nil {
		h = *hints
	}
	h.DisableTrimming = true

	set := &seriesSet{mint: h.Start, maxt: h.End, limit: h.Limit, budget: &s.budget}
	if s.policy != nil && len(matchers) == 0 {
		return set // as from the TSDB, to which the policy's matchers would be some
	}
	if s.policy != nil {
		h.Limit = 0 // for the sources, since cursors drop series
	}
	for i, src := range s.sources {
		// Hints and matchers are copied for each: the TSDB reorders matchers in place.
		for place, narrowed := range narrow(s.policy, matchers) {
			sourceHints := h
			cs := src.Select(ctx, sorted || len(s.sources) > 1, &sourceHints, narrowed...)
			set.cursors = append(set.cursors, &cursor{set: cs, source: i, policy: s.policy, selector: place})
		}
	}
	set.heap = slices.Clone(set.cursors)
	return set
}

// LabelValues implements storage.LabelQuerier.
func (s *selector) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, warnings, err := s.strings(hints, matchers, func(q storage.LabelQuerier, h *storage.LabelHints, narrowed []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, h, narrowed...)
	})
	if err != nil {
		return nil, warnings, sourceErrorf("values of label %s: %w", name, err)
	}
	return values, warnings, nil
}

// LabelNames implements storage.LabelQuerier.
func (s *selector) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, warnings, err := s.strings(hints, matchers, func(q storage.LabelQuerier, h *storage.LabelHints, narrowed []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, h, narrowed...)
	})
	if err != nil {
		return nil, warnings, sourceErrorf("label names: %w", err)
	}
	return names, warnings, nil
}

type askStrings func(storage.LabelQuerier, *storage.LabelHints, []*labels.Matcher) ([]string, annotations.Annotations, error)

// strings merges the sorted answers of all sources about what may be read of what
// matchers select, at most hints.Limit of them.
func (s *selector) strings(hints *storage.LabelHints, matchers []*labels.Matcher, ask askStrings) ([]string, annotations.Annotations, error) {
	var h storage.LabelHints
	if hints != nil {
		h = *hints
	}
	var warnings annotations.Annotations
	lists := make([][]string, 0, len(s.sources))
	for _, src := range s.sources {
		for _, narrowed := range narrow(s.policy, matchers) {
			sourceHints := h
			list, w, err := ask(src, &sourceHints, narrowed)
			warnings.Merge(w)
			if err != nil {
				return nil, warnings, err
			}
			lists = append(lists, list)
		}
	}
	merged := mergeLists(lists)
	if h.Limit > 0 && len(merged) > h.Limit {
		merged = merged[:h.Limit]
	}
	return merged, warnings, nil
}

// mergeLists returns the union of sorted lists, sorted. It merges pairs, then
// pairs of those, so that no string is copied more than log(len(lists)) times.
func mergeLists(lists [][]string) []string {
	switch len(lists) {
	case 0:
		return nil
	case 1:
		return lists[0]
	}
	half := len(lists) / 2
	a, b := mergeLists(lists[:half]), mergeLists(lists[half:])
	merged := make([]string, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			merged, a = append(merged, a[0]), a[1:]
		case b[0] < a[0]:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged, a, b = append(merged, a[0]), a[1:], b[1:]
		}
	}
	return append(append(merged, a...), b...)
}

// Close closes every source's querier; chunks, labels and strings handed out
// are invalid afterwards.
func (s *selector) Close() error {
	errs := make([]error, 0, len(s.sources))
	for _, src := range s.sources {
		errs = append(errs, src.Close())
	}
	s.sources = nil
	return errors.Join(errs...)
}
