package api

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/trace"

	"github.com/weir-metrics/weir/tracing"
)

type metrics struct {
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	refused  *prometheus.CounterVec
	cutReads *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_http_request_duration_seconds",
			Help: "Time from the header of a request to the end of its answer: a native histogram, and classic buckets for scrapers that know no other.",
			// From what a small write takes to the timeout of a query.
			Buckets:                         []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 60, 120},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"route", "method", "status_code"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_http_requests_in_flight",
			Help: "Requests that are being answered.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_api_refused_reads_total",
			Help: "Reads that were refused, by the id in the answer (docs/errors.md).",
		}, []string{"reason"}),
		cutReads: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_api_cut_reads_total",
			Help: "Remote reads whose answer was cut off after a part of it was sent, by type of error.",
		}, []string{"reason"}),
	}
}

// observe is around every handler: it gives the request an id and, when traces
// are wanted, a span; it cuts off slow clients; it measures; and it answers 500
// when the handler panics.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a.metrics.inFlight.Inc()
		id := requestID(r.Header)
		w.Header().Set(requestIDHeader, id)
		ctx, span := a.startSpan(tracing.WithID(r.Context(), id), r)
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w}
		rec.limitBody(r)
		defer func() {
			rec.allow(0) // for what is flushed after us
			a.metrics.inFlight.Dec()
			a.measure(rec, r, time.Since(start), span)
		}()
		defer a.recover(rec, r)
		next.ServeHTTP(rec, r)
	})
}

// measure ends the span of a request and observes its duration, with the trace
// as an exemplar if there is one. span is nil when traces are off.
func (a *API) measure(rec *recorder, r *http.Request, took time.Duration, span trace.Span) {
	route := routeLabel(r)
	observer := a.metrics.duration.WithLabelValues(route, methodLabel(r.Method), rec.class())
	if span == nil {
		observer.Observe(took.Seconds())
		return
	}
	endSpan(span, r, route, rec.status)
	if sc := span.SpanContext(); sc.IsSampled() {
		observer.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": sc.TraceID().String()})
		return
	}
	observer.Observe(took.Seconds())
}

// requestIDHeader names a request in its answer and in our log. A client or
// proxy that has a name for it already may send it.
const requestIDHeader = "X-Request-Id"

// maxRequestID is longer than what proxies make: UUIDs, trace ids, AWS' Root=….
const maxRequestID = 128

// requestID is the id that came with a request if it can stand in a header and
// in a log line as it is, or a new one.
func requestID(h http.Header) string {
	if id := h.Get(requestIDHeader); id != "" && len(id) <= maxRequestID && plain(id) {
		return id
	}
	var b [16]byte // no secret: it only has to be unlike others
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// plain reports whether s consists of letters, digits and -_.:/+=@ alone.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=', c == '@':
		default:
			return false
		}
	}
	return true
}

// recover ends the request of a handler that panicked: with 500, or if part of
// an answer is out already, by cutting it off, lest it look whole.
func (a *API) recover(rec *recorder, r *http.Request) {
	p := recover()
	switch p {
	case nil:
		return
	case http.ErrAbortHandler:
		panic(p)
	}
	a.Logger.ErrorContext(r.Context(), "request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if rec.status != 0 {
		rec.status = http.StatusInternalServerError
		panic(http.ErrAbortHandler)
	}
	clear(rec.Header())
	rec.Header().Set(requestIDHeader, tracing.ID(r.Context()))
	a.failWith(rec, r, &apiError{errInternal, fmt.Errorf("internal error, see the server's log")})
}

// routeLabel is the pattern that the request matched; there are only so many.
func routeLabel(r *http.Request) string {
	if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" {
		return pattern
	}
	return "none"
}

// methodLabel keeps clients from making up label values.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "other"
}

// recorder remembers the status of an answer, and times its client.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing is sent
	client pace
	body   timedBody
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.allow(len(p))
	start := time.Now()
	n, err := r.ResponseWriter.Write(p)
	r.client.waited += time.Since(start)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// class is 2xx and so on. A handler that sends nothing says 200.
func (r *recorder) class() string {
	if r.status == 0 {
		return "2xx"
	}
	return fmt.Sprintf("%dxx", r.status/100)
}
