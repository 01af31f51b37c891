package proto

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// Builder writes a remote-write 2.0 message of series with one sample each, for
// protocols that are translated into it. The zero value is not ready: Reset it.
type Builder struct {
	series  []byte // the fields of the message but the symbols
	table   []byte // the symbols
	symbols map[string]uint32

	one, inner, refs []byte // scratch
}

// BuilderSeries is what Builder.Add writes: Histogram, or Float when that is nil.
type BuilderSeries struct {
	Labels    labels.Labels
	Float     Float
	Histogram *Histogram
	Exemplars []exemplar.Exemplar // without a time of their own they get the sample's
	Metadata  metadata.Metadata
}

// Reset empties b, which writes into buf from now on.
func (b *Builder) Reset(buf []byte) {
	b.series, b.table = buf[:0], append(b.table[:0], tag(4, wireBytes), 0)
	b.symbols = map[string]uint32{"": 0}
}

// Len is where the next series will begin, for Truncate.
func (b *Builder) Len() int { return len(b.series) }

// Truncate drops the series from n on.
func (b *Builder) Truncate(n int) { b.series = b.series[:n] }

// Message returns the message. It lies in the buffer given to Reset if that was
// large enough.
func (b *Builder) Message() []byte { return append(b.series, b.table...) }

// Add writes a series.
func (b *Builder) Add(s *BuilderSeries) {
	out := b.one[:0]
	b.refs = b.refs[:0]
	s.Labels.Range(func(l labels.Label) {
		b.refs = appendUvarint(b.refs, uint64(b.symbol(l.Name)))
		b.refs = appendUvarint(b.refs, uint64(b.symbol(l.Value)))
	})
	out = appendBytes(out, 1, b.refs)
	t := s.Float.T
	if h := s.Histogram; h != nil {
		t = h.T
		b.inner = appendHistogram(b.inner[:0], h)
		out = appendBytes(out, 3, b.inner)
	} else {
		in := appendDouble(b.inner[:0], 1, s.Float.V)
		in = appendInt(in, 2, uint64(s.Float.T))
		b.inner = appendInt(in, 3, uint64(s.Float.ST))
		out = appendBytes(out, 2, b.inner)
	}
	for i := range s.Exemplars {
		out = b.appendExemplar(out, &s.Exemplars[i], t)
	}
	in := appendInt(b.inner[:0], 1, metricTypeNumber(s.Metadata.Type))
	in = appendInt(in, 3, uint64(b.symbol(s.Metadata.Help)))
	b.inner = appendInt(in, 4, uint64(b.symbol(s.Metadata.Unit)))
	b.one = appendBytes(out, 5, b.inner)
	b.series = appendBytes(b.series, 5, b.one)
}

// symbol returns the reference of s.
func (b *Builder) symbol(s string) uint32 {
	ref, ok := b.symbols[s]
	if !ok {
		ref = uint32(len(b.symbols))
		b.symbols[s] = ref
		b.table = append(b.table, tag(4, wireBytes))
		b.table = append(appendUvarint(b.table, uint64(len(s))), s...)
	}
	return ref
}

func (b *Builder) appendExemplar(out []byte, e *exemplar.Exemplar, t int64) []byte {
	b.refs = b.refs[:0]
	e.Labels.Range(func(l labels.Label) {
		b.refs = appendUvarint(b.refs, uint64(b.symbol(l.Name)))
		b.refs = appendUvarint(b.refs, uint64(b.symbol(l.Value)))
	})
	if e.HasTs {
		t = e.Ts
	}
	in := appendBytes(b.inner[:0], 1, b.refs)
	in = appendDouble(in, 2, e.Value)
	b.inner = appendInt(in, 3, uint64(t))
	return appendBytes(out, 4, b.inner)
}

// appendHistogram writes the fields of a Histogram message; see histogramWire.
func appendHistogram(out []byte, h *Histogram) []byte {
	if h.H != nil {
		out = append(out, tag(1, wireVarint)) // also when it is 0: it says that counts are integers
		out = appendUvarint(out, h.H.Count)
		out = appendDouble(out, 3, h.H.Sum)
		out = appendInt(out, 4, unzigzag(int64(h.H.Schema)))
		out = appendDouble(out, 5, h.H.ZeroThreshold)
		out = appendInt(out, 6, h.H.ZeroCount)
		out = appendSpans(out, 8, h.H.NegativeSpans)
		out = appendDeltaField(out, 9, h.H.NegativeBuckets)
		out = appendSpans(out, 11, h.H.PositiveSpans)
		out = appendDeltaField(out, 12, h.H.PositiveBuckets)
		out = appendInt(out, 14, uint64(h.H.CounterResetHint))
		out = appendDoubleField(out, 16, h.H.CustomValues)
	} else {
		out = appendDouble(out, 2, h.FH.Count)
		out = appendDouble(out, 3, h.FH.Sum)
		out = appendInt(out, 4, unzigzag(int64(h.FH.Schema)))
		out = appendDouble(out, 5, h.FH.ZeroThreshold)
		out = appendDouble(out, 7, h.FH.ZeroCount)
		out = appendSpans(out, 8, h.FH.NegativeSpans)
		out = appendDoubleField(out, 10, h.FH.NegativeBuckets)
		out = appendSpans(out, 11, h.FH.PositiveSpans)
		out = appendDoubleField(out, 13, h.FH.PositiveBuckets)
		out = appendInt(out, 14, uint64(h.FH.CounterResetHint))
		out = appendDoubleField(out, 16, h.FH.CustomValues)
	}
	out = appendInt(out, 15, uint64(h.T))
	return appendInt(out, 17, uint64(h.ST))
}

func appendSpans(out []byte, id int, spans []histogram.Span) []byte {
	var one [24]byte
	for _, s := range spans {
		in := appendInt(one[:0], 1, unzigzag(int64(s.Offset)))
		out = appendBytes(out, id, appendInt(in, 2, uint64(s.Length)))
	}
	return out
}

// appendDeltaField and appendDoubleField write one field for each number: it is
// as valid as packing them, needs no second buffer, and is read by us alone.
func appendDeltaField(out []byte, id int, deltas []int64) []byte {
	for _, d := range deltas {
		out = appendUvarint(appendTag(out, id, wireVarint), unzigzag(d))
	}
	return out
}

func appendDoubleField(out []byte, id int, values []float64) []byte {
	for _, v := range values {
		out = appendDouble(out, id, v)
	}
	return out
}

func appendTag(out []byte, id, wire int) []byte { return appendUvarint(out, uint64(id<<3|wire)) }

func appendBytes(out []byte, id int, b []byte) []byte {
	out = appendUvarint(appendTag(out, id, wireBytes), uint64(len(b)))
	return append(out, b...)
}

func appendDouble(out []byte, id int, v float64) []byte {
	return binary.LittleEndian.AppendUint64(appendTag(out, id, wireI64), math.Float64bits(v))
}

// appendInt writes a number that is not 0, which is what a missing one is read
// as.
func appendInt(out []byte, id int, v uint64) []byte {
	if v == 0 {
		return out
	}
	return appendUvarint(appendTag(out, id, wireVarint), v)
}

// unzigzag is the inverse of zigzag.
func unzigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

func metricTypeNumber(t model.MetricType) uint64 {
	for i, known := range metricTypes {
		if known == t {
			return uint64(i)
		}
	}
	return 0
}
