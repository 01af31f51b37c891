package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"

	"github.com/prometheus/prometheus/promql"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
)

// errorType is the errorType of an answer, with its status. The names and
// statuses are Prometheus' where it has them.
type errorType struct {
	name   string
	status int
}

// statusClientClosedRequest is nginx' code for a client that did not wait.
const statusClientClosedRequest = 499

var (
	errBadData         = errorType{"bad_data", http.StatusBadRequest}
	errUnauthenticated = errorType{"unauthenticated", http.StatusUnauthorized}
	errForbidden       = errorType{"forbidden", http.StatusForbidden}
	errNotFound        = errorType{"not_found", http.StatusNotFound}
	errNotAcceptable   = errorType{"not_acceptable", http.StatusNotAcceptable}
	errConflict        = errorType{"conflict", http.StatusConflict}
	errExecution       = errorType{"execution", http.StatusUnprocessableEntity}
	errTooManyRequests = errorType{"too_many_requests", http.StatusTooManyRequests}
	errClientGone      = errorType{"canceled", statusClientClosedRequest}
	errInternal        = errorType{"internal", http.StatusInternalServerError}
	errCanceled        = errorType{"canceled", http.StatusServiceUnavailable}
	errTimeout         = errorType{"timeout", http.StatusServiceUnavailable}
	errUnavailable     = errorType{"unavailable", http.StatusServiceUnavailable}
)

// errorTypes is the one table from kinds to answers of this API.
var errorTypes = map[proto.Kind]errorType{
	proto.KindInternal:        errInternal,
	proto.KindBadData:         errBadData,
	proto.KindTooLarge:        errExecution, // a query that needs more than it may
	proto.KindUnsupported:     errNotAcceptable,
	proto.KindUnauthenticated: errUnauthenticated,
	proto.KindForbidden:       errForbidden,
	proto.KindConflict:        errConflict,
	proto.KindLimit:           errTooManyRequests,
	proto.KindUnavailable:     errUnavailable,
	proto.KindNotFound:        errNotFound,
}

// apiError is an error with its place in the API.
type apiError struct {
	typ errorType
	err error
}

func (e *apiError) Error() string { return e.err.Error() }

func (e *apiError) Unwrap() error { return e.err }

// badData blames err on the request, unless err has an id and says for itself
// whose fault it is.
func badData(err error) error {
	var identified *proto.Error
	if errors.As(err, &identified) {
		return identified
	}
	return &apiError{errBadData, err}
}

func badParam(name string, err error) error {
	return badData(fmt.Errorf("invalid parameter %q: %w", name, err))
}

// evaluationError is the engine's error, which is about the query unless
// something in its chain says otherwise.
type evaluationError struct{ error }

func (e evaluationError) Unwrap() error { return e.error }

// classify finds the place of any error. ctx is the request's: an end of it that
// the client brought about is told from one of ours.
func classify(ctx context.Context, err error) *apiError {
	var (
		already    *apiError
		kind       *proto.Error
		canceled   promql.ErrQueryCanceled
		timeout    promql.ErrQueryTimeout
		samples    promql.ErrTooManySamples
		source     *querier.SourceError
		ofStorage  promql.ErrStorage
		crash      runtime.Error
		evaluation evaluationError
	)
	typ := errInternal
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &kind):
		typ, err = errorTypes[kind.Kind], kind // the id comes first
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		typ = errCanceled
		if errors.Is(ctx.Err(), context.Canceled) {
			typ = errClientGone
		}
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		typ = errTimeout
	case errors.As(err, &samples):
		typ, err = errExecution, tooManySamples(samples)
	case errors.As(err, &source), errors.As(err, &ofStorage), errors.As(err, &crash):
	case errors.As(err, &evaluation):
		typ = errExecution
	}
	return &apiError{typ, err}
}

// tooManySamples is the engine's error with an id, and the limit by name.
func tooManySamples(err promql.ErrTooManySamples) error {
	return proto.Errorf(proto.KindTooLarge, "weir-query-too-many-samples",
		"%v; the limit is query.max_samples: select fewer series or a shorter range", err)
}
