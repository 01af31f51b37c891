package receiver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// ratedTeams gives the label sets team-a and slow a rate; all is only counted, and
// comes before them.
func ratedTeams(perSecond int) func(*setup) {
	return limited(func(l *tenant.Limits) {
		l.LabelSets = []tenant.LabelSet{
			{Name: "all", Match: `{__name__=~".+"}`},
			{Name: "team-a", Match: `{team="a"}`, IngestionRate: perSecond},
			{Name: "slow", Match: `{speed=~"s.*",team!="c"}`, IngestionRate: perSecond / 10},
		}
	})
}

// ofTeam is a series of a team with n samples.
func ofTeam(name string, n int, more ...string) series {
	s := series{labels: pairs(append([]string{"__name__", "m", "name", name}, more...)...)}
	now := time.Now().UnixMilli()
	for i := range n {
		s.floats = append(s.floats, proto.Float{T: now + int64(i)})
	}
	return s
}

// TestSetRate: of a label set that is used up nothing is stored and all else is,
// whether the series are known or new.
func TestSetRate(t *testing.T) {
	for _, v := range versions {
		synctest.Test(t, func(t *testing.T) {
			s := newSetup(t, ratedTeams(10)) // 100 at once
			send := func(all ...series) (*httptest.ResponseRecorder, []string) {
				hr, rec := record(newRequest(v, marshal(v, all...)))
				w := s.serve(hr)
				var stored []string
				for _, x := range rec.series {
					stored = append(stored, x.labels.Get("name"))
				}
				return w, stored
			}
			w, stored := send(ofTeam("a1", 150, "team", "a"), ofTeam("b1", 10, "team", "b"))
			require.Equal(t, http.StatusNoContent, w.Code, "whatever its size: %s", w.Body)
			require.Equal(t, []string{"a1", "b1"}, stored)

			exemplary := ofTeam("a3", 1, "team", "a")
			exemplary.exemplars = []exemplarToSend{{labels: pairs("trace_id", "5f2c"), t: time.Now().UnixMilli()}}
			exemplary.help = "help"
			w, stored = send(ofTeam("a1", 3, "team", "a"), ofTeam("b1", 5, "team", "b"), ofTeam("a2", 2, "team", "a"), ofTeam("b2", 1), exemplary)
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.True(t, strings.HasPrefix(w.Body.String(), `weir-label-set-rate: refused 7 samples of this request, stored 6. more is sent into the label set "team-a" than its limit ingestion_rate, 10 samples a second; `+
				`the series of the request that are not of it were stored, in {__name__="m", name="a1", team="a"}`), w.Body)
			require.Equal(t, []string{"b1", "b2"}, stored)
			counts, _ := written(t, w.Header())
			require.Equal(t, proto.Counts{Samples: 6}, counts)
			require.Empty(t, w.Header().Get("Retry-After"))
			require.Equal(t, map[string]int{"weir-label-set-rate float": 6, "weir-label-set-rate exemplar": 1}, s.counters(t, "weir_receiver_discarded_samples_total"))

			time.Sleep(6 * time.Second)
			w, stored = send(ofTeam("a1", 1, "team", "a"), ofTeam("a2", 1, "team", "a"))
			require.Equal(t, http.StatusNoContent, w.Code, "60 have come, 50 were owed: %s", w.Body)
			require.Equal(t, []string{"a1", "a2"}, stored, "the ingester is told what a2 is")
		})
	}
}

// TestSetRateOfAllThatIsSent: who sends nothing else is told to wait, and passes when
// it does.
func TestSetRateOfAllThatIsSent(t *testing.T) {
	for _, c := range []struct {
		on   tenant.OnLimit
		want int
	}{{tenant.Reject429, 429}, {tenant.Retry503, 503}, {tenant.OnLimitAuto, 503}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSetup(t, ratedTeams(10), func(s *setup) {
				s.limits("").OnLimit = c.on
				s.limits("").IngestionRate = 1000
			})
			message := func(n int) []byte {
				return marshal(proto.V2, ofTeam("a1", n, "team", "a"), series{labels: pairs("team", "b"), floats: []proto.Float{{T: 1}}}, ofTeam("b1", 0, "team", "b"))
			}
			bad := marshal(proto.V2, ofTeam("a1", 145, "team", "a"))
			require.Equal(t, http.StatusNoContent, s.send(proto.V2, bad).Code)
			body := message(20)
			w := s.send(proto.V2, body)
			require.Equal(t, c.want, w.Code, w.Body)
			require.True(t, strings.HasPrefix(w.Body.String(), `weir-label-set-rate: this is a quota, not a fault of the server: `+
				`the label set "team-a" has used up its limit ingestion_rate, 10 samples a second; nothing of the request was stored, repeat it in `), w.Body)
			after, err := strconv.Atoi(w.Header().Get("Retry-After"))
			require.NoError(t, err)
			require.True(t, 4 <= after && after <= 15, after)
			time.Sleep(time.Duration(after) * time.Second)
			w = s.send(proto.V2, body)
			require.Equal(t, http.StatusBadRequest, w.Code, "the series without a name is refused: %s", w.Body)
			counts, _ := written(t, w.Header())
			require.Equal(t, proto.Counts{Samples: 20}, counts)
		})
	}
}

// TestSetRateIsTheLimit: a sender with too much of a team, and one who shares a
// request with it, have together what the set may have, within 1 %; nobody else loses
// anything.
func TestSetRateIsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, warm, length = 100, 60, 3600
		s := newSetup(t, ratedTeams(perSecond))
		var mu sync.Mutex
		of := map[string]int{}
		var senders sync.WaitGroup
		for sender := range 4 {
			senders.Go(func() {
				for range warm + length {
					all := []series{ofTeam(fmt.Sprint("a", sender), 70, "team", "a")}
					if sender > 1 {
						all = append(all, ofTeam(fmt.Sprint("b", sender), 7, "team", "b"))
					}
					hr, rec := record(newRequest(proto.V2, marshal(proto.V2, all...)))
					if w := s.serve(hr); w.Code == http.StatusTooManyRequests {
						require.Less(t, sender, 2, "who has others to send is not made to wait")
					}
					mu.Lock()
					for _, x := range rec.series {
						of[x.labels.Get("team")] += len(x.floats)
					}
					mu.Unlock()
					time.Sleep(time.Second)
				}
			})
		}
		time.Sleep(warm * time.Second)
		mu.Lock()
		from := of["a"]
		mu.Unlock()
		time.Sleep(length * time.Second)
		mu.Lock()
		got := float64(of["a"]-from) / length
		mu.Unlock()
		require.InEpsilon(t, perSecond, got, 0.01)
		senders.Wait()
		require.Equal(t, 2*7*(warm+length), of["b"])
	})
}

// TestSetsOverlap: a series of two sets needs both, and what one refuses the other is
// not charged for.
func TestSetsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(10)) // slow has 1 a second, 10 at once
		stored := func(all ...series) (n int) {
			hr, rec := record(newRequest(proto.V1, marshal(proto.V1, all...)))
			s.serve(hr)
			for _, x := range rec.series {
				n += len(x.floats)
			}
			return n
		}
		both := func(n int) series { return ofTeam("both", n, "team", "a", "speed", "slow") }
		require.Equal(t, 15, stored(both(15)), "slow owes 5, team-a has 85")
		require.Equal(t, 81, stored(both(50), ofTeam("a", 80, "team", "a"), ofTeam("c", 1, "team", "c", "speed", "slow")), "slow is used up")
		require.Equal(t, 20, stored(ofTeam("a", 20, "team", "a")), "team-a was charged for 80, and has 5")
		require.Zero(t, stored(ofTeam("a", 1, "team", "a"), both(1)), "now it owes 15")
		time.Sleep(4900 * time.Millisecond)
		require.Equal(t, 1, stored(ofTeam("a", 1, "team", "a"), both(1)), "slow owes a tenth")
		time.Sleep(1100 * time.Millisecond)
		require.Equal(t, 2, stored(ofTeam("a", 1, "team", "a"), both(1)))
	})
}

// TestSetRateIsReported: how much of it is used is there for who watches.
func TestSetRateIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(10))
		var near string
		for range 60 {
			near = s.send(proto.V1, marshal(proto.V1, ofTeam("a", 300, "team", "a"), ofTeam("b", 1))).Header().Get("X-Weir-Limit-Used")
			time.Sleep(time.Second)
		}
		require.Contains(t, near, "label_sets.ingestion_rate:team-a=")
		require.Len(t, s.RateUse("anonymous"), 2, "both that have a rate")
		families, err := s.reg.Gather()
		require.NoError(t, err)
		used := map[string]float64{}
		for _, f := range families {
			if f.GetName() == "weir_tenant_limit_used_ratio" {
				for _, m := range f.GetMetric() {
					used[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
		require.Len(t, used, 1, "%v", used)
		require.InDelta(t, 27, used["label_sets.ingestion_rate:team-a"], 4, "a mean over ten seconds")
	})
}

// TestSetRateHoldsNobody: who shares a request with a set that is paid off soon does
// not wait for that, nor does whoever comes behind it.
func TestSetRateHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(10))
		require.Equal(t, http.StatusNoContent, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 101, "team", "a"))).Code)
		began := time.Now()
		require.Equal(t, http.StatusBadRequest, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 1, "team", "a"), ofTeam("b", 1))).Code)
		w := s.send(proto.V1, marshal(proto.V1, ofTeam("a", 1, "team", "a")))
		require.Equal(t, http.StatusTooManyRequests, w.Code)
		require.Regexp(t, `^[1-4]$`, w.Header().Get("Retry-After"))
		require.Equal(t, began, time.Now())
	})
}

// TestSetRateIsGivenBack: a request of which nothing was stored was charged nothing.
func TestSetRateIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(10))
		s.memory.fail = func(int) error { return proto.Errorf(proto.KindUnavailable, "weir-test", "not now") }
		for range 5 {
			require.Equal(t, http.StatusServiceUnavailable, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 90, "team", "a"))).Code)
		}
		s.memory.fail = nil
		require.Equal(t, http.StatusNoContent, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 90, "team", "a"))).Code)
		require.Equal(t, http.StatusNoContent, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 90, "team", "a"))).Code, "10 were left")
		require.Equal(t, http.StatusTooManyRequests, s.send(proto.V1, marshal(proto.V1, ofTeam("a", 1, "team", "a"))).Code)
	})
}

// TestSetRatesChange: a set of the same name goes on with what it has left, under
// other limits and at another place in the list.
func TestSetRatesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := tenant.DefaultLimits()
		s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return &lim } })
		under := func(sets ...tenant.LabelSet) {
			next := lim
			next.LabelSets = sets
			s.Receiver.Settings = func(string) *tenant.Settings { return &tenant.Settings{Limits: next, State: tenant.StateActive} }
			set := s.Receiver.Settings("")
			s.Receiver.Settings = func(string) *tenant.Settings { return set }
		}
		a := func(n int) int {
			return s.send(proto.V1, marshal(proto.V1, ofTeam("a", n, "team", "a"))).Code
		}
		require.Equal(t, 204, a(1000), "no limit yet")
		under(tenant.LabelSet{Name: "team-a", Match: `{team="a"}`, IngestionRate: 10})
		require.Equal(t, 204, a(150))
		require.Equal(t, 429, a(1))
		under(tenant.LabelSet{Name: "x", Match: `{team="x"}`, IngestionRate: 10}, tenant.LabelSet{Name: "team-a", Match: `{team=~"a|b"}`, IngestionRate: 20})
		require.Equal(t, 429, a(1), "it still owes 50")
		under()
		require.Equal(t, 204, a(1))
	})
}

// TestSetRateOfHistograms: a native histogram is a sample, and a point of OTLP is
// rejected when one of its series is.
func TestSetRateOfHistograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(1))
		one := series{labels: pairs("__name__", "m", "team", "a")}
		for i := range 15 {
			one.histograms = append(one.histograms, proto.Histogram{T: time.Now().UnixMilli() + int64(i), H: &histogram.Histogram{}})
		}
		require.Equal(t, http.StatusNoContent, s.send(proto.V2, marshal(proto.V2, one)).Code)
		w := s.send(proto.V2, marshal(proto.V2, one, ofTeam("b", 1)))
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), "weir-label-set-rate: refused 15 samples")

		e := newExported("service.name", "x")
		now := time.Now().UnixMilli()
		of := func(name string, attributes ...string) {
			p := number(e.sum(name, cumulative, true), now-60_000, now, 1)
			for i := 0; i < len(attributes); i += 2 {
				p.Attributes().PutStr(attributes[i], attributes[i+1])
			}
		}
		of("a", "team", "a")
		of("b")
		w = s.serveOTLP(otlpRequest(otlpJSON, marshalOTLP(otlpJSON, e.Metrics)))
		require.Equal(t, http.StatusOK, w.Code)
		require.Contains(t, w.Body.String(), `"rejectedDataPoints":"1"`)
		require.Contains(t, w.Body.String(), "weir-label-set-rate")
	})
}

// TestSetRateOfCanonicalLabels: what counts is what is stored.
func TestSetRateOfCanonicalLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, ratedTeams(1), withRules(t, `metric_relabel_configs: [{source_labels: [owner], target_label: team}]`))
		owned := func(n int) []byte {
			x := ofTeam("x", n)
			x.labels = append([]labels.Label{{Name: "owner", Value: "a"}}, x.labels...)
			return marshal(proto.V1, x)
		}
		require.Equal(t, http.StatusNoContent, s.send(proto.V1, owned(30)).Code)
		require.Equal(t, http.StatusTooManyRequests, s.send(proto.V1, owned(1)).Code)
	})
}
