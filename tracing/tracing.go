// Package tracing follows one request through the process: by an id, which its
// answer and its log lines have, and by spans when the operator wants traces.
//
//	api: WithID, root span ──ctx──> receiver, ingester: Start … End
//	log lines written with ctx have the id (cmd/weir/logging.go)
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Scope is the name of our tracer.
const Scope = "github.com/weir-metrics/weir"

// TenantKey is the attribute of the tenant whose request it is.
const TenantKey = attribute.Key("weir.tenant")

type idKey struct{}

// WithID returns ctx with the id of the request that it belongs to.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}

// ID is the id of the request that ctx belongs to, or empty.
func ID(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// off is the span of what is not traced.
var off trace.Span = noop.Span{}

// Start begins a span below that of ctx if that is recorded. Otherwise it costs
// a look into ctx and takes no memory. It is for steps of a request, never for
// series or samples.
func Start(ctx context.Context, name string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, off
	}
	return parent.TracerProvider().Tracer(Scope).Start(ctx, name)
}

// End ends a span, which failed if err is not nil.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// SetTenant says whose request it is on the span of ctx.
func SetTenant(ctx context.Context, tenant string) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(TenantKey.String(tenant))
	}
}
