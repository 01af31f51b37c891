package promqlscript

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/integration/harness"
)

func evalOf(t *testing.T, text string) *Eval {
	t.Helper()
	s, err := parse("x", text)
	require.NoError(t, err)
	require.Len(t, s.Sections[0], 1)
	return s.Sections[0][0].Eval
}

// success is the answer with a result of a kind, and fields to follow the data.
func success(kind, result, more string) string {
	return fmt.Sprintf(`200 {"status":"success","data":{"resultType":%q,"result":%s}%s}`, kind, result, more)
}

// TestJudge makes sure that wrong answers are told from right ones.
func TestJudge(t *testing.T) {
	vector := func(pairs ...string) string {
		var list []string
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, fmt.Sprintf(`{"metric":%s,"value":[60,%q]}`, pairs[i], pairs[i+1]))
		}
		return success("vector", "["+strings.Join(list, ",")+"]", "")
	}
	const (
		two       = "eval instant at 1m m\n m{a=\"x\"} 1\n m{a=\"y\"} NaN"
		x, y      = `{"__name__":"m","a":"x"}`, `{"__name__":"m","a":"y"}`
		steps     = "eval range from 1m to 3m step 1m m\n m 1 _ 3"
		histo     = "eval instant at 1m m\n m {{schema:0 sum:3 count:4 buckets:[1 0 2] n_buckets:[1]}}"
		someHisto = `[{"metric":{"__name__":"m"},"histogram":[60,{"count":"4","sum":"3","buckets":[[1,"-1","-0.5","1"],[0,"0.5","1","1"],[0,"2","4","%s"]]}]}]`
	)
	for _, tc := range []struct {
		name, eval, answer string
		wrong              string // "": the answer is right
	}{
		{"vector", two, vector(x, "1", y, "NaN"), ""},
		{"order does not matter", two, vector(y, "NaN", x, "1"), ""},
		{"within the tolerance", two, vector(x, "1.000001", y, "NaN"), ""},
		{"beyond the tolerance", two, vector(x, "1.00001", y, "NaN"), "expected 1, got 1.00001"},
		{"no NaN", two, vector(x, "1", y, "0"), "expected NaN, got 0"},
		{"a series is missing", two, vector(x, "1"), `{__name__="m", a="y"} is missing`},
		{"a series too many", two, vector(x, "1", y, "NaN", `{}`, "1"), "unexpected series {}"},
		{"a series twice", two, vector(x, "1", y, "NaN", y, "NaN"), "3 series, expected 2"},
		{"a matrix instead", two, success("matrix", `[{"metric":`+x+`,"values":[[60,"1"]]}]`, ""), "1 at 60000 ms"},
		{"order matters", two[:len("eval instant at 1m m")] + "\n expect ordered" + two[len("eval instant at 1m m"):], vector(y, "NaN", x, "1"), "as number 0, not 1"},
		{"a histogram instead", two, success("vector", `[{"metric":`+x+`,"histogram":[60,{"count":"1","sum":"1"}]}]`, ""), "expected 1 at"},

		{"matrix", steps, success("matrix", `[{"metric":{"__name__":"m"},"values":[[60,"1"],[180,"3"]]}]`, ""), ""},
		{"a step is wrong", steps, success("matrix", `[{"metric":{"__name__":"m"},"values":[[60,"1"],[120,"3"]]}]`, ""), "3 at 120000 ms"},
		{"a step too many", steps, success("matrix", `[{"metric":{"__name__":"m"},"values":[[60,"1"],[120,"2"],[180,"3"]]}]`, ""), "2 at 120000 ms"},
		{"an unsorted matrix", "eval range from 0 to 1m step 1m m\n {a=\"x\"} 1\n {a=\"y\"} 1",
			success("matrix", `[{"metric":{"a":"y"},"values":[[0,"1"]]},{"metric":{"a":"x"},"values":[[0,"1"]]}]`, ""), "not sorted"},
		{"a range vector", "eval instant at 1m m[1m]\n expect range vector from 30s to 60s step 30s\n m 1 2",
			success("matrix", `[{"metric":{"__name__":"m"},"values":[[30,"1"],[60,"2"]]}]`, ""), ""},

		{"histogram", histo, success("vector", fmt.Sprintf(someHisto, "2"), ""), ""},
		{"another count", histo, success("vector", fmt.Sprintf(someHisto, "2.1"), ""), "expected {Count:4"},
		{"another bucket", histo, success("vector", strings.Replace(fmt.Sprintf(someHisto, "2"), `"4","2"`, `"8","2"`, 1), ""), "expected {Count:4"},
		{"a bucket less", histo, success("vector", strings.Replace(fmt.Sprintf(someHisto, "2"), `[0,"0.5","1","1"],`, ``, 1), ""), "expected {Count:4"},
		{"a float instead", histo, vector(`{"__name__":"m"}`, "1"), "got 1 at"},

		{"scalar", "eval instant at 1m 3\n 3", success("scalar", `[60,"3"]`, ""), ""},
		{"another scalar", "eval instant at 1m 3\n 3", success("scalar", `[60,"4"]`, ""), "expected 3, got 4"},
		{"a vector instead of a scalar", "eval instant at 1m 3\n 3", vector(`{}`, "3"), "expected a single value"},
		{"a scalar instead of a vector", two, success("scalar", `[60,"1"]`, ""), "did not expect a scalar"},
		{"string", "eval instant at 1m \"a\"\n expect string \"a\"", success("string", `[60,"a"]`, ""), ""},
		{"another string", "eval instant at 1m \"a\"\n expect string \"a\"", success("string", `[60,"b"]`, ""), `expected "a", got "b"`},

		{"warnings nobody asked about", "eval instant at 1m m", success("vector", "[]", `,"warnings":["w"],"infos":["i"]`), ""},
		{"a warning", "eval instant at 1m m\n expect warn", success("vector", "[]", `,"warnings":["w"]`), ""},
		{"no warning", "eval instant at 1m m\n expect warn", success("vector", "[]", ``), "among the messages []"},
		{"another warning", "eval instant at 1m m\n expect warn msg: v", success("vector", "[]", `,"warnings":["w"]`), `expected "v"`},
		{"one warning more", "eval instant at 1m m\n expect warn msg: w", success("vector", "[]", `,"warnings":["w","v"]`), `unexpected message "v"`},
		{"a forbidden warning", "eval instant at 1m m\n expect no_warn", success("vector", "[]", `,"warnings":["w"]`), "unexpected warnings"},
		{"an info", "eval instant at 1m m\n expect info regex: ^i.$", success("vector", "[]", `,"infos":["i1"]`), ""},
		{"another info", "eval instant at 1m m\n expect info regex: ^i.$", success("vector", "[]", `,"infos":["i12"]`), "a match of"},
		{"a forbidden info", "eval instant at 1m m\n expect no_info", success("vector", "[]", `,"infos":["i"]`), "unexpected infos"},

		{"a failure", "eval instant at 1m m\n expect fail", `422 {"status":"error","errorType":"execution","error":"e"}`, ""},
		{"a failure, the old way", "eval_fail instant at 1m m", `422 {"status":"error","errorType":"execution","error":"e"}`, ""},
		{"a failure of the query", "eval instant at 1m m\n expect fail msg: e", `400 {"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": e"}`, ""},
		{"another failure", "eval instant at 1m m\n expect fail msg: e", `422 {"status":"error","errorType":"execution","error":"f"}`, `got "f"`},
		{"no failure", "eval instant at 1m m\n expect fail", success("vector", "[]", ""), "expected a failure"},
		{"an unexpected failure", two, `422 {"status":"error","errorType":"execution","error":"e"}`, "e"},
		{"a failure that is ours", "eval instant at 1m m\n expect fail", `500 {"status":"error","errorType":"internal","error":"e"}`, "status 500"},
		{"a failure of a type that does not fit", "eval instant at 1m m\n expect fail", `422 {"status":"error","errorType":"timeout","error":"e"}`, "status 422"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			questions, err := evalOf(t, tc.eval).Questions()
			require.NoError(t, err)
			status, body, _ := strings.Cut(tc.answer, " ")
			var e harness.Envelope
			require.NoError(t, json.Unmarshal([]byte(body), &e), body)
			code := 0
			_, err = fmt.Sscan(status, &code)
			require.NoError(t, err)
			if err := questions[0].Judge(code, e); tc.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.wrong)
			}
		})
	}
}

// TestJudgeStep looks at one step of a range query.
func TestJudgeStep(t *testing.T) {
	judge := func(eval, kind, result string) error {
		questions, err := evalOf(t, eval).Questions()
		require.NoError(t, err)
		require.NotZero(t, questions[1].Step)
		var e harness.Envelope
		_, body, _ := strings.Cut(success(kind, result, ""), " ")
		require.NoError(t, json.Unmarshal([]byte(body), &e))
		return questions[1].Judge(200, e)
	}
	const m = "eval instant at 2m m\n m 2"
	require.NoError(t, judge(m, "matrix", `[{"metric":{"__name__":"m"},"values":[[60,"1"],[120,"2"],[180,"3"]]}]`))
	require.Error(t, judge(m, "matrix", `[{"metric":{"__name__":"m"},"values":[[60,"2"],[120,"1"],[180,"2"]]}]`))
	require.Error(t, judge(m, "matrix", `[{"metric":{"__name__":"m"},"values":[[60,"2"],[180,"2"]]}]`))
	require.NoError(t, judge("eval instant at 2m 2\n 2", "matrix", `[{"metric":{},"values":[[60,"2"],[120,"2"]]}]`))
	require.Error(t, judge("eval instant at 2m 2\n 2", "matrix", `[{"metric":{},"values":[[60,"2"],[180,"2"]]}]`))
}

func TestQuestions(t *testing.T) {
	for _, tc := range []struct {
		eval string
		want []string
	}{
		{"eval range from 0 to 2m step 30s m", []string{"m 0-120000/30000"}},
		{"eval instant at 0 m @ 5", []string{
			"m @ 5 0-0/0", "m @ 5 -60000-60000/60000",
			"m @ 5.000 -1000-0/0", "m @ 5.000 -61000-59000/60000", "m @ 5.000 0-0/0", "m @ 5.000 -60000-60000/60000", "m @ 5.000 1000-0/0", "m @ 5.000 -59000-61000/60000",
		}},
		{"eval instant at 10s timestamp(m)", []string{"timestamp(m) 10000-0/0", "timestamp(m) -50000-70000/60000"}},
		{"eval instant at 10s sum(rate(m[1m:10s])) + m\n expect fail", []string{
			"sum(rate(m[1m:10s])) + m 10000-0/0",
			"sum(rate(m[1m:10s] @ 10.000)) + m @ 10.000 -100000-0/0", "sum(rate(m[1m:10s] @ 10.000)) + m @ 10.000 0-0/0",
			"sum(rate(m[1m:10s] @ 10.000)) + m @ 10.000 2000-0/0", "sum(rate(m[1m:10s] @ 10.000)) + m @ 10.000 10000-0/0",
			"sum(rate(m[1m:10s] @ 10.000)) + m @ 10.000 100000-0/0",
		}},
	} {
		questions, err := evalOf(t, tc.eval).Questions()
		require.NoError(t, err)
		var got []string
		for _, q := range questions {
			got = append(got, fmt.Sprintf("%s %d-%d/%d", q.Expr, q.Start, q.End, q.Step))
		}
		require.Equal(t, tc.want, got)
	}
}

func TestLoad(t *testing.T) {
	s, err := parse("x", `
# a comment
load 10s
  m{a="b"}@st _ -5s+1sx1 _x2 1ms
  m{a="b"}    0+1x5
  n 1 _ {{schema:0 count:1 sum:2}}
  n 7

clear
load_with_nhcb 1m
  h_bucket{le="1"} 1 2
  h_bucket{le="+Inf"} 3 4
  h_count _ 4
  h_sum 5 6
`)
	require.NoError(t, err)
	require.Len(t, s.Sections, 2)
	first := s.Sections[0][0].Load
	require.True(t, first.Starts)
	require.Equal(t, []harness.Series{
		{Labels: []string{"__name__", "m", "a", "b"}, Samples: []harness.Sample{
			{T: 0, V: 0}, {T: 10_000, ST: 5000, V: 1}, {T: 20_000, ST: 16_000, V: 2}, {T: 30_000, V: 3}, {T: 40_000, V: 4}, {T: 50_000, ST: 50_001, V: 5},
		}},
		{Labels: []string{"__name__", "n"}, Samples: []harness.Sample{{V: 7}}},
	}, first.Series)

	second := s.Sections[1][0].Load
	require.False(t, second.Starts)
	require.Len(t, second.Series, 5)
	native := func(count, sum float64, buckets ...float64) *histogram.FloatHistogram {
		return &histogram.FloatHistogram{
			Schema: histogram.CustomBucketsSchema, Count: count, Sum: sum, CustomValues: []float64{1},
			PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: buckets,
		}
	}
	require.Equal(t, harness.Series{Labels: []string{"__name__", "h"}, Samples: []harness.Sample{
		{T: 0, FH: native(3, 5, 1, 2)}, {T: 60_000, FH: native(4, 6, 2, 2)},
	}}, second.Series[4])
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"frobnicate":                                             "x.test:1: \"frobnicate\": unknown command",
		"\nload soon\n m 1":                                      "x.test:2",
		"load 1m\n m{ 1":                                         "x.test:1",
		"load 1m\n m@st x\n m 1":                                 "is not a start timestamp",
		"load 1m\n m@st 1s\n m 1 2":                              "1 start timestamps for 2 values",
		"eval instant at 1m sum(":                                "x.test:1",
		"eval instant at noon m":                                 "x.test:1",
		"eval sometimes m":                                       "not an evaluation",
		"eval_ordered instant at 0 m":                            "not an evaluation",
		"eval instant at 0 m\n expect the best":                  "unknown expectation",
		"eval instant at 0 m\n expect warn\n expect no_warn":     "contradicts",
		"eval instant at 0 m\n expect fail\n expect fail msg: x": "contradicts",
		"eval instant at 0 1\n 1\n m 1":                          "unknown command",
	} {
		_, err := parse("x", text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := Read(t.TempDir())
	require.ErrorContains(t, err, "no scripts")
}
