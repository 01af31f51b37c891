package receiver

import (
	"context"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/tenant"
)

func testLine(rate, burst float64, now time.Time) *line {
	l := newLine()
	l.Advance(now)
	l.set(tenant.Rates{tenant.Samples: {PerSecond: rate, Burst: burst}})
	return l
}

var lineStart = time.Unix(1000, 0)

// lineTest is a line, and those who come to it.
type lineTest struct {
	*testing.T
	*line
	now time.Time
}

func newLineTest(t *testing.T, rate, burst float64) *lineTest {
	return &lineTest{T: t, line: testLine(rate, burst, lineStart), now: lineStart}
}

func (l *lineTest) after(d time.Duration) *lineTest {
	l.now = l.now.Add(d)
	return l
}

// comes is what becomes of a request of 100 samples.
func (l *lineTest) comes(request, sender uint64) turn {
	l.Advance(l.now)
	a := arrival{request: request, sender: sender, cost: tenant.Cost{tenant.Samples: 100}}
	return l.arrive(l.now, &a)
}

// TestLinePlaces: who is refused is told its turn, behind all before it, and passes
// then, whoever else comes meanwhile.
func TestLinePlaces(t *testing.T) {
	l := newLineTest(t, 100, 100)
	require.Equal(t, turn{}, l.comes(1, 1))
	for i := range 20 {
		told := i + 1
		if told > maxRetryAfter {
			told = maxRetryAfter - told%8
		}
		require.Equal(t, turn{retryAfter: told}, l.comes(uint64(100+i), 1))
	}
	for i := range 15 {
		l.after(time.Second)
		require.Equal(t, turn{kept: true}, l.comes(uint64(100+i), 1), "in its turn")
		require.Positive(t, l.comes(uint64(200+i), 1).retryAfter, "a newcomer is not")
		if later := 15 + i; i >= 7 && later < 20 {
			require.Equal(t, turn{retryAfter: later + 1 - i - 1}, l.comes(uint64(100+later), 1), "keeps its place, and is told better")
		}
	}
}

// TestLineEarly: who comes before its time is told what is left, and is charged
// once.
func TestLineEarly(t *testing.T) {
	l := newLineTest(t, 10, 100)
	require.Equal(t, turn{}, l.comes(1, 1))
	require.Equal(t, turn{retryAfter: 10}, l.comes(2, 1))
	for left := 9; left > 0; left-- {
		require.Equal(t, turn{retryAfter: left}, l.after(time.Second).comes(2, 1))
	}
	a := arrival{request: 2, sender: 1, cost: tenant.Cost{tenant.Samples: 100}, mayHold: true}
	l.after(250 * time.Millisecond)
	l.Advance(l.now)
	require.Equal(t, turn{hold: 750 * time.Millisecond, kept: true}, l.arrive(l.now, &a))
	require.Empty(t, l.places)
	wait, _ := l.Wait(&a.cost)
	require.Equal(t, 10750*time.Millisecond, wait.Round(time.Millisecond))
}

// TestLineWithdrawn: a request that comes back in its turn and is refused for something
// else leaves its tokens to others, and its sender did what it was told.
func TestLineWithdrawn(t *testing.T) {
	l := newLineTest(t, 100, 100)
	require.Equal(t, turn{}, l.comes(1, 1))
	l.senders[7] = conduct{lapsed: desertAfter - 1}
	require.Equal(t, turn{retryAfter: 1}, l.comes(2, 7))
	l.after(time.Second).Advance(l.now)
	l.withdraw(2, 7)
	require.Empty(t, l.places)
	require.Equal(t, map[uint64]conduct{7: {}}, l.senders)
	require.Equal(t, turn{}, l.comes(3, 1), "the tokens are there")
	l.after(time.Hour)
	l.withdraw(4, 9) // which has no place
	l.sweep(l.now)
	require.Zero(t, l.missed)
}

// TestLineHolds: near tokens are waited for, if there is room to wait.
func TestLineHolds(t *testing.T) {
	l := newLineTest(t, 100, 100)
	require.True(t, l.pass(&tenant.Cost{tenant.Samples: 100}))
	require.False(t, l.pass(&tenant.Cost{tenant.Samples: 100}))
	a := arrival{request: 1, cost: tenant.Cost{tenant.Samples: 50}, mayHold: true}
	require.Equal(t, turn{hold: 500 * time.Millisecond}, l.arrive(l.now, &a))
	require.Equal(t, turn{hold: time.Second}, l.arrive(l.now, &a))
	require.Equal(t, turn{retryAfter: 2}, l.arrive(l.now, &a), "longer than a second")
	require.False(t, l.pass(&tenant.Cost{}), "whoever comes may be the one who was refused")
}

// TestLineLapses: who does not come back loses its place, and nobody its tokens.
func TestLineLapses(t *testing.T) {
	l := newLineTest(t, 100, 100)
	l.comes(1, 1)
	require.Equal(t, turn{retryAfter: 1}, l.comes(2, 1))
	require.Equal(t, turn{retryAfter: 2}, l.comes(3, 2), "behind the one that will not come")
	require.Equal(t, turn{kept: true}, l.after(2*time.Second).comes(3, 2))
	require.Equal(t, turn{}, l.after(time.Second+lateness).comes(4, 2), "its tokens are there again")
	require.Equal(t, 1, l.missed)
	require.Equal(t, turn{retryAfter: 1}, l.comes(2, 1), "back too late: as any other")
	require.Equal(t, map[uint64]conduct{1: {}}, l.senders, "but it came back")
}

// TestLineDeserters: senders that drop what is refused do not keep tokens from
// anybody, themselves included, after they did so a few times.
func TestLineDeserters(t *testing.T) {
	l := newLineTest(t, 100, 100)
	request, passed := uint64(0), 0
	for range 600 {
		for range 3 { // three times the rate, each new
			request++
			if l.comes(request, 1).retryAfter == 0 {
				passed++
			}
		}
		l.after(time.Second)
	}
	require.InDelta(t, 600, passed, 15, "about what the limit allows, without the first seconds")
	require.True(t, l.deserted(1))
	require.Less(t, len(l.places), 3*61)

	// Another sender is not taken for it, and gets a place.
	l.after(5 * time.Second)
	require.Zero(t, l.comes(1e6-1, 1).retryAfter)
	require.Equal(t, 1, l.comes(1e6, 2).retryAfter)
	l.comes(1e6+1, 1)
	require.Equal(t, turn{kept: true}, l.after(time.Second).comes(1e6, 2))

	// It is forgiven when it repeats a request.
	refused := request + 1
	require.Positive(t, l.comes(refused, 1).retryAfter)
	require.Zero(t, l.after(20*time.Second).comes(refused, 1).retryAfter)
	require.False(t, l.deserted(1))
}

// TestLineOfMany: neither places nor senders without end, and no more told than a
// sender can be.
func TestLineOfMany(t *testing.T) {
	l := newLineTest(t, 100_000, 100)
	for i := range uint64(3 * maxPlaces) {
		v := l.comes(i, i)
		require.LessOrEqual(t, v.retryAfter, maxRetryAfter)
		require.LessOrEqual(t, len(l.places), maxPlaces)
	}
	require.Len(t, l.places, maxPlaces)
	l.after(maxAhead)
	l.comes(1e9, 1e9)
	require.LessOrEqual(t, len(l.senders), maxSenders)
	l.after(2 * watchFor)
	l.comes(1e9+1, 1e9)
	require.LessOrEqual(t, len(l.places), 1)
	require.True(t, l.after(time.Hour).idle(l.now))
}

// TestLineFarAhead: places are given away for the next minute, and one beyond that
// when nobody else waits, so that a request of more than a minute's tokens has its
// turn.
func TestLineFarAhead(t *testing.T) {
	l := newLineTest(t, 1, 100)
	require.Zero(t, l.comes(1, 1).retryAfter)
	require.Positive(t, l.comes(2, 1).retryAfter)
	require.Len(t, l.places, 1)
	require.Positive(t, l.comes(3, 1).retryAfter)
	require.Len(t, l.places, 1, "the minute is given away")
	for began := l.now; ; {
		v := l.comes(2, 1)
		if v.retryAfter == 0 {
			require.Equal(t, 100*time.Second, l.now.Sub(began))
			break
		}
		require.LessOrEqual(t, v.retryAfter, maxRetryAfter)
		l.after(time.Duration(v.retryAfter) * time.Second)
	}
}

// TestLineKeepsItsWord is the promise, for any senders: who comes back when told,
// having been told its turn, passes; what passes in all is no more than the rate,
// one burst and one request, and what passed out of turn while others waited; and in the end nothing is missing from the bucket.
func TestLineKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type sender struct {
			faithful bool
			at       time.Time // its next request
			told     int       // of that request, if it was refused
			exact    bool      // told its turn, rather than to ask again
			request  uint64
			cost     tenant.Cost
		}
		var (
			rate    = rapid.Float64Range(10, 1e5).Draw(t, "rate")
			burst   = rate * rapid.Float64Range(0.1, 20).Draw(t, "burst in seconds")
			now     = lineStart
			l       = testLine(rate, burst, now)
			senders = make([]sender, rapid.IntRange(1, 30).Draw(t, "senders"))
			largest = burst
			passed  float64
			request uint64
		)
		renew := func(s *sender) {
			request++
			*s = sender{faithful: s.faithful, at: s.at, request: request * 0x9e3779b97f4a7c15}
			s.cost[tenant.Samples] = rate * rapid.Float64Range(0.001, 3).Draw(t, "cost in seconds")
			largest = max(largest, s.cost[tenant.Samples])
		}
		for i := range senders {
			senders[i].faithful, senders[i].at = rapid.Bool().Draw(t, "faithful"), now
			renew(&senders[i])
		}
		for range 300 {
			first := 0
			for i := range senders {
				if senders[i].at.Before(senders[first].at) {
					first = i
				}
			}
			s := &senders[first]
			now = s.at
			l.Advance(now)
			v := l.arrive(now, &arrival{request: s.request, sender: uint64(first), cost: s.cost, mayHold: rapid.Bool().Draw(t, "may hold")})
			if v.retryAfter == 0 {
				require.LessOrEqual(t, v.hold, maxHold)
				passed += s.cost[tenant.Samples]
				s.at = now.Add(v.hold + time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
				renew(s)
			} else {
				require.False(t, s.faithful && s.exact, "told %d s, came then, was refused", s.told)
				require.Positive(t, v.retryAfter)
				require.LessOrEqual(t, v.retryAfter, maxRetryAfter)
				s.told = v.retryAfter
				p, ok := l.places[s.request]
				back := now.Add(time.Duration(s.told) * time.Second)
				s.exact = ok && !p.lapsed && !p.due.After(back)
				s.at = back
				if !s.faithful {
					s.at = now.Add(time.Duration(rapid.Int64Range(1, int64(5*time.Second)).Draw(t, "own time")))
					if rapid.Bool().Draw(t, "drops it") {
						renew(s)
					}
				}
			}
			elapsed := now.Sub(lineStart).Seconds() + maxHold.Seconds()
			aside := asideShare*(rate*min(elapsed, 2*maxAhead.Seconds())+burst) + largest
			require.LessOrEqual(t, passed, (rate*elapsed+burst+largest)*(1+1e-6)+aside*(1+1e-6))
		}
		require.True(t, l.idle(now.Add(time.Hour)) || l.idle(now.Add(2*time.Hour)))
	})
}

// TestRatesForgetIdle: tenants can be made up, and are forgotten when nothing would
// be lost with them.
func TestRatesForgetIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs := newRates(1, nil)
		lim := tenant.DefaultLimits()
		lim.IngestionRate = 100
		for i := range 20_000 {
			p := rs.of(strconv.Itoa(i % 15_000))
			p.mu.Lock()
			p.under(&lim, time.Now())
			if i == 0 {
				p.line.Take(&tenant.Cost{tenant.Samples: 1e6})
			}
			require.True(t, i%15_000 == 0 || p.line.pass(&tenant.Cost{tenant.Samples: 1}))
			p.mu.Unlock()
			time.Sleep(time.Millisecond)
			require.LessOrEqual(t, len(rs.tenants), 1500)
		}
		require.Contains(t, rs.tenants, "0", "who has debts is not forgotten")
	})
}

// BenchmarkPace is what the rates of a tenant cost a request that they let through.
func BenchmarkPace(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*tenant.Limits)
	}{
		{"rates=none", func(*tenant.Limits) {}},
		{"rates=one", func(l *tenant.Limits) { l.IngestionRate = 1 << 50 }},
		{"rates=all", func(l *tenant.Limits) {
			l.IngestionRate, l.RequestRate, l.IngestionBytesRate, l.NativeHistogramBucketsRate, l.ExemplarsRate = 1<<50, 1<<50, 1<<50, 1<<50, 1<<50
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			set := tenant.DefaultSettings()
			c.change(&set.Limits)
			r := &Receiver{rates: newRates(1, nil)}
			req := &request{hr: httptest.NewRequest("POST", "/", nil), who: tenant.Identity{Tenant: "a"}, policy: policy{set: &set}}
			cost := tenant.Cost{2000, 1, 100_000, 10, 10}
			b.ReportAllocs()
			for b.Loop() {
				req.paced = false
				if err := r.pace(context.Background(), req, cost); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
