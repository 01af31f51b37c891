package promqlscript

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/convertnhcb"

	"github.com/weir-metrics/weir/integration/harness"
)

// Load is samples to store; their times begin at 1970.
type Load struct {
	Line   int
	Series []harness.Series
	Starts bool // some samples have start timestamps
}

var loadCommand = regexp.MustCompile(`^load(_with_nhcb)?\s+(\S+)$`)

// loaded is one series of a load; of two with the same labels the later counts.
type loaded struct {
	labels  labels.Labels
	samples []harness.Sample
}

func parseLoad(lines []line) (*Load, error) {
	parts := loadCommand.FindStringSubmatch(lines[0].text)
	if parts == nil {
		return nil, errors.New("not a load")
	}
	step, err := parseMillis(parts[2])
	if err != nil {
		return nil, err
	}
	load := &Load{Line: lines[0].number}
	var (
		all    []loaded
		starts []start // of the series in the next line
	)
	for _, l := range lines[1:] {
		if series, values, ok := cutStarts(l.text); ok {
			if starts, err = parseStarts(values); err != nil {
				return nil, fmt.Errorf("start timestamps of %s: %w", series, err)
			}
			load.Starts = true
			continue
		}
		one, err := parseLoaded(l.text, step, starts)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(x loaded) bool { return labels.Equal(x.labels, one.labels) })
		all = append(all, one)
		starts = nil
	}
	if parts[1] != "" {
		converted, err := customBuckets(all)
		if err != nil {
			return nil, err
		}
		all = append(all, converted...)
	}
	for _, x := range all {
		if len(x.samples) == 0 {
			continue // nothing that a sender could send
		}
		s := harness.Series{Samples: x.samples}
		x.labels.Range(func(l labels.Label) { s.Labels = append(s.Labels, l.Name, l.Value) })
		load.Series = append(load.Series, s)
	}
	return load, nil
}

// parseLoaded reads a series with its values, step ms apart.
func parseLoaded(text string, step int64, starts []start) (loaded, error) {
	ls, values, err := language.ParseSeriesDesc(text)
	if err != nil {
		return loaded{}, err
	}
	if starts != nil && len(starts) != len(values) {
		return loaded{}, fmt.Errorf("%d start timestamps for %d values", len(starts), len(values))
	}
	x := loaded{labels: ls}
	for i, v := range values {
		if v.Omitted {
			continue
		}
		s := harness.Sample{T: int64(i) * step, V: v.Value, FH: v.Histogram}
		if starts != nil && starts[i].known {
			s.ST = s.T + starts[i].offset
		}
		x.samples = append(x.samples, s)
	}
	return x, nil
}

// start is where a sample's start timestamp lies, if it has one.
type start struct {
	known  bool
	offset int64 // from the sample's timestamp, ms
}

// cutStarts splits a line such as
//
//	metric{a="b"}@st _ -30s-1mx2
func cutStarts(text string) (series, values string, ok bool) {
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return "", "", false
	}
	series, ok = strings.CutSuffix(text[:i], "@st")
	return series, text[i:], ok
}

// startItem is a duration, perhaps a step, perhaps how often to take it.
var startItem = regexp.MustCompile(`^([+-]?\d+[a-wyz]*)([+-]\d+[a-wyz]*)?(?:x(\d+))?$`)

func parseStarts(text string) ([]start, error) {
	var starts []start
	for item := range strings.FieldsSeq(text) {
		if omitted, ok := strings.CutPrefix(item, "_"); ok {
			n := 1
			if omitted != "" {
				var err error
				if n, err = strconv.Atoi(strings.TrimPrefix(omitted, "x")); err != nil {
					return nil, err
				}
			}
			starts = append(starts, make([]start, n)...)
			continue
		}
		parts := startItem.FindStringSubmatch(item)
		if parts == nil {
			return nil, fmt.Errorf("%q is not a start timestamp", item)
		}
		offset, err := parseMillis(parts[1])
		if err != nil {
			return nil, err
		}
		step, err := parseMillis(cmp.Or(parts[2], "0"))
		if err != nil {
			return nil, err
		}
		more, err := strconv.Atoi(cmp.Or(parts[3], "0"))
		if err != nil {
			return nil, err
		}
		for i := range int64(more) + 1 {
			starts = append(starts, start{known: true, offset: offset + i*step})
		}
	}
	return starts, nil
}

// parseMillis reads a duration with or without a sign.
func parseMillis(text string) (int64, error) {
	d, err := model.ParseDuration(strings.TrimLeft(text, "+-"))
	ms := time.Duration(d).Milliseconds()
	if strings.HasPrefix(text, "-") {
		ms = -ms
	}
	return ms, err
}

// customBuckets returns the classic histograms among all once more, as native
// ones with custom bounds. They have no start timestamps.
func customBuckets(all []loaded) ([]loaded, error) {
	type key struct {
		labels string
		t      int64
	}
	histograms := map[key]*convertnhcb.TempHistogram{}
	var found []loaded // without histograms yet
	for _, x := range all {
		suffix, name := convertnhcb.GetHistogramMetricBaseName(x.labels.Get(model.MetricNameLabel))
		if suffix == convertnhcb.SuffixNone {
			continue
		}
		le, err := strconv.ParseFloat(x.labels.Get(model.BucketLabel), 64)
		if suffix == convertnhcb.SuffixBucket && (err != nil || math.IsNaN(le)) {
			continue
		}
		base := convertnhcb.GetHistogramMetricBase(x.labels, name)
		at := slices.IndexFunc(found, func(y loaded) bool { return labels.Equal(y.labels, base) })
		if at < 0 {
			at = len(found)
			found = append(found, loaded{labels: base})
		}
		for _, s := range x.samples {
			if s.FH != nil {
				continue
			}
			k := key{base.String(), s.T}
			if histograms[k] == nil {
				h := convertnhcb.NewTempHistogram()
				histograms[k] = &h
				found[at].samples = append(found[at].samples, harness.Sample{T: s.T})
			}
			put(histograms[k], suffix, le, s.V)
		}
	}
	for _, x := range found {
		slices.SortFunc(x.samples, func(a, b harness.Sample) int { return cmp.Compare(a.T, b.T) })
		for i := range x.samples {
			var err error
			if x.samples[i].FH, err = convert(histograms[key{x.labels.String(), x.samples[i].T}]); err != nil {
				return nil, fmt.Errorf("convert %s: %w", x.labels, err)
			}
		}
	}
	return found, nil
}

// put adds the value of one classic series. What it refuses, convert reports.
func put(h *convertnhcb.TempHistogram, suffix convertnhcb.SuffixType, le, v float64) {
	switch suffix {
	case convertnhcb.SuffixBucket:
		_ = h.SetBucketCount(le, v)
	case convertnhcb.SuffixCount:
		_ = h.SetCount(v)
	case convertnhcb.SuffixSum:
		_ = h.SetSum(v)
	}
}

func convert(t *convertnhcb.TempHistogram) (*histogram.FloatHistogram, error) {
	h, fh, err := t.Convert()
	if err != nil {
		return nil, err
	}
	if fh == nil {
		fh = h.ToFloat(nil)
	}
	return fh, fh.Validate()
}
