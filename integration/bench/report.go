package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
)

// columns of the table, in the order of the budget.
var columns = []struct {
	title  string
	format string
	f      metric
}{
	{"CPU-s per 1 M samples", "%.3f", cpuPerMillion},
	{"1000 samples/s", "%.0f", ksamplesPerSec},
	{"request p50 ms", "%.0f", p50ms},
	{"request p99 ms", "%.0f", p99ms},
	{"longest ms", "%.0f", longestMS},
	{"longest ms, new series", "%.0f", longestNewMS},
	{"peak MiB", "%.0f", peakMiB},
	{"CPU µs per new series", "%.1f", cpuPerNewSeries},
}

// Print writes one table per scenario (median, least and most of the repeats,
// and the ratio of weir to each peer), then the budget. It reports whether every
// measured line of the budget holds.
func Print(w io.Writer, all []Measurement) bool {
	for _, scenario := range distinct(all, func(m Measurement) string { return m.Scenario }) {
		first := all[slices.IndexFunc(all, func(m Measurement) bool { return m.Scenario == scenario })]
		fmt.Fprintf(w, "\n%s: %d series, %.1f M samples after the first round; median [least – most]\n", scenario, first.Series, float64(first.Samples)/1e6)
		printScenario(w, all, scenario)
	}
	fmt.Fprintf(w, "\nBudget (medians)\n")
	return printBudget(w, Budget(all))
}

func printScenario(w io.Writer, all []Measurement, scenario string) {
	servers := distinct(all, func(m Measurement) string {
		if m.Scenario != scenario {
			return ""
		}
		return m.Server
	})
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range servers {
		fmt.Fprintf(tw, "\t%s", s)
	}
	for _, s := range servers {
		if s != "weir" && slices.Contains(servers, "weir") {
			fmt.Fprintf(tw, "\tweir/%s", s)
		}
	}
	fmt.Fprintln(tw)
	for _, c := range columns {
		fmt.Fprint(tw, c.title)
		for _, s := range servers {
			v := values(all, scenario, s, c.f)
			fmt.Fprintf(tw, "\t"+c.format+" ["+c.format+" – "+c.format+"]", median(all, scenario, s, c.f), v[0], v[len(v)-1])
		}
		for _, s := range servers {
			if q := quotient(all, scenario, "weir", scenario, s, c.f); s != "weir" && q >= 0 {
				fmt.Fprintf(tw, "\t%.2f", q)
			}
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

func printBudget(w io.Writer, lines []Line) bool {
	holds := true
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		switch {
		case !l.Measured:
			fmt.Fprintf(tw, "-\t%s\tnot measured\t≤ %g %s\n", l.Text, l.Limit, l.Unit)
		case l.Holds:
			fmt.Fprintf(tw, "pass\t%s\t%.2f\t≤ %g %s\n", l.Text, l.Value, l.Limit, l.Unit)
		default:
			holds = false
			fmt.Fprintf(tw, "FAIL\t%s\t%.2f\t≤ %g %s\n", l.Text, l.Value, l.Limit, l.Unit)
		}
	}
	tw.Flush()
	return holds
}

// distinct returns the keys in order of appearance, without the empty one.
func distinct(all []Measurement, key func(Measurement) string) []string {
	var out []string
	for _, m := range all {
		if k := key(m); k != "" && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// WriteJSON writes everything that was measured, and the budget, to a file.
func WriteJSON(path string, all []Measurement) error {
	b, err := json.MarshalIndent(struct {
		GoVersion    string        `json:"go_version"`
		CPUs         int           `json:"cpus"`
		Measurements []Measurement `json:"measurements"`
		Budget       []Line        `json:"budget"`
	}{runtime.Version(), runtime.NumCPU(), all, Budget(all)}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
