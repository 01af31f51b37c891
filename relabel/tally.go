package relabel

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"github.com/weir-metrics/weir/proto"
)

// Tally counts what one set of rules made of series. It is not for concurrent
// use.
type Tally struct {
	Series     int              `json:"series"` // that the rules were applied to
	Dropped    int              `json:"dropped"`
	Rejected   int              `json:"rejected"`
	Rules      []RuleTally      `json:"rules"` // those that drop series
	Redactions []RedactionTally `json:"redactions"`
}

// RuleTally counts the series that a rule dropped.
type RuleTally struct {
	Index   int    `json:"index"` // in metric_relabel_configs
	Action  string `json:"action"`
	Dropped int    `json:"dropped"`
}

// RedactionTally counts the series in which a redaction found something.
type RedactionTally struct {
	Name   string `json:"name"`
	Action Action `json:"action"`
	Series int    `json:"series"`
}

// NewTally returns a tally of nothing so far.
func (r *Rules) NewTally() Tally {
	t := Tally{Rules: []RuleTally{}, Redactions: []RedactionTally{}}
	if r == nil {
		return t
	}
	for i, st := range r.steps {
		switch st.Action {
		case promrelabel.Drop, promrelabel.Keep, promrelabel.DropEqual, promrelabel.KeepEqual:
			t.Rules = append(t.Rules, RuleTally{Index: i, Action: string(st.Action)})
		}
	}
	for _, d := range r.redact {
		t.Redactions = append(t.Redactions, RedactionTally{Name: d.name, Action: d.action})
	}
	return t
}

// Add counts an outcome of the rules that t is for.
func (t *Tally) Add(o *Outcome) {
	t.Series++
	found := o.Redacted | o.Reported
	switch o.Reason {
	case proto.OK:
	case proto.RelabelDropped:
		t.Dropped++
		if i := slices.IndexFunc(t.Rules, func(r RuleTally) bool { return r.Index == o.By }); i >= 0 {
			t.Rules[i].Dropped++
		}
	case proto.ValueRejected:
		t.Rejected++
		found |= 1 << o.By
	default:
		t.Rejected++
	}
	for i := range t.Redactions {
		if found&(1<<i) != 0 {
			t.Redactions[i].Series++
		}
	}
}

// Clone returns a copy.
func (t *Tally) Clone() Tally {
	c := *t
	c.Rules, c.Redactions = slices.Clone(t.Rules), slices.Clone(t.Redactions)
	return c
}

// Change is what other rules would change about a series.
type Change uint8

const (
	// Same is a series of which everything stays.
	Same Change = iota
	// WouldDrop is a series that is stored or refused and would be dropped.
	WouldDrop
	// WouldReject is a series that is stored or dropped and would be refused.
	WouldReject
	// WouldStore is a series that is dropped or refused and would be stored.
	WouldStore
	// WouldRename is a series that would have another metric name.
	WouldRename
	// WouldRedact is a series of whose labels something would be hidden.
	WouldRedact
	// WouldRelabel is a series that would have other labels.
	WouldRelabel

	// Changes is the number of changes.
	Changes
)

// String is how reports and metrics name c.
func (c Change) String() string {
	return [Changes]string{"same", "drop", "reject", "store", "rename", "redact", "relabel"}[c]
}

// Compare says what changes when a series with the outcome now has the outcome
// then.
func Compare(now, then *Outcome) Change {
	refused := func(o *Outcome) bool { return o.Reason != proto.OK && o.Reason != proto.RelabelDropped }
	switch {
	case now.Reason == then.Reason && now.Reason != proto.OK, refused(now) && refused(then):
		return Same
	case then.Reason == proto.RelabelDropped:
		return WouldDrop
	case refused(then):
		return WouldReject
	case now.Reason != proto.OK:
		return WouldStore
	case slices.Equal(now.Labels, then.Labels):
		return Same
	case metricName(now.Labels) != metricName(then.Labels):
		return WouldRename
	case then.Redacted != 0:
		return WouldRedact
	}
	return WouldRelabel
}

func metricName(ls []labels.Label) string {
	for _, l := range ls {
		if l.Name == model.MetricNameLabel {
			return l.Value
		}
	}
	return ""
}

// maxExamples is how many examples a comparison keeps of each change.
const maxExamples = 5

// Comparison counts what other rules would change about series. It is not for
// concurrent use.
type Comparison struct {
	Tally                        // of the other rules
	Changes map[string]*Examples `json:"changes"` // by Change.String
}

// Examples are series that one change would come to, a few of them.
type Examples struct {
	Series   int       `json:"series"`
	Examples []Example `json:"examples,omitempty"`
}

// Example is a series as it is stored, and as it would be.
type Example struct {
	Now  string `json:"now"`
	Then string `json:"then"`
}

// NewComparison returns a comparison with r of nothing so far.
func (r *Rules) NewComparison() *Comparison {
	return &Comparison{Tally: r.NewTally(), Changes: map[string]*Examples{}}
}

// Add counts a series that now has the outcome now, and by the other rules would
// have the outcome then, which the caller adds to Tally if it is of these rules. hide
// is what examples go through: they are for people.
func (c *Comparison) Add(now, then *Outcome, hide func(string) string) Change {
	change := Compare(now, then)
	if change == Same {
		return change
	}
	of := c.Changes[change.String()]
	if of == nil {
		of = &Examples{}
		c.Changes[change.String()] = of
	}
	of.Series++
	if len(of.Examples) < maxExamples {
		of.Examples = append(of.Examples, Example{Now: now.show(hide), Then: then.show(hide)})
	}
	return change
}

// Clone returns a copy, with its examples or without.
func (c *Comparison) Clone(examples bool) *Comparison {
	out := &Comparison{Tally: c.Tally.Clone(), Changes: make(map[string]*Examples, len(c.Changes))}
	for change, of := range c.Changes {
		out.Changes[change] = &Examples{Series: of.Series}
		if examples {
			out.Changes[change].Examples = slices.Clone(of.Examples)
		}
	}
	return out
}

// show is an outcome for people.
func (o *Outcome) show(hide func(string) string) string {
	const most = 1000 // bytes, about
	switch o.Reason {
	case proto.OK:
	case proto.RelabelDropped:
		return expectDropped
	default:
		return expectRejected
	}
	b := labels.NewScratchBuilder(len(o.Labels))
	size := 0
	for _, l := range o.Labels {
		if size += len(l.Name) + len(l.Value); size > most {
			break
		}
		b.Add(strings.Clone(l.Name), strings.Clone(hide(l.Value)))
	}
	return b.Labels().String()
}
