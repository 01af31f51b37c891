package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"google.golang.org/protobuf/proto"
)

// federationFormats are those that a scraper may ask for; the last is for who
// does not say.
var federationFormats = []expfmt.Format{
	expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText), expfmt.NewFormat(expfmt.TypeProtoCompact),
	expfmt.NewFormat(expfmt.TypeOpenMetrics), expfmt.NewFormat(expfmt.TypeTextPlain),
}

// federate answers a scraper with the newest sample of each selected series that
// is not gone.
func (a *API) federate(ctx context.Context, w http.ResponseWriter, r *request) error {
	sets, err := a.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return badParam("match[]", err)
	}
	now := time.Now()
	newest, err := a.newest(ctx, r, sets, now.Add(-a.cfg.LookbackDelta).UnixMilli(), now.UnixMilli())
	if err != nil {
		return err
	}
	format := expfmt.NegotiateAccept(r.Header, federationFormats...)
	e := newEncoder(&body{w: w, status: http.StatusOK, contentType: string(format), gzip: acceptsGzip(r.Header)})
	if err := writeFamilies(expfmt.NewEncoder(e, format), newest, abilityOf(format)); err != nil {
		a.Logger.Debug("federation not sent", "tenant", r.who.Tenant, "err", err)
	}
	a.finish(e, r.Request)
	return nil
}

// ability says which histograms a format has.
type ability struct {
	native     bool // with exponential buckets
	fractional bool // with counts that are no whole numbers
}

func abilityOf(format expfmt.Format) ability {
	switch format.FormatType() {
	case expfmt.TypeProtoDelim, expfmt.TypeProtoText, expfmt.TypeProtoCompact:
		return ability{native: true, fractional: true}
	case expfmt.TypeOpenMetrics:
		return ability{}
	}
	return ability{fractional: true}
}

// has reports whether a histogram can be written.
func (a ability) has(h *histogram.FloatHistogram) bool {
	if !h.UsesCustomBuckets() {
		return a.native
	}
	return a.fractional || whole(h.Count) && !slices.ContainsFunc(h.PositiveBuckets, func(n float64) bool { return !whole(n) })
}

func whole(n float64) bool { return n >= 0 && n < 1<<53 && n == math.Trunc(n) }

// newest returns the newest sample in [mint, maxt] (milliseconds) of each series
// of sets, by metric name. Series that end in a staleness marker have none, for
// scrapers cannot read it.
func (a *API) newest(ctx context.Context, r *request, sets [][]*labels.Matcher, mint, maxt int64) (promql.Vector, error) {
	q, err := r.view.Queryable().Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	r.whenDone(func() { a.close(q) })
	hints := &storage.SelectHints{Start: mint, End: maxt}
	selected := make([]storage.SeriesSet, 0, len(sets))
	for _, set := range sets {
		selected = append(selected, q.Select(ctx, true, hints, set...))
	}
	var (
		all      promql.Vector
		samples  chunkenc.Iterator
		merged   = storage.NewMergeSeriesSet(selected, 0, storage.ChainedSeriesMerge)
		buffered = storage.NewBuffer(maxt - mint)
	)
	for n := 1; merged.Next(); n++ {
		if n%contextCheck == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		series := merged.At()
		samples = series.Iterator(samples)
		buffered.Reset(samples)
		sample, ok := lastSample(buffered, maxt)
		if err := buffered.Err(); err != nil {
			return nil, err
		}
		if ok {
			sample.Metric = series.Labels()
			all = append(all, sample)
		}
	}
	if err := merged.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b promql.Sample) int {
		return strings.Compare(a.Metric.Get(model.MetricNameLabel), b.Metric.Get(model.MetricNameLabel))
	})
	return all, nil
}

// lastSample returns the last sample until maxt, unless it is a staleness marker.
func lastSample(it *storage.BufferedSeriesIterator, maxt int64) (s promql.Sample, ok bool) {
	switch it.Seek(maxt) {
	case chunkenc.ValFloat:
		s.T, s.F = it.At()
	case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
		s.T, s.H = it.AtFloatHistogram(nil)
	default:
		before, ok := it.PeekBack(1)
		if !ok {
			return s, false
		}
		s.T = before.T()
		switch before.Type() {
		case chunkenc.ValFloat:
			s.F = before.F()
		case chunkenc.ValHistogram:
			s.H = before.H().ToFloat(nil)
		case chunkenc.ValFloatHistogram:
			s.H = before.FH().Copy()
		}
	}
	if s.H != nil {
		return s, !value.IsStaleNaN(s.H.Sum)
	}
	return s, !value.IsStaleNaN(s.F)
}

// writeFamilies writes samples, which are sorted by metric name: a family for
// each run of one name and one type. A name with several types makes several
// families, which Prometheus reads. Histograms are left out of formats that do not
// have them.
func writeFamilies(enc expfmt.Encoder, samples promql.Vector, can ability) error {
	var family *dto.MetricFamily
	for _, s := range samples {
		name, typ := s.Metric.Get(model.MetricNameLabel), typeOf(s)
		if name == "" || s.H != nil && !can.has(s.H) {
			continue
		}
		if family == nil || family.GetName() != name || family.GetType() != typ {
			if err := writeFamily(enc, family); err != nil {
				return err
			}
			family = &dto.MetricFamily{Name: proto.String(name), Type: typ.Enum()}
		}
		family.Metric = append(family.Metric, metricOf(s, can))
	}
	if err := writeFamily(enc, family); err != nil {
		return err
	}
	if closer, ok := enc.(expfmt.Closer); ok { // the end mark of OpenMetrics
		return closer.Close()
	}
	return nil
}

func writeFamily(enc expfmt.Encoder, family *dto.MetricFamily) error {
	if family == nil {
		return nil
	}
	return enc.Encode(family)
}

func typeOf(s promql.Sample) dto.MetricType {
	switch {
	case s.H == nil:
		return dto.MetricType_UNTYPED
	case s.H.CounterResetHint == histogram.GaugeType:
		return dto.MetricType_GAUGE_HISTOGRAM
	}
	return dto.MetricType_HISTOGRAM
}

// metricOf returns a sample as a metric. One without an instance gets an empty
// one, lest the scraper takes us for it.
func metricOf(s promql.Sample, can ability) *dto.Metric {
	m := &dto.Metric{TimestampMs: proto.Int64(s.T)}
	s.Metric.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
		}
	})
	if !s.Metric.Has(model.InstanceLabel) {
		m.Label = append(m.Label, &dto.LabelPair{Name: proto.String(model.InstanceLabel), Value: proto.String("")})
	}
	switch {
	case s.H == nil:
		m.Untyped = &dto.Untyped{Value: proto.Float64(s.F)}
	case s.H.UsesCustomBuckets():
		m.Histogram = classicHistogram(s.H)
		if !can.fractional {
			makeWhole(m.Histogram)
		}
	default:
		m.Histogram = nativeHistogram(s.H)
	}
	return m
}

func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Schema:           proto.Int32(h.Schema),
		ZeroThreshold:    proto.Float64(h.ZeroThreshold),
		ZeroCountFloat:   proto.Float64(h.ZeroCount),
		NegativeSpan:     spansOf(h.NegativeSpans),
		NegativeCount:    h.NegativeBuckets,
		PositiveSpan:     spansOf(h.PositiveSpans),
		PositiveCount:    h.PositiveBuckets,
	}
}

func spansOf(spans []histogram.Span) []*dto.BucketSpan {
	out := make([]*dto.BucketSpan, 0, len(spans))
	for _, s := range spans {
		out = append(out, &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)})
	}
	return out
}

// classicHistogram returns a histogram with custom buckets, which every format
// has. The bucket up to +Inf is implied.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	out := &dto.Histogram{SampleCountFloat: proto.Float64(h.Count), SampleSum: proto.Float64(h.Sum)}
	counts := make([]float64, len(h.CustomValues)+1)
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); int(b.Index) < len(counts) {
			counts[b.Index] = b.Count
		}
	}
	cumulative := 0.0
	for i, bound := range h.CustomValues {
		cumulative += counts[i]
		out.Bucket = append(out.Bucket, &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCountFloat: proto.Float64(cumulative)})
	}
	return out
}

// makeWhole writes counts as the integers that they are.
func makeWhole(h *dto.Histogram) {
	h.SampleCount, h.SampleCountFloat = proto.Uint64(uint64(h.GetSampleCountFloat())), nil
	for _, b := range h.Bucket {
		b.CumulativeCount, b.CumulativeCountFloat = proto.Uint64(uint64(b.GetCumulativeCountFloat())), nil
	}
}
