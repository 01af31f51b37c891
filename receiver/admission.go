package receiver

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// A policy is all that an admission depends on but the labels: one version of the
// tenant's settings, and what is bound to the credential. Equal policies are the
// same version.
type policy struct {
	set   *tenant.Settings
	bound *tenant.BoundLabels
	rules *relabel.Rules // of the credential
}

func (p policy) limits() *tenant.Limits { return &p.set.Limits }

// A verdict is what becomes of a series: the outcome of admit for its label
// bytes under one policy. A refusal is a verdict like any other.
type verdict struct {
	decision
	handle   atomic.Uint32 // the ingester's handle of id, sent as a hint
	metadata atomic.Uint32 // hash of the metadata the ingester has, 0: none
}

// A decision is the part of a verdict that never changes.
type decision struct {
	id     proto.Hash   // identity of the canonical labels; only if admitted
	sets   sets         // that have a rate, and the series; only if admitted
	reason proto.Reason // proto.OK: admitted
	canary canary       // which rules count for the series
}

func (v *verdict) set(d decision, handle, metadata uint32) *verdict {
	v.decision = d
	v.handle.Store(handle)
	v.metadata.Store(metadata)
	return v
}

// A refusal is why a series is not admitted; the zero value says that it is.
type refusal struct {
	reason  proto.Reason
	label   labels.Label // the one at fault, a view; if the reason is one label's
	labels  int          // number of labels; if there are too many
	found   string       // what the label's value has in it; if that is the reason
	byRules bool         // it was too long for the rules

	rule       int  // index of the one that drops it
	credential bool // that rule is the credential's, not the tenant's
	shadow     bool // it is of the rules under shadow, which count for a canary
}

// admit decides about a series from its labels and the policy alone: they must be
// spelled right, then the policy may change them (rules.go), then they must be
// within the limits. It sorts ls, and drops labels without a value, which are no
// labels anywhere in Prometheus; what is left are the canonical labels, views of
// what ls are views of, and of r.
func admit(p policy, ls []labels.Label, r *ruling) (canonical []labels.Label, no refusal) {
	ls = slices.DeleteFunc(ls, func(l labels.Label) bool { return l.Value == "" && l.Name != "" })
	if len(ls) > p.limits().MaxLabelsPerSeries && !p.rewrites() {
		return nil, refusal{reason: proto.LabelsTooMany, labels: len(ls)}
	}
	byName := func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) }
	if r.unsorted = !slices.IsSortedFunc(ls, byName); r.unsorted {
		slices.SortFunc(ls, byName)
	}
	if p.rewrites() {
		if no := spelledRight(ls); no.reason != proto.OK {
			return nil, no
		}
		if ls, no = p.rewrite(ls, r); no.reason != proto.OK {
			return nil, no
		}
	}
	return ls, within(p.limits(), ls)
}

// within checks sorted labels, all of which have a value.
func within(lim *tenant.Limits, ls []labels.Label) refusal {
	if len(ls) > lim.MaxLabelsPerSeries {
		return refusal{reason: proto.LabelsTooMany, labels: len(ls)}
	}
	named := false
	for i, l := range ls {
		reason := checkLabel(lim, l)
		if i > 0 && ls[i-1].Name == l.Name {
			reason = proto.LabelNameDuplicate
		}
		if reason != proto.OK {
			return refusal{reason: reason, label: l}
		}
		named = named || l.Name == model.MetricNameLabel
	}
	if !named {
		return refusal{reason: proto.MetricNameMissing}
	}
	return refusal{}
}

// spelledRight checks what rules must be able to count on.
func spelledRight(ls []labels.Label) refusal {
	for i, l := range ls {
		switch {
		case !model.UTF8Validation.IsValidLabelName(l.Name):
			return refusal{reason: proto.LabelNameInvalid, label: l}
		case !utf8.ValidString(l.Value):
			return refusal{reason: proto.LabelValueInvalid, label: l}
		case i > 0 && ls[i-1].Name == l.Name:
			return refusal{reason: proto.LabelNameDuplicate, label: l}
		}
	}
	return refusal{}
}

// checkLabel looks at lengths first: the other checks read every byte.
func checkLabel(lim *tenant.Limits, l labels.Label) proto.Reason {
	scheme := model.UTF8Validation
	if lim.LegacyNamesOnly {
		scheme = model.LegacyValidation
	}
	switch {
	case len(l.Name) > lim.MaxLabelNameBytes:
		return proto.LabelNameTooLong
	case len(l.Value) > lim.MaxLabelValueBytes:
		return proto.LabelValueTooLong
	case !scheme.IsValidLabelName(l.Name):
		return proto.LabelNameInvalid
	case !utf8.ValidString(l.Value):
		return proto.LabelValueInvalid
	case l.Name == model.MetricNameLabel && !scheme.IsValidMetricName(l.Value):
		return proto.MetricNameInvalid
	}
	return proto.OK
}

// detail says which label it was and what the limit is. It shows nothing that
// must be redacted.
func (no refusal) detail(p policy) string {
	lim := p.limits()
	name, size := quote(p.hide(no.label.Name)), len(no.label.Name)
	if no.byRules {
		return fmt.Sprintf("with the label %s the series is longer than the %d bytes, or has more labels than rules may look at", name, relabel.MaxSeriesBytes)
	}
	switch no.reason {
	case proto.SymbolInvalid:
		return "labels_refs has an odd number of references, or one beyond the symbol table"
	case proto.LabelsMalformed:
		return "a label is not a valid protocol buffer message"
	case proto.LabelsTooMany:
		return fmt.Sprintf("%d labels, the limit max_labels_per_series is %d", no.labels, lim.MaxLabelsPerSeries)
	case proto.MetricNameMissing:
		return "the label __name__ is missing or empty"
	case proto.LabelNameDuplicate:
		return fmt.Sprintf("the label %s occurs twice", name)
	case proto.LabelNameTooLong:
		return fmt.Sprintf("the label name %s has %d bytes, the limit max_label_name_bytes is %d", name, size, lim.MaxLabelNameBytes)
	case proto.LabelValueTooLong:
		return fmt.Sprintf("the value of label %s has %d bytes, the limit max_label_value_bytes is %d", name, len(no.label.Value), lim.MaxLabelValueBytes)
	case proto.ValueRejected:
		return fmt.Sprintf("the value of label %s has what must not be sent: %s", name, no.found)
	case proto.RelabelDropped:
		whose := "tenant"
		if no.credential {
			whose = "credential"
		}
		if no.shadow {
			return fmt.Sprintf("rule %d of the %s's shadow.metric_relabel_configs drops the series, which is of the canary", no.rule+1, whose)
		}
		return fmt.Sprintf("rule %d of the %s's metric_relabel_configs drops the series", no.rule+1, whose)
	case proto.BoundLabelConflict:
		return fmt.Sprintf("the label %s has another value than the credential binds it to", name)
	case proto.LabelNameInvalid:
		return fmt.Sprintf("the label name %s is empty or not valid here", name)
	case proto.LabelValueInvalid:
		return fmt.Sprintf("the value of label %s is not UTF-8", name)
	}
	return fmt.Sprintf("the metric name %s is not valid here", quote(p.hide(no.label.Value)))
}

// quote shows at most the first 64 bytes of a string that may be anything.
func quote(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%.64q…", s)
	}
	return fmt.Sprintf("%q", s)
}

// admissionsKey tells admissions apart: those of a tenant, and of each of its
// credentials that something is bound to.
type admissionsKey struct{ tenant, credential string }

func keyOf(who *tenant.Identity) admissionsKey {
	if who.Bound == nil && who.Rules == nil {
		return admissionsKey{tenant: who.Tenant}
	}
	return admissionsKey{who.Tenant, who.Credential}
}

// admissions are the verdicts of one tenant, in two generations: when the
// current one is full it becomes the old one, and what is still asked for moves
// back. So the table is bounded, and forgets series that are gone. Verdicts
// passed under another policy are dropped as a whole.
type admissions struct {
	seed       uint64 // of the tenant's hashes
	key        []byte // of the hashes that redaction makes
	maxEntries int    // of one generation

	mu       sync.RWMutex
	policy   policy      // guarded by mu; the one the verdicts were passed under
	cur, old *generation // guarded by mu
	report   *report     // guarded by mu; of the rules of policy, nil when it has none
}

func newAdmissions(seed uint64, key []byte, maxEntries int) *admissions {
	return &admissions{seed: seed, key: key, maxEntries: maxEntries, cur: new(generation), old: new(generation)}
}

// under makes p the policy in force. Verdicts of other policies are forgotten.
func (a *admissions) under(p policy) {
	a.mu.RLock()
	same := a.policy == p
	a.mu.RUnlock()
	if same {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.policy != p {
		a.policy, a.cur, a.old, a.report = p, new(generation), new(generation), newReport(p)
	}
}

// reportOf returns the report on the rules of p; nil if it has none, or is not in
// force any more.
func (a *admissions) reportOf(p policy) *report {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.policy != p {
		return nil
	}
	return a.report
}

// find returns the verdict for key, or nil. next is where the verdict of the
// request's previous series lay, plus one: senders repeat their order, so the
// answer is mostly there, without a probe. The caller holds mu for reading.
// A verdict from the old generation must be moved with insert.
func (a *admissions) find(key proto.Hash, next *uint32) (v *verdict, old bool) {
	if a.cur.index.Is(*next, key) {
		*next++
		return a.cur.at(*next - 1), false
	}
	if i, ok := a.cur.index.Find(key); ok {
		*next = i + 1
		return a.cur.at(i), false
	}
	if i, ok := a.old.index.Find(key); ok {
		return a.old.at(i), true
	}
	return nil, false
}

// insert keeps a verdict passed under p, and returns the place to use, which
// may be the one that another request inserted. The caller holds mu for writing.
func (a *admissions) insert(p policy, key proto.Hash, d decision, handle, metadata uint32) *verdict {
	if a.policy != p {
		// The settings changed while this request was being decided: its verdicts
		// hold for itself, but not for the next one.
		return new(verdict).set(d, handle, metadata)
	}
	if i, ok := a.cur.index.Find(key); ok {
		return a.cur.at(i)
	}
	if a.cur.index.Len() >= a.maxEntries {
		a.old, a.cur = a.cur, new(generation)
	}
	return a.cur.add(key).set(d, handle, metadata)
}

// entries is the number of verdicts remembered.
func (a *admissions) entries() int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.cur.index.Len() + a.old.index.Len()
}

// A generation holds verdicts by key. They lie in pages that never move, in the
// order of their arrival.
type generation struct {
	index proto.Index
	pages []*[verdictPage]verdict
}

const verdictPage = 64

func (g *generation) at(i uint32) *verdict { return &g.pages[i/verdictPage][i%verdictPage] }

func (g *generation) add(key proto.Hash) *verdict {
	i := g.index.Add(key)
	if int(i) == len(g.pages)*verdictPage {
		g.pages = append(g.pages, new([verdictPage]verdict))
	}
	return g.at(i)
}
