package tenant

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/proto"
)

const (
	// topTenants is how many tenants have series of their own in our metrics: as
	// many as a dashboard can show, and some thousand series.
	topTenants = 100

	// restLabel is the label of all others together, which no tenant can have.
	restLabel = "__rest"

	// rankEvery is how often tenants may replace each other among the top, and
	// the half-life of the samples that count for it.
	rankEvery = 10 * time.Minute

	// maxAccounts bounds the tenants that are counted one by one. It is beyond
	// what one process stores; the others count among the rest.
	maxAccounts = 100_000
)

// What is counted of a tenant. Discarded samples have one place for each reason.
const (
	receivedSamples = iota
	queries
	readSamples
	refusedRequests
	discardedSamples
	kinds = discardedSamples + int(proto.Reasons)
)

// Counters of one tenant. They are safe for concurrent use.
type Counters [kinds]atomic.Uint64

// Received counts samples in requests that could be read.
func (c *Counters) Received(n int) { c[receivedSamples].Add(uint64(n)) }

// Discarded counts samples that were refused while the rest of their request was
// stored.
func (c *Counters) Discarded(reason proto.Reason, n int) {
	c[discardedSamples+int(reason)].Add(uint64(n))
}

// Query counts a read.
func (c *Counters) Query() { c[queries].Add(1) }

// Read counts samples that a query looked at.
func (c *Counters) Read(n int64) { c[readSamples].Add(uint64(n)) }

// Refused counts a request that was refused because of overload.
func (c *Counters) Refused() { c[refusedRequests].Add(1) }

// Usage counts what tenants do, each by itself, and shows it in our metrics for
// the topTenants that do most and for the rest together.
//
// A counter must never go back, or rate() sees a reset where there was none. So
// what was counted is handed out once, when metrics are collected: to the tenant
// if it is among the top at this time, to the rest otherwise, and never taken
// back. A tenant that comes up from the rest begins at 0; one that falls behind
// loses its series, and counts among the rest from there on. That happens only
// when another does twice as much.
type Usage struct {
	series iter.Seq2[string, int]

	mu       sync.RWMutex
	accounts map[string]*account // guarded by mu
	nobody   account             // who has no account

	collecting sync.Mutex // taken before mu
	rest       counts     // guarded by collecting
	ranked     time.Time  // when tenants last replaced each other; guarded by collecting
}

type counts [kinds]uint64

// account is what is known of one tenant; all but the counters is guarded by
// Usage.collecting.
type account struct {
	Counters
	id      string
	opened  time.Time
	handed  counts    // of the counters, to shown or to the rest
	shown   counts    // by the series of this tenant
	since   time.Time // when those series began; zero: it has none
	series  int       // active
	present bool      // it has active series, or had when it was last looked at
	score   float64   // samples received until ranked, halved at each ranking
	atRank  uint64    // receivedSamples when it was last ranked
}

// NewUsage returns a Usage that asks series for every tenant that is stored here
// and how many active series it has. With a nil Registerer nothing is shown.
func NewUsage(series iter.Seq2[string, int], reg prometheus.Registerer) *Usage {
	u := &Usage{series: series, accounts: make(map[string]*account), ranked: time.Now()}
	if reg != nil {
		reg.MustRegister(u)
	}
	return u
}

// Of returns the counters of a tenant who is stored here. Do not keep them.
func (u *Usage) Of(tenant string) *Counters {
	u.mu.RLock()
	a := u.accounts[tenant]
	u.mu.RUnlock()
	if a != nil {
		return &a.Counters
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if a = u.accounts[tenant]; a == nil {
		if len(u.accounts) >= maxAccounts {
			return &u.nobody.Counters
		}
		a = &account{id: tenant, opened: time.Now()}
		u.accounts[tenant] = a
	}
	return &a.Counters
}

// Known returns the counters of a tenant who may be made up: those of the rest
// unless it has some of its own.
func (u *Usage) Known(tenant string) *Counters {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if a := u.accounts[tenant]; a != nil {
		return &a.Counters
	}
	return &u.nobody.Counters
}

var (
	receivedDesc = prometheus.NewDesc("weir_tenant_received_samples_total",
		"Samples in requests that could be read, by tenant; __rest for all but the tenants with most.", []string{"tenant"}, nil)
	discardedDesc = prometheus.NewDesc("weir_tenant_discarded_samples_total",
		"Samples refused while the rest of their request was stored, by tenant and reason.", []string{"tenant", "reason"}, nil)
	queriesDesc = prometheus.NewDesc("weir_tenant_queries_total",
		"Reads, by tenant.", []string{"tenant"}, nil)
	readDesc = prometheus.NewDesc("weir_tenant_read_samples_total",
		"Samples that queries looked at, by tenant.", []string{"tenant"}, nil)
	refusedDesc = prometheus.NewDesc("weir_tenant_refused_requests_total",
		"Requests refused because of overload, by tenant.", []string{"tenant"}, nil)
	seriesDesc = prometheus.NewDesc("weir_tenant_active_series",
		"Series that sent a sample in the last 20 minutes, by tenant.", []string{"tenant"}, nil)
)

// Describe implements prometheus.Collector.
func (u *Usage) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{receivedDesc, discardedDesc, queriesDesc, readDesc, refusedDesc, seriesDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (u *Usage) Collect(ch chan<- prometheus.Metric) {
	u.collecting.Lock()
	defer u.collecting.Unlock()
	accounts := u.settle(time.Now())
	others := 0
	for _, a := range accounts {
		if a.since.IsZero() {
			others += a.series
			continue
		}
		a.shown.collect(ch, a.id, a.since)
		ch <- prometheus.MustNewConstMetric(seriesDesc, prometheus.GaugeValue, float64(a.series), a.id)
	}
	u.rest.collect(ch, restLabel, time.Time{})
	ch <- prometheus.MustNewConstMetric(seriesDesc, prometheus.GaugeValue, float64(others), restLabel)
}

func (c *counts) collect(ch chan<- prometheus.Metric, tenant string, since time.Time) {
	emit := func(desc *prometheus.Desc, kind int, labels ...string) {
		if kind >= discardedSamples && c[kind] == 0 {
			return
		}
		if since.IsZero() {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(c[kind]), labels...)
			return
		}
		ch <- prometheus.MustNewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, float64(c[kind]), since, labels...)
	}
	emit(receivedDesc, receivedSamples, tenant)
	emit(queriesDesc, queries, tenant)
	emit(readDesc, readSamples, tenant)
	emit(refusedDesc, refusedRequests, tenant)
	for reason := range proto.Reasons {
		emit(discardedDesc, discardedSamples+int(reason), tenant, reason.ID())
	}
}

// settle hands out what was counted since the last time, after the top was
// brought up to date. The caller holds collecting.
func (u *Usage) settle(now time.Time) []*account {
	u.countSeries()
	accounts := u.all()
	if now.Sub(u.ranked) >= rankEvery {
		accounts = u.dropGone(accounts)
		rank(accounts)
		u.ranked = now
	}
	u.fill(accounts, now)
	for _, a := range accounts {
		a.handOut(&u.rest)
	}
	u.nobody.handOut(&u.rest)
	return accounts
}

// countSeries asks how many series each tenant has, which also opens accounts
// for those of whom nothing was heard since the start.
func (u *Usage) countSeries() {
	for _, a := range u.all() {
		a.series, a.present = 0, false
	}
	if u.series == nil {
		return
	}
	for id, n := range u.series {
		u.Of(id)
		u.mu.RLock()
		if a := u.accounts[id]; a != nil {
			a.series, a.present = n, true
		}
		u.mu.RUnlock()
	}
}

// all returns the accounts.
func (u *Usage) all() []*account {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return slices.Collect(maps.Values(u.accounts))
}

// dropGone closes the accounts of tenants who are not stored here any more and
// of whom nothing was heard since the last ranking. A request that ends at this
// very moment may go uncounted.
func (u *Usage) dropGone(accounts []*account) []*account {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.DeleteFunc(accounts, func(a *account) bool {
		if a.present || a.recent() > 0 {
			return false
		}
		a.since = time.Time{}
		a.handOut(&u.rest)
		delete(u.accounts, a.id)
		return true
	})
}

// recent is the samples received since the last ranking.
func (a *account) recent() float64 { return float64(a.Counters[receivedSamples].Load() - a.atRank) }

// value is what the tenant ranks by.
func (a *account) value() float64 { return a.score + a.recent() + float64(a.series) }

func byValue(a, b *account) int { return cmp.Compare(b.value(), a.value()) }

// rank takes the series from tenants whom others exceed by far, so that fill can
// give them to those.
func rank(accounts []*account) {
	var top, others []*account
	for _, a := range accounts {
		if a.since.IsZero() {
			others = append(others, a)
		} else {
			top = append(top, a)
		}
	}
	slices.SortFunc(top, byValue)
	slices.SortFunc(others, byValue)
	for i := range min(len(top), len(others)) {
		last := top[len(top)-1-i]
		if len(top) < topTenants || others[i].value() <= 2*last.value() {
			break
		}
		last.since, last.shown = time.Time{}, counts{}
	}
	for _, a := range accounts {
		a.score, a.atRank = (a.score+a.recent())/2, a.Counters[receivedSamples].Load()
	}
}

// fill gives series to those who do most, as long as there are places. A tenant
// who was counted among the rest begins at 0, a new one with all it did.
func (u *Usage) fill(accounts []*account, now time.Time) {
	places := topTenants
	var others []*account
	for _, a := range accounts {
		if a.since.IsZero() {
			others = append(others, a)
		} else {
			places--
		}
	}
	if places <= 0 {
		return
	}
	slices.SortFunc(others, byValue)
	for _, a := range others[:min(len(others), places)] {
		if a.handed == (counts{}) {
			a.since = a.opened
			continue
		}
		a.handOut(&u.rest)
		a.since = now
	}
}

// handOut adds what was counted since the last time to the tenant's series, or
// to those of the rest.
func (a *account) handOut(rest *counts) {
	to := rest
	if !a.since.IsZero() {
		to = &a.shown
	}
	for kind := range a.Counters {
		n := a.Counters[kind].Load()
		to[kind] += n - a.handed[kind]
		a.handed[kind] = n
	}
}
