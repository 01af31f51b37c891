package ingester

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/cardinality"
)

// written is what was sent, by the labels of the series as text.
type written map[string]*pastSeries

type pastSeries struct {
	labels labels.Labels
	times  []int64
}

func (h written) add(ls labels.Labels, t int64) {
	s := h[ls.String()]
	if s == nil {
		s = &pastSeries{labels: ls}
		h[ls.String()] = s
	}
	s.times = append(s.times, t)
}

// in returns when s has samples from mint to maxt.
func (s *pastSeries) in(mint, maxt int64) []int64 {
	return slices.DeleteFunc(slices.Sorted(slices.Values(s.times)), func(t int64) bool { return t < mint || t > maxt })
}

// day is what DayReport should say, by looking at every sample.
func (h written) day(date time.Time, q cardinality.Query) *cardinality.Day {
	start := date.UnixMilli()
	counts := map[string]map[string]*tally{} // by label name and value
	for _, s := range h {
		today, before := s.in(start, start+dayMS-1), s.in(start-dayMS, start-1)
		var n tally
		if len(today) > 0 {
			n.active = 1
			if len(before) == 0 {
				n.created = 1
				if first, last := today[0], today[len(today)-1]; last-first < briefMS && last < start+dayMS-1-briefMS {
					n.brief = 1
				}
			}
		} else if len(before) > 0 {
			n.gone = 1
		}
		s.labels.Range(func(l labels.Label) {
			if counts[l.Name] == nil {
				counts[l.Name] = map[string]*tally{}
			}
			if counts[l.Name][l.Value] == nil {
				counts[l.Name][l.Value] = &tally{}
			}
			counts[l.Name][l.Value].add(n)
		})
	}
	d := &cardinality.Day{Date: date.Format(time.DateOnly), Survey: emptySurvey(), Metrics: []cardinality.DayCount{}}
	for name, values := range counts {
		l := cardinality.LabelCount{Name: name}
		var all tally
		for value, n := range values {
			all.add(*n)
			if n.active > 0 {
				l.Values++
				l.ValuesGrowth++
				d.Pairs = append(d.Pairs, cardinality.PairCount{Name: name, Value: value, Series: n.active, Change: n.change()})
				if name == model.MetricNameLabel {
					d.Metrics = append(d.Metrics, cardinality.DayCount{Name: value, Series: n.active, Change: n.change()})
				}
			}
			if n.active-n.created+n.gone > 0 {
				l.ValuesGrowth--
			}
		}
		l.Series, l.Change = all.active, all.change()
		if name == model.MetricNameLabel {
			d.Series, d.Change = l.Series, l.Change
		}
		if l.Values > 0 || l.Gone > 0 {
			d.Names++
			d.Values += l.Values
			d.Labels = append(d.Labels, l)
		}
	}
	slices.SortFunc(d.Labels, func(a, b cardinality.LabelCount) int { return cmp.Or(b.Values-a.Values, cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(d.Pairs, func(a, b cardinality.PairCount) int {
		return cmp.Or(b.Series-a.Series, cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	slices.SortFunc(d.Metrics, func(a, b cardinality.DayCount) int { return cmp.Or(b.Series-a.Series, cmp.Compare(a.Name, b.Name)) })
	d.Labels, d.Pairs, d.Metrics = first(d.Labels, q.Limit), first(d.Pairs, q.Limit), first(d.Metrics, q.Limit)
	return d
}

func first[T any](list []T, n int) []T { return list[:min(n, len(list))] }

// matching are the series with a label.
func (h written) matching(name, value string) written {
	out := maps.Clone(h)
	maps.DeleteFunc(out, func(_ string, s *pastSeries) bool { return s.labels.Get(name) != value })
	return out
}

// list are the labels of the series with a sample on a day.
func (h written) list(date time.Time) (out []labels.Labels) {
	for _, s := range h {
		if len(s.in(date.UnixMilli(), date.UnixMilli()+dayMS-1)) > 0 {
			out = append(out, s.labels)
		}
	}
	slices.SortFunc(out, labels.Compare)
	return out
}

// withoutTop drops what is not shown, and what cannot be known of a head.
func withoutTop(d *cardinality.Day, brief bool) *cardinality.Day {
	for i := range d.Labels {
		d.Labels[i].Top = nil
	}
	if brief {
		return d
	}
	d.ShortLived = 0
	for i := range d.Labels {
		d.Labels[i].ShortLived = 0
	}
	for i := range d.Pairs {
		d.Pairs[i].ShortLived = 0
	}
	for i := range d.Metrics {
		d.Metrics[i].ShortLived = 0
	}
	return d
}

// A day is counted from blocks that overlap it and each other, from late samples and
// from the head, as if every sample had been looked at, and no series twice.
func TestDayReport(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		duration := time.Duration(rapid.SampledFrom([]int{4, 7, 24}).Draw(rt, "block hours")) * time.Hour
		n := start(rt, withWindow(96*time.Hour), withConfig(func(c *Config) { c.BlockDuration = duration }))
		h := written{}
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(1, 25).Draw(rt, "samples") {
				ls := metric(fmt.Sprint("m", rapid.IntRange(0, 2).Draw(rt, "metric")), "A", fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "A")))
				if b := rapid.IntRange(0, 4).Draw(rt, "b"); b > 0 {
					ls = labels.NewBuilder(ls).Set("b", fmt.Sprint(b)).Labels()
				}
				at := at(time.Duration(rapid.IntRange(0, 3*24*4).Draw(rt, "quarter")) * 15 * time.Minute)
				if reply := n.send(team, new(frame).series(ls).float(at, 1)); reply.Written.Samples == 1 {
					h.add(ls, at)
				}
			}
			switch rapid.IntRange(0, 3).Draw(rt, "then") {
			case 0:
			case 1:
				n.restart()
			default:
				n.flush(team)
			}
		}
		all := rapid.Bool().Draw(rt, "flush all")
		if all {
			n.flush(team)
		}
		brief := all && 24*time.Hour%duration == 0
		q := cardinality.Query{Limit: rapid.SampledFrom([]int{2, 100}).Draw(rt, "limit")}
		selector := cardinality.Query{Limit: 100, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "A", "1")}}
		for date := time.UnixMilli(t0).UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour); date.UnixMilli() <= t0+5*dayMS; date = date.Add(24 * time.Hour) {
			for range 2 { // the second time it may be remembered
				got, err := n.DayReport(context.Background(), team, date.Add(time.Hour), q)
				require.NoError(rt, err)
				require.Equal(rt, withoutTop(h.day(date, q), brief), withoutTop(got, brief), "%s", date)
			}
			got, err := n.DayReport(context.Background(), team, date, selector)
			require.NoError(rt, err)
			require.Equal(rt, withoutTop(h.matching("A", "1").day(date, selector), brief), withoutTop(got, brief), "%s", date)
			list, err := n.ListDaySeries(context.Background(), team, date, nil, 1000)
			require.NoError(rt, err)
			require.Equal(rt, h.list(date), list, "%s", date)
		}
	})
}

// Blocks that are cut meanwhile take nothing from a report.
func TestDayReportWhileBlocksAreCut(t *testing.T) {
	n := start(t)
	const series = 300
	f := &frame{}
	for i := range series {
		f.series(metric("m", "i", fmt.Sprint(i))).float(at(0), 1)
	}
	n.write(team, f)
	db := n.find(team)
	tries := 0
	err := n.recall(t.Context(), team, []period{dayOf(time.UnixMilli(t0))}, nil, func(sections []*section) error {
		if tries++; tries == 1 {
			require.Len(t, sections, 1)
			n.flush(team)
			require.Zero(t, db.db.Head().NumSeries())
		}
		seen := 0
		err := walk(t.Context(), sections, func(*section, []presence) bool { seen++; return true })
		require.Equal(t, map[int]int{1: 0, 2: series}[tries], seen)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 2, tries)

	_, err = n.DayReport(t.Context(), team, time.UnixMilli(t0), cardinality.Query{Limit: 5})
	require.NoError(t, err)
	require.Len(t, n.days.recent, 1)
	n.days.recent = nil
	tries = 0
	err = n.recall(t.Context(), team, []period{dayOf(time.UnixMilli(t0))}, nil, func([]*section) error {
		tries++
		n.write(team, new(frame).series(metric("m", "i", "0")).float(at(time.Duration(tries)*time.Minute), 1))
		n.flush(team)
		return nil
	})
	require.ErrorContains(t, err, "weir-blocks-changing")
	require.Equal(t, recallAttempts, tries)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = n.DayReport(ctx, team, time.UnixMilli(t0), cardinality.Query{Limit: 5})
	require.ErrorIs(t, err, context.Canceled)

	r, err := n.DayReport(t.Context(), "nobody", time.UnixMilli(t0), cardinality.Query{Limit: 5})
	require.NoError(t, err)
	require.Equal(t, written{}.day(time.UnixMilli(t0).UTC().Truncate(24*time.Hour), cardinality.Query{Limit: 5}), r)
}

// BenchmarkDayReport counts a day of twelve blocks, of which each has a tenth of new
// series, and the day before: 240,000 series of blocks.
func BenchmarkDayReport(b *testing.B) {
	const series = 10_000
	n := start(b)
	for hour := 2; hour < 50; hour += 2 { // t0 is at 22:00
		f := &frame{}
		for i := range series {
			pod := fmt.Sprint("p", i/10)
			if i%10 == 0 {
				pod = fmt.Sprint("h", hour, pod)
			}
			f.series(metric(fmt.Sprint("metric_", i%100), "pod", pod, "namespace", fmt.Sprint(i%50), "cluster", "eu", "job", fmt.Sprint(i%30),
				"instance", fmt.Sprint(i/10), "container", "c", "i", fmt.Sprint(i))).float(at(time.Duration(hour)*time.Hour), 1)
		}
		n.write(team, f)
		n.flush(team)
	}
	b.ReportAllocs()
	for b.Loop() {
		n.days.recent = nil
		r, err := n.DayReport(b.Context(), team, time.UnixMilli(at(30*time.Hour)), cardinality.Query{Limit: 20})
		require.NoError(b, err)
		require.Equal(b, series+series/10*11, r.Series)
	}
}
