package integration

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestStopUnderLoad stops the server gracefully while it is written to: it must
// end well and in time, and lose nothing that it acknowledged.
func TestStopUnderLoad(t *testing.T) {
	const stops = 4
	seed := seedOf(t)
	s := harness.Start(t, tenants())
	begin := time.Now().UnixMilli()
	l := startLoad(t, s, seed)
	for i := range stops {
		wait(t, time.Second)
		start := time.Now()
		s.Stop()
		took := time.Since(start)
		s.Again()
		right := l.ledger.check(t, s, begin)
		progress(t, "stop %d of %d took %s, %d samples right, %d acknowledged; %s",
			i+1, stops, took.Round(time.Millisecond), right, l.ledger.count(), l)
	}
	l.stop()
	s.Stop()
}

// TestStopDespiteStuckClient stops the server while a client holds a request
// open and sends nothing.
func TestStopDespiteStuckClient(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Config{})
	address := strings.TrimPrefix(s.Process().URL, "http://")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-protobuf\r\n"+
		"Content-Encoding: snappy\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		strings.TrimPrefix(s.WriteURL(), s.Process().URL), address)
	require.NoError(t, err)
	// The server says so when the handler begins to read the body.
	status, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, status, "100 Continue")
	start := time.Now()
	s.Stop()
	progress(t, "ended %s after SIGTERM", time.Since(start).Round(time.Millisecond))
}
