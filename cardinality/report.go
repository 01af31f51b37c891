package cardinality

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Query asks for a Report.
type Query struct {
	Matchers []*labels.Matcher // of the series that count; none: all
	Names    []string          // labels whose values are listed; none: those of the Report's Pairs
	Limit    int               // entries of each ranking
}

// Report says what the active series of a tenant consist of. Rankings begin with
// the most series. Changes are of this hour and the one before, and of series that
// are in memory still.
type Report struct {
	Survey
	Limit     int           `json:"activeSeriesLimit"` // 0: none
	Metrics   []MetricCount `json:"metrics"`
	LabelSets []SetCount    `json:"labelSets"`
}

// Day says what the series consist of that have a sample on one day. Changes are
// those since the day before.
type Day struct {
	Date string `json:"date"` // in UTC
	Survey
	Change
	Metrics []DayCount `json:"metrics"`
}

// Survey says of which labels series consist.
type Survey struct {
	Series int          `json:"activeSeries"`
	Names  int          `json:"labelNames"`
	Values int          `json:"labelValues"` // of all label names together
	Labels []LabelCount `json:"labels"`      // by values
	Pairs  []PairCount  `json:"labelPairs"`
}

// Change says what became of series since a time before.
type Change struct {
	Created    int `json:"created"`
	Gone       int `json:"gone"`
	Growth     int `json:"growth"`     // Created without Gone
	ShortLived int `json:"shortLived"` // of those created, those that ended soon
}

// LabelCount is what is counted of one label.
type LabelCount struct {
	Name         string `json:"name"`
	Values       int    `json:"values"`
	ValuesGrowth int    `json:"valuesGrowth"`
	Series       int    `json:"series"` // that have it
	Change
	Top []PairCount `json:"-"` // its values, if they were asked for
}

// PairCount is the series of one value of a label.
type PairCount struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Series int    `json:"series"`
	Change
}

// DayCount is the series of one metric on a day.
type DayCount struct {
	Name   string `json:"name"`
	Series int    `json:"activeSeries"`
	Change
}

// SetCount is the active series of a label set.
type SetCount struct {
	Name   string `json:"name"`
	Match  string `json:"match"`
	Series int    `json:"activeSeries"`
	Limit  int    `json:"activeSeriesLimit"` // 0: none
}

// Describe fills r with what is counted without looking at labels.
func (a *Active) Describe(r *Report, limit int) {
	r.Limit = a.limits.Series
	top := NewTop(limit, func(x, y MetricCount) int {
		return cmp.Or(cmp.Compare(y.Active, x.Active), cmp.Compare(x.Name, y.Name))
	})
	for m := range a.Metrics {
		if m.Active > 0 || m.Churn != [2]Churn{} {
			top.Add(m)
		}
	}
	r.Metrics = top.All()
	r.LabelSets = []SetCount{}
	for s, n := range a.Sets {
		r.LabelSets = append(r.LabelSets, SetCount{s.Name, s.Match, n, s.Series})
	}
}

// Top keeps the first of many entries, in memory for twice as many.
type Top[T any] struct {
	limit   int
	compare func(a, b T) int
	entries []T
}

// NewTop returns a Top of the first limit entries.
func NewTop[T any](limit int, compare func(a, b T) int) *Top[T] {
	return &Top[T]{limit: limit, compare: compare, entries: []T{}}
}

// Add offers an entry.
func (t *Top[T]) Add(e T) {
	if t.entries = append(t.entries, e); len(t.entries) >= 2*t.limit {
		t.All()
	}
}

// All returns the entries, the first first.
func (t *Top[T]) All() []T {
	slices.SortFunc(t.entries, t.compare)
	t.entries = t.entries[:min(len(t.entries), t.limit)]
	return t.entries
}

// Event is a Quarantine for people, with times.
type Event struct {
	Metric    string     `json:"metric"`
	Labels    []string   `json:"labels"`
	Enforced  bool       `json:"enforced"`
	Series    int        `json:"seriesThen"`
	Base      int        `json:"seriesBefore"`
	Examples  []string   `json:"examples"`
	Sender    string     `json:"sender,omitempty"`
	BeganAt   time.Time  `json:"beganAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Released  bool       `json:"releasedByOperator,omitempty"`
	HeldBack  int        `json:"refusals"`
	Attempted int        `json:"differentSeriesLately"`
}

// Event returns q for people; zero is when minutes begin.
func (q *Quarantine) Event(zero time.Time) Event {
	at := func(minute int) time.Time {
		return zero.Add(time.Duration(minute) * time.Minute).UTC().Truncate(time.Second)
	}
	e := Event{
		Metric: q.Metric, Labels: q.Labels, Enforced: q.Enforced, Series: q.Series, Base: q.Base, Examples: q.Examples,
		Sender: q.Sender, BeganAt: at(q.Began), Released: q.Released, HeldBack: q.Held, Attempted: int(q.attempts.count()),
	}
	if q.Ended != 0 {
		ended := at(q.Ended)
		e.EndedAt = &ended
	}
	return e
}
