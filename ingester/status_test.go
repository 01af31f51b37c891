package ingester

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStatus(t *testing.T) {
	n := start(t)
	n.send(team, new(frame).series(metric("m")).float(at(0), 1).float(at(time.Minute), 2).series(metric("other")).float(at(0), 1))
	stats, chunks, err := n.HeadStats(team, 1)
	require.NoError(t, err)
	require.Equal(t, uint64(2), stats.NumSeries)
	require.Equal(t, int64(2), chunks)
	require.Len(t, stats.IndexPostingStats.CardinalityMetricsStats, 1)

	blocks, err := n.Blocks(team)
	require.NoError(t, err)
	require.Empty(t, blocks)
	require.NoError(t, n.Flush(t.Context(), team))
	blocks, err = n.Blocks(team)
	require.NoError(t, err)
	require.Len(t, blocks, 1)
	require.Equal(t, at(0), blocks[0].MinTime)

	done, of := n.Replay()
	require.Equal(t, of, done)

	_, chunks, err = n.HeadStats(team, 1)
	require.NoError(t, err)
	require.Zero(t, chunks)

	stats, chunks, err = n.HeadStats("nobody", 10)
	require.NoError(t, err)
	require.Zero(t, stats.NumSeries)
	require.Zero(t, chunks)
	blocks, err = n.Blocks("nobody")
	require.NoError(t, err)
	require.Empty(t, blocks)
}
