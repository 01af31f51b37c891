package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestServerDrains(t *testing.T) {
	listener, err := listen("-http.listen", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()

	entered, release := make(chan struct{}), make(chan struct{})
	s := server{listener: newConnections(listener, 10, prometheus.NewCounter(prometheus.CounterOpts{}), nil), logger: slog.New(slog.DiscardHandler), handler: http.HandlerFunc(
		func(w http.ResponseWriter, req *http.Request) {
			close(entered)
			<-release
			_, err := io.WriteString(w, "done")
			require.NoError(t, err)
		})}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- s.run(ctx) }()

	answers := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- string(body)
	}()

	<-entered
	cancel()
	require.Eventually(t, func() bool { // no more connections are taken
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, stopped, "the server ended before the request in flight")
	close(release)
	require.Equal(t, "done", <-answers)
	require.NoError(t, <-stopped)
}

func TestListenNamesTheFlag(t *testing.T) {
	taken, err := listen("-http.listen", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	_, err = listen("-admin.listen", taken.Addr().String())
	require.ErrorContains(t, err, "-admin.listen: ")
	require.ErrorContains(t, err, "address already in use")
}
