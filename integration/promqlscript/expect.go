package promqlscript

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// expectation is what a script says of an answer.
type expectation struct {
	fail            []match // of which there is at most one; empty: succeed
	warn, info      []match // each must be found, and nothing but these; empty: anything goes
	noWarn, noInfo  bool
	ordered         bool
	scalar          *float64
	text            string // of a string
	hasText         bool
	series          []expectedSeries // in the order of the script
	times           grid             // of the values of series
	vectorOverRange bool             // an instant query is answered with a range vector
}

// expectedSeries is one series of the answer.
type expectedSeries struct {
	labels labels.Labels
	values []parser.SequenceValue // one for each of the expectation's times
}

// grid is times in ms, from start on.
type grid struct{ start, end, step int64 }

// match matches a message, as a whole or by a pattern.
type match struct {
	text    string
	pattern *regexp.Regexp // nil: text, as a whole
}

var matchAny = match{pattern: regexp.MustCompile(``)}

func (m match) matches(s string) bool {
	if m.pattern != nil {
		return m.pattern.MatchString(s)
	}
	return m.text == s
}

func (m match) String() string {
	if m.pattern != nil {
		return fmt.Sprintf("a match of %q", m.pattern)
	}
	return fmt.Sprintf("%q", m.text)
}

var (
	expectLine  = regexp.MustCompile(`^expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$`)
	expectText  = regexp.MustCompile(`^expect\s+string\s+(.+)$`)
	expectRange = regexp.MustCompile(`^expect\s+range\s+vector\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)$`)
)

// parse reads the lines of an expectation and returns those behind it: a scalar
// ends it.
func (x *expectation) parse(lines []line) (rest []line, err error) {
	for i, l := range lines {
		switch {
		case expectRange.MatchString(l.text):
			err = x.parseRange(expectRange.FindStringSubmatch(l.text))
		case expectText.MatchString(l.text):
			x.hasText = true
			x.text, err = strconv.Unquote(expectText.FindStringSubmatch(l.text)[1])
		case expectLine.MatchString(l.text):
			err = x.parseLine(expectLine.FindStringSubmatch(l.text))
		case strings.HasPrefix(l.text, "expect "):
			err = errors.New("unknown expectation")
		default:
			if v, numErr := parseNumber(l.text); numErr == nil {
				x.scalar = &v
				return lines[i+1:], nil
			}
			var s expectedSeries
			s.labels, s.values, err = language.ParseSeriesDesc(l.text)
			x.series = append(x.series, s)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", l.number, l.text, err)
		}
	}
	return nil, nil
}

func (x *expectation) parseRange(parts []string) error {
	x.vectorOverRange = true
	for i, at := range []*int64{&x.times.start, &x.times.end, &x.times.step} {
		var err error
		if *at, err = parseMillis(parts[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (x *expectation) parseLine(parts []string) error {
	m := matchAny
	switch text := strings.TrimSpace(parts[3]); parts[2] {
	case "msg":
		m = match{text: text}
	case "regex":
		pattern, err := regexp.Compile(text)
		if err != nil {
			return err
		}
		m = match{pattern: pattern}
	}
	switch parts[1] {
	case "ordered":
		x.ordered = true
	case "fail":
		x.fail = append(x.fail, m)
	case "warn":
		x.warn = append(x.warn, m)
	case "no_warn":
		x.noWarn = true
	case "info":
		x.info = append(x.info, m)
	case "no_info":
		x.noInfo = true
	}
	if len(x.fail) > 1 || x.noWarn && len(x.warn) > 0 || x.noInfo && len(x.info) > 0 {
		return errors.New("contradicts what was expected before")
	}
	return nil
}

func parseNumber(text string) (float64, error) {
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return float64(n), nil
	}
	return strconv.ParseFloat(text, 64)
}

// onlyInstant reports whether the answer cannot be a step of a range query.
func (x *expectation) onlyInstant() bool { return len(x.fail) > 0 || x.hasText || x.vectorOverRange }

// ResetHints reports whether the script also states counter reset hints, which
// no JSON answer shows.
func (e *Eval) ResetHints() bool {
	for _, s := range e.want.series {
		for _, v := range s.values {
			if v.CounterResetHintSet {
				return true
			}
		}
	}
	return false
}
