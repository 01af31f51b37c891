package ingester

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-metrics/weir/proto"
)

// A late sample is not newer than all its series has had: it repeats a sample,
// contradicts one, or is out of order. The TSDB tells these apart for the
// newest sample of a series only: an older repetition it stores a second time,
// and an older contradiction it takes silently. The rule is: what repeats is
// written, what contradicts is refused and the first stays, and what is new and
// within the out-of-order window is stored.
//
// To keep it, late samples are decided while no other commit is under way, each
// against what can be read at its timestamp.
type late struct {
	series    uint32 // index into the frame's series
	sample    uint32 // index into the frame's floats or histograms
	t         int64  // ms
	histogram bool
}

func (s late) counts() proto.Counts {
	if s.histogram {
		return proto.Counts{Histograms: 1}
	}
	return proto.Counts{Samples: 1}
}

// commitLate decides w.late.
func (w *write) commitLate(ctx context.Context, t *tenantDB) error {
	t.commits.Lock()
	defer t.commits.Unlock()
	if err := t.writable(w.f); err != nil {
		return err
	}
	slices.SortStableFunc(w.late, func(a, b late) int {
		return cmp.Or(cmp.Compare(a.series, b.series), cmp.Compare(a.t, b.t))
	})
	app := t.db.AppenderV2(ctx)
	var (
		stored = proto.Counts{} // uncommitted
		rest   = w.late
	)
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && rest[n].series == rest[0].series {
			n++
		}
		written, err := w.appendLate(ctx, t, app, rest[:n])
		if err != nil {
			return errors.Join(err, app.Rollback())
		}
		stored.Add(written)
		rest = rest[n:]
	}
	if err := app.Commit(); err != nil {
		return unavailable(err)
	}
	w.reply.Written.Add(stored)
	return nil
}

// appendLate decides the late samples of one series, in order of time.
func (w *write) appendLate(ctx context.Context, t *tenantDB, app storage.AppenderV2, samples []late) (written proto.Counts, err error) {
	e := w.entries[samples[0].series]
	ls := w.findLabels(samples[0].series) // empty when the series is known by reference
	var past *storedSamples               // what is stored already, read when first needed
	for i, s := range samples {
		if i > 0 && samples[i-1].t == s.t {
			// Twice in one request: the first was decided just now.
			if w.same(samples[i-1], s) {
				written.Add(s.counts())
			} else {
				w.reject(s, storage.ErrDuplicateSampleForTimestamp)
			}
			continue
		}
		st, v, h, fh := w.sample(s)
		ref, err := app.Append(storage.SeriesRef(e.ref.Load()), ls, st, s.t, v, h, fh, newerOnly)
		if errors.Is(err, storage.ErrOutOfOrderSample) {
			if past == nil {
				if past, err = t.read(ctx, storage.SeriesRef(e.ref.Load()), ls, s.t, samples[len(samples)-1].t); err != nil {
					return written, err
				}
			}
			if past.has(s.t) {
				if past.equals(s.t, v, h, fh) {
					written.Add(s.counts())
				} else {
					w.reject(s, storage.ErrDuplicateSampleForTimestamp)
				}
				continue
			}
			ref, err = app.Append(storage.SeriesRef(e.ref.Load()), ls, st, s.t, v, h, fh, storage.AOptions{})
		}
		switch {
		case err == nil:
			e.ref.Store(uint64(ref))
			written.Add(s.counts())
		case errors.Is(err, tsdb.ErrInvalidSample):
			w.forget(e, s.series)
			return proto.Counts{}, nil
		case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
			w.reply.Rejected.Add(proto.SampleOutOfOrder, s.counts(), s.series, s.t, func() string {
				return lateness(s.t, t.db.Head().MaxTime(), t.window())
			})
		default:
			w.reject(s, err)
		}
	}
	return written, nil
}

// same reports whether two samples of the frame have the same value.
func (w *write) same(a, b late) bool {
	_, va, ha, fha := w.sample(a)
	_, vb, hb, fhb := w.sample(b)
	return sameValue(va, ha, fha, vb, hb, fhb)
}

// sameValue compares floats bit by bit, and histograms whatever their layout of
// spans and their counter reset hints.
func sameValue(va float64, ha *histogram.Histogram, fha *histogram.FloatHistogram,
	vb float64, hb *histogram.Histogram, fhb *histogram.FloatHistogram) bool {
	switch {
	case ha != nil && hb != nil:
		return ha.Copy().Compact(0).Equals(hb.Copy().Compact(0))
	case fha != nil && fhb != nil:
		return fha.Copy().Compact(0).Equals(fhb.Copy().Compact(0))
	case ha != nil || hb != nil || fha != nil || fhb != nil:
		return false
	}
	return math.Float64bits(va) == math.Float64bits(vb)
}

// storedSamples are samples read back from a series, by timestamp.
type storedSamples struct {
	floats     map[int64]float64
	histograms map[int64]*histogram.Histogram
	fhs        map[int64]*histogram.FloatHistogram
}

func (p *storedSamples) has(t int64) bool {
	_, f := p.floats[t]
	return f || p.histograms[t] != nil || p.fhs[t] != nil
}

func (p *storedSamples) equals(t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	stored, isFloat := p.floats[t]
	if isFloat && (h != nil || fh != nil) {
		return false
	}
	if !isFloat && h == nil && fh == nil {
		return false
	}
	return sameValue(v, h, fh, stored, p.histograms[t], p.fhs[t])
}

// read returns the samples between mint and maxt, from memory and blocks, of the
// series with labels ls or, where these are empty, of the one in the head that
// ref leads to.
func (t *tenantDB) read(ctx context.Context, ref storage.SeriesRef, ls labels.Labels, mint, maxt int64) (*storedSamples, error) {
	out := &storedSamples{floats: map[int64]float64{}, histograms: map[int64]*histogram.Histogram{}, fhs: map[int64]*histogram.FloatHistogram{}}
	if ls.IsEmpty() {
		var ok bool
		if ls, ok = t.labelsOf(ref); !ok {
			return out, nil
		}
	}
	q, err := t.db.Querier(mint, maxt)
	if err != nil {
		return nil, unavailable(err)
	}
	defer q.Close()
	var matchers []*labels.Matcher
	ls.Range(func(l labels.Label) {
		matchers = append(matchers, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value))
	})
	set := q.Select(ctx, false, nil, matchers...)
	for set.Next() {
		series := set.At()
		if !labels.Equal(series.Labels(), ls) {
			continue // has more labels than these
		}
		if err := out.collect(series.Iterator(nil), mint, maxt); err != nil {
			return nil, unavailable(err)
		}
	}
	if err := set.Err(); err != nil {
		return nil, unavailable(err)
	}
	return out, nil
}

func (p *storedSamples) collect(it chunkenc.Iterator, mint, maxt int64) error {
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		ts := it.AtT()
		if ts < mint || ts > maxt {
			continue
		}
		switch vt {
		case chunkenc.ValFloat:
			_, p.floats[ts] = it.At()
		case chunkenc.ValHistogram:
			_, p.histograms[ts] = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			_, p.fhs[ts] = it.AtFloatHistogram(nil)
		}
	}
	return it.Err()
}

// labelsOf returns the labels of a series in the head.
func (t *tenantDB) labelsOf(ref storage.SeriesRef) (labels.Labels, bool) {
	idx, err := t.db.Head().Index()
	if err != nil {
		return labels.EmptyLabels(), false
	}
	defer idx.Close()
	var b labels.ScratchBuilder
	if err := idx.Series(ref, &b, nil); err != nil {
		return labels.EmptyLabels(), false
	}
	return b.Labels(), true
}
