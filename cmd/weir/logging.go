package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/tracing"
)

// log is what the process logs with.
type log struct {
	*slog.Logger
	level   *slog.LevelVar // may be set at any time
	limiter *limiter
	lines   slog.Handler // that writes each line, whatever its level and how often
}

// newLog returns a log for a configuration that was validated.
func newLog(cfg LogConfig, w io.Writer) *log {
	l := &log{level: new(slog.LevelVar), limiter: &limiter{seen: make(map[line]*tally)}}
	if err := l.level.UnmarshalText([]byte(cfg.Level)); err != nil {
		panic(fmt.Sprintf("log level %q was validated: %v", cfg.Level, err))
	}
	opts := &slog.HandlerOptions{Level: l.level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	l.lines = h
	l.Logger = slog.New(&handler{Handler: h, limiter: l.limiter})
	return l
}

// component returns a logger whose lines name a component.
func (l *log) component(name string) *slog.Logger { return l.With(componentKey, name) }

// handler adds the id of the request that a line is about, and drops what its
// limiter drops.
type handler struct {
	slog.Handler
	limiter   *limiter
	component string
}

const componentKey = "component"

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	var more []slog.Attr
	if r.Level >= slog.LevelWarn {
		suppressed, ok := h.limiter.pass(line{r.Level, h.component, r.Message}, r.Time)
		if !ok {
			return nil
		}
		if suppressed > 0 {
			more = append(more, slog.Int("suppressed", suppressed))
		}
	}
	if id := tracing.ID(ctx); id != "" {
		more = append(more, slog.String("request_id", id))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		more = append(more, slog.String("trace_id", sc.TraceID().String()))
	}
	if len(more) > 0 {
		r = r.Clone()
		r.AddAttrs(more...)
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	component := h.component
	if i := slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == componentKey }); i >= 0 {
		component = attrs[i].Value.String()
	}
	return &handler{h.Handler.WithAttrs(attrs), h.limiter, component}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.limiter, h.component}
}

// newAudit returns the audit log, and what closes it. A record goes past level and
// limiter: it is written, or counted as a failure.
func newAudit(cfg LogConfig, log *log, reg prometheus.Registerer) (*audit.Log, func(), error) {
	if cfg.AuditFile == "" {
		return audit.New(log.lines.WithAttrs([]slog.Attr{slog.String(componentKey, "audit")}), reg), func() {}, nil
	}
	f, err := os.OpenFile(cfg.AuditFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log.audit_file: %w", err)
	}
	return audit.New(slog.NewJSONHandler(f, nil), reg), func() { _ = f.Close() }, nil
}

const (
	// linesPerMinute is how often the same warning is worth reading.
	linesPerMinute = 10

	// maxLines bounds the lines that are told apart. Messages are constants, but
	// for some of libraries.
	maxLines = 1000
)

// limiter lets the same warning pass linesPerMinute times a minute: a sender that
// is always wrong, or a disk that is full, would fill the log with one line.
type limiter struct {
	suppressed atomic.Int64

	mu   sync.Mutex
	seen map[line]*tally // guarded by mu
}

// line is what makes two log lines the same.
type line struct {
	level              slog.Level
	component, message string
}

// tally of a line in the minute that began at its first one.
type tally struct {
	began              time.Time
	passed, suppressed int
}

// pass reports whether a line may be written now, and how many like it were
// suppressed before.
func (l *limiter) pass(what line, now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.seen[what]
	if t == nil {
		if len(l.seen) >= maxLines {
			clear(l.seen)
		}
		t = &tally{began: now}
		l.seen[what] = t
	}
	if now.Sub(t.began) >= time.Minute {
		suppressed = t.suppressed
		*t = tally{began: now}
	}
	if t.passed >= linesPerMinute {
		t.suppressed++
		l.suppressed.Add(1)
		return 0, false
	}
	t.passed++
	return suppressed, true
}
