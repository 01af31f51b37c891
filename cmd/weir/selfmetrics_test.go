package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// decoded is a request with its references resolved.
type decoded struct {
	series    map[string]writev2.TimeSeries
	metadata  map[string]string // type: help
	exemplars map[string]string // labels of the last one
}

func decode(t *testing.T, request []byte) decoded {
	t.Helper()
	var req writev2.Request
	require.NoError(t, req.Unmarshal(request))
	d := decoded{map[string]writev2.TimeSeries{}, map[string]string{}, map[string]string{}}
	b := labels.NewScratchBuilder(8)
	for _, ts := range req.Timeseries {
		lset, err := ts.ToLabels(&b, req.Symbols)
		require.NoError(t, err)
		require.Equal(t, "weir", lset.Get(model.JobLabel))
		require.Equal(t, "host:9009", lset.Get(model.InstanceLabel))
		key := labels.NewBuilder(lset).Del(model.JobLabel, model.InstanceLabel).Labels().String()
		require.NotContains(t, d.series, key)
		d.series[key] = ts
		meta, err := ts.ToMetadata(req.Symbols)
		require.NoError(t, err)
		d.metadata[key] = string(meta.Type) + ": " + meta.Help
		for _, e := range ts.Exemplars {
			ex, err := e.ToExemplar(&b, req.Symbols)
			require.NoError(t, err)
			d.exemplars[key] = ex.Labels.String()
		}
	}
	return d
}

func TestGatherRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "c_total", Help: "Counted."}, []string{"reason"})
		gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "g", Help: "Gauged."})
		classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_bytes", Help: "Sized.", Buckets: []float64{1, 10}})
		native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "n_seconds", Help: "Timed.", NativeHistogramBucketFactor: 1.1})
		summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s", Help: "Summed.", Objectives: map[float64]float64{0.5: 0.1}})
		reg.MustRegister(counter, gauge, classic, native, summary)
		start := time.Now().UnixMilli()
		counter.WithLabelValues("late").Add(3)
		counter.WithLabelValues("early").(prometheus.ExemplarAdder).AddWithExemplar(2, prometheus.Labels{"trace_id": "one"})
		gauge.Set(-1.5)
		classic.Observe(5)
		native.(prometheus.ExemplarObserver).ObserveWithExemplar(0.25, prometheus.Labels{"trace_id": "two"})
		native.Observe(3)
		summary.Observe(8)
		time.Sleep(time.Minute)

		now := time.Now()
		request, err := gatherRequest(reg, "host:9009", now)
		require.NoError(t, err)
		d := decode(t, request)

		sample := func(value float64, start int64) []writev2.Sample {
			return []writev2.Sample{{Value: value, Timestamp: now.UnixMilli(), StartTimestamp: start}}
		}
		for key, want := range map[string][]writev2.Sample{
			`{__name__="up"}`:                        sample(1, 0),
			`{__name__="c_total", reason="late"}`:    sample(3, start),
			`{__name__="c_total", reason="early"}`:   sample(2, start),
			`{__name__="g"}`:                         sample(-1.5, 0),
			`{__name__="h_bytes_bucket", le="1.0"}`:  sample(0, start),
			`{__name__="h_bytes_bucket", le="10.0"}`: sample(1, start),
			`{__name__="h_bytes_bucket", le="+Inf"}`: sample(1, start),
			`{__name__="h_bytes_sum"}`:               sample(5, start),
			`{__name__="h_bytes_count"}`:             sample(1, start),
			`{__name__="s", quantile="0.5"}`:         sample(8, start),
			`{__name__="s_sum"}`:                     sample(8, start),
			`{__name__="s_count"}`:                   sample(1, start),
			`{__name__="n_seconds"}`:                 nil,
		} {
			require.Equal(t, want, d.series[key].Samples, key)
			delete(d.series, key)
		}
		require.Empty(t, d.series, "series that nobody gathered")
		require.Equal(t, "counter: Counted.", d.metadata[`{__name__="c_total", reason="late"}`])
		require.Equal(t, "gauge: Gauged.", d.metadata[`{__name__="g"}`])
		require.Equal(t, "histogram: Timed.", d.metadata[`{__name__="n_seconds"}`])
		require.Equal(t, `{trace_id="one"}`, d.exemplars[`{__name__="c_total", reason="early"}`])
		require.Equal(t, `{trace_id="two"}`, d.exemplars[`{__name__="n_seconds"}`])
	})
}

func TestGatherRequestNativeHistogram(t *testing.T) {
	reg := prometheus.NewRegistry()
	native := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "n_seconds", Help: "Timed.", NativeHistogramBucketFactor: 1.1,
		Buckets: prometheus.DefBuckets, // as our request durations, for other scrapers
	})
	reg.MustRegister(native)
	for _, v := range []float64{0, 0.25, 0.26, 3} {
		native.Observe(v)
	}
	request, err := gatherRequest(reg, "host:9009", time.UnixMilli(5))
	require.NoError(t, err)
	series := decode(t, request).series
	require.Len(t, series, 2, "up, and no classic buckets")
	got := series[`{__name__="n_seconds"}`]
	require.Len(t, got.Histograms, 1)
	h := got.Histograms[0].ToIntHistogram()
	require.NoError(t, h.Validate())
	require.Equal(t, uint64(4), h.Count)
	require.Equal(t, uint64(1), h.ZeroCount)
	require.Equal(t, 3.51, h.Sum)
	require.Equal(t, int64(5), got.Histograms[0].Timestamp)
	require.NotZero(t, got.Histograms[0].StartTimestamp)
}

func TestSelfMetricsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		var rounds []time.Duration
		full := errors.New("disk full")
		answers := []error{nil, nil, full, full, nil}
		begin := time.Now()
		write := func(_ context.Context, tenant string, request []byte) error {
			require.Equal(t, "ops", tenant)
			require.NotEmpty(t, request)
			rounds = append(rounds, time.Since(begin))
			return answers[len(rounds)-1]
		}
		cfg := SelfMetricsConfig{Enabled: true, Tenant: "ops", Interval: 10 * time.Second}
		s := newSelfMetrics(cfg, "host:9009", prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&logged, nil)), write)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		firsts := 0
		go func() { done <- s.run(ctx, func() { firsts++ }) }()
		time.Sleep(45 * time.Second)
		cancel()
		require.NoError(t, <-done)

		require.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 40 * time.Second}, rounds)
		require.Equal(t, 1, firsts)
		require.Equal(t, 2.0, testutil.ToFloat64(s.failures))
		require.Equal(t, 1, strings.Count(logged.String(), "own metrics are not stored"), logged.String())
		require.Equal(t, 1, strings.Count(logged.String(), "own metrics are stored again"), logged.String())
	})
}
