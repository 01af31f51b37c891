package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// minTime and maxTime stand for "any time". They are the values that Prometheus
// answers to, and that its clients send: a little inside of what int64
// milliseconds hold.
var (
	minTime = time.Unix(math.MinInt64/1000+62135596801, 0).UTC()
	maxTime = time.Unix(math.MaxInt64/1000-62135596801, 999999999).UTC()
)

// timeRange is a time range in milliseconds, inclusive.
type timeRange struct{ start, end int64 }

// parseRange reads the optional start and end, for reads without steps.
func parseRange(r *request) (timeRange, error) {
	start, err := parseTimeParam(r, "start", minTime)
	if err != nil {
		return timeRange{}, badParam("start", err)
	}
	end, err := parseTimeParam(r, "end", maxTime)
	if err != nil {
		return timeRange{}, badParam("end", err)
	}
	return timeRange{start.UnixMilli(), end.UnixMilli()}, nil
}

func parseTimeParam(r *request, name string, missing time.Time) (time.Time, error) {
	s := r.FormValue(name)
	if s == "" {
		return missing, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid time value for '%s': %w", name, err)
	}
	return t, nil
}

// parseTime reads seconds since 1970, with a fraction of which milliseconds are
// kept, or RFC 3339.
func parseTime(s string) (time.Time, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if !(f >= float64(minTime.Unix()) && f <= float64(maxTime.Unix())) { // NaN neither
			return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp. It is beyond what 64 bits of milliseconds hold", s)
		}
		seconds, fraction := math.Modf(f)
		fraction = math.Round(fraction*1000) / 1000
		return time.Unix(int64(seconds), int64(fraction*float64(time.Second))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	// Years of more than four digits, which time.Parse does not read.
	switch s {
	case minTime.Format(time.RFC3339Nano):
		return minTime, nil
	case maxTime.Format(time.RFC3339Nano):
		return maxTime, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

// checkEvaluationTime refuses a time that the engine cannot evaluate at.
func checkEvaluationTime(t time.Time) error {
	if ms := t.UnixMilli(); ms > farMS || ms < -farMS {
		return outOfReach()
	}
	return nil
}

// parseDuration reads seconds, or a duration such as 1h30m.
func parseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		ns := f * float64(time.Second)
		if !(ns < math.MaxInt64 && ns > math.MinInt64) { // NaN neither
			return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
		}
		return time.Duration(ns), nil
	}
	if d, err := model.ParseDuration(s); err == nil {
		return time.Duration(d), nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
}

// parseLimit reads how much to answer at most; 0 is everything.
func parseLimit(r *request) (int, error) {
	s := r.FormValue("limit")
	if s == "" {
		return 0, nil
	}
	limit, err := strconv.Atoi(s)
	if err == nil && limit < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return 0, badParam("limit", err)
	}
	return limit, nil
}

// parseListLimit reads how many series, names or values to list at most, and
// with it the warning for when there are more.
func (a *API) parseListLimit(r *request) (limit int, cut error, err error) {
	limit, err = parseLimit(r)
	if err != nil || limit > 0 && limit <= a.cfg.MaxResults {
		return limit, errTruncated, err
	}
	return a.cfg.MaxResults, fmt.Errorf("%w: query.max_results is %d", errTruncated, a.cfg.MaxResults), nil
}

var errTruncated = errors.New("results truncated due to limit")

// withTimeout applies the request's timeout parameter to ctx.
func withTimeout(ctx context.Context, r *request) (context.Context, context.CancelFunc, error) {
	s := r.FormValue("timeout")
	if s == "" {
		return ctx, func() {}, nil
	}
	d, err := parseDuration(s)
	if err == nil && d <= 0 {
		err = errors.New("timeout must be positive")
	}
	if err != nil {
		return nil, nil, badParam("timeout", err)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	return ctx, cancel, nil
}

// parseSelectors reads series selectors. Each needs a matcher that the empty
// string does not satisfy, or it would select everything.
func parseSelectors(p parser.Parser, selectors []string) ([][]*labels.Matcher, error) {
	sets, err := p.ParseMetricSelectors(selectors)
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		if !selective(set) {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return sets, nil
}

func selective(set []*labels.Matcher) bool {
	for _, m := range set {
		if m != nil && !m.Matches("") {
			return true
		}
	}
	return false
}
