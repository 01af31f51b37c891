package proto_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

var (
	someString = rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "b", "__name__", "up", "job", "instance", "trace_id", "größe", "\xff\xfe"}),
		rapid.StringN(0, 6, 12),
		rapid.SampledFrom([]string{string(make([]byte, 127)), string(make([]byte, 128)), string(make([]byte, 300))}),
	)
	someFloat = rapid.OneOf(
		rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(value.StaleNaN), 5e-324, math.MaxFloat64}),
		rapid.Custom(func(t *rapid.T) float64 { return math.Float64frombits(rapid.Uint64().Draw(t, "bits")) }),
	)
	someTime = rapid.OneOf(
		rapid.SampledFrom([]int64{0, 1, -1, 127, 128, 1_700_000_000_000, math.MaxInt64, math.MinInt64}),
		rapid.Int64(),
	)
	someLabels = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) labels.Label {
		return labels.Label{Name: someString.Draw(t, "name"), Value: someString.Draw(t, "value")}
	}), 0, 5)
	// The labels of an exemplar have at most 128 characters.
	exemplarLabels = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) labels.Label {
		return labels.Label{Name: rapid.StringN(0, 4, 8).Draw(t, "name"), Value: rapid.StringN(0, 8, 16).Draw(t, "value")}
	}), 0, 4)
	someSpans = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) histogram.Span {
		return histogram.Span{Offset: rapid.Int32().Draw(t, "offset"), Length: rapid.Uint32().Draw(t, "length")}
	}), 0, 3)
	someFloats = rapid.SliceOfN(someFloat, 0, 4)
	someDeltas = rapid.SliceOfN(rapid.Int64(), 0, 4)
)

// someHistogram need not be a valid one: the scanner does not mind.
var someHistogram = rapid.Custom(func(t *rapid.T) *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(rapid.IntRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.Int32().Draw(t, "schema"),
		ZeroThreshold:    someFloat.Draw(t, "zero threshold"),
		ZeroCount:        rapid.Uint64().Draw(t, "zero count"),
		Count:            rapid.Uint64().Draw(t, "count"),
		Sum:              someFloat.Draw(t, "sum"),
		PositiveSpans:    someSpans.Draw(t, "positive spans"),
		NegativeSpans:    someSpans.Draw(t, "negative spans"),
		PositiveBuckets:  someDeltas.Draw(t, "positive deltas"),
		NegativeBuckets:  someDeltas.Draw(t, "negative deltas"),
		CustomValues:     someFloats.Draw(t, "custom values"),
	}
})

var someFloatHistogram = rapid.Custom(func(t *rapid.T) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(rapid.IntRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.Int32().Draw(t, "schema"),
		ZeroThreshold:    someFloat.Draw(t, "zero threshold"),
		ZeroCount:        someFloat.Draw(t, "zero count"),
		Count:            someFloat.Draw(t, "count"),
		Sum:              someFloat.Draw(t, "sum"),
		PositiveSpans:    someSpans.Draw(t, "positive spans"),
		NegativeSpans:    someSpans.Draw(t, "negative spans"),
		PositiveBuckets:  someFloats.Draw(t, "positive counts"),
		NegativeBuckets:  someFloats.Draw(t, "negative counts"),
		CustomValues:     someFloats.Draw(t, "custom values"),
	}
})

func upTo(t *rapid.T, n int, what string) int { return rapid.IntRange(0, n).Draw(t, what) }

var someV1 = rapid.Custom(func(t *rapid.T) *prompb.WriteRequest {
	m := &prompb.WriteRequest{}
	for range upTo(t, 4, "series") {
		var s prompb.TimeSeries
		for _, l := range someLabels.Draw(t, "labels") {
			s.Labels = append(s.Labels, prompb.Label{Name: l.Name, Value: l.Value})
		}
		for range upTo(t, 3, "samples") {
			s.Samples = append(s.Samples, prompb.Sample{Value: someFloat.Draw(t, "value"), Timestamp: someTime.Draw(t, "time")})
		}
		for range upTo(t, 2, "histograms") {
			if rapid.Bool().Draw(t, "float") {
				s.Histograms = append(s.Histograms, prompb.FromFloatHistogram(someTime.Draw(t, "time"), someFloatHistogram.Draw(t, "histogram")))
			} else {
				s.Histograms = append(s.Histograms, prompb.FromIntHistogram(someTime.Draw(t, "time"), someHistogram.Draw(t, "histogram")))
			}
		}
		for range upTo(t, 2, "exemplars") {
			e := prompb.Exemplar{Value: someFloat.Draw(t, "value"), Timestamp: someTime.Draw(t, "time")}
			for _, l := range exemplarLabels.Draw(t, "labels") {
				e.Labels = append(e.Labels, prompb.Label{Name: l.Name, Value: l.Value})
			}
			s.Exemplars = append(s.Exemplars, e)
		}
		m.Timeseries = append(m.Timeseries, s)
	}
	for range upTo(t, 2, "metadata") {
		m.Metadata = append(m.Metadata, prompb.MetricMetadata{
			Type:             prompb.MetricMetadata_MetricType(rapid.IntRange(0, 9).Draw(t, "type")),
			MetricFamilyName: someString.Draw(t, "family"), Help: someString.Draw(t, "help"), Unit: someString.Draw(t, "unit"),
		})
	}
	return m
})

var someV2 = rapid.Custom(func(t *rapid.T) *writev2.Request {
	m := &writev2.Request{}
	symbols := writev2.NewSymbolTable()
	for range upTo(t, 200, "symbols of no use") {
		symbols.Symbolize(rapid.StringN(0, 6, 6).Draw(t, "symbol"))
	}
	refs := func(ls []labels.Label) (out []uint32) {
		for _, l := range ls {
			out = append(out, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		if rapid.IntRange(0, 30).Draw(t, "spoil the references") == 0 {
			out = append(out, rapid.Uint32().Draw(t, "reference"))
		}
		return out
	}
	for range upTo(t, 4, "series") {
		var s writev2.TimeSeries
		s.LabelsRefs = refs(someLabels.Draw(t, "labels"))
		for range upTo(t, 3, "samples") {
			s.Samples = append(s.Samples, writev2.Sample{
				Value: someFloat.Draw(t, "value"), Timestamp: someTime.Draw(t, "time"), StartTimestamp: someTime.Draw(t, "start"),
			})
		}
		for range upTo(t, 2, "histograms") {
			if rapid.Bool().Draw(t, "float") {
				s.Histograms = append(s.Histograms, writev2.FromFloatHistogram(someTime.Draw(t, "start"), someTime.Draw(t, "time"), someFloatHistogram.Draw(t, "histogram")))
			} else {
				s.Histograms = append(s.Histograms, writev2.FromIntHistogram(someTime.Draw(t, "start"), someTime.Draw(t, "time"), someHistogram.Draw(t, "histogram")))
			}
		}
		for range upTo(t, 2, "exemplars") {
			s.Exemplars = append(s.Exemplars, writev2.Exemplar{
				LabelsRefs: refs(exemplarLabels.Draw(t, "labels")), Value: someFloat.Draw(t, "value"), Timestamp: someTime.Draw(t, "time"),
			})
		}
		if rapid.Bool().Draw(t, "says metadata") {
			s.Metadata = writev2.Metadata{
				Type:    writev2.Metadata_MetricType(rapid.IntRange(0, 9).Draw(t, "type")),
				HelpRef: symbols.Symbolize(someString.Draw(t, "help")), UnitRef: symbols.Symbolize(someString.Draw(t, "unit")),
			}
		}
		m.Timeseries = append(m.Timeseries, s)
	}
	m.Symbols = symbols.Symbols()
	return m
})

// TestRandomRequests compares the scanner with the generated code on requests
// of every kind, as the generated code writes them and as protocol buffers
// allow to write them as well.
func TestRandomRequests(t *testing.T) {
	t.Run("version=1.0", rapid.MakeCheck(func(t *rapid.T) {
		m := someV1.Draw(t, "request")
		message, err := m.Marshal()
		require.NoError(t, err)
		want, err := generatedV1(message)
		require.NoError(t, err)
		checkScan(t, proto.V1, message, want)
		checkScan(t, proto.V1, shuffle(t, requestV1, message), want)
	}))
	t.Run("version=2.0", rapid.MakeCheck(func(t *rapid.T) {
		m := someV2.Draw(t, "request")
		message, err := m.Marshal()
		require.NoError(t, err)
		want, err := generatedV2(message)
		require.NoError(t, err)
		checkScan(t, proto.V2, message, want)
		checkScan(t, proto.V2, shuffle(t, requestV2, message), want)
		optimized, err := m.OptimizedMarshal(nil)
		require.NoError(t, err)
		checkScan(t, proto.V2, optimized, want)
	}))
}

// TestScannerIsReused reads several requests with one scanner: nothing of one
// shows in the next.
func TestScannerIsReused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r proto.Request
		for range 3 {
			var (
				v       = proto.V1
				message []byte
				err     error
			)
			if rapid.Bool().Draw(t, "version 2") {
				v = proto.V2
				message, err = someV2.Draw(t, "request").Marshal()
			} else {
				message, err = someV1.Draw(t, "request").Marshal()
			}
			require.NoError(t, err)
			message = shuffle(t, *requestMessage(v), message)
			if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
				message = message[:rapid.IntRange(0, len(message)).Draw(t, "length")]
			}
			want, wantErr := scan(v, message)
			got, err := scanWith(&r, v, slices.Clone(message))
			require.Equal(t, wantErr, err)
			require.Equal(t, want.String(), got.String())
		}
	})
}

func checkScan(t *rapid.T, v proto.Version, message []byte, want decoded) {
	t.Helper()
	got, err := scan(v, message)
	require.NoError(t, err, "%x", message)
	require.Equal(t, want.String(), got.String(), "%x", message)
}

// shuffle writes a message anew with its fields in another order, packed
// numbers partly unpacked, and unknown fields in between. What is repeated
// stays in order, so that it means the same.
func shuffle(t *rapid.T, m message, b []byte) []byte {
	var fields []wireField
	for len(b) > 0 {
		f, rest, err := takeField(map[oddity]bool{}, b)
		require.NoError(t, err)
		b = rest
		k := m[f.id]
		switch {
		case k.list && f.wire == wireLen:
			fields = append(fields, unpack(t, f, k)...)
		case k.sub != nil:
			f.val = shuffle(t, *k.sub, f.val)
			fields = append(fields, f)
		default:
			fields = append(fields, f)
		}
	}
	order := rapid.Permutation(fields).Draw(t, "order")
	byID := map[int][]wireField{}
	for _, f := range fields {
		byID[f.id] = append(byID[f.id], f)
	}
	var out []byte
	for _, f := range order {
		if rapid.IntRange(0, 9).Draw(t, "unknown field") == 0 {
			u := unknownField(t, m)
			out = u.appendTo(out)
		}
		next := byID[f.id][0]
		byID[f.id] = byID[f.id][1:]
		out = next.appendTo(out)
	}
	return out
}

// unpack divides a packed field into packed and unpacked ones.
func unpack(t *rapid.T, f wireField, k fieldKind) (out []wireField) {
	for b := f.val; len(b) > 0; {
		if rapid.IntRange(0, 3).Draw(t, "keep the rest packed") == 0 {
			return append(out, wireField{id: f.id, wire: wireLen, val: b})
		}
		one := wireField{id: f.id, wire: k.wire}
		if k.wire == i64 {
			one.num, b = binary.LittleEndian.Uint64(b), b[8:]
		} else {
			one.num, b, _ = takeVarint(b)
		}
		out = append(out, one)
	}
	return out
}

// unknownField is a field with a number that m does not have: a later version
// of the protocol may send it, and some senders send theirs.
func unknownField(t *rapid.T, m message) wireField {
	ids := []int{6, 15, 18, 100, 20_000, 1<<29 - 1}
	for id := 1; id < 18; id++ {
		ids = append(ids, id)
	}
	ids = slices.DeleteFunc(ids, func(id int) bool { _, known := m[id]; return known })
	return wireField{
		id:   rapid.SampledFrom(ids).Draw(t, "number"),
		wire: rapid.SampledFrom([]int{varint, i64, wireLen, i32}).Draw(t, "wire type"),
		num:  rapid.Uint64().Draw(t, "unknown number"),
		val:  rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "unknown bytes"),
	}
}
