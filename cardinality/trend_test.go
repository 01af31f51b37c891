package cardinality

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// A wall is foretold of what grows, and of nothing else.
func TestForecast(t *testing.T) {
	const limit = 10_000
	for _, c := range []struct {
		name    string
		minutes int
		active  func(minute int) int
		in      time.Duration
	}{
		{"grows by 60 a minute", 60, func(m int) int { return 400 + 60*m }, 100 * time.Minute},
		{"for ten minutes only", 10, func(m int) int { return 400 + 60*m }, 0},
		{"for a quarter of an hour", 15, func(m int) int { return 400 + 60*m }, 145 * time.Minute},
		{"for three hours", 160, func(m int) int { return 100 + 60*m }, 5 * time.Minute},
		{"is full", 60, func(int) int { return limit }, 0},
		{"does not grow", 60, func(int) int { return 5000 }, 0},
		{"shrinks", 60, func(m int) int { return 9000 - 60*m }, 0},
		{"grew at once", 60, func(m int) int { return 5000 + 2000*min(m/40, 1) }, 0},
		{"stopped growing", 60, func(m int) int { return 400 + 60*min(m, 45) }, 0},
		{"hardly grows", 60, func(m int) int { return 1000 + m }, 0},
		{"grows faster of late", 60, func(m int) int { return 1000 + 20*m + 100*max(m-45, 0) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := NewActive(Limits{Series: limit}, 0)
			for m := 1; m <= c.minutes; m++ {
				a.total.active = c.active(m)
				a.trend.note(m, a.total.active)
			}
			f := a.Forecast()
			if c.name == "grows faster of late" { // by the slower of both
				require.Positive(t, f.In)
				require.Less(t, f.PerHour, 60.0*120)
				return
			}
			require.InDelta(t, c.in.Seconds(), f.In.Seconds(), 1)
			if c.in > 0 {
				require.InDelta(t, 3600, f.PerHour, 1)
			}
		})
	}
	require.Zero(t, NewActive(Limits{}, 0).Forecast(), "there is no limit")
}

// Minutes in which nobody asked are as the one before, however many.
func TestTrendGaps(t *testing.T) {
	for _, gap := range []int{1, 2, 59, 60, 61, 1000} {
		var tr trend
		tr.note(7, 100)
		tr.note(7+gap, 200)
		require.Equal(t, min(gap+1, trendMinutes), tr.n)
		for i := range tr.n - 1 {
			require.EqualValues(t, 100, tr.counts[(tr.minute-1-i)%trendMinutes], "gap %d, %d before", gap, i+1)
		}
		require.EqualValues(t, 200, tr.counts[tr.minute%trendMinutes])
	}
}

// The past stays with what is counted anew.
func TestForecastAfterRestart(t *testing.T) {
	w := newWorld(Limits{Series: 1000})
	for m := 1; m <= 30; m++ {
		for i := range 10 {
			w.series("a", "i", string(rune('a'+i)), "m", string(rune('a'+m)))
		}
		w.NextMinute(m + 1)
	}
	before := w.Forecast()
	require.InDelta(t, 70, before.In.Minutes(), 1)
	b := w.Restart(w.Limits())
	b.total.active = 300
	require.Equal(t, before, b.Forecast())
}

// Use lists the limits that there are, by how much of them is used.
func TestUse(t *testing.T) {
	a := NewActive(Limits{Series: 10, Sets: []Set{{Name: "s", Setting: "label_sets.s", Series: 4}, {Name: "tracker", Setting: "label_sets.tracker"}}}, 0)
	a.total.active, a.sets[0].active, a.sets[1].active = 7, 4, 7
	require.Equal(t, []proto.Quota{{Limit: "max_active_series", Current: 7, Maximum: 10}, {Limit: "label_sets.s", Current: 4, Maximum: 4}}, a.Use(nil, 0))
	require.Equal(t, []proto.Quota{{Limit: "label_sets.s", Current: 4, Maximum: 4}}, a.Use(nil, proto.NearLimit))
	a.total.active = 8
	require.Len(t, a.Use(nil, proto.NearLimit), 2)
	require.Empty(t, NewActive(Limits{}, 0).Use(nil, 0))
}
