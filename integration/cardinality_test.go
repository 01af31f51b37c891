package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// dayAnswer is the answer of /api/v1/cardinality with a date.
type dayAnswer struct {
	Date    string
	Series  int `json:"activeSeries"`
	Created int
	Gone    int
	Growth  int
	Metrics []struct {
		Name   string
		Series int `json:"activeSeries"`
		Growth int
	}
	Labels []struct {
		Name         string
		Values       int
		ValuesGrowth int
	}
}

// Days that are over are counted from blocks, and from memory as long as they are
// there, before and after a restart; the other tenant has none.
func TestCardinalityOfDays(t *testing.T) {
	if harness.Against() != "weir" {
		t.Skip("weir's own API")
	}
	s := harness.Start(t, harness.Config{Set: []string{"auth.mode=header", "limits.past_grace=120h"}})
	team := s.As("team-a")
	today := time.Now().UTC().Truncate(24 * time.Hour)
	day := func(ago int) time.Time { return today.Add(-time.Duration(ago) * 24 * time.Hour) }
	// Twice a day, so that each series is in two blocks of it.
	write := func(ago int, from, to int) {
		for _, hour := range []time.Duration{3, 21} {
			var series []harness.Series
			for i := from; i < to; i++ {
				series = append(series, harness.Series{
					Labels:  []string{"__name__", fmt.Sprint("days_", i%2), "pod", fmt.Sprint(i)},
					Samples: []harness.Sample{{T: day(ago).Add(hour * time.Hour).UnixMilli(), V: 1}},
				})
			}
			team.Accept(t, harness.V2, series...)
		}
	}
	ask := func(s *harness.Server, ago int) (a dayAnswer) {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(s.Text(t, "/api/v1/cardinality?date="+day(ago).Format(time.DateOnly))), &a))
		return a
	}
	check := func() {
		t.Helper()
		for ago, want := range map[int]dayAnswer{
			4: {}, 3: {Series: 40, Created: 40, Growth: 40}, 2: {Series: 100, Created: 80, Gone: 20, Growth: 60}, 1: {Series: 90, Gone: 10, Growth: -10},
		} {
			got := ask(team, ago)
			require.Equal(t, day(ago).Format(time.DateOnly), got.Date)
			require.Equal(t, []int{want.Series, want.Created, want.Gone, want.Growth}, []int{got.Series, got.Created, got.Gone, got.Growth}, "%d days ago", ago)
			if want.Series == 0 {
				require.Empty(t, got.Metrics)
				continue
			}
			require.Equal(t, "days_0", got.Metrics[0].Name)
			require.Equal(t, want.Series/2, got.Metrics[0].Series)
			require.Equal(t, want.Growth/2, got.Metrics[0].Growth)
			require.Equal(t, "pod", got.Labels[0].Name)
			require.Equal(t, want.Series, got.Labels[0].Values)
			require.Equal(t, want.Growth, got.Labels[0].ValuesGrowth)
		}
		require.Zero(t, ask(s.As("team-b"), 1).Series)
		var list struct{ Data []map[string]string }
		require.NoError(t, json.Unmarshal([]byte(team.Text(t, "/api/v1/cardinality/active_series?"+
			url.Values{"selector": {`{pod="119"}`}, "date": {day(2).Format(time.DateOnly)}}.Encode())), &list))
		require.Equal(t, []map[string]string{{"__name__": "days_1", "pod": "119"}}, list.Data)
	}
	flush := func() { require.NoError(t, s.Flush(t.Context(), "X-Scope-OrgID", "team-a")) }
	write(3, 0, 40)
	flush()
	write(2, 20, 120)
	flush()
	write(1, 20, 110)
	check() // the last day is in memory
	flush()
	check()
	s.Stop()
	s.Again()
	check()
	for _, date := range []string{"yesterday", today.Add(48 * time.Hour).Format(time.DateOnly)} {
		status, e, err := s.Ask(t.Context(), "/api/v1/cardinality", url.Values{"date": {date}}, "X-Scope-OrgID", "team-a")
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, e.Error, `invalid parameter "date"`)
	}
}
