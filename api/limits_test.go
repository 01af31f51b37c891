package api_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// refusalTime is how long a refusal may take on a busy machine. It typically
// takes less than a millisecond, and some for those that are parsed at length.
const refusalTime = 250 * time.Millisecond

// expensive are requests that ask for more than they may have, with the id of the
// refusal, below the prefix of the API. Some are answered without an id: what is
// wrong with them is something else.
func expensive() map[string]struct{ path, id string } {
	esc := url.QueryEscape
	deep := func(n int, open, inner, end string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	cases := map[string]struct{ path, id string }{
		"times of a range":       {"query_range?query=1&start=0&end=1e12&step=1", "weir-query-time-out-of-range"},
		"steps":                  {"query_range?query=1&start=0&end=9e9&step=0.001", "weir-query-too-many-steps"},
		"steps that overflow":    {"query_range?query=1&start=-9.2e9&end=9.2e9&step=1", "weir-query-too-many-steps"},
		"step of nothing":        {"query_range?query=1&start=0&end=1&step=0.0001", "weir-query-step-too-short"},
		"NaN for a step":         {"query_range?query=1&start=0&end=1&step=NaN", ""},
		"NaN for a start":        {"query_range?query=1&start=NaN&end=1&step=1", ""},
		"infinite end":           {"query_range?query=1&start=0&end=Inf&step=1", ""},
		"NaN for a time":         {"query?query=up&time=NaN", ""},
		"infinite time":          {"query?query=up&time=-Inf", ""},
		"largest time":           {"query?query=up&time=9223372036854775807", ""},
		"time beyond the engine": {"query?query=up&time=1e13", "weir-query-time-out-of-range"},
		"NaN for a timeout":      {"query?query=up&timeout=NaN", ""},
		"negative timeout":       {"query?query=up&timeout=-5", ""},
		"no time at all":         {"query?query=up&timeout=0", ""},
		"NaN for a lookback":     {"query?query=up&lookback_delta=NaN", ""},
		"endless lookback":       {"query?query=up&lookback_delta=9.2e9&time=-8e9", "weir-query-time-out-of-range"},
		"NaN in labels":          {"labels?start=NaN", ""},
		"infinity in series":     {"series?match[]=up&end=Inf", ""},
		"huge limit":             {"series?match[]=up&limit=99999999999999999999", ""},
		"exemplars at infinity":  {"query_exemplars?query=up&start=-Inf", ""},
		"many match[]":           {"series?" + strings.Repeat("match[]=up&", 2000), "weir-query-too-many-matchers"},
		"long match[]":           {"labels?match[]=" + esc(`{a="`+strings.Repeat("x", 200_000)+`"}`), "weir-query-too-long"},
		"regexp in match[]":      {"series?match[]=" + esc(`{a=~"`+strings.Repeat("x.", 50_000)+`"}`), "weir-query-regexp-too-large"},
		"regexp in federate":     {"federate?match[]=" + esc(`{a=~"`+strings.Repeat("(xy){1000}", 33)+`"}`), "weir-query-regexp-too-large"},
		"no label name":          {"series?match[]=" + esc(`{""="",a="b"}`), "weir-matcher-invalid"},
		"long rules":             {"rules?match[]=" + esc(strings.Repeat("x", 200_000)), "weir-query-too-long"},
	}
	for name, q := range map[string]struct{ query, id string }{
		"100,000 parentheses":        {deep(100_000, "(", "1", ")"), "weir-query-too-long"},
		"50,000 parentheses":         {deep(50_000, "(", "1", ")"), "weir-query-too-deep"},
		"1,000 parentheses":          {deep(1000, "(", "1", ")"), "weir-query-too-deep"},
		"open parentheses":           {strings.Repeat("(", 100_000), "weir-query-too-deep"},
		"calls":                      {deep(10_000, "abs(", "up", ")"), "weir-query-too-deep"},
		"aggregations":               {deep(10_000, "sum(", "up", ")"), "weir-query-too-deep"},
		"unary operators":            {strings.Repeat("-", 100_000) + "up", "weir-query-too-deep"},
		"binary operators":           {strings.Repeat("1+", 50_000) + "1", "weir-query-too-deep"},
		"powers":                     {strings.Repeat("1^", 50_000) + "1", "weir-query-too-deep"},
		"set operators":              {strings.Repeat("up or ", 10_000) + "up", "weir-query-too-deep"},
		"comparisons":                {strings.Repeat("up==", 10_000) + "up", "weir-query-too-deep"},
		"nested subqueries":          {deep(5000, "max_over_time(", "up", "[1m:1m])"), "weir-query-too-deep"},
		"ranges of ranges":           {"up" + strings.Repeat("[1m:1m]", 10_000), "weir-query-too-deep"},
		"1 MB of text":               {strings.Repeat(" ", 1<<20) + "up", "weir-query-too-long"},
		"1 MB of comment":            {"up #" + strings.Repeat("(", 1<<20), "weir-query-too-long"},
		"1 MB regexp":                {`up{a=~"` + strings.Repeat("x|", 1<<19) + `"}`, "weir-query-too-long"},
		"100 KB regexp":              {`up{a=~"` + strings.Repeat("x.", 50_000) + `"}`, "weir-query-regexp-too-large"},
		"regexp after a comment":     {"up{a=~ # comment\n\"" + strings.Repeat("x.", 50_000) + `"}`, "weir-query-regexp-too-large"},
		"regexp of another quote":    {"up{a!~`" + strings.Repeat("(xy){1000}", 33) + "`}", "weir-query-regexp-too-large"},
		"counted repetition":         {`up{a=~"` + strings.Repeat("(abc){1000}", 30) + `"}`, "weir-query-regexp-too-large"},
		"nested repetition":          {`up{a=~"((a{1000}){1000}){1000}"}`, ""},
		"repetition of literals":     {`up{a=~"(` + strings.Repeat("x", 1000) + `){1000}"}`, "weir-query-regexp-too-large"},
		"repetition of few":          {`up{a=~"((.{1,100}){1,10}){1,100}"}`, ""},
		"repetition of nothing":      {`up{a=~"` + strings.Repeat("(){1000}", 100) + `"}`, "weir-query-regexp-too-large"},
		"unicode classes":            {`up{a=~"[` + strings.Repeat(`\\pL`, 10_000) + `]"}`, "weir-query-regexp-too-large"},
		"folded ranges":              {`up{a=~"(?i)[` + strings.Repeat(`B-\\x{1e943}`, 1000) + `]"}`, "weir-query-regexp-too-large"},
		"deep regexp":                {`up{a=~"` + deep(30_000, "(", "a", ")") + `"}`, ""},
		"many regexps":               {`up{` + strings.Repeat(`a=~"(b.){1000}",`, 40) + `}`, "weir-query-regexp-too-large"},
		"regexp of label_replace":    {`label_replace(up,"a","","b","` + strings.Repeat("(xy){1000}", 33) + `")`, "weir-query-regexp-too-large"},
		"matchers":                   {`up{` + strings.Repeat(`a="b",`, 5000) + `}`, "weir-query-too-many-matchers"},
		"selectors":                  {deep(11, "(", strings.Repeat("up+", 250)+"up", ")") + strings.Repeat("+("+strings.Repeat("up+", 200)+"up)", 10), "weir-query-too-many-matchers"},
		"no label name":              {`sum({""!="",a="b"})`, "weir-matcher-invalid"},
		"labels to match on":         {"up + on (" + strings.Repeat("a,", 10_000) + "a) group_left (" + strings.Repeat("a,", 10_000) + "a) up", "weir-query-list-too-long"},
		"labels to group by":         {"sum by (" + strings.Repeat("a,", 10_000) + "a) (up)", "weir-query-list-too-long"},
		"arguments":                  {"label_join(up," + strings.Repeat(`"a",`, 10_000) + `"a")`, "weir-query-list-too-long"},
		"long name":                  {strings.Repeat("x", 100_000) + `{__name__="a",__name__="b"}`, "weir-query-too-long"},
		"labels that double":         {deep(40, "label_join(", "up", `,"a","","a","a")`), "weir-query-labels-grow"},
		"labels that square":         {deep(6, "label_replace(", "up", `,"a","$1$1$1$1$1$1$1","a","(.*)")`), "weir-query-labels-grow"},
		"subquery of 10^13 steps":    {"max_over_time(vector(1)[290y:1ms])", "weir-query-too-many-steps"},
		"subquery of 10^11 steps":    {"last_over_time(vector(1)[10y:1ms])", "weir-query-too-many-steps"},
		"step below a millisecond":   {"max_over_time(up[1m:0.0001])", "weir-query-step-too-short"},
		"subqueries that multiply":   {"max_over_time(max_over_time(vector(1)[300d:1m])[300d:1m])", "weir-query-too-many-steps"},
		"subqueries that add":        {deep(100, "max_over_time(", "up", "[3h:1s])"), "weir-query-too-many-steps"},
		"subquery over @":            {"max_over_time(up[9y:1s] @ 0)", "weir-query-too-many-steps"},
		"offset into the future":     {"up offset -292y", "weir-query-time-out-of-range"},
		"offsets that add up":        {"max_over_time((max_over_time(up[150y:1y] offset 100y))[100y:1y])", "weir-query-time-out-of-range"},
		"@ beyond the engine":        {"up @ 9e15", "weir-query-time-out-of-range"},
		"@ far from the time":        {"up @ -9.2e9", "weir-query-time-out-of-range"},
		"@ of a subquery":            {"max_over_time(up[1m:1m] @ 9e18)", ""},
		"infinite @":                 {"up @ Inf", ""},
		"NaN @":                      {"up @ NaN", ""},
		"offset of no number":        {"up offset NaN", ""},
		"endless range":              {"max_over_time(up[292y] offset 292y)", "weir-query-time-out-of-range"},
		"range beyond 64 bits":       {"up[1e300]", ""},
		"strings hide nothing":       {`up{a="(((("} + ` + deep(1000, "(", "1", ")"), "weir-query-too-deep"},
		"strings do not close":       {`("` + strings.Repeat(")", 100_000), ""},
		"invalid UTF-8":              {strings.Repeat("\xff", 100_000), ""},
		"unfinished":                 {strings.Repeat("sum by (", 60), ""},
		"duplicate names":            {`x{` + strings.Repeat(`__name__="a",`, 900) + `}`, ""},
		"more samples than anything": {`topk(1e19, up)`, ""},
	} {
		cases[name] = struct{ path, id string }{"query?time=1e9&query=" + esc(q.query), q.id}
		cases[name+", range"] = struct{ path, id string }{"query_range?start=1e9&end=1.00001e9&step=100&query=" + esc(q.query), q.id}
		if !strings.Contains(q.id, "step") && !strings.Contains(q.id, "time") {
			cases[name+", parsed"] = struct{ path, id string }{"parse_query?query=" + esc(q.query), q.id}
			cases[name+", exemplars"] = struct{ path, id string }{"query_exemplars?query=" + esc(q.query), q.id}
		}
	}
	return cases
}

// quickest is the shortest time of n runs, which others on the machine disturb
// the least.
func quickest(n int, run func()) time.Duration {
	least := time.Duration(math.MaxInt64)
	for range n {
		start := time.Now()
		run()
		least = min(least, time.Since(start))
	}
	return least
}

// TestExpensiveRequests puts each at several endpoints, by GET and by POST.
func TestExpensiveRequests(t *testing.T) {
	s := newServer(t)
	for name, tc := range expensive() {
		t.Run(name, func(t *testing.T) {
			target := "/api/v1/" + tc.path
			if strings.HasPrefix(tc.path, "federate") {
				target = "/" + tc.path
			}
			path, query, _ := strings.Cut(target, "?")
			form, err := url.ParseQuery(query)
			require.NoError(t, err)
			for _, send := range []func() *httptest.ResponseRecorder{
				func() *httptest.ResponseRecorder { return s.do(t, http.MethodGet, target, nil) },
				func() *httptest.ResponseRecorder { return s.do(t, http.MethodPost, path, form) },
			} {
				w := send()
				if w.Code == http.StatusMethodNotAllowed {
					continue
				}
				require.Less(t, quickest(3, func() { send() }), refusalTime)
				if tc.id == "" && w.Code == http.StatusOK { // cheap after all
					continue
				}
				require.GreaterOrEqual(t, w.Code, 400, "%.200s", w.Body)
				require.Less(t, w.Code, 500, "%.200s", w.Body)
				e := decode(t, w.Body.String())
				if tc.id != "" {
					require.Regexp(t, "^"+tc.id+": ", fmt.Sprintf("%.300s", e.Error))
				}
			}
		})
	}
	require.Equal(t, s.source.opened.Load(), s.source.closed.Load())
	require.NotContains(t, s.logs.String(), "level=ERROR")
}

// TestCostliestWithinLimits has what is just allowed, and costs the most before
// any data is looked at: up to a quarter of a second, much more with the race
// detector.
func TestCostliestWithinLimits(t *testing.T) {
	s := newServer(t)
	many := strings.Repeat("a,", 63) + "a"
	for name, query := range map[string]string{
		"nesting":               strings.Repeat("abs(", 490) + "up" + strings.Repeat(")", 490),
		"operators":             "up" + strings.Repeat("+up", 490),
		"operators on the left": strings.Repeat("-", 490) + "up",
		"a wide tree":           "(" + strings.Repeat("((1+1)+(1+1))+", 450) + "1)",
		"matchers":              `up{` + strings.Repeat(`__name__=~"a.*b|c",`, 990) + `}`,
		"program":               `up{a=~"` + strings.Repeat("(?:xy){1000}", 32) + `"}`,
		"program of classes":    `up{a=~"` + strings.Repeat(`(?:\\w.){1000}`, 16) + `"}`,
		"optional parts":        `up{job=~"(` + strings.Repeat("a?", 400) + `){20}"}`,
		"folded ranges":         `up{a=~"(?i)[` + strings.Repeat(`B-\\x{1e943}`, 6) + `]"}`,
		"folded words":          `up{a=~"(?i)[` + strings.Repeat(`\\w`, 30_000) + `]"}`,
		"alternatives":          `up{a=~"` + strings.Repeat(`host-\\d\\d|`, 4000) + `x"}`,
		"pairs of labels":       "up" + strings.Repeat(" ", 100_000) + "+ on (" + many + ") group_left (" + many + ") up",
		"label_replace":         `label_replace(up,"a","$1","job","` + strings.Repeat("(?:ab){1000}", 32) + `")`,
		"subqueries":            "max_over_time(vector(1)[11d:1s])",
	} {
		t.Run(name, func(t *testing.T) {
			target := "/api/v1/query?time=1e9&query=" + url.QueryEscape(query)
			code := 0
			took := quickest(2, func() { code = s.do(t, http.MethodGet, target, nil).Code })
			t.Logf("%s, %d", took, code)
			require.Less(t, code, 500)
			require.Less(t, took, 5*time.Second)
		})
	}
}
