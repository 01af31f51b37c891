package api

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/jsonutil"
	"github.com/stretchr/testify/require"
)

// theirs returns what Prometheus' own encoder writes.
func theirs(write func(*jsoniter.Stream)) string {
	stream := jsoniter.NewStream(jsoniter.ConfigCompatibleWithStandardLibrary, nil, 64)
	write(stream)
	return string(stream.Buffer())
}

// anyFloat returns numbers of every magnitude, and those that are none.
func anyFloat(rnd *rand.Rand) float64 {
	switch rnd.IntN(5) {
	case 0:
		return math.Float64frombits(rnd.Uint64())
	case 1:
		return float64(rnd.IntN(1000))
	case 2:
		return rnd.NormFloat64() * math.Pow10(rnd.IntN(60)-30)
	case 3:
		return []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), 1e21, 1e-6, 9.99e-7, 1e20, math.MaxFloat64, 5e-324}[rnd.IntN(11)]
	}
	return rnd.Float64()
}

func TestValuesAsPrometheus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		v := anyFloat(rnd)
		require.Equal(t, theirs(func(s *jsoniter.Stream) { jsonutil.MarshalFloat(v, s) }), string(appendValue(nil, v)))
		ms := rnd.Int64() >> rnd.IntN(63)
		if rnd.IntN(2) == 0 {
			ms = -ms
		}
		require.Equal(t, theirs(func(s *jsoniter.Stream) { jsonutil.MarshalTimestamp(ms, s) }), string(appendSeconds(nil, ms)), ms)
	}
	require.Equal(t, "-9223372036854775.808", string(appendSeconds(nil, math.MinInt64)))
}

func TestHistogramsAsPrometheus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 1))
	buckets := func() ([]histogram.Span, []float64) {
		var (
			spans  []histogram.Span
			counts []float64
		)
		for range rnd.IntN(4) {
			span := histogram.Span{Offset: int32(rnd.IntN(5)), Length: uint32(1 + rnd.IntN(4))}
			spans = append(spans, span)
			for range span.Length {
				counts = append(counts, float64(rnd.IntN(3))*rnd.Float64())
			}
		}
		return spans, counts
	}
	for range 3000 {
		h := &histogram.FloatHistogram{
			Schema: int32(rnd.IntN(13) - 4), Count: anyFloat(rnd), Sum: anyFloat(rnd),
			ZeroCount: float64(rnd.IntN(3)), ZeroThreshold: rnd.Float64() / 1000,
		}
		h.PositiveSpans, h.PositiveBuckets = buckets()
		if rnd.IntN(4) == 0 {
			h.Schema, h.ZeroCount, h.ZeroThreshold = histogram.CustomBucketsSchema, 0, 0
			h.CustomValues = []float64{-1, 0, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33}
		} else {
			h.NegativeSpans, h.NegativeBuckets = buckets()
		}
		require.Equal(t, theirs(func(s *jsoniter.Stream) { jsonutil.MarshalHistogram(h, s) }), string(appendHistogram(nil, h)))
	}
}

func FuzzString(f *testing.F) {
	for _, s := range []string{"", "plain", `"\`, "a\nb\rc\td\x00\x1f\x7f", "é\u2028😀", "\xff\xc3", "x\xe2\x28\xa1y", strings.Repeat("\\", 9)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		encoded := appendString(nil, s)
		require.True(t, utf8.Valid(encoded))
		var back string
		require.NoError(t, json.Unmarshal(encoded, &back), "%s", encoded)
		require.Equal(t, string([]rune(s)), back, "a U+FFFD for each byte that is not UTF-8")
		if utf8.ValidString(s) {
			require.Equal(t, theirs(func(st *jsoniter.Stream) { st.WriteString(s) }), string(encoded))
		}
	})
}

// BenchmarkEncode encodes a range query's result of 1,000 series with 240 points
// and 12 labels each, about 8 MB of JSON: 42 ms and 5 kB on a shared core (EPYC,
// go1.26), most of it strconv.AppendFloat.
func BenchmarkEncode(b *testing.B) {
	builder := labels.NewScratchBuilder(12)
	matrix := make(promql.Matrix, 1000)
	rnd := rand.New(rand.NewPCG(3, 1))
	for i := range matrix {
		builder.Reset()
		for l := range 12 {
			builder.Add("label_"+string(rune('a'+l)), "some value of a label")
		}
		matrix[i].Metric = builder.Labels()
		for p := range 240 {
			matrix[i].Floats = append(matrix[i].Floats, promql.FPoint{T: 1_700_000_000_000 + int64(p)*15_000, F: rnd.Float64() * 1000})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		w := discard{httptest.NewRecorder()}
		e := newEncoder(&body{w: w, status: 200})
		queryResult{value: matrix}.encode(e)
		require.NoError(b, e.finish())
	}
}

type discard struct{ *httptest.ResponseRecorder }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
