package receiver

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/weir-metrics/weir/proto"
)

// ServeHTTP takes one remote-write request, 1.0 or 2.0.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	v, err := r.negotiate(hr.Header)
	if err != nil {
		r.answer(w, hr, v, "", nil, err)
		return
	}
	tenantID, err := r.Tenants.Resolve(hr.Header)
	if err != nil {
		r.answer(w, hr, v, "", nil, err)
		return
	}
	ctx, cancel := context.WithTimeout(hr.Context(), r.cfg.Timeout)
	defer cancel()
	req := newRequest()
	defer req.release()
	if err = r.read(w, hr, req); err == nil {
		err = r.write(ctx, tenantID, v, req)
	}
	r.answer(w, hr, v, tenantID, req, err)
}

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// negotiate tells the protocol version from the headers.
func (r *Receiver) negotiate(h http.Header) (proto.Version, error) {
	ct := h.Get("Content-Type")
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
			return v, unsupported("Content-Type", ct)
		case msg == "io.prometheus.write.v2.Request":
			v = proto.V2
		case named && msg != "prometheus.WriteRequest":
			return v, unsupported("Content-Type", ct)
		}
	}
	switch enc := h.Get("Content-Encoding"); enc {
	case "", "snappy", "identity":
	default:
		return v, unsupported("Content-Encoding", enc)
	}
	return v, nil
}

func unsupported(header, value string) error {
	return proto.Errorf(proto.KindUnsupported, "weir-media-type-unsupported",
		"%s %s is not spoken here; send Content-Type %s (remote write 1.0) or %s (2.0), Content-Encoding snappy or identity",
		header, quote(value), typeV1, typeV2)
}

// read reads the body and decodes it into req.decoded. Sizes are checked before
// memory is taken for them.
func (r *Receiver) read(w http.ResponseWriter, hr *http.Request, req *request) error {
	limit := r.cfg.MaxRequestBytes
	if hr.ContentLength > int64(limit) {
		return tooLarge("compressed", hr.ContentLength, "max_request_bytes", limit)
	}
	// A client that is slower than this would hold its memory for nothing.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.cfg.Timeout))
	var err error
	if req.body, err = readAll(http.MaxBytesReader(w, hr.Body, int64(limit)), req.body[:0], hr.ContentLength); err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return tooLarge("compressed", int64(limit)+1, "max_request_bytes", limit)
		}
		return proto.Errorf(proto.KindUnavailable, "weir-body-incomplete", "the request body did not arrive in full: %v; repeat the request", err)
	}
	r.metrics.bytes.WithLabelValues("compressed").Add(float64(len(req.body)))
	if hr.Header.Get("Content-Encoding") == "identity" {
		req.decoded = append(req.decoded[:0], req.body...)
	} else if err := r.decompress(req); err != nil {
		return err
	}
	if len(req.decoded) > r.cfg.MaxDecodedBytes {
		return tooLarge("decoded", int64(len(req.decoded)), "max_decoded_bytes", r.cfg.MaxDecodedBytes)
	}
	r.metrics.bytes.WithLabelValues("decoded").Add(float64(len(req.decoded)))
	return nil
}

func (r *Receiver) decompress(req *request) error {
	n, err := s2.DecodedLen(req.body)
	if err != nil {
		return proto.Errorf(proto.KindBadData, "weir-snappy-malformed", "the body is not snappy block format: %v", err)
	}
	if n > r.cfg.MaxDecodedBytes {
		return tooLarge("decoded", int64(n), "max_decoded_bytes", r.cfg.MaxDecodedBytes)
	}
	if n > 32*len(req.body) {
		return proto.Errorf(proto.KindBadData, "weir-snappy-malformed",
			"the body of %d bytes declares %d bytes decoded, more than snappy can pack into it", len(req.body), n)
	}
	if cap(req.decoded) < n {
		req.decoded = make([]byte, n+n/4)
	}
	if req.decoded, err = s2.Decode(req.decoded[:cap(req.decoded)], req.body); err != nil {
		return proto.Errorf(proto.KindBadData, "weir-snappy-malformed", "the body is not snappy block format: %v", err)
	}
	return nil
}

func tooLarge(what string, n int64, limit string, max int) error {
	return proto.Errorf(proto.KindTooLarge, "weir-request-too-large",
		"the request has at least %d bytes %s, the limit %s is %d; lower max_samples_per_send in the sender's queue_config", n, what, limit, max)
}

// readAll reads rd to its end into dst. length is the announced length, or -1;
// memory for it is taken as bytes arrive, not on the sender's word.
func readAll(rd io.Reader, dst []byte, length int64) ([]byte, error) {
	const step = 1 << 20
	for {
		if len(dst) == cap(dst) {
			grow := max(min(int(length)-len(dst), step), 512, len(dst)/2)
			dst = append(make([]byte, 0, len(dst)+grow+1), dst...)
		}
		n, err := rd.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

// isVMAgent reports whether the sender is vmagent, which repeats some answers for
// ever that others take for final.
func isVMAgent(h http.Header) bool { return strings.HasPrefix(h.Get("User-Agent"), "vmagent") }
