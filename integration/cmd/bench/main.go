// Bench runs the same load against weir, without and with what guards a tenant,
// VictoriaMetrics and Prometheus in turn, and prints CPU time, memory, latency, their
// ratios and the budget. It builds into -bin what is missing there. Examples:
//
//	go run ./integration/cmd/bench
//	go run ./integration/cmd/bench -quick -repeats 1 -servers weir -scenarios steady-rw1
//	go run ./integration/cmd/bench -scenarios tenants,restart
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/weir-metrics/weir/integration/bench"
	"github.com/weir-metrics/weir/integration/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errOverBudget = errors.New("the budget does not hold")

func run(ctx context.Context) error {
	cfg := bench.Config{}
	var quick, check bool
	var servers, scenarios, jsonPath string
	flag.StringVar(&servers, "servers", "weir,weir-guarded,victoria-metrics,prometheus", "which servers, in the order of each repeat")
	flag.StringVar(&scenarios, "scenarios", strings.Join([]string{bench.SteadyV1, bench.SteadyV2, bench.Cardinality}, ","), "which loads; "+bench.Tenants+" and "+bench.Restart+" are about starting, on weir alone")
	flag.IntVar(&cfg.Repeats, "repeats", 5, "runs of each server under each load")
	flag.BoolVar(&quick, "quick", false, "about a tenth of the load; the budget is not stated for it")
	flag.BoolVar(&check, "check", false, "fail when a measured line of the budget does not hold")
	flag.StringVar(&cfg.BinDir, "bin", "bin", "where the binaries are, or are built to")
	flag.StringVar(&cfg.WorkDir, "dir", "", "parent of the data directories; empty: the system's temporary directory")
	flag.Int64Var(&cfg.MemoryLimit, "memory", bench.DefaultMemoryLimit, "bytes that a server may use")
	flag.BoolVar(&cfg.Keep, "keep", false, "keep data directories and logs")
	flag.StringVar(&jsonPath, "json", "", "file for all figures")
	flag.Parse()

	kinds := []server.Kind{server.Weir(), bench.Guarded(), server.VictoriaMetrics(), server.Prometheus()}
	var err error
	if cfg.Servers, err = bench.Select(kinds, func(k server.Kind) string { return k.Name }, strings.Split(servers, ",")); err != nil {
		return fmt.Errorf("-servers: %w", err)
	}
	loads, starts := split(strings.Split(scenarios, ","))
	if cfg.Scenarios, err = bench.Select(bench.Scenarios(), func(s bench.Scenario) string { return s.Name }, loads); err != nil {
		return fmt.Errorf("-scenarios: %w", err)
	}
	if len(starts) > 0 {
		holds, err := runStarts(ctx, cfg, starts, quick)
		if err == nil && check && !holds {
			err = errOverBudget
		}
		if err != nil || len(loads) == 0 {
			return err
		}
	}
	if quick {
		for i, s := range cfg.Scenarios {
			cfg.Scenarios[i] = s.Quick()
		}
	}
	all, runErr := bench.Run(ctx, cfg, os.Stderr)
	holds := bench.Print(os.Stdout, all)
	if quick {
		fmt.Println("These were small loads; the budget is stated for the full ones.")
	}
	if jsonPath != "" {
		if err := bench.WriteJSON(jsonPath, all); err != nil {
			return err
		}
	}
	if runErr == nil && check && !holds {
		return errOverBudget
	}
	return runErr
}

// split tells the scenarios about starting from the others.
func split(names []string) (loads, starts []string) {
	for _, n := range names {
		if n == bench.Tenants || n == bench.Restart {
			starts = append(starts, n)
		} else {
			loads = append(loads, n)
		}
	}
	return loads, starts
}

func runStarts(ctx context.Context, cfg bench.Config, names []string, quick bool) (holds bool, err error) {
	scenarios, err := bench.Select(bench.StartScenarios(), func(s bench.StartScenario) string { return s.Name }, names)
	if err != nil {
		return false, err
	}
	if quick {
		for i, s := range scenarios {
			scenarios[i] = s.Quick()
		}
	}
	return bench.RunStarts(ctx, cfg, scenarios, os.Stdout)
}
