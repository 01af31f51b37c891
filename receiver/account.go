package receiver

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tracing"
)

// account counts what became of a request, and tells the ledger. req is nil when
// it is unknown whose request it was. cause is why it was refused as a whole, or
// is to be sent again in part; nil: neither.
func (r *Receiver) account(hr *http.Request, protocol string, req *request, cause *proto.Error) {
	if req == nil {
		return
	}
	tenantID := req.who.Tenant
	if req.scanned {
		of := r.Usage.Known(tenantID) // whoever sends requests can make up tenants
		if cause == nil || req.postponed != nil {
			of = r.Usage.Of(tenantID)
		}
		r.metrics.count(req, of, cause)
	}
	e := &req.entry
	e.Sender = ledger.Sender{Credential: req.who.Credential, UserAgent: hr.UserAgent(), Address: req.source, Protocol: protocol}
	e.ID, e.Encoding, e.Newest, e.Err = tracing.ID(hr.Context()), hr.Header.Get("Content-Encoding"), req.newest, cause
	if attempt := hr.Header.Get("Retry-Attempt"); attempt != "" { // as Prometheus says it
		e.Attempt, _ = strconv.Atoi(attempt)
	}
	if cause == nil || req.postponed != nil {
		e.Written = req.written
		req.group(e)
	}
	r.Ledger.Record(tenantID, e)
	if cause != nil {
		r.forget(&req.who, cause.ID == "weir-too-many-tenants")
	}
}

const (
	// maxGrouped is how many refusals of a request are looked at, and maxGroups into
	// how many groups: the ledger is for people, and a flood must not pay for it.
	maxGrouped = 256
	maxGroups  = 64
	// maxGroupedDrops is how many series are looked at of those that rules drop. It is
	// few, because they come with every request as long as the rules are there.
	maxGroupedDrops = 8
)

// noRef refers to nothing that could be an example.
const noRef = math.MinInt

// group tells the ledger what was refused of the request, and what rules dropped,
// by reason and metric.
// Of a request with very many refusals it takes some that lie together, from
// anywhere, and counts the others by reason. A Ref is the index of a series, or
// below 0 of one of unseen.
func (req *request) group(e *ledger.Request) {
	e.Example = req.example
	req.groupOf(e, &req.rejected, req.unseen, maxGrouped)
	req.groupOf(e, &req.dropped, nil, maxGroupedDrops)
}

func (req *request) groupOf(e *ledger.Request, lost *proto.Rejections, unseen []unseen, most int) {
	if lost.Total() == 0 {
		return
	}
	left := lost.Counts
	for i := range unseen {
		x := &unseen[i]
		if join(e, ledger.Refused{Reason: x.reason, Metric: x.labels.Get(model.MetricNameLabel), Ref: -1 - i, Counts: x.counts, T: x.t}) {
			left[x.reason].Sub(x.counts)
		}
	}
	all := lost.Refused
	if len(all) > most {
		from := rand.IntN(len(all) - most + 1)
		all = all[from : from+most]
	}
	for _, x := range all {
		if x.Series != proto.NoSeries && join(e, ledger.Refused{Reason: x.Reason, Metric: req.metricOf(x.Series), Ref: int(x.Series), Counts: x.Counts, T: x.T}) {
			left[x.Reason].Sub(x.Counts)
		}
	}
	for reason, c := range left {
		if c != (proto.Counts{}) {
			e.Refused = append(e.Refused, ledger.Refused{Reason: proto.Reason(reason), Metric: ledger.AnyMetric, Ref: noRef, Counts: c})
		}
	}
}

// join adds x to the group it belongs to, which is mostly the last one, or makes
// one if there is room.
func join(e *ledger.Request, x ledger.Refused) bool {
	for i := len(e.Refused) - 1; i >= 0; i-- {
		if g := &e.Refused[i]; g.Reason == x.Reason && g.Metric == x.Metric {
			g.Counts.Add(x.Counts)
			return true
		}
	}
	if len(e.Refused) == maxGroups {
		return false
	}
	e.Refused = append(e.Refused, x)
	return true
}

// metricOf returns the name of series i as it may be shown, a view.
func (req *request) metricOf(i uint32) string {
	if ls := req.came(i); len(ls) > 0 && ls[0].Name == model.MetricNameLabel {
		return req.policy.hide(cut(ls[0].Value, maxShownBytes))
	}
	return ""
}

// example describes a group of refusals by one of them.
func (req *request) example(x *ledger.Refused) (ls []ledger.Label, detail string) {
	switch {
	case x.Ref == noRef:
		return nil, req.detailOf(x.Reason, proto.NoSeries)
	case x.Ref < 0:
		u := &req.unseen[-1-x.Ref]
		u.labels.Range(func(l labels.Label) { ls = append(ls, ledger.Label{Name: l.Name, Value: l.Value}) })
		return ls, u.detail
	}
	detail = req.detailOf(x.Reason, uint32(x.Ref))
	for _, l := range req.shown(uint32(x.Ref)) {
		ls = append(ls, ledger.Label{Name: l.Name, Value: l.Value})
	}
	return ls, detail
}

// detailOf says why something of series i was refused.
func (req *request) detailOf(reason proto.Reason, i uint32) string {
	if i != proto.NoSeries && req.series[i].reason == reason {
		_, no := req.admit(&req.series[i].Series)
		return no.detail(req.policy)
	}
	for _, e := range req.rejected.Examples {
		if e.Reason == reason {
			if e.Series != i {
				return e.Detail + " (said of another series of the request)"
			}
			return e.Detail
		}
	}
	return ""
}
