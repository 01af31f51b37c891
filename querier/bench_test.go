package querier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

// BenchmarkSelect selects 10,000 series of 12 labels and iterates over an hour
// of a sample every 15 s, of which the query asks for the middle 50 minutes: by
// the TSDB's own querier, by ours over it, and by ours over replicas of it.
//
// Microseconds and bytes per series, go1.26 on two shared cores (EPYC):
//
//	tsdb                     9.8   336
//	weir/sources=1           8.7   657   untrimmed, so chunks are not wrapped; the open chunk is copied
//	weir/replicas=2         16.7  1359   both sorted to be merged; one copy decoded
//	weir/replicas=2/apart   28.5  1352   every chunk overlaps: both decoded and merged
func BenchmarkSelect(b *testing.B) {
	const series, perSeries = 10_000, 240
	dbs := []*tsdb.DB{openDB(b, false), openDB(b, false), openDB(b, false)}
	for i, db := range dbs {
		fillBench(b, db, series, perSeries, i)
	}
	source := func(i int) querier.Source { return &dbSource{tenant: tenantID, db: dbs[i]} }
	for _, bc := range []struct {
		name string
		q    storage.Queryable
	}{
		{"tsdb", dbs[0]},
		{"weir/sources=1", querier.New(source(0)).For(as(tenantID)).Queryable()},
		{"weir/replicas=2", querier.New(source(0), source(1)).For(as(tenantID)).Queryable()},
		{"weir/replicas=2/apart", querier.New(source(0), source(2)).For(as(tenantID)).Queryable()},
	} {
		b.Run(fmt.Sprintf("%s/series=%d", bc.name, series), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				require.Equal(b, series, iterate(b, bc.q))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series, "ns/series")
		})
	}
}

// fillBench writes the same samples to every place, but to place 2 the chunks
// begin elsewhere.
func fillBench(b *testing.B, db *tsdb.DB, series, perSeries, place int) {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, 6))
	builder := labels.NewScratchBuilder(12)
	values := make([]float64, series)
	refs := make([]storage.SeriesRef, series)
	lsets := make([]labels.Labels, series)
	for i := range lsets {
		builder.Reset()
		builder.Add("__name__", "m")
		for l := range 10 {
			builder.Add(fmt.Sprintf("label_%d", l), fmt.Sprintf("some value %d", l))
		}
		builder.Add("series", strconv.Itoa(i))
		lsets[i] = builder.Labels()
	}
	for n := range perSeries {
		app := db.AppenderV2(context.Background())
		for i := range lsets {
			values[i] += float64(rnd.IntN(100))
			if place == 2 && n < 7 {
				continue
			}
			ref, err := app.Append(refs[i], lsets[i], 0, int64(n)*scrape, values[i], nil, nil, storage.AppendV2Options{})
			require.NoError(b, err)
			refs[i] = ref
		}
		require.NoError(b, app.Commit())
	}
}

func iterate(b *testing.B, queryable storage.Queryable) int {
	mint, maxt := hour/12, hour-hour/12
	q, err := queryable.Querier(mint, maxt)
	require.NoError(b, err)
	set := q.Select(context.Background(), false, &storage.SelectHints{Start: mint, End: maxt, Step: scrape}, allSeries)
	n := 0
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			_, _ = it.At()
		}
		n++
	}
	require.NoError(b, set.Err())
	require.NoError(b, q.Close())
	return n
}
