package querier_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

// chunked makes a Queryable of chunks. Each chunk that passes is decoded alone and
// must keep to its own time range, to the one asked for, to the encodings that
// every reader knows, and begin after the one before it ended.
func chunked(t testing.TB, queryable storage.ChunkQueryable) storage.Queryable {
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		q, err := queryable.ChunkQuerier(mint, maxt)
		return chunkedQuerier{q, t, mint, maxt}, err
	})
}

type chunkedQuerier struct {
	storage.ChunkQuerier
	t          testing.TB
	mint, maxt int64
}

func (c chunkedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	mint, maxt := c.mint, c.maxt
	if hints != nil {
		mint, maxt = hints.Start, hints.End
	}
	set := c.ChunkQuerier.Select(ctx, sorted, hints, ms...)
	var (
		all []storage.Series
		it  chunks.Iterator
	)
	for set.Next() {
		it = set.At().Iterator(it)
		all = append(all, decodeChunks(c.t, set.At().Labels(), it, mint, maxt))
	}
	require.NoError(c.t, set.Err())
	return &listSet{series: all}
}

// decodeChunks checks and decodes every chunk of a series.
func decodeChunks(t testing.TB, ls labels.Labels, it chunks.Iterator, mint, maxt int64) storage.Series {
	t.Helper()
	var list []chunkenc.Iterable
	for last := int64(math.MinInt64); it.Next(); {
		m := it.At()
		require.LessOrEqual(t, mint, m.MinTime)
		require.LessOrEqual(t, m.MaxTime, maxt)
		require.Less(t, last, m.MinTime, "overlap")
		last = m.MaxTime
		encoding := m.Chunk.Encoding()
		require.Contains(t, []chunkenc.Encoding{chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram}, encoding)

		// As somebody at the other end of a wire sees it.
		sent, err := chunkenc.FromData(encoding, m.Chunk.Bytes())
		require.NoError(t, err)
		samples := sent.Iterator(nil)
		require.NotEqual(t, chunkenc.ValNone, samples.Next(), "an empty chunk")
		require.Equal(t, m.MinTime, samples.AtT())
		at := samples.AtT()
		for samples.Next() != chunkenc.ValNone {
			at = samples.AtT()
		}
		require.Equal(t, m.MaxTime, at)
		list = append(list, sent)
	}
	require.NoError(t, it.Err())
	return &storage.SeriesEntry{Lset: ls, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return &concatenated{rest: list, Iterator: chunkenc.NewNopIterator()}
	}}
}

// concatenated iterates over chunks one after another.
type concatenated struct {
	chunkenc.Iterator
	rest []chunkenc.Iterable
}

func (c *concatenated) Next() chunkenc.ValueType {
	for {
		if vt := c.Iterator.Next(); vt != chunkenc.ValNone || len(c.rest) == 0 {
			return vt
		}
		c.Iterator, c.rest = c.rest[0].Iterator(nil), c.rest[1:]
	}
}

type listSet struct {
	storage.SeriesSet
	series []storage.Series
	at     storage.Series
}

func (l *listSet) Next() bool {
	if len(l.series) == 0 {
		return false
	}
	l.at, l.series = l.series[0], l.series[1:]
	return true
}

func (l *listSet) At() storage.Series { return l.at }

func (l *listSet) Err() error { return nil }

// TestChunksHoldTheSameSamples spreads samples over sources and reads them both
// ways.
func TestChunksHoldTheSameSamples(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 8))
			inOrder, late := generate(rnd)
			places := 1 + int(seed%3)
			copies, lateCopies := spread(rnd, inOrder, places), spread(rnd, late, places)
			var sources []querier.Source
			for i := range copies {
				db := openDB(t, seed%2 == 1)
				fill(t, rnd, db, copies[i], lateCopies[i])
				sources = append(sources, &dbSource{tenant: tenantID, db: db})
			}
			q := querier.New(sources...)
			samples, asChunks := q.For(as(tenantID)).Queryable(), chunked(t, q.For(as(tenantID)).ChunkQueryable())
			for _, r := range ranges(rnd) {
				got := readAll(t, asChunks, r[0], r[1], nil, allSeries)
				requireSame(t, startless(readAll(t, samples, r[0], r[1], nil, allSeries)), got)
				requireTrueHints(t, got)

				hints := &storage.SelectHints{Start: r[0] + 1, End: r[1] - scrape/2}
				requireSame(t, startless(readAll(t, samples, r[0], r[1], hints, allSeries)), readAll(t, asChunks, r[0], r[1], hints, allSeries))
			}
		})
	}
}

// startless removes start timestamps, for which not every reader has an encoding.
func startless(all []series) []series {
	for i := range all {
		for j := range all[i].samples {
			all[i].samples[j].st = 0
		}
	}
	return all
}

// TestWhichChunksPass counts what is decoded.
func TestWhichChunksPass(t *testing.T) {
	xor2 := func(m chunks.Meta) chunks.Meta {
		c := chunkenc.NewXOR2Chunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(m.MinTime-5, m.MinTime, 1)
		return chunks.Meta{Chunk: c, MinTime: m.MinTime, MaxTime: m.MinTime}
	}
	for _, tc := range []struct {
		name    string
		sources [][]chunks.Meta
		decoded int
		chunks  [][2]int64 // those read
	}{
		{"inside", [][]chunks.Meta{{floats(t, 1, 0, 10), floats(t, 1, 20, 1000)}}, 0, [][2]int64{{0, 10}, {20, 1000}}},
		{"over the ends", [][]chunks.Meta{{floats(t, 1, -10, 10), floats(t, 1, 20, 30), floats(t, 1, 990, 1010)}}, 2, [][2]int64{{10, 10}, {20, 30}, {990, 990}}},
		{"beyond", [][]chunks.Meta{{floats(t, 1, -20, -10), floats(t, 1, 20, 30), floats(t, 1, 1001, 1010)}}, 0, [][2]int64{{20, 30}}},
		{"around", [][]chunks.Meta{{floats(t, 1, -10, 2000)}}, 1, nil},
		{"copies", [][]chunks.Meta{{floats(t, 1, 0, 10)}, {floats(t, 1, 0, 10)}}, 0, [][2]int64{{0, 10}}},
		{"overlapping", [][]chunks.Meta{{floats(t, 1, 0, 10), floats(t, 1, 20, 40)}, {floats(t, 1, 30, 50), floats(t, 1, 60)}}, 2, [][2]int64{{0, 10}, {20, 50}, {60, 60}}},
		{"open", [][]chunks.Meta{{{Chunk: floats(t, 1, 10, 20).Chunk, MinTime: 10, MaxTime: math.MaxInt64}}}, 1, [][2]int64{{10, 20}}},
		{"start timestamps", [][]chunks.Meta{{floats(t, 1, 0, 10), xor2(floats(t, 1, 20))}}, 1, [][2]int64{{0, 10}, {20, 20}}},
		{"histograms", [][]chunks.Meta{{histograms(t, 1, histogram.UnknownCounterReset, 0, 10), histograms(t, 9, histogram.NotCounterReset, 20, 30)}}, 0, [][2]int64{{0, 10}, {20, 30}}},
		{"gauge histograms", [][]chunks.Meta{{histograms(t, 1, histogram.GaugeType, 0, 10)}}, 0, [][2]int64{{0, 10}}},
		{"a reset", [][]chunks.Meta{{histograms(t, 9, histogram.UnknownCounterReset, 0), histograms(t, 1, histogram.CounterReset, 20)}}, 1, [][2]int64{{0, 0}, {20, 20}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			decoded := 0
			for _, list := range tc.sources {
				for i := range list {
					if h, ok := list[i].Chunk.(*chunkenc.HistogramChunk); ok {
						list[i].Chunk = countingHistograms{h, &decoded}
						continue
					}
					list[i].Chunk = countingChunk{list[i].Chunk, &decoded}
				}
			}
			q, err := querier.New(sourcesOf(tc.sources...)...).For(as("t")).ChunkQueryable().ChunkQuerier(0, 1000)
			require.NoError(t, err)
			set := q.Select(t.Context(), true, nil)
			require.True(t, set.Next())
			var got [][2]int64
			it := set.At().Iterator(nil)
			for it.Next() {
				got = append(got, [2]int64{it.At().MinTime, it.At().MaxTime})
			}
			require.NoError(t, it.Err())
			require.False(t, it.Next())
			require.Equal(t, tc.chunks, got)
			require.Equal(t, tc.decoded, decoded)
			require.False(t, set.Next())
			require.NoError(t, q.Close())
		})
	}
}

// countingHistograms counts how often it is decoded.
type countingHistograms struct {
	*chunkenc.HistogramChunk
	decoded *int
}

func (c countingHistograms) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	*c.decoded++
	return c.HistogramChunk.Iterator(it)
}

// TestErrorsOfChunks has sources that fail at each stage.
func TestErrorsOfChunks(t *testing.T) {
	broken := func(change func(*fakeSource)) querier.Source {
		m := floats(t, 1, 0, 10, 1010) // to be decoded
		m.Chunk = brokenChunk{m.Chunk}
		f := &fakeSource{series: []fakeSeries{{labels.FromStrings("a", "b"), []chunks.Meta{m}}}}
		change(f)
		return f
	}
	_, err := querier.New(broken(func(f *fakeSource) { f.failOpen = true })).For(as("t")).ChunkQueryable().ChunkQuerier(0, 1000)
	requireOfSource(t, err)
	for name, change := range map[string]func(*fakeSource){
		"set":    func(f *fakeSource) { f.failSet = true },
		"list":   func(f *fakeSource) { f.failChunks = true },
		"decode": func(*fakeSource) {},
		"no data": func(f *fakeSource) {
			f.series[0].chunks[0].Chunk = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := querier.New(broken(change)).For(as("t")).ChunkQueryable().ChunkQuerier(0, 1000)
			require.NoError(t, err)
			set := q.Select(t.Context(), true, nil)
			for set.Next() {
				it := set.At().Iterator(nil)
				require.False(t, it.Next())
				requireOfSource(t, it.Err())
				return
			}
			requireOfSource(t, set.Err())
		})
	}
}

func requireOfSource(t *testing.T, err error) {
	t.Helper()
	var source *querier.SourceError
	require.ErrorAs(t, err, &source)
}
