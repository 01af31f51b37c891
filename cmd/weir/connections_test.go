package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// serve runs a server with at most max connections until the test ends.
func serve(t *testing.T, max int, h http.Handler) (addr string, conns *connections) {
	t.Helper()
	return serveWeb(t, max, nil, h)
}

// serveWeb is serve over TLS, unless web is nil.
func serveWeb(t *testing.T, max int, web *webConfig, h http.Handler) (addr string, conns *connections) {
	t.Helper()
	l, err := listen("-http.listen", "127.0.0.1:0")
	require.NoError(t, err)
	conns = newConnections(l, max, prometheus.NewCounter(prometheus.CounterOpts{Name: "dropped"}), web)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server{conns, h, slog.New(slog.DiscardHandler)}.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		// Of a connection that a client ended, the close may still be under way.
		require.Eventually(t, func() bool { return conns.count() == 0 }, 10*time.Second, time.Millisecond, "connections that were forgotten")
	})
	return l.Addr().String(), conns
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

const get = "GET / HTTP/1.1\r\nHost: weir\r\n\r\n"

// ask sends a request and returns the status line of the answer.
func ask(t *testing.T, conn net.Conn, request string) string {
	t.Helper()
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.Status
}

// closed waits for the other side to close.
func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestIdleConnectionsMakeRoom: clients that hold connections and ask nothing keep
// nobody out, and do not end requests that are being answered.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const max = 4
	entered, release := make(chan struct{}), make(chan struct{})
	addr, conns := serve(t, max, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-release
		}
	}))
	answered := make(chan string, 1)
	busy := dial(t, addr)
	go func() { answered <- ask(t, busy, "GET /wait HTTP/1.1\r\nHost: weir\r\n\r\n") }()
	<-entered

	idle := dial(t, addr)
	require.Equal(t, "200 OK", ask(t, idle, get))
	var silent []net.Conn
	for range 3 * max {
		silent = append(silent, dial(t, addr))
	}
	closed(t, idle)
	for _, conn := range silent[:2*max] {
		closed(t, conn)
	}
	require.Equal(t, "200 OK", ask(t, dial(t, addr), get), "a newcomer")
	require.LessOrEqual(t, conns.count(), max)
	require.Positive(t, testutil.ToFloat64(conns.dropped))
	close(release)
	require.Equal(t, "200 OK", <-answered)
}

// TestBusyConnectionsStay: when all are busy, the new one is closed.
func TestBusyConnectionsStay(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	addr, conns := serve(t, 1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}))
	answered := make(chan string, 1)
	busy := dial(t, addr)
	go func() { answered <- ask(t, busy, get) }()
	<-entered
	closed(t, dial(t, addr))
	require.Equal(t, 1.0, testutil.ToFloat64(conns.dropped))
	close(release)
	require.Equal(t, "200 OK", <-answered)
}

// TestRawRequests: whatever comes, the answer is never a 5xx, which senders
// repeat for ever.
func TestRawRequests(t *testing.T) {
	addr, _ := serve(t, 100, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(append([]byte(r.Method+" "), body...))
	}))
	for _, tc := range []struct {
		name, request string
		want          []string // the status of each answer
	}{
		{"both lengths: chunked counts", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", []string{"200"}},
		{"two lengths", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", []string{"400"}},
		{"the same length twice", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", []string{"200"}},
		{"negative length", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: -1\r\n\r\n", []string{"400"}},
		{"length too long for a number", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 99999999999999999999\r\n\r\n", []string{"400"}},
		{"unknown transfer coding", "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: gzip\r\n\r\n", []string{"400"}},
		{"two transfer codings", "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", []string{"400"}},
		{"a chunk that lies", "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n", []string{"400"}},
		{"another version", "GET / HTTP/3.0\r\nHost: w\r\n\r\n", []string{"400"}},
		{"no version", "GET /\r\n\r\n", []string{"400"}},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{"200"}}, // the handler's to refuse: no route matches
		{"no host", "GET / HTTP/1.1\r\n\r\n", []string{"400"}},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []string{"400"}},
		{"unknown expectation", "POST / HTTP/1.1\r\nHost: w\r\nExpect: a miracle\r\nContent-Length: 1\r\n\r\nx", []string{"417"}},
		{"header without a colon", "GET / HTTP/1.1\r\nHost: w\r\nnonsense\r\n\r\n", []string{"400"}},
		{"blank before the colon", "GET / HTTP/1.1\r\nHost: w\r\nA : b\r\n\r\n", []string{"400"}},
		{"NUL in a header", "GET / HTTP/1.1\r\nHost: w\r\nA: b\x00c\r\n\r\n", []string{"400"}},
		{"absurd header", "GET / HTTP/1.1\r\nHost: w\r\nA: " + strings.Repeat("b", 100<<10) + "\r\n\r\n", []string{"431"}},
		{"absurd path", "GET /" + strings.Repeat("b", 100<<10) + " HTTP/1.1\r\nHost: w\r\n\r\n", []string{"431"}},
		{"bad escapes", "GET /%zz HTTP/1.1\r\nHost: w\r\n\r\n", []string{"400"}},
		{"not HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []string{"400"}},
		{"unknown transfer coding behind a good request", get + "POST / HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: gzip\r\n\r\n", []string{"200", "400"}},
		{"pipelined", get + get + "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 1\r\n\r\nx" + get, []string{"200", "200", "200", "200"}},
		{"pipelined behind a lie", "POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 3\r\n\r\nx" + get, []string{"200", "200"}}, // of the method "T": the handler's to refuse
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := dial(t, addr)
			go func() { // it may be closed while we write
				_, _ = io.WriteString(conn, tc.request)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			var got []string
			for r := bufio.NewReader(conn); ; {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), "%v after %v", err, got)
					break
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				got = append(got, resp.Status[:3])
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// TestAnswersPass as handlers give them, also where their bodies look like a
// status line.
func TestAnswersPass(t *testing.T) {
	const text = "HTTP/1.1 501 Not Implemented\r\n"
	addr, _ := serve(t, 10, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotImplemented)
		for range 3 {
			require.NoError(t, http.NewResponseController(w).Flush())
			_, err := io.WriteString(w, text)
			require.NoError(t, err)
		}
	}))
	conn := dial(t, addr)
	r := bufio.NewReader(conn)
	for range 2 {
		// Of HTTP 1.0, so that pieces are not framed as chunks.
		_, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: w\r\nConnection: keep-alive\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotImplemented, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, strings.Repeat(text, 3), string(body))
		conn = dial(t, addr)
		r.Reset(conn)
	}
}

// onePipe is a listener with one connection, in memory for the fake clock.
type onePipe struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (p onePipe) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conn:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p onePipe) Close() error {
	close(p.closed)
	return nil
}

func (p onePipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// TestSlowHeader: a client that sends its header byte by byte is cut off, and so
// is one that sends none, or does not get its TLS handshake done.
func TestSlowHeader(t *testing.T) {
	f := newWebFiles(t, "")
	for _, tc := range []struct {
		header string
		web    *webConfig
	}{
		{"", nil},
		{"GET / HTTP/1.1\r\nHost: " + strings.Repeat("w", 100), nil},
		{"", f.open(t)},
		{"\x16\x03\x01\x02\x00" + strings.Repeat("w", 100), f.open(t)},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := onePipe{make(chan net.Conn, 1), make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			conns := newConnections(p, 1, prometheus.NewCounter(prometheus.CounterOpts{}), tc.web)
			go func() { done <- server{conns, http.NotFoundHandler(), slog.New(slog.DiscardHandler)}.run(ctx) }()
			client, conn := net.Pipe()
			p.conn <- conn
			start := time.Now()
			var sender sync.WaitGroup
			sender.Go(func() {
				for _, b := range []byte(tc.header) {
					time.Sleep(time.Second)
					if _, err := client.Write([]byte{b}); err != nil {
						return
					}
				}
			})
			_, err := io.ReadAll(client)
			require.NoError(t, err)
			require.Equal(t, headerTimeout, time.Since(start))
			require.Zero(t, conns.count())
			sender.Wait()
			cancel()
			require.NoError(t, <-done)
		})
	}
}
