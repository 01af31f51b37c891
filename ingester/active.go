package ingester

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/tenant"
)

const (
	// idleMinutes is for how long after its last sample a series is active. Scrapes
	// are at most some minutes apart, and a target that restarts, or a sender that
	// catches up, is back sooner; what a deploy replaced is forgotten soon enough that
	// the next one finds room.
	idleMinutes = 20
	// drainMinutes is how long before the end of that a series counts as about to leave.
	drainMinutes = 2
)

// churnMinutes is an hour of churn.
const churnMinutes = 60

// minuteOf is the minute of a time in the life of a table. It begins at 1: an entry
// that was never seen has 0.
func (t *seriesTable) minuteOf(now time.Time) int32 {
	return int32(now.Sub(t.opened)/time.Minute) + 1
}

// activeLimits are the limits of the tenant on the series of this process, which
// are all there is.
func activeLimits(lim *tenant.Limits) cardinality.Limits {
	out := cardinality.Limits{
		Series: lim.MaxActiveSeries, PerMetric: lim.MaxSeriesPerMetric,
		OnLimit: cardinality.OnLimit(lim.OnSeriesLimit), Quarantine: cardinality.QuarantineMode(lim.Quarantine),
	}
	for _, s := range lim.LabelSets {
		matchers, err := s.Matchers()
		if err != nil {
			continue // the limits were validated
		}
		out.Sets = append(out.Sets, cardinality.Set{
			Name: s.Name, Match: s.Match, Setting: "label_sets." + s.Name, Matchers: matchers, Series: s.MaxActiveSeries,
		})
	}
	return out
}

// expire counts those series out that have sent nothing for idleMinutes, once a
// minute: a million series take some milliseconds. The caller holds
// mu for writing.
func (t *seriesTable) expire(minute int32) {
	if minute <= t.expired {
		return
	}
	t.active.NextMinute(int(minute))
	if minute/churnMinutes > t.expired/churnMinutes {
		t.hours = [2]uint32{uint32(t.index.Len()), t.hours[0]}
	}
	t.expired = minute
	for i := range uint32(t.index.Len()) {
		e := t.at(i)
		switch seen := e.seen.Load(); {
		case seen <= 0 || seen >= minute-idleMinutes+drainMinutes:
		case seen >= minute-idleMinutes:
			t.active.Drain(e.class)
		case e.seen.CompareAndSwap(seen, -seen):
			t.active.Expire(e.class)
		}
	}
	if minute > idleMinutes+1 {
		for _, s := range t.restored.left() {
			t.active.Expire(s.class)
		}
		t.restored = restored{}
	}
}

// count brings the counts up to date and hands them to f.
func (t *seriesTable) count(now time.Time, f func(*cardinality.Active)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(t.minuteOf(now))
	f(t.active)
}

// limit makes limits take effect. It is false when the series have to be recounted,
// because the label sets are others.
func (t *seriesTable) limit(limits cardinality.Limits) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active.SetLimits(limits)
}

// recount counts every series anew, under other label sets: labelsOf finds the
// labels by the reference. No write may be under way.
func (t *seriesTable) recount(limits cardinality.Limits, labelsOf func(storage.SeriesRef) (labels.Labels, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := t.active.Restart(limits)
	before := t.active
	t.rebuild(fresh, nil, func(ref storage.SeriesRef, c cardinality.Class) cardinality.Class {
		if ls, ok := labelsOf(ref); ok {
			return fresh.Classify(ls)
		}
		return fresh.MovedWithoutSets(before, c) // until it comes with its labels
	})
}

// sweep forgets the series that the head dropped. No write may be under way.
func (t *seriesTable) sweep(dropped map[storage.SeriesRef]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.active
	fresh := before.Restart(before.Limits())
	t.rebuild(fresh, dropped, func(_ storage.SeriesRef, c cardinality.Class) cardinality.Class { return fresh.Moved(before, c) })
}

// rebuild makes the table anew with the series that are in the head or active,
// counted by active; classify says under what. The caller holds mu for writing.
func (t *seriesTable) rebuild(active *cardinality.Active, dropped map[storage.SeriesRef]struct{},
	classify func(storage.SeriesRef, cardinality.Class) cardinality.Class) {
	var live seriesTable
	hours := t.hours
	for i := range uint32(t.index.Len()) {
		for n, first := range t.hours {
			if first == i {
				hours[n] = uint32(live.index.Len())
			}
		}
		e := t.at(i)
		ref, seen, last := storage.SeriesRef(e.ref.Load()), e.seen.Load(), e.lastT.Load()
		if _, gone := dropped[ref]; gone {
			ref, last = 0, math.MinInt64
		}
		if ref == 0 && seen <= 0 {
			continue
		}
		class := classify(ref, e.class)
		l := live.add(t.index.At(i), restoredSeries{ref: ref, class: class}, seen)
		l.lastT.Store(last)
		if seen > 0 {
			active.Recount(class)
		}
	}
	rest := t.restored.left()
	t.restored = restored{}
	for _, s := range rest {
		if _, gone := dropped[s.ref]; gone {
			continue
		}
		s.class = classify(s.ref, s.class)
		active.Recount(s.class)
		t.restored.series = append(t.restored.series, s)
	}
	for n, first := range t.hours {
		if first == uint32(t.index.Len()) {
			hours[n] = uint32(live.index.Len())
		}
	}
	t.hours = hours
	t.index, t.pages, t.active = live.index, live.pages, active
}

// restored are the series that were active when the TSDB was opened, by their
// references. Those that have come back are entries of the table; the others are
// counted as active for as long as if they had just sent.
type restored struct {
	series []restoredSeries // ascending
	taken  []bool
}

type restoredSeries struct {
	ref   storage.SeriesRef
	class cardinality.Class
}

// take returns the series with labels ls, if it is one of them and was not taken.
func (r *restored) take(head storage.AppenderV2, ls labels.Labels) *restoredSeries {
	if len(r.series) == 0 {
		return nil
	}
	i, ok := slices.BinarySearchFunc(r.series, refOf(head, ls), func(s restoredSeries, ref storage.SeriesRef) int {
		return int(int64(s.ref) - int64(ref))
	})
	if !ok || r.isTaken(i) {
		return nil
	}
	if r.taken == nil {
		r.taken = make([]bool, len(r.series))
	}
	r.taken[i] = true
	return &r.series[i]
}

func (r *restored) isTaken(i int) bool { return r.taken != nil && r.taken[i] }

// left are those that were not taken.
func (r *restored) left() []restoredSeries {
	var out []restoredSeries
	for i, s := range r.series {
		if !r.isTaken(i) {
			out = append(out, s)
		}
	}
	return out
}

// restoreActive counts the series that had a sample in the last idleMinutes before
// the newest in the head, so that new ones do not take their places under a limit
// after a start. Without a limit the count is right again as soon as everybody has
// sent once.
func (t *tenantDB) restoreActive(lim *tenant.Limits) error {
	limits, head := activeLimits(lim), t.db.Head()
	t.series.begin(limits, head.NumSeries() > 0)
	limited := lim.MaxActiveSeries > 0 || lim.MaxSeriesPerMetric > 0 ||
		slices.ContainsFunc(lim.LabelSets, func(s tenant.LabelSet) bool { return s.MaxActiveSeries > 0 })
	if limited && t.series.replayed {
		return t.series.restore(head, head.MaxTime()-(idleMinutes*time.Minute).Milliseconds())
	}
	return nil
}

// restore counts every series of head with a sample at since or later.
func (t *seriesTable) restore(head *tsdb.Head, since int64) error {
	r, err := newRecency(head)
	if err != nil {
		return err
	}
	defer r.chunks.Close() // or the head could not be cut
	name, value := index.AllPostingsKey()
	all, err := r.index.Postings(context.Background(), name, value)
	if err != nil {
		return err
	}
	for all.Next() {
		if ls, ok := r.sent(all.At(), since); ok && !isUsageSeries(ls) {
			s := restoredSeries{all.At(), t.active.Classify(ls)}
			t.active.Adopt(s.class)
			t.restored.series = append(t.restored.series, s)
		}
	}
	slices.SortFunc(t.restored.series, func(a, b restoredSeries) int { return int(int64(a.ref) - int64(b.ref)) })
	return all.Err()
}

// recency tells which series of a head have samples of late.
type recency struct {
	index   tsdb.IndexReader
	chunks  tsdb.ChunkReader
	builder labels.ScratchBuilder
	metas   []chunks.Meta
	it      chunkenc.Iterator
}

func newRecency(head *tsdb.Head) (*recency, error) {
	ix, err := head.Index()
	if err != nil {
		return nil, err
	}
	ck, err := head.Chunks()
	return &recency{index: ix, chunks: ck}, err
}

// sent returns the labels of a series, and whether it has a sample at since or
// later. The open chunk is read if it began before.
func (r *recency) sent(ref storage.SeriesRef, since int64) (labels.Labels, bool) {
	if r.index.Series(ref, &r.builder, &r.metas) != nil || len(r.metas) == 0 {
		return labels.EmptyLabels(), false
	}
	last := r.metas[len(r.metas)-1]
	if last.MinTime >= since {
		return r.builder.Labels(), true
	}
	if last.MaxTime < since {
		return labels.EmptyLabels(), false
	}
	c, _, err := r.chunks.ChunkOrIterable(last)
	if err != nil || c == nil {
		return labels.EmptyLabels(), false
	}
	newest := last.MinTime
	r.it = c.Iterator(r.it)
	for r.it.Next() != chunkenc.ValNone {
		newest = r.it.AtT()
	}
	return r.builder.Labels(), newest >= since
}

// limitSeries makes the limits in force take effect on new series. Under other
// label sets every series is counted anew, while no write is under way, so that
// none is missed.
func (t *tenantDB) limitSeries() error {
	if t.series.limit(activeLimits(t.limits())) {
		return nil
	}
	labelsOf, err := headLabels(t.db.Head())
	if err != nil {
		return err
	}
	t.commits.Lock()
	defer t.commits.Unlock()
	t.series.recount(activeLimits(t.limits()), labelsOf)
	return nil
}

// headLabels finds labels of series in a head.
func headLabels(head *tsdb.Head) (func(storage.SeriesRef) (labels.Labels, bool), error) {
	ix, err := head.Index()
	if err != nil {
		return nil, err
	}
	var builder labels.ScratchBuilder
	return func(ref storage.SeriesRef) (labels.Labels, bool) {
		if ref == 0 || ix.Series(ref, &builder, nil) != nil {
			return labels.EmptyLabels(), false
		}
		return builder.Labels(), true
	}, nil
}
