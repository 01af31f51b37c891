package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/integration/harness"
)

// stream is one sender with series of its own.
type stream struct {
	name     string
	protocol harness.Protocol
	kinds    []sampleKind // of its series, in turn
	series   int
	churn    int  // series replaced by new ones before each request
	late     bool // timestamps up to lateBy before now, in any order

	tenant    string // of whom; anyone while the server asks for none
	exemplars bool   // the last sample of each series in a request carries one
}

// selector selects the stream's series.
func (st stream) selector() string { return fmt.Sprintf(`{__name__="weir_kill", stream=%q}`, st.name) }

// lateBy is well within the default out-of-order window of 10 minutes.
const lateBy = 5 * time.Minute

func streams() []stream {
	histograms := []sampleKind{intHistogram, floatHistogram, customHistogram, gaugeHistogram}
	all := []stream{
		{name: "floats-rw1", protocol: harness.V1, kinds: []sampleKind{float}, series: 80, tenant: "ada", exemplars: true},
		{name: "floats-rw2", protocol: harness.V2, kinds: []sampleKind{float}, series: 80, tenant: "ada"},
		{name: "histograms-rw1", protocol: harness.V1, kinds: histograms, series: 8, tenant: "bob"},
		{name: "histograms-rw2", protocol: harness.V2, kinds: histograms, series: 8, tenant: "ada", exemplars: true},
		{name: "churn-rw1", protocol: harness.V1, kinds: []sampleKind{float}, series: 20, churn: 2, tenant: "bob"},
		{name: "churn-rw2", protocol: harness.V2, kinds: []sampleKind{float, float, float, intHistogram}, series: 20, churn: 2, tenant: "cyd"},
		{name: "late-rw1", protocol: harness.V1, kinds: []sampleKind{float}, series: 40, late: true, tenant: "cyd"},
		{name: "late-rw2", protocol: harness.V2, kinds: []sampleKind{float, float, float, float, intHistogram}, series: 40, late: true, tenant: "bob"},
	}
	if harness.Against() == "prometheus" {
		// Prometheus 3.15 loses late samples when it is killed twice: replay
		// believes a marker in the write-behind log that says "written to a chunk
		// file" although the first kill took that chunk with the write buffer, as
		// soon as a later chunk reached the files.
		all = slices.DeleteFunc(all, func(st stream) bool { return st.late })
	}
	return all
}

// tenants is the configuration that keeps the streams' tenants apart, and all of
// their exemplars.
func tenants() harness.Config {
	return harness.Config{Set: []string{"auth.mode=header", "limits.max_exemplars=1000000"}}
}

// load is all streams writing at once, through kills and restarts.
type load struct {
	t      *testing.T
	ledger *ledger
	cancel context.CancelFunc
	done   sync.WaitGroup

	requests, unanswered, repeated atomic.Int64
	low                            atomic.Bool // the disk is, so that 429 is no error
}

// seedOf returns the seed of a test's random choices and prints it.
// WEIR_TEST_SEED sets it.
func seedOf(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("WEIR_TEST_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("WEIR_TEST_SEED=%d", seed)
	progress(t, "WEIR_TEST_SEED=%d", seed)
	return seed
}

// startLoad starts every stream.
func startLoad(t *testing.T, s *harness.Server, seed uint64) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, ledger: newLedger(seed), cancel: cancel}
	for i, st := range streams() {
		w := &writer{load: l, stream: st, server: s.As(st.tenant), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		for n := range st.series {
			w.ids = append(w.ids, fmt.Sprintf("%s-%d", st.name, n))
		}
		l.done.Go(func() { w.run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
	})
	return l
}

// stop ends the load and waits for the requests in flight.
func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

func (l *load) String() string {
	return fmt.Sprintf("%d requests, %d without an answer, %d of these repeated", l.requests.Load(), l.unanswered.Load(), l.repeated.Load())
}

// writer is a stream at work.
type writer struct {
	*load
	stream
	server *harness.Server // as the stream's tenant
	random *rand.Rand
	ids    []string // of the series that live now
	born   int      // ids given to series that came later
	last   int64    // newest timestamp used, ms
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil && !w.t.Failed() {
		w.replace()
		series, keys := w.request()
		w.ledger.sending(keys)
		if w.deliver(ctx, series) {
			w.ledger.acknowledged(keys)
		}
		w.pause(ctx, time.Duration(2+w.random.IntN(14))*time.Millisecond)
	}
}

func (w *writer) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// replace ends some series and begins others.
func (w *writer) replace() {
	for range w.churn {
		w.born++
		w.ids[w.random.IntN(len(w.ids))] = fmt.Sprintf("%s-new%d", w.name, w.born)
	}
}

// request makes samples for some of the series, one to three each.
func (w *writer) request() ([]harness.Series, []key) {
	var series []harness.Series
	var keys []key
	n := 1 + w.random.IntN(3)
	first := max(time.Now().UnixMilli(), w.last+1)
	w.last = first + int64(n) - 1
	share := 1 + w.random.IntN(len(w.ids))
	for i, id := range w.ids {
		if w.random.IntN(len(w.ids)) >= share {
			continue
		}
		s := harness.Series{Labels: []string{"__name__", "weir_kill", "series", id, "stream", w.name}}
		kind := w.kinds[i%len(w.kinds)]
		for j := range n {
			k := key{id: id, kind: kind, t: first + int64(j)}
			if w.late && !w.pickLate(&k) {
				continue
			}
			s.Samples = append(s.Samples, w.ledger.sample(k))
			keys = append(keys, k)
			if w.late {
				break // a request's samples of a series must ascend
			}
		}
		if len(s.Samples) == 0 {
			continue
		}
		if w.exemplars {
			last := &keys[len(keys)-1]
			last.exemplar = true
			s.Exemplars = append(s.Exemplars, w.ledger.exemplar(*last))
		}
		series = append(series, s)
	}
	return series, keys
}

// pickLate sets a timestamp that the series does not have yet.
func (w *writer) pickLate(k *key) bool {
	k.t = time.Now().UnixMilli() - w.random.Int64N(lateBy.Milliseconds())
	return !w.ledger.has(*k)
}

// deliver sends until it knows that all was stored, or gives up on an answer
// that did not come. It reports whether all was stored.
func (w *writer) deliver(ctx context.Context, series []harness.Series) bool {
	if len(series) == 0 {
		return false
	}
	body := harness.Encode(w.t, w.protocol, series...)
	for {
		w.requests.Add(1)
		// Not ctx: what is in flight when the load stops shall be answered.
		a, err := w.server.Post(context.WithoutCancel(ctx), w.protocol, body)
		switch {
		case err == nil && a.Status == http.StatusNoContent:
			if want := harness.AllWritten(w.protocol, series...); a.Written != want {
				w.t.Errorf("%s: written %+v of %+v", w.name, a.Written, want)
			}
			return true
		case err == nil && a.Status == http.StatusTooManyRequests && w.low.Load():
		case err == nil && a.Status/100 == 4:
			w.t.Errorf("%s: refused: %d %s", w.name, a.Status, a.Body)
			return false
		}
		w.unanswered.Add(1)
		if ctx.Err() != nil || w.random.IntN(3) == 0 {
			return false
		}
		w.repeated.Add(1)
		w.pause(ctx, 20*time.Millisecond)
	}
}
