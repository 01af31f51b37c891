// Package ledger remembers, for each tenant, what was refused of its writes and
// who sends to it, for people who ask why a sample is missing.
//
//	receiver ── Request ──> Ledger.Record ──┬─ refusals, by reason, metric and sender (refusals.go)
//	                                        └─ senders (senders.go)
//	api <── Refusals, Senders ──────────────┘
//
// It is in memory only, and bounded: of each tenant the newest refusals and
// senders, of all tenants together those who wrote last. It is fed once for each
// request, not for each sample, and takes no memory for a request of a sender it
// knows of which nothing was refused.
package ledger

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/proto"
)

const (
	// MaxRefusals and MaxSenders are kept of one tenant, each of at most some 2 KiB.
	MaxRefusals = 256
	MaxSenders  = 256

	// maxRows are kept of all tenants together: room for 10,000 tenants with a few
	// senders each, about 40 MiB as they come, twice that at worst.
	maxRows = 50_000

	// forgetSender is after how long a sender that is silent is forgotten: an
	// address that a scheduler gave it is another's by then.
	forgetSender = 24 * time.Hour
)

// Bytes kept of what a sender can make as long as it likes.
const (
	maxNameBytes   = 128 // user agent, credential, address, request id, metric name
	maxDetailBytes = 512
	maxLabelsBytes = 1024 // of one example
)

// Request is what one write request adds to the ledger. Its strings may be views:
// what is kept is copied.
type Request struct {
	Sender   Sender
	ID       string // of the request, as its answer and our log name it
	Encoding string // of its body
	Attempt  int    // how often it was sent before, by its own word
	Newest   int64  // timestamp of its newest sample, ms; NoTime: none was read
	Written  proto.Counts
	// Err is why nothing was stored, or why a part is to be sent again; nil: neither.
	Err *proto.Error
	// Refused is what was refused of it for what it is.
	Refused []Refused
	// Example describes one of Refused. It is called for those of which an example
	// is wanted, before Record returns.
	Example func(*Refused) (ls []Label, detail string)
}

// NoTime is the time of no sample.
const NoTime = -1 << 63

// Refused is what was refused of the series of one metric for one reason.
type Refused struct {
	Reason proto.Reason
	Metric string // "" of series without a name, and of what is no series; AnyMetric
	Ref    int    // what the caller knows one of them by, for Example
	Counts proto.Counts
	T      int64 // of the first sample, ms; 0: the series was refused as such
}

// AnyMetric stands for the series of a request beyond those that were looked at.
const AnyMetric = "*"

// Ledger is safe for concurrent use.
type Ledger struct {
	mu    sync.Mutex
	books map[string]*list.Element // of order, by tenant; guarded by mu
	order *list.List               // of *book, the one written to last first; guarded by mu
	rows  int                      // of all books in books; guarded by mu
}

// book is what is remembered of one tenant. It has a lock of its own, because what
// is asked of a request while it is held, for examples, takes a tenant's rules and
// so a tenant's time.
type book struct {
	tenant string
	rows   int // as they are counted in Ledger.rows; guarded by Ledger.mu

	mu       sync.Mutex // never taken with Ledger.mu held
	refusals refusals   // guarded by mu
	senders  senders    // guarded by mu
}

// New returns an empty ledger.
func New(reg prometheus.Registerer) *Ledger {
	l := &Ledger{books: make(map[string]*list.Element), order: list.New()}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ledger_rows",
		Help: "Refusals and senders remembered, over all tenants.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(l.rows)
	})
	return l
}

// Record adds a request of a tenant.
func (l *Ledger) Record(tenant string, rq *Request) {
	b := l.open(tenant)
	l.recount(b, b.record(rq, time.Now()))
}

// open returns the book of a tenant, as the one written to last.
func (l *Ledger) open(tenant string) *book {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.books[tenant]; e != nil {
		l.order.MoveToFront(e)
		return e.Value.(*book)
	}
	b := &book{tenant: strings.Clone(tenant), refusals: newRefusals(), senders: newSenders()}
	l.books[b.tenant] = l.order.PushFront(b)
	return b
}

// record adds a request, and returns how many rows there are then.
func (b *book) record(rq *Request, now time.Time) (rows int) {
	rq.Sender = rq.Sender.cut()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.senders.find(&rq.Sender, now)
	s.record(rq, now)
	if rq.Err != nil {
		b.refusals.find(refusalKey{rq.Err.ID, "", s.Sender}).record(rq, proto.Counts{}, now, func() Example {
			return Example{Detail: kept(rq.Err.Msg, maxDetailBytes)}
		})
	}
	for i := range rq.Refused {
		x := &rq.Refused[i]
		metric := cut(x.Metric, maxNameBytes)
		b.refusals.find(refusalKey{x.Reason.ID(), metric, s.Sender}).record(rq, x.Counts, now, func() Example {
			return exampleOf(rq, x)
		})
	}
	return len(b.refusals.rows) + len(b.senders.rows)
}

// recount notes that a book has so many rows now, unless it was dropped meanwhile.
func (l *Ledger) recount(b *book, rows int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.books[b.tenant]; e == nil || e.Value != any(b) {
		return
	}
	l.rows += rows - b.rows
	b.rows = rows
	l.shrink(b)
}

// shrink drops the books that were not written to for longest, but not current,
// until there are no more rows than may be: whoever sends requests may be able to
// make up tenants. mu is held.
func (l *Ledger) shrink(current *book) {
	for l.rows > maxRows {
		last := l.order.Back()
		b := last.Value.(*book)
		if b == current {
			return
		}
		l.rows -= b.rows
		l.order.Remove(last)
		delete(l.books, b.tenant)
	}
}

// Refusals returns what was refused of a tenant's writes, the newest first.
func (l *Ledger) Refusals(tenant string) []Refusal {
	b := l.find(tenant)
	if b == nil {
		return []Refusal{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusals.all()
}

// Senders returns who sends for a tenant, or did within a day, those heard of
// last first.
func (l *Ledger) Senders(tenant string) []SenderStatus {
	b := l.find(tenant)
	if b == nil {
		return []SenderStatus{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.senders.forget(time.Now())
	return b.senders.all()
}

// find returns the book of a tenant, or nil.
func (l *Ledger) find(tenant string) *book {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.books[tenant]; e != nil {
		return e.Value.(*book)
	}
	return nil
}

// cut returns at most the first n bytes of s, a view.
func cut(s string, n int) string { return s[:min(len(s), n)] }

// kept returns at most the first n bytes of s as a copy that can be shown.
func kept(s string, n int) string {
	if len(s) <= n {
		return strings.Clone(strings.ToValidUTF8(s, "\ufffd"))
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
