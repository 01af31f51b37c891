package querier_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/querier"
)

// sourcesOf returns a source for each list of chunks of the series {a="b"}.
func sourcesOf(lists ...[]chunks.Meta) []querier.Source {
	var sources []querier.Source
	for _, list := range lists {
		sources = append(sources, &fakeSource{series: []fakeSeries{{labels.FromStrings("a", "b"), list}}})
	}
	return sources
}

func TestMergeChunks(t *testing.T) {
	type point struct {
		t int64
		v float64
	}
	for _, tc := range []struct {
		name    string
		sources [][]chunks.Meta
		want    []point
	}{
		{name: "no chunks", sources: [][]chunks.Meta{nil, nil}},
		{
			name:    "one after another",
			sources: [][]chunks.Meta{{floats(t, 1, 10, 20)}, {floats(t, 2, 30, 40)}},
			want:    []point{{10, 1}, {20, 1}, {30, 2}, {40, 2}},
		},
		{
			name:    "unsorted within a source",
			sources: [][]chunks.Meta{{floats(t, 1, 50, 60), floats(t, 2, 10, 20)}},
			want:    []point{{10, 2}, {20, 2}, {50, 1}, {60, 1}},
		},
		{
			name:    "interleaved",
			sources: [][]chunks.Meta{{floats(t, 1, 10, 30, 50)}, {floats(t, 2, 20, 40)}},
			want:    []point{{10, 1}, {20, 2}, {30, 1}, {40, 2}, {50, 1}},
		},
		{
			name:    "equal timestamps are the first source's",
			sources: [][]chunks.Meta{{floats(t, 1, 20, 30)}, {floats(t, 2, 10, 20, 30, 40)}, {floats(t, 3, 10, 40)}},
			want:    []point{{10, 2}, {20, 1}, {30, 1}, {40, 2}},
		},
		{
			name:    "equal timestamps of one source are the first chunk's",
			sources: [][]chunks.Meta{{floats(t, 1, 10, 20), floats(t, 2, 10, 20, 30)}},
			want:    []point{{10, 1}, {20, 1}, {30, 2}},
		},
		{
			name: "two groups of different depth",
			sources: [][]chunks.Meta{
				{floats(t, 1, 10, 40), floats(t, 1, 100, 140)},
				{floats(t, 2, 20, 110)},
				{floats(t, 3, 200, 210)},
				{floats(t, 4, 205, 220), floats(t, 4, 230)},
			},
			want: []point{{10, 1}, {20, 2}, {40, 1}, {100, 1}, {110, 2}, {140, 1}, {200, 3}, {205, 4}, {210, 3}, {220, 4}, {230, 4}},
		},
		{
			name:    "cut to the time range",
			sources: [][]chunks.Meta{{floats(t, 1, -20, -1, 0, 500)}, {floats(t, 2, 999, 1000, 1001)}, {floats(t, 3, 1001, 1002)}},
			want:    []point{{0, 1}, {500, 1}, {999, 2}, {1000, 2}},
		},
		{
			name:    "an open chunk",
			sources: [][]chunks.Meta{{{Chunk: floats(t, 1, 10, 20).Chunk, MinTime: 10, MaxTime: math.MaxInt64}}, {floats(t, 2, 30)}},
			want:    []point{{10, 1}, {20, 1}, {30, 2}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all := readAll(t, querier.New(sourcesOf(tc.sources...)...).For(as("t")).Queryable(), 0, 1000, nil)
			var got []point
			for _, s := range all {
				for _, smp := range s.samples {
					got = append(got, point{smp.t, math.Float64frombits(smp.v)})
				}
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestCopiesAreNotDecoded(t *testing.T) {
	decoded := 0
	count := func(m chunks.Meta) chunks.Meta {
		m.Chunk = countingChunk{m.Chunk, &decoded}
		return m
	}
	replica := func() []chunks.Meta {
		return []chunks.Meta{count(floats(t, 1, 10, 20)), count(floats(t, 1, 30, 40))}
	}
	other := []chunks.Meta{count(floats(t, 2, 10, 20))}
	q := querier.New(sourcesOf(replica(), other, replica(), replica())...).For(as("t")).Queryable()
	require.Len(t, readAll(t, q, 0, 1000, nil)[0].samples, 4)
	require.Equal(t, 3, decoded, "the replica's two and the other's one")
}

func TestSeekDoesNotDecodeWhatItSkips(t *testing.T) {
	decoded := 0
	var list []chunks.Meta
	for i := range int64(50) {
		m := floats(t, 1, 20*i, 20*i+10)
		m.Chunk = countingChunk{m.Chunk, &decoded}
		list = append(list, m)
	}
	q, err := querier.New(sourcesOf(list)...).For(as("t")).Queryable().Querier(0, 1000)
	require.NoError(t, err)
	set := q.Select(context.Background(), false, nil)
	require.True(t, set.Next())
	it := set.At().Iterator(nil)
	require.Equal(t, chunkenc.ValFloat, it.Seek(901))
	require.Equal(t, int64(910), it.AtT())
	require.Equal(t, 1, decoded)
	require.NoError(t, q.Close())
}

func TestCounterResetHints(t *testing.T) {
	const (
		unknown = histogram.UnknownCounterReset
		not     = histogram.NotCounterReset
		gauge   = histogram.GaugeType
	)
	for _, tc := range []struct {
		name    string
		sources [][]chunks.Meta
		seek    int64
		want    []histogram.CounterResetHint
	}{
		{
			name:    "one after another",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20), histograms(t, 3, unknown, 30, 40)}},
			want:    []histogram.CounterResetHint{unknown, not, unknown, not},
		},
		{
			name:    "interleaved",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20, 40, 50)}, {histograms(t, 3, unknown, 30, 60, 70)}},
			want:    []histogram.CounterResetHint{unknown, not, unknown, unknown, not, unknown, not},
		},
		{
			name:    "copies with one more at the end",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20)}, {histograms(t, 1, unknown, 10, 20, 30)}},
			want:    []histogram.CounterResetHint{unknown, not, unknown},
		},
		{
			name:    "after overlapping chunks",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20), histograms(t, 4, unknown, 50, 60)}, {histograms(t, 3, unknown, 20, 30)}},
			want:    []histogram.CounterResetHint{unknown, not, unknown, unknown, not},
		},
		{
			name:    "gauges stay gauges",
			sources: [][]chunks.Meta{{histograms(t, 1, gauge, 10, 30)}, {histograms(t, 3, gauge, 20, 40)}},
			want:    []histogram.CounterResetHint{gauge, gauge, gauge, gauge},
		},
		{
			name:    "after a seek into a chunk",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20, 30)}},
			seek:    15,
			want:    []histogram.CounterResetHint{not, not},
		},
		{
			name:    "after a seek into overlapping chunks",
			sources: [][]chunks.Meta{{histograms(t, 1, unknown, 10, 20, 30)}, {histograms(t, 2, unknown, 11, 21, 31)}},
			seek:    15,
			want:    []histogram.CounterResetHint{unknown, unknown, unknown, unknown},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := querier.New(sourcesOf(tc.sources...)...).For(as("t")).Queryable().Querier(0, 1000)
			require.NoError(t, err)
			set := q.Select(context.Background(), false, nil)
			require.True(t, set.Next())
			it := set.At().Iterator(nil)
			var got, floats []histogram.CounterResetHint
			for vt := it.Seek(tc.seek); vt != chunkenc.ValNone; vt = it.Next() {
				_, h := it.AtHistogram(nil)
				got = append(got, h.CounterResetHint)
				_, fh := it.AtFloatHistogram(nil)
				floats = append(floats, fh.CounterResetHint)
			}
			require.NoError(t, it.Err())
			require.Equal(t, tc.want, got)
			require.Equal(t, tc.want, floats)
		})
	}
}

func TestMergeSeries(t *testing.T) {
	lset := func(v string) labels.Labels { return labels.FromStrings("a", v) }
	chunk := []chunks.Meta{floats(t, 1, 10)}
	first := &fakeSource{series: []fakeSeries{{lset("1"), chunk}, {lset("3"), chunk}}, warning: errors.New("first is late")}
	second := &fakeSource{series: []fakeSeries{{lset("1"), chunk}, {lset("2"), chunk}, {lset("4"), chunk}}, warning: errors.New("second is late")}
	away := &fakeSource{empty: true, series: []fakeSeries{{lset("5"), chunk}}}
	q, err := querier.New(first, away, second).For(as("t")).Queryable().Querier(0, 1000)
	require.NoError(t, err)

	matchers := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "a", "1"), labels.MustNewMatcher(labels.MatchEqual, "b", ""),
	}
	for _, tc := range []struct {
		limit int
		want  []string
	}{
		{0, []string{"1", "2", "3", "4"}},
		{1, []string{"1"}},
		{3, []string{"1", "2", "3"}},
		{4, []string{"1", "2", "3", "4"}},
	} {
		set := q.Select(context.Background(), false, &storage.SelectHints{End: 1000, Limit: tc.limit}, matchers...)
		var got []string
		for set.Next() {
			got = append(got, set.At().Labels().Get("a"))
		}
		require.NoError(t, set.Err())
		require.Equal(t, tc.want, got)
		require.Len(t, set.Warnings(), 2)
	}
	require.True(t, first.sorted, "a merge needs sorted sources")
	require.Equal(t, "a", matchers[0].Name, "the caller's matchers are not touched")
	require.Len(t, second.matchers, 2)

	require.NoError(t, q.Close())
	for _, src := range []*fakeSource{first, away, second} {
		require.Equal(t, src.opened, src.closed)
	}
	require.Zero(t, away.opened, "its extent does not meet the range")
}

func TestSelectErrors(t *testing.T) {
	list := []fakeSeries{{labels.FromStrings("a", "1"), []chunks.Meta{floats(t, 1, 10)}}, {labels.FromStrings("a", "2"), nil}}
	good := func() *fakeSource { return &fakeSource{series: list} }

	requireBroken := func(t *testing.T, err error) {
		t.Helper()
		require.ErrorIs(t, err, errBroken)
		require.ErrorAs(t, err, new(*querier.SourceError))
	}
	t.Run("open", func(t *testing.T) {
		open := good()
		_, err := querier.New(open, &fakeSource{failOpen: true}).For(as("t")).Queryable().Querier(0, 1000)
		requireBroken(t, err)
		require.Equal(t, 1, open.closed, "what was opened is closed")
	})
	t.Run("series", func(t *testing.T) {
		q, err := querier.New(good(), &fakeSource{series: list, failSet: true}).For(as("t")).Queryable().Querier(0, 1000)
		require.NoError(t, err)
		set := q.Select(context.Background(), true, nil)
		for set.Next() {
			require.NotNil(t, set.At())
		}
		requireBroken(t, set.Err())
		require.False(t, set.Next())
	})
	t.Run("chunks", func(t *testing.T) {
		q, err := querier.New(good(), &fakeSource{series: list, failChunks: true}).For(as("t")).Queryable().Querier(0, 1000)
		require.NoError(t, err)
		set := q.Select(context.Background(), true, nil)
		require.True(t, set.Next())
		it := set.At().Iterator(nil)
		require.Equal(t, chunkenc.ValNone, it.Next())
		requireBroken(t, it.Err())
		require.ErrorContains(t, it.Err(), `{a="1"}`)
	})
	t.Run("chunk without data", func(t *testing.T) {
		q, err := querier.New(sourcesOf([]chunks.Meta{{Ref: 7}})...).For(as("t")).Queryable().Querier(0, 1000)
		require.NoError(t, err)
		set := q.Select(context.Background(), true, nil)
		require.True(t, set.Next())
		it := set.At().Iterator(nil)
		require.Equal(t, chunkenc.ValNone, it.Next())
		require.ErrorContains(t, it.Err(), "chunk 7")
	})
	t.Run("broken chunk", func(t *testing.T) {
		whole := floats(t, 1.5, 10, 20, 35, 50)
		whole.Chunk = brokenChunk{whole.Chunk}
		q, err := querier.New(sourcesOf([]chunks.Meta{whole}, []chunks.Meta{floats(t, 1, 60)})...).For(as("t")).Queryable().Querier(0, 1000)
		require.NoError(t, err)
		set := q.Select(context.Background(), true, nil)
		require.True(t, set.Next())
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			require.Less(t, it.AtT(), int64(60), "nothing after the break")
		}
		require.ErrorContains(t, it.Err(), "read chunk [10, 50]")
	})
}

func TestMergeStrings(t *testing.T) {
	first := &fakeSource{values: []string{"a", "c", "d"}, warning: errors.New("late")}
	second := &fakeSource{values: []string{"b", "c"}}
	third := &fakeSource{values: []string{"c", "e"}}
	for _, tc := range []struct {
		name    string
		sources []querier.Source
		limit   int
		want    []string
	}{
		{"none", nil, 0, nil},
		{"one", []querier.Source{first}, 0, []string{"a", "c", "d"}},
		{"one, limited", []querier.Source{first}, 2, []string{"a", "c"}},
		{"two", []querier.Source{first, second}, 0, []string{"a", "b", "c", "d"}},
		{"three", []querier.Source{first, second, third}, 0, []string{"a", "b", "c", "d", "e"}},
		{"three, limited", []querier.Source{first, second, third}, 3, []string{"a", "b", "c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := querier.New(tc.sources...).For(as("t")).Queryable().Querier(0, 1000)
			require.NoError(t, err)
			values, warnings, err := q.LabelValues(context.Background(), "x", &storage.LabelHints{Limit: tc.limit})
			require.NoError(t, err)
			require.Equal(t, tc.want, values)
			require.Len(t, warnings, min(1, len(tc.sources)))
			names, _, err := q.LabelNames(context.Background(), &storage.LabelHints{Limit: tc.limit})
			require.NoError(t, err)
			require.Equal(t, tc.want, names)
		})
	}
	q, err := querier.New(first, &fakeSource{failStrings: true}).For(as("t")).Queryable().Querier(0, 1000)
	require.NoError(t, err)
	_, warnings, err := q.LabelValues(context.Background(), "x", nil)
	require.ErrorIs(t, err, errBroken)
	require.Len(t, warnings, 1)
	_, _, err = q.LabelNames(context.Background(), nil)
	require.ErrorIs(t, err, errBroken)
}
