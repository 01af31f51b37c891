package integration

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/integration/promqlscript"
)

// scriptServer takes what scripts load, whose times begin in 1970.
var scriptServer = harness.Config{
	OutOfOrderWindow: 1000 * time.Hour,
	Set: []string{
		"auth.mode=header", "self_metrics.enabled=false", "limits.past_grace=0s",
		"ingester.block_duration=24h", "ingester.retention=100y",
	},
	PrometheusArgs: []string{"--storage.tsdb.retention.time=100y"},
}

// scriptServerWithEverything has all that the scripts need turned on.
func scriptServerWithEverything() harness.Config {
	c := scriptServer
	c.Set = append([]string{"ingester.start_timestamps=true"}, c.Set...)
	c.PrometheusArgs = append([]string{"--enable-feature=st-storage"}, c.PrometheusArgs...)
	c.Features = []string{
		"promql-experimental-functions", "promql-extended-range-selectors", "promql-binop-fill-modifiers",
		"promql-delayed-name-removal", "use-start-timestamps",
	}
	return c
}

// experimentalScripts are about something experimental as a whole. What else is
// experimental shows in its syntax.
var experimentalScripts = []string{
	"duration_expression", "extended_vectors", "fill-modifier", "info", "limit",
	"name_label_dropping", "start_timestamps", "type_and_unit",
}

// Why an evaluation is not made.
const (
	noStarts  = "remote write 1.0 has no start timestamps"
	startsOff = "start timestamps are off by default"
	syntaxOff = "its syntax is off by default"
	namesOff  = "promql-delayed-name-removal, which its result or the text of its warning is about, is off by default"
)

// aboutNames are the evaluations, by script and line, to which namesOff applies.
// Prometheus without that feature fails them as well.
var aboutNames = map[string][]int{
	"histograms":          {1158, 1168, 1179, 1189, 1200, 1210, 1223, 1233},
	"name_label_dropping": {59, 64, 69, 74, 89, 115, 119, 123},
	"native_histograms":   {1616, 1621, 1631, 1635, 1639, 1644, 1648, 1653, 1908, 1911, 1914},
	"type_and_unit":       {77, 92, 222, 237},
}

// outcome counts evaluations.
type outcome struct {
	Stable, Experimental int // passed
	Failed               int
	Skipped              map[string]int // by reason
}

// TestPromQLScripts plays the scripts of Prometheus' own engine: what they load
// is written by remote write, what they evaluate is asked over HTTP in all the
// ways in which Prometheus' own runner asks it. docs/conformance.md has the
// outcome.
func TestPromQLScripts(t *testing.T) {
	scripts, err := promqlscript.Read(scriptsDir(t))
	require.NoError(t, err)
	for _, run := range []struct {
		name   string
		cfg    harness.Config
		player *player
		want   outcome
	}{
		{
			"everything on, by remote write 2.0", scriptServerWithEverything(), &player{protocol: harness.V2},
			outcome{Stable: 1633, Experimental: 610},
		},
		{
			"everything on, by remote write 2.0, from blocks", scriptServerWithEverything(), &player{protocol: harness.V2, flush: true},
			outcome{Stable: 1633, Experimental: 610},
		},
		{
			"everything on, by remote write 1.0", scriptServerWithEverything(), &player{protocol: harness.V1},
			outcome{Stable: 1633, Experimental: 584, Skipped: map[string]int{noStarts: 26}},
		},
		{
			"defaults, by remote write 2.0", scriptServer, &player{protocol: harness.V2, defaults: true},
			outcome{Stable: 1614, Experimental: 171, Skipped: map[string]int{syntaxOff: 403, namesOff: 31, startsOff: 24}},
		},
	} {
		t.Run(run.name, func(t *testing.T) {
			run.player.playAll(t, run.cfg, scripts)
			progress(t, "%+v", run.player.outcome)
			require.Equal(t, run.want, run.player.outcome)
		})
	}
}

// scriptsDir is where the scripts lie in the module of Prometheus that weir is
// built with.
func scriptsDir(t *testing.T) string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	require.NoError(t, err)
	return filepath.Join(strings.TrimSpace(string(dir)), "promql", "promqltest", "testdata")
}

// player plays scripts.
type player struct {
	protocol harness.Protocol
	flush    bool // what is loaded is cut into blocks at once
	defaults bool // nothing is turned on

	mu      sync.Mutex
	outcome outcome // guarded by mu
}

// playAll plays every script, each as a parallel subtest.
func (p *player) playAll(t *testing.T, cfg harness.Config, scripts []promqlscript.Script) {
	open := stores(t, cfg)
	t.Run("scripts", func(t *testing.T) { // ends when they all have
		for _, s := range scripts {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				for i, section := range s.Sections {
					p.play(t, open(t, fmt.Sprintf("%s-%d", s.Name, i)), s.Name, section)
				}
			})
		}
	})
}

// store is an empty store, and how to reach it.
type store struct {
	*harness.Server
	header []string
	close  func()
}

// stores returns a function that opens stores. In weir each is a tenant of one
// server. Prometheus has no tenants, and is started anew each time.
func stores(t *testing.T, cfg harness.Config) func(t *testing.T, name string) store {
	if harness.Against() == "prometheus" {
		return func(t *testing.T, _ string) store {
			s := harness.Start(t, cfg)
			return store{s, nil, s.Kill}
		}
	}
	s := harness.Start(t, cfg)
	return func(_ *testing.T, name string) store {
		return store{s, []string{"X-Scope-OrgID", name}, func() {}}
	}
}

// play plays one section of a script.
func (p *player) play(t *testing.T, s store, script string, section promqlscript.Section) {
	defer s.close()
	starts := false // the section has start timestamps
	for _, c := range section {
		if c.Load != nil {
			starts = starts || c.Load.Starts
			p.load(t, s, c.Load)
			continue
		}
		if why := p.unable(script, c.Eval, starts); why != "" {
			p.count(func(o *outcome) { o.skip(why) })
			if why == namesOff && ask(t, s, c.Eval) == nil {
				t.Errorf("%s: passes, take it off the list aboutNames", c.Eval)
			}
			continue
		}
		switch err := ask(t, s, c.Eval); {
		case err != nil:
			t.Errorf("%s: %v", c.Eval, err)
			p.count(func(o *outcome) { o.Failed++ })
		case experimental(script, c.Eval):
			p.count(func(o *outcome) { o.Experimental++ })
		default:
			p.count(func(o *outcome) { o.Stable++ })
		}
	}
}

func (p *player) load(t *testing.T, s store, l *promqlscript.Load) {
	t.Helper()
	a, err := s.Post(t.Context(), p.protocol, harness.Encode(t, p.protocol, l.Series...), s.header...)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, a.Status, "load in line %d: %s", l.Line, a.Body)
	require.Equal(t, harness.AllWritten(p.protocol, l.Series...), a.Written)
	if p.flush && harness.Against() == "weir" {
		require.NoError(t, s.Flush(t.Context(), s.header...))
	}
}

// unable returns why an evaluation cannot be made, or "".
func (p *player) unable(script string, e *promqlscript.Eval, starts bool) string {
	switch {
	case p.protocol == harness.V1 && starts:
		return noStarts
	case !p.defaults:
		return ""
	case !e.Parses(parser.Options{ExperimentalDurationExpr: true}):
		return syntaxOff
	case starts:
		return startsOff
	case slices.Contains(aboutNames[script], e.Line):
		return namesOff
	}
	return ""
}

func experimental(script string, e *promqlscript.Eval) bool {
	return slices.Contains(experimentalScripts, script) || !e.Parses(parser.Options{})
}

// ask asks all the questions of an evaluation and returns what is wrong with the
// first bad answer.
func ask(t *testing.T, s store, e *promqlscript.Eval) error {
	t.Helper()
	questions, err := e.Questions()
	require.NoError(t, err, "%s", e)
	for _, q := range questions {
		status, envelope, err := s.Ask(t.Context(), q.Path(), q.Params(), s.header...)
		require.NoError(t, err)
		if err := q.Judge(status, envelope); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) count(one func(*outcome)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one(&p.outcome)
}

func (o *outcome) skip(why string) {
	if o.Skipped == nil {
		o.Skipped = map[string]int{}
	}
	o.Skipped[why]++
}
