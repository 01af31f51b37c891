package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/util/annotations"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/proto"
)

const (
	// maxReadRequestBytes of a remote read, as it arrives and decoded: thousands
	// of times what a dashboard asks for.
	maxReadRequestBytes = 1 << 20
	maxReadQueries      = 128 // of a request
)

// selection is one query of a remote read. Its time range is that of hints.
type selection struct {
	hints    storage.SelectHints
	matchers []*labels.Matcher
}

// remoteRead answers the queries of a remote-read request, by samples or by a
// stream of chunks: the first of these that the request names.
func (a *API) remoteRead(ctx context.Context, w http.ResponseWriter, r *request) error {
	check := textCheck{limits: a.cfg.textLimits()}
	req, err := a.decodeReadRequest(w, r.Request, &check)
	if err != nil {
		return err
	}
	typ, err := remote.NegotiateResponseType(req.AcceptedResponseTypes)
	if err != nil {
		return proto.Errorf(proto.KindBadData, "weir-read-type-unsupported",
			"none of accepted_response_types %v is spoken here, SAMPLES and STREAMED_XOR_CHUNKS are", req.AcceptedResponseTypes)
	}
	selections, err := parseSelections(req.Queries, &check)
	if err != nil {
		return err
	}
	if _, err := a.remoteReads.Insert(ctx, ""); err != nil {
		return err
	}
	defer a.remoteReads.Delete(0)
	// A client that reads slowly must not keep the place for longer.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.cfg.Timeout))
	if typ == prompb.ReadRequest_STREAMED_XOR_CHUNKS {
		return a.streamChunks(ctx, w, r, selections)
	}
	return a.sendSamples(ctx, w, r, selections)
}

// decodeReadRequest reads and decodes a request. Sizes and numbers are checked
// before memory is taken for them.
func (a *API) decodeReadRequest(w http.ResponseWriter, hr *http.Request, check *textCheck) (*prompb.ReadRequest, error) {
	body, err := a.readCompressed(w, hr)
	if err != nil {
		return nil, err
	}
	// An empty message takes two bytes here and about a hundred decoded.
	matchers := 0
	queries, err := countMessages(body, 1, func(query []byte) error {
		n, err := countMessages(query, 3, func([]byte) error { return nil })
		matchers += n
		return err
	})
	switch {
	case err != nil:
		return nil, malformedRead(err)
	case queries > maxReadQueries:
		return nil, tooLargeRead("queries", maxReadQueries)
	}
	if err := check.countMatchers(matchers); err != nil {
		return nil, err
	}
	req := &prompb.ReadRequest{}
	if err := req.Unmarshal(body); err != nil {
		return nil, malformedRead(err)
	}
	return req, nil
}

// readCompressed reads a body and decompresses it. A client may not be slower to
// send it than a read may take.
func (a *API) readCompressed(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(a.cfg.Timeout)) // what is no connection has none
	compressed, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, maxReadRequestBytes))
	_ = rc.SetReadDeadline(time.Time{})
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLargeRead("bytes", maxReadRequestBytes)
	case err != nil:
		return nil, proto.Errorf(proto.KindUnavailable, "weir-body-incomplete", "the request body did not arrive in full: %v; repeat the request", err)
	}
	n, err := s2.DecodedLen(compressed)
	if err != nil {
		return nil, notSnappy(err)
	}
	if n > maxReadRequestBytes {
		return nil, tooLargeRead("bytes decoded", maxReadRequestBytes)
	}
	body, err := s2.Decode(nil, compressed)
	if err != nil {
		return nil, notSnappy(err)
	}
	return body, nil
}

func tooLargeRead(what string, limit int) error {
	return proto.Errorf(proto.KindBadData, "weir-read-request-too-large",
		"the remote-read request has more than %d %s; ask for less at once", limit, what)
}

func notSnappy(err error) error {
	return proto.Errorf(proto.KindBadData, "weir-snappy-malformed", "the body is not snappy block format: %v", err)
}

func malformedRead(err error) error {
	return proto.Errorf(proto.KindBadData, "weir-request-malformed", "the body is not a prometheus.ReadRequest: %v", err)
}

// countMessages calls f with each message that is in a field of an encoded
// message, and returns their number.
func countMessages(message []byte, field protowire.Number, f func([]byte) error) (int, error) {
	count := 0
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return count, protowire.ParseError(n)
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, typ, message); n < 0 {
			return count, protowire.ParseError(n)
		}
		if number == field && typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := f(value); err != nil {
				return count, err
			}
			count++
		}
		message = message[n:]
	}
	return count, nil
}

// parseSelections compiles the matchers of all queries, so that a wrong one is
// known before the answer begins.
func parseSelections(queries []*prompb.Query, check *textCheck) ([]selection, error) {
	all := make([]selection, 0, len(queries))
	for _, q := range queries {
		for _, m := range q.Matchers {
			if m.Name == "" {
				return nil, namelessMatcher()
			}
			if m.Type == prompb.LabelMatcher_RE || m.Type == prompb.LabelMatcher_NRE {
				if err := check.regexp(m.Value); err != nil {
					return nil, err
				}
			}
		}
		matchers, err := remote.FromLabelMatchers(q.Matchers)
		if err != nil {
			return nil, proto.Errorf(proto.KindBadData, "weir-matcher-invalid", "invalid matcher: %.200s", err)
		}
		all = append(all, selection{hints: selectHints(q), matchers: matchers})
	}
	return all, nil
}

// selectHints are the hints of a query, with its time range. That of the hints
// can narrow it: it is what the client's expression looks at.
func selectHints(q *prompb.Query) storage.SelectHints {
	hints := storage.SelectHints{Start: q.StartTimestampMs, End: q.EndTimestampMs}
	h := q.Hints
	if h == nil {
		return hints
	}
	if h.StartMs != 0 || h.EndMs != 0 { // some clients leave them out
		hints.Start, hints.End = max(hints.Start, h.StartMs), min(hints.End, h.EndMs)
	}
	hints.Step, hints.Range = h.StepMs, h.RangeMs
	hints.Func, hints.Grouping, hints.By = h.Func, h.Grouping, h.By
	return hints
}

// logWarnings logs what a remote read has no field for.
func (a *API) logWarnings(tenantID string, warnings annotations.Annotations) {
	for _, w := range warnings {
		a.Logger.Warn("warning on remote read", "tenant", tenantID, "err", w)
	}
}

// overBudget says that an answer has become too long.
func (a *API) overBudget() error {
	return proto.Errorf(proto.KindTooLarge, "weir-query-response-too-large",
		"the answer is longer than %d bytes, the limit query.max_response_bytes; ask for fewer series or less time", a.cfg.MaxResponseBytes)
}
