package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pipes is a listener whose connections are in memory, for the fake clock.
type pipes struct {
	conns  chan net.Conn
	closed sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error {
	p.closed.Do(func() { close(p.conns) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// servePipes serves h until the test's bubble ends.
func servePipes(t *testing.T, h http.Handler) *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	srv := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(p) }()
	t.Cleanup(func() {
		srv.Close()
		require.ErrorIs(t, <-done, http.ErrServerClosed)
	})
	return p
}

// TestSlowBody: a client that sends its body byte by byte is cut off in time,
// with an answer, and the handler does not wait longer.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read time.Duration
		s := newServer(t, noDBs, func(s *server) {
			s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				start := time.Now()
				_, err := io.ReadAll(r.Body)
				read = time.Since(start)
				require.ErrorContains(t, err, "timeout")
				w.WriteHeader(http.StatusServiceUnavailable)
			})
		})
		conn := servePipes(t, s.Handler).dial()
		defer conn.Close()
		answer := make(chan string, 1)
		go func() {
			line, _ := bufio.NewReader(conn).ReadString('\n')
			answer <- line
		}()
		_, err := io.WriteString(conn, "POST /api/v1/push HTTP/1.1\r\nHost: weir\r\nContent-Length: 1000\r\n\r\n")
		require.NoError(t, err)
		for range 1000 {
			time.Sleep(time.Second)
			if _, err = io.WriteString(conn, "x"); err != nil {
				break
			}
		}
		require.Error(t, err, "it could go on for ever")
		require.Contains(t, <-answer, "503")
		require.Equal(t, 30*time.Second, read)
	})
}

// TestSlowHandler: the deadlines are for clients. A handler may think for longer
// before it answers, and a client that sent its body in time is not cut off.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, noDBs, func(s *server) {
			s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				for range 3 {
					time.Sleep(10 * time.Minute)
					require.NoError(t, r.Context().Err())
					_, err = w.Write(body)
					require.NoError(t, err)
					require.NoError(t, http.NewResponseController(w).Flush())
				}
			})
		})
		p := servePipes(t, s.Handler)
		client := http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return p.dial(), nil },
			DisableKeepAlives: true,
		}}
		resp, err := client.Post("http://weir/api/v1/push", "text/plain", strings.NewReader("body"))
		require.NoError(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "bodybodybody", string(got))
	})
}

// TestUnreadAnswer: a client that does not take its answer, or takes it one byte
// a second, does not keep the memory of it. One on a slow line gets it all.
func TestUnreadAnswer(t *testing.T) {
	const size = 8 << 20
	for _, tc := range []struct {
		name          string
		bytes         int64 // a second
		whole         bool
		within, least time.Duration
	}{
		{"never", 0, false, 31 * time.Second, 30 * time.Second},
		{"byte by byte", 1, false, 40 * time.Second, 30 * time.Second},
		{"a quarter of the rate", 16 << 10, false, time.Minute, 30 * time.Second},
		{"slow and steady", 70 << 10, true, 3 * time.Minute, time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				type end struct {
					after time.Duration
					err   error
				}
				ended := make(chan end, 1)
				s := newServer(t, noDBs, func(s *server) {
					s.deps.Writer = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						start := time.Now()
						piece := make([]byte, 64<<10)
						var err error
						for sent := 0; sent < size && err == nil; sent += len(piece) {
							_, err = w.Write(piece)
						}
						ended <- end{time.Since(start), err}
					})
				})
				conn := servePipes(t, s.Handler).dial()
				defer conn.Close()
				_, err := fmt.Fprintf(conn, "POST /api/v1/push HTTP/1.1\r\nHost: weir\r\nContent-Length: 0\r\n\r\n")
				require.NoError(t, err)
				var reader sync.WaitGroup
				reader.Go(func() {
					for tc.bytes > 0 && err == nil {
						time.Sleep(time.Second)
						_, err = io.CopyN(io.Discard, conn, tc.bytes)
					}
				})
				got := <-ended
				conn.Close()
				reader.Wait()
				require.Equal(t, tc.whole, got.err == nil, "%v after %s", got.err, got.after)
				require.LessOrEqual(t, got.after, tc.within)
				require.GreaterOrEqual(t, got.after, tc.least)
			})
		})
	}
}
