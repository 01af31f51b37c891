// Package bench runs the same load against weir and its peers, in turn on the
// same machine, and holds weir to its budget.
//
//	scenario.go  the loads
//	guarded.go   weir with a token, limits, rules and detectors
//	measure.go   one server, one load: CPU time, peak memory, latency
//	budget.go    what weir may cost, line by line
//	report.go    the table and the JSON file
//	start.go     stop, kill and start: time, memory and files
//
// Runs alternate (A B C A B C …), because a machine that other work shares is
// slower at one time than at another; ratios of medians cancel most of that.
// CPU time and memory are the operating system's figures of the server process,
// not the server's own.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/weir-metrics/weir/integration/server"
)

// Config of a comparison.
type Config struct {
	Servers     []server.Kind
	Scenarios   []Scenario
	Repeats     int
	BinDir      string // where binaries are, or are built to
	WorkDir     string // parent of the temporary data directories; empty: the system's
	MemoryLimit int64  // bytes per server
	Keep        bool   // keep data directories and logs
}

// DefaultMemoryLimit is far above what any of the servers needs here: it stops
// a runaway process and does not make garbage collection work harder.
const DefaultMemoryLimit = 8 << 30

// Run measures every scenario on every server, Repeats times. It returns what
// it measured so far together with an error.
func Run(ctx context.Context, cfg Config, progress io.Writer) ([]Measurement, error) {
	root, err := server.Root()
	if err != nil {
		return nil, err
	}
	binaries := map[string]string{} // by package: weir is there twice
	for _, k := range cfg.Servers {
		if binaries[k.Package] != "" {
			continue
		}
		if binaries[k.Package], err = server.Ensure(ctx, k, root, cfg.BinDir, progress); err != nil {
			return nil, err
		}
	}
	var all []Measurement
	for _, s := range cfg.Scenarios {
		for repeat := range cfg.Repeats {
			for _, k := range cfg.Servers {
				if !s.suits(k) {
					continue
				}
				m, err := measure(ctx, cfg, k, binaries[k.Package], s)
				if err != nil {
					return all, fmt.Errorf("%s on %s, repeat %d: %w", s.Name, k.Name, repeat+1, err)
				}
				m.Repeat = repeat + 1
				all = append(all, m)
				fmt.Fprintf(progress, "%d/%d %s\n", repeat+1, cfg.Repeats, m)
			}
		}
	}
	return all, nil
}

// Select returns the items whose name is listed, in the order of the list.
func Select[T any](all []T, name func(T) string, wanted []string) ([]T, error) {
	var out []T
	var errs []error
	for _, w := range wanted {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == w })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%q is not known", w))
			continue
		}
		out = append(out, all[i])
	}
	return out, errors.Join(errs...)
}
