package cardinality

import "time"

const (
	// trendMinutes is how much of the past a forecast looks at, and recentMinutes the
	// part that must grow as well: a deploy is a step, after which nothing grows.
	trendMinutes  = 60
	recentMinutes = 15

	// horizon is how far ahead a forecast may lie: an hour says nothing about next
	// week.
	horizon = 24 * time.Hour
)

// trend is the number of active series in each of the last minutes.
type trend struct {
	counts [trendMinutes]int32 // a ring
	minute int                 // of the newest
	n      int
}

// note takes the number at the end of a minute. Minutes that nobody asked in had
// the number of before.
func (t *trend) note(minute, active int) {
	if t.n > 0 {
		last := t.counts[t.minute%trendMinutes]
		for m := max(t.minute, minute-trendMinutes) + 1; m < minute; m++ {
			t.counts[m%trendMinutes] = last
			t.n++
		}
	}
	t.minute = minute
	t.counts[minute%trendMinutes] = int32(active)
	t.n = min(t.n+1, trendMinutes)
}

// slope is by how many series a minute the last n minutes grew, by the line that
// fits them best.
func (t *trend) slope(n int) float64 {
	var xy, xx float64
	for i := range n {
		x := float64(i) - float64(n-1)/2
		xy += x * float64(t.counts[(t.minute-n+1+i)%trendMinutes])
		xx += x * x
	}
	return xy / xx
}

// perMinute is by how many series a minute the tenant grows; 0 when it does not, or
// when too little is known of it.
func (t *trend) perMinute() float64 {
	if t.n < recentMinutes {
		return 0
	}
	return max(min(t.slope(t.n), t.slope(recentMinutes)), 0)
}

// Forecast is when active series reach their limit if they go on growing as they
// did in the last hour.
type Forecast struct {
	In      time.Duration // 0 when nothing is forecast
	PerHour float64       // series that the tenant grows by
}

// Forecast says when the limit on the tenant's series will be reached. It is zero
// when there is no limit, it is reached, they do not grow, or it is further away
// than an hour of growth can tell.
func (a *Active) Forecast() Forecast {
	grows, left := a.trend.perMinute(), float64(a.limits.Series-a.total.active)
	if grows <= 0 || left <= 0 || left/grows > horizon.Minutes() {
		return Forecast{}
	}
	return Forecast{In: time.Duration(left / grows * float64(time.Minute)), PerHour: 60 * grows}
}
