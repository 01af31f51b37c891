package receiver

import (
	"math/rand/v2"
	"net"
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
	e.Sender = ledger.Sender{Credential: req.who.Credential, UserAgent: hr.UserAgent(), Address: hr.RemoteAddr, Protocol: protocol}
	if host, _, err := net.SplitHostPort(hr.RemoteAddr); err == nil {
		e.Sender.Address = host
	}
	e.ID, e.Encoding, e.Newest, e.Err = tracing.ID(hr.Context()), hr.Header.Get("Content-Encoding"), req.newest, cause
	if attempt := hr.Header.Get("Retry-Attempt"); attempt != "" { // as Prometheus says it
		e.Attempt, _ = strconv.Atoi(attempt)
	}
	if !req.scanned {
		e.Newest = ledger.NoTime
	}
	if cause == nil || req.postponed != nil {
		e.Written = req.written
		req.group(e)
	}
	r.Ledger.Record(tenantID, e)
}

const (
	// maxGrouped is how many refusals of a request are looked at, and into how many
	// groups: the ledger is for people, and a flood must not pay for it.
	maxGrouped = 1000
	maxGroups  = 64
)

// group tells the ledger what was refused of the request, by reason and metric.
// Of a request with very many refusals it takes some that lie together, from
// anywhere, and counts the others by reason.
func (req *request) group(e *ledger.Request) {
	if req.rejected.Total() == 0 {
		return
	}
	e.Example = req.example
	left := req.rejected.Counts
	all := req.rejected.Refused
	from := 0
	if len(all) > maxGrouped {
		from = rand.IntN(len(all) - maxGrouped)
		all = all[from : from+maxGrouped]
	}
	for i := range all {
		x := &all[i]
		metric := req.metricOf(x.Series)
		if !req.join(e, x, metric) {
			if len(e.Refused) == maxGroups {
				break
			}
			e.Refused = append(e.Refused, ledger.Refused{Reason: x.Reason, Metric: metric, Series: x.Series, Counts: x.Counts, T: x.T})
		}
		left[x.Reason].Sub(x.Counts)
	}
	for reason, c := range left {
		if c != (proto.Counts{}) {
			e.Refused = append(e.Refused, ledger.Refused{Reason: proto.Reason(reason), Metric: ledger.AnyMetric, Series: proto.NoSeries, Counts: c})
		}
	}
}

// join adds x to the group it belongs to, which is mostly the last one.
func (req *request) join(e *ledger.Request, x *proto.Refused, metric string) bool {
	for i := len(e.Refused) - 1; i >= 0; i-- {
		if g := &e.Refused[i]; g.Reason == x.Reason && g.Metric == metric {
			g.Counts.Add(x.Counts)
			return true
		}
	}
	return false
}

// metricOf returns the name of series i as it may be shown, a view.
func (req *request) metricOf(i uint32) string {
	if i == proto.NoSeries {
		return ""
	}
	for _, l := range req.shown(i) {
		if l.Name == model.MetricNameLabel {
			return l.Value
		}
	}
	return ""
}

// maxShown is how many labels of a series are looked at for people.
const maxShown = 10_000

// shown returns the labels of series i as they came and as far as they may be
// shown: to the sender, in the log, in the ledger. There are none if they make no
// sense or are too many. They are views, valid until the next call.
func (req *request) shown(i uint32) []labels.Label {
	s := &req.series[i].Series
	if req.scan.LabelCount(s) > maxShown {
		return nil
	}
	ls, _ := req.scan.AppendLabels(req.labels[:0], s)
	req.labels = ls
	return ls
}

// example describes a group of refusals by one of them.
func (req *request) example(x *ledger.Refused) ([]ledger.Label, string) {
	detail := req.detailOf(x.Reason, x.Series)
	if x.Series == proto.NoSeries {
		return nil, detail
	}
	shown := req.shown(x.Series)
	ls := make([]ledger.Label, 0, min(len(shown), 64))
	for _, l := range shown[:min(len(shown), 64)] {
		ls = append(ls, ledger.Label{Name: l.Name, Value: l.Value})
	}
	return ls, detail
}

// detailOf says why something of series i was refused.
func (req *request) detailOf(reason proto.Reason, i uint32) string {
	if i != proto.NoSeries && req.series[i].reason == reason {
		_, no := req.admit(&req.series[i].Series)
		return no.detail(req.policy.limits())
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
