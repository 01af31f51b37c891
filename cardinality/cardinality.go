// Package cardinality counts the active series of a tenant, says which new ones
// its limits allow, and notices when one label makes their number explode.
//
//	cardinality.go  Active: counts by tenant, metric and label set, and verdicts on new series
//	limits.go       the limits, and what a refused sender is told
//	growth.go       what is remembered of each metric's growth, and when it is an explosion
//	suspect.go      which labels explain the growth of a metric, by sketches
//	report.go       what people are shown
//	use.go          how much of each limit is used, and trend.go when one will be reached
//	quarantine.go   which new series are held back, since when, and until when
//
// It has no clock, no lock and no I/O: the series table of a TSDB calls it with
// the minute that it is, and holds the lock.
package cardinality

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// Class numbers what a series is counted under: its metric and the label sets
// that it belongs to. A series keeps the number, so that it can be counted out
// without its labels.
type Class uint32

// Active are the counts of one tenant's active series. They are exact: a series
// is counted in once, by Admit or Return, and counted out once, by Leave.
type Active struct {
	limits  Limits
	total   tally
	sets    []tally // of limits.Sets
	metrics map[string]*metric
	classes []class
	numbers map[classKey]Class

	watch   // for explosions
	waiting waiting
	trend   trend

	scratch []byte // of membership
}

// tally counts the series of a tenant, a metric or a label set.
type tally struct {
	active   int
	draining int // of the active ones, those that have not sent for so long that they are about to leave
	waiting  int // series that were refused for the limit on this tally in this minute
	waited   int // and in the one before
}

func (t *tally) nextMinute() { t.draining, t.waiting, t.waited = 0, 0, t.waiting }

// metric is what is known of the series of one name.
type metric struct {
	tally
	name string
	growth
	churn   [2]Churn // in this hour, and in the one before
	suspect *suspect // nil: its growth needs no explanation
	held    *Quarantine
}

// Churn counts the series of a metric that came and went in an hour.
type Churn struct {
	Created int `json:"created"`
	Gone    int `json:"gone"`
}

type class struct {
	metric *metric
	sets   string // two bytes for each index into Limits.Sets, ascending
}

type classKey struct{ metric, sets string }

// NewActive returns counts of nothing under limits.
func NewActive(limits Limits, minute int) *Active {
	a := &Active{metrics: make(map[string]*metric), numbers: make(map[classKey]Class)}
	a.watch.begin(minute)
	a.SetLimits(limits)
	return a
}

// SetLimits changes the limits. It returns false when the label sets are not the
// same as before: then every series must be counted anew, in a copy from Restart.
func (a *Active) SetLimits(limits Limits) bool {
	same := slices.EqualFunc(a.limits.Sets, limits.Sets, Set.counts)
	if a.sets != nil && !same {
		return false
	}
	a.limits = limits
	if a.sets == nil {
		a.sets = make([]tally, len(limits.Sets))
	}
	a.forgetWaiting()
	if limits.Quarantine == QuarantineOff {
		a.releaseAll()
	}
	return true
}

// Restart returns counts of nothing under limits that know of each metric's past
// what a knows. a must not be used afterwards.
func (a *Active) Restart(limits Limits) *Active {
	b := &Active{metrics: a.metrics, numbers: make(map[classKey]Class, len(a.numbers)), watch: a.watch, trend: a.trend}
	for name, m := range b.metrics {
		m.tally = tally{}
		if m.forgettable() { // until a series of it is counted again
			delete(b.metrics, name)
		}
	}
	b.SetLimits(limits)
	return b
}

// membership returns what a series with labels ls is counted under.
func (a *Active) membership(ls labels.Labels) classKey {
	sets := a.scratch[:0]
	for i := range a.limits.Sets {
		if a.limits.Sets[i].has(ls) {
			sets = append(sets, byte(i>>8), byte(i))
		}
	}
	a.scratch = sets
	return classKey{ls.Get(model.MetricNameLabel), string(sets)}
}

// setsOf calls f with the tally and the limit of each label set in sets.
func (a *Active) setsOf(sets string, f func(i int)) {
	for ; len(sets) > 0; sets = sets[2:] {
		f(int(sets[0])<<8 | int(sets[1]))
	}
}

// Classify returns the class of a series with labels ls.
func (a *Active) Classify(ls labels.Labels) Class { return a.intern(a.membership(ls)) }

func (a *Active) intern(key classKey) Class {
	if n, ok := a.numbers[key]; ok {
		return n
	}
	m := a.metrics[key.metric]
	if m == nil {
		m = &metric{name: strings.Clone(key.metric)} // the labels are much longer
		a.metrics[m.name] = m
	}
	n := Class(len(a.classes))
	a.classes = append(a.classes, class{m, key.sets})
	a.numbers[classKey{m.name, key.sets}] = n
	return n
}

// Moved returns the class in a of a series that had class c in before, whose
// label sets were the same.
func (a *Active) Moved(before *Active, c Class) Class {
	old := before.classes[c]
	return a.intern(classKey{old.metric.name, old.sets})
}

// MovedWithoutSets does so when label sets are others, and the labels unknown.
func (a *Active) MovedWithoutSets(before *Active, c Class) Class {
	return a.intern(classKey{metric: before.classes[c].metric.name})
}

// Admit decides about a new series and counts it in. stored reports whether the
// TSDB has the series although it is not known here; it is asked when that
// matters. sender is whom an event names.
func (a *Active) Admit(id proto.Hash, ls labels.Labels, sender string, stored func() bool) (Class, Verdict) {
	if v, ok := a.waiting.find(id); ok {
		return 0, v
	}
	key := a.membership(ls)
	m := a.metrics[key.metric]
	held := m != nil && m.held.holds(ls)
	old := (held || a.young() || m != nil && m.suspect != nil) && stored()
	if held && !old {
		return 0, a.waiting.add(id, m.held.refuse(id))
	}
	if v := a.verdict(key, m); v.Reason != proto.OK {
		return 0, a.refuse(id, key, m, v)
	}
	c := a.intern(key)
	if old {
		a.Adopt(c)
		return c, Verdict{}
	}
	a.add(c, 1)
	a.created(a.classes[c].metric, id, ls, sender)
	return c, Verdict{}
}

// Return decides about a series that was counted out, and counts it in again.
func (a *Active) Return(id proto.Hash, c Class) Verdict {
	if v, ok := a.waiting.find(id); ok {
		return v
	}
	of := a.classes[c]
	key := classKey{of.metric.name, of.sets}
	if v := a.verdict(key, of.metric); v.Reason != proto.OK {
		return a.refuse(id, key, of.metric, v)
	}
	a.add(c, 1)
	return Verdict{}
}

// Adopt counts a series in that was active before there were counts.
func (a *Active) Adopt(c Class) {
	a.add(c, 1)
	a.classes[c].metric.settle()
}

// Recount counts a series in that was counted in by what a was made from.
func (a *Active) Recount(c Class) { a.add(c, 1) }

// Leave counts a series out. Whoever was refused is decided about anew.
func (a *Active) Leave(c Class) {
	a.add(c, -1)
	a.forgetWaiting()
}

// Expire counts a series out that has not sent for too long.
func (a *Active) Expire(c Class) {
	a.classes[c].metric.churn[0].Gone++
	a.Leave(c)
}

// add counts n series of class c in, or out.
func (a *Active) add(c Class, n int) {
	of := a.classes[c]
	a.total.active += n
	of.metric.active += n
	a.setsOf(of.sets, func(i int) { a.sets[i].active += n })
}

// NextMinute ends a minute: which series are about to leave is told anew by Drain,
// whoever was refused is decided about anew, and metrics that explode are found.
func (a *Active) NextMinute(minute int) {
	a.trend.note(minute-1, a.total.active)
	a.forgetWaiting()
	a.total.nextMinute()
	for i := range a.sets {
		a.sets[i].nextMinute()
	}
	for _, m := range a.metrics {
		m.nextMinute()
	}
	a.look(minute)
}

// Drain notes that an active series of class c is about to leave.
func (a *Active) Drain(c Class) {
	of := a.classes[c]
	a.total.draining++
	of.metric.draining++
	a.setsOf(of.sets, func(i int) { a.sets[i].draining++ })
}

// Total is the number of active series.
func (a *Active) Total() int { return a.total.active }

// Limits are those in force.
func (a *Active) Limits() Limits { return a.limits }

// MetricCount is what is counted of one metric.
type MetricCount struct {
	Name   string   `json:"name"`
	Active int      `json:"activeSeries"`
	Churn  [2]Churn `json:"churn"` // in this hour, and in the one before
}

// Metrics yields the counts of every metric that has active series or had some
// lately.
func (a *Active) Metrics(yield func(MetricCount) bool) {
	for _, m := range a.metrics {
		if !yield(MetricCount{m.name, m.active, m.churn}) {
			return
		}
	}
}

// Sets yields the label sets with their active series.
func (a *Active) Sets(yield func(s Set, active int) bool) {
	for i, s := range a.limits.Sets {
		if !yield(s, a.sets[i].active) {
			return
		}
	}
}
