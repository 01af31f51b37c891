package overload

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

func testBudget(requests int, bytes int64) *Budget {
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refused"}, []string{"path", "reason"})
	return newBudget(promauto.With(nil), refused, "write", requests, bytes)
}

// enter begins a request that must get in.
func enter(t require.TestingT, b *Budget, tenant string) *Hold {
	h, err := b.Enter(tenant)
	require.NoError(t, err)
	return &h
}

// flood takes one byte after the other until the tenant is refused.
func flood(t require.TestingT, b *Budget, tenant string) *Hold {
	h := enter(t, b, tenant)
	for {
		if err := h.Take(1); err != nil {
			require.Contains(t, []proto.Kind{proto.KindUnavailable, proto.KindTooLarge}, proto.KindOf(err))
			return h
		}
	}
}

func TestShares(t *testing.T) {
	b := testBudget(100, 1200)
	one := flood(t, b, "one")
	require.EqualValues(t, 600, one.bytes, "alone: half")
	two := flood(t, b, "two")
	require.EqualValues(t, 300, two.bytes)
	polite := enter(t, b, "polite")
	require.NoError(t, polite.Take(100), "in spite of two floods")

	require.Error(t, one.Take(1))
	one.Leave()
	require.NoError(t, two.Take(1), "as there is more room now")
	two.Leave()
	polite.Leave()
	require.Zero(t, b.inUse())
	require.Empty(t, b.tenants)
}

func TestSharesOfRequests(t *testing.T) {
	b := testBudget(8, math.MaxInt64)
	var holds []*Hold
	for range 4 {
		holds = append(holds, enter(t, b, "one"))
	}
	_, err := b.Enter("one")
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
	require.ErrorContains(t, err, "weir-overloaded: the server works on 4 requests of this tenant and has room for 4 more")
	for range 2 {
		holds = append(holds, enter(t, b, "two"))
	}
	_, err = b.Enter("two")
	require.Error(t, err)
	holds = append(holds, enter(t, b, "three"))
	require.Equal(t, 2.0, testutil.ToFloat64(b.refused[ofRequests]))
	for _, h := range holds {
		h.Leave()
		h.Leave() // does nothing
	}
	require.Zero(t, b.inUse())
}

// TestHeadroom: when memory gets short, the one who holds most is refused first,
// and in the end everybody.
func TestHeadroom(t *testing.T) {
	b := testBudget(100, 1000)
	large := enter(t, b, "large")
	require.NoError(t, large.Take(300))
	small := enter(t, b, "small")
	require.NoError(t, small.Take(10))

	b.setHeadroom(200)
	require.ErrorContains(t, large.Take(10), "200 bytes are left for requests, this tenant holds 300")
	require.NoError(t, small.Take(50))
	require.ErrorContains(t, small.Take(80), "150 bytes are left", "what was taken since counts")
	b.setHeadroom(0)
	_, err := b.Enter("new")
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
	require.Equal(t, 3.0, testutil.ToFloat64(b.refused[ofMemory]))

	large.Leave()
	small.Leave()
	require.EqualValues(t, 360, b.headroom)
	b.setHeadroom(noLimit)
	enter(t, b, "new").Leave()
}

// TestTooLargeForEver: what can never succeed must not be repeated.
func TestTooLargeForEver(t *testing.T) {
	b := testBudget(100, 1000)
	h := enter(t, b, "one")
	require.NoError(t, h.Take(400))
	err := h.Take(101)
	require.Equal(t, proto.KindTooLarge, proto.KindOf(err))
	require.ErrorContains(t, err, "weir-request-too-large: the request needs at least 501 bytes of memory, the limit is 500")
	require.NoError(t, h.Take(100))
	h.Leave()
}

func TestNilBudget(t *testing.T) {
	var b *Budget
	h := enter(t, b, "one")
	require.NoError(t, h.Take(math.MaxInt64))
	h.Leave()
}

// TestAnyRequests: whatever comes and goes, the budget is kept, the sums are
// right, and whoever holds nothing gets half of what is free.
func TestAnyRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const requests, bytes = 20, 10_000
		b := testBudget(requests, bytes)
		var holds []*Hold
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "do") {
			case 0:
				tenant := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "tenant"))
				if h, err := b.Enter(tenant); err == nil {
					holds = append(holds, &h)
				}
			case 1, 2:
				if len(holds) > 0 {
					_ = holds[rapid.IntRange(0, len(holds)-1).Draw(t, "of")].Take(rapid.Int64Range(0, 3000).Draw(t, "bytes"))
				}
			case 3:
				if n := len(holds); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(t, "of")
					holds[i].Leave()
					holds[i], holds = holds[n-1], holds[:n-1]
				}
			}
			var want holding
			for _, h := range holds {
				want.requests++
				want.bytes += h.bytes
			}
			require.Equal(t, want, b.inUse())
			require.LessOrEqual(t, want.bytes, int64(bytes))
			if want.requests == requests { // five tenants can do that together
				_, err := b.Enter("newcomer")
				require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
				continue
			}
			newcomer := enter(t, b, "newcomer")
			require.NoError(t, newcomer.Take((bytes-want.bytes)/2))
			newcomer.Leave()
		}
		for _, h := range holds {
			h.Leave()
		}
		require.Zero(t, b.inUse())
		require.Empty(t, b.tenants)
	})
}

func BenchmarkHold(b *testing.B) {
	budget := testBudget(1000, 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		h, err := budget.Enter("tenant")
		if err != nil {
			b.Fatal(err)
		}
		if h.Take(1000) != nil || h.Take(2000) != nil {
			b.Fatal("refused")
		}
		h.Leave()
	}
}
