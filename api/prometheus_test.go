package api_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recording holds what Prometheus answers: a line of JSON per request.
const recording = "testdata/prometheus.jsonl"

var prometheusBinary = flag.String("prometheus", "",
	"a Prometheus binary, made by go build -C tools/prometheus, whose answers to record anew")

// exchange is a request below /api/v1/ and its answer.
type exchange struct {
	Request string          `json:"request"`
	Status  int             `json:"status"`
	Answer  json.RawMessage `json:"answer,omitempty"`
}

// TestSameAsPrometheus puts to us the requests that were put to a real
// Prometheus over the same TSDB.
func TestSameAsPrometheus(t *testing.T) {
	if *prometheusBinary != "" {
		record(t)
	}
	s := newServer(t)
	exchanges := recorded(t)
	require.Len(t, exchanges, len(prometheusRequests()), "record anew")
	for i, want := range exchanges {
		require.Equal(t, prometheusRequests()[i], want.Request, "record anew")
		t.Run(want.Request, func(t *testing.T) {
			path, query, _ := strings.Cut(want.Request, "?")
			form, err := url.ParseQuery(query)
			require.NoError(t, err)
			for _, prefix := range []string{"/api/v1/", "/prometheus/api/v1/"} {
				got := s.do(t, http.MethodGet, prefix+want.Request, nil)
				if deliberate(want.Request) {
					require.Equal(t, http.StatusOK, want.Status)
					require.Equal(t, http.StatusBadRequest, got.Code, got.Body)
					continue
				}
				require.Equal(t, want.Status, got.Code, got.Body)
				require.Equal(t, comparable(t, string(want.Answer)), comparable(t, got.Body.String()))
				posted := s.do(t, http.MethodPost, prefix+path, form)
				if posted.Code == http.StatusMethodNotAllowed {
					continue
				}
				require.Equal(t, want.Status, posted.Code, posted.Body)
				require.Equal(t, comparable(t, string(want.Answer)), comparable(t, posted.Body.String()))
			}
		})
	}
}

// deliberate reports whether we refuse what Prometheus answers: evaluation at
// times that its engine cannot compute with, for which it takes others.
func deliberate(request string) bool {
	return slices.Contains([]string{
		"query?query=up&time=NaN", "query?query=up&time=9223372036854775807",
		"query?query=up&time=-292273086-05-16T16:47:06Z", "query?query=up&time=292277025-08-18T07:12:54.999999999Z",
	}, request)
}

var errorID = regexp.MustCompile("^weir-[a-z-]+: ")

// comparable decodes an answer without what is only ours, ids of errors, and
// what is only Prometheus', the count of chunks.
func comparable(t testing.TB, body string) envelope {
	e := decode(t, body)
	e.Error = errorID.ReplaceAllString(e.Error, "")
	if data, ok := e.Data.(map[string]any); ok {
		if head, ok := data["headStats"].(map[string]any); ok {
			delete(head, "chunkCount")
			sortRankings(data)
		}
	}
	return e
}

// sortRankings brings equals in the rankings of status/tsdb into an order; the
// TSDB has none for them.
func sortRankings(data map[string]any) {
	for _, ranking := range data {
		if list, ok := ranking.([]any); ok {
			slices.SortFunc(list, func(a, b any) int {
				x, y := a.(map[string]any), b.(map[string]any)
				return cmp.Or(cmp.Compare(y["value"].(float64), x["value"].(float64)), strings.Compare(x["name"].(string), y["name"].(string)))
			})
		}
	}
}

// envelope is an answer, with annotations in an order.
type envelope struct {
	Status    string   `json:"status"`
	Data      any      `json:"data"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Infos     []string `json:"infos"`
}

func decode(t testing.TB, body string) envelope {
	t.Helper()
	var e envelope
	if body == "" {
		return e
	}
	require.NoError(t, json.Unmarshal([]byte(body), &e), body)
	slices.Sort(e.Warnings)
	slices.Sort(e.Infos)
	return e
}

func recorded(t *testing.T) []exchange {
	t.Helper()
	f, err := os.Open(recording)
	require.NoError(t, err)
	defer f.Close()
	var all []exchange
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x exchange
		require.NoError(t, json.Unmarshal(lines.Bytes(), &x))
		all = append(all, x)
	}
	require.NoError(t, lines.Err())
	return all
}

// record starts a Prometheus over a TSDB like team-a's, and writes down what it
// answers.
func record(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, fillDB(t, dir, teamA).Close())
	base := startPrometheus(t, dir)
	out, err := os.Create(recording)
	require.NoError(t, err)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for _, request := range prometheusRequests() {
		res, err := http.Get(base + "/api/v1/" + request)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.NoError(t, lines.Encode(exchange{Request: request, Status: res.StatusCode, Answer: body}))
	}
	require.NoError(t, out.Close())
}

// startPrometheus returns the address of a Prometheus that lives as long as the
// test.
func startPrometheus(t *testing.T, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(config, nil, 0o600))

	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, *prometheusBinary, "--config.file="+config, "--storage.tsdb.path="+dir,
		"--storage.tsdb.retention.time=100y", "--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--log.level=error")
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	base := fmt.Sprintf("http://%s", addr)
	require.Eventually(t, func() bool {
		res, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	return base
}

// prometheusRequests are requests below /api/v1/ whose answers must be equal.
func prometheusRequests() []string {
	esc := url.QueryEscape
	var all []string
	for _, expr := range []string{
		`up`, `requests`, `special`, `latency`, `{"with.dots"}`, `nothing`, `1`, `-1e21`, `"a <string> é \u2028"`,
		`vector(1e-7)`, `scalar(up)`, `NaN`, `Inf`, `up[1m]`, `latency[30s]`, `up offset 1m`, `up @ 60`,
		`rate(requests[1m])`, `rate(latency[1m])`, `rate(up[1m])`, `histogram_quantile(0.5, latency)`,
		`sum by (job) (up)`, `up * on (team) group_left() special`, `quantile(2, up)`, `label_replace(up, "x", "$1", "job", "(.*)")`,
		`up + on (team) up`, `up{`, ``, `foo(`, `sum(`, `max_over_time(up[1m:10s])`, `info(up)`, `up == bool 1 or vector(1)`,
	} {
		all = append(all,
			"query?time=300&query="+esc(expr),
			"query_range?start=0&end=600&step=60&query="+esc(expr),
		)
	}
	for _, params := range []string{
		"time=300", "time=300.123", "time=1970-01-01T00:05:00Z", "time=1970-01-01T00:05:00.5%2B01:00", "time=1e2", "time=x",
		"time=-1", "time=NaN", "time=9223372036854775807", "time=-292273086-05-16T16:47:06Z", "time=292277025-08-18T07:12:54.999999999Z",
		"time=300&timeout=1s", "time=300&timeout=x", "time=300&timeout=1e300", "time=300&timeout=5",
		"time=300&limit=1", "time=300&limit=2", "time=300&limit=0", "time=300&limit=-1", "time=300&limit=x", "time=300&limit=1.5",
		"time=620&lookback_delta=1s", "time=620&lookback_delta=30", "time=620&lookback_delta=x",
	} {
		all = append(all, "query?query=up&"+params)
	}
	for _, params := range []string{
		"", "start=0", "start=0&end=600", "start=x&end=600&step=1", "start=0&end=x&step=1", "start=600&end=0&step=1",
		"start=0&end=600&step=0", "start=0&end=600&step=-1", "start=0&end=600&step=x", "start=0&end=600&step=1m30s",
		"start=0&end=600&step=0.5", "start=0&end=11000&step=1", "start=0&end=11001&step=1", "start=0&end=600&step=60&limit=1",
		"start=0&end=600&step=60&limit=x", "start=0&end=600&step=60&timeout=x", "start=0&end=600&step=60&lookback_delta=1s",
		"start=1970-01-01T00:00:00Z&end=1970-01-01T00:05:00Z&step=5y", "start=0&end=600&step=1e300",
	} {
		all = append(all, "query_range?query=up&"+params)
	}
	match := "match[]=" + esc(`up{job="a"}`)
	both := match + "&match[]=" + esc(`{__name__=~"up|latency"}`)
	for _, params := range []string{
		match, both, match + "&limit=1", both + "&limit=1", both + "&limit=2", both + "&limit=100", both + "&limit=0", both + "&limit=-1", both + "&limit=x",
		both + "&start=0&end=10", both + "&start=700&end=800", both + "&start=x", both + "&end=x", both + "&start=10&end=5",
		"match[]=" + esc(`{job=~".*"}`), "match[]=" + esc(`{`), "match[]=" + esc(`{job!="a"}`) + "&" + match, "match[]=", "limit=1",
		"match[]=" + esc(`{"le.bel"="dotted"}`), "match[]=nothing", "",
	} {
		all = append(all, "series?"+params, "labels?"+params, "label/job/values?"+params)
	}
	for _, name := range []string{"__name__", "path", "le.bel", "U__le_2e_bel", "na%C3%AFve", "U__na_EF_ve", "U__na_ef_ve", "U__", "none", "%FF", "a%20b", "U__broken_"} {
		all = append(all, "label/"+name+"/values")
	}
	for _, params := range []string{
		"query=" + esc(`{"with.dots"}`), "query=" + esc(`rate({"with.dots"}[1m]) + up`), "query=nothing", "query=1", "query=", "query=" + esc("up{"),
		"query=" + esc(`{"with.dots"}`) + "&start=100&end=300", "query=up&start=5&end=1", "query=up&start=x", "query=up&end=x",
	} {
		all = append(all, "query_exemplars?"+params)
	}
	for _, expr := range []string{
		`up`, `sum by(job)(rate(up{a="b",c=~"d.*"}[5m] offset 1m))/on(job) group_left(x) -up @ 5`, `{"with.dots",a!="b"}`, `topk(5,up)`,
		`count_values("v",up)`, `max_over_time(up[1h:5m] @ end())`, `max_over_time(up[1h:])`, `up or ignoring(a) up`, `"text"`, `-1.5e9`, `NaN`, `1 > bool 2`,
		`label_replace(up,"a","$1","b","<&>")`, `sum without()(up)`, `((up))`, `+up`, `up @ start() offset -5m`, `time()`, `vector(0x10)`, `a{b="\x01é"}`, ``, `up{`, `foo(`,
		`this_is_a_long_name_of_a_metric{label="value_of_the_label",another="value"} + another_long_name_of_a_metric{label="value", another="value"}`,
	} {
		all = append(all, "format_query?query="+esc(expr), "parse_query?query="+esc(expr))
	}
	for _, params := range []string{
		"", "type=alert", "type=record", "type=RECORD", "type=x", "rule_name[]=x&rule_group[]=y&file[]=z", "exclude_alerts=true", "exclude_alerts=x",
		"match[]=" + esc(`{a="b"}`), "match[]=" + esc(`{a=~".*"}`), "match[]={", "group_limit=5", "group_limit=0", "group_limit=x", "group_next_token=x", "group_limit=1&group_next_token=x",
	} {
		all = append(all, "rules?"+params)
	}
	return append(all,
		"alerts", "alertmanagers", "targets", "targets?state=dropped", "targets?scrapePool=x", "scrape_pools", "notifications",
		"targets/metadata?match_target="+esc(`{job="a"}`), "targets/metadata?match_target={", "targets/metadata?limit=x", "targets/metadata?metric=nothing",
		"status/tsdb?limit=1000", "status/tsdb?limit=0", "status/tsdb?limit=x", "status/tsdb?limit=10001", "status/tsdb/blocks",
	)
}
