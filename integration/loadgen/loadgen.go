// Package loadgen writes Kubernetes-like series to a remote-write receiver and
// measures how it answers.
//
//	fleet.go      which series there are: pods, jobs, label names and values
//	catalogue.go  the metrics that each pod exposes
//	value.go      what a series is worth in a round, a pure function
//	batch.go      the series of one request, labels encoded once
//	wire.go       remote-write 1.0 and 2.0 by hand
//	sender.go     one connection: encode, compress, post, measure
//
// A generator must not starve the server on a small machine: the label part of
// a series is encoded when the series is born, and a round only appends samples
// to it. Everything is a function of the seed, so that two servers see the same
// bytes.
package loadgen

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Protocol is a version of remote write.
type Protocol int

// The two versions.
const (
	V1 Protocol = 1
	V2 Protocol = 2
)

// Config of a Generator.
type Config struct {
	URL     string            // of the remote-write endpoint
	Headers map[string]string // added to every request

	Protocol          Protocol
	Series            int           // active at a time, per HA replica
	SamplesPerRequest int           // every series has one sample in a request
	Senders           int           // connections; each owns every n-th series, as Prometheus' shards do
	Rounds            int           // planned in all: the last one's timestamps lie just before now
	Interval          time.Duration // between the timestamps of two rounds; rounds are sent as fast as they are taken
	Churn             float64       // share of the pods that are replaced before each round
	HAPairs           bool          // send everything twice, with cluster and __replica__ labels
	ClassicHistograms bool          // a third of the series are _bucket, _sum and _count
	NativeHistograms  float64       // share of the metrics of a pod that are native histograms
	Seed              uint64
	Timeout           time.Duration // of one request
}

// DefaultConfig returns what the benchmarks call the steady load, without URL.
func DefaultConfig() Config {
	return Config{
		Protocol:          V1,
		Series:            100_000,
		SamplesPerRequest: 2000, // Prometheus' max_samples_per_send
		Senders:           4,
		Rounds:            10,
		Interval:          15 * time.Second,
		ClassicHistograms: true,
		Seed:              1,
		Timeout:           30 * time.Second, // Prometheus' remote_timeout
	}
}

// Validate reports every violation at once.
func (c *Config) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(c.URL != "", "url: must be given")
	require(c.Protocol == V1 || c.Protocol == V2, "protocol: %d: must be 1 or 2", c.Protocol)
	require(c.Series > 0, "series: %d: must be at least 1", c.Series)
	require(c.SamplesPerRequest > 0, "samples per request: %d: must be at least 1", c.SamplesPerRequest)
	require(c.Senders > 0, "senders: %d: must be at least 1", c.Senders)
	require(c.Rounds > 0, "rounds: %d: must be at least 1", c.Rounds)
	require(c.Interval >= time.Millisecond, "interval: %s: must be at least 1ms", c.Interval)
	require(c.Churn >= 0 && c.Churn <= 1, "churn: %g: must be within 0 and 1", c.Churn)
	require(c.NativeHistograms >= 0 && c.NativeHistograms <= 1, "native histograms: %g: must be within 0 and 1", c.NativeHistograms)
	return errors.Join(errs...)
}

// Generator holds the encoded series and goes on where its last Run ended.
type Generator struct {
	cfg     Config
	senders []*sender
	round   int // the next one
	client  *http.Client
}

// New encodes the labels of all series: about half a second and 350 MB per
// million.
func New(cfg Config) (*Generator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: cfg.Senders,
		DisableCompression:  true,
	}
	g := &Generator{cfg: cfg, client: &http.Client{Transport: transport, Timeout: cfg.Timeout}}
	start := time.Now().Add(-time.Duration(cfg.Rounds) * cfg.Interval).UnixMilli()
	f := newFleet(cfg, start)
	for i := range cfg.Senders {
		g.senders = append(g.senders, newSender(cfg, f, g.client, i))
	}
	var encoding sync.WaitGroup
	for _, s := range g.senders {
		encoding.Go(func() { s.encode(0) })
	}
	encoding.Wait()
	return g, nil
}

// Run sends the next rounds and returns what the receiver did with them. A
// request that fails is counted, not repeated. Run ends early only when ctx
// does.
func (g *Generator) Run(ctx context.Context, rounds int) (Result, error) {
	start := time.Now()
	results := make([]Result, len(g.senders))
	var sending sync.WaitGroup
	for i, s := range g.senders {
		sending.Go(func() { results[i] = s.run(ctx, g.round, g.round+rounds) })
	}
	sending.Wait()
	g.round += rounds
	total := mergeResults(results)
	total.Elapsed = time.Since(start)
	return total, context.Cause(ctx)
}

// Close drops the connections.
func (g *Generator) Close() { g.client.CloseIdleConnections() }
