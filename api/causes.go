package api

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// Causes that are no refusals.
const (
	causeEnded   = "series-ended"
	causeSilent  = "series-silent"
	causeMissing = "sender-missing"
	causeAhead   = "sender-clock-ahead"
	causeLagging = "sender-lagging"
	causeNewest  = "tenant-clock-ahead"
	causeUnmet   = "matcher-selects-nothing"
	causeNever   = "never-received"
)

// ofState is a state of the tenant in which it may not write, whether it tried to or
// not.
func ofState(f *facts) []Cause {
	refusal := f.settings.State.Refuse(tenant.ScopeWrite)
	if refusal == nil {
		return nil
	}
	c := f.causeOf(refusal.ID, ofSeries)
	c.What, c.Fix = refusal.Msg, "ask the operator to make the tenant active"
	return []Cause{c}
}

// ofAdmission is why a series of the labels that the selector spells out is not
// admitted, whether it came or not.
func ofAdmission(f *facts) []Cause {
	if f.reason == proto.OK {
		return nil
	}
	c := f.causeOf(f.reason.ID(), ofSeries)
	c.What = "a series with the labels of the selector is not admitted: " + f.detail
	return []Cause{c}
}

// maxCauses bounds the refusals that are told of, and recently is how new those
// are that may have nothing to do with the selector.
const (
	maxCauses = 10
	recently  = time.Hour
)

// ofRefusals are the refusals that may be about the selector, the surest first and
// of these the newest.
func ofRefusals(f *facts) []Cause {
	type about struct {
		concern
		*ledger.Refusal
	}
	var list []about
	for i := range f.refusals {
		r := &f.refusals[i]
		if c := concerns(r, f.matchers); f.matters(r, c) {
			list = append(list, about{c, r})
		}
	}
	slices.SortStableFunc(list, func(a, b about) int { return cmp.Compare(b.concern, a.concern) })
	var out []Cause
	for _, r := range list[:min(len(list), maxCauses)] {
		c := f.causeOf(r.Reason, r.concern)
		c.Refusal = r.Refusal
		c.What = r.Example.Detail
		out = append(out, c)
	}
	return out
}

// matters reports whether a refusal can explain what the store has: not if more
// was stored long after it.
func (f *facts) matters(r *ledger.Refusal, of concern) bool {
	isNew := f.now.Sub(r.Last) <= recently
	switch {
	case of >= ofMetric:
		return isNew || !f.recent() && (f.stored.series == 0 || r.Last.Sub(time.UnixMilli(f.stored.t)) >= -recently)
	case of == ofTenant:
		return isNew && !f.recent()
	}
	return false
}

// causeOf is a refusal by its id, with the limit behind it and what to do.
func (f *facts) causeOf(id string, of concern) Cause {
	c := Cause{ID: id, Of: concernNames[of], Fix: remedyOf(id), Docs: docsOf(id)}
	if reason, ok := reasonOf(id); ok {
		c.Limit, c.Value = f.settings.Limits.Behind(reason)
	} else {
		c.Limit, c.Value = f.settings.Limits.BehindRequest(id)
	}
	return c
}

func reasonOf(id string) (proto.Reason, bool) {
	for r := proto.OK + 1; r < proto.Reasons; r++ {
		if r.ID() == id {
			return r, true
		}
	}
	return proto.OK, false
}

// ofEnd is how the series went.
func ofEnd(f *facts) []Cause {
	at := time.UnixMilli(f.stored.t).UTC().Format(time.RFC3339)
	switch {
	case f.stored.series == 0 || f.recent():
		return nil
	case f.stored.ended:
		return []Cause{{
			ID: causeEnded, Of: concernNames[ofSeries],
			What: fmt.Sprintf("the sender ended the series %s at %s with a staleness marker: the target is gone or could not be scraped, or a rule gives no result any more", f.stored.newest, at),
			Fix:  "look at the target in the sender: its up metric, its service discovery, its relabelling",
		}}
	}
	return []Cause{{
		ID: causeSilent, Of: concernNames[ofSeries],
		What: fmt.Sprintf("the last sample of %s is of %s; none came since", f.stored.newest, at),
		Fix:  "look whether the sender still has the series, and whether its queue is behind",
	}}
}

// ofSenders names those who went away, and says when nobody sends.
func ofSenders(f *facts) []Cause {
	if f.recent() {
		return nil
	}
	if len(f.senders) == 0 {
		return []Cause{{
			ID: causeMissing, Of: concernNames[ofTenant], What: "nobody has sent anything for this tenant in the last 24 hours, or since the start of the server",
			Fix: "compare the URL, the credential and the tenant of the sender's remote_write",
		}}
	}
	var out []Cause
	for i := range f.senders {
		s := &f.senders[i]
		silent := f.now.Sub(s.Last)
		if silent <= missingAfter || len(out) == maxCauses {
			continue
		}
		out = append(out, Cause{
			ID: causeMissing, Of: concernNames[ofTenant],
			What: fmt.Sprintf("%s was last heard of %s ago", nameOf(&s.Sender), silent.Round(time.Second)),
			Fix:  "look whether the sender runs, and at the errors of its remote_write",
		})
	}
	return out
}

func nameOf(s *ledger.Sender) string {
	name := cmp.Or(s.UserAgent, "a sender without a name") + " at " + s.Address
	if s.Credential != "" {
		name += " (credential " + s.Credential + ")"
	}
	return name
}

// ofClocks names senders whose time is not ours.
func ofClocks(f *facts) []Cause {
	const worth = time.Minute // what retries and scrapes may take is no news
	var out []Cause
	for i := range f.senders {
		s := &f.senders[i]
		lag := s.Lag()
		switch {
		case lag < -worth:
			out = append(out, Cause{
				ID: causeAhead, Of: concernNames[ofTenant], What: fmt.Sprintf("the newest sample of %s was %s ahead of this server's clock", nameOf(&s.Sender), -lag),
				Fix: "set the sender's clock", Limit: "limits.future_grace", Value: f.settings.Limits.FutureGrace.String(),
			})
		case lag > max(f.lookback, worth) && !f.recent():
			out = append(out, Cause{
				ID: causeLagging, Of: concernNames[ofTenant],
				What: fmt.Sprintf("the newest sample of %s was %s old when it came: newer ones are in its queue still", nameOf(&s.Sender), lag),
				Fix:  "give the sender more shards (max_shards), or wait until it has caught up", Limit: "limits.out_of_order_window", Value: f.settings.Limits.OutOfOrderWindow.String(),
			})
		}
	}
	if ahead := time.Duration(f.newest-f.now.UnixMilli()) * time.Millisecond; f.newest > 0 && ahead > worth {
		out = append(out, Cause{
			ID: causeNewest, Of: concernNames[ofTenant],
			What: fmt.Sprintf("the newest sample of the tenant is %s ahead of this server's clock: samples of correct clocks count as late against it", ahead.Round(time.Second)),
			Fix:  "set the clock of the sender that is ahead; lower limits.future_grace", Limit: "limits.out_of_order_window", Value: f.settings.Limits.OutOfOrderWindow.String(),
		})
	}
	return out[:min(len(out), maxCauses)]
}

// ofNothing is for what neither came nor was refused.
func ofNothing(f *facts) []Cause {
	if f.stored.series > 0 {
		return nil
	}
	var out []Cause
	for _, m := range f.unmet {
		out = append(out, Cause{
			ID: causeUnmet, Of: concernNames[ofMetric], What: fmt.Sprintf("the metric is stored, but none of its series has %s", m),
			Fix: "compare the labels of the metric's series with the selector, and with the external labels and write_relabel_configs of the sender",
		})
	}
	known := slices.ContainsFunc(f.refusals, func(r ledger.Refusal) bool { return concerns(&r, f.matchers) >= ofMetric })
	if len(out) == 0 && !known {
		out = append(out, Cause{
			ID: causeNever, Of: concernNames[ofSeries], What: "no such series is stored, and no refusal of one is remembered: it did not come here, or long ago",
			Fix: "look whether the sender has the series, whether write_relabel_configs drop it, and whether it sends to this tenant",
		})
	}
	return out
}
