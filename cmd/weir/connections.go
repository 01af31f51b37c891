package main

import (
	"bytes"
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// connections is a listener that has at most max connections open. When it has,
// a new one takes the place of the one that has waited longest for a request; a
// sender whose idle connection is closed opens another. When all are busy, the
// new one is closed. A connection whose TLS handshake is not complete waits for a
// request like any other.
type connections struct {
	net.Listener
	max     int
	dropped prometheus.Counter
	web     *webConfig // nil: no TLS

	mu      sync.Mutex
	open    map[*connection]*list.Element // guarded by mu; the element of those that wait, else nil
	waiting list.List                     // of *connection without a request, the longest first; guarded by mu
}

func newConnections(l net.Listener, max int, dropped prometheus.Counter, web *webConfig) *connections {
	return &connections{Listener: l, max: max, dropped: dropped, web: web, open: make(map[*connection]*list.Element)}
}

// Accept implements net.Listener.
func (l *connections) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.add(conn); c != nil {
			return l.web.wrap(c), nil
		}
	}
}

// add returns nil when there is no place for conn, which is closed then.
func (l *connections) add(conn net.Conn) *connection {
	c := &connection{Conn: conn, of: l}
	l.mu.Lock()
	full := len(l.open) >= l.max
	var victim *connection
	if first := l.waiting.Front(); full && first != nil {
		victim = first.Value.(*connection)
		l.forget(victim)
	}
	if !full || victim != nil {
		l.open[c] = l.waiting.PushBack(c)
	}
	l.mu.Unlock()
	switch {
	case victim != nil:
		l.dropped.Inc()
		victim.Conn.Close()
	case full:
		l.dropped.Inc()
		conn.Close()
		return nil
	}
	return c
}

// forget removes c; the caller holds mu.
func (l *connections) forget(c *connection) {
	if e := l.open[c]; e != nil {
		l.waiting.Remove(e)
	}
	delete(l.open, c)
}

// follow is http.Server.ConnState: it knows which connections wait.
func (l *connections) follow(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok && state == http.StateClosed && !t.ConnectionState().HandshakeComplete {
		l.web.metrics.failures.Inc()
	}
	c := below(conn)
	if c == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, open := l.open[c]
	switch {
	case !open:
	case state == http.StateActive && e != nil:
		l.waiting.Remove(e)
		l.open[c] = nil
	case state == http.StateIdle && e == nil:
		l.open[c] = l.waiting.PushBack(c)
	}
	if state == http.StateIdle {
		c.handled.Store(false)
	}
}

// count is the number of open connections.
func (l *connections) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// connection gives its place back when it is closed.
type connection struct {
	net.Conn
	of      *connections
	handled atomic.Bool                // a handler has been asked, so what is written is its answer
	vouched atomic.Pointer[webVersion] // that found the client's certificate good last; nil without TLS
}

// below returns the connection that a server's is made of, or nil.
func below(conn net.Conn) *connection {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

type connectionKey struct{}

// withConnection is http.Server.ConnContext.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, below(conn))
}

// handling is called when a handler is asked; ctx is the request's. It returns
// the connection on which that came.
func handling(ctx context.Context) *connection {
	c := ctx.Value(connectionKey{}).(*connection)
	c.handled.Store(true)
	return c
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// net/http answers 501 to a transfer coding that it does not know, and 505 to
// another version of HTTP, before any handler is asked. Senders repeat a 5xx for
// ever, and these can never succeed; so they become a 400, but for TLS, through
// which we do not see.
var (
	serverError = []byte("HTTP/1.1 50")
	badRequest  = []byte("HTTP/1.1 400 Bad Request")
)

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	if c.handled.Load() || len(p) <= len(serverError) || !bytes.HasPrefix(p, serverError) {
		return c.Conn.Write(p)
	}
	if code := p[len(serverError)]; code != '1' && code != '5' {
		return c.Conn.Write(p)
	}
	_, rest, _ := bytes.Cut(p, []byte("\r\n"))
	if _, err := c.Conn.Write(bytes.Join([][]byte{badRequest, rest}, []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// connectionMetrics are those of all listeners.
type connectionMetrics struct {
	reg     prometheus.Registerer
	dropped *prometheus.CounterVec
}

func newConnectionMetrics(reg prometheus.Registerer) connectionMetrics {
	return connectionMetrics{reg, promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "weir_http_dropped_connections_total",
		Help: "Connections closed because there are http.max_connections, by listener (http, admin): one that was idle, or else the new one.",
	}, []string{"listener"})}
}

// bound returns l with at most max connections at once, over TLS unless web is nil.
func (m connectionMetrics) bound(name string, l net.Listener, max int, web *webConfig) *connections {
	c := newConnections(l, max, m.dropped.WithLabelValues(name), web)
	promauto.With(m.reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_http_connections", ConstLabels: prometheus.Labels{"listener": name},
		Help: "Open connections, by listener.",
	}, func() float64 { return float64(c.count()) })
	return c
}
