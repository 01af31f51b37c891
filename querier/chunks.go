package querier

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// chunk is a chunk of a series. Its bytes belong to the source and live until
// the selector is closed.
type chunk struct {
	data       chunkenc.Chunk
	mint, maxt millis // of its samples, inclusive; maxt may be later
	source     int    // of equal timestamps the lower source's sample is taken
	place      int    // among the chunks of its source
	next       *chunk // of its lane, or nil
	alone      bool   // no other chunk of the series overlaps it
}

// collector gathers the chunks of one series from every source. Its memory is
// reused from series to series.
type collector struct {
	chunks    []chunk
	iterators []chunks.Iterator // one per part, kept for their memory
}

// collect replaces c.chunks by the chunks of parts that meet [mint, maxt],
// sorted by time and without duplicates. They are counted against budget.
func (c *collector) collect(parts []part, mint, maxt millis, budget *budget) error {
	clear(c.chunks)
	c.chunks = c.chunks[:0]
	for len(c.iterators) < len(parts) {
		c.iterators = append(c.iterators, nil)
	}
	for i, p := range parts {
		it := p.chunks.Iterator(c.iterators[i])
		c.iterators[i] = it
		for place := 0; it.Next(); place++ {
			meta := it.At()
			if meta.Chunk == nil {
				return fmt.Errorf("chunk %d [%d, %d] came without its data", meta.Ref, meta.MinTime, meta.MaxTime)
			}
			if meta.OverlapsClosedInterval(mint, maxt) {
				if err := budget.addChunk(len(meta.Chunk.Bytes())); err != nil {
					return err
				}
				c.chunks = append(c.chunks, chunk{data: meta.Chunk, mint: meta.MinTime, maxt: meta.MaxTime, source: p.source, place: place})
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	if !slices.IsSortedFunc(c.chunks, compareChunks) {
		slices.SortFunc(c.chunks, compareChunks)
	}
	c.dropDuplicates()
	c.relate()
	return nil
}

// relate finds out which chunks overlap no other.
func (c *collector) relate() {
	end := millis(math.MinInt64) // of the chunks before
	for i := range c.chunks {
		ch := &c.chunks[i]
		ch.alone = (i == 0 || end < ch.mint) && (i+1 == len(c.chunks) || ch.maxt < c.chunks[i+1].mint)
		end = max(end, ch.maxt)
	}
}

func compareChunks(a, b chunk) int {
	return cmp.Or(
		cmp.Compare(a.mint, b.mint),
		cmp.Compare(a.maxt, b.maxt),
		cmp.Compare(a.source, b.source),
		cmp.Compare(a.place, b.place),
	)
}

// dropDuplicates keeps one of the chunks with the same bytes, as replicas have
// them, so that only one is decoded. It keeps the lowest source's.
func (c *collector) dropDuplicates() {
	kept := c.chunks[:0]
	for _, ch := range c.chunks {
		if !repeats(kept, ch) {
			kept = append(kept, ch)
		}
	}
	clear(c.chunks[len(kept):])
	c.chunks = kept
}

// repeats reports whether ch is among the last of sorted, those of its time range.
func repeats(sorted []chunk, ch chunk) bool {
	for i := len(sorted) - 1; i >= 0 && sorted[i].mint == ch.mint && sorted[i].maxt == ch.maxt; i-- {
		if sorted[i].data.Encoding() == ch.data.Encoding() && bytes.Equal(sorted[i].data.Bytes(), ch.data.Bytes()) {
			return true
		}
	}
	return false
}
