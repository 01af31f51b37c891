package integration

import (
	"fmt"
	"hash/fnv"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// sampleKind is what a series holds.
type sampleKind uint8

const (
	float sampleKind = iota
	intHistogram
	floatHistogram
	customHistogram
	gaugeHistogram
)

// key names one sample. Its value follows from it.
type key struct {
	id       string // of the series
	kind     sampleKind
	t        int64 // ms
	exemplar bool  // it carries one, of the same time
}

// ledger knows every sample that was ever sent and which of them were
// acknowledged.
type ledger struct {
	seed uint64

	mu     sync.Mutex         // guards what follows
	series map[string]*record // by id
	acked  int
}

type record struct {
	kind      sampleKind
	sent      map[int64]bool // samples by timestamp; true: acknowledged
	exemplars map[int64]bool // the same of those that carry an exemplar
}

func newLedger(seed uint64) *ledger { return &ledger{seed: seed, series: map[string]*record{}} }

// sending notes samples that may be stored from now on.
func (l *ledger) sending(keys []key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		r := l.series[k.id]
		if r == nil {
			r = &record{kind: k.kind, sent: map[int64]bool{}, exemplars: map[int64]bool{}}
			l.series[k.id] = r
		}
		if k.kind != r.kind {
			panic(fmt.Sprintf("series %s is of kind %d and %d", k.id, r.kind, k.kind))
		}
		r.sent[k.t] = false
		if k.exemplar {
			r.exemplars[k.t] = false
		}
	}
}

// acknowledged notes samples that must be stored from now on.
func (l *ledger) acknowledged(keys []key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		l.series[k.id].sent[k.t] = true
		if k.exemplar {
			l.series[k.id].exemplars[k.t] = true
		}
	}
	l.acked += len(keys)
}

func (l *ledger) has(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.series[k.id]
	if r == nil {
		return false
	}
	_, ok := r.sent[k.t]
	return ok
}

// count returns how many samples were acknowledged.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked
}

// owed returns the times of what must be stored of a stream, by series, from a
// time on: of its samples, or of its exemplars.
func (l *ledger) owed(stream string, from int64, of func(*record) map[int64]bool) map[string][]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string][]int64{}
	for id, r := range l.series {
		if len(id) <= len(stream) || id[:len(stream)] != stream || id[len(stream)] != '-' {
			continue
		}
		for t, acked := range of(r) {
			if acked && t >= from {
				out[id] = append(out[id], t)
			}
		}
	}
	return out
}

func samplesOf(r *record) map[int64]bool { return r.sent }

func exemplarsOf(r *record) map[int64]bool { return r.exemplars }

// check reads everything back, with timestamps from on, while the load may go
// on. It fails the test for every acknowledged sample that is missing and every
// stored one that differs or was never sent, and returns how many were right.
func (l *ledger) check(t *testing.T, s *harness.Server, from int64) int {
	t.Helper()
	right := 0
	for _, st := range streams() {
		since := from
		if st.late {
			since -= lateBy.Milliseconds()
		}
		n, problems := l.checkSamples(t, s.As(st.tenant), st, since)
		right += n
		if st.exemplars {
			n, wrong := l.checkExemplars(t, s.As(st.tenant), st, since)
			right += n
			problems = append(problems, wrong...)
		}
		if n := len(problems); n > 0 {
			t.Errorf("stream %s: %d problems, such as\n%s", st.name, n, strings.Join(problems[:min(n, 5)], "\n"))
		}
	}
	require.False(t, t.Failed())
	return right
}

func (l *ledger) checkSamples(t *testing.T, s *harness.Server, st stream, since int64) (right int, problems []string) {
	owed := l.owed(st.name, since, samplesOf)
	start := max(since, time.Now().Add(-time.Hour).UnixMilli())
	byID := map[string]harness.Stored{}
	for _, x := range s.Samples(t, st.selector(), start, time.Now().Add(time.Minute).UnixMilli()) {
		byID[x.Labels["series"]] = x
		wrong := l.differences(x)
		right += len(x.Floats) + len(x.Histograms) - len(wrong)
		problems = append(problems, wrong...)
	}
	for id, times := range owed {
		x := byID[id]
		for _, at := range times {
			_, isFloat := x.Floats[at]
			_, isHistogram := x.Histograms[at]
			if !isFloat && !isHistogram {
				problems = append(problems, fmt.Sprintf("%s at %d: acknowledged and gone", id, at))
			}
		}
	}
	return right, problems
}

func (l *ledger) checkExemplars(t *testing.T, s *harness.Server, st stream, since int64) (right int, problems []string) {
	owed := l.owed(st.name, since, exemplarsOf)
	stored := map[key]harness.Exemplar{}
	for _, x := range s.Exemplars(t, st.selector(), since, time.Now().Add(time.Minute).UnixMilli()) {
		for _, e := range x.Exemplars {
			k := key{id: x.Labels["series"], t: e.T}
			stored[k] = e
			if want := l.exemplar(k); !reflect.DeepEqual(e, want) {
				problems = append(problems, fmt.Sprintf("%s at %d: stored exemplar %+v, sent %+v", k.id, k.t, e, want))
			}
		}
	}
	for id, times := range owed {
		for _, at := range times {
			if _, ok := stored[key{id: id, t: at}]; !ok {
				problems = append(problems, fmt.Sprintf("%s at %d: exemplar acknowledged and gone", id, at))
			}
		}
	}
	return len(stored) - len(problems), problems
}

// differences compares what is stored of one series with what was sent.
func (l *ledger) differences(x harness.Stored) []string {
	id := x.Labels["series"]
	var out []string
	for at, v := range x.Floats {
		want, ok := l.sent(id, at, float)
		if !ok || math.Float64bits(v) != math.Float64bits(want.V) {
			out = append(out, fmt.Sprintf("%s at %d: stored %v, sent %v (known: %t)", id, at, v, want.V, ok))
		}
	}
	for at, h := range x.Histograms {
		want, ok := l.sent(id, at, intHistogram)
		if !ok || !reflect.DeepEqual(h, harness.JSONOfSample(want)) {
			out = append(out, fmt.Sprintf("%s at %d: stored %+v, sent %+v (known: %t)", id, at, h, want, ok))
		}
	}
	return out
}

// sent returns what was sent for a series at a time. kind says only whether a
// float or a histogram was found.
func (l *ledger) sent(id string, at int64, kind sampleKind) (harness.Sample, bool) {
	l.mu.Lock()
	r := l.series[id]
	ok := false
	if r != nil {
		_, ok = r.sent[at]
	}
	l.mu.Unlock()
	if !ok || (r.kind == float) != (kind == float) {
		return harness.Sample{}, false
	}
	return l.sample(key{id: id, kind: r.kind, t: at}), true
}

// sample returns the sample of a key: any bits for floats, growing counts for
// histograms.
func (l *ledger) sample(k key) harness.Sample {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", l.seed, k.id, k.t)
	bits := h.Sum64()
	out := harness.Sample{T: k.t}
	switch k.kind {
	case float:
		out.V = anyFloat(bits)
	case intHistogram:
		out.H = expHistogram(k, bits).Copy()
	case gaugeHistogram:
		out.H = expHistogram(k, bits)
		out.H.CounterResetHint = histogram.GaugeType
	case floatHistogram:
		out.FH = expHistogram(k, bits).ToFloat(nil).Mul(0.37)
	case customHistogram:
		out.H = customBuckets(k, bits)
	}
	return out
}

// exemplar returns the exemplar that a sample carries.
func (l *ledger) exemplar(k key) harness.Exemplar {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/exemplar/%s/%d", l.seed, k.id, k.t)
	bits := h.Sum64()
	return harness.Exemplar{Labels: []string{"trace_id", fmt.Sprintf("%016x", bits)}, T: k.t, V: float64(bits % 1000)}
}

// anyFloat makes one float in eight special, and the others any bits that are
// not a NaN: a query shows neither the bits of a NaN nor staleness markers.
func anyFloat(bits uint64) float64 {
	specials := [...]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, math.SmallestNonzeroFloat64, math.MaxFloat64, -5e-310}
	if bits%8 == 0 {
		return specials[bits/8%uint64(len(specials))]
	}
	if v := math.Float64frombits(bits); !math.IsNaN(v) {
		return v
	}
	return float64(bits)
}

// counts are growing bucket counts as deltas, with their total.
func counts(k key, bits uint64, n int) (deltas []int64, total uint64) {
	steps := uint64(k.t) % (1 << 32) / 16
	last := int64(0)
	for i := range n {
		c := int64(steps/uint64(i+2)) + int64(bits>>(4*i)%5)
		deltas = append(deltas, c-last)
		last = c
		total += uint64(c)
	}
	return deltas, total
}

func expHistogram(k key, bits uint64) *histogram.Histogram {
	positive, a := counts(k, bits, 5)
	negative, b := counts(k, bits, 2)
	return &histogram.Histogram{
		Schema: 2, ZeroThreshold: 0.001, ZeroCount: bits % 7, Count: a + b + bits%7, Sum: float64(int64(bits)) / 1024,
		PositiveSpans: []histogram.Span{{Offset: -1, Length: 3}, {Offset: 4, Length: 2}}, PositiveBuckets: positive,
		NegativeSpans: []histogram.Span{{Offset: 2, Length: 2}}, NegativeBuckets: negative,
	}
}

func customBuckets(k key, bits uint64) *histogram.Histogram {
	deltas, total := counts(k, bits, 4)
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: total, Sum: float64(int64(bits)) / 1024,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 4}}, PositiveBuckets: deltas,
		CustomValues: []float64{0.1, 0.5, 2.5},
	}
}
