package receiver

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// silent is an ingester that takes everything.
type silent struct{}

func (silent) Write(context.Context, string, *proto.Frame, *proto.Reply) error { return nil }

// TestOTLPCost: what an OTLP request is charged before it is translated is what it
// would be charged for its translation.
func TestOTLPCost(t *testing.T) {
	now := pcommon.NewTimestampFromTime(time.Now())
	exemplar := func(to pmetric.ExemplarSlice) {
		x := to.AppendEmpty()
		x.SetTimestamp(now)
		x.SetDoubleValue(1)
		x.FilteredAttributes().PutStr("trace", "5f2c")
	}
	kinds := map[string]func(pmetric.Metric){
		"gauge": func(m pmetric.Metric) {
			for i := range 2 {
				p := m.SetEmptyGauge().DataPoints()
				for j := range i + 1 {
					x := p.AppendEmpty()
					x.SetTimestamp(now)
					x.SetIntValue(1)
					x.Attributes().PutInt("j", int64(j))
				}
			}
		},
		"sum": func(m pmetric.Metric) {
			m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			m.Sum().SetIsMonotonic(true)
			p := m.Sum().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.SetIntValue(1)
			exemplar(p.Exemplars())
		},
		"delta": func(m pmetric.Metric) {
			m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			m.Sum().SetIsMonotonic(true)
			p := m.Sum().DataPoints().AppendEmpty()
			p.SetStartTimestamp(now - 1e9)
			p.SetTimestamp(now)
			p.SetIntValue(1)
		},
		"histogram": func(m pmetric.Metric) {
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := m.Histogram().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.ExplicitBounds().FromRaw([]float64{1, 2, 5})
			p.BucketCounts().FromRaw([]uint64{1, 2, 3, 4})
			p.SetCount(10)
			p.SetSum(20)
			exemplar(p.Exemplars())
		},
		"exponential": func(m pmetric.Metric) {
			m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			p := m.ExponentialHistogram().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			p.Positive().BucketCounts().FromRaw([]uint64{1, 2})
			p.Negative().BucketCounts().FromRaw([]uint64{3})
			p.SetCount(6)
			p.SetSum(7)
		},
		"summary": func(m pmetric.Metric) {
			p := m.SetEmptySummary().DataPoints().AppendEmpty()
			p.SetTimestamp(now)
			for _, q := range []float64{0.5, 0.9} {
				v := p.QuantileValues().AppendEmpty()
				v.SetQuantile(q)
				v.SetValue(1)
			}
		},
	}
	for _, nhcb := range []bool{false, true} {
		for name, fill := range kinds {
			t.Run(name, func(t *testing.T) {
				cfg := DefaultConfig()
				cfg.OTLP.ConvertHistogramsToNHCB = nhcb
				set := tenant.DefaultSettings()
				r := New(cfg, Deps{Ingester: silent{}, Settings: func(string) *tenant.Settings { return &set }, Logger: slog.New(slog.DiscardHandler)})
				md := pmetric.NewMetrics()
				rm := md.ResourceMetrics().AppendEmpty()
				rm.Resource().Attributes().PutStr("service.name", "a")
				rm.Resource().Attributes().PutStr("host", "b") // for target_info
				m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
				m.SetName("m")
				fill(m)
				body, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
				require.NoError(t, err)
				sent, buckets := otlpCounts(md, &cfg.OTLP)
				charged := costOf(sent, buckets, 0)

				req := newRequest()
				defer req.release()
				r.begin(req, nil, tenant.Identity{Tenant: "a"})
				req.decoded = append(req.decoded[:0], body...)
				_, err = r.writeOTLP(t.Context(), typeProtobuf, req)
				require.NoError(t, err)
				translated := req.cost()
				translated[tenant.Bytes] = 0
				require.Equal(t, translated, charged)
			})
		}
	}
}
