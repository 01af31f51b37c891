package receiver

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	weirproto "github.com/weir-metrics/weir/proto"
)

// otlpAnswer is what an answer to an OTLP request depends on.
type otlpAnswer struct {
	ct       string // media type of the request, and so of the answer
	tenantID string
	req      *request // nil: the request was refused before it was read
	refused  int      // data points
}

// answerOTLP answers 200 with an ExportMetricsServiceResponse, which says how
// many data points were refused and why, or when nothing was stored with the
// status of err's kind and a google.rpc.Status. Senders repeat after 429 and 503,
// and nothing else that we answer.
func (r *Receiver) answerOTLP(w http.ResponseWriter, hr *http.Request, a *otlpAnswer, err error) {
	httpStatus, id := http.StatusOK, "weir-ok"
	var (
		body    []byte
		message string
	)
	var e *weirproto.Error
	if err != nil {
		e = r.failure(hr.Context(), w.Header(), &otlp, a.tenantID, err)
	}
	r.account(hr, "otlp", a.req, e)
	if e != nil {
		httpStatus, id = statuses[e.Kind], e.ID
		body, message = a.marshal(statusOf(hr.Context(), e)), text(e.Error())
	} else {
		setDropped(w.Header(), a.req)
		if a.req.rejected.Total() > 0 {
			id = a.req.rejected.Examples[0].Reason.ID()
			message = text(id + ": " + partialBody(a.req))
			r.logRefusal(a.tenantID, hr, message)
		}
		body = a.response(message)
	}
	r.metrics.requests.WithLabelValues("otlp", id).Inc()
	if a.req != nil {
		setLimitUsed(w.Header(), a.req)
	}
	if a.req != nil && a.req.traced {
		answerReceipt(w, hr, a.req, httpStatus, id, message, e)
		return
	}
	w.Header().Set("Content-Type", a.ct)
	w.WriteHeader(httpStatus)
	_, _ = w.Write(body)
}

// response returns an ExportMetricsServiceResponse. Its partial_success must be
// unset when there is nothing to say, and the library always sets it.
func (a *otlpAnswer) response(message string) []byte {
	if message == "" {
		if a.ct == typeJSON {
			return []byte("{}")
		}
		return nil
	}
	resp := pmetricotlp.NewExportResponse()
	resp.PartialSuccess().SetRejectedDataPoints(int64(a.refused))
	resp.PartialSuccess().SetErrorMessage(message)
	marshal := resp.MarshalProto
	if a.ct == typeJSON {
		marshal = resp.MarshalJSON
	}
	body, err := marshal()
	if err != nil {
		panic(err) // it has a number and a string
	}
	return body
}

// codes are those of google.rpc.Status, for people: HTTP's status decides.
var codes = map[weirproto.Kind]code.Code{
	weirproto.KindInternal:        code.Code_INTERNAL,
	weirproto.KindBadData:         code.Code_INVALID_ARGUMENT,
	weirproto.KindTooLarge:        code.Code_INVALID_ARGUMENT,
	weirproto.KindUnsupported:     code.Code_INVALID_ARGUMENT,
	weirproto.KindUnauthenticated: code.Code_UNAUTHENTICATED,
	weirproto.KindForbidden:       code.Code_PERMISSION_DENIED,
	weirproto.KindConflict:        code.Code_ALREADY_EXISTS,
	weirproto.KindLimit:           code.Code_RESOURCE_EXHAUSTED,
	weirproto.KindUnavailable:     code.Code_UNAVAILABLE,
	weirproto.KindNotFound:        code.Code_NOT_FOUND,
}

// text makes valid UTF-8, without which a message cannot be written: what
// libraries say of a body may quote it.
func text(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func statusOf(ctx context.Context, e *weirproto.Error) *status.Status {
	s := &status.Status{Code: int32(codes[e.Kind]), Message: text(withID(ctx, e.Error()))}
	if e.Kind == weirproto.KindBadData {
		bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Description: text(e.Msg), Reason: e.ID}}}
		if detail, err := anypb.New(bad); err == nil {
			s.Details = []*anypb.Any{detail}
		}
	}
	return s
}

func (a *otlpAnswer) marshal(m proto.Message) []byte {
	marshal := proto.Marshal
	if a.ct == typeJSON {
		marshal = protojson.Marshal
	}
	body, err := marshal(m)
	if err != nil {
		panic(err) // our own words
	}
	return body
}
