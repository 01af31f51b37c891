package promqlscript

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-metrics/weir/integration/harness"
)

// Eval is an expression with what it must come to.
type Eval struct {
	Line int
	Expr string
	// Start, End and Step, in ms, are those of a range query. Step is 0 for an
	// instant query, at Start.
	Start, End, Step int64
	want             expectation
}

var (
	evalInstant = regexp.MustCompile(`^eval(_fail)?\s+instant\s+at\s+(\S+)\s+(.+)$`)
	evalRange   = regexp.MustCompile(`^eval(_fail)?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)$`)
)

// parseEval reads an evaluation and returns the lines behind it.
func parseEval(lines []line) (*Eval, []line, error) {
	e := &Eval{Line: lines[0].number}
	var fail string
	var times []string
	if p := evalInstant.FindStringSubmatch(lines[0].text); p != nil {
		fail, times, e.Expr = p[1], p[2:3], p[3]
	} else if p := evalRange.FindStringSubmatch(lines[0].text); p != nil {
		fail, times, e.Expr = p[1], p[2:5], p[5]
	} else {
		return nil, nil, errors.New("not an evaluation")
	}
	for i, at := range []*int64{&e.Start, &e.End, &e.Step}[:len(times)] {
		var err error
		if *at, err = parseMillis(times[i]); err != nil {
			return nil, nil, err
		}
	}
	if _, err := language.ParseExpr(e.Expr); err != nil {
		return nil, nil, err
	}
	if fail != "" {
		e.want.fail = []match{matchAny}
	}
	if len(times) > 1 {
		e.want.times = grid{e.Start, e.End, e.Step}
	}
	rest, err := e.want.parse(lines[1:])
	return e, rest, err
}

// Question is one query to put to a server. An evaluation is asked in several
// ways, which must come to the same.
type Question struct {
	Expr             string
	Start, End, Step int64 // ms; Step is 0 for an instant query, at Start
	judge            func(answer) error
}

// Path is that of the endpoint to ask.
func (q Question) Path() string {
	if q.Step == 0 {
		return "/api/v1/query"
	}
	return "/api/v1/query_range"
}

// Params are the parameters to ask with.
func (q Question) Params() url.Values {
	if q.Step == 0 {
		return url.Values{"query": {q.Expr}, "time": {harness.Seconds(q.Start)}}
	}
	return url.Values{"query": {q.Expr}, "start": {harness.Seconds(q.Start)}, "end": {harness.Seconds(q.End)}, "step": {harness.Seconds(q.Step)}}
}

// Judge says what is wrong with the answer to q.
func (q Question) Judge(status int, e harness.Envelope) error {
	a, err := decode(status, e)
	if err == nil {
		err = q.judge(a)
	}
	if err != nil {
		return fmt.Errorf("%s?%s: %w", q.Path(), q.Params().Encode(), err)
	}
	return nil
}

// inContext are the functions that depend on the range of the whole query.
var inContext = regexp.MustCompile(`(start|end|range|step)\(\)`)

// Questions are what to ask. Prometheus' runner asks an instant query at its
// time, at others with the time pinned by @, and each of them as the middle step
// of a range query.
func (e *Eval) Questions() ([]Question, error) {
	if e.Step != 0 {
		return []Question{{Expr: e.Expr, Start: e.Start, End: e.End, Step: e.Step, judge: e.want.check}}, nil
	}
	exprs, times := []string{e.Expr}, []int64{e.Start}
	pinned, err := pin(e.Expr, e.Start)
	if err != nil {
		return nil, err
	}
	if pinned != "" {
		for _, at := range otherTimes(e.Start) {
			exprs, times = append(exprs, pinned), append(times, at)
		}
	}
	var all []Question
	for i, expr := range exprs {
		at := times[i]
		all = append(all, Question{Expr: expr, Start: at, judge: e.want.check})
		if e.want.onlyInstant() || inContext.MatchString(expr) {
			continue
		}
		const minute = 60_000
		all = append(all, Question{Expr: expr, Start: at - minute, End: at + minute, Step: minute, judge: func(a answer) error {
			return e.want.checkStep(a, at)
		}})
	}
	return all, nil
}

// pin sets @ of every selector and subquery that has none to ts. It returns ""
// for an expression whose functions look at the time of evaluation all the same.
func pin(expr string, ts int64) (string, error) {
	tree, err := language.ParseExpr(expr)
	if err != nil {
		return "", err
	}
	unsafe := false
	set := func(at **int64) {
		if *at == nil {
			*at = &ts
		}
	}
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		for _, above := range path {
			if s, ok := above.(*parser.SubqueryExpr); ok && s.Timestamp != nil {
				return nil // times within a subquery are its own
			}
		}
		switch n := node.(type) {
		case *parser.VectorSelector:
			set(&n.Timestamp)
		case *parser.MatrixSelector:
			set(&n.VectorSelector.(*parser.VectorSelector).Timestamp)
		case *parser.SubqueryExpr:
			set(&n.Timestamp)
		case *parser.Call:
			_, bad := promql.AtModifierUnsafeFunctions[n.Func.Name]
			unsafe = unsafe || bad
		}
		return nil
	})
	if unsafe {
		return "", nil
	}
	return tree.String(), nil
}

// otherTimes are those at which a query pinned to ts is evaluated as well.
func otherTimes(ts int64) []int64 {
	if ts == 0 {
		return []int64{-1000, 0, 1000}
	}
	return []int64{-10 * ts, 0, ts / 5, ts, 10 * ts}
}

// Parses reports whether a parser with these options knows the syntax.
func (e *Eval) Parses(o parser.Options) bool {
	_, err := parser.NewParser(o).ParseExpr(e.Expr)
	return err == nil
}

// String is where the evaluation stands, and what it is.
func (e *Eval) String() string { return "line " + strconv.Itoa(e.Line) + ": " + e.Expr }
