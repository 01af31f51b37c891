package proto_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// What the messages of the cases below are written with.

func msg(id int, fields ...wireField) wireField {
	return wireField{id: id, wire: wireLen, val: encode(fields...)}
}
func text(id int, s string) wireField { return wireField{id: id, wire: wireLen, val: []byte(s)} }
func num(id int, n uint64) wireField  { return wireField{id: id, wire: varint, num: n} }
func double(id int, f float64) wireField {
	return wireField{id: id, wire: i64, num: math.Float64bits(f)}
}
func label(name, value string) wireField   { return msg(1, text(1, name), text(2, value)) }
func sample(v float64, t uint64) wireField { return msg(2, double(1, v), num(2, t)) }
func raw(id int, b ...byte) wireField      { return wireField{id: id, wire: wireLen, val: b} }
func joined(fields ...[]byte) []byte       { return slices.Concat(fields...) }
func zigzag(v int64) uint64                { n, _ := binary.Uvarint(binary.AppendVarint(nil, v)); return n }

// symbols are a symbol table.
func symbols(words ...string) (out []wireField) {
	for _, w := range words {
		out = append(out, text(4, w))
	}
	return out
}

// v2 is a request with the symbols "", __name__, up, job, a.
func v2(series ...wireField) []byte {
	return encode(append(symbols("", "__name__", "up", "job", "a"), series...)...)
}

var (
	up    = []labels.Label{{Name: "__name__", Value: "up"}}
	upJob = []labels.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "a"}}
)

func one(s decodedSeries) decoded { return decoded{series: []decodedSeries{s}} }

func TestRequest(t *testing.T) {
	const malformed = "weir-request-malformed"
	for _, c := range []struct {
		name    string
		version proto.Version
		message []byte
		want    decoded
		refused string // the id of the error
	}{
		{name: "empty", version: proto.V1},
		{name: "one sample", version: proto.V1, message: encode(msg(1, label("__name__", "up"), sample(1, 1000))),
			want: one(decodedSeries{labels: up, floats: []proto.Float{{T: 1000, V: 1}}})},
		{name: "two series", version: proto.V1, message: encode(msg(1, label("__name__", "up")), msg(1, label("__name__", "up"), label("job", "a"))),
			want: decoded{series: []decodedSeries{{labels: up}, {labels: upJob}}}},
		{name: "series without anything", version: proto.V1, message: encode(msg(1)), want: one(decodedSeries{})},
		{name: "zero values are left out", version: proto.V1, message: encode(msg(1, msg(1), msg(2), msg(2, num(2, 5)), msg(2, double(1, 5)))),
			want: one(decodedSeries{labels: []labels.Label{{}}, floats: []proto.Float{{}, {T: 5}, {V: 5}}})},
		{name: "time before the value", version: proto.V1, message: encode(msg(1, msg(2, num(2, 5), double(1, 7)))),
			want: one(decodedSeries{floats: []proto.Float{{T: 5, V: 7}}})},
		{name: "said twice, the last counts", version: proto.V1,
			message: encode(msg(1, msg(1, text(1, "x"), text(1, "up"), text(2, "y"), text(2, "z")), msg(2, double(1, 1), num(2, 1), num(2, 2), double(1, 3)))),
			want:    one(decodedSeries{labels: []labels.Label{{Name: "up", Value: "z"}}, floats: []proto.Float{{T: 2, V: 3}}})},
		{name: "negative time", version: proto.V1, message: encode(msg(1, sample(1, math.MaxUint64))),
			want: one(decodedSeries{floats: []proto.Float{{T: -1, V: 1}}})},
		{name: "floats bit by bit", version: proto.V1,
			message: encode(msg(1, sample(math.Float64frombits(value.StaleNaN), 1), sample(math.Copysign(0, -1), 2), sample(math.Inf(-1), 3))),
			want: one(decodedSeries{floats: []proto.Float{
				{T: 1, V: math.Float64frombits(value.StaleNaN)}, {T: 2, V: math.Copysign(0, -1)}, {T: 3, V: math.Inf(-1)},
			}})},
		{name: "labels behind samples", version: proto.V1, message: encode(msg(1, sample(1, 1), label("__name__", "up"), sample(2, 2), label("job", "a"))),
			want: one(decodedSeries{labels: upJob, floats: []proto.Float{{T: 1, V: 1}, {T: 2, V: 2}}})},
		{name: "unknown field between labels", version: proto.V1, message: encode(msg(1, label("__name__", "up"), num(9, 1), label("job", "a"))),
			want: one(decodedSeries{labels: upJob})},
		{name: "unknown fields are skipped", version: proto.V1, message: encode(
			num(2, 7), text(4, "x"), wireField{id: 5, wire: i32, num: 1}, double(6, 1), num(1<<29-1, 1),
			msg(1, num(5, 1), msg(1, num(3, 1), text(1, "__name__"), text(2, "up")), text(6, "x"), msg(2, num(2, 1), double(4, 1))),
		), want: one(decodedSeries{labels: up, floats: []proto.Float{{T: 1}}})},
		{name: "field 3 of a sample is not known to version 1", version: proto.V1, message: encode(msg(1, msg(2, num(2, 1), num(3, 9)), msg(2, num(2, 1), text(3, "x")))),
			want: one(decodedSeries{floats: []proto.Float{{T: 1}, {T: 1}}})},
		{name: "field 17 of a histogram is not known to version 1", version: proto.V1, message: encode(msg(1, msg(4, num(15, 1), num(17, 9)), msg(4, text(17, "x")))),
			want: one(decodedSeries{histograms: []proto.Histogram{{T: 1, H: &histogram.Histogram{}}, {H: &histogram.Histogram{}}}})},
		{name: "label that is not a message", version: proto.V1, message: encode(msg(1, raw(1, 0x0a, 0x05, 'x'), sample(1, 1)), msg(1, label("__name__", "up"))),
			want: decoded{series: []decodedSeries{{reason: proto.LabelsMalformed, floats: []proto.Float{{T: 1, V: 1}}}, {labels: up}}}},
		{name: "label name of another type", version: proto.V1, message: encode(msg(1, msg(1, num(1, 5)))),
			want: one(decodedSeries{reason: proto.LabelsMalformed})},
		{name: "labels may be anything", version: proto.V1, message: encode(msg(1, label("\xff", "\x00"), label("", ""), label("a", "b"), label("a", "b"))),
			want: one(decodedSeries{labels: []labels.Label{{Name: "\xff", Value: "\x00"}, {}, {Name: "a", Value: "b"}, {Name: "a", Value: "b"}}})},
		{name: "version 2 read as version 1", version: proto.V1, message: v2(msg(5, raw(1, 1, 2), sample(1, 1)))},
		{name: "cut in a series", version: proto.V1, message: encode(msg(1, sample(1, 1)))[:5], refused: malformed},
		{name: "cut behind the tag", version: proto.V1, message: []byte{0x0a}, refused: malformed},
		{name: "cut in a sample", version: proto.V1, message: encode(msg(1, raw(2, 0x09, 1, 2, 3))), refused: malformed},
		{name: "sample reaches behind its series", version: proto.V1, message: joined(encode(raw(1, 0x12, 4)), encode(num(9, 1))), refused: malformed},
		{name: "series that is a number", version: proto.V1, message: encode(num(1, 7)), refused: malformed},
		{name: "label that is a number", version: proto.V1, message: encode(msg(1, num(1, 7))), refused: malformed},
		{name: "sample that is a number", version: proto.V1, message: encode(msg(1, num(2, 7))), refused: malformed},
		{name: "value that is a varint", version: proto.V1, message: encode(msg(1, msg(2, num(1, 7)))), refused: malformed},
		{name: "time that is a double", version: proto.V1, message: encode(msg(1, msg(2, double(2, 7)))), refused: malformed},
		{name: "time of more than 64 bits", version: proto.V1, message: encode(msg(1, raw(2, append([]byte{0x10}, bytes.Repeat([]byte{0xff}, 10)...)...))), refused: malformed},
		{name: "length above everything", version: proto.V1, message: binary.AppendUvarint([]byte{0x0a}, math.MaxUint64), refused: malformed},
		{name: "group", version: proto.V1, message: []byte{0x0b, 0x0c}, refused: malformed},
		{name: "field 0", version: proto.V1, message: []byte{0x00, 0x00}, refused: malformed},
		// Well-formed, but read by their first byte these would be missed: they
		// are refused as a whole rather than lost.
		{name: "series tag in two bytes", version: proto.V1, message: []byte{0x8a, 0x00, 0x00}, refused: malformed},
		{name: "label tag in two bytes", version: proto.V1, message: encode(raw(1, 0x8a, 0x00, 0x00)), refused: malformed},
		{name: "sample tag in two bytes", version: proto.V1, message: encode(raw(1, 0x92, 0x00, 0x00)), refused: malformed},
		{name: "metadata tag in two bytes", version: proto.V1, message: []byte{0x9a, 0x00, 0x00}, refused: malformed},

		{name: "empty", version: proto.V2},
		{name: "symbols only", version: proto.V2, message: v2()},
		{name: "one sample", version: proto.V2, message: v2(msg(5, raw(1, 1, 2), sample(1, 1000))),
			want: one(decodedSeries{labels: up, floats: []proto.Float{{T: 1000, V: 1}}})},
		{name: "start timestamp", version: proto.V2, message: v2(msg(5, raw(1, 1, 2), msg(2, double(1, 1), num(2, 1000), num(3, 900)), msg(2, num(3, 7)))),
			want: one(decodedSeries{labels: up, floats: []proto.Float{{T: 1000, ST: 900, V: 1}, {ST: 7}}})},
		{name: "series before the symbols", version: proto.V2, message: encode(append([]wireField{msg(5, raw(1, 1, 2))}, symbols("", "__name__", "up")...)...),
			want: one(decodedSeries{labels: up})},
		{name: "symbols on both sides of the series", version: proto.V2, message: encode(text(4, ""), text(4, "__name__"), msg(5, raw(1, 1, 2)), text(4, "up")),
			want: one(decodedSeries{labels: up})},
		{name: "unpacked references", version: proto.V2, message: v2(msg(5, num(1, 1), num(1, 2), num(1, 3), num(1, 4))),
			want: one(decodedSeries{labels: upJob})},
		{name: "references packed in two parts", version: proto.V2, message: v2(msg(5, raw(1, 1, 2, 3), raw(1, 4))),
			want: one(decodedSeries{labels: upJob})},
		{name: "references packed and not, and scattered", version: proto.V2, message: v2(msg(5, num(1, 1), sample(1, 1), raw(1, 2, 3), num(9, 1), num(1, 4), sample(2, 2))),
			want: one(decodedSeries{labels: upJob, floats: []proto.Float{{T: 1, V: 1}, {T: 2, V: 2}}})},
		{name: "scattered, twice", version: proto.V2, message: v2(msg(5, num(1, 1), num(1, 2)), msg(5, num(1, 1), num(1, 2), num(1, 3), num(1, 4))),
			want: decoded{series: []decodedSeries{{labels: up}, {labels: upJob}}}},
		{name: "reference of two bytes", version: proto.V2, message: encode(append(symbols(append(make([]string, 128), "up")...), msg(5, raw(1, 0x80, 1, 0x80, 1)))...),
			want: one(decodedSeries{labels: []labels.Label{{Name: "up", Value: "up"}}})},
		{name: "reference with more bytes than it needs", version: proto.V2, message: v2(msg(5, raw(1, 0x81, 0x00, 0x82, 0x80, 0x00))),
			want: one(decodedSeries{labels: up})},
		{name: "the same symbol twice", version: proto.V2, message: encode(append(symbols("", "a", "a"), msg(5, raw(1, 1, 2)))...),
			want: one(decodedSeries{labels: []labels.Label{{Name: "a", Value: "a"}}})},
		{name: "no labels", version: proto.V2, message: v2(msg(5, sample(1, 1))), want: one(decodedSeries{floats: []proto.Float{{T: 1, V: 1}}})},
		{name: "odd references", version: proto.V2, message: v2(msg(5, raw(1, 1, 2, 3), sample(1, 1)), msg(5, raw(1, 1, 2))),
			want: decoded{series: []decodedSeries{{reason: proto.SymbolInvalid, floats: []proto.Float{{T: 1, V: 1}}}, {labels: up}}}},
		{name: "name out of range", version: proto.V2, message: v2(msg(5, raw(1, 5, 1))), want: one(decodedSeries{reason: proto.SymbolInvalid})},
		{name: "value out of range", version: proto.V2, message: v2(msg(5, raw(1, 1, 5))), want: one(decodedSeries{reason: proto.SymbolInvalid})},
		{name: "reference of 64 bits", version: proto.V2, message: v2(msg(5, num(1, 1), num(1, math.MaxUint64))), want: one(decodedSeries{reason: proto.SymbolInvalid})},
		{name: "reference of 33 bits is not cut to 32", version: proto.V2, message: v2(msg(5, num(1, 1), num(1, 1<<32|2))), want: one(decodedSeries{reason: proto.SymbolInvalid})},
		{name: "references without symbols", version: proto.V2, message: encode(msg(5, raw(1, 0, 0))), want: one(decodedSeries{reason: proto.SymbolInvalid})},
		{name: "reserved field 6", version: proto.V2, message: v2(msg(5, raw(1, 1, 2), num(6, 1_700_000_000_000), sample(1, 1)), msg(5, text(6, "x"))),
			want: decoded{series: []decodedSeries{{labels: up, floats: []proto.Float{{T: 1, V: 1}}}, {}}}},
		{name: "unknown fields are skipped", version: proto.V2, message: v2(num(1, 1), num(2, 2), text(3, "x"), wireField{id: 6, wire: i32},
			msg(5, raw(1, 1, 2), double(7, 1), msg(2, num(2, 1), text(4, "x")), text(100, "x"))),
			want: one(decodedSeries{labels: up, floats: []proto.Float{{T: 1}}})},
		{name: "version 1 read as version 2", version: proto.V2, message: encode(msg(1, label("__name__", "up"), sample(1, 1)))},
		{name: "first symbol not empty", version: proto.V2, message: encode(symbols("__name__", "up")...), refused: malformed},
		{name: "symbol that is a number", version: proto.V2, message: encode(num(4, 7)), refused: malformed},
		{name: "series that is a number", version: proto.V2, message: encode(num(5, 7)), refused: malformed},
		{name: "series that is a number, behind another", version: proto.V2, message: v2(msg(5), num(5, 7)), refused: malformed},
		{name: "series that is a number, before another", version: proto.V2, message: v2(num(5, 7), msg(5)), refused: malformed},
		{name: "metadata that is a number", version: proto.V2, message: v2(msg(5, num(5, 7))), refused: malformed},
		{name: "references that are doubles", version: proto.V2, message: v2(msg(5, double(1, 7))), refused: malformed},
		{name: "reference cut by the end of its field", version: proto.V2, message: v2(msg(5, raw(1, 1, 0x82), num(9, 1))), refused: malformed},
		{name: "cut in the symbols", version: proto.V2, message: []byte{0x22, 5, 'a'}, refused: malformed},
		{name: "cut in a series", version: proto.V2, message: v2(raw(5, 0x12, 9)), refused: malformed},
		{name: "series tag in two bytes", version: proto.V2, message: []byte{0xaa, 0x00, 0x00}, refused: malformed},
		{name: "symbol tag in two bytes", version: proto.V2, message: []byte{0xa2, 0x00, 0x00}, refused: malformed},
		{name: "sample tag in two bytes", version: proto.V2, message: v2(raw(5, 0x92, 0x00, 0x00)), refused: malformed},
	} {
		t.Run("version="+c.version.String()+"/"+c.name, func(t *testing.T) {
			got, err := scan(c.version, c.message)
			if c.refused != "" {
				var e *proto.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, c.refused, e.ID)
				require.Equal(t, proto.KindBadData, e.Kind)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want.String(), got.String())
		})
	}
}

func TestHistogram(t *testing.T) {
	spans := []histogram.Span{{Offset: -2, Length: 1}, {Offset: 3, Length: 2}}
	packed := func(id int, vs ...int64) wireField {
		var b []byte
		for _, v := range vs {
			b = binary.AppendVarint(b, v)
		}
		return raw(id, b...)
	}
	doubles := func(id int, vs ...float64) wireField {
		var b []byte
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		return raw(id, b...)
	}
	span := func(id int, offset int64, length uint64) wireField {
		return msg(id, num(1, zigzag(offset)), num(2, length))
	}
	for _, c := range []struct {
		name    string
		fields  []wireField
		want    proto.Histogram
		refused bool
	}{
		{name: "nothing", want: proto.Histogram{H: &histogram.Histogram{}}},
		{
			name: "integer",
			fields: []wireField{
				num(1, 9), double(3, 1.5), num(4, zigzag(-4)), double(5, 0.25), num(6, 2),
				span(8, -2, 1), span(8, 3, 2), packed(9, 1, 0, -1), span(11, -2, 1), span(11, 3, 2), packed(12, 2, 1, -2),
				num(14, 2), num(15, 1000), num(17, 900),
			},
			want: proto.Histogram{T: 1000, ST: 900, H: &histogram.Histogram{
				CounterResetHint: histogram.NotCounterReset, Schema: -4, ZeroThreshold: 0.25, ZeroCount: 2, Count: 9, Sum: 1.5,
				NegativeSpans: spans, NegativeBuckets: []int64{1, 0, -1}, PositiveSpans: spans, PositiveBuckets: []int64{2, 1, -2},
			}},
		},
		{
			name: "float",
			fields: []wireField{
				double(2, 9.5), double(3, 1.5), num(4, zigzag(8)), double(5, 0.25), double(7, 2.5),
				span(8, -2, 1), span(8, 3, 2), doubles(10, 1, 1, 0), span(11, -2, 1), span(11, 3, 2), doubles(13, 2, 3, 1),
				num(14, 3), num(15, 1000), num(17, 900),
			},
			want: proto.Histogram{T: 1000, ST: 900, FH: &histogram.FloatHistogram{
				CounterResetHint: histogram.GaugeType, Schema: 8, ZeroThreshold: 0.25, ZeroCount: 2.5, Count: 9.5, Sum: 1.5,
				NegativeSpans: spans, NegativeBuckets: []float64{1, 1, 0}, PositiveSpans: spans, PositiveBuckets: []float64{2, 3, 1},
			}},
		},
		{
			name:   "custom buckets",
			fields: []wireField{num(1, 3), num(4, zigzag(-53)), span(11, 0, 2), packed(12, 1, 1), doubles(16, 0.5, 1)},
			want: proto.Histogram{H: &histogram.Histogram{
				Schema: histogram.CustomBucketsSchema, Count: 3, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}, CustomValues: []float64{0.5, 1},
			}},
		},
		{
			name:   "float with custom buckets",
			fields: []wireField{double(2, 3), num(4, zigzag(-53)), span(11, 0, 2), doubles(13, 1, 2), doubles(16, 0.5, 1)},
			want: proto.Histogram{FH: &histogram.FloatHistogram{
				Schema: histogram.CustomBucketsSchema, Count: 3, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{1, 2}, CustomValues: []float64{0.5, 1},
			}},
		},
		{
			name: "numbers not packed",
			fields: []wireField{
				num(12, zigzag(1)), num(12, zigzag(-1)), num(9, zigzag(math.MinInt64)), double(16, 1), double(16, 2),
				double(13, 7), double(10, 8), packed(12, 5), doubles(16, 3),
			},
			want: proto.Histogram{H: &histogram.Histogram{
				PositiveBuckets: []int64{1, -1, 5}, NegativeBuckets: []int64{math.MinInt64}, CustomValues: []float64{1, 2, 3},
			}},
		},
		{name: "float count of zero", fields: []wireField{double(2, 0)}, want: proto.Histogram{FH: &histogram.FloatHistogram{}}},
		{name: "integer count after a float count", fields: []wireField{double(2, 5), num(1, 3)}, want: proto.Histogram{H: &histogram.Histogram{Count: 3}}},
		{name: "float count after an integer count", fields: []wireField{num(1, 3), double(2, 5)}, want: proto.Histogram{FH: &histogram.FloatHistogram{Count: 5}}},
		{name: "integer zero count after a float one", fields: []wireField{double(7, 5), num(6, 3)}, want: proto.Histogram{H: &histogram.Histogram{ZeroCount: 3}}},
		{name: "float zero count after an integer one", fields: []wireField{double(2, 1), num(6, 3), double(7, 5)}, want: proto.Histogram{FH: &histogram.FloatHistogram{Count: 1, ZeroCount: 5}}},
		{name: "integer zero count in a float histogram, after a float one", fields: []wireField{double(2, 1), double(7, 5), num(6, 3)}, want: proto.Histogram{FH: &histogram.FloatHistogram{Count: 1}}},
		{name: "schema of 64 bits, cut to 32", fields: []wireField{num(4, 1<<32|zigzag(3))}, want: proto.Histogram{H: &histogram.Histogram{Schema: 3}}},
		{name: "span of 64 bits, cut to 32", fields: []wireField{msg(11, num(1, 1<<32|zigzag(-3)), num(2, 1<<32|2))}, want: proto.Histogram{H: &histogram.Histogram{PositiveSpans: []histogram.Span{{Offset: -3, Length: 2}}}}},
		{name: "zero count of the other type", fields: []wireField{num(1, 1), double(7, 5)}, want: proto.Histogram{H: &histogram.Histogram{Count: 1}}},
		{name: "counter reset", fields: []wireField{num(14, 1)}, want: proto.Histogram{H: &histogram.Histogram{CounterResetHint: histogram.CounterReset}}},
		{name: "hint that nobody defined", fields: []wireField{num(14, 4)}, want: proto.Histogram{H: &histogram.Histogram{}}},
		{name: "hint that cut to a byte would be defined", fields: []wireField{num(14, 257)}, want: proto.Histogram{H: &histogram.Histogram{}}},
		{name: "negative hint", fields: []wireField{num(14, math.MaxUint64)}, want: proto.Histogram{H: &histogram.Histogram{}}},
		{name: "empty span", fields: []wireField{msg(11), msg(8, num(3, 1))}, want: proto.Histogram{H: &histogram.Histogram{
			PositiveSpans: []histogram.Span{{}}, NegativeSpans: []histogram.Span{{}},
		}}},
		{name: "unknown field", fields: []wireField{text(18, "x"), num(1000, 1), num(1, 1)}, want: proto.Histogram{H: &histogram.Histogram{Count: 1}}},
		{name: "stale", fields: []wireField{double(3, math.Float64frombits(value.StaleNaN))}, want: proto.Histogram{H: &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}}},
		{name: "count that is a double", fields: []wireField{double(1, 1)}, refused: true},
		{name: "float count that is a varint", fields: []wireField{num(2, 1)}, refused: true},
		{name: "packed schema", fields: []wireField{raw(4, 1)}, refused: true},
		{name: "span that is a number", fields: []wireField{num(8, 1)}, refused: true},
		{name: "span cut", fields: []wireField{raw(8, 0x08)}, refused: true},
		{name: "span with an offset that is a double", fields: []wireField{msg(8, double(1, 1))}, refused: true},
		{name: "deltas that are doubles", fields: []wireField{double(12, 1)}, refused: true},
		{name: "deltas cut", fields: []wireField{raw(12, 0x80)}, refused: true},
		{name: "counts that are varints", fields: []wireField{num(13, 1)}, refused: true},
		{name: "counts cut", fields: []wireField{raw(13, 1, 2, 3)}, refused: true},
		{name: "custom values cut", fields: []wireField{raw(16, make([]byte, 9)...)}, refused: true},
	} {
		for v, field := range map[proto.Version]int{proto.V1: 4, proto.V2: 3} {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				series := map[proto.Version]int{proto.V1: 1, proto.V2: 5}[v]
				got, err := scan(v, encode(msg(series, msg(field, c.fields...))))
				if c.refused {
					require.Equal(t, proto.Malformed(), err)
					return
				}
				require.NoError(t, err)
				want := c.want
				if v == proto.V1 {
					want.ST = 0
				}
				require.Equal(t, one(decodedSeries{histograms: []proto.Histogram{want}}).String(), got.String())
			})
		}
	}
}

func TestExemplar(t *testing.T) {
	trace := labels.FromStrings("trace_id", "5f2c")
	long := strings.Repeat("ä", 128-len("trace_id"))
	for _, c := range []struct {
		name    string
		v1      []wireField
		symbols []string // behind the empty one
		v2      []wireField
		want    []exemplar.Exemplar
		refused bool // the exemplar
		broken  bool // the request
	}{
		{
			name: "complete",
			v1:   []wireField{label("trace_id", "5f2c"), double(2, 0.5), num(3, 1000)}, symbols: []string{"trace_id", "5f2c"},
			v2:   []wireField{raw(1, 1, 2), double(2, 0.5), num(3, 1000)},
			want: []exemplar.Exemplar{{Labels: trace, Value: 0.5, Ts: 1000, HasTs: true}},
		},
		{
			name: "labels last, references not packed",
			v1:   []wireField{num(3, 1000), double(2, 0.5), label("trace_id", "5f2c")}, symbols: []string{"trace_id", "5f2c"},
			v2:   []wireField{num(3, 1000), double(2, 0.5), num(1, 1), raw(1, 2)},
			want: []exemplar.Exemplar{{Labels: trace, Value: 0.5, Ts: 1000, HasTs: true}},
		},
		{name: "nothing", want: []exemplar.Exemplar{{HasTs: true}}},
		{
			name: "labels are sorted",
			v1:   []wireField{label("b", "1"), label("a", "2")}, symbols: []string{"b", "1", "a", "2"}, v2: []wireField{raw(1, 1, 2, 3, 4)},
			want: []exemplar.Exemplar{{Labels: labels.FromStrings("a", "2", "b", "1"), HasTs: true}},
		},
		{
			name: "128 characters",
			v1:   []wireField{label("trace_id", long)}, symbols: []string{"trace_id", long}, v2: []wireField{raw(1, 1, 2)},
			want: []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", long), HasTs: true}},
		},
		{name: "129 characters", v1: []wireField{label("trace_id", long+"x")}, symbols: []string{"trace_id", long + "x"}, v2: []wireField{raw(1, 1, 2)}, refused: true},
		{name: "no label name", v1: []wireField{label("", "x")}, symbols: []string{"x"}, v2: []wireField{raw(1, 0, 1)}, refused: true},
		{name: "label name twice", v1: []wireField{label("a", "x"), label("b", "x"), label("a", "y")}, symbols: []string{"a", "b"}, v2: []wireField{raw(1, 1, 1, 2, 1, 1, 2)}, refused: true},
		{name: "name not UTF-8", v1: []wireField{label("\xff", "x")}, symbols: []string{"\xff"}, v2: []wireField{raw(1, 1, 0)}, refused: true},
		{name: "value not UTF-8", v1: []wireField{label("a", "\xff")}, symbols: []string{"a", "\xff"}, v2: []wireField{raw(1, 1, 2)}, refused: true},
		{name: "odd references", v2: []wireField{raw(1, 0)}, want: []exemplar.Exemplar{{HasTs: true}}, refused: true},
		{name: "reference out of range", v2: []wireField{raw(1, 0, 9)}, want: []exemplar.Exemplar{{HasTs: true}}, refused: true},
		{name: "value of another type", v1: []wireField{num(2, 1)}, v2: []wireField{num(2, 1)}, broken: true},
		{name: "time of another type", v1: []wireField{double(3, 1)}, v2: []wireField{double(3, 1)}, broken: true},
		{name: "labels of another type", v1: []wireField{double(1, 1)}, v2: []wireField{double(1, 1)}, broken: true},
		{name: "cut", v1: []wireField{raw(3)}, v2: []wireField{raw(3)}, broken: true},
	} {
		for v, fields := range map[proto.Version][]wireField{proto.V1: c.v1, proto.V2: c.v2} {
			t.Run("version="+v.String()+"/"+c.name, func(t *testing.T) {
				message := encode(msg(1, msg(3, fields...)))
				if v == proto.V2 {
					message = encode(append(symbols(append([]string{""}, c.symbols...)...), msg(5, msg(4, fields...)))...)
				}
				got, err := scan(v, message)
				if c.broken {
					require.Equal(t, proto.Malformed(), err)
					return
				}
				require.NoError(t, err)
				want := decodedSeries{exemplars: c.want}
				if c.refused && fields != nil {
					want = decodedSeries{refused: 1}
				}
				require.Equal(t, one(want).String(), got.String())
			})
		}
	}
}

func TestMetadataV1(t *testing.T) {
	md := func(typ model.MetricType, family, help, unit string) proto.Metadata {
		return proto.Metadata{Family: family, Metadata: metadata.Metadata{Type: typ, Help: help, Unit: unit}}
	}
	for _, c := range []struct {
		name    string
		message []byte
		want    []proto.Metadata
		refused bool
	}{
		{name: "complete", message: encode(msg(3, num(1, 1), text(2, "http_requests"), text(4, "Requests."), text(5, "requests"))),
			want: []proto.Metadata{md(model.MetricTypeCounter, "http_requests", "Requests.", "requests")}},
		{name: "every type", message: encode(msg(3), msg(3, num(1, 2)), msg(3, num(1, 3)), msg(3, num(1, 4)), msg(3, num(1, 5)), msg(3, num(1, 6)), msg(3, num(1, 7))),
			want: []proto.Metadata{
				md(model.MetricTypeUnknown, "", "", ""), md(model.MetricTypeGauge, "", "", ""), md(model.MetricTypeHistogram, "", "", ""),
				md(model.MetricTypeGaugeHistogram, "", "", ""), md(model.MetricTypeSummary, "", "", ""), md(model.MetricTypeInfo, "", "", ""),
				md(model.MetricTypeStateset, "", "", ""),
			}},
		{name: "type that nobody defined", message: encode(msg(3, num(1, 8), text(2, "f")), msg(3, num(1, math.MaxUint64))),
			want: []proto.Metadata{md(model.MetricTypeUnknown, "f", "", ""), md(model.MetricTypeUnknown, "", "", "")}},
		{name: "around the series", message: encode(msg(3, text(2, "a")), msg(1, label("__name__", "up")), msg(3, text(2, "b"))),
			want: []proto.Metadata{md(model.MetricTypeUnknown, "a", "", ""), md(model.MetricTypeUnknown, "b", "", "")}},
		{name: "the family as it is written", message: encode(msg(3, num(1, 3), text(2, "x_bucket"))),
			want: []proto.Metadata{md(model.MetricTypeHistogram, "x_bucket", "", "")}},
		{name: "unknown fields", message: encode(msg(3, text(3, "x"), num(6, 1), text(2, "f"))), want: []proto.Metadata{md(model.MetricTypeUnknown, "f", "", "")}},
		{name: "type that is text", message: encode(msg(3, text(1, "x"))), refused: true},
		{name: "family that is a number", message: encode(msg(3, num(2, 1))), refused: true},
		{name: "help that is a number", message: encode(msg(3, num(4, 1))), refused: true},
		{name: "cut", message: encode(raw(3, 0x12, 5)), refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := scan(proto.V1, c.message)
			if c.refused {
				require.Equal(t, proto.Malformed(), err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got.metadata)
		})
	}
}

// TestMetadataV2 reads what a series says of its family.
func TestMetadataV2(t *testing.T) {
	request := func(fields ...wireField) []byte {
		return encode(append(symbols("", "Help.", "seconds"), msg(5, fields...))...)
	}
	for _, c := range []struct {
		name    string
		message []byte
		metric  string
		want    *proto.Metadata // nil: it says nothing
	}{
		{name: "complete", message: request(msg(5, num(1, 1), num(3, 1), num(4, 2))), metric: "x_total",
			want: &proto.Metadata{Family: "x_total", Metadata: metadata.Metadata{Type: model.MetricTypeCounter, Help: "Help.", Unit: "seconds"}}},
		{name: "type only", message: request(msg(5, num(1, 2))), metric: "x",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeGauge}}},
		{name: "help only", message: request(msg(5, num(3, 1))), metric: "x",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeUnknown, Help: "Help."}}},
		{name: "histogram buckets", message: request(msg(5, num(1, 3))), metric: "x_bucket",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeHistogram}}},
		{name: "gauge histogram", message: request(msg(5, num(1, 4))), metric: "x_gcount",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeGaugeHistogram}}},
		{name: "summary sum", message: request(msg(5, num(1, 5))), metric: "x_sum",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeSummary}}},
		{name: "summary quantile", message: request(msg(5, num(1, 5))), metric: "x_bucket",
			want: &proto.Metadata{Family: "x_bucket", Metadata: metadata.Metadata{Type: model.MetricTypeSummary}}},
		{name: "counter that is called like a part of a histogram", message: request(msg(5, num(1, 1))), metric: "x_count",
			want: &proto.Metadata{Family: "x_count", Metadata: metadata.Metadata{Type: model.MetricTypeCounter}}},
		{name: "nothing in front of the suffix", message: request(msg(5, num(1, 3))), metric: "_sum",
			want: &proto.Metadata{Family: "_sum", Metadata: metadata.Metadata{Type: model.MetricTypeHistogram}}},
		{name: "one suffix only", message: request(msg(5, num(1, 3))), metric: "x_count_bucket",
			want: &proto.Metadata{Family: "x_count", Metadata: metadata.Metadata{Type: model.MetricTypeHistogram}}},
		{name: "type that nobody defined", message: request(msg(5, num(1, 8))), metric: "x",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeUnknown}}},
		{name: "unknown fields", message: request(msg(5, num(2, 1), text(6, "x"), num(1, 1))), metric: "x",
			want: &proto.Metadata{Family: "x", Metadata: metadata.Metadata{Type: model.MetricTypeCounter}}},
		{name: "none", message: request()},
		{name: "empty", message: request(msg(5))},
		{name: "zeros", message: request(msg(5, num(1, 0), num(3, 0), num(4, 0)))},
		// The samples of such a series are good, so it is not refused for this.
		{name: "help out of range", message: request(msg(5, num(1, 1), num(3, 3)))},
		{name: "unit out of range", message: request(msg(5, num(1, 1), num(4, 1<<40)))},
		{name: "not a message", message: request(raw(5, 0x08))},
		{name: "no symbols", message: encode(msg(5, msg(5, num(1, 1))))},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				r proto.Request
				s proto.Series
			)
			require.NoError(t, r.Reset(proto.V2, c.message, testSeed, maxSymbols))
			more, err := r.Next(&s)
			require.NoError(t, err)
			require.True(t, more)
			if c.want == nil {
				require.Zero(t, r.MetadataHash(&s))
				return
			}
			require.NotZero(t, r.MetadataHash(&s))
			require.Equal(t, *c.want, r.Metadata(&s, c.metric))
		})
	}
}

// TestMetadataHash: the hash changes when what is said changes, and only then.
func TestMetadataHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type said struct {
			typ        uint64
			help, unit string
		}
		statement := rapid.Custom(func(t *rapid.T) said {
			words := rapid.SampledFrom([]string{"", "a", "b", "ab"})
			return said{rapid.Uint64Range(0, 7).Draw(t, "type"), words.Draw(t, "help"), words.Draw(t, "unit")}
		})
		hash := func(s said) uint32 {
			table := []string{""}
			symbol := func(word string) uint64 {
				if word == "" {
					return 0
				}
				table = append(table, rapid.StringN(0, 3, 3).Draw(t, "of no use"), word)
				return uint64(len(table) - 1)
			}
			md := msg(5, num(1, s.typ), num(3, symbol(s.help)), num(4, symbol(s.unit)))
			var (
				r      proto.Request
				series proto.Series
			)
			require.NoError(t, r.Reset(proto.V2, encode(append(symbols(table...), msg(5, md))...), testSeed, maxSymbols))
			_, err := r.Next(&series)
			require.NoError(t, err)
			return r.MetadataHash(&series)
		}
		a, b := statement.Draw(t, "a"), statement.Draw(t, "b")
		require.Equal(t, a == b, hash(a) == hash(b), "%+v %+v", a, b)
		require.Equal(t, a == said{}, hash(a) == 0)
	})
}

// TestKeys: equal keys if and only if the label bytes are equal, whatever the
// symbol table, and whatever else is in the request.
func TestKeys(t *testing.T) {
	few := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) labels.Label {
		words := rapid.SampledFrom([]string{"", "a", "b", "ab", "ba"})
		return labels.Label{Name: words.Draw(t, "name"), Value: words.Draw(t, "value")}
	}), 0, 4)
	for _, v := range []proto.Version{proto.V1, proto.V2} {
		t.Run("version="+v.String(), rapid.MakeCheck(func(t *rapid.T) {
			a, b := few.Draw(t, "a"), few.Draw(t, "b")
			if rapid.Bool().Draw(t, "the same") {
				b = slices.Clone(a)
			}
			if rapid.Bool().Draw(t, "in another order") {
				b = rapid.Permutation(a).Draw(t, "order")
			}
			x, y := keyOf(t, v, a, testSeed), keyOf(t, v, b, testSeed)
			require.Equal(t, slices.Equal(a, b), x.Lo == y.Lo, "%v %v", a, b)
			require.Equal(t, slices.Equal(a, b), x.Hi == y.Hi, "%v %v", a, b)
			if len(a) > 0 {
				require.NotEqual(t, x, keyOf(t, v, a, testSeed+1), "the seed matters")
			}
		}))
	}
}

// keyOf is the key of a series that lies in a request among random others.
func keyOf(t *rapid.T, v proto.Version, ls []labels.Label, seed uint64) proto.Hash {
	if v == proto.V1 {
		var fields []wireField
		for _, l := range ls {
			fields = append(fields, label(l.Name, l.Value))
		}
		if rapid.Bool().Draw(t, "sample") {
			fields = append(fields, sample(1, 1))
		}
		return firstKey(t, v, encode(msg(1, fields...)), seed)
	}
	table := []string{""}
	var refs []wireField
	symbol := func(s string) uint64 {
		for range upTo(t, 130, "symbols of no use") {
			table = append(table, "x")
		}
		table = append(table, s)
		return uint64(len(table) - 1)
	}
	for _, l := range ls {
		refs = append(refs, num(1, symbol(l.Name)), num(1, symbol(l.Value)))
	}
	if rapid.Bool().Draw(t, "packed") {
		var b []byte
		for _, f := range refs {
			b = binary.AppendUvarint(b, f.num)
		}
		refs = []wireField{raw(1, b...)}
	}
	return firstKey(t, v, encode(append(symbols(table...), msg(5, refs...))...), seed)
}

func firstKey(t require.TestingT, v proto.Version, message []byte, seed uint64) proto.Hash {
	var (
		r proto.Request
		s proto.Series
	)
	require.NoError(t, r.Reset(v, message, seed, maxSymbols))
	more, err := r.Next(&s)
	require.NoError(t, err)
	require.True(t, more)
	return s.Key
}

// TestManyKeys looks for collisions among label sets that differ in little.
func TestManyKeys(t *testing.T) {
	const n = 20_000
	for _, v := range []proto.Version{proto.V1, proto.V2} {
		t.Run("version="+v.String(), func(t *testing.T) {
			var message []byte
			if v == proto.V1 {
				m := kubeV1(n)
				message, _ = m.Marshal()
			} else {
				m := kubeV2(n)
				message, _ = m.Marshal()
			}
			d, err := scan(v, message)
			require.NoError(t, err)
			keys, low, high := map[proto.Hash]bool{}, map[uint64]bool{}, map[uint64]bool{}
			for _, s := range d.series {
				keys[s.key], low[s.key.Lo], high[s.key.Hi] = true, true, true
			}
			require.Len(t, keys, n)
			require.Len(t, low, n, "each half is good for itself")
			require.Len(t, high, n)
		})
	}
}

func TestIdentity(t *testing.T) {
	id := func(seed uint64, pairs ...string) proto.Hash {
		var ls []labels.Label
		for i := 0; i < len(pairs); i += 2 {
			ls = append(ls, labels.Label{Name: pairs[i], Value: pairs[i+1]})
		}
		h, buf := proto.Identity(ls, seed, nil)
		again, _ := proto.Identity(ls, seed, append(buf, "what was left there"...))
		require.Equal(t, h, again)
		return h
	}
	seen := map[proto.Hash][]string{}
	for _, ls := range [][]string{
		{}, {"a", "b"}, {"ab", "c"}, {"a", "bc"}, {"a", "b", "c", "d"}, {"a", "b\x01c\x01d"}, {"a", ""}, {"", "a"},
		{"__name__", "up"}, {"__name__", "up", "job", "a"}, {strings.Repeat("x", 128), "1"}, {"1", strings.Repeat("x", 128)},
	} {
		h := id(1, ls...)
		require.NotContains(t, seen, h, "%q", ls)
		seen[h] = ls
		require.NotEqual(t, h, id(2, ls...))
	}
	require.Equal(t, id(proto.TenantSeed(7, "a"), "x", "y"), id(proto.TenantSeed(7, "a"), "x", "y"))
	require.NotEqual(t, proto.TenantSeed(7, "a"), proto.TenantSeed(7, "b"))
	require.NotEqual(t, proto.TenantSeed(7, "a"), proto.TenantSeed(8, "a"))
}

func TestMaxSymbols(t *testing.T) {
	var r proto.Request
	message := encode(symbols("", "a", "b")...)
	require.NoError(t, r.Reset(proto.V2, message, testSeed, 3))
	err := r.Reset(proto.V2, message, testSeed, 2)
	var e *proto.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, proto.KindTooLarge, e.Kind)
	require.Equal(t, "weir-too-many-symbols", e.ID)
	require.Contains(t, e.Msg, "max_symbols_per_request")
	require.NoError(t, r.Reset(proto.V1, message, testSeed, 2), "version 1 has none")
}

// TestCut cuts realistic requests everywhere: what is left is read or refused,
// and never read beyond.
func TestCut(t *testing.T) {
	for v, seeds := range map[proto.Version][][]byte{proto.V1: seedsV1(t), proto.V2: seedsV2(t)} {
		for _, message := range seeds {
			for n := range message {
				got, err := scan(v, slices.Clip(message[:n]))
				if err == nil {
					require.LessOrEqual(t, len(got.series), 3)
				}
			}
		}
	}
}

// TestAppendLabelsAppends leaves what is there before.
func TestAppendLabelsAppends(t *testing.T) {
	var (
		r proto.Request
		s proto.Series
	)
	require.NoError(t, r.Reset(proto.V1, encode(msg(1, label("a", "b"))), testSeed, maxSymbols))
	_, err := r.Next(&s)
	require.NoError(t, err)
	ls, reason := r.AppendLabels([]labels.Label{{Name: "x", Value: "y"}}, &s)
	require.Equal(t, proto.OK, reason)
	require.Equal(t, []labels.Label{{Name: "x", Value: "y"}, {Name: "a", Value: "b"}}, ls)
}

// TestAppendSamplesAppends puts the samples of two series behind each other, and
// refused exemplars under the right one.
func TestAppendSamplesAppends(t *testing.T) {
	message := encode(
		msg(1, label("a", "1"), sample(1, 1), msg(4, num(1, 1)), msg(3, double(2, 1))),
		msg(1, label("a", "2"), sample(2, 2), msg(4, num(1, 2)), msg(3, label("", "x"), num(3, 7)), msg(3, double(2, 2))),
	)
	var (
		r   proto.Request
		s   proto.Series
		f   proto.Frame
		rej proto.Rejections
	)
	require.NoError(t, r.Reset(proto.V1, message, testSeed, maxSymbols))
	for i := range uint32(2) {
		_, err := r.Next(&s)
		require.NoError(t, err)
		require.NoError(t, r.AppendSamples(&f, &s, i, &rej))
	}
	require.Equal(t, []proto.Float{{T: 1, V: 1}, {T: 2, V: 2}}, f.Floats)
	require.Len(t, f.Histograms, 2)
	require.Equal(t, []exemplar.Exemplar{{Value: 1, HasTs: true}, {Value: 2, HasTs: true}}, f.Exemplars)
	require.Equal(t, 1, rej.Total())
	require.Equal(t, proto.ExemplarInvalid, rej.Examples[0].Reason)
	require.Equal(t, uint32(1), rej.Examples[0].Series)
	require.Equal(t, int64(7), rej.Examples[0].T)
}
