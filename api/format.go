package api

import (
	"context"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// formatQuery answers with an expression, indented.
func (a *API) formatQuery(_ context.Context, r *request) (answer, error) {
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badParam("query", err)
	}
	return answer{data: object{expr.Pretty(0)}}, nil
}

// parseQuery answers with the tree of an expression, in the form that
// Prometheus' own pages draw.
func (a *API) parseQuery(_ context.Context, r *request) (answer, error) {
	expr, err := a.parser.ParseExpr(r.FormValue("query"))
	if err != nil {
		return answer{}, badParam("query", err)
	}
	return answer{data: object{treeOf(expr)}}, nil
}

type fields = map[string]any

// treeOf returns an expression as encoding/json writes it. Trees are no deeper
// than maxNesting.
func treeOf(expr parser.Expr) any {
	switch e := expr.(type) {
	case nil:
		return nil
	case *parser.AggregateExpr:
		return fields{
			"type": "aggregation", "op": e.Op.String(), "expr": treeOf(e.Expr), "param": treeOf(e.Param),
			"grouping": listOf(e.Grouping), "without": e.Without,
		}
	case *parser.BinaryExpr:
		return fields{
			"type": "binaryExpr", "op": e.Op.String(), "lhs": treeOf(e.LHS), "rhs": treeOf(e.RHS),
			"matching": matchingOf(e.VectorMatching), "bool": e.ReturnBool,
		}
	case *parser.Call:
		args := make([]any, len(e.Args))
		for i, arg := range e.Args {
			args[i] = treeOf(arg)
		}
		return fields{"type": "call", "args": args, "func": fields{
			"name": e.Func.Name, "argTypes": e.Func.ArgTypes, "variadic": e.Func.Variadic, "returnType": e.Func.ReturnType,
		}}
	case *parser.MatrixSelector:
		f := selectorOf(e.VectorSelector.(*parser.VectorSelector))
		f["type"], f["range"], f["rangeExpr"] = "matrixSelector", e.Range.Milliseconds(), durationOf(e.RangeExpr)
		return f
	case *parser.VectorSelector:
		return selectorOf(e)
	case *parser.SubqueryExpr:
		return fields{
			"type": "subquery", "expr": treeOf(e.Expr),
			"range": e.Range.Milliseconds(), "rangeExpr": durationOf(e.RangeExpr),
			"offset": e.OriginalOffset.Milliseconds(), "offsetExpr": durationOf(e.OriginalOffsetExpr),
			"step": e.Step.Milliseconds(), "stepExpr": durationOf(e.StepExpr),
			"timestamp": e.Timestamp, "startOrEnd": preprocessorOf(e.StartOrEnd),
		}
	case *parser.DurationExpr:
		return durationOf(e)
	case *parser.NumberLiteral:
		return fields{"type": "numberLiteral", "val": numberOf(e.Val)}
	case *parser.StringLiteral:
		return fields{"type": "stringLiteral", "val": e.Val}
	case *parser.ParenExpr:
		return fields{"type": "parenExpr", "expr": treeOf(e.Expr)}
	case *parser.UnaryExpr:
		return fields{"type": "unaryExpr", "op": e.Op.String(), "expr": treeOf(e.Expr)}
	}
	panic("api: the parser makes no such expression: " + expr.String())
}

// selectorOf returns an instant vector selector. Its name is among its matchers,
// too.
func selectorOf(s *parser.VectorSelector) fields {
	matchers := make([]fields, len(s.LabelMatchers))
	for i, m := range s.LabelMatchers {
		matchers[i] = matcherOf(m)
	}
	return fields{
		"type": "vectorSelector", "name": s.Name, "matchers": matchers,
		"offset": s.OriginalOffset.Milliseconds(), "offsetExpr": durationOf(s.OriginalOffsetExpr),
		"timestamp": s.Timestamp, "startOrEnd": preprocessorOf(s.StartOrEnd),
		"anchored": s.Anchored, "smoothed": s.Smoothed,
	}
}

func matcherOf(m *labels.Matcher) fields {
	return fields{"name": m.Name, "value": m.Value, "type": m.Type.String()}
}

// matchingOf returns how the series of a binary expression find each other; there
// is no saying between scalars.
func matchingOf(m *parser.VectorMatching) any {
	if m == nil {
		return nil
	}
	return fields{
		"card": m.Card.String(), "labels": listOf(m.MatchingLabels), "on": m.On, "include": listOf(m.Include),
		"fillValues": fields{"lhs": fillOf(m.FillValues.LHS), "rhs": fillOf(m.FillValues.RHS)},
	}
}

// fillOf is a number, or a string where JSON has no such number.
func fillOf(v *float64) any {
	switch {
	case v == nil:
		return nil
	case math.IsNaN(*v) || math.IsInf(*v, 0):
		return numberOf(*v)
	}
	return *v
}

// durationOf returns a duration that is computed; a literal one is none.
func durationOf(expr parser.Expr) any {
	switch e := expr.(type) {
	case *parser.DurationExpr:
		if e == nil {
			return nil
		}
		return fields{
			"type": "durationExpr", "op": e.Op.String(), "lhs": durationOf(e.LHS), "rhs": durationOf(e.RHS), "wrapped": e.Wrapped,
		}
	case *parser.NumberLiteral:
		return fields{"type": "numberLiteral", "val": numberOf(e.Val), "duration": e.Duration}
	}
	return treeOf(expr)
}

// preprocessorOf is the name of @ start() and @ end().
func preprocessorOf(t parser.ItemType) any {
	if t == 0 {
		return nil
	}
	return t.String()
}

func numberOf(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func listOf(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
