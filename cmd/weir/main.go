// Command weir receives Prometheus remote write, stores it and answers PromQL.
//
//	main.go         command line -> command
//	config.go       defaults < file < -set < named flags, checked as a whole
//	targets.go      what runs, in the order in which it starts
//	lifecycle.go    start in order, stop in reverse
//	server.go       HTTP on a listener; connections.go bounds what it takes
//	webconfig.go    TLS on a listener, reloaded; checks clients' certificates again
//	logging.go      log lines: level at run time, no floods, request ids
//	tracing.go      spans to an OTLP collector
//	memory.go       GOMEMLIMIT from the cgroup
//	health.go       the state of each part, for /ready
//	tenants.go      commands that look at the tenants file, and edit it
//	explain.go      a command that asks a weir that runs; client.go speaks to it
//	quarantine.go   commands for metrics that explode, of the same kind
//	selfmetrics.go  our own metrics, through the write path
//	rulestest.go    the tests of relabel rules
//	secret.go       what keys of hashes are derived from
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/common/version"

	"github.com/weir-metrics/weir/strictyaml"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// codeOf is the exit code of a command that failed.
func codeOf(command string) int {
	if command == "tenants check" {
		return 2
	}
	return 1
}

// run is the program; it returns the exit code: 2 for a bad command line or
// configuration, 1 for a failure while running.
func run(ctx context.Context, args []string, getenv func(string) (string, bool), stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "weir: %v\n", err)
		return code
	}
	flags, command, err := parseArgs(args, stdout, stderr)
	if err != nil {
		return fail(2, err)
	}
	switch command {
	case "":
		return 0
	case "version":
		fmt.Fprintln(stdout, version.Print("weir"))
		return 0
	case "explain":
		if err := flags.Explain.run(ctx, getenv, stdout); err != nil {
			return fail(1, err)
		}
		return 0
	case "quarantine list", "quarantine release":
		if err := flags.Quarantine.run(ctx, command, getenv, stdout); err != nil {
			return fail(1, err)
		}
		return 0
	case "rules test":
		return testRules(flags.Rules.Test.Files, stdout)
	}

	assignments, err := flags.assignments()
	if err != nil {
		return fail(2, err)
	}
	cfg, err := loadConfig(flags.ConfigFile, assignments, getenv)
	if err != nil {
		return fail(2, fmt.Errorf("the configuration is not valid:\n%w", err))
	}
	switch command {
	case "config check":
		fmt.Fprintln(stdout, "the configuration is valid")
		return 0
	case "config print":
		if err := strictyaml.Encode(stdout, cfg); err != nil {
			return fail(1, fmt.Errorf("print the configuration: %w", err))
		}
		return 0
	}
	if f := tenantCommand(command); f != nil {
		if err := f(flags, cfg, streams{stdout, stderr}); err != nil {
			return fail(codeOf(command), err)
		}
		return 0
	}
	if err := runAll(ctx, cfg, flags.shown(cfg), newLog(cfg.Log, stderr), stdout); err != nil {
		return fail(1, err)
	}
	return 0
}
