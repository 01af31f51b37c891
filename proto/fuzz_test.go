package proto_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// FuzzRequestV1 compares the scanner with the generated code on arbitrary bytes.
func FuzzRequestV1(f *testing.F) {
	for _, m := range seedsV1(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, message []byte) { compare(t, proto.V1, message, generatedV1) })
}

// FuzzRequestV2 does the same with version 2.
func FuzzRequestV2(f *testing.F) {
	for _, m := range seedsV2(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, message []byte) { compare(t, proto.V2, message, generatedV2) })
}

// compare demands that the scanner reads what the generated code reads, and
// refuses what it refuses, but for the oddities.
func compare(t *testing.T, v proto.Version, message []byte, generated func([]byte) (decoded, error)) {
	got, err := scan(v, message)
	want, wantErr := generated(message)
	odd := oddities(v, message)
	switch {
	case err == nil && wantErr == nil && len(odd) == 0:
		if got.String() != want.String() {
			t.Fatalf("the scanner read\n%s\nthe generated code read\n%s", got, want)
		}
		checkKeys(t, got)
	case err == nil && wantErr == nil:
		// Read differently, as documented.
	case err == nil:
		delete(odd, oddBroken)
		if len(odd) == 0 {
			t.Fatalf("the scanner read\n%s\nthe generated code refused it: %v", got, wantErr)
		}
	case wantErr == nil:
		if len(odd) == 0 && !firstSymbolNotEmpty(v, message) {
			t.Fatalf("the scanner refused it: %v\nthe generated code read\n%s", err, want)
		}
	}
	var e *proto.Error
	if err != nil && (!errors.As(err, &e) || e.Kind != proto.KindBadData || e.ID != "weir-request-malformed") {
		t.Fatalf("refused with %v", err)
	}
}

// firstSymbolNotEmpty is what we refuse though it is a well-formed message: the
// specification demands that the first symbol is the empty string.
func firstSymbolNotEmpty(v proto.Version, message []byte) bool {
	var m writev2.Request
	return v == proto.V2 && m.Unmarshal(message) == nil && len(m.Symbols) > 0 && m.Symbols[0] != ""
}

// checkKeys demands of the series of a request: equal keys, equal labels.
func checkKeys(t *testing.T, d decoded) {
	spelled := map[proto.Hash]string{}
	for _, s := range d.series {
		if s.reason != proto.OK {
			continue
		}
		ls := fmt.Sprintf("%q", s.labels)
		if before, ok := spelled[s.key]; ok && before != ls {
			t.Fatalf("%s and %s have the same key", before, ls)
		}
		spelled[s.key] = ls
	}
}

func seedsV1(tb testing.TB) (out [][]byte) {
	for _, m := range []prompb.WriteRequest{
		{},
		kubeV1(3),
		{Metadata: []prompb.MetricMetadata{
			{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "http_requests_total", Help: "Requests.", Unit: "requests"},
			{MetricFamilyName: "build_info"},
		}},
		{Timeseries: []prompb.TimeSeries{{
			Labels: []prompb.Label{{Name: "__name__", Value: "rpc_duration_seconds"}, {Name: "größe", Value: ""}},
			Histograms: []prompb.Histogram{
				prompb.FromIntHistogram(1_700_000_000_000, seedHistogram()),
				prompb.FromFloatHistogram(1_700_000_015_000, seedHistogram().ToFloat(nil)),
				prompb.FromIntHistogram(1_700_000_030_000, customBuckets()),
			},
			Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "5f2c9a8e"}}, Value: 0.42, Timestamp: 1_700_000_000_000}},
			Samples:   []prompb.Sample{{Value: math.Float64frombits(value.StaleNaN), Timestamp: 1_700_000_000_000}, {}},
		}}},
	} {
		b, err := m.Marshal()
		require.NoError(tb, err)
		out = append(out, b)
	}
	return append(out, oddSeeds(1)...)
}

func seedsV2(tb testing.TB) (out [][]byte) {
	for _, m := range []writev2.Request{
		{},
		{Symbols: []string{""}},
		kubeV2(3),
		{
			Symbols: []string{"", "__name__", "rpc_duration_seconds", "trace_id", "5f2c9a8e", "Time taken.", "seconds"},
			Timeseries: []writev2.TimeSeries{{
				LabelsRefs: []uint32{1, 2},
				Histograms: []writev2.Histogram{
					writev2.FromIntHistogram(1_600_000_000_000, 1_700_000_000_000, seedHistogram()),
					writev2.FromFloatHistogram(0, 1_700_000_015_000, seedHistogram().ToFloat(nil)),
					writev2.FromIntHistogram(0, 1_700_000_030_000, customBuckets()),
				},
				Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{3, 4}, Value: 0.42, Timestamp: 1_700_000_000_000}},
				Samples:   []writev2.Sample{{Value: 1, Timestamp: 1_700_000_000_000, StartTimestamp: 1_600_000_000_000}, {}},
				Metadata:  writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: 5, UnitRef: 6},
			}, {LabelsRefs: []uint32{1, 2, 3}}, {LabelsRefs: []uint32{1, 99}}},
		},
	} {
		b, err := m.Marshal()
		require.NoError(tb, err)
		out = append(out, b)
	}
	return append(out, oddSeeds(5)...)
}

// oddSeeds are well-formed or nearly so, and as no sender writes them. series
// is the number of the field with the series.
func oddSeeds(series int) [][]byte {
	return [][]byte{
		encode(wireField{id: series, wire: wireLen, val: encode(
			wireField{id: 2, wire: wireLen, val: encode(wireField{id: 2, wire: varint, num: 1})},
			wireField{id: 1, wire: wireLen, val: encode(wireField{id: 1, wire: wireLen, val: []byte("a")})},
			wireField{id: 1, wire: varint, num: 1}, wireField{id: 6, wire: varint, num: 1},
		)}),
		encode(wireField{id: 200, wire: i32}, wireField{id: 201, wire: i64}, wireField{id: 3, wire: varint, num: 1}),
		{byte(series)<<3 | 2, 0x80, 0x00},                               // a length with more bytes than it needs
		{byte(series)<<3 | 2, 3, 0x92, 0x00, 0x00},                      // a tag with more bytes than it needs
		{byte(series)<<3 | 2, 4, 0x0a, 1, 0x80, 0x01},                   // a packed varint that ends behind its field
		{byte(series)<<3 | 3, byte(series)<<3 | 4},                      // a group
		{0x0b, 0x0c, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, // a group, and a large field number
	}
}

func seedHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 3, ZeroThreshold: 2.938735877055719e-39, ZeroCount: 2, Count: 19, Sum: 18.4, CounterResetHint: histogram.NotCounterReset,
		PositiveSpans: []histogram.Span{{Offset: -4, Length: 2}, {Offset: 3, Length: 3}}, PositiveBuckets: []int64{1, 1, -1, 1, 0},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 2}}, NegativeBuckets: []int64{5, -1},
	}
}

func customBuckets() *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 5, Sum: 11, CustomValues: []float64{0.1, 0.5, 1},
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 4}}, PositiveBuckets: []int64{1, 0, 1, -1},
	}
}
