package integration

import (
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// otlpMetrics is one metric of every type in OTLP's JSON; %[1]d is a time in ns,
// %[2]s a name.
const otlpMetrics = `{"resourceMetrics": [{
  "resource": {"attributes": [
    {"key": "service.name", "value": {"stringValue": "shop-%[2]s"}},
    {"key": "service.instance.id", "value": {"stringValue": "i1"}},
    {"key": "host.name", "value": {"stringValue": "h1"}}]},
  "scopeMetrics": [{"scope": {"name": "ox", "version": "1.2"}, "metrics": [
    {"name": "ox.temperature", "unit": "Cel", "description": "How warm.", "gauge": {"dataPoints": [
      {"timeUnixNano": "%[1]d", "asDouble": -0.125, "attributes": [{"key": "the.place", "value": {"stringValue": "a \"b\" é"}}]},
      {"timeUnixNano": "%[1]d", "asInt": "7"}]}},
    {"name": "ox.sold", "description": "Sales.", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
      {"startTimeUnixNano": "1", "timeUnixNano": "%[1]d", "asInt": "42"}]}},
    {"name": "ox.duration", "unit": "s", "description": "How long.", "histogram": {"aggregationTemporality": 2, "dataPoints": [
      {"startTimeUnixNano": "1", "timeUnixNano": "%[1]d", "count": "6", "sum": 3.5, "explicitBounds": [0.1, 2], "bucketCounts": ["1", "2", "3"]}]}},
    {"name": "ox.size", "unit": "By", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
      {"startTimeUnixNano": "1", "timeUnixNano": "%[1]d", "count": "10", "sum": 99.5, "scale": 1, "zeroCount": "1",
       "positive": {"offset": 2, "bucketCounts": ["4", "0", "5"]}}]}},
    {"name": "ox.wait", "unit": "s", "summary": {"dataPoints": [
      {"startTimeUnixNano": "1", "timeUnixNano": "%[1]d", "count": "3", "sum": 1.5, "quantileValues": [{"quantile": 0.5, "value": 0.25}]}]}}
  ]}]}]}`

// TestOTelExporter sends every type of metric through the remote-write exporter of
// the OpenTelemetry collector, by both protocols.
func TestOTelExporter(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	exporter := harness.Program(t, server.OTelExport())
	at := time.Now().Add(-time.Minute).UnixMilli()
	for p, message := range map[harness.Protocol]string{harness.V1: "prometheus.WriteRequest", harness.V2: "io.prometheus.write.v2.Request"} {
		t.Run(p.String(), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), exporter, "-endpoint", s.WriteURL(), "-message", message)
			cmd.Stdin = strings.NewReader(fmt.Sprintf(otlpMetrics, at*1e6, p))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			checkExported(t, s, "shop-"+p.String(), at)
		})
	}
	if harness.Against() == "weir" {
		var metadata map[string][]struct{ Type, Help, Unit string }
		s.Get(t, "/api/v1/metadata", url.Values{}, &metadata)
		require.Equal(t, "gauge", metadata["ox_temperature_celsius"][0].Type)
		require.Equal(t, "How warm.", metadata["ox_temperature_celsius"][0].Help)
	}
}

// checkExported compares all that is stored of a job with otlpMetrics.
func checkExported(t *testing.T, s *harness.Server, job string, at int64) {
	t.Helper()
	floats := map[string]float64{
		`ox_temperature_celsius{the_place="a \"b\" é"}`: -0.125,
		`ox_temperature_celsius{}`:                      7,
		`ox_sold_total{}`:                               42,
		`ox_duration_seconds_bucket{le="0.1"}`:          1,
		`ox_duration_seconds_bucket{le="2"}`:            3,
		`ox_duration_seconds_bucket{le="+Inf"}`:         6,
		`ox_duration_seconds_sum{}`:                     3.5,
		`ox_duration_seconds_count{}`:                   6,
		`ox_wait_seconds{quantile="0.5"}`:               0.25,
		`ox_wait_seconds_sum{}`:                         1.5,
		`ox_wait_seconds_count{}`:                       3,
		`target_info{host_name="h1"}`:                   1,
	}
	// Both count buckets from 1; those of scale 1 grow by the root of 2.
	size := &histogram.Histogram{
		Schema: 1, Count: 10, Sum: 99.5, ZeroCount: 1, ZeroThreshold: 1e-128,
		PositiveSpans: []histogram.Span{{Offset: 3, Length: 3}}, PositiveBuckets: []int64{4, -4, 5},
	}
	stored := s.Samples(t, fmt.Sprintf(`{job=%q}`, job), at-1000, at+1000)
	for _, series := range stored {
		require.Equal(t, "i1", series.Labels["instance"])
		key := exportedKey(series.Labels)
		if key == `ox_size_bytes{}` {
			require.Equal(t, map[int64]harness.HistogramJSON{at: harness.JSONOfSample(harness.Sample{H: size})}, series.Histograms)
			continue
		}
		want, ok := floats[key]
		require.True(t, ok, "%s was not sent", key)
		require.Equal(t, map[int64]float64{at: want}, series.Floats, key)
		delete(floats, key)
	}
	require.Empty(t, floats, "not stored")
}

// exportedKey is the metric name and the labels of the data point.
func exportedKey(labels map[string]string) string {
	var own []string
	for name, v := range labels {
		switch name {
		case "__name__", "job", "instance", "otel_scope_name", "otel_scope_version":
		default:
			own = append(own, fmt.Sprintf("%s=%q", name, v))
		}
	}
	return fmt.Sprintf("%s{%s}", labels["__name__"], strings.Join(own, ","))
}
