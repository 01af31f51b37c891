// Loadgen writes Kubernetes-like series to a remote-write receiver and prints
// how it answered. Example:
//
//	go run ./integration/cmd/loadgen -url http://127.0.0.1:9009/api/v1/push -protocol 2 -series 50000 -rounds 20
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/weir-metrics/weir/integration/loadgen"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// headers collects repeated -header flags.
type headers map[string]string

func (h headers) String() string { return "" }

func (h headers) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok {
		return fmt.Errorf("%q: must be name: value", s)
	}
	h[strings.TrimSpace(name)] = strings.TrimSpace(value)
	return nil
}

func run(ctx context.Context) error {
	cfg := loadgen.DefaultConfig()
	cfg.Headers = map[string]string{}
	protocol := flag.Int("protocol", int(cfg.Protocol), "remote-write version, 1 or 2")
	flag.StringVar(&cfg.URL, "url", "http://127.0.0.1:9009/api/v1/push", "remote-write endpoint")
	flag.Var(headers(cfg.Headers), "header", "name: value, added to every request; may be repeated")
	flag.IntVar(&cfg.Series, "series", cfg.Series, "active series")
	flag.IntVar(&cfg.SamplesPerRequest, "samples-per-request", cfg.SamplesPerRequest, "series in one request")
	flag.IntVar(&cfg.Senders, "concurrency", cfg.Senders, "connections, each with its own series")
	flag.IntVar(&cfg.Rounds, "rounds", cfg.Rounds, "samples of each series")
	flag.DurationVar(&cfg.Interval, "interval", cfg.Interval, "between the timestamps of two rounds")
	flag.Float64Var(&cfg.Churn, "churn", cfg.Churn, "share of the series that are replaced before each round")
	flag.BoolVar(&cfg.HAPairs, "ha", cfg.HAPairs, "send everything twice, as a pair of Prometheus replicas does")
	flag.BoolVar(&cfg.ClassicHistograms, "classic-histograms", cfg.ClassicHistograms, "include _bucket, _sum and _count series")
	flag.Float64Var(&cfg.NativeHistograms, "native-histograms", cfg.NativeHistograms, "share of the series that are native histograms")
	flag.Uint64Var(&cfg.Seed, "seed", cfg.Seed, "of names and values")
	flag.DurationVar(&cfg.Timeout, "timeout", cfg.Timeout, "of one request")
	flag.Parse()
	cfg.Protocol = loadgen.Protocol(*protocol)

	g, err := loadgen.New(cfg)
	if err != nil {
		return err
	}
	defer g.Close()
	r, err := g.Run(ctx, cfg.Rounds)
	report(r)
	return err
}

func report(r loadgen.Result) {
	fmt.Printf("acknowledged %d samples in %s: %.0f samples/s\n", r.Samples, r.Elapsed.Round(1e6), float64(r.Samples)/r.Elapsed.Seconds())
	fmt.Printf("requests %d, by status %v, samples not acknowledged %d\n", r.Requests, r.Status, r.Refused)
	fmt.Printf("latency p50 %s, p99 %s, longest %s\n", r.P50, r.P99, r.Max)
	fmt.Printf("sent %.1f MB, %.1f MB before compression\n", float64(r.BytesSent)/1e6, float64(r.BytesDecoded)/1e6)
	if r.FirstError != "" {
		fmt.Printf("first error: %s\n", r.FirstError)
	}
}
