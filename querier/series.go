package querier

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-metrics/weir/tenant"
)

// cursor is a place in one source's sorted series, those that one selector of a
// policy lets be read.
type cursor struct {
	set      storage.ChunkSeriesSet
	source   int                 // index of the source; of equals the lower wins
	policy   *tenant.LabelPolicy // nil: everything may be read
	selector int                 // its place in the policy
	series   storage.ChunkSeries
	labels   labels.Labels // of series
}

func (c *cursor) before(d *cursor) bool {
	if cmp := labels.Compare(c.labels, d.labels); cmp != 0 {
		return cmp < 0
	}
	return c.source < d.source
}

func (c *cursor) next() bool {
	for c.set.Next() {
		c.series = c.set.At()
		c.labels = c.series.Labels()
		if c.mine() {
			return true
		}
	}
	c.series = nil
	return false
}

// mine reports whether the series may be read and no cursor of the same source
// but this one hands it out: it belongs to the first selector that selects it.
func (c *cursor) mine() bool {
	return c.policy == nil || c.policy.First(c.labels) == c.selector
}

// seriesSet merges the series of all sources: those with the same labels become
// one. A single source is passed through in its own order, or, since the cursors
// of one source have no series in common, in any.
type seriesSet struct {
	mint, maxt millis // of the samples, inclusive
	limit      int    // of the series; 0: none
	budget     *budget

	cursors []*cursor // of all sources
	heap    []*cursor // of those with series left; heap[0] is the next after current
	started bool
	passed  int // series handed out
	current *series
	err     error
}

// Next implements storage.SeriesSet.
func (s *seriesSet) Next() bool {
	s.current = nil
	if s.err != nil || (s.limit > 0 && s.passed >= s.limit) {
		return false
	}
	if !s.started {
		s.started = true
		s.start()
	}
	if s.err != nil || len(s.heap) == 0 {
		return false
	}
	if err := s.budget.addSeries(); err != nil {
		s.err = sourceErrorf("select series: %w", err)
		return false
	}
	s.current = &series{labels: s.heap[0].labels, mint: s.mint, maxt: s.maxt, budget: s.budget}
	for first := true; len(s.heap) > 0 && (first || s.sameSeries()); first = false {
		top := s.heap[0]
		s.current.add(top)
		if !s.advance(top) {
			return false
		}
	}
	s.passed++
	return true
}

// sameSeries reports whether the heap's top belongs to the current series. A
// single source has each series once, and need not be sorted.
func (s *seriesSet) sameSeries() bool {
	return len(s.cursors) > 1 && labels.Equal(s.heap[0].labels, s.current.labels)
}

// start takes the first series of every source.
func (s *seriesSet) start() {
	for i := 0; i < len(s.heap); {
		c := s.heap[i]
		if c.next() {
			i++
			continue
		}
		if err := c.set.Err(); err != nil {
			s.err = sourceErrorf("select series: %w", err)
			return
		}
		s.heap = append(s.heap[:i], s.heap[i+1:]...)
	}
	heapify(s.heap)
}

// advance moves the heap's top, c, to its next series.
func (s *seriesSet) advance(c *cursor) bool {
	if c.next() {
		siftDown(s.heap, 0)
		return true
	}
	if err := c.set.Err(); err != nil {
		s.err, s.current = sourceErrorf("select series: %w", err), nil
		return false
	}
	s.heap = pop(s.heap)
	return true
}

// At implements storage.SeriesSet.
func (s *seriesSet) At() storage.Series { return s.current }

// Err implements storage.SeriesSet.
func (s *seriesSet) Err() error { return s.err }

// Warnings implements storage.SeriesSet.
func (s *seriesSet) Warnings() annotations.Annotations {
	var warnings annotations.Annotations
	for _, c := range s.cursors {
		warnings.Merge(c.set.Warnings())
	}
	return warnings
}

// series is one series in every source that has it.
type series struct {
	labels     labels.Labels
	mint, maxt millis // inclusive
	budget     *budget
	parts      []part
	one        [1]part // what parts starts in: most series have one source
}

// part is what one source has of a series.
type part struct {
	chunks storage.ChunkSeries
	source int
}

func (s *series) add(c *cursor) {
	if s.parts == nil {
		s.parts = s.one[:0]
	}
	s.parts = append(s.parts, part{chunks: c.series, source: c.source})
}

// Labels implements storage.Series.
func (s *series) Labels() labels.Labels { return s.labels }

// Iterator implements storage.Series. It takes over it if it is one of ours.
func (s *series) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	si, ok := it.(*sampleIterator)
	if !ok {
		si = &sampleIterator{}
	}
	si.reset(s)
	return si
}
