package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/weir-metrics/weir/proto"
)

// Values of the stats parameter.
const (
	statsTrue = "true" // totals
	statsAll  = "all"  // and for each step
)

// query evaluates an expression at one time.
func (a *API) query(ctx context.Context, r *request) (answer, error) {
	limit, err := parseLimit(r)
	if err != nil {
		return answer{}, err
	}
	at, err := parseTimeParam(r, "time", time.Now())
	if err == nil {
		err = checkEvaluationTime(at)
	}
	if err != nil {
		return answer{}, badParam("time", err)
	}
	ctx, cancel, err := withTimeout(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer cancel()
	opts, err := parseQueryOpts(r)
	if err != nil {
		return answer{}, err
	}
	q, err := a.Engine.NewInstantQuery(ctx, r.view.Queryable(), opts, r.FormValue("query"), at)
	if err != nil {
		return answer{}, refusedQuery(err)
	}
	r.whenDone(q.Close)
	return a.evaluate(ctx, q, r, limit)
}

// queryRange evaluates an expression at every step of a time range.
func (a *API) queryRange(ctx context.Context, r *request) (answer, error) {
	limit, err := parseLimit(r)
	if err != nil {
		return answer{}, err
	}
	start, end, step, err := a.parseSteps(r)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel, err := withTimeout(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer cancel()
	opts, err := parseQueryOpts(r)
	if err != nil {
		return answer{}, err
	}
	q, err := a.Engine.NewRangeQuery(ctx, r.view.Queryable(), opts, r.FormValue("query"), start, end, step)
	if err != nil {
		return answer{}, refusedQuery(err)
	}
	r.whenDone(q.Close)
	return a.evaluate(ctx, q, r, limit)
}

// parseSteps reads the times to evaluate at, of which there may not be more than
// Config.MaxPointsPerSeries.
func (a *API) parseSteps(r *request) (start, end time.Time, step time.Duration, err error) {
	if start, err = parseTime(r.FormValue("start")); err != nil {
		return start, end, 0, badParam("start", err)
	}
	if end, err = parseTime(r.FormValue("end")); err != nil {
		return start, end, 0, badParam("end", err)
	}
	if end.Before(start) {
		return start, end, 0, badParam("end", errors.New("end timestamp must not be before start time"))
	}
	if step, err = parseDuration(r.FormValue("step")); err != nil {
		return start, end, 0, badParam("step", err)
	}
	if step <= 0 {
		return start, end, 0, badParam("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	if err := checkSteps(start, end, step, a.cfg.MaxPointsPerSeries); err != nil {
		return start, end, 0, err
	}
	return start, end, step, nil
}

// checkSteps refuses times that the engine cannot evaluate at, and more steps
// than limit.
func checkSteps(start, end time.Time, step time.Duration, limit int) error {
	if err := errors.Join(checkEvaluationTime(start), checkEvaluationTime(end)); err != nil {
		return badParam("start", err)
	}
	if step < time.Millisecond {
		return tooFine(step)
	}
	if (end.UnixMilli()-start.UnixMilli())/step.Milliseconds() > int64(limit) {
		return proto.Errorf(proto.KindBadData, "weir-query-too-many-steps",
			"exceeded maximum resolution of %s points per timeseries. Try decreasing the query resolution (?step=XX)", thousands(limit))
	}
	return nil
}

// thousands writes n, which is not negative, with commas: 11,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

func parseQueryOpts(r *request) (promql.QueryOpts, error) {
	var lookback time.Duration
	if s := r.FormValue("lookback_delta"); s != "" {
		d, err := parseDuration(s)
		if err != nil {
			return nil, badData(fmt.Errorf("error parsing lookback delta duration: %w", err))
		}
		lookback = d
	}
	return promql.NewPrometheusQueryOpts(r.FormValue("stats") == statsAll, lookback), nil
}

// refusedQuery says why the engine made no query of a request: because of the
// expression, or because none of its places came free in time.
func refusedQuery(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return badParam("query", err)
}

// evaluate runs q, and cuts the result to limit series, 0 being all.
func (a *API) evaluate(ctx context.Context, q promql.Query, r *request, limit int) (answer, error) {
	if stmt, ok := q.Statement().(*parser.EvalStmt); ok {
		if err := checkWork(stmt, a.cfg.MaxSubquerySteps); err != nil {
			return answer{}, err
		}
	}
	res := q.Exec(ctx)
	a.Usage.Known(r.who.Tenant).Read(q.Stats().Samples.TotalSamples)
	if res.Err != nil {
		return answer{}, evaluationError{res.Err}
	}
	ans := answer{query: r.FormValue("query"), warnings: res.Warnings}
	result := queryResult{value: res.Value}
	if limit > 0 {
		result.value = truncate(res.Value, limit, &ans.warnings)
	}
	switch s := r.FormValue("stats"); s {
	case "":
	case statsTrue, statsAll:
		result.stats = stats.NewQueryStats(q.Stats())
	default:
		result.stats = stats.NewQueryStats(q.Stats())
		ans.warnings.Add(fmt.Errorf("value %q for parameter \"stats\" is deprecated and will be rejected "+
			"in the next major release, use %q or %q", s, statsTrue, statsAll))
	}
	ans.data = result
	return ans, nil
}

// truncate returns the first limit series of v, and warns if there are more.
func truncate(v parser.Value, limit int, warnings *annotations.Annotations) parser.Value {
	switch all := v.(type) {
	case promql.Matrix:
		if len(all) > limit {
			warnings.Add(errTruncated)
			return all[:limit]
		}
	case promql.Vector:
		if len(all) > limit {
			warnings.Add(errTruncated)
			return all[:limit]
		}
	}
	return v
}
