package ingester

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func (n *node) storedBy(id string) uint64 {
	n.tb.Helper()
	s, _ := n.look(id)
	require.NotNil(n.tb, s)
	return n.Ingester.storedBy(s)
}

// The number of samples stored is what was stored, through restarts, kills and
// closing, whenever it was written last.
func TestStoredSamples(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := start(rt, withWindow(time.Hour), withConfig(func(c *Config) { c.Snapshots = rapid.Bool().Draw(rt, "snapshots") }))
		var want uint64
		tick := 0
		write := func(*rapid.T) {
			f := &frame{}
			for i := range rapid.IntRange(1, 5).Draw(rt, "series") {
				tick++
				f.series(metric("m", "i", fmt.Sprint(i))).float(at(time.Duration(tick)*time.Second), 1)
				f.series(metric("h", "i", fmt.Sprint(i))).hist(at(time.Duration(tick)*time.Second), intHistogram(uint64(tick)))
				f.series(metric("late", "i", fmt.Sprint(i))).float(at(time.Duration(tick)*time.Second), 1).float(at(time.Duration(tick)*time.Second)-500, 1).exemplar(at(0), 1)
			}
			reply := n.write(team, f)
			require.Empty(rt, rejections(reply))
			want += uint64(len(f.Floats) + len(f.Histograms))
			if rapid.Bool().Draw(rt, "repeat") {
				n.write(team, f) // is not stored again
				require.NoError(rt, n.find(team).saveUsage(false))
			}
		}
		write(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"write":   write,
			"export":  func(*rapid.T) { n.export(team) }, // is not what the tenant has stored
			"save":    func(*rapid.T) { require.NoError(rt, n.find(team).saveUsage(false)) },
			"cut":     func(*rapid.T) { n.flush(team) },
			"restart": func(*rapid.T) { n.restart() },
			"crash":   func(*rapid.T) { n.crash() },
			"": func(*rapid.T) {
				if n.find(team) == nil {
					return
				}
				if got := n.storedBy(team); got != want {
					rt.Fatalf("%d stored, %d counted", want, got)
				}
			},
		})
	})
}

// A tenant that is closed keeps its number, which the metric shows.
func TestStoredSamplesOfClosedTenants(t *testing.T) {
	n := start(t)
	f := new(frame).series(metric("a")).float(at(0), 1).float(at(time.Second), 1)
	n.write("b", f)
	n.write(team, f)
	n.write(team, new(frame).series(metric("a")).float(at(2*time.Second), 1))
	n.flush(team)
	s, _ := n.look(team)
	require.NoError(t, n.retire(s))
	require.Nil(t, n.find(team))
	shown := func() error {
		return testutil.CollectAndCompare(storedSamples{n.Ingester}, strings.NewReader(`
# HELP weir_ingester_tenant_stored_samples_total Samples and histograms that a tenant has stored in all its life, through restarts, of the tenants with most. What repeats a sample is not stored.
# TYPE weir_ingester_tenant_stored_samples_total counter
weir_ingester_tenant_stored_samples_total{tenant="b"} 2
weir_ingester_tenant_stored_samples_total{tenant="team-a"} 3
`))
	}
	require.NoError(t, shown())
	n.crash()
	require.NoError(t, shown())
	n.write(team, new(frame).series(metric("a")).float(at(3*time.Second), 1))
	require.EqualValues(t, 4, n.storedBy(team))
	n.crash()
	require.EqualValues(t, 4, n.storedBy(team), "the position is not that of the log before")
}
