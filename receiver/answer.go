package receiver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// statuses is the HTTP status of each kind of error. A permanent fault is never
// a 5xx, which senders repeat for ever; a transient one never a 4xx but 429,
// which they drop.
var statuses = map[proto.Kind]int{
	proto.KindInternal:        http.StatusInternalServerError,
	proto.KindBadData:         http.StatusBadRequest,
	proto.KindTooLarge:        http.StatusRequestEntityTooLarge,
	proto.KindUnsupported:     http.StatusUnsupportedMediaType,
	proto.KindUnauthenticated: http.StatusUnauthorized,
	proto.KindForbidden:       http.StatusForbidden,
	proto.KindConflict:        http.StatusBadRequest,
	proto.KindLimit:           http.StatusTooManyRequests,
	proto.KindUnavailable:     http.StatusServiceUnavailable,
	proto.KindNotFound:        http.StatusNotFound,
}

const (
	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
	headerDropped    = "X-Weir-Relabel-Dropped"
)

// answer writes the response: 204 when everything was stored, 400 with counts
// when a part was refused, and the status of err's kind when nothing was, or a
// part was postponed. req is nil when the request was refused before it was read.
func (r *Receiver) answer(w http.ResponseWriter, hr *http.Request, v proto.Version, tenantID string, req *request, err error) {
	var (
		status  = http.StatusNoContent
		id      = "weir-ok"
		body    string
		written proto.Counts
		part    = err == nil || (req != nil && req.postponed != nil) // of the request was stored, or all
		e       *proto.Error
	)
	if part {
		written = req.written
		written.Add(req.dropped.Counts[proto.RelabelDropped])
		setDropped(w.Header(), req)
	}
	if err != nil {
		e = r.failure(hr.Context(), w.Header(), &remoteWrite, tenantID, err)
	}
	r.account(hr, v.String(), req, e)
	switch {
	case e != nil:
		status, id, body = forVMAgent(hr.Header, statuses[e.Kind]), e.ID, e.Error()
	case req.rejected.Total() > 0:
		status, id = forVMAgent(hr.Header, http.StatusBadRequest), req.rejected.Examples[0].Reason.ID()
		body = id + ": " + partialBody(req)
		r.logRefusal(tenantID, hr, body)
	}
	r.metrics.requests.WithLabelValues(v.String(), id).Inc()
	// A 1.0 sender takes silence on success for "all written", and believes
	// headers where it finds them. So it gets them for partial writes only.
	if v == proto.V2 || (part && status != http.StatusNoContent) {
		setWritten(w.Header(), written)
	}
	if req != nil {
		setLimitUsed(w.Header(), req)
	}
	switch {
	case req != nil && req.traced, body != "" && wantsJSON(hr.Header):
		answerReceipt(w, hr, req, status, id, body, e)
	case body == "":
		w.WriteHeader(status)
	default:
		http.Error(w, withID(hr.Context(), body), status)
	}
}

func setWritten(h http.Header, c proto.Counts) {
	h.Set(headerSamples, strconv.Itoa(c.Samples))
	h.Set(headerHistograms, strconv.Itoa(c.Histograms))
	h.Set(headerExemplars, strconv.Itoa(c.Exemplars))
}

// setDropped says how many samples the tenant's own rules dropped.
func setDropped(h http.Header, req *request) {
	if n := req.dropped.Total(); n > 0 {
		h.Set(headerDropped, strconv.Itoa(n))
	}
}

func timedOut(after time.Duration) *proto.Error {
	return proto.Errorf(proto.KindUnavailable, "weir-timeout", "the request was not stored within %s; repeat it", after)
}

// failure sets the headers of a refusal by an endpoint and returns what it is.
// ctx is the request's, for the log.
func (r *Receiver) failure(ctx context.Context, h http.Header, ep *endpoint, tenantID string, err error) *proto.Error {
	var e *proto.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.DeadlineExceeded):
		e = timedOut(r.cfg.Timeout)
	case errors.Is(err, context.Canceled):
		e = proto.Errorf(proto.KindUnavailable, "weir-client-gone", "the sender closed the connection before the answer")
	default:
		r.Logger.ErrorContext(ctx, "write failed", "endpoint", ep.name, "tenant", tenantID, "err", err)
		e = proto.Errorf(proto.KindInternal, "weir-internal", "an internal error, see the server's log")
	}
	switch e.Kind {
	case proto.KindUnauthenticated:
		tenant.Challenge(h)
	case proto.KindUnsupported:
		h.Set("Accept", ep.accept)
		h.Set("Accept-Encoding", ep.acceptEncoding())
	case proto.KindUnavailable, proto.KindLimit:
		h.Set("Retry-After", strconv.Itoa(e.RetrySeconds()))
	}
	if e.ID == overload.ID {
		r.Usage.Known(tenantID).Refused()
	}
	return e
}

// partialBody says what was refused. The most important is in the first 300 of
// the 1024 bytes that Prometheus logs.
func partialBody(req *request) string {
	var b strings.Builder
	first := req.rejected.Examples[0]
	fmt.Fprintf(&b, "refused %d samples of this request, stored %d. %s",
		req.rejected.Total(), req.written.Total(), req.describe(first))
	for _, e := range req.rejected.Examples[1:] {
		if b.Len() > 700 {
			break
		}
		fmt.Fprintf(&b, "; %d %s: %s", req.rejected.Counts[e.Reason].Total(), e.Reason.ID(), req.describe(e))
	}
	if b.Len() > 950 {
		return strings.ToValidUTF8(b.String()[:950], "") + "…"
	}
	return b.String()
}

// describe names the series, the time and the detail of an example.
func (req *request) describe(e proto.Example) string {
	var b strings.Builder
	b.WriteString(e.Detail)
	if e.Series != proto.NoSeries {
		b.WriteString(", in ")
		req.writeLabels(&b, e.Series)
	}
	if e.T != 0 {
		fmt.Fprintf(&b, " at %s", time.UnixMilli(e.T).UTC().Format(time.RFC3339Nano))
	}
	return b.String()
}

// writeLabels writes the beginning of a series' labels, its name first. They may
// be anything, and any number.
func (req *request) writeLabels(b *strings.Builder, series uint32) {
	const most = 200 // bytes, about
	ls := req.shown(series)
	if len(ls) == 0 && req.scan.LabelCount(&req.series[series].Series) > 0 {
		b.WriteString("{…}")
		return
	}
	start := b.Len()
	b.WriteByte('{')
	for i, l := range ls {
		if i > 0 {
			b.WriteString(", ")
		}
		if b.Len()-start > most {
			b.WriteString("…")
			break
		}
		name := l.Name
		if !model.LegacyValidation.IsValidLabelName(name) || len(name) > 64 {
			name = quote(name)
		}
		b.WriteString(name + "=" + quote(l.Value))
	}
	b.WriteByte('}')
}

// logRefusal logs the first refusal of a request.
func (r *Receiver) logRefusal(tenantID string, hr *http.Request, body string) {
	r.Logger.WarnContext(hr.Context(), "refused a part of a write request", "tenant", tenantID, "addr", hr.RemoteAddr,
		"user_agent", hr.UserAgent(), "err", body)
}

// withID adds the id of the request of ctx to what its sender is told: it is what
// to look for in the server's log.
func withID(ctx context.Context, text string) string {
	if id := tracing.ID(ctx); id != "" {
		return text + " (request id " + id + ")"
	}
	return text
}
