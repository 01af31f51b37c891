package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/tenant"
)

// limited gives every tenant limits.
func limited(change func(*tenant.Limits)) func(*setup) {
	return func(s *setup) {
		lim := tenant.DefaultLimits()
		change(&lim)
		s.limits = func(string) *tenant.Limits { return &lim }
	}
}

// counting is an ingester that counts the samples of each sender.
type counting struct{}

type countKey struct{}

func (counting) Write(ctx context.Context, _ string, f *proto.Frame, reply *proto.Reply) error {
	ctx.Value(countKey{}).(*atomic.Int64).Add(int64(len(f.Floats)))
	reply.Written.Samples = len(f.Floats)
	return nil
}

// rateSender sends requests of 100 samples, one after another, and repeats those
// that are refused when it is told to.
type rateSender struct {
	name    string
	address string
	client  string // whom the proxy at that address names
	drops   bool   // what is refused, and comes with the next a second later
	slow    bool   // as late as vmagent may be

	stored  atomic.Int64
	refused map[int]int // requests since from, by how often they were refused
}

func (rs *rateSender) run(t *testing.T, s *setup, template []byte, from, until time.Time) {
	rs.refused = map[int]int{}
	for n := 0; time.Now().Before(until); n++ {
		began := time.Now()
		body := s2.EncodeSnappy(nil, append(bytes.Clone(template), unique(rs.name, n)...))
		for attempt := 0; ; attempt++ {
			hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", bytes.NewReader(body))
			hr.Header.Set("Content-Type", contentType(proto.V1))
			hr.Header.Set("User-Agent", "Prometheus/3.15.0")
			hr.RemoteAddr = rs.address
			if rs.client != "" {
				hr.Header.Set("X-Forwarded-For", rs.client)
			}
			w := s.serve(hr.WithContext(context.WithValue(hr.Context(), countKey{}, &rs.stored)))
			if w.Code == http.StatusNoContent {
				if began.After(from) {
					rs.refused[attempt]++
				}
				break
			}
			require.Equal(t, http.StatusTooManyRequests, w.Code, w.Body)
			after, err := strconv.Atoi(w.Header().Get("Retry-After"))
			require.NoError(t, err)
			require.True(t, 1 <= after && after <= 15, after)
			if rs.drops {
				time.Sleep(time.Second)
				break
			}
			pause := time.Duration(after) * time.Second
			if rs.slow {
				pause += pause / 10
			}
			time.Sleep(pause)
		}
	}
}

// unique is a field that nobody knows, which makes a message unlike any other.
func unique(name string, n int) []byte {
	text := fmt.Sprintf("%s %d", name, n)
	return append([]byte{15<<3 | 2, byte(len(text))}, text...)
}

// TestFairShares has two hundred senders, each with more than its share to send.
func TestFairShares(t *testing.T) {
	const senders, batch = 200, 100
	for _, c := range []struct {
		name   string
		rate   int // samples a second
		change func(i int, s *rateSender)
		within bool // everybody's turn can be told: nobody who came back is refused
	}{
		{"as told", 2000, func(int, *rateSender) {}, true},
		{"behind one address", 2000, func(_ int, s *rateSender) { s.address = "192.0.2.1:1" }, true},
		{"a little late", 2000, func(_ int, s *rateSender) { s.slow = true }, true},
		{"turns further ahead than can be told", 500, func(int, *rateSender) {}, false},
		{"half of them drop what is refused", 4000, func(i int, s *rateSender) { s.drops = i%2 == 1 }, true},
		{"the same, behind a proxy", 4000, func(i int, s *rateSender) {
			s.drops, s.address, s.client = i%2 == 1, "198.51.100.1:1", s.address
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, limited(func(l *tenant.Limits) { l.IngestionRate = c.rate }), func(s *setup) { s.ing = counting{} })
				s.Tenants.WithAuth(tenant.Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
				now := time.Now().UnixMilli()
				var all []series
				for i := range batch {
					all = append(all, series{labels: pairs("__name__", "up", "i", strconv.Itoa(i)), floats: []proto.Float{{T: now}}})
				}
				template := marshal(proto.V1, all...)
				var group sync.WaitGroup
				each := make([]*rateSender, senders)
				before := make([]int64, senders)
				const warm, measured = 2 * time.Minute, 3 * time.Minute
				from := time.Now().Add(warm)
				for i := range each {
					each[i] = &rateSender{name: strconv.Itoa(i), address: fmt.Sprintf("192.0.%d.%d:1", 2+i/250, i%250)}
					c.change(i, each[i])
					group.Go(func() { each[i].run(t, s, template, from, from.Add(measured)) })
				}
				time.Sleep(warm)
				synctest.Wait()
				for i, rs := range each {
					before[i] = rs.stored.Load()
				}
				time.Sleep(measured)
				synctest.Wait()
				var total, dropping float64
				var shares []float64
				for i, rs := range each {
					share := float64(rs.stored.Load() - before[i])
					total += share
					if rs.drops {
						dropping += share
					} else {
						shares = append(shares, share)
					}
				}
				group.Wait()

				limit := float64(c.rate) * measured.Seconds()
				t.Logf("%.1f%% of the limit, Jain index %.4f, %.1f%% to those who drop", 100*total/limit, jain(shares), 100*dropping/limit)
				require.InDelta(t, limit, total, 0.03*limit)
				require.Greater(t, jain(shares), 0.95)
				if len(shares) < senders {
					require.Greater(t, dropping, 0.08*limit, "they get something")
				}
				for _, rs := range each {
					if c.within && !rs.drops {
						require.Subset(t, []int{0, 1}, keys(rs.refused), "who comes back when told is stored")
					}
				}
			})
		})
	}
}

func keys(m map[int]int) (out []int) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

// jain is the fairness index of Jain, Chiu and Hawe: 1 when all shares are equal,
// 1/n when one has all.
func jain(shares []float64) float64 {
	var sum, squares float64
	for _, x := range shares {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

// TestOnLimit is the table of answers by policy, protocol and sender.
func TestOnLimit(t *testing.T) {
	const (
		prometheus = "Prometheus/3.15.0"
		vmagent    = "vmagent"
		collector  = "opentelemetry-collector-contrib/0.164.1"
		custom     = "OpenTelemetry Collector Contrib/0.164.1 (linux/amd64)"
		alloy      = "Alloy/v1.11.0 (linux; docker)"
		golang     = "remote-api/v1.0"
		unknown    = ""
	)
	agents := []string{prometheus, vmagent, collector, custom, alloy, golang, unknown}
	drops429 := map[string]bool{prometheus: true, collector: true, custom: true}
	for _, policy := range []tenant.OnLimit{tenant.Reject429, tenant.Retry503, tenant.OnLimitAuto} {
		for _, protocol := range []string{"1.0", "2.0", "otlp"} {
			for _, agent := range agents {
				t.Run(fmt.Sprintf("%s/%s/%s", policy, protocol, agent), func(t *testing.T) {
					want := http.StatusTooManyRequests
					if policy == tenant.Retry503 || policy == tenant.OnLimitAuto && protocol != "otlp" && drops429[agent] {
						want = http.StatusServiceUnavailable
					}
					s := newSetup(t, limited(func(l *tenant.Limits) {
						l.OnLimit, l.IngestionRate, l.IngestionBurstSize = policy, 1, 1
					}))
					send := func() (*recording, *httptest.ResponseRecorder) {
						var hr *http.Request
						v := proto.V1
						if protocol == "otlp" {
							hr = otlpRequest(otlpProtobuf, marshalOTLP(otlpProtobuf, threePoints()))
						} else {
							if protocol == "2.0" {
								v = proto.V2
							}
							hr = newRequest(v, mixed(v))
						}
						hr.Header.Set("User-Agent", agent)
						hr, r := record(hr)
						w := httptest.NewRecorder()
						if protocol == "otlp" {
							s.OTLP().ServeHTTP(w, hr)
						} else {
							s.ServeHTTP(w, hr)
						}
						return r, w
					}
					_, w := send()
					require.Less(t, w.Code, 300, w.Body)
					r, w := send()
					require.Equal(t, want, w.Code, w.Body)
					require.Zero(t, r.calls, "decided before anything is stored")
					require.Regexp(t, `^([1-9]|1[0-5])$`, w.Header().Get("Retry-After"))
					const says = "this is a quota, not a fault of the server"
					if protocol == "otlp" {
						require.Contains(t, failure(t, w).Message, "weir-ingestion-rate: "+says)
					} else {
						require.Regexp(t, "^weir-ingestion-rate: "+says, w.Body.String())
						got, ok := written(t, w.Header())
						require.Equal(t, protocol == "2.0", ok)
						require.Zero(t, got)
					}
					require.Equal(t, 1, s.counters(t, "weir_receiver_requests_total")[protocol+" weir-ingestion-rate"])
				})
			}
		}
	}
}

func threePoints() pmetric.Metrics {
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("temperature")
	points := m.SetEmptyGauge().DataPoints()
	for i := range 3 {
		p := points.AppendEmpty()
		p.SetDoubleValue(float64(i))
		p.SetTimestamp(nanos(time.Now().UnixMilli()))
		p.Attributes().PutInt("i", int64(i))
	}
	return md
}

// one is a request of one sample of a series.
func one(name string) []byte {
	return marshal(proto.V1, series{labels: pairs("__name__", name), floats: []proto.Float{{T: time.Now().UnixMilli()}}})
}

// TestOnLimitLearns: a sender that nobody knows is answered 503 once it let lapse what
// was answered 429. That it repeats what is answered 503 changes nothing; that it
// repeats what was answered 429, however late, does.
func TestOnLimitLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, limited(func(l *tenant.Limits) { l.IngestionRate, l.OnLimit = 10, tenant.OnLimitAuto }))
		send := func(body []byte) int {
			hr := newRequest(proto.V1, body)
			hr.Header.Set("User-Agent", "homemade/1")
			return s.serve(hr).Code
		}
		n := 0
		refused := func() (body []byte, status int) {
			for status = 204; status == 204; n++ {
				body = floats(fmt.Sprint("m", n), 20) // more than a second's
				status = send(body)
			}
			return body, status
		}
		var repeated, late []byte
		status := 0
		for range 3 {
			late, status = refused()
			require.Equal(t, 429, status)
		}
		time.Sleep(30 * time.Second)
		require.Equal(t, 204, send(late))
		_, status = refused()
		require.Equal(t, 429, status)
		for began := time.Now(); ; time.Sleep(time.Second) {
			if repeated, status = refused(); status == 503 {
				break
			}
			require.Equal(t, 429, status)
			require.Less(t, time.Since(began), time.Minute)
		}
		for range 5 {
			time.Sleep(15 * time.Second)
			require.Equal(t, 204, send(repeated))
			repeated, status = refused()
			require.Equal(t, 503, status)
		}
	})
}

// TestRateIsEachLimits: each limit refuses under its own id, and what it counts is
// what it says.
func TestRateIsEachLimits(t *testing.T) {
	buckets := func(n int) *histogram.Histogram {
		h := &histogram.Histogram{Schema: 1, Count: uint64(n), PositiveSpans: []histogram.Span{{Length: uint32(n)}}, PositiveBuckets: make([]int64, n)}
		h.PositiveBuckets[0] = 1
		return h
	}
	body := func(now time.Time) []byte {
		t := now.UnixMilli()
		return marshal(proto.V1,
			series{labels: pairs("__name__", "a"), floats: []proto.Float{{T: t - 1}, {T: t}}},
			series{labels: pairs("__name__", "b"), histograms: []proto.Histogram{{T: t, H: buckets(20)}},
				exemplars: []exemplarToSend{{labels: pairs("trace_id", "5f2c"), t: t}, {labels: pairs("trace_id", "5f2d"), t: t + 1}}})
	}
	size := len(body(time.Now()))
	for _, c := range []struct {
		id, limit string
		set       func(l *tenant.Limits, perSecond int)
		each      int // of a request
	}{
		{"weir-ingestion-rate", "ingestion_rate", func(l *tenant.Limits, n int) { l.IngestionRate = n }, 3},
		{"weir-request-rate", "request_rate", func(l *tenant.Limits, n int) { l.RequestRate = n }, 1},
		{"weir-ingestion-bytes-rate", "ingestion_bytes_rate", func(l *tenant.Limits, n int) { l.IngestionBytesRate = n }, size},
		{"weir-native-histogram-buckets-rate", "native_histogram_buckets_rate", func(l *tenant.Limits, n int) { l.NativeHistogramBucketsRate = n }, 20},
		{"weir-exemplars-rate", "exemplars_rate", func(l *tenant.Limits, n int) { l.ExemplarsRate = n }, 2},
	} {
		t.Run(c.id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const perSecond = 3 // requests
				s := newSetup(t, limited(func(l *tenant.Limits) { c.set(l, perSecond*c.each) }))
				const sent = 60
				answers := make(chan *httptest.ResponseRecorder, sent)
				for range sent {
					go func() { answers <- s.send(proto.V1, body(time.Now())) }()
					time.Sleep(time.Millisecond)
				}
				stored := 0
				for range sent {
					w := <-answers
					if w.Code == 204 {
						stored++
						continue
					}
					require.Equal(t, 429, w.Code, w.Body)
					require.Contains(t, w.Body.String(), c.id+": ")
					require.Contains(t, w.Body.String(), fmt.Sprintf("its limit %s is %d", c.limit, perSecond*c.each))
				}
				// A burst of ten seconds, and a second in which requests were held.
				require.InDelta(t, 11*perSecond, stored, 1)
				require.Equal(t, map[string]int{c.limit: 5 * (sent - stored)}, s.counters(t, "weir_receiver_rate_refused_samples_total"))
			})
		})
	}
}

// TestHeld: a request whose tokens are near is held, stored when they are there,
// and no more of them than there is room for.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, limited(func(l *tenant.Limits) { l.RequestRate, l.RequestBurstSize = 200, 1 }), headerMode)
		send := func(name string) int {
			hr := newRequest(proto.V1, one(name))
			hr.Header.Set(tenant.Header, "busy")
			return s.serve(hr).Code
		}
		require.Equal(t, 204, send("first"))
		began := time.Now()
		statuses := make(chan int, 300)
		for i := range 300 {
			go func() { statuses <- send(fmt.Sprintf("m_%d", i)) }()
		}
		synctest.Wait()
		require.Equal(t, map[string]int{"": 100}, s.counters(t, "weir_receiver_rate_waiting_requests"))
		require.Len(t, statuses, 200, "refused at once")
		other := newRequest(proto.V1, one("up"))
		other.Header.Set(tenant.Header, "other")
		require.Equal(t, 204, s.serve(other).Code, "nobody else waits")
		require.Equal(t, 0, int(time.Since(began)))
		time.Sleep(250*time.Millisecond + 1)
		synctest.Wait()
		require.Len(t, statuses, 250, "half of those who waited are stored")
		got := map[int]int{}
		for range 300 {
			got[<-statuses]++
		}
		require.Equal(t, map[int]int{204: 100, 429: 200}, got)
		require.Equal(t, 500*time.Millisecond, time.Since(began).Round(time.Millisecond))
		require.Equal(t, map[string]int{"": 0}, s.counters(t, "weir_receiver_rate_waiting_requests"))
		require.Equal(t, map[string]int{"": 100}, s.counters(t, "weir_receiver_rate_held_requests_total"))
	})
}

// TestNotCharged: what is not stored costs nothing, whether its sender left while
// it was held, or the ingester failed.
func TestNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, limited(func(l *tenant.Limits) { l.RequestRate, l.RequestBurstSize = 1, 1 }))
		s.memory.fail = func(int) error { return unavailable() }
		for range 10 {
			require.Equal(t, 503, s.send(proto.V1, one("up")).Code)
		}
		s.memory.fail = nil
		require.Equal(t, 204, s.send(proto.V1, one("up")).Code)
		for range 10 {
			hr := newRequest(proto.V1, one("up"))
			ctx, cancel := context.WithTimeout(hr.Context(), time.Millisecond)
			defer cancel()
			hr, r := record(hr.WithContext(ctx))
			s.serve(hr)
			require.Zero(t, r.calls)
		}
		began := time.Now()
		require.Equal(t, 204, s.send(proto.V1, one("up")).Code)
		require.Less(t, time.Since(began), time.Second)
	})
}

// TestRefusedForRateCounts: what is refused for a rate was received and is
// discarded, in every protocol, before it is translated or after.
func TestRefusedForRateCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, limited(func(l *tenant.Limits) { l.IngestionRate, l.IngestionBurstSize = 1, 1 }))
		want := 0
		for range 5 {
			s.send(proto.V2, floats("up", 3))
			s.send(proto.V1, floats("up", 3))
			_, w := s.export(otlpProtobuf, threePoints())
			if w.Code == http.StatusTooManyRequests {
				want += 3
			}
		}
		require.NotZero(t, want)
		received := s.counters(t, "weir_receiver_received_samples_total")["float"]
		written := s.counters(t, "weir_receiver_written_samples_total")["float"]
		discarded := s.counters(t, "weir_receiver_discarded_samples_total")["weir-ingestion-rate float"]
		require.Equal(t, received, written+discarded)
		require.Equal(t, s.counters(t, "weir_receiver_rate_refused_samples_total")["ingestion_rate"], discarded)
		require.GreaterOrEqual(t, discarded, want)
	})
}

// floats is a request of n samples of one series.
func floats(name string, n int) []byte {
	s := series{labels: pairs("__name__", name), floats: make([]proto.Float, n)}
	for i := range s.floats {
		s.floats[i].T = time.Now().UnixMilli() + int64(i)
	}
	return marshal(proto.V1, s)
}

// TestRatesChange: new limits hold for the next request, and fill nothing. Who was
// given a place under the old ones keeps it.
func TestRatesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defaults := tenant.DefaultLimits()
		lim := &defaults
		s := newSetup(t, func(s *setup) { s.limits = func(string) *tenant.Limits { return lim } })
		set := func(rate, burst int) {
			next := *lim
			next.IngestionRate, next.IngestionBurstSize = rate, burst
			lim = &next
		}
		made := map[string][]byte{}
		bodies := func(name string) []byte {
			if made[name] == nil {
				made[name] = floats(name, 100)
			}
			return made[name]
		}
		send := func(name string) int {
			w := s.send(proto.V1, bodies(name))
			if w.Code == http.StatusTooManyRequests {
				after, err := strconv.Atoi(w.Header().Get("Retry-After"))
				require.NoError(t, err)
				return after
			}
			return 0
		}
		require.Zero(t, send("free"))
		set(10, 1000)
		for i := range 10 {
			require.Zero(t, send(fmt.Sprint("burst ", i)))
		}
		require.Equal(t, 10, send("a"))
		set(20, 1000)
		require.Equal(t, 10, send("b"), "twice as fast, behind the other")
		set(20, 4000)
		require.Equal(t, 15, send("c"), "what the burst has more is not there")
		set(1, 100)
		time.Sleep(10 * time.Second)
		require.Zero(t, send("a"))
		require.Zero(t, send("b"))
		set(0, 0)
		require.Zero(t, send("d"))
	})
}

// TestOwnMetricsAreFree: what weir writes of itself is neither limited nor counted.
func TestOwnMetricsAreFree(t *testing.T) {
	s := newSetup(t, limited(func(l *tenant.Limits) { l.RequestRate, l.RequestBurstSize = 1, 1 }))
	for range 20 {
		require.NoError(t, s.WriteV2(t.Context(), tenant.Anonymous, mixed(proto.V2)))
	}
	require.Equal(t, 204, s.send(proto.V1, one("up")).Code)
}

// TestLimitUsed: from 80 % of a limit on, every answer says so, and metrics do.
func TestLimitUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, limited(func(l *tenant.Limits) { l.RequestRate, l.IngestionRate = 10, 1000 }))
		run := func(perSecond int) (w *httptest.ResponseRecorder) {
			for range 60 * perSecond {
				w = s.send(proto.V1, one("up"))
				require.Equal(t, 204, w.Code)
				time.Sleep(time.Second / time.Duration(perSecond))
			}
			return w
		}
		const header = "X-Weir-Limit-Used"
		require.Empty(t, run(7).Header().Values(header))
		require.Regexp(t, `^request_rate=0\.9\d$`, run(9).Header().Get(header))
		require.Regexp(t, `^request_rate=0\.9\d$`, s.export1(t).Header().Get(header), "also OTLP")
		got := map[string]float64{}
		families, err := s.reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "weir_tenant_limit_used_ratio" {
				for _, m := range f.GetMetric() {
					got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
				}
			}
		}
		require.Len(t, got, 2)
		require.InDelta(t, 0.9, got["anonymous request_rate"], 0.1)
		require.InDelta(t, 0.009, got["anonymous ingestion_rate"], 0.002)
		time.Sleep(time.Minute)
		require.Empty(t, s.send(proto.V1, one("up")).Header().Values(header), "it is over")
	})
}

func (s *setup) export1(t *testing.T) *httptest.ResponseRecorder {
	_, w := s.export(otlpProtobuf, threePoints())
	require.Equal(t, 200, w.Code)
	return w
}

// TestErrorsForPrograms: who asks for JSON gets the error as that, with the limit in
// numbers where there is one.
func TestErrorsForPrograms(t *testing.T) {
	s := newSetup(t, limited(func(l *tenant.Limits) { l.IngestionRate, l.IngestionBurstSize = 1, 1 }))
	get := func(body []byte) (status int, e map[string]any) {
		hr := newRequest(proto.V2, body)
		hr.Header.Set("Accept", "application/json")
		w := s.serve(hr)
		if w.Code != http.StatusNoContent {
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			require.Regexp(t, `^https://.*/docs/errors\.md#`+e["id"].(string)+"$", e["page"])
		}
		return w.Code, e
	}
	status, e := get([]byte("\xff"))
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "weir-request-malformed", e["id"])
	require.NotContains(t, e, "limit")
	require.NotContains(t, e, "retryAfter")

	status, e = get(partly(proto.V2))
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "weir-metric-name-missing", e["id"])
	require.Contains(t, e["message"], "refused 4 samples of this request, stored 4")

	status, e = get(mixed(proto.V2))
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Equal(t, "weir-ingestion-rate", e["id"])
	require.Equal(t, "ingestion_rate", e["limit"])
	require.Equal(t, 1.0, e["maximum"])
	require.Positive(t, e["current"])
	require.True(t, 1 <= e["retryAfter"].(float64) && e["retryAfter"].(float64) <= 15)
}

// near is an ingester of a tenant that is near limits on series.
type near struct{ receiver.Ingester }

func (n near) Write(ctx context.Context, tenantID string, f *proto.Frame, reply *proto.Reply) error {
	err := n.Ingester.Write(ctx, tenantID, f, reply)
	reply.Near = append(reply.Near, proto.Quota{Limit: "max_active_series", Current: 9, Maximum: 10}, proto.Quota{Limit: "label_sets.a", Current: 12, Maximum: 10})
	return err
}

// TestSeriesLimitUsed: answers name limits on series that are near, once, also when
// the ingester was asked twice; behind the rates that are.
func TestSeriesLimitUsed(t *testing.T) {
	s := newSetup(t, func(s *setup) { s.ing = near{s.memory} }, limited(func(l *tenant.Limits) { l.RequestRate, l.RequestBurstSize = 1, 100 }))
	for range 30 {
		w := s.send(proto.V1, one("up"))
		require.Equal(t, 204, w.Code)
		require.Regexp(t, `^(request_rate=\d\.\d\d, )?max_active_series=0\.90, label_sets\.a=1\.20$`, w.Header().Get("X-Weir-Limit-Used"))
	}
	require.Regexp(t, `^request_rate=\d\.\d\d, max_active_series`, s.export1(t).Header().Get("X-Weir-Limit-Used"), "also OTLP")
}
