package ingester

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

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

// lateBytes is what a late sample takes on disk, at most, unless it is a
// histogram of very many buckets.
const lateBytes = 1 << 10

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
	// Of 32 late samples of a series the TSDB makes a chunk, and writes it; it would
	// panic if it could not.
	if err := t.disk.fits(1<<20 + int64(len(w.late))*lateBytes); err != nil {
		return err
	}
	if err := t.expectLate(); err != nil {
		return err
	}
	slices.SortStableFunc(w.late, func(a, b late) int {
		x, y := w.f.Series[a.series].ID, w.f.Series[b.series].ID
		return cmp.Or(cmp.Compare(x.Hi, y.Hi), cmp.Compare(x.Lo, y.Lo), cmp.Compare(a.t, b.t))
	})
	p := t.openPast()
	defer p.close()
	app := t.db.AppenderV2(ctx)
	var stored proto.Counts // not committed yet
	for rest := w.late; len(rest) > 0; {
		n, ended := 1, false
		for n < len(rest) && w.f.Series[rest[n].series].ID == w.f.Series[rest[0].series].ID && !ended {
			if ended = w.ends(rest[n-1]); !ended {
				n++
			}
		}
		written, err := w.appendLate(ctx, app, p, rest[:n])
		if err != nil {
			return errors.Join(unavailable(err), app.Rollback())
		}
		stored.Add(written)
		rest = rest[n:]
		if ended {
			// The TSDB may make the marker a histogram when it commits, and would
			// append it behind what follows.
			if err := w.commit(ctx, t, app); err != nil {
				return err
			}
			app = t.db.AppenderV2(ctx)
		}
	}
	if err := w.commit(ctx, t, app); err != nil {
		return err
	}
	w.reply.Written.Add(stored)
	return nil
}

// ends reports whether s is a stale marker that came as a float.
func (w *write) ends(s late) bool {
	return !s.histogram && value.IsStaleNaN(w.f.Floats[s.sample].V)
}

// appendLate decides the late samples of one series, in order of time.
func (w *write) appendLate(ctx context.Context, app storage.AppenderV2, p *past, samples []late) (written proto.Counts, err error) {
	e := w.entries[samples[0].series]
	var ls labels.Labels // empty when the series is known by reference
	for i := 0; i < len(samples) && ls.IsEmpty(); i++ {
		ls = w.findLabels(samples[i].series)
	}
	if e.ref.Load() == 0 && !ls.IsEmpty() {
		e.ref.Store(uint64(refOf(app, ls)))
	}
	if len(samples) == 1 {
		// The newest sample again, most often: the TSDB knows that one without reading.
		s := &samples[0]
		st, v, h, fh := w.sample(*s)
		if ref, err := app.Append(storage.SeriesRef(e.ref.Load()), ls, st, s.t, v, h, fh, newerOnly); err == nil {
			e.ref.Store(uint64(ref))
			if s.t > e.lastT.Load() { // else the newest again, which the TSDB does not keep
				e.lastT.Store(s.t)
				w.stored++
			}
			return s.counts(), nil
		}
	}
	if err := p.read(ctx, storage.SeriesRef(e.ref.Load()), ls, samples[0].t, samples[len(samples)-1].t); err != nil {
		return written, err
	}
	var appended *late // the last one appended, which cannot be read yet
	for i := range samples {
		s := &samples[i]
		st, v, h, fh := w.sample(*s)
		if appended != nil && appended.t == s.t {
			w.judge(*s, w.same(*appended, *s), &written)
			continue
		}
		if stored := p.at(s.t); stored != nil {
			w.judge(*s, sameValue(v, h, fh, stored.v, stored.h, stored.fh), &written)
			continue
		}
		ref, err := app.Append(storage.SeriesRef(e.ref.Load()), ls, st, s.t, v, h, fh, storage.AOptions{})
		switch {
		case err == nil:
			e.ref.Store(uint64(ref))
			e.lastT.Store(max(e.lastT.Load(), s.t))
			appended = s
			written.Add(s.counts())
			w.stored++
		case errors.Is(err, tsdb.ErrInvalidSample):
			for _, s := range samples {
				w.forget(e, s.series)
			}
			return proto.Counts{}, nil
		case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
			w.reply.Rejected.Add(proto.SampleOutOfOrder, s.counts(), s.series, s.t, func() string {
				return lateness(s.t, p.head.MaxTime(), p.window)
			})
		default:
			w.reject(*s, err)
		}
	}
	return written, nil
}

// judge counts a sample at whose timestamp its series has one already.
func (w *write) judge(s late, same bool, written *proto.Counts) {
	if same {
		written.Add(s.counts())
		return
	}
	w.reply.Rejected.Add(proto.SampleDuplicate, s.counts(), s.series, s.t, func() string {
		return "the series has another value at this time, which stays"
	})
}

// same reports whether two samples of the frame have the same value.
func (w *write) same(a, b late) bool {
	_, va, ha, fha := w.sample(a)
	_, vb, hb, fhb := w.sample(b)
	return sameValue(va, ha, fha, vb, hb, fhb)
}

// sameValue compares floats bit by bit, and histograms whatever their layout of
// spans and their counter reset hints. The end of a series is one sample,
// whatever it is the end of: the TSDB stores it in the kind of the sample before.
func sameValue(va float64, ha *histogram.Histogram, fha *histogram.FloatHistogram,
	vb float64, hb *histogram.Histogram, fhb *histogram.FloatHistogram) bool {
	switch {
	case isStale(va, ha, fha) || isStale(vb, hb, fhb):
		return isStale(va, ha, fha) && isStale(vb, hb, fhb)
	case ha != nil && hb != nil:
		return ha.Copy().Compact(0).Equals(hb.Copy().Compact(0))
	case fha != nil && fhb != nil:
		return fha.Copy().Compact(0).Equals(fhb.Copy().Compact(0))
	case ha != nil || hb != nil || fha != nil || fhb != nil:
		return false
	}
	return math.Float64bits(va) == math.Float64bits(vb)
}

func isStale(v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	switch {
	case h != nil:
		return value.IsStaleNaN(h.Sum)
	case fh != nil:
		return value.IsStaleNaN(fh.Sum)
	}
	return value.IsStaleNaN(v)
}
