package api

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
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
			Name:                            "weir_http_request_duration_seconds",
			Help:                            "Time from the header of a request to the end of its answer, a native histogram.",
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

// observe is around every handler: it cuts off slow clients, measures, and
// answers 500 when the handler panics.
func (a *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a.metrics.inFlight.Inc()
		rec := &recorder{ResponseWriter: w}
		r = r.WithContext(r.Context()) // a copy: the server looks at the body of its own
		rec.limitBody(r)
		defer func() {
			rec.allow(0) // for what is flushed after us
			a.metrics.inFlight.Dec()
			a.metrics.duration.
				WithLabelValues(routeLabel(r), methodLabel(r.Method), rec.class()).
				Observe(time.Since(start).Seconds())
		}()
		defer a.recover(rec, r)
		next.ServeHTTP(rec, r)
	})
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
	a.Logger.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if rec.status != 0 {
		rec.status = http.StatusInternalServerError
		panic(http.ErrAbortHandler)
	}
	clear(rec.Header())
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
