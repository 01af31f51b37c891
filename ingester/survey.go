package ingester

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
)

// source is an index, and those of its series that count. Of several sources, each
// series counts in one.
type source struct {
	index tsdb.IndexReader
	census
}

// tally is what is counted of the series of a label, or of one of its values.
type tally struct{ active, created, gone, brief int }

// before is how many there were before the changes.
func (t tally) before() int { return t.active - t.created + t.gone }

func (t *tally) add(o tally) {
	t.active, t.created, t.gone, t.brief = t.active+o.active, t.created+o.created, t.gone+o.gone, t.brief+o.brief
}

func (t tally) change() cardinality.Change {
	return cardinality.Change{Created: t.created, Gone: t.gone, Growth: t.created - t.gone, ShortLived: t.brief}
}

// emptySurvey is a Survey of nothing.
func emptySurvey() cardinality.Survey {
	return cardinality.Survey{Labels: []cardinality.LabelCount{}, Pairs: []cardinality.PairCount{}}
}

// survey counts the series of each label, and of each of its values. It also
// returns what it counted of metric names. It has the values of one label in
// memory at a time.
func survey(ctx context.Context, sources []source, q cardinality.Query) (out cardinality.Survey, metrics cardinality.LabelCount, err error) {
	names, err := labelNames(ctx, sources)
	if err != nil {
		return out, metrics, err
	}
	byValues := cardinality.NewTop(q.Limit, func(a, b cardinality.LabelCount) int {
		return cmp.Or(cmp.Compare(b.Values, a.Values), cmp.Compare(a.Name, b.Name))
	})
	pairs := bySeries(q.Limit)
	for _, name := range names {
		l, err := surveyLabel(ctx, sources, name, q.Limit)
		if err != nil {
			return out, metrics, err
		}
		if name == model.MetricNameLabel {
			metrics = l
			out.Series = l.Series // every series has one
		}
		if l.Values == 0 && l.Gone == 0 {
			continue
		}
		out.Names++
		out.Values += l.Values
		for _, p := range l.Top {
			pairs.Add(p)
		}
		if len(q.Names) == 0 {
			l.Top = nil // which is what Pairs are for
		}
		if len(q.Names) == 0 || slices.Contains(q.Names, name) {
			byValues.Add(l)
		}
	}
	out.Labels, out.Pairs = byValues.All(), pairs.All()
	return out, metrics, nil
}

func bySeries(limit int) *cardinality.Top[cardinality.PairCount] {
	return cardinality.NewTop(limit, func(a, b cardinality.PairCount) int {
		return cmp.Or(cmp.Compare(b.Series, a.Series), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
}

// labelNames are the names of the labels of all sources.
func labelNames(ctx context.Context, sources []source) ([]string, error) {
	var all []string
	for _, s := range sources {
		names, err := s.index.LabelNames(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// surveyLabel counts the series of a label.
func surveyLabel(ctx context.Context, sources []source, name string, limit int) (cardinality.LabelCount, error) {
	l := cardinality.LabelCount{Name: strings.Clone(name)} // the strings of a block are good while it is open
	top := bySeries(limit)
	var all tally
	before := 0 // values
	err := eachValue(ctx, sources, name, maxValues, func(value string, n tally) {
		all.add(n)
		if n.before() > 0 {
			before++
		}
		if n.active > 0 {
			l.Values++
			top.Add(cardinality.PairCount{Name: l.Name, Value: value, Series: n.active, Change: n.change()})
		}
	})
	l.Series, l.Change, l.ValuesGrowth = all.active, all.change(), l.Values-before
	l.Top = top.All()
	for i := range l.Top {
		l.Top[i].Value = strings.Clone(l.Top[i].Value)
	}
	return l, err
}

// maxValues is how many values of one label are remembered to add them up over
// sources: 100 MB or so.
const maxValues = 1_000_000

// eachValue calls f with the values of a label, in no order, each with what is
// counted of it in all sources. It adds up most of them, or is KindTooLarge.
func eachValue(ctx context.Context, sources []source, name string, most int, f func(value string, n tally)) error {
	sums := map[string]tally{} // of all sources but the last
	for i, s := range sources {
		values, err := s.index.LabelValues(ctx, name, nil)
		if err != nil {
			return err
		}
		for _, v := range values {
			n, err := s.tally(ctx, name, v)
			switch {
			case err != nil:
				return err
			case n == (tally{}):
				continue
			}
			n.add(sums[v])
			if i < len(sources)-1 {
				if sums[v] = n; len(sums) > most {
					return proto.Errorf(proto.KindTooLarge, "weir-too-many-label-values",
						"the label %.64q had more than %d values on that day, which are too many to be counted; ask for fewer series by a selector", name, most)
				}
				continue
			}
			delete(sums, v)
			f(v, n)
		}
	}
	for v, n := range sums {
		f(v, n)
	}
	return nil
}

// tally counts the series of a value.
func (s *source) tally(ctx context.Context, name, value string) (n tally, err error) {
	if ctx.Err() != nil {
		return n, context.Cause(ctx)
	}
	p, err := s.index.Postings(ctx, name, value)
	if err != nil {
		return n, err
	}
	for p.Next() {
		ref := p.At()
		if s.active.has(ref) {
			n.active++
		}
		if s.created.has(ref) {
			n.created++
		}
		if s.gone.has(ref) {
			n.gone++
		}
		if s.brief.has(ref) {
			n.brief++
		}
	}
	return n, p.Err()
}
