package integration

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// target is something to scrape. Between two scrapes it changes what it exposes.
type target struct {
	*httptest.Server
	registry *prometheus.Registry
	scrapes  atomic.Int64
}

func startTarget(t *testing.T) *target {
	t.Helper()
	tg := &target{registry: prometheus.NewRegistry()}
	count := prometheus.NewCounter(prometheus.CounterOpts{Name: "tg_scrapes_total", Help: "Scrapes."})
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tg_celsius", Help: "Temperature."}, []string{"place"})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tg_classic_seconds", Help: "Classic.", Buckets: []float64{0.1, 0.25}})
	native := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tg_native_seconds", Help: "Native.", NativeHistogramBucketFactor: 1.5})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "tg_summary_seconds", Help: "Summary.", Objectives: map[float64]float64{0.5: 0.05}})
	tg.registry.MustRegister(count, gauge, classic, native, summary)
	gauge.WithLabelValues("kitchen, \"hot\"").Set(-0.125)
	handler := promhttp.HandlerFor(tg.registry, promhttp.HandlerOpts{})
	tg.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := float64(tg.scrapes.Add(1))
		count.Inc()
		gauge.WithLabelValues("cellar").Set(n / 7)
		for _, observe := range []func(float64){classic.Observe, native.Observe, summary.Observe} {
			observe(n / 10)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(tg.Close)
	return tg
}

// TestAgent has a real Prometheus in agent mode scrape a target, and write what
// it exposes by both protocols.
func TestAgent(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	tg := startTarget(t)
	var writes strings.Builder
	for p, message := range map[harness.Protocol]string{harness.V1: "prometheus.WriteRequest", harness.V2: "io.prometheus.write.v2.Request"} {
		fmt.Fprintf(&writes, `
  - url: %s
    name: %s
    protobuf_message: %s
    send_native_histograms: true
    queue_config: {batch_send_deadline: 100ms}
    metadata_config: {send_interval: 500ms}
    write_relabel_configs: [{target_label: protocol, replacement: %s}]`, s.WriteURL(), p, message, p)
	}
	agent := harness.Beside(t, server.PrometheusWith(fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, scrape_native_histograms: true, external_labels: {site: lab}}
scrape_configs: [{job_name: target, static_configs: [{targets: [%q]}]}]
remote_write:%s
`, strings.TrimPrefix(tg.URL, "http://"), &writes), true))
	require.Eventually(t, func() bool { return tg.scrapes.Load() >= 6 }, time.Minute, 50*time.Millisecond)
	agent.Stop() // which sends what is left
	scrapes := tg.scrapes.Load()

	now := time.Now().UnixMilli()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			var metadata map[string][]struct{ Type, Help, Unit string }
			s.Get(t, "/api/v1/metadata", url.Values{}, &metadata)
			families, err := tg.registry.Gather()
			require.NoError(t, err)
			for _, f := range families {
				if harness.Against() == "weir" {
					require.Equal(t, strings.ToLower(f.GetType().String()), metadata[f.GetName()][0].Type, f.GetName())
					require.Equal(t, f.GetHelp(), metadata[f.GetName()][0].Help)
				}
			}
			checkScrapes(t, s, p, tg, scrapes, now)
		})
	}
}

// checkScrapes compares everything stored with what the target exposed, scrape by
// scrape as far as that can be computed, and at the last.
func checkScrapes(t *testing.T, s *harness.Server, p harness.Protocol, tg *target, scrapes, now int64) {
	t.Helper()
	common := map[string]string{"job": "target", "instance": strings.TrimPrefix(tg.URL, "http://"), "site": "lab", "protocol": p.String()}
	stored := map[string]harness.Stored{}
	for _, series := range s.Samples(t, fmt.Sprintf(`{__name__=~"tg_.*",protocol=%q}`, p), now-60_000, now) {
		key := model.LabelSet{}
		for name, v := range series.Labels {
			if common[name] == "" {
				key[model.LabelName(name)] = model.LabelValue(v)
				continue
			}
			require.Equal(t, common[name], v)
		}
		stored[key.String()] = series
	}
	// The target goes on from one scrape to the next: none is missing, or twice.
	for i, at := range times(stored[`{__name__="tg_scrapes_total"}`].Floats) {
		require.Equal(t, float64(i+1), stored[`{__name__="tg_scrapes_total"}`].Floats[at])
		require.Equal(t, float64(i+1)/7, stored[`{__name__="tg_celsius", place="cellar"}`].Floats[at])
		require.Equal(t, float64(i+1), stored[`{__name__="tg_classic_seconds_count"}`].Floats[at])
		require.Equal(t, fmt.Sprint(i+1), stored[`{__name__="tg_native_seconds"}`].Histograms[at].Count)
	}
	require.Len(t, stored[`{__name__="tg_scrapes_total"}`].Floats, int(scrapes))

	families, err := tg.registry.Gather()
	require.NoError(t, err)
	exposed := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for key, v := range floatsOf(f, m) {
				got := stored[key].Floats
				require.Len(t, got, int(scrapes), key)
				require.Equal(t, v, got[times(got)[scrapes-1]], key)
				exposed++
			}
			if h := m.GetHistogram(); h != nil && h.Schema != nil {
				got := stored[fmt.Sprintf(`{__name__=%q}`, f.GetName())].Histograms
				require.Len(t, got, int(scrapes))
				require.Equal(t, harness.JSONOfSample(harness.Sample{H: nativeOf(h)}), got[times(got)[scrapes-1]])
				exposed++
			}
		}
	}
	require.Len(t, stored, exposed, "nothing else is stored")
}

// nativeOf is a native histogram of positive values.
func nativeOf(h *dto.Histogram) *histogram.Histogram {
	out := &histogram.Histogram{
		Schema: h.GetSchema(), Count: h.GetSampleCount(), Sum: h.GetSampleSum(),
		ZeroThreshold: h.GetZeroThreshold(), ZeroCount: h.GetZeroCount(), PositiveBuckets: h.GetPositiveDelta(),
	}
	for _, span := range h.GetPositiveSpan() {
		out.PositiveSpans = append(out.PositiveSpans, histogram.Span{Offset: span.GetOffset(), Length: span.GetLength()})
	}
	return out
}

// floatsOf is what a scrape makes of a metric without a native histogram, by
// labels as text.
func floatsOf(f *dto.MetricFamily, m *dto.Metric) map[string]float64 {
	out := map[string]float64{}
	add := func(suffix string, v float64, extra ...string) {
		ls := model.LabelSet{model.MetricNameLabel: model.LabelValue(f.GetName() + suffix)}
		for _, l := range m.GetLabel() {
			ls[model.LabelName(l.GetName())] = model.LabelValue(l.GetValue())
		}
		for i := 0; i < len(extra); i += 2 {
			ls[model.LabelName(extra[i])] = model.LabelValue(extra[i+1])
		}
		out[ls.String()] = v
	}
	switch h, sum := m.GetHistogram(), m.GetSummary(); {
	case m.GetCounter() != nil:
		add("", m.GetCounter().GetValue())
	case m.GetGauge() != nil:
		add("", m.GetGauge().GetValue())
	case sum != nil:
		add("_sum", sum.GetSampleSum())
		add("_count", float64(sum.GetSampleCount()))
		for _, q := range sum.GetQuantile() {
			add("", q.GetValue(), "quantile", fmt.Sprint(q.GetQuantile()))
		}
	case h != nil && h.Schema == nil:
		add("_sum", h.GetSampleSum())
		add("_count", float64(h.GetSampleCount()))
		add("_bucket", float64(h.GetSampleCount()), "le", "+Inf")
		for _, b := range h.GetBucket() {
			add("_bucket", float64(b.GetCumulativeCount()), "le", model.SampleValue(b.GetUpperBound()).String())
		}
	}
	return out
}

// times returns the timestamps of samples in ascending order.
func times[V any](samples map[int64]V) []int64 {
	return slices.Sorted(maps.Keys(samples))
}
