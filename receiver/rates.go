package receiver

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/zeebo/xxh3"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// maxHeld and maxHeldBytes bound what waits of one tenant for its tokens. It
// counts as in flight meanwhile, by the tenant's share of overload.Budget.
const (
	maxHeld      = 100
	maxHeldBytes = 32 << 20
)

// share is how much of a tenant's rates this receiver grants: it is the only one.
const share = 1

// rates are the lines of all tenants that have rates.
type rates struct {
	seed    uint64 // of the hashes that requests and senders are known by
	metrics rateMetrics

	mu      sync.RWMutex
	tenants map[string]*pacer // guarded by mu
	kept    int               // lines when idle ones were last dropped; guarded by mu
}

// pacer is the line of a tenant, and what is held of it.
type pacer struct {
	mu        sync.Mutex
	line      *line          // guarded by mu
	sets      setRates       // guarded by mu
	limits    *tenant.Limits // guarded by mu; that line and sets were set to
	held      int            // guarded by mu
	heldBytes int            // guarded by mu
}

type rateMetrics struct {
	refused *prometheus.CounterVec
	places  *prometheus.CounterVec
	held    prometheus.Counter
	waiting prometheus.Gauge
}

func newRates(seed uint64, reg prometheus.Registerer) *rates {
	f := promauto.With(reg)
	rs := &rates{seed: seed, tenants: make(map[string]*pacer), metrics: rateMetrics{
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_rate_refused_samples_total",
			Help: "Floats, histograms and exemplars in requests refused because of a rate limit, each time anew, by limit.",
		}, []string{"limit"}),
		places: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_receiver_rate_places_total",
			Help: "Requests refused because of a rate limit that came back in time and were let through (kept), or did not (lapsed).",
		}, []string{"outcome"}),
		held: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_receiver_rate_held_requests_total",
			Help: "Requests that were held for up to a second, until their tenant's rate allowed them.",
		}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_receiver_rate_waiting_requests",
			Help: "Requests that are held at the moment.",
		}),
	}}
	if reg != nil {
		reg.MustRegister(rs)
	}
	return rs
}

// of returns the pacer of a tenant.
func (rs *rates) of(tenantID string) *pacer {
	rs.mu.RLock()
	p := rs.tenants[tenantID]
	rs.mu.RUnlock()
	if p != nil {
		return p
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if p = rs.tenants[tenantID]; p == nil {
		rs.dropIdle()
		p = &pacer{line: newLine()}
		rs.tenants[tenantID] = p
	}
	return p
}

// dropIdle drops the lines of tenants that do nothing, which whoever sends
// requests can make up, each time they have doubled. The caller holds mu.
func (rs *rates) dropIdle() {
	if len(rs.tenants) < 2*rs.kept+1000 {
		return
	}
	now := time.Now()
	for id, p := range rs.tenants {
		p.mu.Lock()
		if p.held == 0 && p.line.idle(now) && p.sets.full(now) {
			delete(rs.tenants, id)
		}
		p.mu.Unlock()
	}
	rs.kept = len(rs.tenants)
}

// pace lets a request through at the rates of its tenant. Nothing of it was stored
// yet, so that whoever is refused may repeat it. The error is KindLimit or
// KindUnavailable, by the tenant's policy.
func (r *Receiver) pace(ctx context.Context, req *request, cost tenant.Cost) error {
	if req.hr == nil || req.paced || !req.policy.limits().HasRates() {
		return nil
	}
	req.paced = true
	p := r.rates.of(req.who.Tenant)
	if p.pass(req, &cost) {
		return nil
	}
	a := arrival{request: xxh3.HashSeed(req.decoded, r.rates.seed), sender: r.rates.sender(req), cost: cost}
	hold, err := p.arrive(req, &a, &r.rates.metrics)
	if err == nil && hold > 0 {
		err = p.hold(ctx, hold, req, &r.rates.metrics)
	}
	return err
}

// pass lets a request through that has to wait for nobody.
func (p *pacer) pass(req *request, cost *tenant.Cost) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.under(req.policy.limits(), time.Now())
	if !p.line.pass(cost) {
		return false
	}
	req.paid, req.nearRates = *cost, p.line.use(req.nearRates, proto.NearLimit)
	return true
}

// arrive lets a request through, perhaps when it was held for some time, or
// refuses it.
func (p *pacer) arrive(req *request, a *arrival, m *rateMetrics) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.under(req.policy.limits(), now)
	a.by429 = answers429(req.policy.limits().OnLimit, req.otlp, req.hr.UserAgent(), p.line.drops(a.sender))
	a.mayHold = p.mayHold(req)
	v := p.line.arrive(now, a)
	req.nearRates = p.line.use(req.nearRates, proto.NearLimit)
	m.count(p.line, &v, &a.cost)
	if v.retryAfter > 0 {
		return 0, p.refusal(a, &v)
	}
	req.paid = a.cost
	if v.hold > 0 {
		p.held++
		p.heldBytes += req.heldBytes()
	}
	return v.hold, nil
}

// mayHold reports whether one more request may be held. The caller holds mu.
func (p *pacer) mayHold(req *request) bool {
	return p.held < maxHeld && p.heldBytes+req.heldBytes() <= maxHeldBytes
}

// heldBytes is the memory that a request keeps while it is held, about.
func (req *request) heldBytes() int { return len(req.body) + int(workingBytes(len(req.decoded))) }

// under makes lim the limits and now the time of the line.
func (p *pacer) under(lim *tenant.Limits, now time.Time) {
	p.line.Advance(now)
	if p.limits != lim {
		p.limits = lim
		p.line.set(lim.Rates(share))
		p.sets = p.sets.under(lim, now)
	}
}

// hold waits for the tokens of a request that was charged for them.
func (p *pacer) hold(ctx context.Context, wait time.Duration, req *request, m *rateMetrics) (err error) {
	ctx, span := tracing.Start(ctx, "hold")
	defer func() { tracing.End(span, err) }()
	m.waiting.Inc()
	defer m.waiting.Dec()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held--
	p.heldBytes -= req.heldBytes()
	return err
}

// giveBack returns what a request was charged of which nothing was stored: it will
// be repeated, and charged again.
func (r *Receiver) giveBack(req *request) {
	if req.paid == (tenant.Cost{}) && req.paidSets == (setUse{}) || req.postponed != nil {
		return
	}
	p := r.rates.of(req.who.Tenant)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line.Return(&req.paid)
	if p.limits == req.policy.limits() { // else these are other sets
		p.sets.giveBack(&req.paidSets)
	}
}

// cost is what the request takes, refused samples included: they took the same
// work.
func (req *request) cost() tenant.Cost {
	n := 0
	for i := range req.frame.Histograms {
		n += buckets(&req.frame.Histograms[i])
	}
	return costOf(req.sent, n, len(req.decoded))
}

func costOf(c proto.Counts, buckets, bytes int) tenant.Cost {
	return tenant.Cost{
		tenant.Samples: float64(c.Samples + c.Histograms), tenant.Requests: 1, tenant.Bytes: float64(bytes),
		tenant.Buckets: float64(buckets), tenant.Exemplars: float64(c.Exemplars),
	}
}

// sender tells senders apart, as far as they let it: by credential, program and
// address.
func (rs *rates) sender(req *request) uint64 {
	return xxh3.HashStringSeed(req.who.Credential+"\x00"+req.hr.UserAgent()+"\x00"+req.source, rs.seed)
}

func (m *rateMetrics) count(l *line, v *turn, cost *tenant.Cost) {
	if l.missed > 0 {
		m.places.WithLabelValues("lapsed").Add(float64(l.missed))
		l.missed = 0
	}
	switch {
	case v.retryAfter > 0:
		m.refused.WithLabelValues(v.limit.Setting()).Add(cost[tenant.Samples] + cost[tenant.Exemplars])
		return
	case v.kept:
		m.places.WithLabelValues("kept").Inc()
	}
	if v.hold > 0 {
		m.held.Inc()
	}
}

var limitUsedDesc = prometheus.NewDesc("weir_tenant_limit_used_ratio",
	"What the tenant asked for over about ten seconds, by its limit; of more than 1 a part is refused. Of the tenants nearest to a limit.",
	[]string{"tenant", "limit"}, nil)

// maxUsed bounds the series of limitUsedDesc.
const maxUsed = 100

// Describe implements prometheus.Collector.
func (rs *rates) Describe(ch chan<- *prometheus.Desc) { ch <- limitUsedDesc }

// Collect implements prometheus.Collector.
func (rs *rates) Collect(ch chan<- prometheus.Metric) {
	type use struct {
		tenant string
		proto.Quota
	}
	var uses []use
	now := time.Now()
	rs.mu.RLock()
	for id, p := range rs.tenants {
		p.mu.Lock()
		p.line.Advance(now)
		for _, q := range p.sets.use(p.line.use(nil, 0), 0, now) {
			if q.Current > 0 {
				uses = append(uses, use{id, q})
			}
		}
		p.mu.Unlock()
	}
	rs.mu.RUnlock()
	slices.SortFunc(uses, func(a, b use) int { return cmp.Compare(b.Ratio(), a.Ratio()) })
	for _, u := range uses[:min(len(uses), maxUsed)] {
		ch <- prometheus.MustNewConstMetric(limitUsedDesc, prometheus.GaugeValue, u.Ratio(), u.tenant, u.Limit)
	}
}
