package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-metrics/weir/integration/harness"
)

// mostMemory is what a server may ever have taken while it was sent what is
// malformed, in bytes: a few of the largest requests at once, decoded.
const mostMemory = 1 << 30

// malformed is a body that no sender should send.
type malformed struct {
	name string
	body []byte // compressed
}

// TestMalformed sends each malformed request as the first one that a tenant ever
// sends, and again later. None is answered with a 5xx or none at all, and each time the
// tenant's next samples are stored.
func TestMalformed(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, tenants())
	now := time.Now().UnixMilli()
	for _, p := range protocols {
		for i, c := range malformedCases(t, p, now) {
			t.Run(fmt.Sprintf("%s/%s", p, c.name), func(t *testing.T) {
				checkMalformed(t, s.As(fmt.Sprintf("malformed-%s-%d", p, i)), p, c.body, now)
			})
		}
	}
	usage, err := s.Process().Usage()
	require.NoError(t, err)
	progress(t, "peak memory %d MiB", usage.ResidentMax>>20)
	require.Less(t, usage.ResidentMax, int64(mostMemory))
}

func checkMalformed(t *testing.T, s *harness.Server, p harness.Protocol, body []byte, now int64) {
	want := map[int64]float64{}
	for i := range int64(2) {
		start := time.Now()
		a, err := s.Post(t.Context(), p, body)
		require.NoError(t, err)
		require.Less(t, a.Status, 500, a.Body)
		require.Less(t, time.Since(start), 5*time.Second)
		at := now - 1000 + 100*i
		want[at] = float64(i)
		s.Accept(t, p, harness.Series{Labels: []string{"__name__", "rt_after"}, Samples: []harness.Sample{{T: at, V: float64(i)}}})
	}
	require.Equal(t, want, s.Only(t, "rt_after", now-10_000, now).Floats)
}

func malformedCases(t *testing.T, p harness.Protocol, now int64) []malformed {
	series := protowire.Number(1)
	if p == harness.V2 {
		series = 5
	}
	const million = 1_000_000
	raw := map[string][]byte{
		"nothing":                  nil,
		"text":                     []byte("up{job=\"x\"} 1\n"),
		"only tags":                bytes.Repeat([]byte{0x0a}, 1000),
		"a length beyond the end":  protowire.AppendVarint(protowire.AppendTag(nil, series, protowire.BytesType), 1<<40),
		"a length of 2^63":         protowire.AppendVarint(protowire.AppendTag(nil, series, protowire.BytesType), 1<<63),
		"an endless varint":        append(protowire.AppendTag(nil, series, protowire.VarintType), bytes.Repeat([]byte{0xff}, 100)...),
		"groups without end":       bytes.Repeat(protowire.AppendTag(nil, 9, protowire.StartGroupType), 100_000),
		"field number 0":           {0x02, 0x00},
		"unknown fields":           bytes.Repeat(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 7), 1000),
		"a million empty series":   repeated(series, nil, million),
		"a million empty labels":   message(series, repeated(1, nil, million)),
		"a million empty samples":  message(series, repeated(2, nil, million)),
		"a million nulls":          make([]byte, million),
		"a million of metadata":    repeated(3, nil, million),
		"a bomb":                   make([]byte, 32<<20),
		"a series of one byte":     message(series, []byte{0x0a}),
		"references without table": message(5, message(1, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 10_000))),
		"symbols alone":            repeated(4, []byte("x"), 400_000),
		"too many symbols":         repeated(4, nil, million),
	}
	out := []malformed{
		{"not compressed", []byte("\x0a\x00")},
		{"a declared length of 4 GiB", binary.AppendUvarint(nil, math.MaxUint32)},
		{"a declared length too short", append([]byte{1}, s2.EncodeSnappy(nil, make([]byte, 100))[1:]...)},
		{"a framed stream", append([]byte("\xff\x06\x00\x00sNaPpY"), s2.EncodeSnappy(nil, make([]byte, 100))...)},
	}
	for name, body := range raw {
		out = append(out, malformed{name, s2.EncodeSnappy(nil, body)})
	}
	for name, series := range malformedSeries(now) {
		out = append(out, malformed{name, harness.Encode(t, p, series)})
	}
	return out
}

// message is one field that holds a message, or bytes.
func message(field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func repeated(field protowire.Number, content []byte, times int) []byte {
	return bytes.Repeat(message(field, content), times)
}

// malformedSeries are well-formed messages that make no sense.
func malformedSeries(now int64) map[string]harness.Series {
	float := func(at int64, v float64) harness.Series {
		return harness.Series{Labels: []string{"__name__", "rt_malformed"}, Samples: []harness.Sample{{T: at, V: v}}}
	}
	native := func(h *histogram.Histogram) harness.Series {
		return harness.Series{Labels: []string{"__name__", "rt_malformed"}, Samples: []harness.Sample{{T: now, H: h}}}
	}
	labelled := func(labels ...string) harness.Series {
		return harness.Series{Labels: labels, Samples: []harness.Sample{{T: now, V: 1}}}
	}
	spans := func(schema int32, custom []float64, spans ...histogram.Span) harness.Series {
		return native(&histogram.Histogram{Schema: schema, Count: 1, PositiveSpans: spans, PositiveBuckets: []int64{1}, CustomValues: custom})
	}
	all := map[string]harness.Series{
		"no labels":              labelled(),
		"an empty name":          labelled("__name__", "rt_malformed", "", "x"),
		"a label twice":          labelled("__name__", "rt_malformed", "a", "1", "a", "2"),
		"unsorted labels":        labelled("z", "1", "__name__", "rt_malformed", "a", "2"),
		"invalid UTF-8":          labelled("__name__", "rt\xff", "a\xff", "\xff"),
		"a NUL":                  labelled("__name__", "rt_malformed", "a\x00", "\x00"),
		"a long value":           labelled("__name__", "rt_malformed", "a", strings.Repeat("v", 1<<20)),
		"only empty values":      labelled("__name__", "", "a", "", "b", ""),
		"a span without buckets": spans(0, nil, histogram.Span{Offset: 0, Length: math.MaxUint32}),
		"an offset of 2^31":      spans(0, nil, histogram.Span{Offset: math.MaxInt32, Length: 1}),
		"a negative offset":      spans(0, nil, histogram.Span{Offset: 1, Length: 1}, histogram.Span{Offset: math.MinInt32, Length: 1}),
		"schema 127":             spans(127, nil, histogram.Span{Offset: 0, Length: 1}),
		"schema -128":            spans(-128, nil, histogram.Span{Offset: 0, Length: 1}),
		"custom bounds descend":  spans(histogram.CustomBucketsSchema, []float64{3, 2, 1}, histogram.Span{Offset: 0, Length: 1}),
		"custom bounds NaN":      spans(histogram.CustomBucketsSchema, []float64{math.NaN()}, histogram.Span{Offset: 0, Length: 1}),
		"custom bounds missing":  spans(histogram.CustomBucketsSchema, nil, histogram.Span{Offset: 9, Length: 1}),
		"negative counts":        native(&histogram.Histogram{Count: 1, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{math.MinInt64, math.MinInt64}}),
		"a zero threshold of NaN": native(&histogram.Histogram{
			Count: 1, ZeroCount: 1, ZeroThreshold: math.NaN()}),
		"a million buckets": native(&histogram.Histogram{
			Count: 1, PositiveSpans: []histogram.Span{{Length: 1_000_000}}, PositiveBuckets: make([]int64, 1_000_000)}),
		"an exemplar of long ago": {Labels: []string{"__name__", "rt_malformed"}, Samples: []harness.Sample{{T: now, V: 1}},
			Exemplars: []harness.Exemplar{{Labels: []string{"\xff", strings.Repeat("x", 1<<16)}, T: math.MinInt64, V: math.NaN()}}},
	}
	for name, at := range map[string]int64{
		"the least time": math.MinInt64, "nearly the least time": math.MinInt64 + 1, "the greatest time": math.MaxInt64, "1970": 0, "1969": -1,
		"seconds for milliseconds": now / 1000, "microseconds for milliseconds": now * 1000, "nanoseconds for milliseconds": now * 1_000_000,
	} {
		all[name] = float(at, 1)
	}
	return all
}

// TestTenantTricks sends tenant ids that a file system or a proxy might take for
// something else, and two at once.
func TestTenantTricks(t *testing.T) {
	if harness.Against() != "weir" {
		return
	}
	s := harness.Start(t, tenants())
	good := harness.Encode(t, harness.V1, harness.Series{Labels: []string{"__name__", "rt_tenant"}, Samples: []harness.Sample{{T: time.Now().UnixMilli(), V: 1}}})
	for _, id := range []string{
		".", "..", "../x", "a/b", "/etc", `a\b`, "%2e%2e", "%2e%2e%2fx", "..%2f", "a|b", "a b", "é", "\u202ea", "__lock", "__", "~", "C:",
		strings.Repeat("a", 151), strings.Repeat("../", 40),
	} {
		a, err := s.Post(t.Context(), harness.V1, good, "X-Scope-OrgID", id)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, a.Status, "%q: %s", id, a.Body)
		want := "weir-tenant-invalid"
		if id == "a|b" {
			want = "weir-tenant-federation-unsupported"
		}
		require.Contains(t, a.Body, want)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.WriteURL(), bytes.NewReader(good))
	require.NoError(t, err)
	req.Header["X-Scope-Orgid"] = []string{"ada", "bob"}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)
}
