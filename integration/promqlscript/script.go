// Package promqlscript plays the test scripts of Prometheus' PromQL engine
// against a server: what a script loads is sent by remote write, what it
// evaluates is asked over HTTP, and the answer is judged by the rules of
// Prometheus' own runner, which works inside one process.
//
//	script.go  a file -> sections of loads and evaluations
//	load.go    a load -> series to send, with start timestamps
//	eval.go    an evaluation -> what to ask, at which times
//	expect.go  what the script expects of the answer
//	answer.go  the JSON of an answer -> series of points
//	compare.go the answer against the expectation
//
// The language is described beside the scripts, in promql/promqltest/README.md
// of the Prometheus module. What the scripts of the version that we use do not
// contain is not understood here, and is an error.
package promqlscript

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// Script is one file.
type Script struct {
	Name     string // of the file, without .test
	Sections []Section
}

// Section begins with an empty store: it is what lies between two clears.
type Section []Command

// Command is a load or an evaluation; the other one is nil.
type Command struct {
	Load *Load
	Eval *Eval
}

// scripts are parsed with everything turned on.
var language = parser.NewParser(parser.Options{
	EnableExperimentalFunctions:  true,
	ExperimentalDurationExpr:     true,
	EnableExtendedRangeSelectors: true,
	EnableBinopFillModifiers:     true,
})

// Read reads every script in dir.
func Read(dir string) ([]Script, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.test"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no scripts in %s", dir)
	}
	var scripts []Script
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s, err := parse(strings.TrimSuffix(filepath.Base(file), ".test"), string(text))
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

// line of a script, without the space around it. Comments are blank.
type line struct {
	number int // from 1
	text   string
}

// parse reads a script. A command ends at a blank line.
func parse(name, text string) (Script, error) {
	s := Script{Name: name, Sections: []Section{nil}}
	var command []line
	for i, l := range append(strings.Split(text, "\n"), "") {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
			command = append(command, line{i + 1, l})
			continue
		}
		if err := s.add(command); err != nil {
			return s, fmt.Errorf("%s.test:%w", name, err)
		}
		command = nil
	}
	return s, nil
}

// add takes the lines of one command, and those of others that follow it without
// a blank line between.
func (s *Script) add(lines []line) error {
	for len(lines) > 0 {
		var (
			c    Command
			err  error
			rest []line
			last = &s.Sections[len(s.Sections)-1]
		)
		switch first := lines[0]; {
		case first.text == "clear":
			s.Sections = append(s.Sections, nil)
			lines = lines[1:]
			continue
		case strings.HasPrefix(first.text, "load"):
			c.Load, err = parseLoad(lines)
		case strings.HasPrefix(first.text, "eval"):
			c.Eval, rest, err = parseEval(lines)
		default:
			err = errors.New("unknown command")
		}
		if err != nil {
			return fmt.Errorf("%d: %q: %w", lines[0].number, lines[0].text, err)
		}
		*last = append(*last, c)
		lines = rest
	}
	return nil
}
