package ingester

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/tenant"
)

// The report counts active series, not those in memory, by metric, label and pair.
func TestSeriesReport(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) {
		l.MaxActiveSeries = 1000
		l.LabelSets = []tenant.LabelSet{{Name: "even", Match: `{odd="0"}`, MaxActiveSeries: 50}}
	}))
	n.write(team, new(frame).series(metric("stopped", "pod", "x")).float(at(0), 1))
	n.pass(team, 61*time.Minute)
	n.pass(team, 60*time.Minute) // what is added from here on is new
	f := &frame{}
	for i := range 60 {
		f.series(metric(fmt.Sprint("m", i%3), "pod", fmt.Sprint("p", i%20), "odd", fmt.Sprint(i%2))).float(at(0), 1)
	}
	n.write(team, f)

	r, err := n.SeriesReport(t.Context(), team, cardinality.Query{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, 60, r.Series)
	require.Equal(t, 1000, r.Limit)
	require.Equal(t, []int{3, 3 + 20 + 2}, []int{r.Names, r.Values})
	require.Equal(t, []cardinality.MetricCount{
		{Name: "m0", Active: 20, Churn: [2]cardinality.Churn{{Created: 20}}}, {Name: "m1", Active: 20, Churn: [2]cardinality.Churn{{Created: 20}}},
	}, r.Metrics)
	fresh := cardinality.Change{Created: 30, Growth: 30}
	require.Equal(t, []cardinality.PairCount{{Name: "odd", Value: "0", Series: 30, Change: fresh}, {Name: "odd", Value: "1", Series: 30, Change: fresh}}, r.Pairs)
	require.Equal(t, []cardinality.SetCount{{Name: "even", Match: `{odd="0"}`, Series: 30, Limit: 50}}, r.LabelSets)
	require.Equal(t, "pod", r.Labels[0].Name)
	require.Equal(t, []int{20, 20, 60}, []int{r.Labels[0].Values, r.Labels[0].ValuesGrowth, r.Labels[0].Series})
	require.Equal(t, cardinality.Change{Created: 60, Growth: 60}, r.Labels[0].Change)

	ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "odd", "1")}
	r, err = n.SeriesReport(t.Context(), team, cardinality.Query{Limit: 10, Matchers: ms, Names: []string{"pod"}})
	require.NoError(t, err)
	require.Equal(t, 30, r.Series)
	require.Len(t, r.Labels, 1)
	require.Len(t, r.Labels[0].Top, 10)
	require.Equal(t, cardinality.PairCount{Name: "pod", Value: "p1", Series: 3, Change: cardinality.Change{Created: 3, Growth: 3}}, r.Labels[0].Top[0])

	list, err := n.ListActiveSeries(t.Context(), team, ms, 7)
	require.NoError(t, err)
	require.Len(t, list, 7)
	list, err = n.ListActiveSeries(t.Context(), team, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "stopped")}, 7)
	require.NoError(t, err)
	require.Empty(t, list)

	n.pass(team, 21*time.Minute)
	r, err = n.SeriesReport(t.Context(), team, cardinality.Query{Limit: 5})
	require.NoError(t, err)
	require.Zero(t, r.Series)
	require.Len(t, r.Labels, 3)
	for _, l := range r.Labels {
		require.Zero(t, l.Values)
		require.Equal(t, cardinality.Change{Created: 60, Gone: 60, ShortLived: 60}, l.Change, l.Name)
	}

	r, err = n.SeriesReport(t.Context(), "nobody", cardinality.Query{Limit: 5})
	require.NoError(t, err)
	require.Zero(t, r.Series)
}

// An explosion is held back where it is stored: what was known, other metrics and
// other series of the metric go on, the log says who it was, and after a restart
// it is found again.
func TestQuarantine(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.Quarantine = "enforce" }))
	next := 0
	burst := func() *frame {
		f := &frame{}
		f.Sender = "token-7 Prometheus/3.5"
		f.series(metric("orders", "instance", "a")).float(at(0), 1).series(metric("other", "request_id", fmt.Sprint(next))).float(at(0), 1)
		for range 2000 {
			f.series(metric("orders", "instance", "a", "request_id", fmt.Sprint(next))).float(at(0), 1)
			next++
		}
		return f
	}
	explode := func() (refused int) {
		for range 6 {
			f := burst()
			reply := n.write(team, f)
			require.Subset(t, []string{"weir-quarantined"}, mapKeys(rejections(reply)))
			require.GreaterOrEqual(t, reply.Written.Samples, 2)
			refused += reply.Rejected.Total()
			n.pass(team, time.Minute)
		}
		return refused
	}
	n.write(team, burst())
	n.pass(team, 40*time.Minute) // the tenant is no newcomer
	require.NotZero(t, explode())
	events, err := n.Quarantines(team)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, "orders", events[0].Metric)
	require.Equal(t, []string{"request_id"}, events[0].Labels)
	require.Equal(t, "token-7 Prometheus/3.5", events[0].Sender)

	known := new(frame).series(metric("orders", "instance", "a", "request_id", "1")).float(at(time.Second), 1)
	writtenAll(t, known, n.write(team, known))
	held := metric("orders", "instance", "a", "request_id", fmt.Sprint(next-1))
	reply := n.send(team, new(frame).known(held).float(at(0), 1))
	require.Equal(t, map[string]int{"weir-quarantined": 1}, rejections(reply))
	require.Contains(t, reply.Rejected.Examples[0].Detail, "request_id")

	released, err := n.ReleaseQuarantine(team, "other")
	require.NoError(t, err)
	require.False(t, released)
	released, err = n.ReleaseQuarantine(team, "orders")
	require.NoError(t, err)
	require.True(t, released)
	f := new(frame).known(held).float(at(0), 1)
	require.Empty(t, rejections(n.send(team, f)))

	n.restart()
	n.write(team, burst())
	n.pass(team, 40*time.Minute)
	require.NotZero(t, explode())
	n.stop()
	log := n.log.String()
	require.Contains(t, log, "a label makes a metric explode")
	require.Equal(t, 1, strings.Count(log, "released=true"))
}

// Series that were stored before a start are no explosion when they come back.
func TestNoQuarantineOfWhatWasStored(t *testing.T) {
	n := start(t, withLimits(func(l *tenant.Limits) { l.Quarantine = "enforce" }))
	send := func(batch int, at int64) {
		f := &frame{}
		for i := range 2000 {
			f.series(metric("orders", "instance", "a", "request_id", fmt.Sprint(2000*batch+i))).float(at, 1)
		}
		writtenAll(t, f, n.write(team, f))
	}
	for batch := range 4 { // within a minute, which is no explosion yet
		send(batch, at(0))
	}
	n.restart()
	for batch := range 4 {
		send(batch, at(time.Second))
		n.pass(team, time.Minute)
	}
	events, err := n.Quarantines(team)
	require.NoError(t, err)
	require.Empty(t, events)
}

func mapKeys(m map[string]int) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
