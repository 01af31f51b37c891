package relabel

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func withCanary(tb testing.TB, percent float64) *Rules {
	return compile(tb, fmt.Sprintf("shadow: {drop_labels: [a]}\ncanary: %v", percent))
}

// TestCanaryShares: whether a series is of a canary depends on its labels and the
// share alone, all of a share are in every larger one, and none and all are none
// and all.
func TestCanaryShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ls := []labels.Label{{Name: "__name__", Value: rapid.String().Draw(t, "name")}, {Name: "a", Value: rapid.String().Draw(t, "a")}}
		percent := rapid.Float64Range(0, 100)
		small, large := percent.Draw(t, "share"), percent.Draw(t, "other share")
		small, large = min(small, large), max(small, large)
		at, buf := CanaryOf(ls, nil)
		again, _ := CanaryOf(ls, buf)
		require.Equal(t, at, again)
		in := func(percent float64) bool {
			r := &Rules{canary: percent / 100}
			return r.InCanary(at)
		}
		require.False(t, in(0))
		require.True(t, in(100))
		require.True(t, !in(small) || in(large), "%v is in %v %%, and not in %v %%", at, small, large)
	})
}

// TestCanarySize: of many series that differ little, the canary has its share.
func TestCanarySize(t *testing.T) {
	const series = 100_000
	var buf []byte
	for _, percent := range []float64{0, 0.1, 1, 25, 99.9, 100} {
		r, n, at := withCanary(t, percent), 0, 0.0
		for i := range series {
			ls := []labels.Label{{Name: "__name__", Value: "http_requests_total"}, {Name: "pod", Value: fmt.Sprint("api-", i)}}
			if at, buf = CanaryOf(ls, buf); r.InCanary(at) {
				n++
			}
		}
		p := percent / 100
		require.InDelta(t, p*series, n, 5*math.Sqrt(series*p*(1-p)), "%v %%: five standard deviations", percent)
	}
}

// TestCanaryStays: the share of a series is the same in every process and version.
// Whoever changes it moves series from one version of rules to another.
func TestCanaryStays(t *testing.T) {
	at, _ := CanaryOf([]labels.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "a"}}, nil)
	require.InDelta(t, 0.15590388318373993, at, 1e-15)
	require.False(t, (*Rules)(nil).InCanary(0))
	require.False(t, (*Rules)(nil).HasCanary())
	require.False(t, withCanary(t, 0).HasCanary())
	require.True(t, withCanary(t, 0.5).HasCanary())
}
