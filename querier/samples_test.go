package querier_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

const (
	scrape = int64(15_000)         // milliseconds
	hour   = int64(3600 * 1000)    // milliseconds
	resets = 37 * 60 * int64(1000) // counters begin anew that often, milliseconds
)

// sample is one sample of any kind, read or to be written.
type sample struct {
	t  int64
	st int64  // start timestamp
	v  uint64 // the float's bits
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (s sample) hint() histogram.CounterResetHint {
	switch {
	case s.h != nil:
		return s.h.CounterResetHint
	case s.fh != nil:
		return s.fh.CounterResetHint
	}
	return histogram.UnknownCounterReset
}

// float returns the histogram with float counts and without a hint, or nil.
func (s sample) float() *histogram.FloatHistogram {
	fh := s.fh
	if s.h != nil {
		fh = s.h.ToFloat(nil)
	}
	if fh != nil {
		fh = fh.Copy()
		fh.CounterResetHint = histogram.UnknownCounterReset
	}
	return fh
}

// kinds of series; each says what the series is worth at a time, so that copies
// of a sample agree whoever writes them.
var kinds = map[string]func(t int64) sample{
	"counter": func(t int64) sample { return sample{v: math.Float64bits(float64(t%resets) / 1000)} },
	"gauge":   func(t int64) sample { return sample{v: math.Float64bits(math.Sin(float64(t)))} },
	"stale": func(t int64) sample {
		if t/scrape%11 < 3 {
			return sample{v: value.StaleNaN}
		}
		return sample{v: math.Float64bits(float64(t))}
	},
	"int":   func(t int64) sample { return sample{h: tsdbutil.GenerateTestHistogram(t % resets / scrape)} },
	"float": func(t int64) sample { return sample{fh: tsdbutil.GenerateTestFloatHistogram(t % resets / scrape)} },
	"custom": func(t int64) sample {
		return sample{h: tsdbutil.GenerateTestCustomBucketsHistogram(t % resets / scrape)}
	},
	"gaugeh": func(t int64) sample { return sample{h: tsdbutil.GenerateTestGaugeHistogram(t * 7919 % 101)} },
	"mixed": func(t int64) sample {
		switch t / (50 * 60 * 1000) % 3 {
		case 0:
			return sample{v: math.Float64bits(float64(t))}
		case 1:
			return sample{h: tsdbutil.GenerateTestHistogram(t % resets / scrape)}
		}
		return sample{fh: tsdbutil.GenerateTestFloatHistogram(t % resets / scrape)}
	},
}

// write is a sample and its series.
type write struct {
	series labels.Labels
	sample
}

// generate returns six hours of samples: those that come in order, and those
// that come late.
func generate(rnd *rand.Rand) (inOrder, late []write) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		at := kinds[kind]
		lset := labels.FromStrings("__name__", "m", "kind", kind)
		gap := int64(0)
		for t := int64(0); t < 6*hour; t += scrape {
			if gap == 0 && rnd.IntN(300) == 0 {
				gap = 1 + rnd.Int64N(100)
			}
			w := write{series: lset, sample: at(t)}
			w.t = t + rnd.Int64N(500)
			if t/scrape%9 > 0 { // else the sender did not say
				w.st = t - t%resets - 1
			}
			switch {
			case gap > 0:
				gap--
				if rnd.IntN(2) == 0 {
					late = append(late, w)
				}
			case rnd.IntN(40) == 0:
				late = append(late, w)
			default:
				inOrder = append(inOrder, w)
			}
		}
	}
	rnd.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
	return inOrder, late
}

// appendAll writes in the given order, many samples per commit.
func appendAll(t testing.TB, db *tsdb.DB, writes []write) {
	t.Helper()
	for len(writes) > 0 {
		n := min(len(writes), 1000)
		app := db.AppenderV2(context.Background())
		for _, w := range writes[:n] {
			_, err := app.Append(0, w.series, w.st, w.t, math.Float64frombits(w.v), w.h, w.fh, storage.AppendV2Options{})
			if !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
				require.NoError(t, err)
			}
		}
		require.NoError(t, app.Commit())
		writes = writes[n:]
	}
}

// fill writes everything, with blocks cut in between: of the head, of what came
// out of order, and the rest left in the head.
func fill(t testing.TB, rnd *rand.Rand, db *tsdb.DB, inOrder, late []write) {
	t.Helper()
	third := len(late) / 3
	appendAll(t, db, inOrder)
	appendAll(t, db, late[:third])
	if rnd.IntN(4) > 0 {
		require.NoError(t, db.Compact(context.Background()))
	}
	appendAll(t, db, late[third:2*third])
	if rnd.IntN(4) > 0 {
		require.NoError(t, db.CompactOOOHead(context.Background()))
	}
	appendAll(t, db, late[2*third:])
}

// current returns what the iterator stands at.
func current(t testing.TB, it chunkenc.Iterator, vt chunkenc.ValueType) sample {
	t.Helper()
	var s sample
	switch vt {
	case chunkenc.ValFloat:
		ts, v := it.At()
		s = sample{t: ts, v: math.Float64bits(v)}
	case chunkenc.ValHistogram:
		ts, h := it.AtHistogram(nil)
		s = sample{t: ts, h: h.Copy().Compact(0)}
	case chunkenc.ValFloatHistogram:
		ts, fh := it.AtFloatHistogram(nil)
		s = sample{t: ts, fh: fh.Copy().Compact(0)}
	default:
		require.Failf(t, "no value", "type %s", vt)
	}
	if s.t != it.AtT() {
		t.Fatalf("AtT is %d at %d", it.AtT(), s.t)
	}
	s.st = it.AtST()
	return s
}

// series is one series read.
type series struct {
	labels  string
	samples []sample
}

// readAll reads everything of a tenant's series through q, reusing the iterator.
func readAll(t testing.TB, queryable storage.Queryable, mint, maxt int64, hints *storage.SelectHints, ms ...*labels.Matcher) []series {
	t.Helper()
	q, err := queryable.Querier(mint, maxt)
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	set := q.Select(context.Background(), true, hints, ms...)
	var (
		all []series
		it  chunkenc.Iterator
	)
	for set.Next() {
		it = set.At().Iterator(it)
		s := series{labels: set.At().Labels().String()}
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			s.samples = append(s.samples, current(t, it, vt))
		}
		require.NoError(t, it.Err())
		require.Equal(t, chunkenc.ValNone, it.Next())
		if len(s.samples) > 0 {
			all = append(all, s)
		}
	}
	require.NoError(t, set.Err())
	return all
}

// requireSame compares all but the hints bit by bit. Of the hints, gauges are
// the same; of the others each side knows as much as its way of merging tells
// it, see requireTrueHints.
func requireSame(t testing.TB, want, got []series) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].labels, got[i].labels)
		require.Len(t, got[i].samples, len(want[i].samples), want[i].labels)
		for j, w := range want[i].samples {
			requireSameSample(t, w, got[i].samples[j], want[i].labels)
		}
	}
}

func requireSameSample(t testing.TB, w, g sample, series string) {
	t.Helper()
	same := w.t == g.t && w.st == g.st && w.v == g.v && w.h.Equals(g.h) && w.fh.Equals(g.fh) &&
		(w.hint() == histogram.GaugeType) == (g.hint() == histogram.GaugeType)
	if !same { // not require, which is slow for so many
		t.Fatalf("%s: want %+v, got %+v", series, w, g)
	}
}

// requireTrueHints checks every hint against the sample before it.
func requireTrueHints(t testing.TB, all []series) {
	t.Helper()
	for _, s := range all {
		for i, cur := range s.samples {
			fh := cur.float()
			if i == 0 || fh == nil || cur.hint() == histogram.GaugeType {
				continue
			}
			prev := s.samples[i-1].float()
			switch cur.hint() {
			case histogram.NotCounterReset:
				if prev == nil || fh.DetectReset(prev) {
					t.Fatalf("%s at %d is a reset", s.labels, cur.t)
				}
			case histogram.CounterReset:
				if prev == nil || !fh.DetectReset(prev) {
					t.Fatalf("%s at %d is no reset", s.labels, cur.t)
				}
			}
		}
	}
}
