package cardinality

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// QuarantineMode is what becomes of a metric that explodes.
type QuarantineMode string

const (
	// QuarantineOff looks for no explosions.
	QuarantineOff QuarantineMode = "off"
	// QuarantineReport says so, and takes all series.
	QuarantineReport QuarantineMode = "report"
	// QuarantineEnforce holds new series back.
	QuarantineEnforce QuarantineMode = "enforce"
)

const (
	// calmMinutes is for how long the series that are held back are counted, before
	// it is asked whether the explosion is over.
	calmMinutes = 10
	// calmShare is what they are then at most, of those that came in as many minutes
	// before the quarantine.
	calmShare = 0.1
	// releasedMinutes is for how long a metric that an operator released is left alone.
	releasedMinutes = 24 * 60
	// youngMinutes is how long after a start every sender has sent everything again.
	youngMinutes = 30
	// maxPast is how many quarantines that ended are remembered.
	maxPast = 32
)

// Quarantine is an explosion of one metric, and what is held back of it: new
// series that have the labels which explain it. Series that are stored already go
// on, and so do all other metrics.
type Quarantine struct {
	Metric   string
	Labels   []string // one or two, without which the metric would not grow
	Enforced bool     // else it is only reported
	Series   int      // active when it began
	Base     int      // series that the metric needed before
	Examples []string // of new series, as selectors
	Sender   string   // of the newest series before it began
	Began    int      // minute
	Ended    int      // minute; 0: it lasts
	Released bool     // by an operator
	Held     int      // refusals of a series, at most one a minute of each

	perWindow float64 // new series in calmMinutes before it began
	attempts  sketch  // series that were held back, or would have been, since window
	window    int     // minute
}

// holds reports whether a new series with labels ls is held back.
func (q *Quarantine) holds(ls labels.Labels) bool { return q != nil && q.Enforced && q.explains(ls) }

func (q *Quarantine) explains(ls labels.Labels) bool {
	return !slices.ContainsFunc(q.Labels, func(name string) bool { return ls.Get(name) == "" })
}

// refuse counts a series that is held back.
func (q *Quarantine) refuse(id proto.Hash) Verdict {
	q.Held++
	q.attempts.add(id.Lo)
	return Verdict{Reason: proto.Quarantined, Name: q.Metric, Active: q.Series, Labels: strings.Join(q.Labels, ", ")}
}

// over reports whether the explosion has come to its end. It looks at whole
// windows.
func (q *Quarantine) over(minute int) bool {
	if minute-q.window < calmMinutes {
		return false
	}
	calm := q.attempts.count() <= max(q.perWindow*calmShare, plateauSeries)
	q.attempts, q.window = sketch{}, minute
	return calm
}

// watch looks for explosions among the metrics of a tenant.
type watch struct {
	began    int // minute
	minute   int
	hour     int // since when churn is counted
	suspects int
	past     []Quarantine // the newest last
	news     []Quarantine // began or ended since they were last asked for
}

func (w *watch) begin(minute int) { w.began, w.minute, w.hour = minute, minute, minute }

// young reports whether series may come that were stored before there were counts.
func (w *watch) young() bool { return w.minute-w.began < youngMinutes }

// created takes a new series of m, with everything counted.
func (a *Active) created(m *metric, id proto.Hash, ls labels.Labels, sender string) {
	m.churn[0].Created++
	m.growth.created++
	if m.suspect == nil && m.growth.created >= minExcess/4 {
		a.suspectOf(m)
	}
	if m.suspect != nil {
		m.suspect.add(ls, sender)
	}
	if m.held != nil && m.held.explains(ls) {
		m.held.attempts.add(id.Lo)
	}
	if n := m.growth.created; n >= flood && n%(flood/5) == 0 {
		a.judge(m)
	}
}

// suspectOf begins to look at the labels of new series of m.
func (a *Active) suspectOf(m *metric) {
	if a.limits.Quarantine == QuarantineOff || a.suspects >= maxSuspects || m.held != nil || a.minute < int(m.free) {
		return
	}
	m.suspect = &suspect{since: a.minute}
	a.suspects++
}

func (a *Active) clear(m *metric) {
	if m.suspect != nil {
		m.suspect = nil
		a.suspects--
	}
}

// look ends a minute of every metric.
func (a *Active) look(minute int) {
	a.minute = minute
	newHour := minute-a.hour >= 60
	if newHour {
		a.hour = minute
	}
	for _, m := range a.metrics {
		m.growth.step(minute, m.active)
		if newHour {
			m.churn[1], m.churn[0] = m.churn[0], Churn{}
		}
		switch excess := m.excess(m.active); {
		case m.held != nil && m.held.over(minute):
			a.end(m, false)
		case m.suspect == nil && excess >= minExcess/4:
			a.suspectOf(m)
		case excess == 0:
			a.clear(m)
		default:
			a.judge(m)
		}
	}
}

// judge puts m into quarantine if it explodes.
func (a *Active) judge(m *metric) {
	if m.held != nil || m.suspect == nil || m.excess(m.active) < minExcess || !m.goesOn() {
		return
	}
	names := m.suspect.explanation()
	if names == nil {
		return
	}
	s := m.suspect
	m.held = &Quarantine{
		Metric: m.name, Labels: names, Enforced: a.limits.Quarantine == QuarantineEnforce, Series: m.active, Base: int(m.base),
		Examples: s.examples, Sender: s.sender, Began: a.minute, window: a.minute,
		perWindow: float64(s.series) / float64(max(a.minute-s.since, 1)) * calmMinutes,
	}
	a.clear(m)
	a.news = append(a.news, *m.held)
}

// end ends the quarantine of m.
func (a *Active) end(m *metric, released bool) {
	q := *m.held
	q.Ended, q.Released = a.minute, released
	m.held = nil
	m.accept(m.active)
	a.forgetWaiting()
	a.past = append(a.past, q)
	a.past = a.past[max(0, len(a.past)-maxPast):]
	a.news = append(a.news, q)
}

// Release ends the quarantine of a metric, which is left alone for a day. It is
// false when there is none.
func (a *Active) Release(name string) bool {
	m := a.metrics[name]
	if m == nil || m.held == nil {
		return false
	}
	a.end(m, true)
	m.free = int32(a.minute + releasedMinutes)
	return true
}

// releaseAll ends every quarantine, because the tenant wants none.
func (a *Active) releaseAll() {
	for _, m := range a.metrics {
		a.clear(m)
		if m.held != nil {
			a.end(m, true)
		}
	}
}

// News returns the quarantines that began or ended since it was last called.
func (a *Active) News() []Quarantine {
	news := a.news
	a.news = nil
	return news
}

// Quarantines returns those that last, and then those that ended lately.
func (a *Active) Quarantines() []Quarantine {
	var out []Quarantine
	for _, m := range a.metrics {
		if m.held != nil {
			out = append(out, *m.held)
		}
	}
	slices.SortFunc(out, func(x, y Quarantine) int { return strings.Compare(x.Metric, y.Metric) })
	return append(out, a.past...)
}

// forgettable reports whether nothing is worth remembering of a metric without
// active series.
func (m *metric) forgettable() bool {
	return m.held == nil && m.suspect == nil && m.base < 1 && m.churn == [2]Churn{} && m.free == 0
}
