package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/common/version"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/weir-metrics/weir/tracing"
)

// TracingConfig says where spans go. The environment variables of OpenTelemetry
// are honoured beside it.
type TracingConfig struct {
	Endpoint    string  `yaml:"endpoint"`
	SampleRatio float64 `yaml:"sample_ratio"`
}

// Validate implements section.
func (c *TracingConfig) Validate(prefix string) []error {
	var errs []error
	u, err := url.Parse(c.Endpoint)
	switch {
	case c.Endpoint == "":
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		errs = append(errs, fmt.Errorf("%s.endpoint: %q: must be empty, or a URL such as http://collector:4318/v1/traces", prefix, c.Endpoint))
	case u.User != nil || u.RawQuery != "": // the exporter drops both, and status/config would show them
		errs = append(errs, fmt.Errorf("%s.endpoint: must have no password and no parameters: set OTEL_EXPORTER_OTLP_HEADERS", prefix))
	}
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // NaN too
		errs = append(errs, fmt.Errorf("%s.sample_ratio: %v: must be from 0 to 1", prefix, c.SampleRatio))
	}
	return errs
}

// enabled reports whether anybody wants traces.
func (c *TracingConfig) enabled(getenv func(string) (string, bool)) bool {
	is := func(name, value string) bool { v, _ := getenv(name); return v == value }
	if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
		return false
	}
	return c.Endpoint != "" || !is("OTEL_EXPORTER_OTLP_ENDPOINT", "") || !is("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
}

// endTracesWithin is how long the last spans of a process may take to be sent.
const endTracesWithin = 5 * time.Second

// tracer makes spans and sends them to a collector. A nil tracer makes none.
type tracer struct{ provider *sdktrace.TracerProvider }

// newTracer returns the tracer that cfg and the environment ask for, or nil. It
// becomes the global one, because the PromQL engine asks for that.
func newTracer(ctx context.Context, cfg TracingConfig, instance string, logger *slog.Logger) (*tracer, error) {
	if !cfg.enabled(os.LookupEnv) {
		return nil, nil
	}
	var to []otlptracehttp.Option // none: from the environment
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("tracing.endpoint: %w", err)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
		to = append(to, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "weir"),
		attribute.String("service.version", version.Version),
		attribute.String("service.instance.id", instance),
	), resource.WithFromEnv()) // the environment has the last word
	if err != nil {
		return nil, fmt.Errorf("describe this process to the collector: %w", err)
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(about)}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" { // else the SDK follows it
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))))
	}
	t := &tracer{sdktrace.NewTracerProvider(options...)}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("spans are lost", "err", err) }))
	otel.SetTracerProvider(t.provider)
	return t, nil
}

// of is what makes the spans, or nil.
func (t *tracer) of() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(tracing.Scope)
}

// run sends the spans that are left when ctx ends.
func (t *tracer) run(ctx context.Context) error {
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTracesWithin)
	defer cancel()
	otel.SetTracerProvider(noop.NewTracerProvider())
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		otel.Handle(err) // a collector that is away must not make a stop fail
	}
	return nil
}
