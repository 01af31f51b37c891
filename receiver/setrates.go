package receiver

import (
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/zeebo/xxh3"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// Label sets may have rates of their own, below the tenant's. Which of them a series
// is of belongs to its verdict, so a request only adds up its samples by set.
//
// When a set is used up, its series are not stored, and all others are:
//   - A request with nothing else in it is refused as beyond a rate of the tenant, with
//     a time to come back at; nothing is lost.
//   - Of a request with others, these are stored, and those of the set refused for
//     good. If all of it were to be repeated, who shares a sender with the set would
//     wait for it: that is what its rate is to prevent.
//
// A request passes as soon as a set owes nothing, whatever its size, and the set then
// owes what it has less. So the rate holds on average, and small requests cannot keep
// passing a large one. Nobody is held, and nobody has a place that others respect: who
// comes back may have to wait again.

// sets are bits for the label sets of ratedSets.
type sets uint32

// ratedSets are the label sets of some limits that have a rate. They are immutable.
type ratedSets []ratedSet

type ratedSet struct {
	*tenant.LabelSet
	matchers []*labels.Matcher
}

// setUse are samples by set.
type setUse [tenant.MaxRatedSets]float64

func newRatedSets(lim *tenant.Limits) ratedSets {
	var all ratedSets
	for i := range lim.LabelSets {
		s := &lim.LabelSets[i]
		if matchers, err := s.Matchers(); err == nil && s.IngestionRate > 0 && len(all) < tenant.MaxRatedSets { // the limits were validated
			all = append(all, ratedSet{s, matchers})
		}
	}
	return all
}

// of returns the sets that have a series, by its sorted labels.
func (all ratedSets) of(ls []labels.Label) (in sets) {
	for i := range all {
		if all[i].has(ls) {
			in |= 1 << i
		}
	}
	return in
}

func (s *ratedSet) has(ls []labels.Label) bool {
	for _, m := range s.matchers {
		value := ""
		for _, l := range ls {
			if l.Name == m.Name {
				value = l.Value
				break
			}
		}
		if !m.Matches(value) {
			return false
		}
	}
	return true
}

// setRates are the label sets of a tenant, and what is left of their rates.
type setRates struct {
	rated   ratedSets
	buckets []tenant.Bucket // of each
}

// under returns setRates of other limits. A set of the same name goes on with what it
// has left.
func (sr *setRates) under(lim *tenant.Limits, now time.Time) setRates {
	next := setRates{rated: newRatedSets(lim)}
	for i := range next.rated {
		b := tenant.Bucket{}
		for j := range sr.rated {
			if sr.rated[j].Name == next.rated[i].Name {
				b = sr.buckets[j]
			}
		}
		b.Advance(now)
		b.Set(next.rated[i].Rates(share))
		next.buckets = append(next.buckets, b)
	}
	return next
}

// full reports whether nothing would be lost with sr.
func (sr *setRates) full(now time.Time) bool {
	for i := range sr.buckets {
		if sr.buckets[i].Advance(now); !sr.buckets[i].Full() {
			return false
		}
	}
	return true
}

// use appends how much of each rate is asked for, where that is at least the share from.
func (sr *setRates) use(dst []proto.Quota, from float64, now time.Time) []proto.Quota {
	for i := range sr.rated {
		b := &sr.buckets[i]
		b.Advance(now)
		if rate := b.Rate(tenant.Samples); b.Asked(tenant.Samples) >= from*rate {
			dst = append(dst, proto.Quota{Limit: setLimit + ":" + sr.rated[i].Name, Current: b.Asked(tenant.Samples), Maximum: rate})
		}
	}
	return dst
}

func samplesOf(n float64) *tenant.Cost { return &tenant.Cost{tenant.Samples: n} }

// owing returns the sets of a request that owe something.
func (sr *setRates) owing(use *setUse, now time.Time) (over sets) {
	for i := range sr.buckets {
		if use[i] > 0 {
			sr.buckets[i].Advance(now)
			if sr.wait(i) > 0 {
				over |= 1 << i
			}
		}
	}
	return over
}

// wait is how long set i owes something.
func (sr *setRates) wait(i int) time.Duration {
	wait, _ := sr.buckets[i].Wait(samplesOf(1))
	return wait
}

// take charges the sets for what passes. What is refused of the sets over counts as
// asked for as well: it is not repeated.
func (sr *setRates) take(passes, use *setUse, over sets) {
	for i := range sr.buckets {
		if over&(1<<i) != 0 {
			sr.buckets[i].Ask(samplesOf(use[i]))
			continue
		}
		sr.buckets[i].Ask(samplesOf(passes[i]))
		sr.buckets[i].Take(samplesOf(passes[i]))
	}
}

// giveBack returns what was taken for nothing: the request is repeated.
func (sr *setRates) giveBack(use *setUse) {
	for i := range sr.buckets {
		sr.buckets[i].Ask(samplesOf(-use[i]))
		sr.buckets[i].Return(samplesOf(use[i]))
	}
}

// ratedSets returns the label sets that new series are compared with.
func (r *Receiver) ratedSets(req *request) ratedSets {
	lim := req.policy.limits()
	if !lim.HasSetRates() {
		return nil
	}
	p := r.rates.of(req.who.Tenant)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under(lim, time.Now())
	return p.sets.rated
}

// paceSets keeps series of label sets that are used up from being stored. It is
// called when every series has its verdict; those to refuse are in req.over then. The
// error says that there is nothing else in the request.
func (r *Receiver) paceSets(req *request) error {
	if req.hr == nil || !req.policy.limits().HasSetRates() {
		return nil
	}
	use, _ := req.setUse(0)
	if use == (setUse{}) {
		return nil
	}
	p := r.rates.of(req.who.Tenant)
	return p.passSets(req, &use, r.rates)
}

// setUse adds up the samples of each set in the series that are of none of over, and
// reports whether there are such series.
func (req *request) setUse(over sets) (use setUse, any bool) {
	for i := range req.series {
		s := &req.series[i]
		c := s.Counts()
		if s.reason != proto.OK || c.Samples+c.Histograms == 0 || s.sets&over != 0 {
			continue
		}
		any = true
		for in, set := s.sets, 0; in != 0; in, set = in>>1, set+1 {
			if in&1 != 0 {
				use[set] += float64(c.Samples + c.Histograms)
			}
		}
	}
	return use, any
}

// passSets charges the sets of a request, without those that are used up.
func (p *pacer) passSets(req *request, use *setUse, rs *rates) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.under(req.policy.limits(), now)
	req.rated = p.sets.rated
	req.over = p.sets.owing(use, now)
	passes := *use
	if req.over != 0 {
		rest, others := req.setUse(req.over)
		if !others {
			return p.refusalOfSets(req, rs)
		}
		passes = rest
	}
	p.sets.take(&passes, use, req.over)
	req.paidSets = passes
	req.nearRates = p.sets.use(req.nearRates, proto.NearLimit, now)
	return nil
}

// refusalOfSets says which of the sets that are used up takes longest. If the request
// had a place in the line, it came back to it. The caller holds p.mu.
func (p *pacer) refusalOfSets(req *request, rs *rates) error {
	longest, which := time.Duration(0), 0
	for i := range p.sets.rated {
		if wait := p.sets.wait(i); req.over&(1<<i) != 0 && wait > longest {
			longest, which = wait, i
		}
	}
	rs.metrics.refused.WithLabelValues(setLimit).Add(float64(req.sent.Samples + req.sent.Histograms + req.sent.Exemplars))
	request, sender := xxh3.HashSeed(req.decoded, rs.seed), rs.sender(req)
	p.line.withdraw(request, sender)
	kind := proto.KindUnavailable
	if answers429(req.policy.limits().OnLimit, req.otlp, req.hr.UserAgent(), p.line.drops(sender)) {
		kind = proto.KindLimit
	}
	set, b := p.sets.rated[which], &p.sets.buckets[which]
	rate := b.Rate(tenant.Samples)
	retryAfter := min(seconds(longest)+int(request%4), maxRetryAfter) // not all at once
	e := proto.Errorf(kind, proto.LabelSetRate.ID(),
		"this is a quota, not a fault of the server: the label set %.64q has used up its limit ingestion_rate, %.0f samples a second; "+
			"nothing of the request was stored, repeat it in %d s, or have the limit raised", set.Name, rate, retryAfter)
	e.Quota = &proto.Quota{Limit: setLimit, Current: b.Asked(tenant.Samples), Maximum: rate}
	e.RetryAfter = time.Duration(retryAfter) * time.Second
	return e
}

// setLimit is the limit that metrics and answers name.
const setLimit = "label_sets.ingestion_rate"

// beyondSetRate refuses series i, if it is of a label set that is used up. What has no
// samples takes nothing of the rate.
func (req *request) beyondSetRate(i uint32) bool {
	s := &req.series[i]
	over := s.sets & req.over
	c := s.Counts()
	if over == 0 || c.Samples+c.Histograms == 0 {
		return false
	}
	req.rejected.Add(proto.LabelSetRate, c, i, 0, func() string {
		for n := range req.rated {
			if set := &req.rated[n]; over&(1<<n) != 0 {
				return fmt.Sprintf("more is sent into the label set %.64q than its limit ingestion_rate, %d samples a second; "+
					"the series of the request that are not of it were stored", set.Name, set.IngestionRate)
			}
		}
		return ""
	})
	return true
}
