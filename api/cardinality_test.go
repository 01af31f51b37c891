package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/tenant"
)

// reports is a store with one series, that remembers what it was asked.
type reports struct {
	tenant string
	query  cardinality.Query
	limit  int
	day    time.Time
}

func (r *reports) SeriesReport(_ context.Context, tenantID string, q cardinality.Query) (*cardinality.Report, error) {
	r.tenant, r.query = tenantID, q
	return &cardinality.Report{
		Survey: cardinality.Survey{
			Series: 7, Names: 2, Values: 5,
			Labels: []cardinality.LabelCount{{Name: "job", Values: 3, Series: 6, Top: []cardinality.PairCount{{Name: "job", Value: "a", Series: 4}}}},
		},
	}, nil
}

func (r *reports) DayReport(_ context.Context, tenantID string, day time.Time, q cardinality.Query) (*cardinality.Day, error) {
	r.tenant, r.query, r.day = tenantID, q, day
	return &cardinality.Day{
		Date: day.Format(time.DateOnly), Change: cardinality.Change{Created: 3, Gone: 1, Growth: 2},
		Survey: cardinality.Survey{
			Series: 9, Names: 1, Values: 4,
			Labels: []cardinality.LabelCount{{Name: "pod", Values: 4, Series: 9, Top: []cardinality.PairCount{{Name: "pod", Value: "x", Series: 2}}}},
		},
	}, nil
}

func (r *reports) ListDaySeries(_ context.Context, tenantID string, day time.Time, ms []*labels.Matcher, limit int) ([]labels.Labels, error) {
	r.tenant, r.query.Matchers, r.day = tenantID, ms, day
	return []labels.Labels{labels.FromStrings("__name__", "up", "pod", "x")}, nil
}

func (r *reports) ListActiveSeries(_ context.Context, tenantID string, ms []*labels.Matcher, limit int) ([]labels.Labels, error) {
	r.tenant, r.query.Matchers, r.limit = tenantID, ms, limit
	return []labels.Labels{labels.FromStrings("__name__", "up", "job", "a")}, nil
}

func (r *reports) Quarantines(tenantID string) ([]cardinality.Event, error) {
	r.tenant = tenantID
	return []cardinality.Event{{Metric: "orders", Labels: []string{"request_id"}}}, nil
}

func (r *reports) ReleaseQuarantine(tenantID, metric string) (bool, error) {
	r.tenant = tenantID
	return metric == "orders", nil
}

func TestCardinality(t *testing.T) {
	r := &reports{}
	s := newServer(t, noDBs, func(s *server) { s.deps.Series = r })
	for _, c := range []struct {
		name, path string
		status     int
		answer     string // or a part of it
		limit      int
		selector   string
	}{
		{"all", "", 200, `"activeSeries":7`, 20, ""},
		{"names", "/label_names?limit=3", 200, `{"label_values_count_total":5,"label_names_count":2,"cardinality":[{"label_name":"job","label_values_count":3}]}`, 3, ""},
		{"values", `/label_values?label_names[]=job&selector={job="a"}`, 200,
			`{"series_count_total":7,"labels":[{"label_name":"job","label_values_count":3,"series_count":6,"cardinality":[{"label_value":"a","series_count":4}]}]}`, 20, `job="a"`},
		{"active", `/active_series?selector=up`, 200, `{"data":[{"__name__":"up","job":"a"}]}`, 0, `__name__="up"`},
		{"all of a day", "?date=2024-02-29&limit=7", 200, `{"date":"2024-02-29","activeSeries":9,`, 7, ""},
		{"growth of a day", "?date=2024-02-29", 200, `"created":3,"gone":1,"growth":2`, 20, ""},
		{"names of a day", "/label_names?date=2024-02-29", 200, `{"label_values_count_total":4,"label_names_count":1,"cardinality":[{"label_name":"pod","label_values_count":4}]}`, 20, ""},
		{"values of a day", `/label_values?date=2024-02-29&label_names[]=pod`, 200,
			`{"series_count_total":9,"labels":[{"label_name":"pod","label_values_count":4,"series_count":9,"cardinality":[{"label_value":"x","series_count":2}]}]}`, 20, ""},
		{"series of a day", `/active_series?date=2024-02-29&selector=up`, 200, `{"data":[{"__name__":"up","pod":"x"}]}`, 0, `__name__="up"`},
		{"quarantine", "/quarantine", 200, `"metric":"orders","labels":["request_id"]`, 0, ""},
		{"values of nothing", "/label_values", 400, "label_names[]", 0, ""},
		{"active series of nothing", "/active_series", 400, "selector", 0, ""},
		{"too many", "?limit=501", 400, "from 1 to 500", 0, ""},
		{"none", "?limit=0", 400, "from 1 to 500", 0, ""},
		{"no selector", "?selector=%7B", 400, "selector", 0, ""},
		{"no day", "?date=2026-02-29", 400, `invalid parameter \"date\": \"2026-02-29\" is no day`, 0, ""},
		{"a time", "/label_names?date=1700000000", 400, "is no day such as 2026-01-31", 0, ""},
		{"a day to come", "/active_series?selector=up&date=9999-12-31", 400, "is in the future", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			*r = reports{}
			for _, prefix := range []string{"/api/v1/cardinality", "/prometheus/api/v1/cardinality"} {
				w := s.do(t, "GET", prefix+c.path, nil)
				require.Equal(t, c.status, w.Code, w.Body)
				require.Contains(t, w.Body.String(), c.answer)
				require.Equal(t, http.StatusUnauthorized, s.do(t, "GET", prefix+c.path, nil, tenant.Header, "").Code)
			}
			if c.status != http.StatusOK {
				require.Empty(t, r.tenant, "the store is not asked")
				return
			}
			require.Equal(t, teamA, r.tenant)
			require.Equal(t, c.limit, r.query.Limit)
			require.Equal(t, strings.Contains(c.path, "date="), r.day.Equal(time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)))
			if c.selector != "" {
				require.Equal(t, c.selector, r.query.Matchers[0].String())
			}
		})
	}
}

// Samples that a query looked at are counted to the tenant who asked.
func TestReadSamples(t *testing.T) {
	s := newServer(t, func(s *server) { s.deps.Usage = tenant.NewUsage(nil, s.reg) })
	require.Equal(t, http.StatusOK, s.do(t, "GET", "/api/v1/query?query=count_over_time(requests[1m])&time=300", nil).Code)
	families, err := s.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "weir_tenant_read_samples_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == "__rest" { // the tenant has written nothing here
					require.Positive(t, m.GetCounter().GetValue())
					require.Zero(t, int(m.GetCounter().GetValue())%6, "a sample each 10 s")
				}
			}
			return
		}
	}
	t.Fatal("there is no such metric")
}

func TestReleaseQuarantine(t *testing.T) {
	r := &reports{}
	s := newServer(t, noDBs, func(s *server) { s.deps.Series = r })
	for query, status := range map[string]int{
		"tenant=team-a&metric=orders": http.StatusNoContent, "tenant=team-a&metric=up": http.StatusNotFound,
		"metric=orders": http.StatusBadRequest, "tenant=..&metric=orders": http.StatusBadRequest,
	} {
		w := send(t, s.admin, "POST", "/ingester/quarantine/release?"+query, nil)
		require.Equal(t, status, w.Code, "%s: %s", query, w.Body)
	}
	require.Equal(t, http.StatusNotFound, s.do(t, "POST", "/ingester/quarantine/release?tenant=team-a&metric=orders", nil).Code, "not for tenants")
}
