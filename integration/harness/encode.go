package harness

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// Protocol is a remote-write version.
type Protocol int

// The two versions.
const (
	V1 Protocol = 1
	V2 Protocol = 2
)

func (p Protocol) String() string { return fmt.Sprintf("rw%d", int(p)) }

// Series is one TimeSeries of a request, as a test states it.
type Series struct {
	Labels    []string // name, value, name, value…: sent in this order
	Samples   []Sample
	Exemplars []Exemplar
	Metadata  *Metadata
}

// Sample is a float, or a histogram when H or FH is given. Times are in ms.
type Sample struct {
	T  int64
	ST int64 // start timestamp; only 2.0 can carry it
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

// Exemplar as a test states it.
type Exemplar struct {
	Labels []string
	T      int64 // ms
	V      float64
}

// Metadata of the metric that a Series belongs to.
type Metadata struct {
	Type model.MetricType
	Help string
	Unit string
}

// Encode returns the compressed body of a request.
func Encode(t testing.TB, p Protocol, series ...Series) []byte {
	t.Helper()
	if p == V2 {
		return encodeV2(t, series)
	}
	return encodeV1(t, series)
}

func encodeV1(t testing.TB, series []Series) []byte {
	var req prompb.WriteRequest
	for _, s := range series {
		ts := prompb.TimeSeries{Labels: labelsV1(s.Labels)}
		for _, x := range s.Samples {
			switch {
			case x.H != nil:
				ts.Histograms = append(ts.Histograms, withCustomV1(prompb.FromIntHistogram(x.T, x.H), x.H.CustomValues))
			case x.FH != nil:
				ts.Histograms = append(ts.Histograms, withCustomV1(prompb.FromFloatHistogram(x.T, x.FH), x.FH.CustomValues))
			default:
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: x.T, Value: sendable(x.V)})
			}
		}
		for _, x := range s.Exemplars {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: labelsV1(x.Labels), Timestamp: x.T, Value: x.V})
		}
		req.Timeseries = append(req.Timeseries, ts)
		if m := s.Metadata; m != nil {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{
				MetricFamilyName: s.Labels[1], Type: prompb.FromMetadataType(m.Type), Help: m.Help, Unit: m.Unit,
			})
		}
	}
	b, err := req.Marshal()
	require.NoError(t, err)
	return compress(b)
}

// The generated encoders leave out every float that equals 0, -0 too, which
// other encoders do send. So -0 is encoded as a NaN that nobody uses, and that
// is overwritten in the encoded message.
const standsForMinusZero = 0x7ff8_5eed_0000_0001

func sendable(v float64) float64 {
	if v == 0 && math.Signbit(v) {
		return math.Float64frombits(standsForMinusZero)
	}
	return v
}

func compress(message []byte) []byte {
	stand := binary.LittleEndian.AppendUint64(nil, standsForMinusZero)
	minusZero := binary.LittleEndian.AppendUint64(nil, 1<<63)
	return s2.EncodeSnappy(nil, bytes.ReplaceAll(message, stand, minusZero))
}

// withCustomV1 makes sure that custom bounds travel by 1.0 as well.
func withCustomV1(h prompb.Histogram, custom []float64) prompb.Histogram {
	h.CustomValues = custom
	return h
}

func labelsV1(pairs []string) []prompb.Label {
	var out []prompb.Label
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, prompb.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func encodeV2(t testing.TB, series []Series) []byte {
	table := writev2.NewSymbolTable()
	refs := func(texts []string) []uint32 {
		var out []uint32
		for _, s := range texts {
			out = append(out, table.Symbolize(s))
		}
		return out
	}
	var req writev2.Request
	for _, s := range series {
		ts := writev2.TimeSeries{LabelsRefs: refs(s.Labels)}
		for _, x := range s.Samples {
			switch {
			case x.H != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(x.ST, x.T, x.H))
			case x.FH != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(x.ST, x.T, x.FH))
			default:
				ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: x.T, StartTimestamp: x.ST, Value: sendable(x.V)})
			}
		}
		for _, x := range s.Exemplars {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: refs(x.Labels), Timestamp: x.T, Value: x.V})
		}
		if m := s.Metadata; m != nil {
			ts.Metadata = writev2.Metadata{Type: writev2.FromMetadataType(m.Type), HelpRef: table.Symbolize(m.Help), UnitRef: table.Symbolize(m.Unit)}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = table.Symbols()
	b, err := req.Marshal()
	require.NoError(t, err)
	return compress(b)
}
