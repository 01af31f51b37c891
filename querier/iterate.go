package querier

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// millis is a timestamp in milliseconds since 1970.
type millis = int64

// sampleIterator reads the samples of one series out of its chunks, in the
// order of time, each timestamp once.
//
// The chunks are sorted by their first sample. Those that overlap in time,
// directly or through others, are a group; groups follow each other. A group is
// dealt out into lanes, as few as can be, so that the chunks of one lane do not
// overlap. Most groups are a single chunk, hence a single lane, and samples
// come straight from the chunk's own iterator. With more lanes a heap holds
// them by the timestamp they stand at; equal timestamps are told apart by the
// source, and only the first is returned.
//
// The counter reset hint of a histogram compares it with the sample before it in
// its chunk. It is passed on where that is also the sample before it here. Else,
// and for the first one of a chunk, of which nobody can tell whether the chunk
// before it is the one it was written after, it becomes "unknown", unless it
// says that the histogram is a gauge; the engine then compares for itself.
type sampleIterator struct {
	labels     labels.Labels
	mint, maxt millis // of the samples, inclusive
	collector

	rest  int     // chunks[rest:] belong to groups that are not begun
	lanes []*lane // of the group being read; lanes[0] is where we stand, behind open is memory
	open  int     // lanes[:open] have a sample, and are a heap

	current  chunkenc.Iterator // of lanes[0]; nil before the first sample and after the last
	keepHint bool              // of the current sample
	ended    bool
	err      error
}

var _ chunkenc.Iterator = (*sampleIterator)(nil)

// reset begins a series, keeping the memory of the one before.
func (s *sampleIterator) reset(series *series) {
	*s = sampleIterator{labels: series.labels, mint: series.mint, maxt: series.maxt, collector: s.collector, lanes: s.lanes}
	if err := s.collect(series.parts, s.mint, s.maxt, series.budget); err != nil {
		s.fail(fmt.Errorf("list the chunks: %w", err))
	}
}

// Next implements chunkenc.Iterator.
func (s *sampleIterator) Next() chunkenc.ValueType {
	if s.current == nil {
		if s.ended {
			return chunkenc.ValNone
		}
		return s.seek(s.mint)
	}
	top := s.lanes[0]
	if s.open > 1 {
		return s.merge(top)
	}
	if top.value = s.current.Next(); top.value != chunkenc.ValNone {
		top.first, s.keepHint = false, true
		return s.clip(top)
	}
	if top.leave(s.mint) {
		return s.stand(false)
	}
	if top.err != nil {
		return s.fail(top.err)
	}
	s.open = 0
	return s.group(s.mint)
}

// merge moves all lanes past the timestamp of top, the lane we stand in.
func (s *sampleIterator) merge(top *lane) chunkenc.ValueType {
	for last := top.t; s.open > 0 && s.lanes[0].t <= last; {
		l := s.lanes[0]
		if l.next() {
			siftDown(s.lanes[:s.open], 0)
			continue
		}
		if l.err != nil {
			return s.fail(l.err)
		}
		s.open = len(pop(s.lanes[:s.open]))
	}
	if s.open == 0 {
		return s.group(s.mint)
	}
	return s.stand(s.lanes[0] == top)
}

// Seek implements chunkenc.Iterator. Chunks that end before t are not decoded.
func (s *sampleIterator) Seek(t millis) chunkenc.ValueType {
	switch {
	case s.ended:
		return chunkenc.ValNone
	case s.current == nil:
		return s.seek(max(t, s.mint))
	case s.current.AtT() >= t:
		return s.lanes[0].value
	}
	return s.seek(t)
}

// seek moves to the first sample at or after t, which is after the current one.
func (s *sampleIterator) seek(t millis) chunkenc.ValueType {
	if !s.keepOpen(func(l *lane) bool { return l.seek(t) }) {
		return chunkenc.ValNone
	}
	if s.open == 0 {
		return s.group(t)
	}
	return s.stand(false)
}

// group begins the next group that has a sample at or after t, there.
func (s *sampleIterator) group(t millis) chunkenc.ValueType {
	for s.open == 0 {
		for s.rest < len(s.chunks) && s.chunks[s.rest].maxt < t {
			s.rest++
		}
		if s.rest == len(s.chunks) {
			return s.end()
		}
		s.deal(t)
		if !s.keepOpen(func(l *lane) bool { return l.start(t) }) {
			return chunkenc.ValNone
		}
	}
	return s.stand(false)
}

// keepOpen moves every open lane, keeps those that have a sample then, and makes
// them a heap. It returns false after an error.
func (s *sampleIterator) keepOpen(move func(*lane) bool) bool {
	for i := 0; i < s.open; {
		l := s.lanes[i]
		if move(l) {
			i++
			continue
		}
		if l.err != nil {
			s.fail(l.err)
			return false
		}
		s.open--
		s.lanes[i], s.lanes[s.open] = s.lanes[s.open], l
	}
	heapify(s.lanes[:s.open])
	return true
}

// deal takes the group that begins with chunks[rest] and deals its chunks out
// into lanes, leaving out those that end before t. The lanes' iterators do not
// stand anywhere yet.
func (s *sampleIterator) deal(t millis) {
	end := s.chunks[s.rest].maxt
	for ; s.rest < len(s.chunks) && s.chunks[s.rest].mint <= end; s.rest++ {
		ch := &s.chunks[s.rest]
		if ch.maxt < t {
			continue
		}
		end = max(end, ch.maxt)
		s.laneFor(ch).put(ch)
	}
}

// laneFor returns a lane whose last chunk ends before ch, or a new one.
func (s *sampleIterator) laneFor(ch *chunk) *lane {
	for _, l := range s.lanes[:s.open] {
		if l.tail.maxt < ch.mint {
			return l
		}
	}
	if s.open == len(s.lanes) {
		s.lanes = append(s.lanes, &lane{})
	}
	l := s.lanes[s.open]
	*l = lane{it: l.it, maxt: s.maxt}
	s.open++
	return l
}

// stand makes the sample of lanes[0] the current one; stepped says that the one
// before it in its lane was the current one until now.
func (s *sampleIterator) stand(stepped bool) chunkenc.ValueType {
	top := s.lanes[0]
	s.current = top.it
	s.keepHint = !top.first && (stepped || top.chunk.alone)
	return s.clip(top)
}

// clip ends the series if the current sample is after maxt.
func (s *sampleIterator) clip(top *lane) chunkenc.ValueType {
	if top.reaches && s.current.AtT() > s.maxt {
		return s.end()
	}
	return top.value
}

func (s *sampleIterator) end() chunkenc.ValueType {
	s.current, s.open, s.ended = nil, 0, true
	return chunkenc.ValNone
}

func (s *sampleIterator) fail(err error) chunkenc.ValueType {
	s.err = sourceErrorf("series %s: %w", s.labels, err)
	return s.end()
}

// At implements chunkenc.Iterator.
func (s *sampleIterator) At() (int64, float64) { return s.current.At() }

// AtT implements chunkenc.Iterator.
func (s *sampleIterator) AtT() int64 { return s.current.AtT() }

// AtST implements chunkenc.Iterator.
func (s *sampleIterator) AtST() int64 { return s.current.AtST() }

// AtHistogram implements chunkenc.Iterator.
func (s *sampleIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := s.current.AtHistogram(h)
	h.CounterResetHint = s.hint(h.CounterResetHint)
	return t, h
}

// AtFloatHistogram implements chunkenc.Iterator.
func (s *sampleIterator) AtFloatHistogram(fh *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, fh := s.current.AtFloatHistogram(fh)
	fh.CounterResetHint = s.hint(fh.CounterResetHint)
	return t, fh
}

// hint returns what of a hint in a chunk holds for the series.
func (s *sampleIterator) hint(h histogram.CounterResetHint) histogram.CounterResetHint {
	if s.keepHint || h == histogram.GaugeType {
		return h
	}
	return histogram.UnknownCounterReset
}

// Err implements chunkenc.Iterator.
func (s *sampleIterator) Err() error { return s.err }
