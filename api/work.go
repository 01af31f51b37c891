package api

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-metrics/weir/proto"
)

const (
	// farMS is how far, in milliseconds, times may be from 1970 and from each
	// other: the engine computes with nanoseconds in 64 bits, 292 years.
	farMS = math.MaxInt64 / int64(time.Millisecond)
	// maxVisits bounds how often functions look at points of subqueries, for each
	// series: a look takes about a nanosecond, and a series is not interrupted.
	maxVisits = 1_000_000_000
)

// evaluations are the times at which a part of a query is evaluated: from start
// to end, both in milliseconds since 1970, in steps. They are floats, which do
// not overflow.
type evaluations struct{ start, end, steps float64 }

// work adds up what evaluating a statement takes.
type work struct {
	maxSteps      int // of all subqueries
	lookback      float64
	subquerySteps float64
	visits        float64 // of points of subqueries by functions over them
}

// checkWork refuses a statement whose subqueries have more than maxSteps steps
// altogether, or whose times the engine cannot compute with. Its tree is as the
// engine made it, with start() and end() resolved.
func checkWork(stmt *parser.EvalStmt, maxSteps int) error {
	w := work{maxSteps: maxSteps, lookback: milliseconds(stmt.LookbackDelta)}
	at := evaluations{start: float64(timestamp.FromTime(stmt.Start)), end: float64(timestamp.FromTime(stmt.End)), steps: 1}
	if stmt.Interval > 0 {
		at.steps = (at.end-at.start)/milliseconds(stmt.Interval) + 1
	}
	return w.node(stmt.Expr, at, 0)
}

// node looks at a part of a query; window is the range in milliseconds of the
// range selector around it, 0 if there is none.
func (w *work) node(node parser.Node, at evaluations, window float64) error {
	switch n := node.(type) {
	case *parser.StepInvariantExpr:
		return w.node(n.Expr, evaluations{at.start, at.start, 1}, window)
	case *parser.MatrixSelector:
		return w.node(n.VectorSelector, at, milliseconds(n.Range))
	case *parser.VectorSelector:
		at, err := at.moved(n.Timestamp, n.OriginalOffset)
		if err != nil {
			return err
		}
		// Selectors with modifiers of ranges look back by both.
		return inReach(at.start-window-w.lookback, at.end+w.lookback)
	case *parser.SubqueryExpr:
		inner, err := w.subquery(n, at)
		if err != nil {
			return err
		}
		return w.node(n.Expr, inner, 0)
	case *parser.DurationExpr: // has no children to iterate over
		return nil
	}
	for child := range parser.ChildrenIter(node) {
		if err := w.node(child, at, window); err != nil {
			return err
		}
	}
	return nil
}

// subquery returns when the expression in a subquery is evaluated: once, over
// the ranges of all evaluations of the subquery together.
func (w *work) subquery(n *parser.SubqueryExpr, at evaluations) (evaluations, error) {
	step := milliseconds(n.Step)
	switch {
	case n.Step == 0:
		step = milliseconds(subqueryInterval)
	case n.Step < time.Millisecond:
		return at, tooFine(n.Step)
	}
	inner, err := at.moved(n.Timestamp, n.OriginalOffset)
	if err != nil {
		return at, err
	}
	inner.start -= milliseconds(n.Range)
	if err := inReach(inner.start, inner.end); err != nil {
		return at, err
	}
	inner.steps = math.Floor((inner.end-inner.start)/step) + 1
	w.subquerySteps += inner.steps
	w.visits += at.steps * (milliseconds(n.Range)/step + 1)
	if w.subquerySteps > float64(w.maxSteps) || w.visits > maxVisits {
		return at, proto.Errorf(proto.KindBadData, "weir-query-too-many-steps",
			"the subqueries of the query have %.0f steps, which are looked at %.0f times; the limits are %d, query.max_subquery_steps, and %d; "+
				"use larger steps, shorter ranges, or recording rules", w.subquerySteps, w.visits, w.maxSteps, maxVisits)
	}
	return inner, nil
}

// moved applies the modifiers of a selector: @, nil if there is none, and offset.
func (at evaluations) moved(timestamp *int64, offset time.Duration) (evaluations, error) {
	if timestamp != nil {
		t := float64(*timestamp)
		// The engine makes an offset of @.
		if err := inReach(t, at.start-t+milliseconds(offset)); err != nil {
			return at, err
		}
		at.start, at.end = t, t
	}
	at.start -= milliseconds(offset)
	at.end -= milliseconds(offset)
	return at, inReach(at.start, at.end)
}

// inReach refuses times and differences that the engine cannot compute with.
func inReach(ms ...float64) error {
	for _, t := range ms {
		if !(math.Abs(t) <= float64(farMS)) {
			return outOfReach()
		}
	}
	return nil
}

func outOfReach() error {
	return proto.Errorf(proto.KindBadData, "weir-query-time-out-of-range",
		"the query reaches, with its time, ranges, offsets and @, more than 292 years from 1970 or from one of its times to another")
}

func tooFine(step time.Duration) error {
	return proto.Errorf(proto.KindBadData, "weir-query-step-too-short", "a step of %s is shorter than a millisecond, the resolution of timestamps", step)
}

func milliseconds(d time.Duration) float64 { return float64(d / time.Millisecond) }
