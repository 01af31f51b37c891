package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-metrics/weir/integration/loadgen"
	"github.com/weir-metrics/weir/integration/server"
)

// settle is how long a server may finish in the background what the load left
// behind (garbage collection, flushes, merges) before its CPU time is read: a
// server that postpones its work has not saved it.
const settle = 3 * time.Second

// stopWithin is how long a server may take to end after SIGTERM.
const stopWithin = time.Minute

// Measurement is one server under one load. Latencies are of single requests
// while all senders send as fast as they are answered.
type Measurement struct {
	Scenario string `json:"scenario"`
	Server   string `json:"server"`
	Repeat   int    `json:"repeat"`
	Series   int    `json:"series"`
	Samples  int64  `json:"samples"` // after the first round

	CPUPerMillion    float64 `json:"cpu_seconds_per_million_samples"` // after the first round
	CPUPerNewSeries  float64 `json:"cpu_microseconds_per_new_series"` // of the first round
	PeakBytes        int64   `json:"peak_resident_bytes"`
	SamplesPerSecond float64 `json:"samples_per_second"`
	P50              float64 `json:"request_p50_seconds"` // after the first round
	P99              float64 `json:"request_p99_seconds"`
	Longest          float64 `json:"request_longest_seconds"`
	LongestFirst     float64 `json:"request_longest_first_round_seconds"`
	GeneratorCPU     float64 `json:"generator_cpu_seconds_per_million_samples"`
}

// String is the line that is printed while a benchmark runs.
func (m Measurement) String() string {
	return fmt.Sprintf("%-12s %-17s %6.3f CPU-s/1M  %6.2f µs/new series  peak %5.0f MiB  %8.0f samples/s  p50 %4.0f p99 %4.0f longest %4.0f, new %4.0f ms  (generator %.2f CPU-s/1M)",
		m.Scenario, m.Server, m.CPUPerMillion, m.CPUPerNewSeries, float64(m.PeakBytes)/(1<<20), m.SamplesPerSecond,
		1e3*m.P50, 1e3*m.P99, 1e3*m.Longest, 1e3*m.LongestFirst, m.GeneratorCPU)
}

// measure starts a server on an empty directory, loads it and stops it.
func measure(ctx context.Context, cfg Config, k server.Kind, binary string, s Scenario) (_ Measurement, err error) {
	dir, err := os.MkdirTemp(cfg.WorkDir, "weir-bench-")
	if err != nil {
		return Measurement{}, err
	}
	if !cfg.Keep {
		defer os.RemoveAll(dir)
	}
	data, log := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	if err := os.Mkdir(data, 0o755); err != nil {
		return Measurement{}, err
	}
	p, err := server.Start(ctx, k, binary, server.Options{DataDir: data, LogPath: log, MemoryLimit: cfg.MemoryLimit})
	if err != nil {
		return Measurement{}, fmt.Errorf("%w\n%s", err, server.Tail(log, 2<<10))
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, server.Tail(log, 2<<10))
			p.Kill()
			return
		}
		err = p.Stop(stopWithin)
	}()
	load := s.load()
	load.URL, load.Headers = p.URL+k.WritePath, k.Headers
	g, err := loadgen.New(load)
	if err != nil {
		return Measurement{}, err
	}
	defer g.Close()
	m, err := observe(ctx, g, p, s)
	m.Server = k.Name
	return m, err
}

// observe runs the two phases of a load and reads the process around each.
func observe(ctx context.Context, g *loadgen.Generator, p *server.Process, s Scenario) (Measurement, error) {
	m := Measurement{Scenario: s.Name, Series: s.Series}
	first, firstUse, _, err := phase(ctx, g, p, 1)
	if err != nil {
		return m, fmt.Errorf("first round: %w", err)
	}
	rest, restUse, generator, err := phase(ctx, g, p, s.Rounds)
	if err != nil {
		return m, err
	}
	millions := float64(rest.Samples) / 1e6
	m.Samples = rest.Samples
	m.CPUPerNewSeries = firstUse.CPU.Seconds() * 1e6 / float64(s.Series)
	m.CPUPerMillion = restUse.CPU.Seconds() / millions
	m.GeneratorCPU = generator.Seconds() / millions
	m.PeakBytes = restUse.ResidentMax
	m.SamplesPerSecond = float64(rest.Samples) / rest.Elapsed.Seconds()
	m.P50, m.P99, m.Longest = rest.P50.Seconds(), rest.P99.Seconds(), rest.Max.Seconds()
	m.LongestFirst = first.Max.Seconds()
	return m, nil
}

// phase sends rounds and returns what the server used for them, and what the
// generator did.
func phase(ctx context.Context, g *loadgen.Generator, p *server.Process, rounds int) (r loadgen.Result, used server.Usage, generator time.Duration, err error) {
	before, err := p.Usage()
	if err != nil {
		return r, used, 0, err
	}
	own := ownCPU()
	if r, err = g.Run(ctx, rounds); err != nil {
		return r, used, 0, err
	}
	generator = ownCPU() - own
	if r.Refused > 0 {
		return r, used, 0, fmt.Errorf("%d samples not acknowledged, by status %v, first: %s", r.Refused, r.Status, r.FirstError)
	}
	select {
	case <-time.After(settle):
	case <-p.Exited():
		return r, used, 0, errors.New("server ended under load")
	case <-ctx.Done():
		return r, used, 0, context.Cause(ctx)
	}
	after, err := p.Usage()
	after.CPU -= before.CPU
	return r, after, generator, err
}

// ownCPU is the CPU time of this process so far.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
