package proto_test

import (
	"math"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// TestBuilder: what is written, the generated decoder reads, and the scanner
// takes for a valid message.
func TestBuilder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b proto.Builder
		b.Reset([]byte("used before"))
		want := rapid.SliceOfN(rapid.Custom(drawBuilderSeries), 0, 5).Draw(t, "series")
		for i := range want {
			b.Add(&want[i])
			before := b.Len()
			dropped := drawBuilderSeries(t)
			b.Add(&dropped)
			b.Truncate(before)
		}
		message := b.Message()

		var got writev2.Request
		require.NoError(t, got.Unmarshal(message))
		require.Len(t, got.Timeseries, len(want))
		builder := labels.NewScratchBuilder(0)
		for i, ts := range got.Timeseries {
			checkBuilt(t, &want[i], &ts, &builder, got.Symbols)
		}

		var r proto.Request
		require.NoError(t, r.Reset(proto.V2, message, 1, math.MaxInt))
		for range want {
			var s proto.Series
			more, err := r.Next(&s)
			require.NoError(t, err)
			require.True(t, more && s.Cacheable())
			require.NoError(t, r.AppendSamples(new(proto.Frame), &s, 0, new(proto.Rejections)))
		}
		more, err := r.Next(new(proto.Series))
		require.NoError(t, err)
		require.False(t, more)
	})
}

func checkBuilt(t *rapid.T, want *proto.BuilderSeries, ts *writev2.TimeSeries, builder *labels.ScratchBuilder, symbols []string) {
	ls, err := ts.ToLabels(builder, symbols)
	require.NoError(t, err)
	require.Equal(t, want.Labels, ls)
	at := want.Float.T
	switch h := want.Histogram; {
	case h == nil:
		require.Equal(t, []writev2.Sample{{Value: want.Float.V, Timestamp: want.Float.T, StartTimestamp: want.Float.ST}}, ts.Samples)
	case h.H != nil:
		at = h.T
		require.Equal(t, []int64{h.T, h.ST}, []int64{ts.Histograms[0].Timestamp, ts.Histograms[0].StartTimestamp})
		require.Equal(t, h.H, ts.Histograms[0].ToIntHistogram())
	default:
		at = h.T
		require.True(t, ts.Histograms[0].IsFloatHistogram())
		require.Equal(t, h.FH, ts.Histograms[0].ToFloatHistogram())
	}
	require.Len(t, ts.Exemplars, len(want.Exemplars))
	for i, x := range ts.Exemplars {
		e, err := x.ToExemplar(builder, symbols)
		require.NoError(t, err)
		wantAt := want.Exemplars[i].Ts
		if !want.Exemplars[i].HasTs {
			wantAt = at
		}
		require.Equal(t, exemplar.Exemplar{Labels: want.Exemplars[i].Labels, Value: want.Exemplars[i].Value, Ts: wantAt, HasTs: wantAt != 0}, e)
	}
	md, err := ts.ToMetadata(symbols)
	require.NoError(t, err)
	require.Equal(t, want.Metadata, md)
}

func drawBuilderSeries(t *rapid.T) proto.BuilderSeries {
	word := rapid.SampledFrom([]string{"", "a", "b", "größe", "a long value that is worth a symbol"})
	times := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1}))
	drawLabels := func() labels.Labels {
		return labels.FromMap(rapid.MapOfN(rapid.SampledFrom([]string{"__name__", "job", "le"}), word, 0, 3).Draw(t, "labels"))
	}
	s := proto.BuilderSeries{Labels: drawLabels(), Metadata: metadata.Metadata{
		Type: rapid.SampledFrom([]model.MetricType{model.MetricTypeUnknown, model.MetricTypeCounter, model.MetricTypeStateset}).Draw(t, "type"),
		Help: word.Draw(t, "help"), Unit: word.Draw(t, "unit"),
	}}
	for range rapid.IntRange(0, 2).Draw(t, "exemplars") {
		e := exemplar.Exemplar{Labels: drawLabels(), Value: 0.5, HasTs: rapid.Bool().Draw(t, "has a time")}
		if e.HasTs {
			e.Ts = times.Draw(t, "exemplar time")
		}
		s.Exemplars = append(s.Exemplars, e)
	}
	h := &histogram.Histogram{
		Schema: rapid.Int32Range(-4, 8).Draw(t, "schema"), Count: rapid.Uint64().Draw(t, "count"), ZeroCount: 3, Sum: -1.5, ZeroThreshold: 0.1,
		PositiveSpans: []histogram.Span{{Offset: -3, Length: 2}}, PositiveBuckets: []int64{5, -4},
		NegativeSpans: []histogram.Span{{Offset: 2, Length: 1}}, NegativeBuckets: []int64{1},
		CounterResetHint: histogram.GaugeType,
	}
	at := times.Draw(t, "time")
	start := times.Draw(t, "start")
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		s.Float = proto.Float{T: at, ST: start, V: rapid.Float64().Draw(t, "value")}
	case 1:
		s.Histogram = &proto.Histogram{T: at, ST: start, H: h}
	case 2:
		s.Histogram = &proto.Histogram{T: at, ST: start, FH: h.ToFloat(nil)}
		s.Histogram.FH.CustomValues = []float64{1, 2.5}
	}
	return s
}
