package receiver

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"github.com/prometheus/prometheus/util/annotations"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/proto"
)

// translation makes one remote-write 2.0 message of an OTLP request. It is what
// the translator of Prometheus appends to, one series with one sample at a time,
// and remembers which data point each came from: a histogram with explicit
// bounds becomes a series for each bucket, one for the sum and one for the count.
type translation struct {
	cfg      *Config
	warnings *prometheus.CounterVec
	settings prometheusremotewrite.Settings
	req      *request
	out      proto.Builder

	pointOf []uint32 // of each series in out: its data point, or noPoint
	points  int      // that the translator began
	lost    int      // that it did not, or that sums refused
	spelled int      // bytes of labels that it wrote
	inSum   bool     // the last series was the _sum of a point

	sums *sums                 // while deltas are translated
	open []proto.BuilderSeries // of the point that is to be added to sums

	err    error // a limit that was hit, which ends the translation
	cancel context.CancelFunc
}

var _ storage.AppenderV2 = (*translation)(nil)

// noPoint is the data point of what comes from none: target_info.
const noPoint = math.MaxUint32

func newTranslation(cfg *Config, warnings *prometheus.CounterVec, req *request) *translation {
	t := &translation{cfg: cfg, warnings: warnings, settings: cfg.OTLP.settings(), req: req}
	t.out.Reset(req.body)
	return t
}

// translate translates md. With sums, its data points are deltas, which are
// added up there.
func (t *translation) translate(ctx context.Context, md pmetric.Metrics, sums *sums) error {
	ctx, t.cancel = context.WithCancel(ctx)
	defer t.cancel()
	// The translator gives up a metric at the first of its data points that it
	// cannot translate. Each its own metric, it gives up that point alone. Deltas
	// are translated so at once, because they are added only once.
	t.sums = sums
	if sums != nil {
		md = apart(md)
	}
	t.settings.LookbackDelta = infoLookback(md)
	length, series, points, spelled := t.out.Len(), len(t.pointOf), t.points, t.spelled
	warnings, err := t.convert(ctx, md)
	if err != nil && t.err == nil && ctx.Err() == nil && md.DataPointCount() > md.MetricCount() {
		t.out.Truncate(length)
		t.pointOf, t.points, t.spelled = t.pointOf[:series], points, spelled
		warnings, err = t.convert(ctx, apart(md))
	}
	for category, n := range prometheusremotewrite.CountWarningsByCategory(warnings) {
		t.warnings.WithLabelValues(string(category)).Add(float64(n))
	}
	switch {
	case t.err != nil:
		return t.err
	case ctx.Err() != nil:
		return timedOut(t.cfg.Timeout)
	}
	if lost := md.DataPointCount() - (t.points - points); lost > 0 && err != nil {
		t.lost += lost
		t.req.refuseUnseen(proto.PointUntranslatable, proto.Counts{Samples: lost}, 0, labels.EmptyLabels(), func() string {
			return cut(strings.ReplaceAll(t.req.policy.hide(err.Error()), "\n", "; "), 300)
		})
	}
	return nil
}

// convert calls the translator.
func (t *translation) convert(ctx context.Context, md pmetric.Metrics) (annotations.Annotations, error) {
	t.inSum, t.open = false, t.open[:0]
	warnings, err := prometheusremotewrite.NewPrometheusConverter(t).FromMetrics(ctx, md, t.settings)
	t.closePoint()
	return warnings, err
}

// Append implements storage.AppenderV2.
func (t *translation) Append(_ storage.SeriesRef, ls labels.Labels, st, ts int64, v float64, h *histogram.Histogram, _ *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if t.err == nil {
		t.err = t.within(ls)
	}
	if t.err != nil {
		t.cancel()
		return 0, t.err
	}
	s := proto.BuilderSeries{Labels: ls, Exemplars: inOrder(opts.Exemplars), Metadata: opts.Metadata}
	if h != nil {
		if value.IsStaleNaN(h.Sum) {
			h = &histogram.Histogram{Sum: h.Sum} // the translator leaves counts in it that contradict each other
		}
		s.Histogram = &proto.Histogram{T: ts, ST: st, H: h}
	} else {
		s.Float = proto.Float{T: ts, ST: st, V: v}
	}
	switch {
	case isTargetInfo(&opts):
		t.closePoint()
		t.write(&s, noPoint)
		return 0, nil
	case t.beginsPoint(ls.Get(model.MetricNameLabel), h, &opts):
		t.closePoint()
		t.points++
	}
	if t.sums == nil {
		t.write(&s, uint32(t.points-1))
		return 0, nil
	}
	s.Exemplars = append(s.Exemplars[:0:0], s.Exemplars...) // the translator uses the slice again
	t.open = append(t.open, s)
	return 0, nil
}

// Commit implements storage.AppenderV2; the translator does not call it.
func (t *translation) Commit() error { return nil }

// Rollback implements storage.AppenderV2; the translator does not call it.
func (t *translation) Rollback() error { return nil }

// within checks the limits on what a translation may write.
func (t *translation) within(ls labels.Labels) error {
	if len(t.pointOf)+len(t.open) >= t.cfg.MaxSamples {
		return tooManySamples(t.cfg.MaxSamples)
	}
	ls.Range(func(l labels.Label) { t.spelled += len(l.Name) + len(l.Value) })
	if limit := t.cfg.maxSpelled(); t.spelled > limit {
		return tooLarge("of labels when it is translated", int64(t.spelled), "4 x max_decoded_bytes", limit)
	}
	return nil
}

// inOrder sorts exemplars as the store wants them of a series. SDKs sample them
// in any order.
func inOrder(exemplars []exemplar.Exemplar) []exemplar.Exemplar {
	compare := func(a, b exemplar.Exemplar) int {
		return cmp.Or(cmp.Compare(a.Ts, b.Ts), cmp.Compare(a.Value, b.Value), cmp.Compare(a.Labels.Hash(), b.Labels.Hash()))
	}
	if slices.IsSortedFunc(exemplars, compare) {
		return exemplars
	}
	exemplars = slices.Clone(exemplars)
	slices.SortFunc(exemplars, compare)
	return exemplars
}

// isTargetInfo recognises the series that the translator makes of a resource.
func isTargetInfo(opts *storage.AOptions) bool {
	return opts.MetricFamilyName == "target_info" && opts.Metadata.Help == "Target metadata"
}

// beginsPoint reports whether a series is the first of a data point. Only
// summaries and histograms with explicit bounds have more than one: _sum, which
// a histogram may lack, then _count, then the others.
func (t *translation) beginsPoint(name string, h *histogram.Histogram, opts *storage.AOptions) bool {
	wasSum := t.inSum
	t.inSum = false
	if h != nil || opts.Metadata.Type != model.MetricTypeHistogram && opts.Metadata.Type != model.MetricTypeSummary {
		return true
	}
	switch strings.TrimPrefix(name, opts.MetricFamilyName) {
	case "_sum":
		t.inSum = true
		return true
	case "_count":
		return !wasSum
	}
	return false
}

func (t *translation) write(s *proto.BuilderSeries, point uint32) {
	t.out.Add(s)
	t.pointOf = append(t.pointOf, point)
}

// closePoint adds the open point to the sums and writes what they are now.
func (t *translation) closePoint() {
	if len(t.open) == 0 {
		return
	}
	point := uint32(t.points - 1)
	counts := proto.Counts{Samples: len(t.open)}
	if t.open[0].Histogram != nil {
		counts = proto.Counts{Histograms: 1}
	}
	if no := t.sums.add(t.open, point); no.reason != proto.OK {
		t.lost++
		t.req.refuseUnseen(no.reason, counts, timeOf(&t.open[0]), t.open[0].Labels, func() string {
			return no.text(t.req.policy.hideStart(t.open[0].Labels.String(), 200))
		})
	} else {
		for i := range t.open {
			t.write(&t.open[i], point)
		}
	}
	clear(t.open)
	t.open = t.open[:0]
}

// settle returns how many data points were refused, and keeps the sums of the
// others. Call it once the message is stored.
func (t *translation) settle() int {
	refused := make(map[uint32]bool)
	for _, x := range t.req.rejected.Refused {
		if x.Series == proto.NoSeries || x.Counts.Samples+x.Counts.Histograms == 0 {
			continue
		}
		if point := t.pointOf[x.Series]; point != noPoint {
			refused[point] = true
		}
	}
	if t.sums != nil {
		t.sums.keep(refused)
	}
	return t.lost + len(refused)
}

// infoLookback makes the translator write target_info often enough to be found
// at any time between the first and the last data point, and not much oftener:
// one that is decades late would cost millions of samples.
func infoLookback(md pmetric.Metrics) time.Duration {
	const usual, most = 5 * time.Minute, 10_000
	first, last := int64(math.MaxInt64), int64(math.MinInt64) // as the translator takes them: beyond 2262 they are negative
	eachPoint(md, func(p dataPoint) {
		first, last = min(first, int64(p.Timestamp())), max(last, int64(p.Timestamp()))
	})
	if last <= first {
		return usual
	}
	span := float64(last) - float64(first)
	interval := min(span, span*float64(md.ResourceMetrics().Len())/most)
	return max(usual, time.Duration(min(2*interval, math.MaxInt64/2)))
}
