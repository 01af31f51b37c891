package querier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

var allSeries = labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")

// ranges returns time ranges to ask for: everything, one sample, and random ones.
func ranges(rnd *rand.Rand) [][2]int64 {
	rs := [][2]int64{{-hour, 7 * hour}, {hour, hour + scrape}, {2 * hour, 2*hour - 1 + 2*hour}}
	for range 3 {
		a, b := rnd.Int64N(6*hour), rnd.Int64N(6*hour)
		rs = append(rs, [2]int64{min(a, b), max(a, b)})
	}
	return rs
}

// TestSameAsTSDB compares our reading of a TSDB with its own.
func TestSameAsTSDB(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			db := openDB(t, seed%2 == 1)
			inOrder, late := generate(rnd)
			fill(t, rnd, db, inOrder, late)
			ours := querier.New(&dbSource{tenant: tenantID, db: db}).For(as(tenantID)).Queryable()
			for _, r := range ranges(rnd) {
				want := readAll(t, db, r[0], r[1], nil, allSeries)
				got := readAll(t, ours, r[0], r[1], nil, allSeries)
				requireSame(t, want, got)
				requireTrueHints(t, got)

				hints := &storage.SelectHints{Start: r[0] + 1, End: r[1] - scrape/2, Step: scrape, Func: "rate"}
				requireSame(t, readAll(t, db, r[0], r[1], hints, allSeries), readAll(t, ours, r[0], r[1], hints, allSeries))
				require.False(t, hints.DisableTrimming, "the caller's hints are not touched")
			}
		})
	}
}

// TestDeleted compares with a TSDB of which a part was deleted. The TSDB is read
// whole: cutting a series inside a deleted range makes its own querier panic
// (tombstones.Intervals.Add with MaxInt64, v0.315.0), which is no way of ours.
func TestDeleted(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 4))
	db := openDB(t, false)
	inOrder, late := generate(rnd)
	fill(t, rnd, db, inOrder, late)
	for range 3 {
		from := rnd.Int64N(5 * hour)
		require.NoError(t, db.Delete(context.Background(), from, from+hour/3, allSeries))
	}
	ours := querier.New(&dbSource{tenant: tenantID, db: db}).For(as(tenantID)).Queryable()
	whole := readAll(t, db, -hour, 7*hour, nil, allSeries)
	for _, r := range ranges(rnd) {
		requireSame(t, cut(whole, r[0], r[1]), readAll(t, ours, r[0], r[1], nil, allSeries))
	}
}

// cut returns the samples between mint and maxt, and their series.
func cut(all []series, mint, maxt int64) []series {
	var kept []series
	for _, s := range all {
		c := series{labels: s.labels}
		for _, smp := range s.samples {
			if mint <= smp.t && smp.t <= maxt {
				c.samples = append(c.samples, smp)
			}
		}
		if len(c.samples) > 0 {
			kept = append(kept, c)
		}
	}
	return kept
}

// TestAnySplitIsTheSame spreads the samples over sources, most of them twice,
// and compares with one TSDB that has all.
func TestAnySplitIsTheSame(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			inOrder, late := generate(rnd)
			one := openDB(t, seed%2 == 1)
			fill(t, rnd, one, inOrder, late)

			copies := spread(rnd, inOrder, 3)
			lateCopies := spread(rnd, late, 3)
			var sources []querier.Source
			for i := range copies {
				db := openDB(t, seed%2 == 1)
				fill(t, rnd, db, copies[i], lateCopies[i])
				sources = append(sources, &dbSource{tenant: tenantID, db: db})
			}
			ours := querier.New(sources...).For(as(tenantID)).Queryable()
			for _, r := range ranges(rnd) {
				got := readAll(t, ours, r[0], r[1], nil, allSeries)
				requireSame(t, readAll(t, one, r[0], r[1], nil, allSeries), got)
				requireTrueHints(t, got)
			}
		})
	}
}

// spread deals writes to n places in long runs, each to one, two or all of them.
func spread(rnd *rand.Rand, writes []write, n int) [][]write {
	places := make([][]write, n)
	for len(writes) > 0 {
		run := min(len(writes), 1+rnd.IntN(400))
		copies := 1 + rnd.IntN(n)
		for i, p := range rnd.Perm(n) {
			if i < copies {
				places[p] = append(places[p], writes[:run]...)
			}
		}
		writes = writes[run:]
	}
	return places
}

// TestSeek walks by random Seeks and Nexts and compares with the list of samples.
func TestSeek(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 3))
	inOrder, late := generate(rnd)
	copies, lateCopies := spread(rnd, inOrder, 2), spread(rnd, late, 2)
	var sources []querier.Source
	for i := range copies {
		db := openDB(t, false)
		fill(t, rnd, db, copies[i], lateCopies[i])
		sources = append(sources, &dbSource{tenant: tenantID, db: db})
	}
	mint, maxt := hour/2, 5*hour
	ours := querier.New(sources...).For(as(tenantID)).Queryable()
	want := readAll(t, ours, mint, maxt, nil, allSeries)
	require.Len(t, want, len(kinds))

	q, err := ours.Querier(mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	for range 20 {
		set := q.Select(context.Background(), true, nil, allSeries)
		var it chunkenc.Iterator
		for i := 0; set.Next(); i++ {
			it = set.At().Iterator(it)
			walk(t, rnd, it, want[i].samples)
		}
		require.NoError(t, set.Err())
	}
}

// walk moves it through the samples, which it must have.
func walk(t *testing.T, rnd *rand.Rand, it chunkenc.Iterator, samples []sample) {
	t.Helper()
	at := -1 // index of the current sample
	for {
		var vt chunkenc.ValueType
		if rnd.IntN(3) > 0 {
			vt = it.Next()
			at++
		} else {
			target := rnd.Int64N(6 * hour)
			if rnd.IntN(4) > 0 {
				target = samples[max(at, 0)].t + rnd.Int64N(20*60*1000) - 60*1000
			}
			vt = it.Seek(target)
			for at < 0 || (at < len(samples) && samples[at].t < target) {
				at++
			}
		}
		if at >= len(samples) {
			require.Equal(t, chunkenc.ValNone, vt)
			require.NoError(t, it.Err())
			require.Equal(t, chunkenc.ValNone, it.Seek(0), "the end is the end")
			return
		}
		requireSameSample(t, samples[at], current(t, it, vt), "")
	}
}
