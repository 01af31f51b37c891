package integration

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// startReader starts a Prometheus that has no samples of its own and reads those
// of s.
func startReader(t *testing.T, s *harness.Server, global string) *harness.Server {
	t.Helper()
	return harness.Beside(t, server.PrometheusWith(fmt.Sprintf(
		"global: {%s}\nremote_read:\n  - url: %s/api/v1/read\n    read_recent: true\n", global, s.APIURL()), false))
}

// TestPrometheusReadsRemotely puts queries to a real Prometheus that reads from
// the server under test, of every kind of sample.
func TestPrometheusReadsRemotely(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	writeFloats(t, s, base)
	times := writeHistograms(t, s, base)
	reader := startReader(t, s, "")
	for _, p := range protocols {
		for _, c := range floatCases {
			checkFloatQuery(t, reader, p, c.name, c.bits, base)
		}
		for _, c := range histogramCases {
			checkHistogramQuery(t, reader, p, c.name, c.Sample, times)
		}
	}
	require.Equal(t, s.Instant(t, `sum by (protocol) (count_over_time({__name__=~"rt_.*"}[5m]))`, base+5000),
		reader.Instant(t, `sum by (protocol) (count_over_time({__name__=~"rt_.*"}[5m]))`, base+5000))

	// It prefers chunks, and got all of them.
	kinds := 0
	for line := range strings.Lines(reader.Text(t, "/metrics")) {
		if strings.HasPrefix(line, "prometheus_remote_read_client_queries_total") {
			require.Contains(t, line, `response_type="chunked"`)
			require.Contains(t, line, `code="200"`)
			kinds++
		}
	}
	require.Equal(t, 1, kinds)
}

// TestExternalLabelsOfReader has a Prometheus with external labels: it asks for
// series that have them, and takes them off the answer.
func TestExternalLabelsOfReader(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	for i, cluster := range []string{"north", "south"} {
		s.Accept(t, harness.V2, harness.Series{
			Labels:  []string{"__name__", "rt_external", "a", "1", "cluster", cluster, "z", "2"},
			Samples: []harness.Sample{{T: base, V: float64(i)}},
		})
	}
	reader := startReader(t, s, "external_labels: {cluster: south}")
	got := reader.Only(t, "rt_external", base-1000, base+1000)
	require.Equal(t, map[string]string{"__name__": "rt_external", "a": "1", "z": "2"}, got.Labels)
	require.Equal(t, map[int64]float64{base: 1}, got.Floats)
	got = reader.Only(t, `rt_external{cluster="north"}`, base-1000, base+1000)
	require.Equal(t, map[string]string{"__name__": "rt_external", "a": "1", "cluster": "north", "z": "2"}, got.Labels)
	require.Equal(t, map[int64]float64{base: 0}, got.Floats)
}

// TestRemoteReadRoundTrip reads both response types by Prometheus' client, and
// compares bit by bit with what was written: NaNs and stale markers, which no
// query shows, included.
func TestRemoteReadRoundTrip(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli()
	writeFloats(t, s, base)
	times := writeHistograms(t, s, base)
	for _, typ := range []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
		t.Run(typ.String(), func(t *testing.T) {
			client := readClient(t, s, typ)
			for _, p := range protocols {
				floats := readRemotely(t, client, "rt_float", p, base)
				for _, c := range floatCases {
					want := []uint64{c.bits, math.Float64bits(42), c.bits, math.Float64bits(43)}
					got := floats[c.name]
					require.Len(t, got, len(want), c.name)
					for i, at := range []int64{-90_000, 0, 1000, 2000} {
						require.Equal(t, base+at, got[i].T, c.name)
						if minusZeroIsLost(typ, want[i]) {
							continue
						}
						require.Equal(t, want[i], math.Float64bits(got[i].V), c.name)
					}
				}
				histograms := readRemotely(t, client, "rt_histogram", p, base)
				for _, c := range histogramCases {
					got := histograms[c.name]
					require.Len(t, got, 3, c.name)
					for i, at := range []int64{times[2], times[0], times[1]} {
						require.Equal(t, at, got[i].T, c.name)
						checkHistogramDisk(t, c.name, c.Sample, got[i])
					}
				}
			}
		})
	}
}

// minusZeroIsLost: Prometheus encodes -0 as 0.
func minusZeroIsLost(typ prompb.ReadRequest_ResponseType, bits uint64) bool {
	return harness.Against() == "prometheus" && typ == prompb.ReadRequest_SAMPLES && bits == 1<<63
}

func readClient(t *testing.T, s *harness.Server, types ...prompb.ReadRequest_ResponseType) remote.ReadClient {
	t.Helper()
	u, err := url.Parse(s.APIURL() + "/api/v1/read")
	require.NoError(t, err)
	client, err := remote.NewReadClient(strings.ToLower(types[0].String()), &remote.ClientConfig{
		URL: &config_util.URL{URL: u}, Timeout: model.Duration(time.Minute),
		ChunkedReadLimit: config.DefaultChunkedReadLimit, AcceptedResponseTypes: types,
	})
	require.NoError(t, err)
	return client
}

// readRemotely returns the samples of a metric written by a protocol, by case.
func readRemotely(t *testing.T, client remote.ReadClient, metric string, p harness.Protocol, base int64) map[string][]harness.Sample {
	t.Helper()
	query, err := remote.ToQuery(base-100_000, base+10_000, []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, metric),
		labels.MustNewMatcher(labels.MatchRegexp, "protocol", p.String()+"|none"),
	}, nil)
	require.NoError(t, err)
	set, err := client.Read(t.Context(), query, true)
	require.NoError(t, err)
	out := map[string][]harness.Sample{}
	for set.Next() {
		name := set.At().Labels().Get("case")
		require.NotContains(t, out, name, "a series came twice")
		out[name] = harness.SamplesOf(t, set.At())
	}
	require.NoError(t, set.Err())
	return out
}

// TestRemoteReadWithStartTimestamps has a store whose chunks have an encoding
// that older readers do not know.
func TestRemoteReadWithStartTimestamps(t *testing.T) {
	s := harness.Start(t, harness.Config{Set: []string{"ingester.start_timestamps=true"}})
	base := time.Now().Add(-time.Minute).UnixMilli()
	s.Accept(t, harness.V2, harness.Series{
		Labels:  []string{"__name__", "rt_start_total", "case", "start", "protocol", "rw2"},
		Samples: []harness.Sample{{T: base, ST: base - 5000, V: 1}, {T: base + 1000, ST: base - 5000, V: 2}},
	})
	for _, typ := range []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
		got := readRemotely(t, readClient(t, s, typ), "rt_start_total", harness.V2, base)["start"]
		require.Len(t, got, 2)
		require.Equal(t, []float64{1, 2}, []float64{got[0].V, got[1].V})
	}
}
