package receiver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tracing"
)

// headerTrace asks for a receipt: an answer in JSON that says of each series of
// the request what became of it.
const headerTrace = "X-Weir-Trace"

const (
	// maxReceiptSeries and maxReceiptBytes, of labels, bound a receipt; the rest of
	// the series are counted.
	maxReceiptSeries = 1000
	maxReceiptBytes  = 1 << 20
)

// receipt is the answer to a write in JSON.
type receipt struct {
	Status    int    `json:"status"` // HTTP status without a receipt; with it, 204 is 200, for it has a body
	ID        string `json:"id"`
	Message   string `json:"message,omitempty"`
	Page      string `json:"page,omitempty"` // explains the id
	RequestID string `json:"requestId,omitempty"`
	Tenant    string `json:"tenant,omitempty"`
	quota
	Sent    proto.Counts     `json:"sent"` // zero for a request that could not be read
	Written proto.Counts     `json:"written"`
	Refused []refusedReceipt `json:"refused"`
	Series  []seriesReceipt  `json:"series,omitempty"`
	Omitted int              `json:"seriesOmitted,omitempty"` // beyond those listed
}

// quota is the limit that refused the request as a whole, if one did.
type quota struct {
	RetryAfter int      `json:"retryAfter,omitempty"` // seconds, as in the header
	Limit      string   `json:"limit,omitempty"`
	Current    *float64 `json:"current,omitempty"`
	Maximum    *float64 `json:"maximum,omitempty"`
}

// page explains the errors, each below its id.
const page = "https://github.com/weir-metrics/weir/blob/main/docs/errors.md#"

// refusedReceipt is what was refused for one reason.
type refusedReceipt struct {
	Reason string       `json:"reason"`
	Counts proto.Counts `json:"counts"`
	Detail string       `json:"detail,omitempty"`
	Limit  string       `json:"limit,omitempty"` // its path in the configuration
	Value  any          `json:"limitValue,omitempty"`
}

// seriesReceipt is what became of one series.
type seriesReceipt struct {
	Labels   []ledger.Label   `json:"labels"`             // as they came and as far as they may be shown
	Verdict  string           `json:"verdict"`            // weir-ok: the series is admitted
	Identity string           `json:"identity,omitempty"` // of an admitted series, until this process ends
	Sent     proto.Counts     `json:"sent"`
	Written  proto.Counts     `json:"written"`
	Refused  []refusedReceipt `json:"refused,omitempty"`
	Dropped  string           `json:"dropped,omitempty"`   // by which rule: nothing of it is written
	Held     bool             `json:"postponed,omitempty"` // to be sent again
}

// trace prepares a request for its receipt if its headers ask for one.
func (req *request) trace(h http.Header) {
	if h.Get(headerTrace) != "" {
		req.traced, req.rejected.Track = true, true
	}
}

// wantsJSON reports whether a sender reads refusals by program.
func wantsJSON(h http.Header) bool { return strings.Contains(h.Get("Accept"), typeJSON) }

// answerReceipt answers with a receipt in place of text. req is nil when the request
// was refused before it was read.
func answerReceipt(w http.ResponseWriter, hr *http.Request, req *request, status int, id, message string, cause *proto.Error) {
	rc := receipt{Status: status, ID: id, Message: message, RequestID: tracing.ID(hr.Context()), Refused: []refusedReceipt{}}
	if message != "" {
		rc.Page = page + id
	}
	rc.RetryAfter, _ = strconv.Atoi(w.Header().Get("Retry-After"))
	if cause != nil && cause.Quota != nil {
		rc.Limit, rc.Current, rc.Maximum = cause.Quota.Limit, &cause.Quota.Current, &cause.Quota.Maximum
	}
	if req != nil {
		rc.of(req, cause)
	}
	if status == http.StatusNoContent {
		status = http.StatusOK
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(rc) // an error is a sender that went away
}

// of fills in what became of a request.
func (rc *receipt) of(req *request, cause *proto.Error) {
	rc.Tenant = req.who.Tenant
	if req.scanned {
		rc.Sent = req.sent
	}
	if part := cause == nil || req.postponed != nil; part {
		rc.Written = req.written
		rc.Refused = req.refusedReasons()
	}
	if req.traced && req.scanned {
		rc.Series, rc.Omitted = req.seriesReceipts(cause)
	}
}

func (req *request) refusedReasons() []refusedReceipt {
	out := []refusedReceipt{}
	for _, e := range req.rejected.Examples {
		out = append(out, req.refusedFor(e.Reason, req.rejected.Counts[e.Reason], e.Detail))
	}
	return out
}

func (req *request) refusedFor(reason proto.Reason, n proto.Counts, detail string) refusedReceipt {
	x := refusedReceipt{Reason: reason.ID(), Counts: n, Detail: strings.ToValidUTF8(detail, "\ufffd")}
	x.Limit, x.Value = req.policy.limits().Behind(reason)
	return x
}

// seriesReceipts lists the series, and counts those beyond what a receipt holds.
func (req *request) seriesReceipts(cause *proto.Error) (list []seriesReceipt, omitted int) {
	refused := make(map[uint32][]refusedReceipt)
	for _, x := range req.rejected.Refused {
		if x.Series < maxReceiptSeries {
			refused[x.Series] = append(refused[x.Series], req.refusedFor(x.Reason, x.Counts, req.detailOf(x.Reason, x.Series)))
		}
	}
	held := make(map[uint32]bool)
	for _, i := range req.held {
		held[i] = true
	}
	whole := cause != nil && req.postponed == nil
	bytes := 0
	for i := range req.series {
		if i == maxReceiptSeries || bytes > maxReceiptBytes {
			return list, len(req.series) - i
		}
		one := req.seriesReceipt(uint32(i))
		for _, l := range one.Labels {
			bytes += len(l.Name) + len(l.Value)
		}
		one.Held = held[uint32(i)]
		one.Refused = refused[uint32(i)]
		if !whole && !one.Held {
			one.Written = one.Sent
			for _, x := range one.Refused {
				one.Written.Sub(x.Counts)
			}
			if req.series[i].reason == proto.RelabelDropped {
				one.Written, one.Dropped = proto.Counts{}, req.detailOf(proto.RelabelDropped, uint32(i))
			}
			one.Written.Metadata = 0 // which belongs to families, not to series
		}
		list = append(list, one)
	}
	return list, 0
}

func (req *request) seriesReceipt(i uint32) seriesReceipt {
	s := &req.series[i]
	one := seriesReceipt{Sent: s.Counts()}
	for _, l := range req.shown(i) {
		one.Labels = append(one.Labels, ledger.Label{Name: strings.ToValidUTF8(l.Name, "\ufffd"), Value: strings.ToValidUTF8(l.Value, "\ufffd")})
	}
	if s.verdict == nil {
		one.Verdict = "undecided"
		return one
	}
	one.Verdict = s.reason.ID()
	if s.reason == proto.OK {
		one.Identity = fmt.Sprintf("%016x%016x", s.id.Hi, s.id.Lo)
	}
	return one
}
