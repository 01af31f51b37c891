package tenant

import (
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// gathered is what a scrape would see: metric{tenant} or metric{tenant,reason}.
type gathered map[string]float64

func gather(t require.TestingT, reg *prometheus.Registry) gathered {
	families, err := reg.Gather()
	require.NoError(t, err)
	out := gathered{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					key += " " + l.GetValue()
				} else {
					key = l.GetValue() + " " + key
				}
			}
			out[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

// stored is the tenants of an ingester, with their series.
type stored map[string]int

func (s stored) all() iter.Seq2[string, int] { return maps.All(s) }

func newTestUsage(s stored) (*Usage, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return NewUsage(s.all(), reg), reg
}

const received = " weir_tenant_received_samples_total"

func TestUsageOfFew(t *testing.T) {
	u, reg := newTestUsage(stored{"a": 7, "idle": 3})
	u.Of("a").Received(5)
	u.Of("a").Discarded(proto.SampleTooOld, 2)
	u.Of("a").Query()
	u.Known("a").Query()
	u.Known("a").Read(40)
	u.Known("a").Refused()
	u.Known("made-up").Query()
	u.Known("made-up").Refused()
	require.Equal(t, gathered{
		"a weir_tenant_received_samples_total":                      5,
		"a weir_tenant_discarded_samples_total weir-sample-too-old": 2,
		"a weir_tenant_queries_total":                               2,
		"a weir_tenant_read_samples_total":                          40,
		"a weir_tenant_refused_requests_total":                      1,
		"a weir_tenant_active_series":                               7,
		"idle weir_tenant_received_samples_total":                   0,
		"idle weir_tenant_queries_total":                            0,
		"idle weir_tenant_read_samples_total":                       0,
		"idle weir_tenant_refused_requests_total":                   0,
		"idle weir_tenant_active_series":                            3,
		"__rest weir_tenant_received_samples_total":                 0,
		"__rest weir_tenant_queries_total":                          1,
		"__rest weir_tenant_read_samples_total":                     0,
		"__rest weir_tenant_refused_requests_total":                 1,
		"__rest weir_tenant_active_series":                          0,
	}, gather(t, reg))
	require.Error(t, ValidateID(restLabel), "no tenant can have that name")
}

// TestUsageOfMany: more tenants than have series of their own, and one that rises.
func TestUsageOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stored{"small": 1}
		u, reg := newTestUsage(s)
		for i := range topTenants {
			id := fmt.Sprintf("big-%03d", i)
			s[id] = 100
			u.Of(id).Received(1000 + i)
		}
		u.Of("small").Received(7)
		g := gather(t, reg)
		require.NotContains(t, g, "small"+received)
		require.Equal(t, 7.0, g["__rest"+received])
		require.Equal(t, 1.0, g["__rest weir_tenant_active_series"])
		require.Equal(t, 1000.0, g["big-000"+received])

		u.Of("small").Received(500) // more, not twice as much
		time.Sleep(rankEvery)
		require.Equal(t, 507.0, gather(t, reg)["__rest"+received])

		u.Of("small").Received(10_000)
		time.Sleep(rankEvery)
		g = gather(t, reg)
		require.Equal(t, 10_507.0, g["__rest"+received], "what it did until it rose")
		require.Equal(t, 0.0, g["small"+received], "begins at 0")
		require.NotContains(t, g, "big-000"+received, "the least of the others made room")
		u.Of("small").Received(3)
		u.Of("big-000").Received(4)
		g = gather(t, reg)
		require.Equal(t, 3.0, g["small"+received])
		require.Equal(t, 10_511.0, g["__rest"+received])
	})
}

// TestUsageOfGone: a tenant that is not stored here any more loses its series
// when nothing is heard of it.
func TestUsageOfGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stored{"gone": 10, "stays": 10}
		u, reg := newTestUsage(s)
		u.Of("gone").Received(5)
		require.Equal(t, 5.0, gather(t, reg)["gone"+received])
		delete(s, "gone")
		u.Of("gone").Received(2)
		for range 2 { // it was still heard of before the first
			time.Sleep(rankEvery)
			gather(t, reg)
		}
		g := gather(t, reg)
		require.NotContains(t, g, "gone"+received)
		require.Contains(t, g, "stays"+received)
		require.Len(t, u.accounts, 1)
	})
}

func TestUsageIsBounded(t *testing.T) {
	u := NewUsage(nil, nil)
	for i := range maxAccounts + 10 {
		u.Of(fmt.Sprint(i)).Received(1)
	}
	require.Len(t, u.accounts, maxAccounts)
	u.collecting.Lock()
	defer u.collecting.Unlock()
	u.nobody.handOut(&u.rest)
	require.EqualValues(t, 10, u.rest[receivedSamples])
}

// TestUsageNeverGoesBack: whoever rises, falls, comes and goes, no series goes
// back while it is there, and all together grow by what was counted, but for the
// series of those who fell.
func TestUsageNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := stored{}
		u, reg := newTestUsage(s)
		const tenants = topTenants + 20
		last := gathered{}
		counted, handed := 0, 0.0
		for range rapid.IntRange(2, 12).Draw(t, "rounds") {
			for range rapid.IntRange(0, 2*tenants).Draw(t, "writes") {
				n := rapid.IntRange(1, 1000).Draw(t, "samples")
				id := fmt.Sprint(rapid.IntRange(0, tenants-1).Draw(t, "tenant"))
				s[id] = n
				u.Of(id).Received(n)
				counted += n
			}
			for id := range s {
				if rapid.IntRange(0, 50).Draw(t, "gone") == 0 {
					delete(s, id)
				}
			}
			if rapid.Bool().Draw(t, "rank") {
				u.ranked = time.Time{}
			}
			g := gather(t, reg)
			own := 0
			for key, v := range g {
				if strings.HasSuffix(key, "_total") {
					require.GreaterOrEqual(t, v, last[key], key)
				}
				if strings.HasSuffix(key, received) {
					handed += v - last[key]
					own++
				}
			}
			require.LessOrEqual(t, own, topTenants+1)
			require.EqualValues(t, counted, handed)
			last = g
		}
	})
}
