package cardinality

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"github.com/weir-metrics/weir/proto"
)

const hour, day = 60, 24 * 60

// world is what sends to a tenant: series that appear and end, minute by minute,
// and are counted as a series table counts them.
type world struct {
	*Active
	minute  int
	classes map[string]Class         // counted in
	sending map[string]labels.Labels // until told to stop
	ended   map[int][]string         // to be counted out, by minute
	refused map[string]labels.Labels
	known   map[string]bool // stored
	most    int
	lost    int // series of other metrics than shop_orders_total that were refused
}

func newWorld(limits Limits) *world {
	return &world{
		Active: NewActive(limits, 0), classes: map[string]Class{}, sending: map[string]labels.Labels{},
		ended: map[int][]string{}, refused: map[string]labels.Labels{}, known: map[string]bool{},
	}
}

func idOf(key string) proto.Hash {
	h := xxh3.HashString128(key)
	return proto.Hash{Hi: h.Hi, Lo: h.Lo}
}

// series begins to send, or goes on.
func (w *world) series(name string, pairs ...string) {
	ls := labels.FromStrings(append([]string{model.MetricNameLabel, name}, pairs...)...)
	w.offer(string(ls.Bytes(nil)), ls)
}

func (w *world) offer(key string, ls labels.Labels) {
	w.sending[key] = ls
	if _, ok := w.classes[key]; ok {
		return
	}
	c, v := w.Admit(idOf(key), ls, "test/1", func() bool { return w.known[key] })
	if v.Reason != proto.OK {
		if ls.Get(model.MetricNameLabel) != explodes {
			w.lost++
		}
		w.refused[key] = ls
		return
	}
	w.classes[key] = c
	w.known[key] = true
	delete(w.refused, key)
}

// end stops those series that match.
func (w *world) end(match func(labels.Labels) bool) {
	for key, ls := range w.sending {
		if match(ls) {
			delete(w.sending, key)
			delete(w.refused, key)
			w.ended[w.minute+21] = append(w.ended[w.minute+21], key)
		}
	}
}

func with(name, value string) func(labels.Labels) bool {
	return func(ls labels.Labels) bool { return ls.Get(name) == value }
}

func withPrefix(name, prefix string) func(labels.Labels) bool {
	return func(ls labels.Labels) bool { return strings.HasPrefix(ls.Get(name), prefix) }
}

// run lets minutes pass, in each of which happen is called.
func (w *world) run(minutes int, happen func(w *world, minute int)) {
	for range minutes {
		w.minute++
		w.NextMinute(w.minute)
		for _, key := range w.ended[w.minute] {
			if c, ok := w.classes[key]; ok && w.sending[key].IsEmpty() {
				w.Expire(c)
				delete(w.classes, key)
			}
		}
		delete(w.ended, w.minute)
		for key, ls := range w.refused {
			w.offer(key, ls)
		}
		happen(w, w.minute)
		w.most = max(w.most, w.Total())
	}
}

// explodes is the metric of the traces that explode. In all traces there is much
// else besides.
const explodes = "shop_orders_total"

// settled is a tenant that has run for some hours.
func settled() *world {
	w := newWorld(Limits{Quarantine: QuarantineEnforce})
	w.run(5*hour, func(w *world, minute int) {
		if minute == 1 {
			w.service("shop", 10, 20)
			w.service("cart", 30, 10)
		}
	})
	return w
}

// service has pods, each with a series of some metrics for each of paths.
func (w *world) service(job string, pods, paths int) {
	for p := range pods {
		w.pod(job, fmt.Sprintf("%s-%d", job, p), paths)
	}
}

func (w *world) pod(job, pod string, paths int) {
	for i := range paths {
		for _, name := range []string{"up", job + "_orders_total", job + "_errors_total"} {
			w.series(name, "job", job, "pod", pod, "instance", pod+":8080", "path", fmt.Sprint("/p", i))
		}
	}
}

func (w *world) order(n int, pairs ...string) {
	w.series(explodes, append([]string{"job", "shop", "pod", fmt.Sprint("shop-", n%10), "instance", fmt.Sprint("shop-", n%10, ":8080")}, pairs...)...)
}

type trace struct {
	name    string
	minutes int
	happen  func(w *world, minute int) // minutes since the world was settled, from 1
}

// every calls f n times in each minute, with numbers that never repeat.
func every(n int, f func(w *world, i int)) func(*world, int) {
	return func(w *world, minute int) {
		for i := range n {
			f(w, minute*n+i)
		}
	}
}

// once calls f in the first minute.
func once(f func(w *world)) func(*world, int) {
	return func(w *world, minute int) {
		if minute == 1 {
			f(w)
		}
	}
}

var explosions = []struct {
	trace
	labels []string
}{
	{trace{"request ids, sudden", 30, every(2000, func(w *world, i int) { w.order(i, "request_id", fmt.Sprint(i)) })}, []string{"request_id"}},
	{trace{"request ids, each sent once", 30, func(w *world, minute int) {
		w.end(func(ls labels.Labels) bool { return ls.Has("request_id") })
		for i := range 2000 {
			w.order(i, "request_id", fmt.Sprint(minute, "-", i))
		}
	}}, []string{"request_id"}},
	{trace{"a flood within one minute", 1, every(120_000, func(w *world, i int) { w.order(i, "request_id", fmt.Sprint(i)) })}, []string{"request_id"}},
	{trace{"slow leak of sessions", 6 * hour, every(30, func(w *world, i int) { w.order(i, "session", fmt.Sprint(i)) })}, []string{"session"}},
	{trace{"slower leak", 20 * hour, every(8, func(w *world, i int) { w.order(i, "session", fmt.Sprint(i)) })}, []string{"session"}},
	{trace{"leak with five series each", 6 * hour, every(10, func(w *world, i int) {
		for s := range 5 {
			w.order(i, "customer", fmt.Sprint(i), "status", fmt.Sprint(200+s))
		}
	})}, []string{"customer"}},
	{trace{"two labels that go together", 30, every(2000, func(w *world, i int) { w.order(i, "user", fmt.Sprint(i), "email", fmt.Sprint(i, "@example.org")) })}, []string{"user", "email"}},
	{trace{"two labels, leaking together", 8 * hour, every(25, func(w *world, i int) { w.order(i, "user", fmt.Sprint(i), "email", fmt.Sprint(i, "@example.org")) })}, []string{"user", "email"}},
	{trace{"two labels whose product grows", 60, every(900, func(w *world, i int) {
		w.order(0, "source", fmt.Sprint(i*7919%400), "target", fmt.Sprint(i*104729/400%400))
	})}, []string{"source", "target"}},
	{trace{"a new metric from its first minute", 20, every(3000, func(w *world, i int) {
		w.series(explodes, "job", "new", "instance", "a:1", "trace_id", fmt.Sprint(i))
	})}, []string{"trace_id"}},
	{trace{"addresses in paths", 40, every(800, func(w *world, i int) { w.order(i, "path", fmt.Sprint("/users/", i, "/avatar"), "status", "200") })}, []string{"path"}},
	{trace{"messages of errors", 60, every(600, func(w *world, i int) {
		w.order(i, "error", fmt.Sprint("timeout after ", i, " ns"), "code", fmt.Sprint(i%7))
	})}, []string{"error"}},
	{trace{"without targets", 30, every(1500, func(w *world, i int) { w.series(explodes, "uuid", fmt.Sprint(i)) })}, []string{"uuid"}},
	{trace{"pushed under a new instance each time", 60, every(1500, func(w *world, i int) { w.series(explodes, "instance", fmt.Sprint("fn-", i)) })}, []string{"instance"}},
	{trace{"while pods come and go", 40, func(w *world, minute int) {
		w.pod("shop", fmt.Sprint("shop-x", minute), 20)
		every(1000, func(w *world, i int) { w.order(i, "request_id", fmt.Sprint(i)) })(w, minute)
	}}, []string{"request_id"}},
}

// The traces of churn that is normal.
var churn = []trace{
	{"rolling deploy", 3 * hour, func(w *world, minute int) {
		if minute <= 10 {
			w.end(with("pod", fmt.Sprint("shop-", minute-1)))
			w.pod("shop", fmt.Sprint("shop-v2-", minute), 20)
		}
	}},
	{"rolling deploy of many pods", 3 * hour, func(w *world, minute int) {
		if minute <= 40 {
			for p := range 25 {
				w.pod("big", fmt.Sprint("big-v2-", minute*25+p), 8)
			}
		}
	}},
	{"deploys all day", 8 * hour, func(w *world, minute int) {
		if minute%30 == 0 {
			w.end(with("job", "shop"))
			for p := range 10 {
				w.pod("shop", fmt.Sprint("shop-", minute, "-", p), 20)
			}
		}
	}},
	{"blue and green", 3 * hour, func(w *world, minute int) {
		switch minute {
		case 1:
			for p := range 300 {
				w.pod("cart", fmt.Sprint("green-", p), 10)
			}
		case 15:
			w.end(withPrefix("pod", "cart-"))
		}
	}},
	{"canary", 2 * hour, once(func(w *world) { w.pod("shop", "shop-canary", 20) })},
	{"pods restart under their names", 2 * hour, func(w *world, minute int) {
		if minute%7 == 0 {
			w.end(with("pod", fmt.Sprint("shop-", minute%10)))
		}
		if minute%7 == 1 {
			w.pod("shop", fmt.Sprint("shop-", (minute-1)%10), 20)
		}
	}},
	{"containers restart with new ids", 3 * hour, every(20, func(w *world, i int) {
		w.series("container_cpu", "instance", fmt.Sprint("node-", i%50), "pod", fmt.Sprint("p", i%400), "container_id", fmt.Sprint(i))
	})},
	{"crash loop", 8 * hour, func(w *world, minute int) {
		if minute%5 == 0 {
			for p := range 20 {
				w.pod("shop", fmt.Sprint("crash-", minute, "-", p), 5)
			}
			w.end(withPrefix("pod", fmt.Sprint("crash-", minute-5, "-")))
		}
	}},
	{"autoscaling up", 3 * hour, func(w *world, minute int) {
		if minute <= 20 {
			for p := range 20 {
				w.pod("shop", fmt.Sprint("scaled-", minute, "-", p), 20)
			}
		}
	}},
	{"autoscaling up and down", day, func(w *world, minute int) {
		switch minute % (6 * hour) {
		case 1:
			for p := range 150 {
				w.pod("shop", fmt.Sprint("scaled-", minute, "-", p), 20)
			}
		case 3 * hour:
			w.end(withPrefix("pod", "scaled-"))
		}
	}},
	{"a new service", 3 * hour, once(func(w *world) { w.service("search", 500, 30) })},
	{"a new service, slowly", 3 * hour, func(w *world, minute int) {
		if minute <= 60 {
			for p := range 10 {
				w.pod("search", fmt.Sprint("search-", minute, "-", p), 20)
			}
		}
	}},
	{"routes used for the first time", 4 * hour, func(w *world, minute int) {
		if minute <= 90 { // 40 pods, 15 buckets, ever more of 90 routes
			for p := range 40 {
				for le := range 15 {
					w.series("search_seconds_bucket", "pod", fmt.Sprint("s", p), "instance", fmt.Sprint("s", p, ":1"), "route", fmt.Sprint("/r", minute), "le", fmt.Sprint(le))
				}
			}
		}
	}},
	{"other histogram buckets", 3 * hour, once(func(w *world) {
		for p := range 150 {
			for le := range 80 {
				w.series("cart_seconds_bucket", "pod", fmt.Sprint("cart-", p), "le", fmt.Sprint(le))
			}
		}
	})},
	{"backfill of pods long gone", 2 * hour, func(w *world, minute int) {
		if minute <= 30 {
			for p := range 100 {
				w.pod("old", fmt.Sprint("old-", minute, "-", p), 3)
			}
		}
	}},
	{"backfill at once", hour, once(func(w *world) {
		for i := range 20_000 {
			w.series("sensor_celsius", "site", fmt.Sprint(i/100), "sensor", fmt.Sprint(i))
		}
	})},
	{"cron jobs", 8 * hour, func(w *world, minute int) {
		for j := range 20 {
			w.series("kube_job_status", "instance", "ksm", "namespace", fmt.Sprint("n", j%5), "started", fmt.Sprint(minute), "job_name", fmt.Sprint("job-", j, "-", minute))
		}
		w.end(with("started", fmt.Sprint(minute-30)))
	}},
	{"build runners", 4 * hour, func(w *world, minute int) {
		for j := range 40 {
			w.pod("runner", fmt.Sprint("runner-", minute, "-", j), 2)
		}
		w.end(withPrefix("pod", fmt.Sprint("runner-", minute-10, "-")))
	}},
	{"rollout of all pods of a cluster", 3 * hour, func(w *world, minute int) {
		for j := range 60 {
			if minute <= 40 {
				n := minute*60 + j
				w.series("kube_pod_info", "instance", "ksm", "pod", fmt.Sprint("p", n), "uid", fmt.Sprint("u", n), "pod_ip", fmt.Sprint("10.", n), "node", fmt.Sprint("n", n%50))
			}
		}
	}},
	{"a new cluster", 2 * hour, func(w *world, minute int) {
		if minute <= 2 {
			for n := range 5000 {
				for _, phase := range []string{"Pending", "Running", "Failed"} {
					w.series("kube_pod_status_phase", "instance", "ksm", "cluster", "c2", "pod", fmt.Sprint("p", n), "uid", fmt.Sprint("u", n), "phase", phase)
				}
			}
		}
	}},
	{"upgrade of all nodes", 4 * hour, func(w *world, minute int) {
		if minute <= 100 {
			for c := range 80 {
				w.series("container_memory", "instance", fmt.Sprint("node2-", minute), "pod", fmt.Sprint("p", minute, "-", c), "id", fmt.Sprint("/kube/", minute, "-", c))
			}
			w.end(with("instance", fmt.Sprint("node1-", minute)))
		}
	}},
	{"spot instances", 6 * hour, func(w *world, minute int) {
		for j := range 30 {
			w.series("node_cpu", "instance", fmt.Sprint("spot-", minute, "-", j), "cpu", "0")
			w.series("node_cpu", "instance", fmt.Sprint("spot-", minute, "-", j), "cpu", "1")
		}
		w.end(withPrefix("instance", fmt.Sprint("spot-", minute-60, "-")))
	}},
	{"more customers, month by month", 2 * day, every(1, func(w *world, i int) {
		if i == 1 {
			for c := range 3000 {
				w.order(c, "customer", fmt.Sprint("c", c))
			}
		}
		if i%20 == 0 {
			w.order(i, "customer", fmt.Sprint("new", i))
		}
	})},
	{"customers in office hours", 3 * day, func(w *world, minute int) {
		switch m := minute % day; {
		case m >= 8*hour && m < 10*hour:
			for c := range 35 {
				w.order(c, "customer", fmt.Sprint((m-8*hour)*35+c))
			}
		case m == 18*hour:
			w.end(func(ls labels.Labels) bool { return ls.Has("customer") })
		}
	}},
	{"an outage, and everything comes back", 4 * hour, func(w *world, minute int) {
		switch minute {
		case 1:
			w.service("many", 100, 60)
		case 2 * hour:
			w.end(with("job", "many"))
		case 3 * hour:
			w.service("many", 100, 60)
		}
	}},
	{"a sender that catches up in shards", 2 * hour, func(w *world, minute int) {
		if minute <= 4 {
			for c := range 1500 {
				w.series("tables_rows", "instance", fmt.Sprint("db", minute), "table", fmt.Sprint("t", c))
			}
		}
	}},
	{"a label for the version", 3 * hour, once(func(w *world) {
		w.end(with("job", "cart"))
		for p := range 30 {
			for i := range 300 {
				w.series("cart_orders_total", "job", "cart", "pod", fmt.Sprint("cart-", p), "path", fmt.Sprint("/p", i), "version", "2")
			}
		}
	})},
	{"a metric gets another name", 3 * hour, func(w *world, minute int) {
		if minute <= 2 {
			for c := range 4000 {
				w.series("orders_v2_total", "instance", "a", "customer", fmt.Sprint("c", minute*4000+c))
			}
		}
	}},
	{"partitions of new topics", 2 * hour, once(func(w *world) {
		for t := range 60 {
			for p := range 100 {
				w.series("kafka_offset", "instance", fmt.Sprint("k", p%9), "topic", fmt.Sprint("t", t), "partition", fmt.Sprint(p))
			}
		}
	})},
	{"feature flags", 5 * hour, func(w *world, minute int) {
		if minute <= 200 {
			for p := range 50 {
				w.series("flag_evaluations", "pod", fmt.Sprint("p", p), "flag", fmt.Sprint("f", minute))
			}
		}
	}},
	{"a load test", 3 * hour, func(w *world, minute int) {
		if minute <= 5 {
			for p := range 200 {
				w.pod("shop", fmt.Sprint("load-", minute, "-", p), 8)
			}
		}
		if minute == hour {
			w.end(withPrefix("pod", "load-"))
		}
	}},
	{"a tenant moves in", 2 * hour, func(w *world, minute int) {
		if minute <= 5 {
			for m := range 40 {
				for p := range 100 {
					w.series(fmt.Sprint("moved_", m), "instance", fmt.Sprint("i", minute*100+p), "region", "eu")
				}
			}
		}
	}},
}

// inPart skips most traces under -short, which is for the race detector: minutes
// of what has no goroutines.
func inPart(t *testing.T, i int) {
	if testing.Short() && i%8 > 0 {
		t.Skip("in part")
	}
}

// Every explosion is found and held back, whatever else goes on, and only what it
// consists of.
func TestExplosions(t *testing.T) {
	for i, c := range explosions {
		t.Run(c.name, func(t *testing.T) {
			inPart(t, i)
			t.Parallel()
			w := settled()
			known := w.Total()
			begin := w.minute
			w.run(c.minutes, func(w *world, minute int) { c.happen(w, minute-begin) })
			qs := w.Quarantines()
			require.Len(t, qs, 1)
			q := qs[0]
			require.Equal(t, explodes, q.Metric)
			require.ElementsMatch(t, c.labels, q.Labels)
			require.Zero(t, q.Ended)
			require.Len(t, q.Examples, maxExamples)
			require.Equal(t, "test/1", q.Sender)
			require.Zero(t, w.lost, "series of other metrics")
			t.Logf("found after %d minutes with %d series of the metric; %d before, %d at most in all",
				q.Began-begin, q.Series, q.Base, w.most)
			require.GreaterOrEqual(t, w.Total(), known)
			before := len(w.refused)
			w.series(explodes, "job", "another")
			require.Len(t, w.refused, before, "it has none of the labels")
		})
	}
}

func TestNormalChurn(t *testing.T) {
	require.GreaterOrEqual(t, len(churn), 30)
	for i, c := range churn {
		t.Run(c.name, func(t *testing.T) {
			inPart(t, i)
			t.Parallel()
			w := settled()
			begin := w.minute
			w.run(c.minutes, func(w *world, minute int) { c.happen(w, minute-begin) })
			require.Empty(t, w.Quarantines())
			require.Empty(t, w.refused)
			t.Logf("at most %d series", w.most)
		})
	}
}

// A quarantine ends by itself when the series stop coming, also those that were
// sent all the time, and the next explosion is found again.
func TestQuarantineEnds(t *testing.T) {
	for name, share := range map[string]int{"each sent once": 1, "each sent again and again": 0} {
		t.Run(name, func(t *testing.T) {
			w := settled()
			burst := func(w *world, minute int) {
				if share == 1 {
					w.end(func(ls labels.Labels) bool { return ls.Has("request_id") })
				}
				for i := range 1000 {
					w.order(i, "request_id", fmt.Sprint(minute, "-", i))
				}
			}
			w.run(25, burst)
			require.Zero(t, w.Quarantines()[0].Ended, "it goes on")
			require.Len(t, w.News(), 1)
			if share == 0 {
				w.run(30, func(*world, int) {})
				require.Zero(t, w.Quarantines()[0].Ended, "those that are held back are still sent")
			}
			w.end(func(ls labels.Labels) bool { return ls.Has("request_id") })
			w.run(2*calmMinutes+1, func(*world, int) {})
			q := w.Quarantines()[0]
			require.NotZero(t, q.Ended)
			require.False(t, q.Released)
			require.NotZero(t, q.Held)
			require.Len(t, w.News(), 1)
			w.order(1, "request_id", "late")
			require.Empty(t, w.refused)
			w.run(25, burst)
			require.Len(t, w.Quarantines(), 2)
		})
	}
}

// An operator can end it, and nothing of the metric is held back for a day.
func TestQuarantineReleased(t *testing.T) {
	w := settled()
	grow := every(2000, func(w *world, i int) { w.order(i, "request_id", fmt.Sprint(i)) })
	w.run(20, grow)
	require.NotEmpty(t, w.refused)
	require.False(t, w.Release("up"))
	require.True(t, w.Release(explodes))
	w.run(30, grow)
	require.Empty(t, w.refused)
	require.Len(t, w.Quarantines(), 1)
	require.True(t, w.Quarantines()[0].Released)
}

// Modes that hold nothing back.
func TestQuarantineModes(t *testing.T) {
	for mode, events := range map[QuarantineMode]int{QuarantineReport: 1, QuarantineOff: 0} {
		w := settled()
		require.True(t, w.SetLimits(Limits{Quarantine: mode}))
		w.run(20, every(2000, func(w *world, i int) { w.order(i, "request_id", fmt.Sprint(i)) }))
		require.Empty(t, w.refused)
		require.Len(t, w.Quarantines(), events)
	}
}

// What the detector takes is bounded, however many metrics explode with however
// many labels.
func TestDetectorMemory(t *testing.T) {
	a := NewActive(Limits{Quarantine: QuarantineReport}, 0)
	a.NextMinute(youngMinutes)
	pairs := func(m, i int) labels.Labels {
		ls := []string{model.MetricNameLabel, fmt.Sprint("m", m)}
		for l := range 40 {
			ls = append(ls, fmt.Sprint("l", l), fmt.Sprint(i))
		}
		return labels.FromStrings(ls...)
	}
	heap := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for m := range 100 {
		a.Classify(pairs(m, 0))
	}
	before := heap()
	for m := range 100 {
		for i := range 2000 {
			ls := pairs(m, i)
			a.Admit(idOf(fmt.Sprint(m, i)), ls, "", func() bool { return false })
		}
	}
	took := heap() - before
	require.Equal(t, maxSuspects, a.suspects)
	require.Less(t, took, 512<<10)
	t.Logf("%d KiB for %d suspects", took>>10, a.suspects)
	runtime.KeepAlive(a)
}

// Sketches count to within 20 %, of sums of hashes too.
func TestSketch(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10, 100, 400, 640, 1000, 2500, 10_000, 100_000} {
		var s, sums sketch
		for i := range n {
			h := xxh3.HashString(fmt.Sprint(i))
			for range 3 { // what repeats counts once
				s.add(h)
				sums.add(h + 12345)
			}
		}
		for _, got := range []float64{s.count(), sums.count()} {
			require.InDelta(t, n, got, max(0.5, 0.2*float64(n)), "%d", n)
		}
	}
}

// A new series costs this much, without a suspect and with one.
func BenchmarkAdmit(b *testing.B) {
	for _, suspects := range []bool{false, true} {
		b.Run(fmt.Sprintf("suspect=%t", suspects), func(b *testing.B) {
			a := NewActive(Limits{Quarantine: QuarantineReport, Series: 1 << 40, PerMetric: 1 << 40}, 0)
			a.NextMinute(youngMinutes)
			ls := labels.FromStrings(model.MetricNameLabel, "bench_total", "cluster", "eu-west-1", "container", "server",
				"endpoint", "http", "instance", "10.0.1.2:8080", "job", "bench", "method", "GET",
				"namespace", "production", "pod", "server-1", "route", "/api/v1/things", "service", "server", "status", "200")
			a.Classify(ls)
			if suspects {
				a.suspectOf(a.metrics["bench_total"])
			}
			i := uint64(0)
			for b.Loop() {
				if i++; !suspects {
					a.metrics["bench_total"].created = 0
				}
				a.Admit(proto.Hash{Lo: i}, ls, "", func() bool { return false })
			}
		})
	}
}

// Labels may be long, and events are kept: they show the beginning of a series.
func TestLongExamples(t *testing.T) {
	var s suspect
	for _, n := range []int{10, 10_000, 10_000} {
		s.add(labels.FromStrings("__name__", "m", "a", "x"+strings.Repeat("é", n)), "test/1")
	}
	require.Equal(t, `{__name__="m", a="xéééééééééé"}`, s.examples[0])
	require.LessOrEqual(t, len(s.examples[1]), maxExampleBytes+len("…"))
	require.True(t, utf8.ValidString(s.examples[1]))
}
