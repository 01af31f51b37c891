package receiver_test

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/receiver"
)

const cumulative, delta = pmetric.AggregationTemporalityCumulative, pmetric.AggregationTemporalityDelta

// TestOTLPTranslation has each kind of metric, and each setting.
func TestOTLPTranslation(t *testing.T) {
	now := time.Now().UnixMilli()
	start := now - 60_000
	float := func(series string, v float64, st int64) string {
		return fmt.Sprintf("%s float %x at %d from %d", series, math.Float64bits(v), now, st)
	}
	for _, c := range []struct {
		name string
		set  func(*receiver.OTLPConfig)
		fill func(e exported)
		want []string
		said []string
	}{
		{
			name: "gauge",
			fill: func(e exported) {
				m := e.metric("room.temperature")
				m.SetUnit("Cel")
				m.SetDescription("How warm it is.")
				number(m.SetEmptyGauge().DataPoints(), 0, now, -3.5, "room", "kitchen")
				m.Gauge().DataPoints().AppendEmpty().SetIntValue(7)
				m.Gauge().DataPoints().At(1).SetTimestamp(nanos(now))
			},
			want: []string{float(`{__name__="room_temperature_celsius", room="kitchen"}`, -3.5, 0), float(`{__name__="room_temperature_celsius"}`, 7, 0)},
			said: []string{`"room_temperature_celsius" gauge "How warm it is." "celsius"`},
		},
		{
			name: "counter with a start and an exemplar",
			fill: func(e exported) {
				p := number(e.sum("requests", cumulative, true), start, now, 12, "http.method", "GET")
				x := p.Exemplars().AppendEmpty()
				x.SetDoubleValue(0.25)
				x.SetTimestamp(nanos(now - 10))
				x.SetTraceID(pcommon.TraceID{0xab, 15: 1})
				put(x.FilteredAttributes(), "user", "u1")
			},
			want: []string{
				float(`{__name__="requests_total", http_method="GET"}`, 12, start),
				fmt.Sprintf(`{__name__="requests_total", http_method="GET"} exemplar {trace_id="ab000000000000000000000000000001", user="u1"} %x at %d`, math.Float64bits(0.25), now-10),
			},
			said: []string{`"requests_total" counter "" ""`},
		},
		{
			name: "up-down counter",
			fill: func(e exported) { number(e.sum("queue", cumulative, false), start, now, -2) },
			want: []string{float(`{__name__="queue"}`, -2, start)},
			said: []string{`"queue" gauge "" ""`},
		},
		{
			name: "histogram",
			fill: func(e exported) { explicit(e, "latency", cumulative, start, now) },
			want: []string{
				float(`{__name__="latency_sum"}`, 9.5, start), float(`{__name__="latency_count"}`, 6, start),
				float(`{__name__="latency_bucket", le="1"}`, 1, start), float(`{__name__="latency_bucket", le="2.5"}`, 3, start),
				float(`{__name__="latency_bucket", le="+Inf"}`, 6, start),
				fmt.Sprintf(`{__name__="latency_bucket", le="2.5"} exemplar {} %x at %d`, math.Float64bits(2), now-10),
			},
			said: []string{`"latency" histogram "" ""`},
		},
		{
			name: "histogram as custom buckets",
			set:  func(c *receiver.OTLPConfig) { c.ConvertHistogramsToNHCB = true },
			fill: func(e exported) { explicit(e, "latency", cumulative, start, now) },
			want: []string{
				fmt.Sprintf(`{__name__="latency"} histogram {count:6, sum:9.5, [-Inf,1]:1, (1,2.5]:2, (2.5,+Inf]:3} hint 0 schema -53 at %d from %d`, now, start),
				fmt.Sprintf(`{__name__="latency"} exemplar {} %x at %d`, math.Float64bits(2), now-10),
			},
			said: []string{`"latency" histogram "" ""`},
		},
		{
			name: "exponential histogram",
			fill: func(e exported) { exponential(e, "size", cumulative, start, now, 0, 0, 1, 0, 2) },
			want: []string{fmt.Sprintf(`{__name__="size"} histogram {count:4, sum:9.5, [-1e-128,1e-128]:1, (1,2]:1, (4,8]:2} hint 0 schema 0 at %d from %d`, now, start)},
			said: []string{`"size" histogram "" ""`},
		},
		{
			name: "summary",
			fill: func(e exported) {
				p := e.metric("rpc").SetEmptySummary().DataPoints().AppendEmpty()
				p.SetStartTimestamp(nanos(start))
				p.SetTimestamp(nanos(now))
				p.SetCount(3)
				p.SetSum(6)
				q := p.QuantileValues().AppendEmpty()
				q.SetQuantile(0.5)
				q.SetValue(2)
			},
			want: []string{
				float(`{__name__="rpc_sum"}`, 6, start), float(`{__name__="rpc_count"}`, 3, start), float(`{__name__="rpc", quantile="0.5"}`, 2, start),
			},
			said: []string{`"rpc" summary "" ""`},
		},
		{
			name: "no recorded value",
			fill: func(e exported) {
				number(e.sum("requests", cumulative, true), start, now, 12).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
				exponential(e, "size", cumulative, start, now, 0, 0, 1).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
			},
			want: []string{
				float(`{__name__="requests_total"}`, math.Float64frombits(value.StaleNaN), start),
				fmt.Sprintf(`{__name__="size"} histogram {count:0, sum:NaN} hint 0 schema 0 at %d from %d`, now, start),
			},
			said: []string{`"requests_total" counter "" ""`, `"size" histogram "" ""`},
		},
		{
			name: "names as they are",
			set:  func(c *receiver.OTLPConfig) { c.TranslationStrategy = "NoTranslation" },
			fill: func(e exported) { number(e.sum("http.requests", cumulative, true), 0, now, 1, "http.method", "GET") },
			want: []string{float(`{__name__="http.requests", "http.method"="GET"}`, 1, 0)},
			said: []string{`"http.requests" counter "" ""`},
		},
		{
			name: "names as they are, with suffixes",
			set:  func(c *receiver.OTLPConfig) { c.TranslationStrategy = "NoUTF8EscapingWithSuffixes" },
			fill: func(e exported) { number(e.sum("http.requests", cumulative, true), 0, now, 1) },
			want: []string{float(`{__name__="http.requests_total"}`, 1, 0)},
			said: []string{`"http.requests_total" counter "" ""`},
		},
		{
			name: "names without suffixes",
			set:  func(c *receiver.OTLPConfig) { c.TranslationStrategy = "UnderscoreEscapingWithoutSuffixes" },
			fill: func(e exported) { number(e.sum("http.requests", cumulative, true), 0, now, 1) },
			want: []string{float(`{__name__="http_requests"}`, 1, 0)},
			said: []string{`"http_requests" counter "" ""`},
		},
		{
			name: "resource",
			fill: func(e exported) { resource(e); number(e.sum("up", cumulative, false), 0, now, 1) },
			want: []string{
				float(`{__name__="up", instance="i1", job="shop/cart"}`, 1, 0),
				float(`{__name__="target_info", instance="i1", job="shop/cart", k8s_pod_name="cart-0", team_eu="a"}`, 1, 0),
			},
			said: []string{`"target_info" gauge "Target metadata" ""`, `"up" gauge "" ""`},
		},
		{
			name: "resource attribute promoted",
			set:  func(c *receiver.OTLPConfig) { c.PromoteAttributes = []string{"k8s.pod.name", "nothing"} },
			fill: func(e exported) { resource(e); number(e.sum("up", cumulative, false), 0, now, 1) },
			want: []string{
				float(`{__name__="up", instance="i1", job="shop/cart", k8s_pod_name="cart-0"}`, 1, 0),
				float(`{__name__="target_info", instance="i1", job="shop/cart", k8s_pod_name="cart-0", team_eu="a"}`, 1, 0),
			},
			said: []string{`"target_info" gauge "Target metadata" ""`, `"up" gauge "" ""`},
		},
		{
			name: "all but one promoted, identifying ones kept",
			set: func(c *receiver.OTLPConfig) {
				c.PromoteAllAttributes, c.IgnoreAttributes, c.KeepIdentifying = true, []string{"k8s.pod.name", "service.name", "service.namespace", "service.instance.id"}, true
			},
			fill: func(e exported) { resource(e); number(e.sum("up", cumulative, false), 0, now, 1) },
			want: []string{
				float(`{__name__="up", instance="i1", job="shop/cart", team_eu="a"}`, 1, 0),
				float(`{__name__="target_info", instance="i1", job="shop/cart", k8s_pod_name="cart-0", service_instance_id="i1", service_name="cart", service_namespace="shop", team_eu="a"}`, 1, 0),
			},
			said: []string{`"target_info" gauge "Target metadata" ""`, `"up" gauge "" ""`},
		},
		{
			name: "scope promoted",
			set:  func(c *receiver.OTLPConfig) { c.PromoteScope = true },
			fill: func(e exported) {
				e.scope.Scope().SetName("lib")
				e.scope.Scope().SetVersion("1.2")
				put(e.scope.Scope().Attributes(), "kind", "x")
				number(e.sum("up", cumulative, false), 0, now, 1)
			},
			want: []string{float(`{__name__="up", otel_scope_kind="x", otel_scope_name="lib", otel_scope_version="1.2"}`, 1, 0)},
			said: []string{`"up" gauge "" ""`},
		},
		{name: "nothing", fill: func(exported) {}},
	} {
		for _, ct := range otlpTypes {
			t.Run(c.name+"/"+ct, func(t *testing.T) {
				s := newSetup(t, func(s *setup) {
					if c.set != nil {
						c.set(&s.cfg.OTLP)
					}
				})
				e := newExported()
				c.fill(e)
				for range 2 { // the second time everything is known
					stored, w := s.export(ct, e.Metrics)
					require.Equal(t, http.StatusOK, w.Code, "%q", w.Body)
					require.Equal(t, ct, w.Header().Get("Content-Type"))
					require.Equal(t, map[string]string{otlpProtobuf: "", otlpJSON: "{}"}[ct], w.Body.String(), "partial_success must not be set")
					require.ElementsMatch(t, c.want, stored.stored())
				}
				first, _ := newSetup(t, func(o *setup) { o.cfg = s.cfg }).export(ct, e.Metrics)
				require.ElementsMatch(t, c.said, first.said())
			})
		}
	}
}

func resource(e exported) {
	put(e.ResourceMetrics().At(0).Resource().Attributes(),
		"service.name", "cart", "service.namespace", "shop", "service.instance.id", "i1", "k8s.pod.name", "cart-0", "team.eu", "a")
}

// explicit adds a histogram of 6 observations.
func explicit(e exported, name string, temporality pmetric.AggregationTemporality, start, t int64) pmetric.HistogramDataPoint {
	h := e.metric(name).SetEmptyHistogram()
	h.SetAggregationTemporality(temporality)
	p := h.DataPoints().AppendEmpty()
	p.SetStartTimestamp(nanos(start))
	p.SetTimestamp(nanos(t))
	p.SetCount(6)
	p.SetSum(9.5)
	p.ExplicitBounds().FromRaw([]float64{1, 2.5})
	p.BucketCounts().FromRaw([]uint64{1, 2, 3})
	x := p.Exemplars().AppendEmpty()
	x.SetDoubleValue(2)
	x.SetTimestamp(nanos(t - 10))
	return p
}

// exponential adds a histogram of these counts, with one in the zero bucket.
func exponential(e exported, name string, temporality pmetric.AggregationTemporality, start, t int64, scale, offset int32, counts ...uint64) pmetric.ExponentialHistogramDataPoint {
	h := e.metric(name).SetEmptyExponentialHistogram()
	h.SetAggregationTemporality(temporality)
	p := h.DataPoints().AppendEmpty()
	p.SetStartTimestamp(nanos(start))
	p.SetTimestamp(nanos(t))
	p.SetSum(9.5)
	p.SetScale(scale)
	p.SetZeroCount(1)
	p.Positive().SetOffset(offset)
	p.Positive().BucketCounts().FromRaw(counts)
	total := uint64(1)
	for _, n := range counts {
		total += n
	}
	p.SetCount(total)
	return p
}
