package ingester

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/cardinality"
)

// DayReport says what the series of a tenant consist of that have a sample on the
// day of a time, and what changed since the day before.
func (i *Ingester) DayReport(ctx context.Context, tenantID string, day time.Time, q cardinality.Query) (r *cardinality.Day, err error) {
	today, now := dayOf(day), time.Now().UnixMilli()
	err = i.recall(ctx, tenantID, []period{today, today.before()}, q.Matchers, func(sections []*section) error {
		key := fmt.Sprintf("%s %d %d %q %q %s", tenantID, today.mint, q.Limit, q.Names, q.Matchers, sections)
		if r = i.days.find(key); r != nil {
			return nil
		}
		r = &cardinality.Day{Date: day.UTC().Format(time.DateOnly), Metrics: []cardinality.DayCount{}}
		err := fillDay(ctx, r, sections, q, min(today.maxt, now))
		if err == nil && len(sections) > 0 && today.maxt < now && !slices.ContainsFunc(sections, (*section).isHead) {
			i.days.add(key, r)
		}
		return err
	})
	return r, err
}

// fillDay fills r with what is counted in sections on a day that ends at end.
func fillDay(ctx context.Context, r *cardinality.Day, sections []*section, q cardinality.Query, end int64) error {
	err := walk(ctx, sections, func(s *section, seen []presence) bool {
		s.count(seen[0], seen[1], end)
		return true
	})
	if err != nil {
		return err
	}
	var sources []source
	for _, s := range sections {
		if !s.census.empty() {
			sources = append(sources, s.source)
		}
	}
	var metrics cardinality.LabelCount
	r.Survey, metrics, err = survey(ctx, sources, q)
	r.Change = metrics.Change
	for _, m := range metrics.Top {
		r.Metrics = append(r.Metrics, cardinality.DayCount{Name: m.Value, Series: m.Series, Change: m.Change})
	}
	return err
}

// ListDaySeries returns the labels of the series that match and have a sample on
// the day of a time, limit at most.
func (i *Ingester) ListDaySeries(ctx context.Context, tenantID string, day time.Time, ms []*labels.Matcher, limit int) (out []labels.Labels, err error) {
	err = i.recall(ctx, tenantID, []period{dayOf(day)}, ms, func(sections []*section) error {
		out = nil
		return walk(ctx, sections, func(s *section, seen []presence) bool {
			if seen[0].is() {
				out = append(out, s.labels.Copy())
			}
			return len(out) < limit
		})
	})
	return out, err
}

// dayReports remembers the last reports of days that are all in blocks, which are the
// same until blocks come or go.
type dayReports struct {
	mu     sync.Mutex
	recent []namedReport // guarded by mu; the reports are not changed
}

type namedReport struct {
	key    string
	report *cardinality.Day
}

const (
	// recentDays is how many reports are remembered, of recentEntries in their rankings:
	// of as many as somebody looks at, in a few megabytes.
	recentDays    = 32
	recentEntries = 2000
)

// find returns a report, or nil.
func (d *dayReports) find(key string) *cardinality.Day {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.recent {
		if n.key == key {
			return n.report
		}
	}
	return nil
}

// add remembers a report that is not too long in place of the oldest.
func (d *dayReports) add(key string, r *cardinality.Day) {
	entries := len(r.Metrics) + len(r.Labels) + len(r.Pairs)
	for _, l := range r.Labels {
		entries += len(l.Top)
	}
	if entries > recentEntries {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.recent) >= recentDays {
		d.recent = slices.Delete(d.recent, 0, 1)
	}
	d.recent = append(d.recent, namedReport{key, r})
}
