package promqlscript

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/almost"

	"github.com/weir-metrics/weir/integration/harness"
)

// tolerance is the relative error that Prometheus' runner allows.
const tolerance = 0.000001

func equal(a, b float64) bool { return almost.Equal(a, b, tolerance) }

// check says what is wrong with the answer to the evaluation as it stands in the
// script.
func (x *expectation) check(a answer) error {
	if len(x.fail) > 0 {
		if a.failure == "" || !x.fail[0].matches(a.failure) {
			return fmt.Errorf("expected a failure, %s, got %q", x.fail[0], a.failure)
		}
		return nil
	}
	if a.failure != "" {
		return errors.New(a.failure)
	}
	if err := x.checkAnnotations(a); err != nil {
		return err
	}
	switch a.kind {
	case "scalar":
		return x.checkScalar(a.scalar)
	case "string":
		if a.text != x.text {
			return fmt.Errorf("expected %q, got %q", x.text, a.text)
		}
		return nil
	}
	if x.scalar != nil || x.hasText {
		return fmt.Errorf("expected a single value, got a %s", a.kind)
	}
	if a.kind == "matrix" {
		return x.checkMatrix(a.series)
	}
	return x.checkVector(a.series)
}

// checkStep does so for a range query, of which only the step at ts is looked at.
func (x *expectation) checkStep(a answer, ts int64) error {
	if a.failure != "" {
		return errors.New(a.failure)
	}
	if x.ordered {
		return nil // a range query has an order of its own
	}
	if err := sorted(a.series); err != nil {
		return err
	}
	var step []series
	for _, s := range a.series {
		if i := slices.IndexFunc(s.points, func(p point) bool { return p.t == ts }); i >= 0 {
			step = append(step, series{s.labels, s.points[i : i+1]})
		}
	}
	if x.scalar == nil {
		return x.checkVector(step)
	}
	if len(step) != 1 {
		return fmt.Errorf("expected one value, got %d", len(step))
	}
	return x.checkScalar(step[0].points[0].v)
}

func (x *expectation) checkScalar(v float64) error {
	if x.scalar == nil {
		return errors.New("did not expect a scalar")
	}
	if !equal(*x.scalar, v) {
		return fmt.Errorf("expected %v, got %v", *x.scalar, v)
	}
	return nil
}

// checkVector compares one value of each series.
func (x *expectation) checkVector(got []series) error {
	for i, s := range got {
		at := x.find(s.labels)
		if at < 0 {
			return fmt.Errorf("unexpected series %s", s.labels)
		}
		if x.ordered && at != i {
			return fmt.Errorf("%s comes as number %d, not %d", s.labels, i, at)
		}
		want := x.points(at)
		if len(want) != 1 || len(s.points) != 1 {
			return fmt.Errorf("%d values of %s, expected %d", len(s.points), s.labels, len(want))
		}
		if err := samePoint(want[0], s.points[0]); err != nil {
			return fmt.Errorf("%s: %w", s.labels, err)
		}
	}
	return x.checkComplete(got)
}

// checkMatrix compares the values of each series, and their times.
func (x *expectation) checkMatrix(got []series) error {
	if x.ordered {
		return errors.New("expected an order, got a matrix, which has its own")
	}
	if err := sorted(got); err != nil {
		return err
	}
	for _, s := range got {
		at := x.find(s.labels)
		if at < 0 {
			return fmt.Errorf("unexpected series %s", s.labels)
		}
		want := x.points(at)
		if len(want) != len(s.points) {
			return fmt.Errorf("%s: expected %s, got %s", s.labels, want, s.points)
		}
		for i := range want {
			if want[i].t != s.points[i].t {
				return fmt.Errorf("%s: expected %s, got %s", s.labels, want, s.points)
			}
			if err := samePoint(want[i], s.points[i]); err != nil {
				return fmt.Errorf("%s at %d ms: %w", s.labels, want[i].t, err)
			}
		}
	}
	return x.checkComplete(got)
}

// find returns the place of a series in the script, -1 if it is not there.
func (x *expectation) find(ls labels.Labels) int {
	return slices.IndexFunc(x.series, func(s expectedSeries) bool { return labels.Equal(s.labels, ls) })
}

// points are the values expected of a series, floats before histograms as in an
// answer.
func (x *expectation) points(at int) []point {
	var floats, histograms []point
	for i, v := range x.series[at].values {
		t := x.times.start + int64(i)*x.times.step
		switch {
		case v.Histogram != nil:
			h := harness.JSONOf(v.Histogram)
			histograms = append(histograms, point{t: t, histogram: &h})
		case !v.Omitted:
			floats = append(floats, point{t: t, v: v.Value})
		}
	}
	return append(floats, histograms...)
}

func (x *expectation) checkComplete(got []series) error {
	for _, want := range x.series {
		if !slices.ContainsFunc(got, func(s series) bool { return labels.Equal(s.labels, want.labels) }) {
			return fmt.Errorf("%s is missing", want.labels)
		}
	}
	if len(got) != len(x.series) {
		return fmt.Errorf("%d series, expected %d", len(got), len(x.series))
	}
	return nil
}

// sorted says that a matrix must be sorted by labels.
func sorted(all []series) error {
	if !slices.IsSortedFunc(all, func(a, b series) int { return labels.Compare(a.labels, b.labels) }) {
		return errors.New("the series are not sorted by their labels")
	}
	return nil
}

func samePoint(want, got point) error {
	switch {
	case (want.histogram == nil) != (got.histogram == nil):
		return fmt.Errorf("expected %s, got %s", want, got)
	case want.histogram == nil:
		if !equal(want.v, got.v) {
			return fmt.Errorf("expected %v, got %v", want.v, got.v)
		}
		return nil
	}
	ok, err := sameHistogram(want.histogram, got.histogram)
	if err == nil && !ok {
		err = fmt.Errorf("expected %s, got %s", want, got)
	}
	return err
}

// sameHistogram compares histograms as the API shows them: the bounds of the
// buckets exactly, what they count with the tolerance.
func sameHistogram(want, got *harness.HistogramJSON) (bool, error) {
	if len(want.Buckets) != len(got.Buckets) {
		return false, nil
	}
	pairs := [][2]any{{want.Count, got.Count}, {want.Sum, got.Sum}}
	for i, w := range want.Buckets {
		g := got.Buckets[i]
		if w[0] != g[0] || w[1] != g[1] || w[2] != g[2] {
			return false, nil
		}
		pairs = append(pairs, [2]any{w[3], g[3]})
	}
	for _, p := range pairs {
		w, err := number(p[0])
		if err != nil {
			return false, err
		}
		g, err := number(p[1])
		if err != nil {
			return false, err
		}
		if !equal(w, g) {
			return false, nil
		}
	}
	return true, nil
}

// number reads a float as the API writes it: as text.
func number(v any) (float64, error) {
	text, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("%v is not a number in quotes", v)
	}
	return strconv.ParseFloat(text, 64)
}

func (p point) String() string {
	if p.histogram != nil {
		return fmt.Sprintf("%+v at %d ms", *p.histogram, p.t)
	}
	return fmt.Sprintf("%v at %d ms", p.v, p.t)
}

// checkAnnotations compares warnings and infos.
func (x *expectation) checkAnnotations(a answer) error {
	if x.noWarn && len(a.warnings) > 0 {
		return fmt.Errorf("unexpected warnings %q", a.warnings)
	}
	if x.noInfo && len(a.infos) > 0 {
		return fmt.Errorf("unexpected infos %q", a.infos)
	}
	return errors.Join(allMatch(x.warn, a.warnings), allMatch(x.info, a.infos))
}

// allMatch says that each of want must match a message, and each message one of
// want. Nothing wanted means that anything goes.
func allMatch(want []match, got []string) error {
	if len(want) == 0 {
		return nil
	}
	for _, m := range want {
		if !slices.ContainsFunc(got, m.matches) {
			return fmt.Errorf("expected %s among the messages %q", m, got)
		}
	}
	for _, s := range got {
		if !slices.ContainsFunc(want, func(m match) bool { return m.matches(s) }) {
			return fmt.Errorf("unexpected message %q", s)
		}
	}
	return nil
}
