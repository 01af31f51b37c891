package querier

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

type chunkQueryable struct{ view *View }

// ChunkQuerier implements storage.ChunkQueryable.
func (c chunkQueryable) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	sel, err := c.view.open(mint, maxt)
	if err != nil {
		return nil, err
	}
	return chunkSelector{sel}, nil
}

// chunkSelector is a selector whose series are read as chunks.
type chunkSelector struct{ *selector }

// Select implements storage.ChunkQuerier. The chunks of a series, as of all
// sources, do not overlap and hold the samples that selector.Select finds, and no
// others.
func (c chunkSelector) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return chunkSeriesSet{c.merge(ctx, sorted, hints, matchers)}
}

type chunkSeriesSet struct{ *seriesSet }

// At implements storage.ChunkSeriesSet.
func (s chunkSeriesSet) At() storage.ChunkSeries { return chunkSeries{s.current} }

type chunkSeries struct{ *series }

// Iterator implements storage.ChunkSeries. It takes over it if it is one of ours.
func (s chunkSeries) Iterator(it chunks.Iterator) chunks.Iterator {
	ci, ok := it.(*chunkIterator)
	if !ok {
		ci = &chunkIterator{}
	}
	ci.reset(s.series)
	return ci
}

// chunkIterator hands out the chunks of one series in the order of time.
//
// A chunk that overlaps no other and lies in the time range is passed on as it
// came, undecoded: most do. Runs of others are decoded, merged and cut by a
// sampleIterator, and encoded anew.
type chunkIterator struct {
	series *series
	collector

	rest    int             // chunks[rest:] are not handed out
	samples sampleIterator  // of the run encoded last; kept for its memory
	encoded chunks.Iterator // of that run, before chunks[rest]; nil if there is none
	current chunks.Meta
	err     error
}

// reset begins a series, keeping the memory of the one before.
func (c *chunkIterator) reset(s *series) {
	*c = chunkIterator{series: s, collector: c.collector, samples: c.samples}
	if err := c.collect(s.parts, s.mint, s.maxt, s.budget); err != nil {
		c.err = sourceErrorf("series %s: list the chunks: %w", s.labels, err)
	}
}

// Next implements chunks.Iterator.
func (c *chunkIterator) Next() bool {
	for c.err == nil {
		if c.encoded != nil {
			if c.encoded.Next() {
				c.current = c.encoded.At()
				return true
			}
			if err := c.encoded.Err(); err != nil {
				c.err = sourceErrorf("encode chunks: %w", err)
			}
			c.encoded = nil
			continue
		}
		if c.rest == len(c.chunks) {
			return false
		}
		if ch := &c.chunks[c.rest]; c.passes(ch) {
			c.rest++
			c.current = chunks.Meta{Chunk: ch.data, MinTime: ch.mint, MaxTime: ch.maxt}
			return true
		}
		c.encode()
	}
	return false
}

// encode encodes chunks[rest] anew, with those after it up to the next that can
// be passed on.
func (c *chunkIterator) encode() {
	end := c.rest + 1
	for end < len(c.chunks) && !c.passes(&c.chunks[end]) {
		end++
	}
	c.samples = sampleIterator{
		labels: c.series.labels, mint: c.series.mint, maxt: c.series.maxt,
		collector: collector{chunks: c.chunks[c.rest:end]},
		lanes:     c.samples.lanes,
	}
	run := &storage.SeriesEntry{Lset: c.series.labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return withoutStart{&c.samples}
	}}
	c.encoded = storage.NewSeriesToChunkEncoder(run).Iterator(nil)
	c.rest = end
}

// passes reports whether ch can be handed out as it is.
func (c *chunkIterator) passes(ch *chunk) bool {
	return ch.alone && c.series.mint <= ch.mint && ch.maxt <= c.series.maxt && portable(ch.data)
}

// portable reports whether every reader understands a chunk as we do. The
// encodings with start timestamps are known to recent ones only. A chunk of
// histograms that claims to begin with a reset says so of the chunk that was
// before it when it was written, which need not be the one before it here.
func portable(c chunkenc.Chunk) bool {
	switch c.Encoding() {
	case chunkenc.EncXOR:
		return true
	case chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
		h, ok := c.(interface {
			GetCounterResetHeader() chunkenc.CounterResetHeader
		})
		return ok && h.GetCounterResetHeader() != chunkenc.CounterReset
	}
	return false
}

// withoutStart hides start timestamps, for which the encoder would take an
// encoding that is not portable.
type withoutStart struct{ *sampleIterator }

// AtST implements chunkenc.Iterator.
func (withoutStart) AtST() int64 { return 0 }

// At implements chunks.Iterator. Chunks that were not encoded anew live until
// the querier is closed.
func (c *chunkIterator) At() chunks.Meta { return c.current }

// Err implements chunks.Iterator.
func (c *chunkIterator) Err() error { return c.err }
