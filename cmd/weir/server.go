package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// drainTimeout is how long requests in flight may go on after a stop: no
	// shorter than a write may take, and short enough to leave time for closing
	// every TSDB within the 30 s that Kubernetes grants.
	drainTimeout = 20 * time.Second

	// abandonTimeout is how long handlers may take to notice that their client
	// was cut off.
	abandonTimeout = 5 * time.Second

	// idleTimeout is longer than the pauses of any sender, Prometheus'
	// included, so that connections are reused.
	idleTimeout = 5 * time.Minute

	// headerTimeout bounds what a client that sends nothing can hold. It is the time
	// for a TLS handshake too.
	headerTimeout = 10 * time.Second

	// maxHeaderBytes is what a client can make us keep before it has said whose
	// request it is. A longer query travels as a POST.
	maxHeaderBytes = 64 << 10

	// maxStreams is how many requests an HTTP/2 connection may have in flight: as
	// few as RFC 9113 recommends, because they do not count as connections.
	maxStreams = 100

	// answerTimeout is for what net/http answers by itself; the handler sets its
	// own with each piece that it sends.
	answerTimeout = 30 * time.Second
)

// server serves one listener.
type server struct {
	listener *connections
	handler  http.Handler
	logger   *slog.Logger
}

// listen opens an address; flag is what the operator changes when it is taken.
func listen(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return l, nil
}

// run serves until ctx ends. Then it takes no more connections and returns when
// no handler runs any more, so that what they use may be closed.
func (s server) run(ctx context.Context) error {
	var handlers sync.WaitGroup
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			handlers.Add(1)
			defer handlers.Done()
			s.handle(w, req)
		}),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         s.listener.follow,
		ConnContext:       withConnection,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(s.listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		s.logger.Warn("requests are cut off: they did not end in time", "timeout", drainTimeout)
		err = srv.Close()
		waitAtMost(&handlers, abandonTimeout)
	}
	return err
}

// handle answers one request.
func (s server) handle(w http.ResponseWriter, req *http.Request) {
	conn := handling(req.Context())
	ending, err := s.listener.web.check(conn, req.TLS, time.Now())
	if ending {
		w.Header().Set("Connection", "close") // over HTTP/2 it becomes a GOAWAY
	}
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.handler.ServeHTTP(w, req)
}

// waitAtMost waits for wg, but not for ever: a handler that ignores its context
// must not keep the process from stopping.
func waitAtMost(wg *sync.WaitGroup, timeout time.Duration) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}
