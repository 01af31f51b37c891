package ledger_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/proto"
)

func newLedger() *ledger.Ledger { return ledger.New(prometheus.NewRegistry()) }

var agent = ledger.Sender{Credential: "ci", UserAgent: "Prometheus/3.15.0", Address: "10.0.0.1", Protocol: "2.0"}

// request is one of agent of which x was refused.
func request(id string, x ...ledger.Refused) *ledger.Request {
	return &ledger.Request{
		Sender: agent, ID: id, Encoding: "snappy", Newest: ledger.NoTime, Refused: x,
		Example: func(x *ledger.Refused) ([]ledger.Label, string) {
			return []ledger.Label{{Name: "__name__", Value: x.Metric}, {Name: "request", Value: id}}, "detail of " + id
		},
	}
}

func refused(reason proto.Reason, metric string, n int) ledger.Refused {
	return ledger.Refused{Reason: reason, Metric: metric, Counts: proto.Counts{Samples: n}, T: 1000}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		start := time.Now()
		l.Record("a", request("r1", refused(proto.SampleTooOld, "up", 2), refused(proto.LabelsTooMany, "up", 1)))
		time.Sleep(time.Second)
		l.Record("a", request("r2", refused(proto.SampleTooOld, "up", 3)))
		other := request("r3", refused(proto.SampleTooOld, "up", 5))
		other.Sender.Address = "10.0.0.2"
		time.Sleep(time.Second)
		l.Record("a", other)

		got := l.Refusals("a")
		require.Len(t, got, 3)
		require.Equal(t, "10.0.0.2", got[0].Sender.Address, "the newest first")
		require.Equal(t, ledger.Refusal{
			Reason: "weir-sample-too-old", Metric: "up", Sender: agent, Requests: 2, Counts: proto.Counts{Samples: 5},
			First: start, Last: start.Add(time.Second),
			Example: ledger.Example{
				Labels: []ledger.Label{{Name: "__name__", Value: "up"}, {Name: "request", Value: "r1"}}, Timestamp: 1000,
				Detail: "detail of r1", RequestID: "r1", At: start,
			},
		}, got[1])
		require.Equal(t, "weir-labels-too-many", got[2].Reason)
		require.Empty(t, l.Refusals("b"), "of another tenant")

		time.Sleep(time.Minute)
		l.Record("a", request("r4", refused(proto.SampleTooOld, "up", 1)))
		require.Equal(t, "r4", l.Refusals("a")[0].Example.RequestID, "an example does not grow old")
	})
}

// TestRequestRefused: a request that is refused as a whole is a refusal without a
// metric.
func TestRequestRefused(t *testing.T) {
	l := newLedger()
	rq := request("r1")
	rq.Err = proto.Errorf(proto.KindLimit, "weir-test", "the limit is 3")
	l.Record("a", rq)
	got := l.Refusals("a")
	require.Len(t, got, 1)
	require.Equal(t, "weir-test", got[0].Reason)
	require.Empty(t, got[0].Metric)
	require.Equal(t, "the limit is 3", got[0].Example.Detail)
	require.Equal(t, 1, l.Senders("a")[0].Failed)
	require.Equal(t, "weir-test", l.Senders("a")[0].LastError.ID)
}

func TestSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		start := time.Now()
		rq := request("r1", refused(proto.SampleTooOld, "up", 2))
		rq.Written, rq.Newest = proto.Counts{Samples: 7, Exemplars: 1}, start.Add(-3*time.Second).UnixMilli()
		l.Record("a", rq)
		time.Sleep(time.Minute)
		l.Record("a", &ledger.Request{Sender: agent, ID: "r2", Encoding: "zstd", Attempt: 2, Newest: ledger.NoTime})
		got := l.Senders("a")
		require.Len(t, got, 1)
		require.Equal(t, 3*time.Second, got[0].Lag())
		require.Equal(t, ledger.SenderStatus{
			Sender: agent, Encoding: "zstd", First: start, Last: start.Add(time.Minute), Requests: 2, Retries: 1, Written: 8, Refused: 2,
			LastError: &ledger.LastError{ID: "weir-sample-too-old", Detail: "detail of r1", At: start, RequestID: "r1"},
			Newest:    rq.Newest, NewestAt: start,
		}, got[0])

		time.Sleep(24 * time.Hour)
		require.Len(t, l.Senders("a"), 1)
		time.Sleep(time.Second)
		require.Empty(t, l.Senders("a"), "forgotten after a day")
		require.Len(t, l.Refusals("a"), 1, "what was refused is remembered")
	})
}

// TestDropsAreNoErrors: what rules drop with every request does not hide the last
// error of a sender.
func TestDropsAreNoErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		drop := refused(proto.RelabelDropped, "go_gc", 3)
		l.Record("a", request("r1", drop))
		require.Nil(t, l.Senders("a")[0].LastError)
		l.Record("a", request("r2", drop, refused(proto.SampleTooOld, "up", 1)))
		time.Sleep(time.Minute)
		l.Record("a", request("r3", drop))
		require.Equal(t, "weir-sample-too-old", l.Senders("a")[0].LastError.ID)
		require.Equal(t, 10, l.Senders("a")[0].Refused)
	})
}

func TestLag(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for _, c := range []struct {
		name   string
		newest int64
		want   time.Duration
	}{
		{"none", ledger.NoTime, 0},
		{"behind", now.UnixMilli() - 1500, 1500 * time.Millisecond},
		{"ahead", now.UnixMilli() + 60_000, -time.Minute},
		{"beyond what a duration holds", 1<<63 - 1, -100 * 365 * 24 * time.Hour},
		{"long before 1970", ledger.NoTime + 1, 100 * 365 * 24 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := ledger.SenderStatus{Newest: c.newest, NewestAt: now}
			require.Equal(t, c.want, s.Lag())
		})
	}
}

// TestBytes: nothing that a sender can make long is kept as long as it is, and
// all that is kept can be shown.
func TestBytes(t *testing.T) {
	long := strings.Repeat("\xffé", 1<<20)
	rq := &ledger.Request{
		Sender: ledger.Sender{long, long, long, long}, ID: long, Encoding: long, Newest: ledger.NoTime,
		Refused: []ledger.Refused{refused(proto.LabelsTooMany, long, 1)},
		Example: func(*ledger.Refused) (ls []ledger.Label, detail string) {
			for range 10_000 {
				ls = append(ls, ledger.Label{Name: long, Value: long})
			}
			return ls, long
		},
	}
	l := newLedger()
	l.Record("a", rq)
	r, s := l.Refusals("a")[0], l.Senders("a")[0]
	bytes := len(r.Metric) + len(r.Example.Detail) + len(r.Example.RequestID) + len(s.LastError.Detail) + len(s.Encoding)
	for _, l := range r.Example.Labels {
		bytes += len(l.Name) + len(l.Value)
		require.True(t, utf8.ValidString(l.Name+l.Value))
	}
	for _, text := range []string{s.Credential, s.UserAgent, s.Address, s.Protocol} {
		bytes += len(text)
	}
	require.Less(t, bytes, 4<<10)
	require.NotEmpty(t, r.Example.Labels)
	require.True(t, utf8.ValidString(r.Example.Detail))

	l.Record("a", rq)
	require.Len(t, l.Senders("a"), 1, "what is cut is found again")
	require.Len(t, l.Refusals("a"), 1)
}

// TestFloodOfMetrics: a million distinct refusals take no more memory than some
// hundred, and do not hide those for other reasons.
func TestFloodOfMetrics(t *testing.T) {
	l := newLedger()
	l.Record("a", request("rare", refused(proto.SampleDuplicate, "rare", 1)))
	flood := func(from, n int) {
		for i := from; i < from+n; i += 1000 {
			rq := request("flood")
			for j := range 1000 {
				rq.Refused = append(rq.Refused, refused(proto.LabelsTooMany, fmt.Sprintf("metric_%d", i+j), 1))
			}
			l.Record("a", rq)
		}
	}
	flood(0, 10_000)
	before := heap()
	flood(10_000, 1_000_000)
	grown := heap() - before
	require.Less(t, grown, 1<<20, "bytes")
	got := l.Refusals("a")
	require.Len(t, got, ledger.MaxRefusals)
	reasons := map[string]int{}
	for _, r := range got {
		reasons[r.Reason]++
	}
	require.Equal(t, map[string]int{"weir-labels-too-many": ledger.MaxRefusals - 1, "weir-sample-duplicate": 1}, reasons)
	runtime.KeepAlive(l)
}

// TestFloodOfSenders: the same for senders, who can call themselves as they like.
func TestFloodOfSenders(t *testing.T) {
	l := newLedger()
	flood := func(from, n int) {
		for i := from; i < from+n; i++ {
			rq := request("flood", refused(proto.LabelsTooMany, "up", 1))
			rq.Sender.UserAgent = fmt.Sprintf("agent/%d", i)
			l.Record("a", rq)
		}
	}
	flood(0, 10_000)
	before := heap()
	flood(10_000, 100_000)
	require.Less(t, heap()-before, 1<<20, "bytes")
	require.Len(t, l.Senders("a"), ledger.MaxSenders)
	require.Equal(t, "agent/109999", l.Senders("a")[0].UserAgent)
	require.Len(t, l.Refusals("a"), ledger.MaxRefusals)
}

// TestFloodOfTenants: there are only so many rows of all tenants together; those
// who wrote last keep theirs.
func TestFloodOfTenants(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := ledger.New(reg)
	for i := range 60_000 {
		l.Record(fmt.Sprintf("tenant-%d", i), request("r", refused(proto.LabelsTooMany, "up", 1)))
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Equal(t, 50_000.0, families[0].GetMetric()[0].GetGauge().GetValue())
	require.Len(t, l.Refusals("tenant-59999"), 1)
	require.Len(t, l.Refusals("tenant-35000"), 1)
	require.Empty(t, l.Refusals("tenant-34999"))
	require.Empty(t, l.Senders("tenant-0"))
}

func TestConcurrency(t *testing.T) {
	l := newLedger()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				tenant := fmt.Sprint(j % 3)
				rq := request("r", refused(proto.Reason(1+j%5), fmt.Sprintf("m_%d", j%40), 1))
				rq.Sender.UserAgent = fmt.Sprint(i)
				l.Record(tenant, rq)
				for _, r := range l.Refusals(tenant) {
					_ = r.Example.Detail
				}
				for _, s := range l.Senders(tenant) {
					_ = s.LastError.Detail
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for tenant := range 3 {
		for _, s := range l.Senders(fmt.Sprint(tenant)) {
			total += s.Requests
		}
	}
	require.Equal(t, 4000, total)
}

// TestSlowExample: a tenant whose examples take long keeps no other waiting.
func TestSlowExample(t *testing.T) {
	l := newLedger()
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := request("slow", refused(proto.LabelsTooMany, "up", 1))
	slow.Example = func(*ledger.Refused) ([]ledger.Label, string) {
		asked <- struct{}{}
		<-answer
		return nil, ""
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Record("slow", slow)
	}()
	<-asked
	l.Record("b", request("quick", refused(proto.LabelsTooMany, "up", 1)))
	require.Len(t, l.Refusals("b"), 1)
	go func() { // the sender's last error, and the row's example
		<-asked
		answer <- struct{}{}
	}()
	answer <- struct{}{}
	<-done
	require.Len(t, l.Refusals("slow"), 1)
}

// TestAllocations: a request of a known sender of which nothing was refused takes
// no memory, and one that is refused as before hardly any.
func TestAllocations(t *testing.T) {
	l := newLedger()
	good := &ledger.Request{Sender: agent, ID: "r", Encoding: "snappy", Newest: 1, Written: proto.Counts{Samples: 2000}}
	l.Record("a", good)
	require.Zero(t, testing.AllocsPerRun(100, func() { l.Record("a", good) }))
	bad := request("r")
	for i := range 100 {
		bad.Refused = append(bad.Refused, refused(proto.LabelsTooMany, fmt.Sprint("m_", i), 1))
	}
	l.Record("a", bad)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { l.Record("a", bad) }), 1.0)
}

func BenchmarkRecord(b *testing.B) {
	b.Run("good", func(b *testing.B) {
		l := newLedger()
		rq := &ledger.Request{Sender: agent, ID: "r", Encoding: "snappy", Newest: 1, Written: proto.Counts{Samples: 2000}}
		b.ReportAllocs()
		for b.Loop() {
			l.Record("a", rq)
		}
	})
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("refused metrics=%d", n), func(b *testing.B) {
			l := newLedger()
			rq := request("r")
			for i := range n {
				rq.Refused = append(rq.Refused, refused(proto.LabelsTooMany, fmt.Sprint("m_", i), 1))
			}
			b.ReportAllocs()
			for b.Loop() {
				l.Record("a", rq)
			}
		})
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
