package api

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-metrics/weir/tracing"
)

// startSpan begins the span of a request, below that of the client if it sent a
// traceparent. Without a tracer the span is nil.
func (a *API) startSpan(ctx context.Context, r *http.Request) (context.Context, trace.Span) {
	if a.Tracer == nil {
		return ctx, nil
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	return a.Tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("weir.request_id", tracing.ID(ctx)),
		attribute.String("http.request.method", methodLabel(r.Method)),
		attribute.String("url.path", r.URL.Path),
		attribute.String("user_agent.original", r.UserAgent()),
	))
}

// endSpan ends the span of a request that was answered with status, 0 being 200.
// Only 5xx are errors of a server, by OpenTelemetry's conventions.
func endSpan(span trace.Span, r *http.Request, route string, status int) {
	if span.IsRecording() {
		if status == 0 {
			status = http.StatusOK
		}
		span.SetName(methodLabel(r.Method) + " " + route)
		span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
	span.End()
}

// tracedEngine adds what the engine's own spans leave out: the wait for a place
// and the parsing. (The engine takes its tracer from the global provider.)
type tracedEngine struct{ promql.QueryEngine }

// NewInstantQuery implements promql.QueryEngine.
func (e tracedEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (_ promql.Query, err error) {
	ctx, span := tracing.Start(ctx, "parse")
	defer func() { tracing.End(span, err) }()
	return e.QueryEngine.NewInstantQuery(ctx, q, opts, qs, ts)
}

// NewRangeQuery implements promql.QueryEngine.
func (e tracedEngine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (_ promql.Query, err error) {
	ctx, span := tracing.Start(ctx, "parse")
	defer func() { tracing.End(span, err) }()
	return e.QueryEngine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
}
