package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/server"
)

// TestPromtoolQuery runs every sub-command of promtool query.
func TestPromtoolQuery(t *testing.T) {
	s := harness.Start(t, harness.Config{})
	base := time.Now().Add(-time.Minute).UnixMilli() / 1000 * 1000
	for i := range int64(4) {
		s.Accept(t, harness.V2,
			harness.Series{Labels: []string{"__name__", "pt_total", "shelf", "/a"}, Samples: []harness.Sample{{T: base + i*1000, V: float64(i) + 0.5}}},
			harness.Series{Labels: []string{"__name__", "pt_total", "shelf", "/b"}, Samples: []harness.Sample{{T: base + i*1000, V: -float64(i)}}},
			harness.Series{Labels: []string{"__name__", "pt_seconds"}, Samples: []harness.Sample{{T: base + i*1000, H: bell()}}},
		)
	}
	promtool := harness.Program(t, server.Promtool())
	run := func(t *testing.T, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), promtool, append([]string{"query", "-o", "json"}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		require.NoError(t, err, "%s", &stderr)
		return string(out)
	}
	point := func(i int64, v string) string { return fmt.Sprintf(`[%s,%q]`, harness.Seconds(base+i*1000), v) }
	commands := map[string]func(*testing.T){
		"instant": func(t *testing.T) {
			out := run(t, "instant", "--time="+harness.Seconds(base+2000), s.APIURL(), `sort(pt_total)`)
			require.JSONEq(t, fmt.Sprintf(`[{"metric":{"__name__":"pt_total","shelf":"/b"},"value":%s},{"metric":{"__name__":"pt_total","shelf":"/a"},"value":%s}]`,
				point(2, "-2"), point(2, "2.5")), out)
		},
		"range": func(t *testing.T) {
			out := run(t, "range", "--start="+harness.Seconds(base), "--end="+harness.Seconds(base+3000), "--step=1s", s.APIURL(), `pt_total{shelf="/a"}`)
			require.JSONEq(t, fmt.Sprintf(`[{"metric":{"__name__":"pt_total","shelf":"/a"},"values":[%s,%s,%s,%s]}]`,
				point(0, "0.5"), point(1, "1.5"), point(2, "2.5"), point(3, "3.5")), out)
		},
		"series": func(t *testing.T) {
			out := run(t, "series", "--match=pt_total", "--match=pt_seconds", s.APIURL())
			var got []model.LabelSet
			require.NoError(t, json.Unmarshal([]byte(out), &got))
			require.ElementsMatch(t, []model.LabelSet{
				{"__name__": "pt_total", "shelf": "/a"}, {"__name__": "pt_total", "shelf": "/b"}, {"__name__": "pt_seconds"},
			}, got)
		},
		"labels": func(t *testing.T) {
			require.JSONEq(t, `["/a","/b"]`, run(t, "labels", "--match=pt_total", s.APIURL(), "shelf"))
			require.JSONEq(t, `["/a","/b"]`, run(t, "labels", s.APIURL(), "shelf"))
		},
		"analyze": func(t *testing.T) {
			out := run(t, "analyze", "--server="+s.APIURL(), "--type=histogram", "--duration=5m", "--match=pt_seconds")
			// The fewest, average and most buckets that have something in them: each
			// time the five of bell and the one around zero.
			require.Contains(t, out, "- pt_seconds (native): 6/6.000/6\n")
		},
	}
	for name, f := range commands {
		t.Run(name, f)
	}
	require.ElementsMatch(t, subcommands(t, promtool), slices.Collect(maps.Keys(commands)), "promtool has learnt something")
}

// subcommands are those that the help of promtool query lists.
func subcommands(t *testing.T, promtool string) []string {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), promtool, "query", "--help").CombinedOutput()
	require.NoError(t, err)
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ *query (\w+)`).FindAllStringSubmatch(string(help), -1) {
		names = append(names, m[1])
	}
	require.NotEmpty(t, names, "%s", help)
	slices.Sort(names)
	return slices.Compact(names)
}
