package integration

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestKillUnderLoad kills the server at random moments, 20 of them or
// WEIR_TEST_KILLS, while three tenants send floats, native histograms, exemplars,
// new series and late samples by both protocols. After each restart, and in the
// end, every acknowledged sample and exemplar must be read back with its value;
// one without an answer may be there or not.
func TestKillUnderLoad(t *testing.T) {
	kills := 20
	if given, err := strconv.Atoi(os.Getenv("WEIR_TEST_KILLS")); err == nil {
		kills = given
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, seed))
	s := harness.Start(t, tenants())
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
