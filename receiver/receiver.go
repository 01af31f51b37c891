// Package receiver takes write requests from the wire to the ingesters.
//
//	handler.go    ServeHTTP: headers, tenant, limits on bytes
//	decode.go     snappy, zstd or gzip into a pooled buffer
//	write.go      write: scan each series, find its verdict, append to the frame
//	rates.go      pace: hold or refuse what is beyond the rates of the tenant (line.go, quota.go)
//	setrates.go   paceSets: keep out series of label sets that are beyond theirs
//	replicate.go  replicate: send the frame, teach labels an ingester does not know
//	  └─ Ingester.Write
//	answer.go     the status and the text; account.go: counters and the ledger
//	receipt.go    the answer in JSON, for who asks
//
//	otlp.go       OTLP: translated into remote write 2.0, from there the same
//
// What happens to a series depends only on its label bytes and the tenant's
// limits, so the verdict is looked up by a hash of those bytes (admission.go):
// labels are parsed once per series, not once per sample.
package receiver

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/ledger"
	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/relabel"
	"github.com/weir-metrics/weir/tenant"
)

// Ingester stores frames.
type Ingester interface {
	// Write stores what it can of f for the tenant and says in reply what became
	// of the rest. It returns when everything counted as written is in the
	// write-ahead log and visible to the next query. What it postponed is not
	// stored, and the sender is asked to repeat it. An error means that the
	// request as a whole was not stored, or that it is unknown how much was: the
	// sender may repeat it without harm. f and reply belong to the caller and are
	// not kept; what f's pointers and strings lead to may be.
	Write(ctx context.Context, tenant string, f *proto.Frame, reply *proto.Reply) error
}

// Config of a receiver.
type Config struct {
	MaxRequestBytes    int           `yaml:"max_request_bytes"`
	MaxDecodedBytes    int           `yaml:"max_decoded_bytes"`
	MaxSeries          int           `yaml:"max_series_per_request"`
	MaxSamples         int           `yaml:"max_samples_per_request"`
	MaxSymbols         int           `yaml:"max_symbols_per_request"`
	AdmissionEntries   int           `yaml:"admission_entries_per_tenant"`
	Timeout            time.Duration `yaml:"timeout"`
	RequireContentType bool          `yaml:"require_content_type"`
	OTLP               OTLPConfig    `yaml:"otlp"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxRequestBytes:    16 << 20,         // compressed
		MaxDecodedBytes:    32 << 20,         // checked against the declared length before anything is allocated
		MaxSeries:          100_000,          // of one request
		MaxSamples:         1_000_000,        // of one request, histograms and exemplars included
		MaxSymbols:         500_000,          // of one remote-write 2.0 request
		AdmissionEntries:   4 << 20,          // verdicts remembered per generation, two generations per tenant
		Timeout:            20 * time.Second, // shorter than the 30 s after which Prometheus gives up
		RequireContentType: false,            // true: a request without Content-Type is 415 rather than remote-write 1.0
		OTLP:               defaultOTLPConfig(),
	}
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	var errs []error
	positive := func(name string, v int) {
		if v < 1 {
			errs = append(errs, fmt.Errorf("%s.%s: %d: must be at least 1", prefix, name, v))
		}
	}
	positive("max_request_bytes", c.MaxRequestBytes)
	positive("max_decoded_bytes", c.MaxDecodedBytes)
	positive("max_series_per_request", c.MaxSeries)
	positive("max_samples_per_request", c.MaxSamples)
	positive("max_symbols_per_request", c.MaxSymbols)
	positive("admission_entries_per_tenant", c.AdmissionEntries)
	if c.MaxDecodedBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("%s.max_decoded_bytes: %d: must be at most %d", prefix, c.MaxDecodedBytes, 1<<30))
	}
	if c.Timeout <= 0 || c.Timeout > 30*time.Second {
		errs = append(errs, fmt.Errorf("%s.timeout: %s: must be above 0 and at most 30s, the remote_timeout of Prometheus", prefix, c.Timeout))
	}
	return errs
}

// maxSpelled bounds the labels and metadata of one request that are copied. In
// version 2, a few bytes of references stand for long strings.
func (c *Config) maxSpelled() int { return 4 * c.MaxDecodedBytes }

// Deps are the collaborators of a Receiver.
type Deps struct {
	Ingester Ingester
	Tenants  *tenant.Directory
	Settings func(tenant string) *tenant.Settings // the current version; a new one is a new pointer
	Usage    *tenant.Usage                        // nil: what each tenant sends is counted nowhere
	Ledger   *ledger.Ledger                       // nil: what was refused is remembered nowhere
	Budget   *overload.Budget                     // nil: any number of requests of any size at once
	Secret   []byte                               // what keys of hashes are derived from, so that nobody can try values
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

var _ http.Handler = (*Receiver)(nil)

// Receiver serves the remote-write endpoints. It is safe for concurrent use.
type Receiver struct {
	cfg Config
	Deps
	metrics  *metrics
	decoders decoders
	deltas   deltas
	rates    *rates

	// secret seeds the hashes. Identities live only in memory, so in a single
	// process it need not outlive it.
	secret uint64

	mu      sync.RWMutex
	tenants map[admissionsKey]*admissions // guarded by mu
}

// New checks and wires; it starts nothing.
func New(cfg Config, deps Deps) *Receiver {
	if deps.Usage == nil {
		deps.Usage = tenant.NewUsage(nil, nil)
	}
	if deps.Ledger == nil {
		deps.Ledger = ledger.New(nil)
	}
	r := &Receiver{cfg: cfg, Deps: deps, secret: rand.Uint64(), tenants: make(map[admissionsKey]*admissions)}
	r.metrics = newMetrics(deps.Registry, r.entries, r.deltas.series)
	r.rates = newRates(r.secret, deps.Registry)
	r.decoders.init(cfg.MaxDecodedBytes)
	r.deltas = deltas{cfg: &r.cfg.OTLP, seed: func(key admissionsKey) uint64 { return proto.TenantSeed(r.secret, key.tenant+"\x00"+key.credential) }, tenants: make(map[string]*sums)}
	return r
}

// WriteV2 stores a remote-write 2.0 message that is not compressed. It is our own,
// and counts for no rate.
func (r *Receiver) WriteV2(ctx context.Context, tenantID string, message []byte) error {
	req := newRequest()
	defer req.release()
	r.begin(req, nil, tenant.Identity{Tenant: tenantID, Scopes: tenant.ScopeWrite})
	req.decoded = append(req.decoded[:0], message...)
	if err := r.write(ctx, proto.V2, req, r.cfg.MaxSeries); err != nil {
		return err
	}
	r.metrics.count(req, r.Usage.Of(tenantID), nil)
	if req.rejected.Total() > 0 {
		return proto.Errorf(proto.KindBadData, req.rejected.Examples[0].Reason.ID(), "%s", partialBody(req))
	}
	return nil
}

// begin says whose request req is, what brought it, and under which version of the
// settings it is decided.
func (r *Receiver) begin(req *request, hr *http.Request, who tenant.Identity) {
	req.hr, req.who, req.newest = hr, who, ledger.NoTime
	if hr != nil {
		req.source = r.Tenants.Source(hr)
	}
	req.policy = policy{set: r.Settings(who.Tenant), bound: who.Bound, rules: who.Rules}
}

// Admits says whether a series of a tenant with labels ls would be admitted: its
// answer is proto.OK, or why not.
func (r *Receiver) Admits(tenantID string, ls labels.Labels) (reason proto.Reason, detail string) {
	p := policy{set: r.Settings(tenantID)}
	var list []labels.Label
	ls.Range(func(l labels.Label) { list = append(list, l) })
	_, no := admit(p, list, new(ruling))
	if no.reason == proto.OK {
		return proto.OK, ""
	}
	return no.reason, no.detail(p)
}

func (r *Receiver) admissionsOf(who *tenant.Identity) *admissions {
	key := keyOf(who)
	r.mu.RLock()
	a := r.tenants[key]
	r.mu.RUnlock()
	if a != nil {
		return a
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a = r.tenants[key]; a == nil {
		a = newAdmissions(proto.TenantSeed(r.secret, who.Tenant), relabel.TenantKey(r.Secret, who.Tenant), r.cfg.AdmissionEntries)
		r.tenants[key] = a
	}
	return a
}

// forget drops a tenant that there cannot be, or of which nothing is remembered:
// whoever sends requests may be able to make up tenants.
func (r *Receiver) forget(who *tenant.Identity, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(who)
	if a := r.tenants[key]; a != nil && (refused || a.entries() == 0) {
		delete(r.tenants, key)
	}
}

// entries is the number of verdicts remembered for all tenants.
func (r *Receiver) entries() float64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n := 0
	for _, a := range r.tenants {
		n += a.entries()
	}
	return float64(n)
}
