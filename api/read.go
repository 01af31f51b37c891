package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-metrics/weir/overload"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/querier"
	"github.com/weir-metrics/weir/tenant"
	"github.com/weir-metrics/weir/tracing"
)

// request is a read being answered.
type request struct {
	*http.Request
	who     tenant.Identity
	view    *querier.View // of what may be read; there is no other way to data
	closers []func()
}

// whenDone has f called after the answer is encoded, or when there is none: an
// answer refers to memory of the engine and of the sources.
func (r *request) whenDone(f func()) { r.closers = append(r.closers, f) }

func (r *request) close() {
	for _, f := range r.closers {
		defer f()
	}
}

// answer is the outcome of a read.
type answer struct {
	data     payload // nil: there is nothing to say, 204
	warnings annotations.Annotations
	query    string // for the positions in warnings
}

// readFunc is a read of one tenant's data. ctx ends with the request and at the
// latest after Config.Timeout.
type readFunc func(ctx context.Context, r *request) (answer, error)

// maxAnnotations is how many warnings, and how many infos, an answer shows.
const maxAnnotations = 10

// read makes a handler of f: who asks, whether we can answer, and how.
func (a *API) read(f readFunc) http.HandlerFunc {
	return a.serve(func(ctx context.Context, w http.ResponseWriter, r *request) error {
		ans, err := f(ctx, r)
		if err != nil {
			return err
		}
		if ans.data == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if size := ans.data.size(); size > a.cfg.MaxResponseBytes {
			return proto.Errorf(proto.KindTooLarge, "weir-query-response-too-large",
				"the answer has about %d bytes; the limit is %d, query.max_response_bytes: select less, or use larger steps", size, a.cfg.MaxResponseBytes)
		}
		a.succeed(w, r.Request, ans)
		return nil
	})
}

// unrestricted makes a read of f, which describes the tenant past the view of a request,
// for who may read all of it.
func unrestricted(f readFunc) readFunc {
	return func(ctx context.Context, r *request) (answer, error) {
		if err := r.view.Whole(); err != nil {
			return answer{}, err
		}
		return f(ctx, r)
	}
}

// serveFunc answers by itself, or returns why it could not.
type serveFunc func(ctx context.Context, w http.ResponseWriter, r *request) error

// serve makes a handler of f, for which the parameters are read.
func (a *API) serve(f serveFunc) http.HandlerFunc {
	return a.serveBody(func(ctx context.Context, w http.ResponseWriter, r *request) error {
		if err := a.parseForm(w, r.Request); err != nil {
			return err
		}
		return f(ctx, w, r)
	})
}

// serveBody makes a handler of f, which reads the body.
func (a *API) serveBody(f serveFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, hr *http.Request) {
		who, err := a.Tenants.Authenticate(hr, tenant.ScopeRead)
		if err == nil {
			err = a.ready()
		}
		var hold overload.Hold
		if err == nil {
			hold, err = a.Budget.Enter(who.Tenant)
		}
		defer hold.Leave()
		tracing.SetTenant(hr.Context(), who.Tenant)
		if err != nil {
			a.fail(w, hr, who.Tenant, err)
			return
		}
		a.Usage.Known(who.Tenant).Query() // a reader can make up tenants
		ctx, cancel := context.WithTimeout(hr.Context(), a.cfg.Timeout)
		defer cancel()
		r := &request{Request: hr, who: who, view: a.Querier.For(who)}
		defer r.close()
		if err := f(ctx, w, r); err != nil {
			a.fail(w, hr, who.Tenant, err)
		}
	}
}

// parseForm reads the parameters, of which some may be in a body that is no
// longer than the longest query, with each byte escaped, and as much again.
func (a *API) parseForm(w http.ResponseWriter, r *http.Request) error {
	limit := int64(6*a.cfg.MaxQueryBytes) + 4096
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	err := r.ParseForm()
	if err == nil {
		err = r.ParseMultipartForm(limit)
	}
	if err == nil || errors.Is(err, http.ErrNotMultipart) {
		// Whether the client is still there is seen once its body is read.
		_, err = io.Copy(io.Discard, r.Body)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return tooLong(a.cfg.MaxQueryBytes)
	}
	return badData(fmt.Errorf("error parsing form values: %w", err))
}

// ready returns why nothing can be answered now, as an error with a kind.
func (a *API) ready() error {
	err := a.Ready()
	if err == nil {
		return nil
	}
	var e *proto.Error
	if errors.As(err, &e) {
		return err
	}
	return &apiError{errUnavailable, err}
}

// succeed writes the envelope of an answer.
func (a *API) succeed(w http.ResponseWriter, r *http.Request, ans answer) {
	warnings, infos := ans.warnings.AsStrings(ans.query, maxAnnotations, maxAnnotations)
	slices.Sort(warnings)
	slices.Sort(infos)

	e := newEncoder(&body{w: w, status: http.StatusOK, gzip: acceptsGzip(r.Header)})
	e.raw(`{"status":"success","data":`)
	ans.data.encode(e)
	e.stringsField("warnings", warnings)
	e.stringsField("infos", infos)
	e.raw(`}`)
	a.finish(e, r)
}

// fail writes the envelope of an error, and logs those that are our fault.
func (a *API) fail(w http.ResponseWriter, r *http.Request, tenantID string, err error) {
	e := classify(r.Context(), err)
	var identified *proto.Error
	if errors.As(e, &identified) {
		a.metrics.refused.WithLabelValues(identified.ID).Inc()
		if identified.ID == overload.ID {
			a.Usage.Known(tenantID).Refused()
		}
	}
	if e.typ == errInternal {
		a.Logger.ErrorContext(r.Context(), "read failed", "tenant", tenantID, "path", r.URL.Path, "err", err)
	}
	if e.typ == errUnauthenticated {
		tenant.Challenge(w.Header())
	}
	if e.typ == errUnavailable || e.typ == errTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(identified.RetrySeconds()))
	}
	a.failWith(w, r, e)
}

func (a *API) failWith(w http.ResponseWriter, r *http.Request, failure *apiError) {
	e := newEncoder(&body{w: w, status: failure.typ.status, gzip: acceptsGzip(r.Header)})
	e.raw(`{"status":"error","errorType":`)
	e.string(failure.typ.name)
	e.raw(`,"error":`)
	e.string(failure.Error())
	if id := tracing.ID(r.Context()); id != "" && failure.typ.status >= http.StatusInternalServerError {
		e.raw(`,"requestId":`) // what to look for in the server's log
		e.string(id)
	}
	e.raw(`}`)
	a.finish(e, r)
}

// finish sends the rest. By then the client may be gone, which is no news.
func (a *API) finish(e *encoder, r *http.Request) {
	if err := e.finish(); err != nil {
		a.Logger.DebugContext(r.Context(), "answer not sent", "path", r.URL.Path, "err", err)
	}
}
