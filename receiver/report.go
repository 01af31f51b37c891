package receiver

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/relabel"
)

// report counts what the rules of one policy do to new series.
type report struct {
	policy policy
	since  time.Time

	mu     sync.Mutex
	tally  [2]relabel.Tally    // of the rules of the credential and of the tenant; guarded by mu
	shadow *relabel.Comparison // with what shadow rules would do; nil without any; guarded by mu
	tried  int                 // series that shadow rules count for; guarded by mu
}

// newReport returns nil when the policy has no rules.
func newReport(p policy) *report {
	if p.rules == nil && p.set.Rules == nil {
		return nil
	}
	r := &report{policy: p, since: time.Now(), tally: [2]relabel.Tally{p.rules.NewTally(), p.set.Rules.NewTally()}}
	if shadow := p.shadow(); shadow != p.base() {
		r.shadow = shadow[1].NewComparison()
	}
	return r
}

// add counts what r did to a series, and returns what shadow rules change, or would.
func (rep *report) add(r *ruling) relabel.Change {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	if rep.policy.rules != nil && !r.canary[0] {
		rep.tally[0].Add(&r.now[0])
	}
	if rep.policy.set.Rules != nil && !r.canary[1] && r.now.last() == &r.now[1] {
		rep.tally[1].Add(&r.now[1])
	}
	if rep.shadow == nil {
		return relabel.Same
	}
	before, after := r.now.last(), r.then.last()
	if r.canary != (canary{}) {
		before, after = after, before
		rep.tried++
	}
	if after == &r.then[1] || after == &r.now[1] && r.canary[1] { // not of the credential's rules, nor of those in force
		rep.shadow.Tally.Add(after)
	}
	shadow := rep.policy.shadow()
	return rep.shadow.Add(before, after, func(text string) string {
		return rep.policy.hide(shadow[0].Hide(shadow[1].Hide(text)))
	})
}

// RelabelReport is what rules did to new series of a tenant since they are in force,
// and what shadow rules would have changed, or did change for those of the canary.
// A series counts as new again when its verdict was forgotten.
type RelabelReport struct {
	Credential string              `json:"credential,omitempty"` // whose own rules come before the tenant's
	Since      time.Time           `json:"since"`
	Own        *relabel.Tally      `json:"credential_rules,omitempty"`
	Tenant     *relabel.Tally      `json:"tenant_rules,omitempty"`
	Shadow     *relabel.Comparison `json:"shadow,omitempty"`
	Canary     int                 `json:"canary_series,omitempty"` // of those in shadow, that its rules count for
}

// RelabelReports returns a report for the tenant, and one for each of its
// credentials that something is bound to, of those that sent since. Examples are
// of any series.
func (r *Receiver) RelabelReports(tenantID string, examples bool) []RelabelReport {
	out := []RelabelReport{}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for key, a := range r.tenants {
		if key.tenant != tenantID {
			continue
		}
		a.mu.RLock()
		rep := a.report
		a.mu.RUnlock()
		if rep != nil {
			out = append(out, rep.copy(key.credential, examples))
		}
	}
	slices.SortFunc(out, func(a, b RelabelReport) int { return cmp.Compare(a.Credential, b.Credential) })
	return out
}

// copy returns what is counted so far.
func (rep *report) copy(credential string, examples bool) RelabelReport {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	out := RelabelReport{Credential: credential, Since: rep.since}
	if rep.policy.rules != nil {
		t := rep.tally[0].Clone()
		out.Own = &t
	}
	if rep.policy.set.Rules != nil {
		t := rep.tally[1].Clone()
		out.Tenant = &t
	}
	if rep.shadow != nil {
		out.Shadow, out.Canary = rep.shadow.Clone(examples), rep.tried
	}
	return out
}
