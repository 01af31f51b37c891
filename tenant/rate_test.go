package tenant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/tenant"
)

func samples(n float64) *tenant.Cost { return &tenant.Cost{tenant.Samples: n, tenant.Requests: 1} }

// bucketOf is a bucket of samples.
func bucketOf(rate, burst float64, at time.Time) *tenant.Bucket {
	b := new(tenant.Bucket)
	b.Advance(at)
	b.Set(tenant.Rates{tenant.Samples: {PerSecond: rate, Burst: burst}})
	return b
}

func TestRates(t *testing.T) {
	l := tenant.DefaultLimits()
	require.False(t, l.HasRates())
	require.Equal(t, tenant.Rates{}, l.Rates(1))
	for r := range tenant.Resources {
		l := tenant.DefaultLimits()
		*[]*int{&l.IngestionRate, &l.RequestRate, &l.IngestionBytesRate, &l.NativeHistogramBucketsRate, &l.ExemplarsRate}[r] = 100
		require.True(t, l.HasRates(), r)
		var whole, quarter tenant.Rates
		whole[r], quarter[r] = tenant.Rate{PerSecond: 100, Burst: 1000}, tenant.Rate{PerSecond: 25, Burst: 250}
		require.Equal(t, whole, l.Rates(1))
		require.Equal(t, quarter, l.Rates(0.25))
	}
	l.IngestionRate, l.IngestionBurstSize, l.RequestRate, l.RequestBurstSize = 100, 7, 10, 3
	require.Equal(t, tenant.Rates{tenant.Samples: {100, 7}, tenant.Requests: {10, 3}}, l.Rates(1))
}

// TestBucketHoldsRate: whatever is asked for and whenever, what passes is no more
// than the rate and one burst, or one request if that is larger; and whoever waits
// as long as told passes.
func TestBucketHoldsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			start   = time.Unix(1000, 0)
			now     = start
			rate    = rapid.Float64Range(1, 1e6).Draw(t, "rate")
			burst   = rapid.Float64Range(1, 1e6).Draw(t, "burst")
			b       = bucketOf(rate, burst, start)
			passed  float64
			largest = burst
		)
		for range rapid.IntRange(1, 100).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "pause")))
			b.Advance(now)
			cost := samples(rapid.Float64Range(1, 3e6).Draw(t, "samples"))
			wait, of := b.Wait(cost)
			if wait > 0 {
				require.Equal(t, tenant.Samples, of)
				if rapid.Bool().Draw(t, "gives up") {
					continue
				}
				now = now.Add(wait + time.Microsecond) // of which floats know
				b.Advance(now)
				again, _ := b.Wait(cost)
				require.Zero(t, again)
			}
			b.Take(cost)
			passed += cost[tenant.Samples]
			largest = max(largest, cost[tenant.Samples])
			require.LessOrEqual(t, passed, (rate*now.Sub(start).Seconds()+burst+largest)*(1+1e-9))
		}
	})
}

// TestBucketLosesNothing: who always has something to send gets the whole rate,
// however his requests are cut.
func TestBucketLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1000, 0)
		now, rate := start, rapid.Float64Range(10, 1e6).Draw(t, "rate")
		b := bucketOf(rate, rapid.Float64Range(0.1, 30).Draw(t, "burst in seconds")*rate, start)
		passed := 0.0
		for range 100 {
			b.Advance(now)
			cost := samples(rapid.Float64Range(1, 5*rate).Draw(t, "samples"))
			wait, _ := b.Wait(cost)
			now = now.Add(wait)
			b.Advance(now)
			b.Take(cost)
			passed += cost[tenant.Samples]
		}
		require.GreaterOrEqual(t, passed, rate*now.Sub(start).Seconds()*(1-1e-6))
	})
}

func TestBucketWaitsForTheScarcest(t *testing.T) {
	now := time.Unix(1000, 0)
	var b tenant.Bucket
	b.Advance(now)
	b.Set(tenant.Rates{tenant.Samples: {100, 1000}, tenant.Requests: {1, 2}, tenant.Exemplars: {10, 10}})
	b.Take(&tenant.Cost{tenant.Samples: 1000, tenant.Requests: 2, tenant.Exemplars: 20, tenant.Bytes: 1e9})
	for _, c := range []struct {
		name string
		cost tenant.Cost
		wait time.Duration
		of   tenant.Resource
	}{
		{"samples", tenant.Cost{tenant.Samples: 500, tenant.Requests: 1}, 5 * time.Second, tenant.Samples},
		{"requests", tenant.Cost{tenant.Samples: 50, tenant.Requests: 1}, time.Second, tenant.Requests},
		{"exemplars", tenant.Cost{tenant.Samples: 50, tenant.Requests: 1, tenant.Exemplars: 5}, 1500 * time.Millisecond, tenant.Exemplars},
		{"more than the burst", tenant.Cost{tenant.Exemplars: 1000}, 2 * time.Second, tenant.Exemplars},
		{"bytes have no limit", tenant.Cost{tenant.Bytes: 1e9}, 0, 0},
		{"nothing", tenant.Cost{}, 0, 0},
	} {
		wait, of := b.Wait(&c.cost)
		require.Equal(t, c.wait, wait, c.name)
		require.Equal(t, c.of, of, c.name)
	}
}

// TestBucketChangesRate: the level stays when the rate changes, within the new
// burst; what had no limit begins full.
func TestBucketChangesRate(t *testing.T) {
	now := time.Unix(1000, 0)
	b := bucketOf(100, 1000, now)
	waits := func(n float64) time.Duration {
		wait, _ := b.Wait(samples(n))
		return wait.Round(time.Millisecond)
	}
	b.Take(samples(1500)) // 500 below nothing
	for range 3 {         // how often it is set does not matter
		b.Set(tenant.Rates{tenant.Samples: {200, 4000}})
		require.Equal(t, 3*time.Second, waits(100))
	}
	b.Advance(now.Add(3 * time.Second))
	require.Zero(t, waits(100))
	b.Set(tenant.Rates{tenant.Samples: {1, 50}})
	require.Zero(t, waits(50))
	require.Equal(t, 10*time.Second, func() time.Duration { b.Take(samples(10)); return waits(50) }())
	b.Set(tenant.Rates{})
	require.Zero(t, waits(1e9))
	b.Set(tenant.Rates{tenant.Samples: {1, 50}})
	require.True(t, b.Full())
	b.Take(samples(20))
	b.Return(samples(30))
	require.True(t, b.Full())
	require.Equal(t, 51*time.Second, func() time.Duration { b.Take(samples(51)); return waits(1000) }(), "returned is no more than was there")
}

// TestAsked: the mean follows what is asked for, and whoever drains a bucket that
// was full asked for more than the rate.
func TestAsked(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, perSecond := range []float64{110, 150, 300, 2000, 20_000} {
		now := start
		b := bucketOf(100, 1000, start)
		for {
			b.Advance(now)
			cost := samples(perSecond / 10)
			b.Ask(cost)
			if wait, _ := b.Wait(cost); wait > 0 {
				break
			}
			b.Take(cost)
			now = now.Add(100 * time.Millisecond)
		}
		require.GreaterOrEqual(t, b.Asked(tenant.Samples), 100.0, perSecond)
		require.LessOrEqual(t, b.Asked(tenant.Samples), 1.1*perSecond)
	}
	b := bucketOf(100, 1000, start)
	for i := range 600 {
		b.Advance(start.Add(time.Duration(i) * 100 * time.Millisecond))
		b.Ask(samples(8))
	}
	require.InDelta(t, 80, b.Asked(tenant.Samples), 1)
	b.Advance(start.Add(10 * time.Minute))
	require.Less(t, b.Asked(tenant.Samples), 1e-6)

	b.Ask(samples(8))
	b.Advance(start.Add(10*time.Minute + time.Second))
	b.Ask(samples(-8))
	require.Zero(t, b.Asked(tenant.Samples), "taken back, when some of it was over")
}
