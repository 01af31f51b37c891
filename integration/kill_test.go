package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestKillUnderLoad kills the server at 20 random moments while floats, native
// histograms, new series and late samples arrive by both protocols. After each
// restart, and in the end, every acknowledged sample must be read back with its
// value; one without an answer may be there or not.
func TestKillUnderLoad(t *testing.T) {
	const kills = 20
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, seed))
	s := harness.Start(t, harness.Config{})
	begin := time.Now().UnixMilli()
	l := startLoad(t, s, seed)
	from := begin
	for i := range kills {
		next := time.Now().UnixMilli()
		wait(t, time.Duration(100+random.IntN(900))*time.Millisecond)
		s.Kill()
		down := time.Now()
		s.Again()
		up := time.Since(down)
		right := l.ledger.check(t, s, from)
		progress(t, "kill %d of %d: up after %s, %d samples right; %d acknowledged so far; %s",
			i+1, kills, up.Round(time.Millisecond), right, l.ledger.count(), l)
		from = next
	}
	l.stop()
	s.Kill()
	s.Again()
	right := l.ledger.check(t, s, begin)
	progress(t, "in the end %d samples right, %d acknowledged; %s", right, l.ledger.count(), l)
	s.Stop()
}

// wait lets the load run for a while.
func wait(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}
