package ingester

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/cardinality"
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

	opened   time.Time           // when minutes begin
	active   *cardinality.Active // guarded by mu
	restored restored            // guarded by mu
	replayed bool                // the head had series when the table began
	expired  int32               // the minute in which series were counted out last; guarded by mu
	hours    [2]uint32           // the series before which were there when this hour began, and the one before; guarded by mu
}

const seriesPage = 64

// entry is what is known of one series: half a cache line.
type entry struct {
	ref    atomic.Uint64 // reference in the TSDB's head, 0: not there
	writer atomic.Uint64 // number of the Write that gave the TSDB a sample last
	lastT  atomic.Int64  // newest timestamp given to the TSDB by this process, ms; written by writer only

	// seen is the minute in which the series sent something last. It is counted as
	// active while that is above 0; when it is counted out, it becomes negative.
	seen  atomic.Int32
	class cardinality.Class // what it is counted under
}

func (t *seriesTable) at(i uint32) *entry { return &t.pages[i/seriesPage][i%seriesPage] }

// begin makes an empty table of counts under limits, for a head that has series
// already or not.
func (t *seriesTable) begin(limits cardinality.Limits, replayed bool) {
	t.opened, t.replayed = time.Now(), replayed
	t.expired = t.minuteOf(t.opened)
	t.active = cardinality.NewActive(limits, int(t.expired))
	t.hours = [2]uint32{math.MaxUint32, math.MaxUint32} // in the first hour all may be new here, and none new
}

// resolve puts into w the entry of each series of its frame, nil where it is not
// known, and those that are refused, and into its reply the handles of those whose
// hint was not right. Series that come with labels are added, if the limits allow.
func (t *seriesTable) resolve(w *write, head storage.AppenderV2) {
	var refused []refusal
	if len(w.f.Labels) > 0 {
		refused = t.learn(w, head)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	w.reply.Near = t.active.Use(w.reply.Near[:0], proto.NearLimit)
	for i := range w.f.Series {
		s := &w.f.Series[i]
		if t.index.Is(s.Handle, s.ID) {
			w.entries = append(w.entries, t.at(s.Handle))
			continue
		}
		if h, ok := t.index.Find(s.ID); ok {
			w.entries = append(w.entries, t.at(h))
			w.reply.Handles = append(w.reply.Handles, proto.SeriesHandle{Series: uint32(i), Handle: h})
			continue
		}
		w.entries = append(w.entries, nil)
		if s.Counts().Total() == 0 {
			continue // there is nothing to refuse
		}
		if len(refused) > 0 && refused[0].series == uint32(i) {
			w.refused = append(w.refused, refused[0])
			refused = refused[1:]
		} else if v, ok := t.active.Refused(s.ID); ok && t.expired >= w.minute { // else its labels are asked for
			w.refused = append(w.refused, refusal{uint32(i), v})
		}
	}
}

// learn adds the series that come with labels and something to store, and returns
// those that are refused.
func (t *seriesTable) learn(w *write, head storage.AppenderV2) (refused []refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(w.minute)
	for _, l := range w.f.Labels {
		s := &w.f.Series[l.Series]
		if h, known := t.index.Find(s.ID); known {
			t.reclassify(t.at(h), l.Labels)
			continue
		}
		if s.Counts().Total() == 0 {
			continue
		}
		if v := t.admit(s.ID, l.Labels, w, head); v.Reason != proto.OK {
			refused = append(refused, refusal{l.Series, v})
		}
	}
	return refused
}

// add adds a series that was seen in a minute. The caller holds mu for writing.
func (t *seriesTable) add(id proto.Hash, s restoredSeries, seen int32) *entry {
	i := t.index.Add(id)
	if int(i) == len(t.pages)*seriesPage {
		t.pages = append(t.pages, new([seriesPage]entry))
	}
	e := t.at(i)
	e.ref.Store(uint64(s.ref))
	e.lastT.Store(math.MinInt64)
	e.seen.Store(seen)
	e.class = s.class
	return e
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
