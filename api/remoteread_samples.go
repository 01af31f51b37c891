package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/encoding/protowire"
)

// sendSamples answers by a prometheus.ReadResponse in one piece.
func (a *API) sendSamples(ctx context.Context, w http.ResponseWriter, r *request, selections []selection) error {
	var (
		message []byte
		err     error
	)
	for _, s := range selections {
		start := len(message)
		if message, err = a.appendResult(ctx, message, r, s); err != nil {
			return err
		}
		message = delimit(message, start, fieldResults)
	}
	body := s2.EncodeSnappy(nil, message)
	h := w.Header()
	h.Set("Content-Type", "application/x-protobuf")
	h.Set("Content-Encoding", "snappy")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		a.Logger.Debug("answer not sent", "path", r.URL.Path, "err", err)
	}
	return nil
}

// Fields of the messages of an answer by samples: see prompb/remote.proto and
// prompb/types.proto of Prometheus. The message is encoded here and not by the
// generated code because that needs all samples as structs beside their encoding,
// which doubles the memory; because the budget is held while it grows; and
// because the generated encoders turn -0 into 0.
const (
	fieldResults    protowire.Number = 1 // ReadResponse
	fieldTimeseries protowire.Number = 1 // QueryResult
	fieldLabels     protowire.Number = 1 // TimeSeries…
	fieldSamples    protowire.Number = 2
	fieldHistograms protowire.Number = 4
	fieldName       protowire.Number = 1 // Label
	fieldText       protowire.Number = 2
	fieldValue      protowire.Number = 1 // Sample
	fieldTimestamp  protowire.Number = 2
)

// delimit makes what follows start in b the message in a field.
func delimit(b []byte, start int, field protowire.Number) []byte {
	var head [2 * 10]byte
	h := protowire.AppendTag(head[:0], field, protowire.BytesType)
	h = protowire.AppendVarint(h, uint64(len(b)-start))
	return slices.Insert(b, start, h...)
}

// appendResult appends the series of a selection to an answer.
func (a *API) appendResult(ctx context.Context, b []byte, r *request, s selection) ([]byte, error) {
	q, err := r.view.Queryable().Querier(s.hints.Start, s.hints.End)
	if err != nil {
		return nil, err
	}
	defer a.close(q)
	set := q.Select(ctx, true, &s.hints, s.matchers...)
	var it chunkenc.Iterator
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := len(b)
		b = appendLabels(b, set.At().Labels())
		if s.hints.Func != "series" { // who asks for series looks at no samples
			it = set.At().Iterator(it)
			if b, err = a.appendSamples(b, it); err != nil {
				return nil, err
			}
		}
		b = delimit(b, start, fieldTimeseries)
		if int64(len(b)) > a.cfg.MaxResponseBytes { // by labels alone
			return nil, a.overBudget()
		}
	}
	a.logWarnings(r.who.Tenant, set.Warnings())
	return b, set.Err()
}

func appendLabels(b []byte, ls labels.Labels) []byte {
	ls.Range(func(l labels.Label) {
		start := len(b)
		b = protowire.AppendString(protowire.AppendTag(b, fieldName, protowire.BytesType), l.Name)
		b = protowire.AppendString(protowire.AppendTag(b, fieldText, protowire.BytesType), l.Value)
		b = delimit(b, start, fieldLabels)
	})
	return b
}

// appendSamples appends what it iterates over, until the budget is spent.
func (a *API) appendSamples(b []byte, it chunkenc.Iterator) ([]byte, error) {
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		switch vt {
		case chunkenc.ValFloat:
			b = appendFloat(b, it)
		case chunkenc.ValHistogram:
			t, h := it.AtHistogram(nil)
			b = appendNative(b, prompb.FromIntHistogram(t, h))
		case chunkenc.ValFloatHistogram:
			t, fh := it.AtFloatHistogram(nil)
			b = appendNative(b, prompb.FromFloatHistogram(t, fh))
		}
		if int64(len(b)) > a.cfg.MaxResponseBytes {
			return nil, a.overBudget()
		}
	}
	return b, it.Err()
}

func appendFloat(b []byte, it chunkenc.Iterator) []byte {
	t, v := it.At()
	const fixed = 1 + 8 + 1 // tag, value, tag
	b = protowire.AppendTag(b, fieldSamples, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(fixed+protowire.SizeVarint(uint64(t))))
	b = protowire.AppendFixed64(protowire.AppendTag(b, fieldValue, protowire.Fixed64Type), math.Float64bits(v))
	return protowire.AppendVarint(protowire.AppendTag(b, fieldTimestamp, protowire.VarintType), uint64(t))
}

func appendNative(b []byte, h prompb.Histogram) []byte {
	size := h.Size()
	b = protowire.AppendTag(b, fieldHistograms, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = slices.Grow(b, size)
	if _, err := h.MarshalToSizedBuffer(b[len(b) : len(b)+size]); err != nil {
		panic(err) // only a buffer that is too small makes it fail
	}
	return b[:len(b)+size]
}
