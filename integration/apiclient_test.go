package integration

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// clientCase calls one method of the client. It checks the answer if there is one.
type clientCase struct {
	endpoint string
	call     func(ctx context.Context, t *testing.T, c v1.API) error
}

// TestAPIClient calls every method of client_golang's API client. An endpoint
// that the index of the server names must give a valid answer, any other a clear
// and final error.
func TestAPIClient(t *testing.T) {
	s := harness.Start(t, harness.Config{Set: []string{"self_metrics.enabled=false"}})
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	cases := clientCases(at)
	writeForClient(t, s, at)
	c, err := api.NewClient(api.Config{Address: s.APIURL()})
	require.NoError(t, err)
	serves := endpointsOf(t, s)
	client := reflect.TypeFor[v1.API]()
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		t.Run(name, func(t *testing.T) {
			require.Contains(t, cases, name, "the client has learnt something")
			tc := cases[name]
			err := tc.call(t.Context(), t, v1.NewAPI(c))
			if serves(tc.endpoint) {
				require.NoError(t, err)
				return
			}
			var refused *v1.Error
			require.ErrorAs(t, err, &refused)
			if harness.Against() == "weir" {
				require.Equal(t, v1.ErrClient, refused.Type)
				require.Contains(t, refused.Msg, "404")
			}
		})
	}
	require.Len(t, cases, client.NumMethod())
}

// endpointsOf tells which endpoints a server has. Prometheus has no index; of
// what it has, only the admin API is off.
func endpointsOf(t *testing.T, s *harness.Server) func(string) bool {
	if harness.Against() != "weir" {
		return func(endpoint string) bool { return !strings.HasPrefix(endpoint, "/admin/") }
	}
	index := s.Text(t, "/")
	require.Contains(t, index, "/api/v1/query ", "the index has another form now")
	return func(endpoint string) bool { return strings.Contains(index, "/api/v1"+endpoint+" ") }
}

// writeForClient writes two series at time at and a second later, one with an
// exemplar and metadata.
func writeForClient(t *testing.T, s *harness.Server, at time.Time) {
	t.Helper()
	for i := range int64(2) {
		ms := at.UnixMilli() + i*1000
		s.Accept(t, harness.V2, harness.Series{
			Labels:    []string{"__name__", "ac_total", "path", "/a"},
			Samples:   []harness.Sample{{T: ms, V: float64(10 + i)}},
			Exemplars: []harness.Exemplar{{Labels: []string{"trace_id", "t" + string(rune('0'+i))}, T: ms, V: 0.25}},
			Metadata:  &harness.Metadata{Type: model.MetricTypeCounter, Help: "Things.", Unit: "things"},
		}, harness.Series{
			Labels:  []string{"__name__", "ac_seconds", "path", "/b"},
			Samples: []harness.Sample{{T: ms, H: bell()}},
		})
	}
}

func clientCases(at time.Time) map[string]clientCase {
	all := queryCases(at)
	for name, tc := range emptyCases() {
		all[name] = tc
	}
	for name, tc := range statusCases() {
		all[name] = tc
	}
	for name, tc := range adminCases(at) {
		all[name] = tc
	}
	return all
}

// queryCases are about samples.
func queryCases(at time.Time) map[string]clientCase {
	from, to := at.Add(-time.Minute), at.Add(time.Minute)
	counter := model.Metric{"__name__": "ac_total", "path": "/a"}
	ms := model.TimeFromUnixNano(at.UnixNano())
	return map[string]clientCase{
		"Query": {"/query", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, warnings, infos, err := c.Query(ctx, `ac_total`, at.Add(time.Second), v1.WithTimeout(time.Minute), v1.WithLimit(10), v1.WithLookbackDelta(time.Minute))
			require.Empty(t, warnings)
			require.Empty(t, infos)
			require.Equal(t, model.Vector{{Metric: counter, Value: 11, Timestamp: ms + 1000}}, got)
			return err
		}},
		"QueryRange": {"/query_range", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, _, _, err := c.QueryRange(ctx, `{__name__=~"ac_.*"}`, v1.Range{Start: at, End: at.Add(time.Second), Step: time.Second}, v1.WithStats(v1.AllStatsValue))
			require.NoError(t, err)
			matrix := got.(model.Matrix)
			require.Len(t, matrix, 2)
			require.Len(t, matrix[0].Histograms, 2)
			require.Equal(t, model.FloatString(22), matrix[0].Histograms[1].Histogram.Count)
			require.Equal(t, model.FloatString(17.25), matrix[0].Histograms[1].Histogram.Sum)
			require.Equal(t, &model.SampleStream{Metric: counter, Values: []model.SamplePair{{Timestamp: ms, Value: 10}, {Timestamp: ms + 1000, Value: 11}}}, matrix[1])
			return nil
		}},
		"QueryExemplars": {"/query_exemplars", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.QueryExemplars(ctx, `ac_total`, from, to)
			require.Equal(t, []v1.ExemplarQueryResult{{SeriesLabels: model.LabelSet(counter), Exemplars: []v1.Exemplar{
				{Labels: model.LabelSet{"trace_id": "t0"}, Value: 0.25, Timestamp: ms},
				{Labels: model.LabelSet{"trace_id": "t1"}, Value: 0.25, Timestamp: ms + 1000},
			}}}, got)
			return err
		}},
		"Series": {"/series", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, _, _, err := c.Series(ctx, []string{`ac_total`, `{path="/b"}`}, from, to)
			require.ElementsMatch(t, []model.LabelSet{{"__name__": "ac_total", "path": "/a"}, {"__name__": "ac_seconds", "path": "/b"}}, got)
			limited, warnings, _, limitErr := c.Series(ctx, []string{`{path=~".+"}`}, from, to, v1.WithLimit(1))
			require.NoError(t, limitErr)
			require.Len(t, limited, 1)
			require.NotEmpty(t, warnings, "of the limit")
			return err
		}},
		"LabelNames": {"/labels", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, _, _, err := c.LabelNames(ctx, []string{`ac_total`}, from, to)
			require.Equal(t, model.LabelNames{"__name__", "path"}, got)
			return err
		}},
		"LabelValues": {"/label/{name}/values", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, _, _, err := c.LabelValues(ctx, "path", nil, from, to)
			require.Equal(t, model.LabelValues{"/a", "/b"}, got)
			return err
		}},
		"Metadata": {"/metadata", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Metadata(ctx, "ac_total", "5")
			if harness.Against() == "weir" { // Prometheus knows that of its targets only
				require.Equal(t, map[string][]v1.Metadata{"ac_total": {{Type: v1.MetricTypeCounter, Help: "Things.", Unit: "things"}}}, got)
			}
			return err
		}},
		"FormatQuery": {"/format_query", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.FormatQuery(ctx, `sum(rate(ac_total[5m]))by(path)`)
			if err == nil {
				require.JSONEq(t, `"sum by (path) (rate(ac_total[5m]))"`, got, "which the client does not decode")
			}
			return err
		}},
	}
}

// emptyCases are about what weir has none of.
func emptyCases() map[string]clientCase {
	return map[string]clientCase{
		"Alerts": {"/alerts", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Alerts(ctx)
			require.Empty(t, got.Alerts)
			return err
		}},
		"AlertManagers": {"/alertmanagers", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.AlertManagers(ctx)
			require.Empty(t, got.Active)
			require.Empty(t, got.Dropped)
			return err
		}},
		"Rules": {"/rules", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Rules(ctx, nil)
			require.Empty(t, got.Groups)
			return err
		}},
		"Targets": {"/targets", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Targets(ctx)
			require.Empty(t, got.Active)
			require.Empty(t, got.Dropped)
			return err
		}},
		"TargetsMetadata": {"/targets/metadata", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.TargetsMetadata(ctx, "", "ac_total", "5")
			if err == nil && harness.Against() == "weir" { // of no target, but of what was written
				require.Len(t, got, 1)
				require.Equal(t, "Things.", got[0].Help)
			}
			return err
		}},
	}
}

// statusCases are about the process.
func statusCases() map[string]clientCase {
	return map[string]clientCase{
		"Buildinfo": {"/status/buildinfo", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Buildinfo(ctx)
			require.NotEmpty(t, got.GoVersion)
			return err
		}},
		"Runtimeinfo": {"/status/runtimeinfo", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Runtimeinfo(ctx)
			if err == nil {
				require.WithinDuration(t, time.Now(), got.StartTime, time.Hour)
				require.Positive(t, got.GoroutineCount)
			}
			return err
		}},
		"Config": {"/status/config", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Config(ctx)
			if err == nil {
				require.NotEmpty(t, got.YAML)
			}
			return err
		}},
		"Flags": {"/status/flags", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Flags(ctx)
			if err == nil {
				require.NotEmpty(t, got)
			}
			return err
		}},
		"TSDB": {"/status/tsdb", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.TSDB(ctx, v1.WithLimit(5))
			if err == nil {
				require.Equal(t, 2, got.HeadStats.NumSeries)
				require.Positive(t, got.HeadStats.ChunkCount)
				require.Contains(t, got.SeriesCountByMetricName, v1.Stat{Name: "ac_total", Value: 1})
			}
			return err
		}},
		"TSDBBlocks": {"/status/tsdb/blocks", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.TSDBBlocks(ctx)
			require.Empty(t, got.Blocks, "all is in memory")
			return err
		}},
		"WalReplay": {"/status/walreplay", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.WalReplay(ctx)
			require.Equal(t, got.Max, got.Current, "nothing is left to replay")
			return err
		}},
	}
}

// adminCases change what is stored.
func adminCases(at time.Time) map[string]clientCase {
	return map[string]clientCase{
		"CleanTombstones": {"/admin/tsdb/clean_tombstones", func(ctx context.Context, _ *testing.T, c v1.API) error {
			return c.CleanTombstones(ctx)
		}},
		"DeleteSeries": {"/admin/tsdb/delete_series", func(ctx context.Context, _ *testing.T, c v1.API) error {
			return c.DeleteSeries(ctx, []string{"ac_none"}, at, at)
		}},
		"Snapshot": {"/admin/tsdb/snapshot", func(ctx context.Context, t *testing.T, c v1.API) error {
			got, err := c.Snapshot(ctx, true)
			if err == nil {
				require.NotEmpty(t, got.Name)
			}
			return err
		}},
	}
}
