package ingester

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-metrics/weir/cardinality"
)

// bitmap is a set of references, which a head gives in sequence.
type bitmap []uint64

func (b *bitmap) set(ref storage.SeriesRef) {
	if i := int(ref / 64); i >= len(*b) {
		*b = append(*b, make(bitmap, i+1-len(*b)+len(*b)/4)...)
	}
	(*b)[ref/64] |= 1 << (ref % 64)
}

func (b bitmap) has(ref storage.SeriesRef) bool {
	i := int(ref / 64)
	return i < len(b) && b[i]&(1<<(ref%64)) != 0
}

// census are the references of a tenant's series by what became of them.
type census struct {
	active  bitmap
	created bitmap // lately, whether they are active still or not
	gone    bitmap // lately
	brief   bitmap // created, and soon gone
}

// census lists the series in the head that are active, that are new since the last
// hour began, and that stopped since then.
func (t *seriesTable) census(now time.Time) (c census) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	minute := t.minuteOf(now)
	for i := range uint32(t.index.Len()) {
		e := t.at(i)
		ref, seen := storage.SeriesRef(e.ref.Load()), e.seen.Load()
		if ref == 0 {
			continue
		}
		if seen > 0 {
			c.active.set(ref)
		} else if minute+seen <= idleMinutes+churnMinutes {
			c.gone.set(ref)
		}
		if i >= t.hours[1] {
			c.created.set(ref)
		}
	}
	for _, s := range t.restored.left() {
		c.active.set(s.ref)
	}
	c.brief = c.created.and(c.gone)
	return c
}

// of leaves only some series.
func (c census) of(some bitmap) census {
	return census{c.active.and(some), c.created.and(some), c.gone.and(some), c.brief.and(some)}
}

// empty reports whether there are no series.
func (c census) empty() bool { return len(c.active)+len(c.created)+len(c.gone) == 0 }

// SeriesReport says what the active series of a tenant consist of. It walks the
// postings of the head, for one caller at a time.
func (i *Ingester) SeriesReport(ctx context.Context, tenantID string, q cardinality.Query) (*cardinality.Report, error) {
	r := &cardinality.Report{Survey: emptySurvey(), Metrics: []cardinality.MetricCount{}, LabelSets: []cardinality.SetCount{}}
	err := i.explore(ctx, tenantID, q.Matchers, func(ix tsdb.IndexReader, t *tenantDB, c census) (err error) {
		t.series.count(time.Now(), func(a *cardinality.Active) { a.Describe(r, q.Limit) })
		r.Survey, _, err = survey(ctx, []source{{ix, c}}, q)
		return err
	})
	return r, err
}

// explore calls f with the index of a tenant's head and the series that match,
// unless there is no such tenant.
func (i *Ingester) explore(ctx context.Context, tenantID string, ms []*labels.Matcher, f func(tsdb.IndexReader, *tenantDB, census) error) error {
	t, err := i.reading(tenantID)
	if err != nil || t == nil {
		return err
	}
	defer t.leave()
	if err := i.exploring.Acquire(ctx, 1); err != nil {
		return err
	}
	defer i.exploring.Release(1)
	if err := t.follow(i.Limits(tenantID)); err != nil {
		return err
	}
	ix, err := t.db.Head().Index()
	if err != nil {
		return err
	}
	t.series.count(time.Now(), func(*cardinality.Active) {}) // those that have stopped are counted out
	c := t.series.census(time.Now())
	if len(ms) > 0 {
		p, err := tsdb.PostingsForMatchers(ctx, ix, ms...)
		if err != nil {
			return err
		}
		var matching bitmap
		for p.Next() {
			matching.set(p.At())
		}
		if p.Err() != nil {
			return p.Err()
		}
		c = c.of(matching)
	}
	return f(ix, t, c)
}

// and returns what is in both.
func (b bitmap) and(other bitmap) bitmap {
	out := make(bitmap, min(len(b), len(other)))
	for i := range out {
		out[i] = b[i] & other[i]
	}
	return out
}

// ListActiveSeries returns the labels of the active series that match, limit at
// most.
func (i *Ingester) ListActiveSeries(ctx context.Context, tenantID string, ms []*labels.Matcher, limit int) (out []labels.Labels, err error) {
	err = i.explore(ctx, tenantID, ms, func(_ tsdb.IndexReader, t *tenantDB, c census) error {
		labelsOf, err := headLabels(t.db.Head())
		if err != nil {
			return err
		}
		for word, bits := range c.active {
			for ref := storage.SeriesRef(word * 64); bits != 0 && len(out) < limit; ref, bits = ref+1, bits>>1 {
				if bits&1 != 0 {
					if ls, ok := labelsOf(ref); ok {
						out = append(out, ls)
					}
				}
			}
		}
		return ctx.Err()
	})
	slices.SortFunc(out, labels.Compare)
	return out, err
}

// Quarantines returns the explosions of a tenant's metrics, those that last first.
func (i *Ingester) Quarantines(tenantID string) ([]cardinality.Event, error) {
	out := []cardinality.Event{}
	t, err := i.reading(tenantID)
	if err != nil || t == nil {
		return out, err
	}
	defer t.leave()
	t.series.count(time.Now(), func(a *cardinality.Active) {
		for _, q := range a.Quarantines() {
			out = append(out, q.Event(t.series.opened))
		}
	})
	return out, nil
}

// ReleaseQuarantine ends the quarantine of a metric; it is false when there is none.
func (i *Ingester) ReleaseQuarantine(tenantID, metric string) (released bool, err error) {
	t, err := i.reading(tenantID)
	if err != nil || t == nil {
		return false, err
	}
	defer t.leave()
	t.series.count(time.Now(), func(a *cardinality.Active) { released = a.Release(metric) })
	t.tellNews()
	return released, nil
}

// tellNews logs quarantines that began or ended.
func (t *tenantDB) tellNews() {
	var news []cardinality.Quarantine
	t.series.count(time.Now(), func(a *cardinality.Active) { news = a.News() })
	for _, q := range news {
		e := q.Event(t.series.opened)
		if q.Ended != 0 {
			t.log.Warn("a metric has stopped exploding", "metric", e.Metric, "labels", e.Labels, "released", e.Released, "refusals", e.HeldBack)
			continue
		}
		t.log.Warn("a label makes a metric explode", "metric", e.Metric, "labels", e.Labels, "held_back", e.Enforced,
			"series", e.Series, "before", e.Base, "sender", e.Sender, "examples", e.Examples)
	}
}
