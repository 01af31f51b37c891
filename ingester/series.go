package ingester

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/proto"
)

// seriesTable knows the series of one opened TSDB by identity. It is made with
// the TSDB and dropped with it, so that a reference never reaches another one.
// A handle is a series' number in the table; it is only ever a hint, because
// the identity is compared.
type seriesTable struct {
	mu    sync.RWMutex
	index proto.Index          // guarded by mu
	pages []*[seriesPage]entry // guarded by mu; the entries are not
}

const seriesPage = 64

// entry is what is known of one series.
type entry struct {
	ref    atomic.Uint64 // reference in the TSDB's head, 0: not there
	writer atomic.Uint64 // number of the Write that gave the TSDB a sample last
	lastT  atomic.Int64  // newest timestamp given to the TSDB by this process, ms; written by writer only
}

func (t *seriesTable) at(i uint32) *entry { return &t.pages[i/seriesPage][i%seriesPage] }

// resolve appends to dst the entry of each series of f, nil where it is not
// known, and to reply the handles of those whose hint was not right. Series
// that come with labels are added.
func (t *seriesTable) resolve(f *proto.Frame, dst []*entry, reply *proto.Reply) []*entry {
	if len(f.Labels) > 0 {
		t.mu.Lock()
		for _, l := range f.Labels {
			t.add(f.Series[l.Series].ID)
		}
		t.mu.Unlock()
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range f.Series {
		s := &f.Series[i]
		if t.index.Is(s.Handle, s.ID) {
			dst = append(dst, t.at(s.Handle))
			continue
		}
		h, ok := t.index.Find(s.ID)
		if !ok {
			dst = append(dst, nil)
			continue
		}
		dst = append(dst, t.at(h))
		reply.Handles = append(reply.Handles, proto.SeriesHandle{Series: uint32(i), Handle: h})
	}
	return dst
}

// add adds id unless it is known. The caller holds mu for writing.
func (t *seriesTable) add(id proto.Hash) *entry {
	if i, ok := t.index.Find(id); ok {
		return t.at(i)
	}
	i := t.index.Add(id)
	if int(i) == len(t.pages)*seriesPage {
		t.pages = append(t.pages, new([seriesPage]entry))
	}
	e := t.at(i)
	e.lastT.Store(math.MinInt64)
	return e
}

// sweep forgets the series that the head dropped. No write may be under way.
func (t *seriesTable) sweep(dropped map[storage.SeriesRef]struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var live seriesTable
	for i := range uint32(t.index.Len()) {
		e := t.at(i)
		ref := e.ref.Load()
		if _, gone := dropped[storage.SeriesRef(ref)]; gone || ref == 0 {
			continue
		}
		l := live.add(t.index.At(i))
		l.ref.Store(ref)
		l.lastT.Store(e.lastT.Load())
	}
	t.index, t.pages = live.index, live.pages
}

func (t *seriesTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.index.Len()
}

// forget notes that the head dropped the series.
func (e *entry) forget() {
	e.ref.Store(0)
	e.lastT.Store(math.MinInt64)
}
