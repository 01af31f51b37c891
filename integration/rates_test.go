package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// TestRates: a sender that scrapes more than its tenant's rate is
// stored at that rate, and once it has caught up nothing is missing.
func TestRates(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own contract")
	}
	if testing.Short() {
		t.Skip("takes a minute and more")
	}
	prometheus := func(retries bool) func(t *testing.T, s *harness.Server, target string) {
		return func(t *testing.T, s *harness.Server, target string) {
			harness.Beside(t, server.PrometheusWith(fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: target, static_configs: [{targets: [%q]}]}]
remote_write:
  - url: %s
    queue_config: {retry_on_http_429: %t, max_samples_per_send: 100, batch_send_deadline: 500ms, min_shards: 10, max_shards: 10}
`, target, s.WriteURL(), retries), true))
		}
	}
	for _, c := range []struct {
		name, onLimit string
		start         func(t *testing.T, s *harness.Server, target string)
	}{
		{"prometheus that repeats after 429", "reject-429", prometheus(true)},
		{"prometheus that does not", "auto", prometheus(false)},
		{"vmagent", "auto", func(t *testing.T, s *harness.Server, target string) {
			dir := t.TempDir()
			config := filepath.Join(dir, "scrape.yml")
			require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s}
scrape_configs: [{job_name: target, static_configs: [{targets: [%q]}]}]
`, target), 0o644))
			agent, err := server.Start(t.Context(), server.VMAgent(), harness.Program(t, server.VMAgent()), server.Options{
				DataDir: dir, LogPath: filepath.Join(dir, "log"), MemoryLimit: 1 << 30,
				ExtraArgs: []string{
					"-promscrape.config=" + config, "-remoteWrite.url=" + s.WriteURL(),
					"-remoteWrite.queues=10", "-remoteWrite.maxRowsPerBlock=100",
				},
			})
			require.NoError(t, err, server.Tail(filepath.Join(dir, "log"), 4<<10))
			t.Cleanup(agent.Kill)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const limit, burst, overload = 500, 1000, 650 // samples, a second
			s := harness.Start(t, harness.Config{Set: []string{
				"self_metrics.enabled=false", "limits.on_limit=" + c.onLimit, fmt.Sprintf("limits.ingestion_rate=%d", limit), fmt.Sprintf("limits.ingestion_burst_size=%d", burst),
			}})
			tg := &busy{series: overload}
			exporter := httptest.NewServer(tg)
			t.Cleanup(exporter.Close)
			begin := time.Now().UnixMilli()
			c.start(t, s, strings.TrimPrefix(exporter.URL, "http://"))
			for counted(t, s, "weir_receiver_requests_total", "weir-ingestion-rate") == 0 {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			var line slope
			for since := time.Now(); time.Since(since) < 25*time.Second; time.Sleep(200 * time.Millisecond) {
				line.add(time.Since(since).Seconds(), counted(t, s, "weir_receiver_written_samples_total", ""))
			}
			rate := line.value()
			scrapes := int(tg.stop())
			progress(t, "%.1f samples a second, the limit is %d; %.0f requests held, %.0f refused, of which %.0f came back in time and %.0f did not", rate, limit,
				counted(t, s, "weir_receiver_rate_held_requests_total", ""), counted(t, s, "weir_receiver_requests_total", "weir-ingestion-rate"),
				counted(t, s, "weir_receiver_rate_places_total", "kept"), counted(t, s, "weir_receiver_rate_places_total", "lapsed"))
			require.InEpsilon(t, limit, rate, 0.03)

			var got []harness.Stored
			require.Eventually(t, func() bool {
				got = s.Samples(t, "rt_busy", begin, time.Now().UnixMilli())
				n := 0
				for _, series := range got {
					n += len(series.Floats)
				}
				return n >= scrapes*overload
			}, time.Minute, time.Second, "nothing is lost")
			require.Len(t, got, overload)
			for _, series := range got {
				require.Len(t, series.Floats, scrapes)
				for i, at := range times(series.Floats) {
					require.Equal(t, float64(i+1), series.Floats[at])
				}
			}
			require.Positive(t, counted(t, s, "weir_receiver_rate_places_total", "kept"))
			require.Zero(t, counted(t, s, "weir_receiver_rate_places_total", "lapsed"))
		})
	}
}

// busy is a target of many series, until it is stopped. Their value is the number
// of the scrape.
type busy struct {
	series  int
	scrapes atomic.Int64
	stopped atomic.Bool
}

func (b *busy) stop() int64 {
	b.stopped.Store(true)
	return b.scrapes.Load()
}

func (b *busy) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if b.stopped.Load() {
		http.Error(w, "stopped", http.StatusServiceUnavailable)
		return
	}
	n := b.scrapes.Add(1)
	var text bytes.Buffer
	for i := range b.series {
		fmt.Fprintf(&text, "rt_busy{i=\"%d\"} %d\n", i, n)
	}
	_, _ = text.WriteTo(w)
}

// slope is that of a line through points, by least squares. Senders come back all
// together, so that what is stored grows in steps: with two points it would matter
// where on a step they lie.
type slope struct{ n, x, y, xx, xy float64 }

func (s *slope) add(x, y float64) {
	s.n++
	s.x += x
	s.y += y
	s.xx += x * x
	s.xy += x * y
}

func (s *slope) value() float64 { return (s.n*s.xy - s.x*s.y) / (s.n*s.xx - s.x*s.x) }

// counted is the sum of a metric of weir over all its series, or those that have a
// label of this value.
func counted(t *testing.T, s *harness.Server, name, value string) (sum float64) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(s.Text(t, "/metrics")))
	require.NoError(t, err)
	for _, m := range families[name].GetMetric() {
		has := value == ""
		for _, l := range m.GetLabel() {
			has = has || l.GetValue() == value
		}
		if has {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}
