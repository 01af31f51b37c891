// Package audit writes down who did what: one structured record for each act of
// an operator, for a credential when it is used for the first time in an hour,
// for requests that were refused because of what they showed, and for what new
// versions of the runtime file change.
//
//	api, tenant ── Acted, Used, Refused, Changed ──> Log ──> slog.Handler
//
// A flood of refusals is one record at its beginning and one a minute with how
// many there were. A record never has a secret: an Actor has no field for one.
package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-metrics/weir/tracing"
)

const (
	// summaryInterval is how long refusals of the same kind are added up.
	summaryInterval = time.Minute

	// maxKinds bounds the refusals that are told apart within an interval: a flood
	// may come from any number of addresses. Those beyond share one record for each
	// reason.
	maxKinds = 1000

	// maxChanges bounds the changes that one record tells of.
	maxChanges = 100

	// maxText bounds what a record repeats of a request, in bytes.
	maxText = 200
)

// Actor is who is behind a record, as far as it is known.
type Actor struct {
	Credential string // its id; "": none was needed, or none was recognised
	Subject    string // whom the token or the certificate names that was shown; "": a secret names nobody
	Tenant     string
	Source     string // address
	UserAgent  string
	Method     string
	Path       string // without the query, which may say anything
}

// Log takes records. It is safe for concurrent use.
type Log struct {
	handler  slog.Handler
	records  *prometheus.CounterVec
	failures prometheus.Counter

	mu       sync.Mutex
	refusals map[kind]*tally // guarded by mu
}

// kind is what makes two refusals the same.
type kind struct{ reason, credential, source string }

// tally counts the refusals of a kind that have no record yet.
type tally struct {
	last  Actor
	count int
}

// New returns a Log that writes to h, whatever its level.
func New(h slog.Handler, reg prometheus.Registerer) *Log {
	f := promauto.With(reg)
	return &Log{
		handler:  h,
		refusals: make(map[kind]*tally),
		records: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_audit_records_total",
			Help: "Audit records, by what they tell of.",
		}, []string{"event"}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_audit_failures_total",
			Help: "Audit records that could not be written.",
		}),
	}
}

// Acted records what an operator did, and to what.
func (l *Log) Acted(ctx context.Context, who Actor, action, object string) {
	l.write(ctx, "acted", who, slog.String("action", action), slog.String("object", object))
}

// Used records that a credential is used. The caller decides how often.
func (l *Log) Used(ctx context.Context, who Actor) { l.write(ctx, "used", who) }

// Changed records what was done to object by whoever may write a file; changes say
// what it was and what it is now.
func (l *Log) Changed(ctx context.Context, action, object string, changes []string) {
	attrs := []slog.Attr{slog.String("action", action), slog.String("object", object)}
	if len(changes) > 0 {
		told := make([]string, 0, min(len(changes), maxChanges))
		for _, c := range changes[:cap(told)] {
			told = append(told, c[:min(len(c), maxText)])
		}
		attrs = append(attrs, slog.Any("changes", told), slog.Int("count", len(changes)))
	}
	l.write(ctx, "changed", Actor{}, attrs...)
}

// Refused records that a request was refused, for a reason that is the id of the
// error that it was answered: the first of its kind at once, more in a summary.
func (l *Log) Refused(ctx context.Context, who Actor, reason string) {
	if l.first(who, reason) {
		l.write(ctx, "refused", who, slog.String("reason", reason), slog.Int("count", 1))
	}
}

// first reports whether a refusal is to be recorded now, and counts it otherwise.
func (l *Log) first(who Actor, reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := kind{reason, who.Credential, who.Source}
	t := l.refusals[k]
	if t == nil && len(l.refusals) < maxKinds {
		l.refusals[k] = &tally{}
		return true
	}
	if t == nil { // these have a summary only
		k, who = kind{reason: reason}, Actor{}
		if t = l.refusals[k]; t == nil {
			t = &tally{}
			l.refusals[k] = t
		}
	}
	t.last = who
	t.count++
	return false
}

// Run writes the summaries until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(summaryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.summarise(context.WithoutCancel(ctx))
			return nil
		case <-ticker.C:
			l.summarise(ctx)
		}
	}
}

// summarise records the refusals since the last time, and forgets the kinds of
// which there were none.
func (l *Log) summarise(ctx context.Context) {
	l.mu.Lock()
	before := l.refusals
	l.refusals = make(map[kind]*tally)
	for k, t := range before {
		if t.count > 0 && len(l.refusals) < maxKinds/2 {
			l.refusals[k] = &tally{} // it goes on: the next one is no news
		}
	}
	l.mu.Unlock()
	for k, t := range before {
		if t.count > 0 {
			l.write(ctx, "refused", t.last, slog.String("reason", k.reason), slog.Int("count", t.count))
		}
	}
}

// write hands a record to the handler itself: a level would hide records.
func (l *Log) write(ctx context.Context, event string, who Actor, more ...slog.Attr) {
	l.records.WithLabelValues(event).Inc()
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "audit", 0)
	r.AddAttrs(slog.String("event", event))
	text := func(key, value string) {
		if value != "" {
			r.AddAttrs(slog.String(key, value[:min(len(value), maxText)]))
		}
	}
	text("credential", who.Credential)
	text("subject", who.Subject)
	text("tenant", who.Tenant)
	text("addr", who.Source)
	text("user_agent", who.UserAgent)
	text("method", who.Method)
	text("path", who.Path)
	text("request_id", tracing.ID(ctx))
	r.AddAttrs(more...)
	if err := l.handler.Handle(ctx, r); err != nil {
		l.failures.Inc()
	}
}
