package receiver_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// deltas sends one delta of the counter x after the other.
type deltas struct {
	t testing.TB
	*setup
	tenant string
}

// send sends the delta v for the time t, ms, of the series with the attribute a,
// and returns the sum that was stored, its start, and the answer.
func (d deltas) send(a string, t int64, v float64) (sum float64, start, refused int64, message string) {
	e := newExported()
	number(e.sum("x", delta, true), t-10, t, v, "a", a)
	hr, recorded := record(otlpRequest(otlpProtobuf, marshalOTLP(otlpProtobuf, e.Metrics)))
	if d.tenant != "" {
		hr.Header.Set("X-Scope-OrgID", d.tenant)
	}
	w := d.serveOTLP(hr)
	if w.Code != http.StatusOK {
		return math.NaN(), 0, 0, failure(d.t, w).Message
	}
	refused, message = partial(d.t, w)
	if len(recorded.series) != 1 || len(recorded.series[0].floats) != 1 {
		require.NotZero(d.t, refused)
		return math.NaN(), 0, refused, message
	}
	require.Equal(d.t, fmt.Sprintf(`{__name__="x_total", a=%q}`, a), recorded.series[0].labels.String())
	f := recorded.series[0].floats[0]
	require.Equal(d.t, t, f.T)
	return f.V, f.ST, refused, message
}

func (d deltas) want(a string, t int64, v, sum float64) {
	got, _, refused, message := d.send(a, t, v)
	require.Zero(d.t, refused, message)
	require.Equal(d.t, sum, got)
}

func TestDeltas(t *testing.T) {
	now := time.Now().UnixMilli()
	t.Run("sums by series", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t)}
		d.want("1", now, 5, 5)
		d.want("1", now+10, 2, 7)
		d.want("2", now+10, 1, 1)
		d.want("1", now+20, 0.5, 7.5)
		sum, start, _, _ := d.send("1", now+30, 1)
		require.Equal(t, 8.5, sum)
		require.Equal(t, now-10, start, "of the first delta")
		require.Equal(t, 2, d.counters(t, "weir_receiver_otlp_delta_series")[""])
	})
	t.Run("a repeated request makes the same sample", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t)}
		d.want("1", now, 5, 5)
		d.want("1", now, 5, 5)
		d.want("1", now+10, 2, 7)
		d.want("1", now+10, 2, 7)
	})
	t.Run("a request that was not stored adds nothing", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t)}
		d.want("1", now, 5, 5)
		d.memory.fail = func(int) error { return unavailable() }
		_, _, _, message := d.send("1", now+10, 2)
		require.Contains(t, message, "weir-starting")
		d.memory.fail = nil
		d.want("1", now+10, 2, 7)
	})
	t.Run("a delta that is refused adds nothing", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t)}
		d.want("1", now, 5, 5)
		_, _, refused, message := d.send("1", now+time.Hour.Milliseconds(), 2)
		require.Equal(t, int64(1), refused)
		require.Contains(t, message, "weir-sample-too-far-in-future")
		d.want("1", now+10, 2, 7)
	})
	t.Run("out of order", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t)}
		d.want("1", now, 5, 5)
		_, _, refused, message := d.send("1", now-10, 2)
		require.Equal(t, int64(1), refused)
		require.Contains(t, message, `weir-otlp-delta-out-of-order: refused 1 samples of this request, stored 0. a delta of {__name__="x_total", a="1"}, 10ms behind`)
		require.Equal(t, map[string]int{"weir-otlp-delta-out-of-order float": 1}, d.counters(t, "weir_receiver_discarded_samples_total"))
		d.want("1", now+10, 2, 7)
	})
	t.Run("limit", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t, func(s *setup) { s.cfg.OTLP.DeltaMaxSeries = 2 })}
		d.want("1", now, 1, 1)
		d.want("2", now, 1, 1)
		_, _, refused, message := d.send("3", now, 1)
		require.Equal(t, int64(1), refused)
		require.Contains(t, message, "weir-otlp-delta-too-many-series")
		require.Contains(t, message, "delta_max_series_per_tenant is 2")
		d.want("1", now+10, 1, 2)
		d.want("2", now+10, 1, 2)
	})
	t.Run("off", func(t *testing.T) {
		d := deltas{t: t, setup: newSetup(t, func(s *setup) { s.cfg.OTLP.DeltaMaxSeries = 0 })}
		_, _, refused, message := d.send("3", now, 1)
		require.Equal(t, int64(1), refused)
		require.Contains(t, message, "weir-otlp-point-untranslatable")
		require.Contains(t, message, "temporality")
	})
	t.Run("tenants", func(t *testing.T) {
		s := newSetup(t, headerMode)
		a, b := deltas{t: t, setup: s, tenant: "a"}, deltas{t: t, setup: s, tenant: "b"}
		a.want("1", now, 1, 1)
		b.want("1", now, 10, 10)
		a.want("1", now+10, 1, 2)
		b.want("1", now+10, 10, 20)
	})
	t.Run("several of a series in one request", func(t *testing.T) {
		s := newSetup(t)
		for n := range int64(3) {
			e := newExported()
			ps := e.sum("x", delta, true)
			for i := range int64(3) {
				number(ps, 0, now+10*n+i, 1)
			}
			number(ps, 0, now+time.Hour.Milliseconds()+n, 100)
			recorded, w := s.export(otlpProtobuf, e.Metrics)
			refused, _ := partial(t, w)
			require.Equal(t, int64(1), refused)
			require.Len(t, recorded.series, 4)
			for i := range 3 {
				require.Equal(t, float64(3*n)+float64(i)+1, recorded.series[i].floats[0].V)
			}
		}
	})
	t.Run("stale", func(t *testing.T) {
		s := newSetup(t)
		for n := range int64(2) {
			e := newExported()
			number(e.sum("x", delta, true), 0, now+10*n, 3)
			recorded, _ := s.export(otlpProtobuf, e.Metrics)
			require.Equal(t, 3.0, recorded.series[0].floats[0].V, "after the series ended, it begins anew")
			e = newExported()
			number(e.sum("x", delta, true), 0, now+10*n+5, 0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
			recorded, _ = s.export(otlpProtobuf, e.Metrics)
			require.True(t, value.IsStaleNaN(recorded.series[0].floats[0].V))
		}
	})
}

// TestDeltasGoStale: what gets no deltas for long is forgotten, series by series
// and tenant by tenant.
func TestDeltasGoStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, headerMode, func(s *setup) { s.cfg.OTLP.DeltaMaxStale = 10 * time.Minute })
		a, b := deltas{t: t, setup: s, tenant: "a"}, deltas{t: t, setup: s, tenant: "b"}
		ms := func() int64 { return time.Now().UnixMilli() }
		series := func() int { return s.counters(t, "weir_receiver_otlp_delta_series")[""] }
		a.want("1", ms(), 1, 1)
		a.want("2", ms(), 1, 1)
		b.want("1", ms(), 1, 1)
		require.Equal(t, 3, series())
		for n := 2.0; n < 10; n++ {
			time.Sleep(2 * time.Minute)
			a.want("1", ms(), 1, n)
		}
		require.Equal(t, 1, series())
		a.want("2", ms(), 1, 1)
		b.want("1", ms(), 1, 1)
		require.Equal(t, 3, series())
	})
}

// TestDeltaHistograms: a histogram is added up bucket by bucket, and begins anew
// when its buckets change.
func TestDeltaHistograms(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newSetup(t)
	explicitSums := func(at int64, bounds []float64, counts []uint64) map[string]float64 {
		e := newExported()
		p := explicit(e, "h", delta, now, at)
		p.ExplicitBounds().FromRaw(bounds)
		p.BucketCounts().FromRaw(counts)
		recorded, w := s.export(otlpProtobuf, e.Metrics)
		refused, message := partial(t, w)
		require.Zero(t, refused, message)
		sums := map[string]float64{}
		for _, one := range recorded.series {
			sums[strings.TrimPrefix(one.labels.Get("__name__"), "h_")+one.labels.Get("le")] = one.floats[0].V
		}
		return sums
	}
	require.Equal(t, map[string]float64{"sum": 9.5, "count": 6, "bucket1": 1, "bucket2.5": 3, "bucket+Inf": 6}, explicitSums(now, []float64{1, 2.5}, []uint64{1, 2, 3}))
	require.Equal(t, map[string]float64{"sum": 19, "count": 12, "bucket1": 1, "bucket2.5": 7, "bucket+Inf": 12}, explicitSums(now+10, []float64{1, 2.5}, []uint64{0, 4, 2}))
	require.Equal(t, map[string]float64{"sum": 9.5, "count": 6, "bucket1": 1, "bucket3": 3, "bucket+Inf": 6}, explicitSums(now+20, []float64{1, 3}, []uint64{1, 2, 3}))
	require.Equal(t, 5, s.counters(t, "weir_receiver_otlp_delta_series")[""])

	native := func(at int64, scale, offset int32, counts ...uint64) string {
		e := newExported()
		exponential(e, "n", delta, now, at, scale, offset, counts...)
		recorded, w := s.export(otlpProtobuf, e.Metrics)
		refused, message := partial(t, w)
		require.Zero(t, refused, message)
		require.NotNil(t, recorded.series[0].histograms[0].FH, "sums are of floats")
		return recorded.series[0].histograms[0].FH.String()
	}
	require.Equal(t, "{count:4, sum:9.5, [-1e-128,1e-128]:1, (1,2]:1, (4,8]:2}", native(now, 0, 0, 1, 0, 2))
	require.Equal(t, "{count:6, sum:19, [-1e-128,1e-128]:2, (1,2]:1, (4,8]:2, (8,16]:1}", native(now+10, 0, 3, 1))
	require.Equal(t, "{count:8, sum:28.5, [-1e-128,1e-128]:3, (1,2]:1, (4,8]:3, (8,16]:1}", native(now+20, 1, 4, 1), "the coarser resolution")
	wide := native(now+30, 8, 1, make([]uint64, 200)...)
	require.Contains(t, wide, "(1,2]:1")
}

// TestDeltaHistogramStaysSmall: deltas of narrow histograms at many places do not
// add up to one that is refused for its buckets.
func TestDeltaHistogramStaysSmall(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newSetup(t)
	for i := range int32(100) {
		e := newExported()
		counts := make([]uint64, 100)
		for j := range counts {
			counts[j] = 1
		}
		exponential(e, "n", delta, now, now+int64(i), 8, 100*(i-50), counts...)
		recorded, w := s.export(otlpProtobuf, e.Metrics)
		refused, message := partial(t, w)
		require.Zero(t, refused, message)
		h := recorded.series[0].histograms[0].FH
		require.Equal(t, float64(101*(i+1)), h.Count)
		require.LessOrEqual(t, len(h.PositiveBuckets), 320)
	}
}

// TestDeltasOfRequestsAtOnce: each delta is added once whoever comes first.
func TestDeltasOfRequestsAtOnce(t *testing.T) {
	now := time.Now().UnixMilli()
	s := newSetup(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			d := deltas{t: t, setup: s}
			for n := range int64(20) {
				d.want(fmt.Sprint(i), now+n, 1, float64(n+1))
			}
		})
	}
	wg.Wait()
	require.Equal(t, 20, s.counters(t, "weir_receiver_otlp_delta_series")[""])
}

// TestDeltasWaitForTheirTurn only as long as a request may take.
func TestDeltasWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UnixMilli()
		release := make(chan struct{})
		slow := newSetup(t, func(s *setup) { s.ing = blocking{s.memory, release} })
		done := make(chan struct{})
		go func() {
			defer close(done)
			deltas{t: t, setup: slow}.want("1", now, 1, 1)
		}()
		synctest.Wait()
		_, _, _, message := deltas{t: t, setup: slow}.send("1", now+10, 1)
		require.Contains(t, message, "weir-timeout")
		close(release)
		<-done
		deltas{t: t, setup: slow}.want("1", now+10, 1, 2)
	})
}

type blocking struct {
	*memory
	release chan struct{}
}

func (b blocking) Write(ctx context.Context, tenantID string, f *proto.Frame, reply *proto.Reply) error {
	<-b.release
	return b.memory.Write(ctx, tenantID, f, reply)
}

// TestAnyDeltas: whatever comes, the sums are those of the deltas that were
// accepted.
func TestAnyDeltas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := deltas{t: t, setup: newSetup(t)}
		base := time.Now().UnixMilli()
		type state struct {
			t   int64
			sum float64
		}
		want := map[string]state{}
		for range rapid.IntRange(1, 30).Draw(rt, "requests") {
			a := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "series")
			at := base + rapid.Int64Range(0, 20).Draw(rt, "time")
			v := float64(rapid.IntRange(0, 9).Draw(rt, "delta"))
			fails := rapid.Bool().Draw(rt, "fails")
			d.memory.fail = nil
			if fails {
				d.memory.fail = func(int) error { return unavailable() }
			}
			sum, _, refused, message := d.send(a, at, v)
			last, known := want[a]
			switch {
			case fails:
				require.Contains(rt, message, "weir-starting")
			case known && at < last.t:
				require.Equal(rt, int64(1), refused)
			case known && at == last.t:
				require.Equal(rt, last.sum, sum)
			default:
				want[a] = state{at, last.sum + v}
				require.Equal(rt, last.sum+v, sum)
			}
		}
	})
}
