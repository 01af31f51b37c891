package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

// TestRawRequests speaks to the socket what no HTTP client would: none of it may
// be answered by a 5xx, which senders repeat for ever, and none of it keeps the
// next good request from being stored.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	if harness.Against() != "weir" {
		t.Skip("net/http alone answers 501 and 505")
	}
	s := harness.Start(t, harness.Config{})
	address := strings.TrimPrefix(s.Process().URL, "http://")
	now := time.Now().UnixMilli()
	body := string(harness.Encode(t, harness.V1, harness.Series{Labels: []string{"__name__", "raw"}, Samples: []harness.Sample{{T: now, V: 1}}}))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	push := func(header, body string) string {
		return "POST /api/v1/push HTTP/1.1\r\nHost: w\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n" + header + "\r\n" + body
	}
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for _, tc := range []struct {
		name, request string
		want          []int
	}{
		{"good", push(length, body), []int{204}},
		{"pipelined", push(length, body) + push(length, body) + push(length, body), []int{204, 204, 204}},
		{"both lengths", push(length+"Transfer-Encoding: chunked\r\n", chunked), []int{204}},
		{"two lengths", push(length+"Content-Length: 1\r\n", body), []int{400}},
		{"unknown transfer coding", push("Transfer-Encoding: gzip\r\n", body), []int{400}},
		{"another version of HTTP", strings.Replace(push(length, body), "HTTP/1.1", "HTTP/9.0", 1), []int{400}},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{404}},
		{"two types", push(length+"Content-Type: text/plain\r\n", body), []int{400}},
		{"two encodings", push(length+"Content-Encoding: gzip\r\n", body), []int{400}},
		{"absurd header", push(length+"X: "+strings.Repeat("x", 200<<10)+"\r\n", body), []int{431}},
		{"many headers", push(length+strings.Repeat("X: y\r\n", 30_000), body), []int{431}},
		{"method in lower case", strings.Replace(push(length, body), "POST", "post", 1), []int{405}},
		{"star", "OPTIONS * HTTP/1.1\r\nHost: w\r\n\r\n", []int{200}},
		{"tunnel", "CONNECT w:80 HTTP/1.1\r\nHost: w\r\n\r\n", []int{404}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			go func() { _, _ = io.WriteString(conn, tc.request) }() // it may be closed meanwhile
			var got []int
			r := bufio.NewReader(conn)
			for range tc.want {
				resp, err := http.ReadResponse(r, nil)
				require.NoError(t, err, "after %v", got)
				_, _ = io.Copy(io.Discard, resp.Body) // reset, when the server did not read all
				got = append(got, resp.StatusCode)
			}
			require.Equal(t, tc.want, got)
		})
	}
	s.Accept(t, harness.V1, harness.Series{Labels: []string{"__name__", "after"}, Samples: []harness.Sample{{T: now, V: 1}}})
	require.Len(t, s.Only(t, "raw", now, now).Floats, 1)
}
