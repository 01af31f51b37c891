package cardinality

import (
	"math/bits"
)

// What makes an explosion. Active series of a metric come and go with what runs:
// deploys, scaling, jobs. All of that comes with new targets, or comes to an end,
// or replaces what was. An explosion does not: the metric has far more series than
// it is known to need, it goes on growing, and without one or two of its labels,
// which do not name what is scraped, the growth would not be.
const (
	// minExcess is from how many series beyond its base a metric may be exploding:
	// below that it costs less than the mistake to hold its series back.
	minExcess = 5000
	// minFactor is how many times its base a metric has then.
	minFactor = 3
	// minStep is by how much a metric grows in each of burstMinutes that are a burst:
	// targets that appear together are all scraped within a minute or two.
	minStep      = 500
	burstMinutes = 3
	// leakMinutes is in how many of the last 64 minutes a metric grows that leaks.
	leakMinutes = 48
	// flood is how many new series in one minute are a burst by themselves.
	flood = 50_000

	// The base follows the active series: up by doubling in a day, down by halving in
	// half a day, and at once to where they stay for half an hour.
	upPerMinute    = 1.00048
	downPerMinute  = 0.99904
	plateauMinutes = 30
	plateauFactor  = 1.01
	plateauSeries  = 2 // a metric of few series is not measured by its percent
)

// growth is the past of a metric's active series.
type growth struct {
	base    float32 // series that it is known to need
	last    int32   // active at the end of the last minute
	steps   [burstMinutes]int32
	grew    uint64 // in each of the last 64 minutes, the newest is the lowest bit
	mark    int32  // active when plateau was last looked for
	created int32  // in this minute
	free    int32  // not looked at before this minute, because an operator said so
}

// step ends a minute with so many active series.
func (g *growth) step(minute, active int) {
	step := int32(active) - g.last
	copy(g.steps[1:], g.steps[:])
	g.steps[0] = step
	g.grew <<= 1
	if step > 0 {
		g.grew |= 1
	}
	g.last, g.created = int32(active), 0
	if n := float32(active); n > g.base {
		g.base = min(n, g.base*upPerMinute)
	} else {
		g.base = max(n, g.base*downPerMinute)
	}
	if minute%plateauMinutes != 0 {
		return
	}
	if float32(active) <= float32(g.mark)*plateauFactor+plateauSeries {
		g.base = max(g.base, float32(active))
	}
	g.mark = int32(active)
}

// settle takes the metric for one more series that it needs.
func (g *growth) settle() { g.base++ }

// accept takes all series for needed.
func (g *growth) accept(active int) { g.base, g.mark = float32(active), int32(active) }

// excess is by how many series active exceeds what the metric needs, 0 when that
// is no multiple.
func (g *growth) excess(active int) int {
	if float32(active) < minFactor*g.base {
		return 0
	}
	return active - int(g.base)
}

// burst reports whether the metric grew much in each of the last minutes.
func (g *growth) burst() bool {
	for _, s := range g.steps {
		if s < minStep {
			return false
		}
	}
	return true
}

// leaks reports whether it grew in most minutes of the last hour.
func (g *growth) leaks() bool { return bits.OnesCount64(g.grew) >= leakMinutes }

// goesOn reports whether there is no end of its growth to be seen.
func (g *growth) goesOn() bool { return g.created >= flood || g.burst() || g.leaks() }
