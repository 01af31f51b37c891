package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// TestVMAgent lets a real vmagent scrape and write. What it scraped is read back,
// each value once, with zstd, which it begins with, and with snappy. A series
// that is refused in every request must not make it give up zstd, nor lose it
// what is valid.
func TestVMAgent(t *testing.T) {
	if harness.Against() == "prometheus" {
		t.Skip("Prometheus does not take zstd")
	}
	root, err := server.Root()
	require.NoError(t, err)
	binary, err := server.Ensure(t.Context(), server.VMAgent(), root, filepath.Join(root, "bin"), os.Stderr)
	require.NoError(t, err)
	for _, c := range []struct {
		name, encoding string
		flags          []string
		refused        bool
	}{
		{name: "zstd", encoding: "zstd"},
		{name: "snappy", encoding: "snappy", flags: []string{"-remoteWrite.forcePromProto"}},
		{name: "zstd, some refused", encoding: "zstd", refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := harness.Start(t, harness.Config{})
			target := &scraped{refused: c.refused}
			exporter := httptest.NewServer(target)
			defer exporter.Close()
			wire := newWiretap(t, s.Process().URL)
			dir := t.TempDir()
			config := filepath.Join(dir, "scrape.yml")
			require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: rt
    static_configs: [{targets: [%q]}]
`, strings.TrimPrefix(exporter.URL, "http://")), 0o644))
			start := time.Now().UnixMilli()
			agent, err := server.Start(t.Context(), server.VMAgent(), binary, server.Options{
				DataDir: dir, LogPath: filepath.Join(dir, "log"), MemoryLimit: 1 << 30,
				ExtraArgs: append([]string{"-promscrape.config=" + config, "-remoteWrite.url=" + wire.URL + "/api/v1/write"}, c.flags...),
			})
			require.NoError(t, err, server.Tail(filepath.Join(dir, "log"), 4<<10))
			defer agent.Kill()
			require.Eventually(t, func() bool { return target.scrapes() >= 5 }, time.Minute, 100*time.Millisecond)
			require.NoError(t, agent.Stop(harness.StopWithin), "it sends what it still has")

			n := target.scrapes()
			got := s.Only(t, `rt_vmagent_scrapes_total{job="rt"}`, start-1000, time.Now().UnixMilli())
			values := map[float64]int{}
			for _, v := range got.Floats {
				values[v]++
			}
			want := map[float64]int{}
			for i := range n {
				want[float64(i+1)] = 1
			}
			require.Equal(t, want, values)
			require.Equal(t, []string{"1.7976931348623157e+308"}, s.Instant(t, `last_over_time(rt_vmagent_gauge[1m])`, time.Now().UnixMilli()))
			require.Len(t, s.Samples(t, `rt_vmagent_refused`, start-1000, time.Now().UnixMilli()), 0)
			wire.check(t, c.encoding, c.refused)
		})
	}
}

// scraped is a target that counts its scrapes.
type scraped struct {
	refused bool // also shows a series that weir refuses
	mu      sync.Mutex
	n       int
}

func (s *scraped) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	fmt.Fprintf(w, "# TYPE rt_vmagent_scrapes_total counter\nrt_vmagent_scrapes_total %d\nrt_vmagent_gauge{a=\"größe\"} 1.7976931348623157e+308\n", s.n)
	if s.refused {
		fmt.Fprintf(w, "rt_vmagent_refused{long=%q} 1\n", strings.Repeat("x", 4000)+strings.Repeat("ü", 60))
	}
}

func (s *scraped) scrapes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// wiretap forwards to a server and notes what passes.
type wiretap struct {
	*httptest.Server
	mu        sync.Mutex
	encodings map[string]int // Content-Encoding of requests
	statuses  map[int]int    // of answers
}

func newWiretap(t *testing.T, to string) *wiretap {
	u, err := url.Parse(to)
	require.NoError(t, err)
	w := &wiretap{encodings: map[string]int{}, statuses: map[int]int{}}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = func(resp *http.Response) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.encodings[resp.Request.Header.Get("Content-Encoding")]++
		w.statuses[resp.StatusCode]++
		return nil
	}
	w.Server = httptest.NewServer(proxy)
	t.Cleanup(w.Close)
	return w
}

// check wants nothing but requests in one encoding, and the statuses that go
// with them.
func (w *wiretap) check(t *testing.T, encoding string, refused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests := w.encodings[encoding]
	require.GreaterOrEqual(t, requests, 2)
	require.Equal(t, map[string]int{encoding: requests}, w.encodings)
	if refused {
		require.Positive(t, w.statuses[http.StatusConflict])
	}
	require.Equal(t, requests, w.statuses[http.StatusNoContent]+w.statuses[http.StatusConflict])
}
