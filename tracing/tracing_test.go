package tracing_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weir-metrics/weir/tracing"
)

// TestOffTakesNoMemory: what is not traced pays nothing.
func TestOffTakesNoMemory(t *testing.T) {
	ctx := tracing.WithID(context.Background(), "abc")
	err := errors.New("failed")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ctx, span := tracing.Start(ctx, "step")
		tracing.SetTenant(ctx, "tenant")
		tracing.End(span, err)
	}))
	require.Equal(t, "abc", tracing.ID(ctx))
	require.Empty(t, tracing.ID(context.Background()))
}

func TestSteps(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	ctx, root := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("").Start(context.Background(), "root")
	tracing.SetTenant(ctx, "a")
	_, step := tracing.Start(ctx, "step")
	tracing.End(step, errors.New("disk full"))
	tracing.End(root, nil)
	ended := spans.Ended()
	require.Len(t, ended, 2)
	require.Equal(t, "step", ended[0].Name())
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "disk full"}, ended[0].Status())
	require.Equal(t, root.SpanContext().SpanID(), ended[0].Parent().SpanID())
	require.Equal(t, codes.Unset, ended[1].Status().Code)
	require.Equal(t, "a", ended[1].Attributes()[0].Value.AsString())
}
