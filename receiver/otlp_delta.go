package receiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// A delta says how much was counted since the one before. What is stored is the
// sum since the first, as PromQL wants it. The sums are here, by tenant and
// series; docs/decisions/0008-otlp-deltas.md says why not in the processor that
// Prometheus uses.
//
// A request that fails leaves the sums as they were, so that its repetition
// makes the same samples. So does one that was stored and is repeated because the
// answer was lost: a delta at the time of the last one is taken for that one.

// deltas are the sums of all tenants.
type deltas struct {
	cfg  *OTLPConfig
	seed func(admissionsKey) uint64

	mu      sync.Mutex
	tenants map[string]*sums // guarded by mu
	swept   time.Time        // guarded by mu: the last look for tenants without recent deltas
}

// sums are those of one tenant.
type sums struct {
	cfg   *OTLPConfig
	users int       // requests that hold or wait for turn; guarded by deltas.mu
	used  time.Time // guarded by deltas.mu
	kept  int       // size when the turn was last given back; guarded by deltas.mu

	// turn has a token. Whoever takes it may use what follows: one request at a
	// time, to the end of its write.
	turn  chan struct{}
	byKey map[proto.Hash]*sum
	size  int // series that byKey stands for
	swept time.Time
	now   time.Time           // of the request
	seed  uint64              // of its keys: labels that are bound to its credential come later, and tell its series from those of others
	next  []nextSum           // of the request, in order: not yet kept
	fresh map[proto.Hash]*sum // of the request, the last of each key
	grown int                 // series that fresh adds to size

	labels []labels.Label // scratch
	buf    []byte         // scratch
}

// sum is what the deltas of a data point's series add up to.
type sum struct {
	start, t  int64  // ms
	layout    uint64 // a hash of the series, which for a histogram change with its bounds
	values    []float64
	histogram *histogram.FloatHistogram // instead of values
	seen      time.Time
}

type nextSum struct {
	key   proto.Hash
	point uint32
	sum   *sum // nil: the series is stale
}

// series is how many of the tenant's limit the sum takes.
func (s *sum) series() int {
	if s == nil {
		return 0
	}
	return max(len(s.values), 1)
}

// sweepEvery is how often sums are looked at for those without recent deltas.
const sweepEvery = time.Minute

// take waits for the sums of a sender's tenant. The caller gives them back.
func (d *deltas) take(ctx context.Context, who *tenant.Identity) (*sums, error) {
	now := time.Now()
	d.mu.Lock()
	d.sweep(now)
	s := d.tenants[who.Tenant]
	if s == nil {
		s = &sums{cfg: d.cfg, turn: make(chan struct{}, 1), byKey: map[proto.Hash]*sum{}, swept: now}
		s.turn <- struct{}{}
		d.tenants[who.Tenant] = s
	}
	s.users++
	s.used = now
	d.mu.Unlock()
	select {
	case <-s.turn:
		s.begin(now, d.seed(keyOf(who)))
		return s, nil
	case <-ctx.Done():
		d.mu.Lock()
		s.users--
		d.mu.Unlock()
		return nil, ctx.Err()
	}
}

// giveBack ends the use of sums that were taken.
func (d *deltas) giveBack(tenantID string, s *sums) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.users--
	s.kept = s.size
	if s.users == 0 && s.size == 0 {
		delete(d.tenants, tenantID) // whoever sends requests can make up tenants
	}
	s.turn <- struct{}{}
}

// sweep forgets tenants that got no deltas for long. d.mu is held.
func (d *deltas) sweep(now time.Time) {
	if now.Sub(d.swept) < sweepEvery {
		return
	}
	d.swept = now
	maps.DeleteFunc(d.tenants, func(_ string, s *sums) bool {
		return s.users == 0 && now.Sub(s.used) > d.cfg.DeltaMaxStale
	})
}

// series is the number of series that are added up, over all tenants.
func (d *deltas) series() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, s := range d.tenants {
		n += s.kept
	}
	return float64(n)
}

// begin is called by the request that has the turn.
func (s *sums) begin(now time.Time, seed uint64) {
	s.seed = seed
	s.now, s.next, s.fresh, s.grown = now, s.next[:0], map[proto.Hash]*sum{}, 0
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	maps.DeleteFunc(s.byKey, func(_ proto.Hash, one *sum) bool {
		stale := now.Sub(one.seen) > s.cfg.DeltaMaxStale
		if stale {
			s.size -= one.series()
		}
		return stale
	})
}

// deltaRefusal says why a delta was not added; text wants its series as it may be
// shown.
type deltaRefusal struct {
	reason proto.Reason
	text   func(series string) string
}

// add adds the series of a data point to the sums and replaces their values by
// what these are now.
func (s *sums) add(point []proto.BuilderSeries, number uint32) deltaRefusal {
	key, layout := s.identify(point)
	t := timeOf(&point[0])
	before, ok := s.fresh[key]
	if !ok {
		before = s.byKey[key]
	}
	if isStale(point) {
		s.set(before, nextSum{key, number, nil})
		return deltaRefusal{}
	}
	last := before
	switch {
	case last == nil:
	case t < last.t:
		return deltaRefusal{proto.DeltaOutOfOrder, func(series string) string {
			return fmt.Sprintf("a delta of %s, %s behind the last one of its series", series, proto.Span(t, last.t))
		}}
	case last.layout != layout:
		last = nil // other buckets cannot be added to: the sum begins anew
	case t == last.t:
		last.give(point)
		s.set(before, nextSum{key, number, last})
		return deltaRefusal{}
	}
	next, err := last.plus(point)
	if err != nil {
		return deltaRefusal{proto.HistogramInvalid, func(string) string { return err.Error() }}
	}
	next.t, next.layout, next.seen = t, layout, s.now
	if grow := next.series() - before.series(); grow > 0 && s.size+s.grown+grow > s.cfg.DeltaMaxSeries {
		return deltaRefusal{proto.DeltaTooManySeries, func(series string) string {
			return fmt.Sprintf("a delta of the new series %s, the limit delta_max_series_per_tenant is %d", series, s.cfg.DeltaMaxSeries)
		}}
	}
	next.give(point)
	s.set(before, nextSum{key, number, next})
	return deltaRefusal{}
}

func (s *sums) set(before *sum, n nextSum) {
	s.grown += n.sum.series() - before.series()
	s.fresh[n.key] = n.sum
	s.next = append(s.next, n)
}

// keep keeps the sums of the data points that were not refused.
func (s *sums) keep(refused map[uint32]bool) {
	for _, n := range s.next {
		if refused[n.point] {
			continue
		}
		s.size += n.sum.series() - s.byKey[n.key].series()
		if n.sum == nil {
			delete(s.byKey, n.key)
		} else {
			s.byKey[n.key] = n.sum
		}
	}
}

// identify returns the key of a data point, which is the identity of its last
// series (of a histogram the bucket +Inf, which all have), and a hash of what
// other series it has.
func (s *sums) identify(point []proto.BuilderSeries) (key proto.Hash, layout uint64) {
	for i := range point {
		s.labels = s.labels[:0]
		point[i].Labels.Range(func(l labels.Label) { s.labels = append(s.labels, l) })
		key, s.buf = proto.Identity(s.labels, s.seed, s.buf)
		layout = (layout ^ key.Lo) * 0x9e3779b97f4a7c15
		if point[i].Histogram != nil {
			layout++
		}
	}
	return key, layout
}

// plus returns the sum of s, which may be nil, and a data point.
func (s *sum) plus(point []proto.BuilderSeries) (*sum, error) {
	next := &sum{}
	if h := point[0].Histogram; h != nil {
		next.start = h.ST
		if err := errors.Join(checkIndexes(h), h.H.Validate()); err != nil {
			return nil, err
		}
		next.histogram = h.H.ToFloat(nil)
		if s != nil {
			next.start = s.start
			total := s.histogram.Copy()
			if _, _, _, err := total.Add(next.histogram); err != nil {
				return nil, err
			}
			next.histogram = coarse(total)
		}
		return next, nil
	}
	next.start = point[0].Float.ST
	next.values = make([]float64, len(point))
	for i := range point {
		next.values[i] = point[i].Float.V
		if s != nil {
			next.values[i] += s.values[i]
		}
	}
	if s != nil {
		next.start = s.start
	}
	return next, nil
}

// mostBuckets is how many buckets an exponential histogram of OpenTelemetry has
// at most by default. A sum covers a wider range than its deltas.
const mostBuckets = 160

func coarse(h *histogram.FloatHistogram) *histogram.FloatHistogram {
	for len(h.PositiveBuckets)+len(h.NegativeBuckets) > 2*mostBuckets && h.Schema > histogram.ExponentialSchemaMin && !h.UsesCustomBuckets() {
		if h.ReduceResolution(h.Schema-1) != nil {
			break
		}
	}
	return h
}

// give sets the values of a data point to the sum.
func (s *sum) give(point []proto.BuilderSeries) {
	if s.histogram != nil {
		point[0].Histogram = &proto.Histogram{T: s.t, ST: s.start, FH: s.histogram}
		return
	}
	for i := range point {
		point[i].Float = proto.Float{T: s.t, ST: s.start, V: s.values[i]}
	}
}

func isStale(point []proto.BuilderSeries) bool {
	if h := point[0].Histogram; h != nil {
		return value.IsStaleNaN(h.H.Sum)
	}
	return value.IsStaleNaN(point[0].Float.V)
}

func timeOf(s *proto.BuilderSeries) int64 {
	if s.Histogram != nil {
		return s.Histogram.T
	}
	return s.Float.T
}
