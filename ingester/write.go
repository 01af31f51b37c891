package ingester

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tracing"
)

// write is the working memory of one Write.
type write struct {
	f       *proto.Frame
	reply   *proto.Reply
	entries []*entry // of each series of f, nil: unknown
	late    []late   // samples that are not newer than all before them
	number  uint64   // of this Write in its tenant
	running []uint64 // numbers of those that had begun and not ended when this one began
	labels  []proto.SeriesLabels
	unknown bool // the series at hand turned out to be unknown

	minute    int32     // in the life of the tenant's table
	refused   []refusal // new series beyond a limit, ascending
	stored    uint64    // samples and histograms in this transaction
	knownOnly bool      // series that the head does not have are postponed
	skipped   []uint32  // series that were refused or postponed, ascending

	// Series with a stale marker in this transaction. The TSDB makes the marker of a
	// series of histograms a histogram when it commits, and appends it behind what
	// came later, so that has to wait for a transaction of its own.
	ended map[*entry]struct{}
}

var writes = sync.Pool{New: func() any { return new(write) }}

// Write implements receiver.Ingester.
//
// A sample that is newer than every one its series has had goes straight to the
// TSDB: it can neither repeat nor contradict anything. All others, and those of a
// series that another Write is busy with, are put aside and decided one request
// at a time, when no other commit is under way (late.go). That makes the counts
// in reply exact.
func (i *Ingester) Write(ctx context.Context, tenantID string, f *proto.Frame, reply *proto.Reply) (err error) {
	ctx, span := tracing.Start(ctx, "ingester write")
	defer func() { tracing.End(span, err) }()
	level := i.disk.level()
	if level == diskFull {
		return i.disk.refusal()
	}
	t, err := i.enter(tenantID, true)
	if err != nil {
		return err
	}
	defer t.leave()
	if !t.wrote.Load() {
		t.wrote.Store(true)
	}
	if err := t.follow(i.Limits(tenantID)); err != nil {
		return err
	}
	w := writes.Get().(*write)
	defer w.release()
	w.f, w.reply, w.knownOnly = f, reply, level == diskLow
	w.minute = t.series.minuteOf(time.Now())

	if err := w.commitNew(ctx, t); err != nil {
		return err
	}
	if len(w.late) > 0 {
		i.metrics.late.Add(float64(len(w.late)))
		if err := w.commitLate(ctx, t); err != nil {
			return err
		}
	}
	if n := len(f.Exemplars); n > 0 && t.limits().MaxExemplars == 0 {
		n -= w.skippedExemplars()
		reply.Written.Exemplars += n // as the tenant wants it
		i.metrics.exemplarsDropped.Add(float64(n))
	} else if n > 0 {
		if err := w.commitExemplars(ctx, t); err != nil {
			return err
		}
	}
	if n := reply.Postponed.Total(); n > 0 {
		i.metrics.postponed.WithLabelValues(reply.Cause.ID).Add(float64(n))
	}
	if len(f.Metadata) > 0 {
		i.keepMetadata(t, f, reply)
	}
	t.written.Add(uint64(reply.Written.Samples + reply.Written.Histograms))
	return i.acknowledge(t)
}

func (w *write) release() {
	clear(w.entries)
	clear(w.late)
	*w = write{entries: w.entries[:0], late: w.late[:0], running: w.running[:0], skipped: w.skipped[:0]}
	writes.Put(w)
}

// commitNew appends every sample that is newer than its series, and puts the
// others aside.
func (w *write) commitNew(ctx context.Context, t *tenantDB) error {
	t.commits.RLock()
	defer t.commits.RUnlock()
	if err := t.writable(w.f); err != nil {
		return err
	}
	app := t.db.AppenderV2(ctx)
	t.series.resolve(w, app)
	w.labels = w.f.Labels
	w.number, w.running = t.writes.begin(w.running[:0])
	defer t.writes.end(w.number)
	var floats, histograms uint32
	for i := range w.f.Series {
		s, e := &w.f.Series[i], w.entries[i]
		ls := w.labelsOf(uint32(i))
		before := len(w.late)
		w.unknown = e == nil || (e.ref.Load() == 0 && ls.IsEmpty())
		if !w.takes(t, app, uint32(i), ls) {
			floats += s.Floats
			histograms += s.Histograms
			continue
		}
		for j, k := floats, histograms; (j < floats+s.Floats || k < histograms+s.Histograms) && !w.unknown; {
			// In order of time, where a series has both.
			if k == histograms+s.Histograms || (j < floats+s.Floats && w.f.Floats[j].T <= w.f.Histograms[k].T) {
				w.appendFloat(app, e, ls, uint32(i), j)
				j++
			} else {
				w.appendHistogram(app, e, ls, uint32(i), k)
				k++
			}
		}
		if w.unknown && s.Floats+s.Histograms+s.Exemplars > 0 {
			w.late = w.late[:before]
			w.reply.Unknown = append(w.reply.Unknown, uint32(i))
		}
		floats += s.Floats
		histograms += s.Histograms
	}
	return w.commit(ctx, t, app)
}

// commit ends a transaction of the samples counted in w.stored. The caller holds
// commits.
func (w *write) commit(ctx context.Context, t *tenantDB, app storage.AppenderTransaction) error {
	err := t.commit(ctx, app)
	if err == nil {
		t.stored.Add(w.stored)
		w.stored = 0
	}
	return err
}

// commit ends a transaction. It succeeds when all of it is in the logs, where a
// replay finds it.
func (t *tenantDB) commit(ctx context.Context, app storage.AppenderTransaction) (err error) {
	_, span := tracing.Start(ctx, "wal commit")
	defer func() { tracing.End(span, err) }()
	return t.logged(app.Commit)
}

// logged ends a transaction with end, which writes to the logs.
func (t *tenantDB) logged(end func() error) (err error) {
	defer t.survive(&err)
	if err = end(); err == nil {
		err = t.logs.err()
	}
	if err == nil {
		return nil
	}
	t.fail(err)
	return unavailable(err)
}

// labelsOf returns the labels that came with series i, if any. It is called
// with ascending i.
func (w *write) labelsOf(i uint32) labels.Labels {
	for len(w.labels) > 0 && w.labels[0].Series < i {
		w.labels = w.labels[1:]
	}
	if len(w.labels) > 0 && w.labels[0].Series == i {
		return w.labels[0].Labels
	}
	return labels.EmptyLabels()
}

// findLabels returns the labels that came with series i, if any.
func (w *write) findLabels(i uint32) labels.Labels {
	at, ok := slices.BinarySearchFunc(w.f.Labels, i, func(l proto.SeriesLabels, i uint32) int { return cmp.Compare(l.Series, i) })
	if !ok {
		return labels.EmptyLabels()
	}
	return w.f.Labels[at].Labels
}

func (w *write) appendFloat(app storage.AppenderV2, e *entry, ls labels.Labels, i, j uint32) {
	s := &w.f.Floats[j]
	if w.hasEnded(e) || !w.newest(e, s.T) {
		w.late = append(w.late, late{series: i, sample: j, t: s.T})
		return
	}
	ref, err := app.Append(storage.SeriesRef(e.ref.Load()), ls, s.ST, s.T, s.V, nil, nil, newerOnly)
	w.appended(e, ref, err, late{series: i, sample: j, t: s.T})
	if value.IsStaleNaN(s.V) {
		if w.ended == nil {
			w.ended = make(map[*entry]struct{})
		}
		w.ended[e] = struct{}{}
	}
}

func (w *write) appendHistogram(app storage.AppenderV2, e *entry, ls labels.Labels, i, j uint32) {
	s := &w.f.Histograms[j]
	if w.hasEnded(e) || !w.newest(e, s.T) {
		w.late = append(w.late, late{series: i, sample: j, t: s.T, histogram: true})
		return
	}
	ref, err := app.Append(storage.SeriesRef(e.ref.Load()), ls, s.ST, s.T, 0, s.H, s.FH, newerOnly)
	w.appended(e, ref, err, late{series: i, sample: j, t: s.T, histogram: true})
}

func (w *write) hasEnded(e *entry) bool {
	if len(w.ended) == 0 {
		return false
	}
	_, ended := w.ended[e]
	return ended
}

// newest claims the series for this Write and reports whether ts is newer than
// all its samples. It is false as well when another Write may not have committed
// what it appended to the series: the TSDB compares with committed samples only.
func (w *write) newest(e *entry, ts int64) bool {
	if last := e.writer.Load(); last != w.number {
		if last > w.number || slices.Contains(w.running, last) || !e.writer.CompareAndSwap(last, w.number) {
			return false
		}
	}
	if ts <= e.lastT.Load() {
		return false
	}
	e.lastT.Store(ts)
	return true
}

// newerOnly makes the TSDB refuse what is not newer than the series' newest.
var newerOnly = storage.AOptions{RejectOutOfOrder: true}

// appended takes the TSDB's answer about one sample.
func (w *write) appended(e *entry, ref storage.SeriesRef, err error, s late) {
	switch {
	case err == nil:
		e.ref.Store(uint64(ref))
		w.reply.Written.Add(s.counts())
		w.stored++
	case errors.Is(err, storage.ErrOutOfOrderSample), errors.Is(err, storage.ErrDuplicateSampleForTimestamp),
		errors.Is(err, storage.ErrOutOfBounds): // of a tenant that has no log for late samples yet
		w.late = append(w.late, s)
	case errors.Is(err, tsdb.ErrInvalidSample):
		// The head dropped the series since we learned its reference.
		e.forget()
		w.unknown = true
	default:
		w.reject(s, err)
	}
}

// reject counts a sample that the TSDB refuses for what it is, which only
// histograms can be.
func (w *write) reject(s late, err error) {
	w.reply.Rejected.Add(proto.HistogramInvalid, s.counts(), s.series, s.t, err.Error)
}

// unavailable wraps a failure of the store itself, which may pass.
func unavailable(err error) error {
	return proto.Errorf(proto.KindUnavailable, "weir-store-unavailable",
		"the tenant's log cannot be written: %v; repeat the request", err)
}

// forget makes series i unknown: the head dropped it, so nothing of it was stored.
func (w *write) forget(e *entry, i uint32) {
	e.forget()
	if at, listed := slices.BinarySearch(w.reply.Unknown, i); !listed {
		w.reply.Unknown = slices.Insert(w.reply.Unknown, at, i)
	}
}

// sample is the value behind a late: a float, or a histogram.
func (w *write) sample(s late) (st int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	if s.histogram {
		x := &w.f.Histograms[s.sample]
		return x.ST, 0, x.H, x.FH
	}
	x := &w.f.Floats[s.sample]
	return x.ST, x.V, nil, nil
}

// writable refuses a frame while what it writes to is being cut into a block.
func (t *tenantDB) writable(f *proto.Frame) error {
	if t.closed {
		return proto.Errorf(proto.KindUnavailable, "weir-shutting-down", "the server is shutting down; repeat the request")
	}
	if t.failed.Load() != 0 {
		return proto.Errorf(proto.KindUnavailable, "weir-store-unavailable",
			"a write to the tenant's log failed; it is opened anew as soon as the disk allows, repeat the request")
	}
	below := t.cutting.Load()
	if below == notCutting || f == nil {
		return nil
	}
	for i := range f.Floats {
		if f.Floats[i].T <= below {
			return busyCutting()
		}
	}
	for i := range f.Histograms {
		if f.Histograms[i].T <= below {
			return busyCutting()
		}
	}
	return nil
}

func busyCutting() error {
	return proto.Errorf(proto.KindUnavailable, "weir-flush-running",
		"a flush is writing samples of this time into a block; repeat the request")
}

// lateness says how late t is in a tenant whose newest sample is at newest.
func lateness(t, newest int64, window time.Duration) string {
	return fmt.Sprintf("%s older than the tenant's newest sample, the limit out_of_order_window is %s", proto.Span(t, newest), window)
}
