package integration

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-metrics/weir/integration/harness"
)

// exporter is the real one, and shows what it exports.
type exporter struct {
	sdk.Exporter
	exporting func(*metricdata.ResourceMetrics)
}

func (e *exporter) Export(ctx context.Context, rm *metricdata.ResourceMetrics) error {
	e.exporting(rm)
	return e.Exporter.Export(ctx, rm)
}

// Of the span that everything is measured in.
var (
	traceID = trace.TraceID{0xab, 15: 0xcd}
	spanID  = trace.SpanID{1}
)

// application is instrumented with the OpenTelemetry SDK.
type application struct {
	t         *testing.T
	provider  *sdk.MeterProvider
	requests  metric.Int64Counter
	queue     metric.Int64UpDownCounter
	level     metric.Float64Gauge
	latency   metric.Float64Histogram
	size      metric.Float64Histogram
	attribute metric.MeasurementOption
}

func startApplication(t *testing.T, s *harness.Server, exporting func(*metricdata.ResourceMetrics), temporality sdk.TemporalitySelector, compression otlpmetrichttp.Compression) *application {
	real, err := otlpmetrichttp.New(t.Context(), otlpmetrichttp.WithEndpointURL(s.OTLPURL()),
		otlpmetrichttp.WithCompression(compression), otlpmetrichttp.WithTemporalitySelector(temporality))
	require.NoError(t, err)
	a := &application{t: t}
	a.provider = sdk.NewMeterProvider(
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "cart"), attribute.String("service.namespace", "shop"),
			attribute.String("service.instance.id", "i-1"), attribute.String("k8s.pod.name", "cart-0"))),
		sdk.WithReader(sdk.NewPeriodicReader(&exporter{real, exporting}, sdk.WithInterval(time.Hour))),
		sdk.WithView(sdk.NewView(sdk.Instrument{Name: "rt.otlp.size"},
			sdk.Stream{Aggregation: sdk.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 3}})),
	)
	t.Cleanup(func() { _ = real.Shutdown(context.Background()) })
	m := a.provider.Meter("shop/cart")
	must := func(err error) { require.NoError(t, err) }
	a.requests, err = m.Int64Counter("rt.otlp.requests", metric.WithDescription("Requests served."), metric.WithUnit("{request}"))
	must(err)
	a.queue, err = m.Int64UpDownCounter("rt.otlp.queue")
	must(err)
	a.level, err = m.Float64Gauge("rt.otlp.level", metric.WithUnit("m"))
	must(err)
	a.latency, err = m.Float64Histogram("rt.otlp.latency", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(0.1, 1, 10))
	must(err)
	a.size, err = m.Float64Histogram("rt.otlp.size", metric.WithUnit("By"))
	must(err)
	a.attribute = metric.WithAttributes(attribute.String("http.method", "GET"), attribute.Int("code", 200))
	return a
}

// work measures something, inside a span that is sampled.
func (a *application) work(n int64) {
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(a.t.Context(), span)
	a.requests.Add(ctx, n, a.attribute)
	a.queue.Add(ctx, 3-2*n, a.attribute)
	a.level.Record(ctx, float64(n)/3, a.attribute)
	for i := range n {
		a.latency.Record(ctx, 0.05*float64(i*i), a.attribute)
		a.size.Record(ctx, 100*float64(i), a.attribute)
	}
}

// TestRoundTripOTLP exports by the SDK of OpenTelemetry and reads everything back
// equal, whether the SDK says sums or deltas.
func TestRoundTripOTLP(t *testing.T) {
	if harness.Against() == "prometheus" {
		t.Skip("its OTLP endpoint is off by default")
	}
	for _, c := range []struct {
		name        string
		temporality sdk.TemporalitySelector
		compression otlpmetrichttp.Compression
	}{
		{"cumulative", sdk.DefaultTemporalitySelector, otlpmetrichttp.GzipCompression},
		{"delta", deltas, otlpmetrichttp.NoCompression},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := harness.Start(t, harness.Config{})
			sums := newExpected()
			a := startApplication(t, s, func(rm *metricdata.ResourceMetrics) { sums.add(t, rm) }, c.temporality, c.compression)
			start := time.Now().UnixMilli()
			for n := range int64(3) {
				a.work(n + 3)
				require.NoError(t, a.provider.ForceFlush(t.Context()))
				time.Sleep(5 * time.Millisecond) // the next export has another timestamp
			}
			end := time.Now().UnixMilli()
			sums.check(t, s, start-1000, end)
			checkOTLPExtras(t, s, sums, start, end)
		})
	}
}

func deltas(kind sdk.InstrumentKind) metricdata.Temporality {
	switch kind {
	case sdk.InstrumentKindUpDownCounter, sdk.InstrumentKindObservableUpDownCounter:
		return metricdata.CumulativeTemporality
	}
	return metricdata.DeltaTemporality
}

// expected is what must be stored of an application's metrics: points by name,
// in the order of exports, and exemplars.
type expected struct {
	points    map[string][]expectedPoint
	exemplars map[string]map[sampled]bool
}

type expectedPoint struct {
	t         int64
	value     float64
	histogram *histogram.FloatHistogram
}

type sampled struct {
	le    string
	t     int64
	value float64
}

func newExpected() *expected {
	return &expected{map[string][]expectedPoint{}, map[string]map[sampled]bool{}}
}

// put adds a value, which for a delta is that much more than the last.
func (e *expected) put(name string, at time.Time, v float64, temporality metricdata.Temporality) {
	if n := len(e.points[name]); n > 0 && temporality == metricdata.DeltaTemporality {
		v += e.points[name][n-1].value
	}
	e.points[name] = append(e.points[name], expectedPoint{t: at.UnixMilli(), value: v})
}

// putExemplars adds exemplars, to the bucket that le says for a value.
func putExemplars[N int64 | float64](e *expected, name string, exemplars []metricdata.Exemplar[N], le func(float64) string) {
	if e.exemplars[name] == nil {
		e.exemplars[name] = map[sampled]bool{}
	}
	for _, x := range exemplars {
		e.exemplars[name][sampled{le(float64(x.Value)), x.Time.UnixMilli(), float64(x.Value)}] = true
	}
}

func noBucket(float64) string { return "" }

func bucketOf(v float64) string {
	switch {
	case v <= 0.1:
		return "0.1"
	case v <= 1:
		return "1"
	case v <= 10:
		return "10"
	}
	return "+Inf"
}

// add adds an export.
func (e *expected) add(t *testing.T, rm *metricdata.ResourceMetrics) {
	require.Len(t, rm.ScopeMetrics, 1)
	require.Len(t, rm.ScopeMetrics[0].Metrics, 5)
	for _, m := range rm.ScopeMetrics[0].Metrics {
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			name := map[bool]string{true: "rt_otlp_requests_total", false: "rt_otlp_queue"}[d.IsMonotonic]
			e.put(name, d.DataPoints[0].Time, float64(d.DataPoints[0].Value), d.Temporality)
			putExemplars(e, name, d.DataPoints[0].Exemplars, noBucket)
		case metricdata.Gauge[float64]:
			e.put("rt_otlp_level_meters", d.DataPoints[0].Time, d.DataPoints[0].Value, metricdata.CumulativeTemporality)
		case metricdata.Histogram[float64]:
			p := d.DataPoints[0]
			e.put("rt_otlp_latency_seconds_sum", p.Time, p.Sum, d.Temporality)
			e.put("rt_otlp_latency_seconds_count", p.Time, float64(p.Count), d.Temporality)
			putExemplars(e, "rt_otlp_latency_seconds_bucket", p.Exemplars, bucketOf)
			total := uint64(0)
			for i, le := range []string{"0.1", "1", "10", "+Inf"} {
				total += p.BucketCounts[i]
				e.put(fmt.Sprintf("rt_otlp_latency_seconds_bucket{le=%q}", le), p.Time, float64(total), d.Temporality)
			}
		case metricdata.ExponentialHistogram[float64]:
			putExemplars(e, "rt_otlp_size_bytes", d.DataPoints[0].Exemplars, noBucket)
			e.putNative("rt_otlp_size_bytes", &d.DataPoints[0], d.Temporality)
		default:
			t.Fatalf("%s: %T", m.Name, d)
		}
	}
}

func (e *expected) putNative(name string, p *metricdata.ExponentialHistogramDataPoint[float64], temporality metricdata.Temporality) {
	h := &histogram.FloatHistogram{
		Schema: p.Scale, Count: float64(p.Count), Sum: p.Sum, ZeroCount: float64(p.ZeroCount), ZeroThreshold: 1e-128,
		PositiveSpans: []histogram.Span{{Offset: p.PositiveBucket.Offset + 1, Length: uint32(len(p.PositiveBucket.Counts))}},
	}
	for _, n := range p.PositiveBucket.Counts {
		h.PositiveBuckets = append(h.PositiveBuckets, float64(n))
	}
	if n := len(e.points[name]); n > 0 && temporality == metricdata.DeltaTemporality {
		sum, _, _, err := e.points[name][n-1].histogram.Copy().Add(h)
		if err != nil {
			panic(err)
		}
		h = sum
	}
	e.points[name] = append(e.points[name], expectedPoint{t: p.Time.UnixMilli(), histogram: h})
}

// check reads everything back.
func (e *expected) check(t *testing.T, s *harness.Server, from, to int64) {
	require.Len(t, e.points, 10)
	for selector, points := range e.points {
		got := s.Only(t, selector, from, to)
		for name, want := range map[string]string{"job": "shop/cart", "instance": "i-1", "http_method": "GET", "code": "200"} {
			require.Equal(t, want, got.Labels[name], selector)
		}
		floats, histograms := map[int64]float64{}, map[int64]harness.HistogramJSON{}
		for _, p := range points {
			if p.histogram != nil {
				histograms[p.t] = harness.JSONOf(p.histogram)
			} else {
				floats[p.t] = p.value
			}
		}
		require.Equal(t, floats, got.Floats, selector)
		require.Equal(t, histograms, got.Histograms, selector)
	}
}

// checkOTLPExtras looks for what is not samples, and that nothing was refused.
func checkOTLPExtras(t *testing.T, s *harness.Server, sums *expected, start, end int64) {
	resp, err := http.Get(s.Process().URL + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	own, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(own), `weir_receiver_requests_total{protocol="otlp",result="weir-ok"} 3`)
	require.NotContains(t, string(own), "weir_receiver_discarded_samples_total{")

	info := s.Only(t, "target_info", start-1000, end)
	require.Equal(t, map[string]string{"__name__": "target_info", "job": "shop/cart", "instance": "i-1", "k8s_pod_name": "cart-0"}, info.Labels)

	var families map[string][]struct{ Type, Help, Unit string }
	s.Get(t, "/api/v1/metadata", url.Values{"metric": {"rt_otlp_requests_total"}}, &families)
	require.Len(t, families["rt_otlp_requests_total"], 1)
	require.Equal(t, struct{ Type, Help, Unit string }{"counter", "Requests served.", ""}, families["rt_otlp_requests_total"][0])

	for _, name := range []string{"rt_otlp_requests_total", "rt_otlp_latency_seconds_bucket", "rt_otlp_size_bytes"} {
		got := map[sampled]bool{}
		for _, series := range s.Exemplars(t, name, start-1000, end) {
			for _, x := range series.Exemplars {
				require.Equal(t, []string{"span_id", spanID.String(), "trace_id", traceID.String()}, x.Labels)
				got[sampled{series.Labels["le"], x.T, x.V}] = true
			}
		}
		require.NotEmpty(t, got)
		require.Equal(t, sums.exemplars[name], got, name)
	}
}

// TestRoundTripOTLPJSON sends JSON by gzip, of which a part is refused, to the
// path that Prometheus has.
func TestRoundTripOTLPJSON(t *testing.T) {
	if harness.Against() == "prometheus" {
		t.Skip("its OTLP endpoint is off by default, and it answers no partial_success")
	}
	s := harness.Start(t, harness.Config{Set: []string{"receiver.otlp.translation_strategy=NoTranslation", "receiver.otlp.promote_resource_attributes=[k8s.pod.name]"}})
	now := time.Now().UnixMilli()
	point := func(v float64, at int64) string {
		return fmt.Sprintf(`{"asDouble": %v, "timeUnixNano": "%d", "attributes": [{"key": "a.b", "value": {"stringValue": "größe"}}]}`, v, at*1_000_000)
	}
	body := fmt.Sprintf(`{"resourceMetrics": [{
		"resource": {"attributes": [{"key": "k8s.pod.name", "value": {"stringValue": "cart-0"}}]},
		"scopeMetrics": [{"scope": {"name": "x"}, "metrics": [{"name": "rt.otlp.json", "gauge": {"dataPoints": [%s, %s]}}]}]}]}`,
		point(1.5, now), point(2.5, now+time.Hour.Milliseconds()))
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, err := io.WriteString(zw, body)
	require.NoError(t, err)
	require.NoError(t, zw.Close())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Process().URL+"/api/v1/otlp/v1/metrics", &packed)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Content-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	var answer struct {
		PartialSuccess struct{ RejectedDataPoints, ErrorMessage string }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(t, "1", answer.PartialSuccess.RejectedDataPoints)
	require.Contains(t, answer.PartialSuccess.ErrorMessage, "weir-sample-too-far-in-future")

	got := s.Only(t, `{"rt.otlp.json"}`, now-1000, now+1000)
	require.Equal(t, map[string]string{"__name__": "rt.otlp.json", "a.b": "größe", "k8s.pod.name": "cart-0"}, got.Labels)
	require.Equal(t, map[int64]float64{now: 1.5}, got.Floats)
}
