package tenant

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// maxPolicySelectors bounds the selectors of a policy: a read does as many
// selections as there are.
const maxPolicySelectors = 32

// LabelPolicy is which series of its tenant a credential may read: those that at
// least one of its selectors selects. It is immutable, and enforced in package
// querier. One without selectors lets nothing be read; a credential that may read
// everything has none, nil.
type LabelPolicy struct {
	texts     []string
	selectors [][]*labels.Matcher
}

// ParseLabelPolicy reads selectors as they stand in a query, such as {team="a"}
// or {env!="prod",region=~"eu-.*"}. As in a query, a label that a series lacks is
// the empty string: {env!="prod"} selects series without an env. The error says
// what is wrong with each selector.
func ParseLabelPolicy(texts []string) (*LabelPolicy, error) {
	switch {
	case len(texts) == 0:
		return nil, errors.New("a label policy needs a selector; to let everything be read, leave it out")
	case len(texts) > maxPolicySelectors:
		return nil, fmt.Errorf("a label policy has %d selectors: must be at most %d", len(texts), maxPolicySelectors)
	}
	p := &LabelPolicy{texts: slices.Clone(texts)}
	reader := promql.NewParser(promql.Options{})
	var errs []error
	for _, text := range texts {
		selector, err := parseSelector(reader, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("selector %.200q: %w", text, err))
		}
		p.selectors = append(p.selectors, selector)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func parseSelector(reader promql.Parser, text string) ([]*labels.Matcher, error) {
	selector, err := reader.ParseMetricSelector(text)
	switch {
	case err != nil:
		return nil, err
	case len(selector) == 0:
		return nil, errors.New("it selects every series; to let everything be read, leave the policy out")
	case slices.ContainsFunc(selector, func(m *labels.Matcher) bool { return m.Name == "" }):
		return nil, errors.New("a matcher has no label name")
	}
	return selector, nil
}

// Selectors returns the selectors, each of which is a list of matchers that must
// all match. The caller may append to copies only.
func (p *LabelPolicy) Selectors() [][]*labels.Matcher { return p.selectors }

// First returns the place of the first selector that selects a series, or -1 if
// none does and it may not be read.
func (p *LabelPolicy) First(series labels.Labels) int {
	return slices.IndexFunc(p.selectors, func(selector []*labels.Matcher) bool {
		for _, m := range selector {
			if !m.Matches(series.Get(m.Name)) {
				return false
			}
		}
		return true
	})
}

// Texts returns the selectors as they were given, for who shows or compares
// policies.
func (p *LabelPolicy) Texts() []string { return slices.Clone(p.texts) }
