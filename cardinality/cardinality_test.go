package cardinality

import (
	"fmt"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
)

// A new series of a known metric allocates nothing to be counted, with a suspect
// neither, and one small string for the label sets that it belongs to.
func TestAdmitAllocations(t *testing.T) {
	var sets []Set
	for i := range 10 {
		sets = append(sets, Set{Name: fmt.Sprint(i), Match: fmt.Sprint(i), Series: 1 << 40,
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "job", "be.*")}})
	}
	for name, c := range map[string]struct {
		sets    []Set
		suspect bool
		allocs  float64
	}{
		"plain": {}, "suspect": {suspect: true}, "label sets": {sets: sets, allocs: 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := NewActive(Limits{Series: 1 << 40, PerMetric: 1 << 40, Sets: c.sets, Quarantine: QuarantineReport}, 0)
			a.NextMinute(youngMinutes)
			ls := labels.FromStrings(model.MetricNameLabel, "bench_total", "instance", "10.0.1.2:8080", "job", "bench", "method", "GET", "status", "200")
			stored := func() bool { return false }
			i := uint64(0)
			admit := func() {
				i++
				a.Admit(proto.Hash{Lo: i}, ls, "sender", stored)
			}
			admit()
			if m := a.metrics["bench_total"]; c.suspect {
				a.suspectOf(m)
				for range pairsAfter + 1 {
					admit()
				}
				require.NotEmpty(t, m.suspect.pairs)
			}
			require.Equal(t, int(i), a.Total())
			require.Equal(t, c.allocs, testing.AllocsPerRun(500, admit))
		})
	}
}
