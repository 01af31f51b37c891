package querier

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// lane is a run of chunks that do not overlap, linked by chunk.next, read one
// after another.
type lane struct {
	maxt  millis // of the samples asked for
	chunk *chunk // being read
	tail  *chunk // the last one put

	it      chunkenc.Iterator // of chunk; kept for its memory
	value   chunkenc.ValueType
	t       millis // it stands at; not kept up to date while the lane is the only one
	first   bool   // it may stand at the first sample of chunk
	reaches bool   // chunk may have samples after maxt
	err     error
}

func (l *lane) before(m *lane) bool {
	switch {
	case l.t != m.t:
		return l.t < m.t
	case l.chunk.source != m.chunk.source:
		return l.chunk.source < m.chunk.source
	}
	return l.chunk.place < m.chunk.place
}

// put appends ch to the lane.
func (l *lane) put(ch *chunk) {
	ch.next = nil
	if l.chunk == nil {
		l.chunk = ch
	} else {
		l.tail.next = ch
	}
	l.tail = ch
}

// next moves one sample forward; at the end of the lane, or with l.err set, it
// returns false.
func (l *lane) next() bool {
	if l.value = l.it.Next(); l.value != chunkenc.ValNone {
		l.t, l.first = l.it.AtT(), false
		return true
	}
	return l.leave(math.MinInt64)
}

// seek moves to the first sample at or after t.
func (l *lane) seek(t millis) bool {
	if l.chunk.maxt >= t {
		if l.value = l.it.Seek(t); l.value != chunkenc.ValNone {
			l.t, l.first = l.it.AtT(), false
			return true
		}
	}
	return l.leave(t)
}

// leave goes on from the end of a chunk to the next that has a sample at or
// after t.
func (l *lane) leave(t millis) bool {
	if err := l.it.Err(); err != nil {
		l.err = l.chunk.wrap(err)
		return false
	}
	l.chunk = l.chunk.next
	return l.start(t)
}

// start stands at the first sample at or after t of l.chunk or a later one.
func (l *lane) start(t millis) bool {
	for ; l.chunk != nil; l.chunk = l.chunk.next {
		if l.chunk.maxt < t {
			continue
		}
		l.it = l.chunk.data.Iterator(l.it)
		if l.first = t <= l.chunk.mint; l.first {
			l.value = l.it.Next()
		} else {
			l.value = l.it.Seek(t)
		}
		if l.value != chunkenc.ValNone {
			l.t, l.reaches = l.it.AtT(), l.chunk.maxt > l.maxt
			return true
		}
		if err := l.it.Err(); err != nil {
			l.err = l.chunk.wrap(err)
			return false
		}
	}
	return false
}

func (ch *chunk) wrap(err error) error {
	return fmt.Errorf("read chunk [%d, %d]: %w", ch.mint, ch.maxt, err)
}
