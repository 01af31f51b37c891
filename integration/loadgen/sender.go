package loadgen

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"
)

// Result is what a receiver did with the requests of a Run.
type Result struct {
	Samples      int64         // in requests answered 2xx
	Refused      int64         // samples in all other requests
	Requests     int64         // all
	BytesSent    int64         // compressed bodies
	BytesDecoded int64         // before compression
	Status       map[int]int64 // requests by HTTP status; 0: no answer
	FirstError   string        // of the first request that was not answered 2xx
	Elapsed      time.Duration // of the whole Run
	P50          time.Duration // of a request, from before its first byte to after its answer
	P99          time.Duration
	Max          time.Duration

	latencies []time.Duration
}

// mergeResults adds the results of all senders.
func mergeResults(parts []Result) Result {
	total := Result{Status: map[int]int64{}}
	for _, r := range parts {
		total.Samples += r.Samples
		total.Refused += r.Refused
		total.Requests += r.Requests
		total.BytesSent += r.BytesSent
		total.BytesDecoded += r.BytesDecoded
		for code, n := range r.Status {
			total.Status[code] += n
		}
		if total.FirstError == "" {
			total.FirstError = r.FirstError
		}
		total.latencies = append(total.latencies, r.latencies...)
	}
	slices.Sort(total.latencies)
	if n := len(total.latencies); n > 0 {
		total.P50, total.P99, total.Max = total.latencies[n/2], total.latencies[n*99/100], total.latencies[n-1]
	}
	return total
}

// sender owns every n-th series, in the order in which targets are scraped.
type sender struct {
	cfg     Config
	fleet   *fleet
	client  *http.Client
	batches []*batch

	encoder  encoder
	request  []byte
	snappied []byte
}

func newSender(cfg Config, f *fleet, client *http.Client, index int) *sender {
	s := &sender{cfg: cfg, fleet: f, client: client}
	replicas := []int{-1}
	if cfg.HAPairs {
		replicas = []int{0, 1}
	}
	for first := index; first < cfg.Series; first += cfg.Senders * cfg.SamplesPerRequest {
		var series []int
		for i := first; i < cfg.Series && len(series) < cfg.SamplesPerRequest; i += cfg.Senders {
			series = append(series, i)
		}
		for _, r := range replicas {
			s.batches = append(s.batches, &batch{series: series, replica: r})
		}
	}
	return s
}

func (s *sender) encode(round int) {
	for _, b := range s.batches {
		b.encode(s.fleet, round)
	}
}

// run sends rounds from (inclusive) to to (exclusive).
func (s *sender) run(ctx context.Context, from, to int) Result {
	r := Result{Status: map[int]int64{}}
	for round := from; round < to; round++ {
		for _, b := range s.batches {
			if ctx.Err() != nil {
				return r
			}
			s.send(ctx, &r, b, round)
		}
	}
	return r
}

// send encodes and posts one request and adds its outcome to r.
func (s *sender) send(ctx context.Context, r *Result, b *batch, round int) {
	if !b.current(s.fleet, round) {
		b.encode(s.fleet, round)
	}
	s.request = s.encoder.appendRequest(s.request[:0], s.fleet, b, round)
	s.snappied = s2.EncodeSnappy(s.snappied[:cap(s.snappied)], s.request)
	start := time.Now()
	code, problem := s.post(ctx, s.snappied)
	r.latencies = append(r.latencies, time.Since(start))
	r.Requests++
	r.Status[code]++
	r.BytesSent += int64(len(s.snappied))
	r.BytesDecoded += int64(len(s.request))
	if code/100 == 2 {
		r.Samples += int64(len(b.series))
		return
	}
	r.Refused += int64(len(b.series))
	if r.FirstError == "" {
		r.FirstError = problem
	}
}

// post returns the status, or 0 without an answer, and what was wrong.
func (s *sender) post(ctx context.Context, body []byte) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "weir-loadgen/1")
	if s.cfg.Protocol == V2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	for name, value := range s.cfg.Headers {
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, fmt.Sprintf("%s: %s", resp.Status, answer)
}
