package receiver

import (
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/proto"
)

// dataPoint is what the data points of all types of metrics have in common.
type dataPoint interface {
	Timestamp() pcommon.Timestamp
}

// eachMetric calls yield for every metric.
func eachMetric(md pmetric.Metrics, yield func(pmetric.Metric)) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				yield(m)
			}
		}
	}
}

// eachPoint calls yield for every data point.
func eachPoint(md pmetric.Metrics, yield func(dataPoint)) {
	eachMetric(md, func(m pmetric.Metric) {
		switch m.Type() {
		case pmetric.MetricTypeGauge:
			for _, p := range m.Gauge().DataPoints().All() {
				yield(p)
			}
		case pmetric.MetricTypeSum:
			for _, p := range m.Sum().DataPoints().All() {
				yield(p)
			}
		case pmetric.MetricTypeHistogram:
			for _, p := range m.Histogram().DataPoints().All() {
				yield(p)
			}
		case pmetric.MetricTypeExponentialHistogram:
			for _, p := range m.ExponentialHistogram().DataPoints().All() {
				yield(p)
			}
		case pmetric.MetricTypeSummary:
			for _, p := range m.Summary().DataPoints().All() {
				yield(p)
			}
		}
	})
}

// dropValueless drops exemplars without a value: the translator would drop the
// data points that they are on, and those behind them.
func dropValueless(md pmetric.Metrics, req *request) {
	eachPoint(md, func(p dataPoint) {
		of, ok := p.(interface{ Exemplars() pmetric.ExemplarSlice })
		if !ok {
			return
		}
		of.Exemplars().RemoveIf(func(x pmetric.Exemplar) bool {
			if x.ValueType() != pmetric.ExemplarValueTypeEmpty {
				return false
			}
			req.refuseUnseen(proto.ExemplarInvalid, proto.Counts{Exemplars: 1}, x.Timestamp().AsTime().UnixMilli(), labels.EmptyLabels(),
				func() string { return "the exemplar has no value" })
			return true
		})
	})
}

// takeDeltas moves the metrics that are deltas out of md, and calls them
// cumulative: that is what becomes of them.
func takeDeltas(md pmetric.Metrics) pmetric.Metrics {
	return regroup(md, func(from pmetric.MetricSlice, to func() pmetric.MetricSlice) {
		from.RemoveIf(func(m pmetric.Metric) bool {
			if !isDelta(m) {
				return false
			}
			m.MoveTo(to().AppendEmpty())
			return true
		})
	})
}

// isDelta tells a metric of deltas, and makes it a cumulative one.
func isDelta(m pmetric.Metric) bool {
	var of interface {
		AggregationTemporality() pmetric.AggregationTemporality
		SetAggregationTemporality(pmetric.AggregationTemporality)
	}
	switch m.Type() {
	case pmetric.MetricTypeSum:
		of = m.Sum()
	case pmetric.MetricTypeHistogram:
		of = m.Histogram()
	case pmetric.MetricTypeExponentialHistogram:
		of = m.ExponentialHistogram()
	default:
		return false
	}
	if of.AggregationTemporality() != pmetric.AggregationTemporalityDelta {
		return false
	}
	of.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return true
}

// apart copies md with a metric for each data point.
func apart(md pmetric.Metrics) pmetric.Metrics {
	return regroup(md, func(from pmetric.MetricSlice, to func() pmetric.MetricSlice) {
		for _, m := range from.All() {
			copyApart(m, to)
		}
	})
}

func copyApart(m pmetric.Metric, to func() pmetric.MetricSlice) {
	next := func() pmetric.Metric {
		one := to().AppendEmpty()
		one.SetName(m.Name())
		one.SetDescription(m.Description())
		one.SetUnit(m.Unit())
		return one
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, p := range m.Gauge().DataPoints().All() {
			p.CopyTo(next().SetEmptyGauge().DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			sum := next().SetEmptySum()
			sum.SetIsMonotonic(m.Sum().IsMonotonic())
			sum.SetAggregationTemporality(m.Sum().AggregationTemporality())
			p.CopyTo(sum.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			h := next().SetEmptyHistogram()
			h.SetAggregationTemporality(m.Histogram().AggregationTemporality())
			p.CopyTo(h.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			h := next().SetEmptyExponentialHistogram()
			h.SetAggregationTemporality(m.ExponentialHistogram().AggregationTemporality())
			p.CopyTo(h.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			p.CopyTo(next().SetEmptySummary().DataPoints().AppendEmpty())
		}
	}
}

// regroup makes metrics with the resources and scopes of md. fill is called for
// each scope; what it puts into to comes under the same resource and scope, which
// are copied when it first calls to.
func regroup(md pmetric.Metrics, fill func(from pmetric.MetricSlice, to func() pmetric.MetricSlice)) pmetric.Metrics {
	out := pmetric.NewMetrics()
	for _, rm := range md.ResourceMetrics().All() {
		var resource *pmetric.ResourceMetrics
		for _, sm := range rm.ScopeMetrics().All() {
			var scope *pmetric.ScopeMetrics
			fill(sm.Metrics(), func() pmetric.MetricSlice {
				if resource == nil {
					added := out.ResourceMetrics().AppendEmpty()
					resource = &added
					rm.Resource().CopyTo(resource.Resource())
				}
				if scope == nil {
					added := resource.ScopeMetrics().AppendEmpty()
					scope = &added
					sm.Scope().CopyTo(scope.Scope())
					scope.SetSchemaUrl(sm.SchemaUrl())
				}
				return scope.Metrics()
			})
		}
	}
	return out
}

// otlpCounts are the samples of a request and the buckets of their native
// histograms, as far as can be seen before it is translated: one sample for each
// number, bucket, quantile, sum and count, and for the resource, whose target_info
// goes with them.
func otlpCounts(md pmetric.Metrics, cfg *OTLPConfig) (c proto.Counts, buckets int) {
	c.Samples = md.ResourceMetrics().Len()
	eachPoint(md, func(p dataPoint) {
		if of, ok := p.(interface{ Exemplars() pmetric.ExemplarSlice }); ok {
			c.Exemplars += of.Exemplars().Len()
		}
		switch p := p.(type) {
		case pmetric.HistogramDataPoint:
			if cfg.ConvertHistogramsToNHCB {
				c.Histograms++
				buckets += p.BucketCounts().Len()
				return
			}
			c.Samples += p.ExplicitBounds().Len() + 3 // +Inf, sum, count
		case pmetric.ExponentialHistogramDataPoint:
			c.Histograms++
			buckets += p.Positive().BucketCounts().Len() + p.Negative().BucketCounts().Len()
		case pmetric.SummaryDataPoint:
			c.Samples += p.QuantileValues().Len() + 2 // sum, count
		default:
			c.Samples++
		}
	})
	return c, buckets
}
