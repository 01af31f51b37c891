package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// writeClient is apart from the query client, so that queries never wait for a
// sender's connection.
var writeClient = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 32},
}

// Counts are the X-Prometheus-Remote-Write-*-Written headers of an answer.
type Counts struct{ Samples, Histograms, Exemplars int }

// Answer to a write request.
type Answer struct {
	Status  int
	Header  http.Header
	Body    string
	Written Counts // -1 where the header is missing
}

// ErrNoAnswer wraps every failure after which it is unknown what was stored.
type ErrNoAnswer struct{ Err error }

func (e *ErrNoAnswer) Error() string { return fmt.Sprintf("no answer: %v", e.Err) }

// Unwrap returns the cause.
func (e *ErrNoAnswer) Unwrap() error { return e.Err }

// Post sends a compressed body once. Every error is an *ErrNoAnswer.
func (s *Server) Post(ctx context.Context, p Protocol, body []byte, header ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.WriteURL(), bytes.NewReader(body))
	if err != nil {
		return Answer{}, &ErrNoAnswer{err}
	}
	req.GetBody = nil // net/http must not repeat it behind our back
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "weir-integration/1")
	if p == V2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	s.identify(req.Header)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.by(writeClient).Do(req)
	if err != nil {
		return Answer{}, &ErrNoAnswer{err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, &ErrNoAnswer{err}
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text), Written: written(resp.Header)}, nil
}

// Flush has weir cut blocks of what it has in memory of a tenant.
func (s *Server) Flush(ctx context.Context, header ...string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Process().URL+"/ingester/flush", nil)
	if err != nil {
		return err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.by(writeClient).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, err := io.ReadAll(resp.Body)
		return fmt.Errorf("flush: %s: %s (%v)", resp.Status, text, err)
	}
	return nil
}

func written(h http.Header) Counts {
	count := func(what string) int {
		n, err := strconv.Atoi(h.Get("X-Prometheus-Remote-Write-" + what + "-Written"))
		if err != nil {
			return -1
		}
		return n
	}
	return Counts{count("Samples"), count("Histograms"), count("Exemplars")}
}

// Push sends series and fails the test without an answer.
func (s *Server) Push(t testing.TB, p Protocol, series ...Series) Answer {
	t.Helper()
	a, err := s.Post(t.Context(), p, Encode(t, p, series...))
	require.NoError(t, err)
	return a
}

// Accept sends series that must all be stored.
func (s *Server) Accept(t testing.TB, p Protocol, series ...Series) {
	t.Helper()
	a := s.Push(t, p, series...)
	require.Equal(t, http.StatusNoContent, a.Status, a.Body)
	require.Equal(t, AllWritten(p, series...), a.Written)
}

// AllWritten is what the Written headers of a complete success say. A 1.0
// sender takes their absence for "all", and the compliance suite asks for it.
func AllWritten(p Protocol, series ...Series) Counts {
	if p == V1 {
		return Counts{-1, -1, -1}
	}
	return CountOf(series...)
}

// CountOf counts what series hold.
func CountOf(series ...Series) Counts {
	var c Counts
	for _, s := range series {
		c.Exemplars += len(s.Exemplars)
		for _, x := range s.Samples {
			if x.H != nil || x.FH != nil {
				c.Histograms++
			} else {
				c.Samples++
			}
		}
	}
	return c
}
