package receiver

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// ServeHTTP takes one remote-write request, 1.0 or 2.0.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	switch {
	case isHandshake(hr):
		if _, err := r.Tenants.Identify(hr, tenant.ScopeWrite); err != nil {
			r.answer(w, hr, proto.V1, "", nil, err)
			return
		}
		answerHandshake(w)
		return
	case hr.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	who, err := r.Tenants.Authenticate(hr, tenant.ScopeWrite)
	v, enc, unspoken := r.negotiate(hr.Header) // also when it is refused: the answer depends on it
	if err != nil && who.Tenant == "" {
		r.answer(w, hr, v, "", nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(hr.Context(), r.cfg.Timeout)
	defer cancel()
	req := newRequest()
	defer req.release()
	r.begin(req, hr, who)
	req.trace(hr.Header)
	req.frame.Sender = senderOf(&who, hr)
	if err == nil {
		err = unspoken
	}
	if err == nil {
		err = r.read(w, hr, enc, req)
	}
	if err == nil {
		if err = r.write(ctx, v, req, r.cfg.MaxSeries); err != nil {
			r.giveBack(req)
		}
	}
	r.answer(w, hr, v, who.Tenant, req, err)
}

// senderOf tells people who sent a request.
func senderOf(who *tenant.Identity, hr *http.Request) string {
	agent := hr.UserAgent()
	agent = agent[:min(len(agent), 128)]
	if who.Credential == "" {
		return agent
	}
	return who.Credential + " " + agent
}

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// endpoint is what a write path speaks.
type endpoint struct {
	name      string
	accept    string     // media types
	encodings []encoding // of the body; the first when a request names none
}

var remoteWrite = endpoint{
	name: "remote write", accept: typeV1 + ", " + typeV2, encodings: []encoding{snappy, zstandard, identity},
}

// negotiate tells the protocol version and the encoding from the headers.
func (r *Receiver) negotiate(h http.Header) (proto.Version, encoding, error) {
	ct, err := only(h, "Content-Type")
	if err != nil {
		return proto.V1, "", err
	}
	v := proto.V1
	switch {
	case ct == typeV2:
		v = proto.V2
	case ct == typeV1, ct == "" && !r.cfg.RequireContentType:
	default:
		mt, params, err := mime.ParseMediaType(ct)
		msg, named := params["proto"]
		switch {
		case err != nil || mt != typeV1:
			return v, "", remoteWrite.unsupported("Content-Type", ct)
		case msg == "io.prometheus.write.v2.Request":
			v = proto.V2
		case named && msg != "prometheus.WriteRequest":
			return v, "", remoteWrite.unsupported("Content-Type", ct)
		}
	}
	enc, err := remoteWrite.encoding(h)
	return v, enc, err
}

// encoding returns the encoding of the body.
func (ep *endpoint) encoding(h http.Header) (encoding, error) {
	value, err := only(h, "Content-Encoding")
	if err != nil {
		return "", err
	}
	if value == "" {
		return ep.encodings[0], nil
	}
	for _, enc := range ep.encodings {
		if strings.EqualFold(value, string(enc)) {
			return enc, nil
		}
	}
	return "", ep.unsupported("Content-Encoding", value)
}

func (ep *endpoint) acceptEncoding() string {
	names := make([]string, len(ep.encodings))
	for i, enc := range ep.encodings {
		names[i] = string(enc)
	}
	return strings.Join(names, ", ")
}

func (ep *endpoint) unsupported(header, value string) error {
	return proto.Errorf(proto.KindUnsupported, "weir-media-type-unsupported",
		"%s %s is not spoken here, which is %s; accepted are Content-Type %s and Content-Encoding %s",
		header, quote(value), ep.name, ep.accept, ep.acceptEncoding())
}

// only returns the value of a header that decides how the body is read, "" when
// there is none. Whoever sends two of them, or a proxy that adds its own, may
// mean either.
func only(h http.Header, name string) (string, error) {
	values := h[name]
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", proto.Errorf(proto.KindBadData, "weir-header-repeated",
		"the request has %d %s headers, %s and %s; send one", len(values), name, quote(values[0]), quote(values[1]))
}

// read takes the tenant's share of what may be in flight, reads the body, and
// decodes it into req.decoded. Sizes are checked, and taken from req.hold, before
// memory is taken for them.
func (r *Receiver) read(w http.ResponseWriter, hr *http.Request, enc encoding, req *request) (err error) {
	tracing.SetTenant(hr.Context(), req.who.Tenant)
	_, span := tracing.Start(hr.Context(), "receive")
	defer func() { tracing.End(span, err) }()
	if req.hold, err = r.Budget.Enter(req.who.Tenant); err != nil {
		return err
	}
	limit := r.cfg.MaxRequestBytes
	if hr.ContentLength > int64(limit) {
		return tooLarge("compressed", hr.ContentLength, "max_request_bytes", limit)
	}
	// A client that is slower than this would hold its memory for nothing.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.cfg.Timeout))
	if req.body, err = readAll(http.MaxBytesReader(w, hr.Body, int64(limit)), req.body[:0], hr.ContentLength, &req.hold); err != nil {
		var over *http.MaxBytesError
		var refused *proto.Error
		switch {
		case errors.As(err, &over):
			return tooLarge("compressed", int64(limit)+1, "max_request_bytes", limit)
		case errors.As(err, &refused):
			return err
		}
		return proto.Errorf(proto.KindUnavailable, "weir-body-incomplete", "the request body did not arrive in full: %v; repeat the request", err)
	}
	r.metrics.bytes.WithLabelValues("compressed").Add(float64(len(req.body)))
	if err := r.decoders.decode(enc, req); err != nil {
		return err
	}
	r.metrics.bytes.WithLabelValues("decoded").Add(float64(len(req.decoded)))
	return nil
}

// smallerBatches is what to do about a request that is too large.
const smallerBatches = "lower max_samples_per_send in the sender's queue_config (send_batch_max_size in an OpenTelemetry collector)"

func tooLarge(what string, n int64, limit string, max int) error {
	return proto.Errorf(proto.KindTooLarge, "weir-request-too-large",
		"the request has at least %d bytes %s, the limit %s is %d; %s", n, what, limit, max, smallerBatches)
}

// readAll reads rd to its end into dst. length is the announced length, or -1. It
// is taken from hold at once, and from a body without one as it arrives; memory
// for it is taken as bytes arrive, not on the sender's word.
func readAll(rd io.Reader, dst []byte, length int64, hold *overload.Hold) ([]byte, error) {
	const step = 1 << 20
	held := int(length) + 1 // that much may be read; one more shows the end
	if err := hold.Take(length); err != nil {
		return dst, err
	}
	for {
		if len(dst) >= held {
			if err := hold.Take(step); err != nil {
				return dst, err
			}
			held += step
		}
		if len(dst) == cap(dst) {
			grow := max(min(int(length)-len(dst), step), 512, len(dst)/2)
			dst = append(make([]byte, 0, len(dst)+grow+1), dst...)
		}
		n, err := rd.Read(dst[len(dst):min(cap(dst), held)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}
