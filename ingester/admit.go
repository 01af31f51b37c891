package ingester

import (
	"math/rand/v2"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/cardinality"
	"github.com/weir-metrics/weir/proto"
)

// refusal is a series of a frame that is not stored.
type refusal struct {
	series uint32
	cardinality.Verdict
}

// takes reports whether series i, with labels ls if they came, is stored now, and
// counts it if it is not. One that is unknown is.
func (w *write) takes(t *tenantDB, app storage.AppenderV2, i uint32, ls labels.Labels) bool {
	s, e := &w.f.Series[i], w.entries[i]
	switch {
	case s.Counts().Total() == 0: // it came for its metadata
	case len(w.refused) > 0 && w.refused[0].series == i:
		w.refuse(i, w.refused[0].Verdict)
		w.refused = w.refused[1:]
		return false
	case w.unknown:
	case w.knownOnly && !w.inHead(app, e, ls):
		t.series.leave(e)
		w.postpone(i, t.disk.noNewSeries())
		return false
	case e.seen.Load() < w.minute:
		if v := t.series.touch(s.ID, e, w.minute); v.Reason != proto.OK {
			w.refuse(i, v)
			return false
		}
	}
	return true
}

// inHead reports whether the series is in the TSDB's head.
func (w *write) inHead(app storage.AppenderV2, e *entry, ls labels.Labels) bool {
	if e.ref.Load() == 0 {
		e.ref.CompareAndSwap(0, uint64(refOf(app, ls)))
	}
	return e.ref.Load() != 0
}

// postpone counts series i, which is not stored for now because of cause.
func (w *write) postpone(i uint32, cause *proto.Error) {
	w.skipped = append(w.skipped, i)
	w.reply.Held = append(w.reply.Held, i)
	w.reply.Postponed.Add(w.f.Series[i].Counts())
	w.reply.Cause = cause
}

// refuse counts series i, which is new and beyond a limit.
func (w *write) refuse(i uint32, v cardinality.Verdict) {
	if v.Wait {
		cause := proto.Errorf(proto.KindLimit, v.Reason.ID(), "%s", v.Detail())
		cause.RetryAfter = retrySeries()
		w.postpone(i, cause)
		return
	}
	w.skipped = append(w.skipped, i)
	w.reply.Rejected.Add(v.Reason, w.f.Series[i].Counts(), i, 0, v.Detail)
}

// retrySeries is when a series that waits for a place may be sent again. Places
// become free once a minute, for up to drainMinutes: it is as late as a sender may
// be told, which repeats all of its request each time, and spread.
func retrySeries() time.Duration { return time.Duration(8+rand.IntN(8)) * time.Second }

// admit adds a new series, or says why not. The caller holds mu for writing.
func (t *seriesTable) admit(id proto.Hash, ls labels.Labels, w *write, head storage.AppenderV2) cardinality.Verdict {
	if s := t.restored.take(head, ls); s != nil {
		t.add(id, *s, w.minute)
		return cardinality.Verdict{}
	}
	class, v := t.active.Admit(id, ls, w.f.Sender, func() bool { return t.replayed && refOf(head, ls) != 0 })
	if v.Reason == proto.OK {
		t.add(id, restoredSeries{class: class}, w.minute)
	}
	return v
}

// touch notes that a series sends in this minute. A series that had stopped is
// counted in again, if there is a place.
func (t *seriesTable) touch(id proto.Hash, e *entry, minute int32) cardinality.Verdict {
	for {
		seen := e.seen.Load()
		if seen >= minute || (seen > 0 && e.seen.CompareAndSwap(seen, minute)) {
			return cardinality.Verdict{}
		}
		if seen <= 0 {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(minute)
	if e.seen.Load() > 0 {
		return cardinality.Verdict{}
	}
	v := t.active.Return(id, e.class)
	if v.Reason == proto.OK {
		e.seen.Store(minute)
	}
	return v
}

// reclassify counts a series that the head has dropped under what its labels say:
// the label sets may have changed since they were known. The caller holds mu for
// writing.
func (t *seriesTable) reclassify(e *entry, ls labels.Labels) {
	if e.ref.Load() != 0 {
		return
	}
	class := t.active.Classify(ls)
	if e.seen.Load() > 0 && class != e.class {
		t.active.Leave(e.class)
		t.active.Recount(class)
	}
	e.class = class
}

// leave counts a series out that was counted in, and will not be stored.
func (t *seriesTable) leave(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seen := e.seen.Load(); seen > 0 && e.seen.CompareAndSwap(seen, -seen) {
		t.active.Leave(e.class)
	}
}
