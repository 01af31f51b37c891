package querier_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

var errBroken = errors.New("broken")

// fakeSource holds series in memory and counts what is opened and closed.
type fakeSource struct {
	series    []fakeSeries // sorted by labels
	values    []string     // sorted, of every label
	exemplars []exemplar.QueryResult
	metadata  map[string][]metadata.Metadata
	warning   error // given by every read
	empty     bool  // has no extent

	failOpen, failSet, failChunks, failStrings, failExemplars bool

	opened, closed int
	matchers       []*labels.Matcher // of the last Select
	sorted         bool
	limit          int // of the last Select
}

type fakeSeries struct {
	labels labels.Labels
	chunks []chunks.Meta
}

func (f *fakeSource) Extent(string) (mint, maxt int64, ok bool) { return 0, 1000, !f.empty }

func (f *fakeSource) ChunkQuerier(string, int64, int64) (storage.ChunkQuerier, error) {
	if f.failOpen {
		return nil, errBroken
	}
	f.opened++
	return fakeQuerier{f}, nil
}

func (f *fakeSource) Metadata(context.Context, string, string) (map[string][]metadata.Metadata, error) {
	if f.failStrings {
		return nil, errBroken
	}
	return f.metadata, nil
}

func (f *fakeSource) ExemplarQuerier(context.Context, string) (storage.ExemplarQuerier, error) {
	if f.failOpen {
		return nil, errBroken
	}
	return fakeExemplars{f}, nil
}

type fakeExemplars struct{ *fakeSource }

func (f fakeExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	if f.failExemplars {
		return nil, errBroken
	}
	return slices.Clone(f.exemplars), nil
}

type fakeQuerier struct{ *fakeSource }

func (f fakeQuerier) Select(_ context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	f.matchers, f.sorted, f.limit = ms, sorted, hints.Limit
	slices.Reverse(ms) // as the TSDB does, the slice is ours
	hints.Limit = 1    // and so are the hints
	return &fakeSet{fakeSource: f.fakeSource, i: -1}
}

func (f fakeQuerier) LabelValues(_ context.Context, _ string, hints *storage.LabelHints, _ ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if f.failStrings {
		return nil, f.warnings(), errBroken
	}
	values := slices.Clone(f.values)
	if hints.Limit > 0 && len(values) > hints.Limit {
		values = values[:hints.Limit]
	}
	return values, f.warnings(), nil
}

func (f fakeQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return f.LabelValues(ctx, "", hints, ms...)
}

func (f fakeQuerier) Close() error { f.closed++; return nil }

func (f *fakeSource) warnings() annotations.Annotations {
	if f.warning == nil {
		return nil
	}
	return annotations.New().Add(f.warning)
}

type fakeSet struct {
	*fakeSource
	i int
}

func (s *fakeSet) Next() bool {
	if s.failSet && s.i == 0 {
		return false
	}
	s.i++
	return s.i < len(s.series)
}

func (s *fakeSet) At() storage.ChunkSeries {
	fs := s.series[s.i]
	return &storage.ChunkSeriesEntry{Lset: fs.labels, ChunkIteratorFn: func(chunks.Iterator) chunks.Iterator {
		if s.failChunks {
			return brokenChunks{}
		}
		return storage.NewListChunkSeriesIterator(fs.chunks...)
	}}
}

func (s *fakeSet) Err() error {
	if s.failSet {
		return errBroken
	}
	return nil
}

func (s *fakeSet) Warnings() annotations.Annotations { return s.warnings() }

type brokenChunks struct{}

func (brokenChunks) Next() bool      { return false }
func (brokenChunks) At() chunks.Meta { return chunks.Meta{} }
func (brokenChunks) Err() error      { return errBroken }

// countingChunk counts how often it is decoded.
type countingChunk struct {
	chunkenc.Chunk
	decoded *int
}

func (c countingChunk) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	*c.decoded++
	return c.Chunk.Iterator(it)
}

// brokenChunk fails after its first sample.
type brokenChunk struct{ chunkenc.Chunk }

func (c brokenChunk) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return &brokenIterator{Iterator: c.Chunk.Iterator(nil)}
}

type brokenIterator struct {
	chunkenc.Iterator
	read int
}

func (b *brokenIterator) Next() chunkenc.ValueType {
	if b.read++; b.read > 1 {
		return chunkenc.ValNone
	}
	return b.Iterator.Next()
}

func (b *brokenIterator) Err() error {
	if b.read > 1 {
		return errBroken
	}
	return nil
}

// floats returns a chunk with the value v at each timestamp.
func floats(t testing.TB, v float64, ts ...int64) chunks.Meta {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, at := range ts {
		app.Append(0, at, v)
	}
	return chunks.Meta{Chunk: c, MinTime: ts[0], MaxTime: ts[len(ts)-1]}
}

// histograms returns a chunk of histograms that grow from n.
func histograms(t testing.TB, n int, hint histogram.CounterResetHint, ts ...int64) chunks.Meta {
	t.Helper()
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i, at := range ts {
		h := &histogram.Histogram{Count: uint64(n + i), ZeroCount: uint64(n + i), CounterResetHint: hint}
		_, _, app, err = app.AppendHistogram(nil, 0, at, h, true)
		require.NoError(t, err)
	}
	return chunks.Meta{Chunk: c, MinTime: ts[0], MaxTime: ts[len(ts)-1]}
}
