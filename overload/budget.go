package overload

import (
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/proto"
)

// Budget bounds the requests that are worked on at once, and the bytes that they
// hold. A nil Budget bounds nothing.
//
// It is shared by one rule: a tenant may hold as much as is free. A tenant that
// is alone gets half; k tenants that want all they can get have 1/(k+1) each, and
// as much is always left for one more. So a flood is refused at its own share,
// and whoever holds little is served. (Choudhury and Hahne, Dynamic Queue Length
// Thresholds for Shared-Memory Packet Switches, with alpha = 1: no list of active
// tenants, no share to configure, no queue.)
//
// What is free is the smaller of what is left of the budget and of the headroom
// below the memory limit. When that shrinks, the shares do, and the largest
// holders are refused first.
type Budget struct {
	capacity holding
	refused  [shortages]prometheus.Counter

	mu       sync.Mutex
	used     holding            // guarded by mu
	tenants  map[string]holding // guarded by mu; those that hold something
	headroom int64              // guarded by mu; as last set, less what was taken since
}

type holding struct{ requests, bytes int64 }

// ID is that of the error that Budget refuses with for now.
const ID = "weir-overloaded"

// shortage is what a request was refused for.
type shortage int

const (
	enough shortage = iota
	ofRequests
	ofBytes
	ofMemory
	shortages
)

func newBudget(f promauto.Factory, refused *prometheus.CounterVec, path string, requests int, bytes int64) *Budget {
	b := &Budget{
		capacity: holding{int64(requests), bytes}, tenants: make(map[string]holding), headroom: noLimit,
		refused: [shortages]prometheus.Counter{
			ofRequests: refused.WithLabelValues(path, "requests"),
			ofBytes:    refused.WithLabelValues(path, "bytes"),
			ofMemory:   refused.WithLabelValues(path, "memory"),
		},
	}
	labels := prometheus.Labels{"path": path}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_overload_inflight_requests", ConstLabels: labels,
		Help: "Requests that are worked on or wait for it, by path (write, read).",
	}, func() float64 { return float64(b.inUse().requests) })
	if bytes == math.MaxInt64 {
		return b
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_overload_inflight_bytes", ConstLabels: labels,
		Help: "Bytes that requests hold, compressed and decoded, by path.",
	}, func() float64 { return float64(b.inUse().bytes) })
	f.NewGauge(prometheus.GaugeOpts{
		Name: "weir_overload_inflight_bytes_limit", ConstLabels: labels,
		Help: "Bytes that requests may hold, by path; one tenant at most half of them.",
	}).Set(float64(bytes))
	return b
}

func (b *Budget) inUse() holding {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// setHeadroom says how much memory the process may take before it is short.
func (b *Budget) setHeadroom(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.headroom = bytes
}

// Hold is what one request holds of a Budget. It has one owner.
type Hold struct {
	budget *Budget
	tenant string
	bytes  int64
}

// Enter begins a request of a tenant, which must Leave whatever becomes of it.
// The error is KindUnavailable.
func (b *Budget) Enter(tenant string) (Hold, error) {
	if b == nil {
		return Hold{}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.tenants[tenant]
	free := b.capacity.requests - b.used.requests
	short := enough
	switch {
	case b.headroom <= 0:
		short = ofMemory
	case held.requests >= free:
		short = ofRequests
	}
	if short != enough {
		b.refused[short].Inc()
		return Hold{}, short.refuse(held.requests, max(free, 0))
	}
	held.requests++
	b.used.requests++
	b.tenants[tenant] = held
	return Hold{budget: b, tenant: tenant}, nil
}

// Take adds bytes to what h holds, before memory for them is allocated. The
// error is KindUnavailable when it may pass, and KindTooLarge when the request
// is larger than one tenant may ever hold.
func (h *Hold) Take(bytes int64) error {
	b := h.budget
	if b == nil || bytes <= 0 {
		return nil
	}
	if most := b.capacity.bytes / 2; bytes > most-h.bytes {
		return proto.Errorf(proto.KindTooLarge, "weir-request-too-large",
			"the request needs at least %d bytes of memory, the limit is %d, half of overload.max_inflight_bytes; "+
				"lower max_samples_per_send in the sender's queue_config", h.bytes+bytes, most)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.tenants[h.tenant]
	left := b.capacity.bytes - b.used.bytes
	free, short := left, ofBytes
	if b.headroom < left {
		free, short = b.headroom, ofMemory
	}
	if held.bytes+bytes > free-bytes {
		b.refused[short].Inc()
		return short.refuse(held.bytes, max(free, 0))
	}
	held.bytes += bytes
	h.bytes += bytes
	b.used.bytes += bytes
	b.headroom -= bytes
	b.tenants[h.tenant] = held
	return nil
}

// Leave gives back what h holds. The zero Hold holds nothing.
func (h *Hold) Leave() {
	b := h.budget
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held := b.tenants[h.tenant]
	held.requests--
	held.bytes -= h.bytes
	b.used.requests--
	b.used.bytes -= h.bytes
	b.headroom += h.bytes
	if held == (holding{}) {
		delete(b.tenants, h.tenant)
	} else {
		b.tenants[h.tenant] = held
	}
	*h = Hold{}
}

// refuse says what was short, and how the tenant stands.
func (s shortage) refuse(held, free int64) error {
	switch s {
	case ofRequests:
		return proto.Errorf(proto.KindUnavailable, ID,
			"the server works on %d requests of this tenant and has room for %d more in all; send fewer at once, or repeat the request later", held, free)
	case ofBytes:
		return proto.Errorf(proto.KindUnavailable, ID,
			"the server holds %d bytes of this tenant's requests and has room for %d more in all; repeat the request later", held, free)
	default:
		return proto.Errorf(proto.KindUnavailable, ID,
			"the server is short of memory: %d bytes are left for requests, this tenant holds %d; repeat the request later", free, held)
	}
}
