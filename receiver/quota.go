package receiver

import (
	"fmt"
	"net/http"
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

// nearLimit is the share of a limit from which on a tenant is told.
const nearLimit = 0.8

// used appends the limits that are used up to nearLimit or more.
func (l *line) used(dst []limitUse) []limitUse {
	for res := range tenant.Resources {
		if rate := l.Rate(res); rate > 0 && l.Asked(res) >= nearLimit*rate {
			dst = append(dst, limitUse{res, l.Asked(res) / rate})
		}
	}
	return dst
}

// limitUse is the share of a limit that is used; more than 1 is asked for.
type limitUse struct {
	limit tenant.Resource
	ratio float64
}

func setLimitUsed(h http.Header, uses []limitUse) {
	if len(uses) == 0 {
		return
	}
	var b strings.Builder
	for i, u := range uses {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%.2f", u.limit.Setting(), u.ratio)
	}
	h.Set(headerLimitUsed, b.String())
}
