package ingester

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/proto"
)

// commitExemplars stores the frame's exemplars. They belong to series, not to
// samples, so they do not depend on what became of those.
func (w *write) commitExemplars(ctx context.Context, t *tenantDB) error {
	if err := t.expectExemplars(); err != nil {
		return err
	}
	t.commits.RLock()
	defer t.commits.RUnlock()
	if err := t.writable(nil); err != nil {
		return err
	}
	app := t.db.Appender(ctx)
	w.labels = w.f.Labels
	skip := w.skips()
	var next uint32
	for i := range w.f.Series {
		from := next
		next += w.f.Series[i].Exemplars
		ls := w.labelsOf(uint32(i))
		if len(skip) > 0 && skip[0] == uint32(i) {
			skip = skip[1:]
			continue
		}
		if from == next {
			continue
		}
		e := w.entries[i]
		if !ls.IsEmpty() {
			e.ref.Store(uint64(t.createSeries(ctx, ls)))
		}
		for j := from; j < next && w.appendExemplar(app, e, uint32(i), j); j++ {
		}
	}
	return t.commit(ctx, app)
}

// skips are the series of the frame of which nothing is stored, ascending.
func (w *write) skips() []uint32 {
	return slices.Sorted(slices.Values(slices.Concat(w.reply.Unknown, w.skipped)))
}

// skippedExemplars are counted elsewhere, or come again with their labels.
func (w *write) skippedExemplars() (n int) {
	for _, i := range w.skips() {
		n += int(w.f.Series[i].Exemplars)
	}
	return n
}

// appendExemplar appends exemplar j of series i; false means that the head
// dropped the series since we learned its reference.
func (w *write) appendExemplar(app storage.Appender, e *entry, i, j uint32) bool {
	x, one := w.f.Exemplars[j], proto.Counts{Exemplars: 1}
	ref := storage.SeriesRef(e.ref.Load())
	if ref == 0 {
		w.reply.Rejected.Add(proto.ExemplarWithoutSeries, one, i, x.Ts, noSeries)
		return true
	}
	switch _, err := app.AppendExemplar(ref, labels.EmptyLabels(), x); {
	case err == nil:
		w.reply.Written.Add(one)
	case errors.Is(err, storage.ErrOutOfOrderExemplar):
		w.reply.Rejected.Add(proto.ExemplarOutOfOrder, one, i, x.Ts, err.Error)
	case errors.Is(err, storage.ErrExemplarLabelLength):
		w.reply.Rejected.Add(proto.ExemplarInvalid, one, i, x.Ts, err.Error)
	default:
		w.forget(e, i)
		return false
	}
	return true
}

func noSeries() string {
	return "the series has no sample yet; send samples or histograms with its exemplars"
}

// createSeries returns the reference of the series with labels ls, which it
// makes if it is not in the head: exemplars may come without samples. A sample that
// is rolled back leaves just the series, in the head and in the log. It returns 0
// when there is no head yet, of which it would set the time.
func (t *tenantDB) createSeries(ctx context.Context, ls labels.Labels) storage.SeriesRef {
	head := t.db.Head()
	if head.MinTime() == math.MaxInt64 || ls.IsEmpty() {
		return 0
	}
	app := t.db.AppenderV2(ctx)
	if ref := refOf(app, ls); ref != 0 {
		_ = app.Rollback()
		return ref
	}
	ref, err := app.Append(0, ls, 0, head.MaxTime(), 0, nil, nil, storage.AOptions{})
	if err != nil || t.logged(app.Rollback) != nil {
		return 0
	}
	return ref
}

// refOf returns the reference of a series in the head, or 0.
func refOf(app storage.AppenderV2, ls labels.Labels) storage.SeriesRef {
	ref, _ := app.(storage.GetRef).GetRef(ls, ls.Hash())
	return ref
}
