package api

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
)

// maxFrameBytes of a stream, which a chunk and the labels may exceed.
// Prometheus' client takes each frame for a series of its own, so that a
// series in two of them is read as two: frames are larger than those of
// Prometheus' server, which are 1 MiB, and far below the 50 MB that its
// client takes.
const maxFrameBytes = 16 << 20

// frames is memory for the frames of streams.
var frames sync.Pool

// streamChunks answers by a stream of prometheus.ChunkedReadResponse. Once it has
// begun, an error can only be told by cutting it off.
func (a *API) streamChunks(ctx context.Context, w http.ResponseWriter, r *request, selections []selection) error {
	out := &stream{w: w, left: a.cfg.MaxResponseBytes, check: ctx.Err, overBudget: a.overBudget}
	out.frames = remote.NewChunkedWriter(w, out)
	for i, s := range selections {
		if err := a.streamSelection(ctx, out, r, int64(i), s); err != nil {
			if !out.started {
				return err
			}
			a.cutOff(ctx, r, err)
		}
		out.frames.Close() // flushes, no more
	}
	out.start() // there may have been nothing
	return nil
}

func (a *API) streamSelection(ctx context.Context, out *stream, r *request, index int64, s selection) error {
	q, err := r.view.ChunkQueryable().ChunkQuerier(s.hints.Start, s.hints.End)
	if err != nil {
		return err
	}
	defer a.close(q)
	set := checkedSeries{q.Select(ctx, true, &s.hints, s.matchers...), out}
	warnings, err := remote.StreamChunkedReadResponses(out, index, set, nil, maxFrameBytes, &frames)
	a.logWarnings(r.who.Tenant, warnings)
	return err
}

// cutOff ends an answer whose status is sent already, such that nobody takes it
// for whole.
func (a *API) cutOff(ctx context.Context, r *request, err error) {
	e := classify(ctx, err)
	a.metrics.cutReads.WithLabelValues(e.typ.name).Inc()
	if e.typ != errClientGone {
		a.Logger.Warn("remote read cut off", "tenant", r.who.Tenant, "path", r.URL.Path, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// stream is the body of an answer by chunks.
type stream struct {
	w          http.ResponseWriter
	frames     *remote.ChunkedWriter // to w
	left       int64                 // of the budget, in bytes
	started    bool
	check      func() error // why nobody waits any more, or nil
	overBudget func() error
}

func (s *stream) start() {
	if !s.started {
		s.started = true
		s.w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
	}
}

// Write implements io.Writer: it sends a frame.
func (s *stream) Write(frame []byte) (int, error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	if s.left -= int64(len(frame)); s.left < 0 {
		return 0, s.overBudget()
	}
	s.start()
	n, err := s.frames.Write(frame)
	if err != nil {
		err = &apiError{errClientGone, err}
	}
	return n, err
}

// Flush implements http.Flusher. Before the first frame an error still has a
// status.
func (s *stream) Flush() {
	if s.started {
		_ = http.NewResponseController(s.w).Flush() // the next write knows
	}
}

// checkedSeries ends when nobody waits for it any more.
type checkedSeries struct {
	storage.ChunkSeriesSet
	out *stream
}

// Next implements storage.ChunkSeriesSet.
func (c checkedSeries) Next() bool { return c.out.check() == nil && c.ChunkSeriesSet.Next() }

// Err implements storage.ChunkSeriesSet.
func (c checkedSeries) Err() error { return errors.Join(c.out.check(), c.ChunkSeriesSet.Err()) }
