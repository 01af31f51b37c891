package cardinality

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// Limits are this process' share of what a tenant may have; 0 is no limit.
type Limits struct {
	Series     int // of the tenant
	PerMetric  int
	Sets       []Set // at most 65536
	OnLimit    OnLimit
	Quarantine QuarantineMode
}

// OnLimit is what becomes of new series at a limit.
type OnLimit string

const (
	// OnLimitAuto asks the sender to wait while places for all who wait are about to
	// become free, and refuses otherwise.
	OnLimitAuto OnLimit = "auto"
	// OnLimitReject asks the sender to wait always.
	OnLimitReject OnLimit = "reject-429"
	// OnLimitPartial refuses always.
	OnLimitPartial OnLimit = "partial-400"
)

// Set is a set of series, by matchers, that are counted and perhaps limited
// together.
type Set struct {
	Name     string
	Match    string // what the matchers were parsed from
	Setting  string // names the limit
	Matchers []*labels.Matcher
	Series   int // limit, 0: the series are counted only
}

// counts reports whether s and t count the same series.
func (s Set) counts(t Set) bool { return s.Name == t.Name && s.Match == t.Match }

func (s *Set) has(ls labels.Labels) bool {
	for _, m := range s.Matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// Verdict is why a new series is refused; the zero value says that it is not.
type Verdict struct {
	Reason proto.Reason
	// Wait: it was not refused for good, the sender is to send it again.
	Wait   bool
	Name   string // of the metric or the label set
	Active int    // series that there were
	Limit  int
	Labels string // that explode, of a metric in quarantine
}

// Detail says what the limit is and what to do.
func (v Verdict) Detail() string {
	switch v.Reason {
	case proto.MetricSeriesLimit:
		return fmt.Sprintf("the metric %.64q has %d active series, the limit max_series_per_metric is %d; "+
			"known series are stored, new ones are not until others have stopped sending", v.Name, v.Active, v.Limit)
	case proto.LabelSetSeriesLimit:
		return fmt.Sprintf("the label set %.64q has %d active series, its limit max_active_series is %d; "+
			"known series are stored, new ones are not until others have stopped sending", v.Name, v.Active, v.Limit)
	case proto.Quarantined:
		return fmt.Sprintf("the label %s gives the metric %.64q ever new series, which are held back since it had %d; "+
			"remove the label at its source", v.Labels, v.Name, v.Active)
	}
	return fmt.Sprintf("the tenant has %d active series, the limit max_active_series is %d; "+
		"known series are stored, new ones are not until others have stopped sending", v.Active, v.Limit)
}

// full reports whether a tally has no place for one more series under a limit.
// Known series are never asked for.
func (t *tally) full(limit int) bool { return limit > 0 && t.active >= limit }

// mayWait reports whether a sender that is told to wait will get a place soon: it
// must not, if it would keep repeating a request while what it has to send
// besides grows old.
func (t *tally) mayWait(on OnLimit) bool {
	switch on {
	case OnLimitReject:
		return true
	case OnLimitAuto:
		return max(t.waiting, t.waited) < t.draining
	}
	return false
}

// verdict is the narrowest limit that keeps a new series out.
func (a *Active) verdict(key classKey, m *metric) Verdict {
	if m != nil && m.full(a.limits.PerMetric) {
		return Verdict{Reason: proto.MetricSeriesLimit, Wait: m.mayWait(a.limits.OnLimit),
			Name: m.name, Active: m.active, Limit: a.limits.PerMetric}
	}
	v := Verdict{}
	a.setsOf(key.sets, func(i int) {
		if s := &a.limits.Sets[i]; v.Reason == proto.OK && a.sets[i].full(s.Series) {
			v = Verdict{Reason: proto.LabelSetSeriesLimit, Wait: a.sets[i].mayWait(a.limits.OnLimit),
				Name: s.Name, Active: a.sets[i].active, Limit: s.Series}
		}
	})
	if v.Reason == proto.OK && a.total.full(a.limits.Series) {
		v = Verdict{Reason: proto.SeriesLimit, Wait: a.total.mayWait(a.limits.OnLimit),
			Active: a.total.active, Limit: a.limits.Series}
	}
	return v
}

// refuse remembers the verdict on a series, and counts it among those that wait.
func (a *Active) refuse(id proto.Hash, key classKey, m *metric, v Verdict) Verdict {
	switch v.Reason {
	case proto.MetricSeriesLimit:
		m.waiting++
	case proto.LabelSetSeriesLimit:
		i := slices.IndexFunc(a.limits.Sets, func(s Set) bool { return s.Name == v.Name })
		a.sets[i].waiting++
	default:
		a.total.waiting++
	}
	return a.waiting.add(id, v)
}

// waiting are series that were refused, so that they are counted once, and
// refused again without their labels. It is forgotten whenever a place becomes
// free, and when it is full: it need not know all.
type waiting struct {
	index    proto.Index
	verdicts []Verdict
}

// maxWaiting bounds waiting: 8 MiB of a tenant.
const maxWaiting = 1 << 16

func (w *waiting) find(id proto.Hash) (Verdict, bool) {
	i, ok := w.index.Find(id)
	if !ok {
		return Verdict{}, false
	}
	return w.verdicts[i], true
}

func (w *waiting) add(id proto.Hash, v Verdict) Verdict {
	if w.index.Len() >= maxWaiting {
		*w = waiting{}
	}
	w.index.Add(id)
	w.verdicts = append(w.verdicts, v)
	return v
}

// Refused returns the verdict on a series that was refused lately.
func (a *Active) Refused(id proto.Hash) (Verdict, bool) { return a.waiting.find(id) }

// forgetWaiting has everybody decided about anew.
func (a *Active) forgetWaiting() {
	if a.waiting.index.Len() > 0 {
		a.waiting = waiting{}
	}
}
