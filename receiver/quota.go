package receiver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// rateUnits are what was asked for too often.
var rateUnits = [tenant.Resources]string{
	tenant.Samples: "samples", tenant.Requests: "requests", tenant.Bytes: "bytes",
	tenant.Buckets: "buckets of native histograms", tenant.Exemplars: "exemplars",
}

// refusal says which limit was reached, and when to come back. The caller holds
// p.mu.
func (p *pacer) refusal(a *arrival, v *turn) error {
	kind := proto.KindUnavailable
	if a.by429 {
		kind = proto.KindLimit
	}
	asked, rate := p.line.Asked(v.limit), p.line.Rate(v.limit)
	e := proto.Errorf(kind, v.limit.ID(),
		"this is a quota, not a fault of the server: the tenant sends about %.0f %s a second, its limit %s is %.0f; "+
			"nothing of the request was stored, repeat it in %d s, or have the limit raised",
		asked, rateUnits[v.limit], v.limit.Setting(), rate, v.retryAfter)
	e.Quota = &proto.Quota{Limit: v.limit.Setting(), Current: asked, Maximum: rate}
	e.RetryAfter = time.Duration(v.retryAfter) * time.Second
	return e
}

// answers429 is the table of which answer makes a sender repeat its request
// rather than drop it (docs/operations.md#rates). drops is what was seen of
// it.
func answers429(policy tenant.OnLimit, otlp bool, userAgent string, drops bool) bool {
	if policy != tenant.OnLimitAuto {
		return policy != tenant.Retry503
	}
	agent := strings.ToLower(userAgent)
	switch {
	case otlp: // whose specification has senders repeat after 429
		return true
	case strings.HasPrefix(agent, "prometheus/"), strings.Contains(agent, "opentelemetry"):
		return false // they drop it unless they are told not to
	case strings.HasPrefix(agent, "vmagent"):
		return true
	}
	return !drops
}

// headerLimitUsed names the limits that a tenant is near, and how near.
const headerLimitUsed = "X-Weir-Limit-Used"

// use appends how much of each rate is used, where that is at least the share from.
func (l *line) use(dst []proto.Quota, from float64) []proto.Quota {
	for res := range tenant.Resources {
		if rate := l.Rate(res); rate > 0 && l.Asked(res) >= from*rate {
			dst = append(dst, proto.Quota{Limit: res.Setting(), Current: l.Asked(res), Maximum: rate})
		}
	}
	return dst
}

// RateUse returns what a tenant asks for of late of each of its rates, and of those of
// its label sets.
func (r *Receiver) RateUse(tenantID string) []proto.Quota {
	limits := &r.Settings(tenantID).Limits
	if !limits.HasRates() && !limits.HasSetRates() {
		return nil
	}
	p := r.rates.of(tenantID)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.under(limits, now)
	return p.sets.use(p.line.use(nil, 0), 0, now)
}

// setLimitUsed names the limits that the tenant of req is near.
func setLimitUsed(h http.Header, req *request) {
	if len(req.nearRates)+len(req.nearSeries) == 0 {
		return
	}
	var list []string
	for _, q := range slices.Concat(req.nearRates, req.nearSeries) {
		list = append(list, fmt.Sprintf("%s=%.2f", q.Limit, q.Ratio()))
	}
	h.Set(headerLimitUsed, strings.Join(list, ", "))
}
