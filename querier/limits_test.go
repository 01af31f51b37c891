package querier_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
)

// TestLimits finds out what a query reads, and lowers each limit below it.
func TestLimits(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 7))
	db := openDB(t, false)
	inOrder, late := generate(rnd)
	fill(t, rnd, db, inOrder, late)
	read := func(limits querier.Limits, selects int) (series, samples int, err error) {
		q, err := querier.New(&dbSource{tenant: tenantID, db: db}).WithLimits(limits).For(as(tenantID)).Queryable().Querier(-hour, 7*hour)
		require.NoError(t, err)
		defer func() { require.NoError(t, q.Close()) }()
		for range selects {
			set := q.Select(t.Context(), true, &storage.SelectHints{Start: -hour, End: 7 * hour}, allSeries)
			var it chunkenc.Iterator
			for set.Next() {
				series++
				it = set.At().Iterator(it)
				for it.Next() != chunkenc.ValNone {
					samples++
				}
				if it.Err() != nil {
					return series, samples, it.Err()
				}
			}
			if set.Err() != nil {
				return series, samples, set.Err()
			}
		}
		return series, samples, nil
	}
	refused := func(id string, err error) {
		t.Helper()
		var identified *proto.Error
		require.ErrorAs(t, err, &identified)
		require.Equal(t, id, identified.ID)
		require.Equal(t, proto.KindTooLarge, identified.Kind)
		require.True(t, errors.As(err, new(*querier.SourceError)))
	}

	series, samples, err := read(querier.Limits{}, 1)
	require.NoError(t, err)
	require.Positive(t, samples)
	_, _, err = read(querier.Limits{Series: series, ChunkBytes: 1 << 30}, 1)
	require.NoError(t, err)

	got, _, err := read(querier.Limits{Series: series - 1}, 1)
	refused("weir-query-too-many-series", err)
	require.Equal(t, series-1, got)
	got, _, err = read(querier.Limits{Series: series + 1}, 2)
	refused("weir-query-too-many-series", err)
	require.Equal(t, series+1, got, "both selections count")

	_, got, err = read(querier.Limits{ChunkBytes: 10_000}, 1)
	refused("weir-query-too-many-chunk-bytes", err)
	require.Less(t, got, samples)
	require.Positive(t, got)
}
