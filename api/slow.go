package api

import (
	"io"
	"net/http"
	"time"
)

const (
	// bodyTimeout is how long the whole body of a request may take. Remote write
	// has a shorter one of its own.
	bodyTimeout = 30 * time.Second

	// A client that does not take its answer holds the memory of it. It may be
	// this late before the first byte, and no slower than this after that.
	answerGrace   = 30 * time.Second
	answerMinRate = 64 << 10 // bytes a second: half a megabit
)

// pace is how fast a client takes its answer.
type pace struct {
	sent   int
	waited time.Duration // for the client; what the handler takes between writes is not its fault
}

// left is how long the client may still make us wait.
func (p *pace) left() time.Duration {
	return answerGrace + time.Duration(p.sent/answerMinRate)*time.Second - p.waited
}

// allow sets the time until which the client must have taken n more bytes.
func (r *recorder) allow(n int) {
	r.client.sent += n
	// A writer of tests has no deadlines.
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(r.client.left()))
}

// limitBody sets the time until which the body of req must be there. After its
// end the deadline is lifted: the server goes on reading, to notice a client that
// goes away, and would take the deadline for that.
func (r *recorder) limitBody(req *http.Request) {
	if req.Body == nil || req.Body == http.NoBody {
		return
	}
	_ = http.NewResponseController(r.ResponseWriter).SetReadDeadline(time.Now().Add(bodyTimeout))
	r.body = timedBody{req.Body, r.ResponseWriter}
	req.Body = &r.body
}

// timedBody lifts the read deadline at the end of a body.
type timedBody struct {
	io.ReadCloser
	w http.ResponseWriter
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{})
	}
	return n, err
}
