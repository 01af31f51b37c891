package api

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-metrics/weir/proto"
)

// maxExplained bounds the selectors of one request, and maxSeriesRead the series
// whose samples are read for one.
const (
	maxExplained  = 10
	maxSeriesRead = 1000
)

// explainSelectors says of each selector in match[] what became of its samples.
func (a *API) explainSelectors(ctx context.Context, r *request) (answer, error) {
	texts := r.Form["match[]"]
	switch {
	case len(texts) == 0:
		return answer{}, badData(errors.New("no match[] parameter provided"))
	case len(texts) > maxExplained:
		return answer{}, badParam("match[]", errors.New("at most 10 selectors are explained at once"))
	}
	sets, err := parseSelectors(a.parser, texts)
	if err != nil {
		return answer{}, badParam("match[]", err)
	}
	if _, err := a.remoteReads.Insert(ctx, ""); err != nil { // it reads samples past the engine, too
		return answer{}, err
	}
	defer a.remoteReads.Delete(0)
	list := make([]Explanation, 0, len(sets))
	for i, ms := range sets {
		f, err := a.gather(ctx, r, texts[i], ms)
		if err != nil {
			return answer{}, err
		}
		list = append(list, explain(f))
	}
	return answer{data: object{list}}, nil
}

// gather collects the facts about a selector.
func (a *API) gather(ctx context.Context, r *request, selector string, ms []*labels.Matcher) (*facts, error) {
	f := &facts{
		now: time.Now(), lookback: a.cfg.LookbackDelta, selector: selector, matchers: ms,
		settings: a.Tenants.Settings(r.who.Tenant), refusals: a.Ledger.Refusals(r.who.Tenant),
		senders: a.Ledger.Senders(r.who.Tenant), origins: a.Tenants.Origins(r.who.Tenant),
	}
	if ls := spelledOut(ms); ls.Has(model.MetricNameLabel) {
		f.reason, f.detail = a.Admits(r.who.Tenant, ls)
	}
	stats, _, err := a.Storage.HeadStats(r.who.Tenant, 1)
	if err != nil {
		return nil, err
	}
	if stats.NumSeries > 0 {
		f.newest = stats.MaxTime
	}
	if f.stored, err = a.lookUp(ctx, r, f.now, ms); err != nil || f.stored.series > 0 {
		return f, err
	}
	f.unmet, err = a.unmet(ctx, r, f.now, ms)
	return f, err
}

// spelledOut are the labels of which the matchers want one value.
func spelledOut(ms []*labels.Matcher) labels.Labels {
	b := labels.NewScratchBuilder(len(ms))
	seen := map[string]bool{}
	for _, m := range ms {
		if m.Type == labels.MatchEqual && m.Value != "" && !seen[m.Name] {
			seen[m.Name] = true
			b.Add(m.Name, m.Value)
		}
	}
	b.Sort()
	return b.Labels()
}

// lookUp finds the last samples of what ms selects: first where they are if all
// is well, then further back.
func (a *API) lookUp(ctx context.Context, r *request, now time.Time, ms []*labels.Matcher) (stored, error) {
	for _, back := range []time.Duration{15 * time.Minute, 3 * time.Hour, 48 * time.Hour, math.MaxInt64} {
		mint := minTime.UnixMilli()
		if back < math.MaxInt64 {
			mint = now.Add(-back).UnixMilli()
		}
		found, err := a.lastSamples(ctx, r, mint, ms)
		if err != nil || found.series > 0 {
			return found, err
		}
	}
	return stored{}, nil
}

// lastSamples reads what ms selects from mint on.
func (a *API) lastSamples(ctx context.Context, r *request, mint int64, ms []*labels.Matcher) (found stored, err error) {
	q, err := r.view.Queryable().Querier(mint, maxTime.UnixMilli())
	if err != nil {
		return found, err
	}
	defer a.close(q)
	selected := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxTime.UnixMilli()}, ms...)
	var it chunkenc.Iterator
	for selected.Next() {
		if found.series++; found.series > maxSeriesRead {
			continue // counted only
		}
		s := selected.At()
		it = s.Iterator(it)
		t, ended, err := lastOf(it)
		if err != nil {
			return found, err
		}
		if found.newest.IsEmpty() || t > found.t {
			found.newest, found.t, found.ended = s.Labels().Copy(), t, ended
		}
	}
	return found, selected.Err()
}

// lastOf returns the time of the last sample, and whether it is a staleness
// marker.
func lastOf(it chunkenc.Iterator) (t int64, ended bool, err error) {
	for {
		switch it.Next() {
		case chunkenc.ValFloat:
			var v float64
			t, v = it.At()
			ended = value.IsStaleNaN(v)
		case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
			at, h := it.AtFloatHistogram(nil)
			t, ended = at, value.IsStaleNaN(h.Sum)
		default:
			return t, ended, it.Err()
		}
	}
}

// unmet returns the matchers that select nothing of a metric of which something
// is stored.
func (a *API) unmet(ctx context.Context, r *request, now time.Time, ms []*labels.Matcher) ([]*labels.Matcher, error) {
	var names, others []*labels.Matcher
	for _, m := range ms {
		if m.Name == model.MetricNameLabel {
			names = append(names, m)
		} else {
			others = append(others, m)
		}
	}
	if len(names) == 0 || len(others) == 0 || !selective(names) {
		return nil, nil
	}
	mint := now.Add(-48 * time.Hour).UnixMilli()
	exists, err := a.selects(ctx, r, mint, names)
	if err != nil || !exists {
		return nil, err
	}
	var out []*labels.Matcher
	for _, m := range others {
		exists, err := a.selects(ctx, r, mint, append(names[:len(names):len(names)], m))
		if err != nil {
			return nil, err
		}
		if !exists {
			out = append(out, m)
		}
	}
	return out, nil
}

// selects reports whether anything that ms selects has samples from mint on.
func (a *API) selects(ctx context.Context, r *request, mint int64, ms []*labels.Matcher) (bool, error) {
	q, err := r.view.Queryable().Querier(mint, maxTime.UnixMilli())
	if err != nil {
		return false, err
	}
	defer a.close(q)
	selected := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxTime.UnixMilli(), Func: "series", Limit: 1}, ms...)
	return selected.Next(), selected.Err()
}

// admitsAll is the Admits of an API without a receiver.
func admitsAll(string, labels.Labels) (proto.Reason, string) { return proto.OK, "" }
