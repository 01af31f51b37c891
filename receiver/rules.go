package receiver

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
)

// Rules in admission: what the credential binds, then the credential's rules, then
// the tenant's. All of it is done once for each new series. Exemplars and metadata
// are redacted whenever they come.

// pair are the rules of the credential and of the tenant, in the order in which they
// are applied; each may be nil.
type pair [2]*relabel.Rules

// base are the rules of most series.
func (p policy) base() pair { return pair{p.rules, p.set.Rules} }

// shadow are the rules with those that would be in force instead.
func (p policy) shadow() pair {
	rules := p.base()
	for i, r := range rules {
		if s := r.Shadow(); s != nil {
			rules[i] = s
		}
	}
	return rules
}

// canary says for which rules of a pair those under shadow count.
type canary [2]bool

// hasCanary reports whether there are series that other rules count for.
func (p policy) hasCanary() bool { return p.rules.HasCanary() || p.set.Rules.HasCanary() }

// canaryOf tells which rules count for series with these labels, which no rule has
// changed yet.
func (p policy) canaryOf(ls []labels.Label, buf *[]byte) (c canary) {
	if !p.hasCanary() {
		return c
	}
	at := 0.0
	at, *buf = relabel.CanaryOf(ls, *buf)
	for i, r := range p.base() {
		c[i] = r.InCanary(at)
	}
	return c
}

// under are the rules of the series of a canary.
func (p policy) under(c canary) pair {
	rules := p.base()
	for i, tried := range c {
		if tried {
			rules[i] = rules[i].Shadow()
		}
	}
	return rules
}

// rewrites reports whether the policy may change labels.
func (p policy) rewrites() bool { return p.bound != nil || p.rules != nil || p.set.Rules != nil }

// redacts reports whether there is something that must not be stored.
func (p policy) redacts() bool {
	for _, r := range p.base() {
		if r.Redacts() || r.HasCanary() && r.Shadow().Redacts() {
			return true
		}
	}
	return false
}

// hide returns text as it may be shown, whatever series it is of.
func (p policy) hide(text string) string {
	for _, r := range p.base() {
		if text = r.Hide(text); r.HasCanary() {
			text = r.Shadow().Hide(text)
		}
	}
	return text
}

// hideTail is how much of a text that was cut is not shown, because it may be half
// of something. What is longer than that is known by its beginning.
const hideTail = 512

// hideStart returns the first n bytes of text, about, as they may be shown.
func (p policy) hideStart(text string, n int) string {
	hidden := p.hide(cut(text, n+hideTail))
	if len(text) > n+hideTail {
		hidden = cut(hidden, max(0, len(hidden)-hideTail))
	}
	return cut(hidden, n)
}

// hideLabels returns labels as they may be shown.
func (p policy) hideLabels(ls labels.Labels) labels.Labels {
	if !p.redacts() || ls.IsEmpty() {
		return ls
	}
	b := labels.NewScratchBuilder(ls.Len())
	ls.Range(func(l labels.Label) { b.Add(p.hide(l.Name), p.hide(l.Value)) })
	return b.Labels()
}

// outcomes are those of the rules of the credential and of the tenant. If the
// former keep the series from the latter, theirs is the zero Outcome.
type outcomes [2]relabel.Outcome

// last is what became of the series.
func (o *outcomes) last() *relabel.Outcome {
	if o[0].Reason != proto.OK {
		return &o[0]
	}
	return &o[1]
}

// ruling is the working memory of rules: for those that count for a series and for
// those that do not, each for those of the credential and of the tenant, whose
// labels may be views of it.
type ruling struct {
	unsorted       bool   // the labels were not in order
	compare        bool   // with the rules that do not count
	applied        bool   // rules were
	canary         canary // that the series is of
	seen           int    // bytes of labels that rules looked at
	now, then      outcomes
	scratch, other [2]relabel.Scratch
	buf            []byte
}

// begin forgets the series before.
func (r *ruling) begin(compare bool) {
	r.unsorted, r.applied, r.compare, r.canary = false, false, compare, canary{}
}

// hashWith sets the key of the hashes that redaction makes.
func (r *ruling) hashWith(key []byte) {
	for i := range r.scratch {
		r.scratch[i].Key, r.other[i].Key = key, key
	}
}

// apply applies rules one after the other.
func (o *outcomes) apply(rules pair, ls []labels.Label, maxValueBytes int, s *[2]relabel.Scratch) {
	*o = outcomes{}
	o[0] = rules[0].Apply(ls, maxValueBytes, &s[0])
	if o[0].Reason == proto.OK {
		o[1] = rules[1].Apply(o[0].Labels, maxValueBytes, &s[1])
	}
}

// rewrite changes the sorted labels ls as the policy wants. What rules did is in
// r then, and if r.compare is set what the others would have done: the shadow rules,
// or for a series of the canary those that count for the rest.
func (p policy) rewrite(ls []labels.Label, r *ruling) ([]labels.Label, refusal) {
	ls, conflict := p.bound.Apply(ls)
	if conflict != nil {
		return nil, refusal{reason: proto.BoundLabelConflict, label: *conflict}
	}
	for _, l := range ls {
		r.seen += len(l.Name) + len(l.Value)
	}
	longest := p.limits().MaxLabelValueBytes
	r.applied = true
	r.canary = p.canaryOf(ls, &r.buf)
	rules := p.under(r.canary)
	r.now.apply(rules, ls, longest, &r.scratch)
	if r.compare {
		others := p.shadow()
		if r.canary != (canary{}) {
			others = p.base()
		}
		r.then.apply(others, ls, longest, &r.other)
	}
	out, of := r.now.last(), 1
	if out == &r.now[0] {
		of = 0
	}
	no := refusal{reason: out.Reason, label: out.Label}
	switch out.Reason {
	case proto.OK:
		return out.Labels, no
	case proto.RelabelDropped:
		no.rule, no.credential, no.shadow = out.By, of == 0, r.canary[of]
	case proto.ValueRejected:
		no.found = rules[of].Names(1 << out.By)[0]
	case proto.LabelsTooMany, proto.LabelValueTooLong:
		no.byRules = true
	}
	return nil, no
}

// redactions counts what redaction changed.
type redactions struct{ series, exemplars, metadata int }

// note counts what rules did to a new series.
func (req *request) note(rep *report) {
	r := &req.ruling
	if r.unsorted {
		req.unsorted++
	}
	if rep == nil || !r.applied {
		return
	}
	if change := rep.add(r); rep.shadow != nil {
		req.changes[change]++
	}
	if r.now[0].Redacted|r.now[1].Redacted != 0 {
		req.redacted.series++
	}
}

// redactExemplars redacts the exemplars at the end of the frame, from ne on, of
// series i.
func (req *request) redactExemplars(i uint32, ne int) {
	f, r := &req.frame, &req.ruling
	rules := req.policy.under(req.series[i].canary)
	f.Exemplars = keep(f.Exemplars, ne, func(e *exemplar.Exemplar) bool {
		ls, reason := rules[0].Exemplar(e.Labels, &r.scratch[0])
		if reason == proto.OK {
			ls, reason = rules[1].Exemplar(ls, &r.scratch[1])
		}
		if reason != proto.OK {
			req.rejected.Add(reason, proto.Counts{Exemplars: 1}, i, e.Ts, func() string {
				return "a label of the exemplar has what must not be sent"
			})
			return false
		}
		if !labels.Equal(ls, e.Labels) {
			req.redacted.exemplars++
			e.Labels = ls
		}
		return true
	})
}

// redactMetadata returns m as it may be stored, or false when it must not be. Of
// a help text longer than most bytes only the beginning is looked at: in version 2
// few bytes of references stand for many of them. Whether it is of a canary, its
// family alone decides, because many series share it.
func (req *request) redactMetadata(i uint32, m proto.Metadata, most int) (proto.Metadata, bool) {
	p, r := req.policy, &req.ruling
	long := len(m.Help) > most+hideTail
	m.Help = cut(m.Help, most+hideTail)
	r.seen += len(m.Family) + len(m.Help) + len(m.Unit)
	was := m
	rules := p.under(p.canaryOf([]labels.Label{{Name: model.MetricNameLabel, Value: m.Family}}, &r.buf))
	m, reason := rules[0].Metadata(m, &r.scratch[0])
	if reason == proto.OK {
		m, reason = rules[1].Metadata(m, &r.scratch[1])
	}
	if reason != proto.OK {
		req.refuseMetadata(reason, i, "", func() string {
			return "the metadata of a metric family has what must not be sent"
		})
		return m, false
	}
	if m != was {
		req.redacted.metadata++
	}
	if long { // its end may be half of something
		m.Help = cut(m.Help, max(0, len(m.Help)-hideTail))
	}
	return m, true
}

// nameOf returns the name under which series i is stored, a view.
func (req *request) nameOf(i uint32) string {
	ls, _ := req.admit(&req.series[i].Series)
	for _, l := range ls {
		if l.Name == model.MetricNameLabel {
			return l.Value
		}
	}
	return ""
}

const (
	// maxSearched is how many labels of a series are looked at for people.
	maxSearched = 10_000
	// maxShown and maxShownBytes is what they are shown of it at most.
	maxShown      = 64
	maxShownBytes = 16 << 10 // of one value, before it is redacted
)

// shown returns the first labels of series i as far as they may be shown: to the
// sender, in the log. They are views, valid until the next call.
func (req *request) shown(i uint32) []labels.Label {
	ls := req.came(i)
	if req.policy.redacts() {
		for i, l := range ls {
			ls[i] = labels.Label{Name: req.policy.hideStart(l.Name, maxShownBytes), Value: req.policy.hideStart(l.Value, maxShownBytes)}
		}
	}
	return ls
}

// came returns the first labels of series i, its name before the others, as they
// came. There are none if they make no sense or are too many.
func (req *request) came(i uint32) []labels.Label {
	s := &req.series[i].Series
	if req.scan.LabelCount(s) > maxSearched {
		return nil
	}
	ls, _ := req.scan.AppendLabels(req.labels[:0], s)
	req.labels = ls
	if i := slices.IndexFunc(ls, func(l labels.Label) bool { return l.Name == model.MetricNameLabel }); i > 0 {
		ls[0], ls[i] = ls[i], ls[0]
	}
	return ls[:min(len(ls), maxShown)]
}

// quoting is what a library says that quotes parts of the body.
func (req *request) quoting(err error) string {
	if req.policy.redacts() {
		return "what is wrong is not shown, because it quotes the body, and the tenant redacts"
	}
	return cut(err.Error(), 300)
}
