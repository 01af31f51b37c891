package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/bench"
	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/loadgen"
	"github.com/weir-metrics/weir/integration/server"
)

// TestGeneratorIsTaken sends every option of the load generator: the server
// under test must take all of it.
func TestGeneratorIsTaken(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	for _, p := range []loadgen.Protocol{loadgen.V1, loadgen.V2} {
		cfg := loadgen.DefaultConfig()
		cfg.URL = s.WriteURL()
		cfg.Protocol = p
		cfg.Series = 3000
		cfg.SamplesPerRequest = 400
		cfg.Rounds = 6
		cfg.Churn = 0.1
		cfg.HAPairs = true
		cfg.NativeHistograms = 0.2
		cfg.Seed = uint64(p)
		g, err := loadgen.New(cfg)
		require.NoError(t, err)
		r, err := g.Run(t.Context(), cfg.Rounds)
		g.Close()
		require.NoError(t, err)
		require.Zero(t, r.Refused, r.FirstError)
		require.Equal(t, int64(2*cfg.Series*cfg.Rounds), r.Samples)
	}
}

// TestBenchmarkRuns keeps make bench from rotting: one small run of weir alone, with
// and without guards.
func TestBenchmarkRuns(t *testing.T) {
	var out strings.Builder
	cfg := bench.Config{
		Servers:     []server.Kind{server.Weir(), bench.Guarded()},
		Repeats:     1,
		BinDir:      t.TempDir(),
		WorkDir:     t.TempDir(),
		MemoryLimit: bench.DefaultMemoryLimit,
	}
	for _, s := range bench.Scenarios() {
		s.Series, s.Rounds = 2000, 5
		cfg.Scenarios = append(cfg.Scenarios, s)
	}
	all, err := bench.Run(t.Context(), cfg, &out)
	require.NoError(t, err, out.String())
	require.Len(t, all, 2*len(cfg.Scenarios))
	for _, m := range all {
		require.Equal(t, int64(10_000), m.Samples)
		require.Positive(t, m.PeakBytes)
		require.Positive(t, m.P50)
		require.LessOrEqual(t, m.P50, m.P99)
		require.LessOrEqual(t, m.P99, m.Longest)
	}
	bench.Print(&out, all)
	require.Contains(t, out.String(), fmt.Sprintf("%s: 2000 series", bench.Cardinality))
}
