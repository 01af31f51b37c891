package relabel

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"
)

// What rules may have. Each costs time for every new series.
const (
	maxRules       = 200
	maxRedactions  = 64 // the bits of Found
	maxRegexBytes  = 4 << 10
	maxSources     = 64 // labels that one rule takes together
	maxTests       = 1000
	leastKeyBytes  = 16
	maxNameOfMatch = 32 // bytes, in every redacted value
)

// Read reads a Config from YAML, strictly. It returns everything that is wrong with
// the YAML; whether the rules are right, Compile says.
func Read(src io.Reader) (*Config, []error) {
	c := new(Config)
	dec := yaml.NewDecoder(src)
	dec.KnownFields(true)
	err := dec.Decode(c)
	var wrong *yaml.TypeError
	switch {
	case errors.As(err, &wrong):
		var errs []error
		for _, text := range wrong.Errors {
			errs = append(errs, errors.New(text))
		}
		return nil, errs
	case err != nil && !errors.Is(err, io.EOF): // an empty file has no rules
		return nil, []error{err}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, []error{errors.New("there is a second YAML document; only one is read")}
	}
	return c, nil
}

// Compile makes Rules of c, nil when there are none, or says everything that is
// wrong with it, each error with its path below prefix. Tests that fail are errors.
// c is kept and must not change.
func Compile(c *Config, prefix string) (*Rules, []error) {
	k := &compiler{}
	rules := k.rules(c, prefix)
	rules.config = c
	if c.Shadow != nil {
		if c.Shadow.Shadow != nil {
			k.errorf(at(prefix, "shadow.shadow"), "must not be set: shadow rules have none of their own")
		}
		if c.Shadow.Canary != 0 {
			k.errorf(at(prefix, "shadow.canary"), "must not be set: it belongs beside shadow")
		}
		rules.shadow = k.rules(c.Shadow, at(prefix, "shadow"))
	}
	rules.canary = c.Canary / 100
	switch {
	case !(c.Canary >= 0 && c.Canary <= 100):
		k.errorf(at(prefix, "canary"), "%v: must be a percentage, 0 to 100", c.Canary)
	case c.Canary > 0 && c.Shadow == nil:
		k.errorf(at(prefix, "canary"), "%v: needs rules under shadow, which it applies", c.Canary)
	}
	switch {
	case len(k.errs) > 0:
		return nil, k.errs
	case rules.empty() && rules.shadow == nil:
		return nil, nil
	}
	return rules, nil
}

// Validate reports every violation, each with its path below prefix, the value
// and the rule.
func (c *Config) Validate(prefix string) []error {
	_, errs := Compile(c, prefix)
	return errs
}

// Of reports whether r was compiled of the same as c. So tenants of one plan share
// its rules, whatever else they set.
func (r *Rules) Of(c *Config) bool {
	if r == nil {
		return reflect.ValueOf(c).Elem().IsZero()
	}
	return reflect.DeepEqual(r.config, c)
}

// empty reports whether the rules change nothing.
func (r *Rules) empty() bool {
	return len(r.steps) == 0 && len(r.drop) == 0 && len(r.redact) == 0 && r.long == LongReject
}

// compiler collects errors.
type compiler struct{ errs []error }

func (k *compiler) errorf(path, format string, args ...any) {
	k.errs = append(k.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// atMost checks the length of a list.
func (k *compiler) atMost(path string, n, limit int) {
	if n > limit {
		k.errorf(path, "%d entries: must be at most %d", n, limit)
	}
}

// at joins paths, of which the first may be empty.
func at(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}

// rules compiles c without its shadow. Its tests are run when all of it is right.
func (k *compiler) rules(c *Config, prefix string) *Rules {
	before := len(k.errs)
	r := &Rules{drop: slices.Sorted(slices.Values(c.DropLabels)), long: c.LongValues}
	k.atMost(at(prefix, "metric_relabel_configs"), len(c.MetricRelabel), maxRules)
	for i := range c.MetricRelabel {
		k.step(r, &c.MetricRelabel[i], fmt.Sprintf("%s[%d]", at(prefix, "metric_relabel_configs"), i))
	}
	k.atMost(at(prefix, "drop_labels"), len(c.DropLabels), maxRules)
	for i, name := range c.DropLabels {
		if !model.UTF8Validation.IsValidLabelName(name) {
			k.errorf(fmt.Sprintf("%s[%d]", at(prefix, "drop_labels"), i), "%q: must be a label name", name)
		}
		if name == model.MetricNameLabel {
			k.errorf(fmt.Sprintf("%s[%d]", at(prefix, "drop_labels"), i), "%q: must not be dropped: no series is without it; drop series by metric_relabel_configs", name)
		}
	}
	k.atMost(at(prefix, "redact"), len(c.Redact), maxRedactions)
	for i := range c.Redact {
		k.redaction(r, &c.Redact[i], fmt.Sprintf("%s[%d]", at(prefix, "redact"), i))
	}
	switch r.long {
	case "":
		r.long = LongReject
	case LongReject, LongTruncate, LongHash:
	default:
		k.errorf(at(prefix, "long_values"), "%q: must be reject, truncate or hash", r.long)
	}
	if n := len(c.HashKey); n > 0 {
		if n < leastKeyBytes {
			k.errorf(at(prefix, "hash_key"), "%d bytes: must have at least %d, made by chance", n, leastKeyBytes)
		}
		r.key = []byte(c.HashKey)
	}
	k.atMost(at(prefix, "tests"), len(c.Tests), maxTests)
	if len(k.errs) == before {
		for i := range c.Tests {
			if err := c.Tests[i].Run(r); err != nil {
				k.errorf(fmt.Sprintf("%s[%d]", at(prefix, "tests"), i), "%v", err)
			}
		}
	}
	return r
}

// step compiles one rule of relabelling, as Prometheus does.
func (k *compiler) step(r *Rules, c *Rule, path string) {
	before := len(k.errs)
	p := promrelabel.DefaultRelabelConfig
	p.Modulus, p.TargetLabel = c.Modulus, c.TargetLabel
	p.NameValidationScheme = model.UTF8Validation
	if c.Action != "" {
		p.Action = promrelabel.Action(strings.ToLower(c.Action))
	}
	if !slices.Contains(actions, p.Action) {
		k.errorf(at(path, "action"), "%q: must be one of %v", c.Action, actions)
	}
	if c.Separator != nil {
		p.Separator = *c.Separator
	}
	if c.Replacement != nil {
		p.Replacement = *c.Replacement
	}
	k.atMost(at(path, "source_labels"), len(c.SourceLabels), maxSources)
	for _, name := range c.SourceLabels {
		if !model.UTF8Validation.IsValidLabelName(name) {
			k.errorf(at(path, "source_labels"), "%q: must be a label name", name)
		}
		p.SourceLabels = append(p.SourceLabels, model.LabelName(name))
	}
	if c.Regex != nil && k.short(at(path, "regex"), *c.Regex) {
		re, err := promrelabel.NewRegexp(*c.Regex)
		if err != nil {
			k.errorf(at(path, "regex"), "%q: %v", *c.Regex, err)
			return
		}
		p.Regex = re
	}
	for _, text := range []string{p.Separator, p.TargetLabel, p.Replacement} {
		k.short(path, text)
	}
	if len(k.errs) > before {
		return
	}
	if err := p.Validate(model.UTF8Validation); err != nil {
		k.errorf(path, "%v", err)
		return
	}
	growth := max(1, strings.Count(p.Replacement, "$"), strings.Count(p.TargetLabel, "$"))
	r.steps = append(r.steps, step{&p, growth})
}

var actions = []promrelabel.Action{
	promrelabel.Replace, promrelabel.Keep, promrelabel.Drop, promrelabel.KeepEqual, promrelabel.DropEqual,
	promrelabel.HashMod, promrelabel.LabelMap, promrelabel.LabelDrop, promrelabel.LabelKeep,
	promrelabel.Lowercase, promrelabel.Uppercase,
}

// short checks a text that time or memory is needed for.
func (k *compiler) short(path, text string) bool {
	if len(text) > maxRegexBytes {
		k.errorf(path, "%d bytes: must be at most %d", len(text), maxRegexBytes)
		return false
	}
	return true
}

func (k *compiler) redaction(r *Rules, c *Redaction, path string) {
	d := redaction{name: c.Name, action: c.Action, labels: allButName}
	known := false
	switch d.detector, known = detectors[c.Detector]; {
	case c.Detector == "regex":
		d.detector = k.regex(c.Regex, at(path, "regex"))
	case !known:
		k.errorf(at(path, "detector"), "%q: must be one of card, email, ipv4, ipv6, jwt, regex, secret or uuid", c.Detector)
	case c.Regex != "":
		k.errorf(at(path, "regex"), "%q: is for the detector regex", c.Regex)
	}
	if d.name == "" {
		d.name = c.Detector
	}
	if len(d.name) > maxNameOfMatch || strings.Trim(d.name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		k.errorf(at(path, "name"), "%q: must be at most %d of the characters a-z, 0-9, _ and -", d.name, maxNameOfMatch)
	}
	if !slices.Contains([]Action{Hash, Mask, Drop, Reject, Report}, d.action) {
		k.errorf(at(path, "action"), "%q: must be hash, mask, drop, reject or report", d.action)
	}
	if c.Labels != "" && k.short(at(path, "labels"), c.Labels) {
		re, err := promrelabel.NewRegexp(c.Labels)
		if err != nil {
			k.errorf(at(path, "labels"), "%q: %v", c.Labels, err)
			return
		}
		d.labels = func(name string) bool { return name == anyLabel || re.MatchString(name) }
	}
	r.redact = append(r.redact, d)
}

func allButName(name string) bool { return name != model.MetricNameLabel }

// regex compiles a detector, which must not find nothing.
func (k *compiler) regex(text, path string) detector {
	if !k.short(path, text) {
		return detector{}
	}
	re, err := regexp.Compile(text)
	switch {
	case text == "":
		k.errorf(path, `"": must be set for the detector regex`)
	case err != nil:
		k.errorf(path, "%q: %v", text, err)
	case re.MatchString(""):
		k.errorf(path, "%q: matches the empty string, so it would be found everywhere", text)
	default:
		return findRegex(re)
	}
	return detector{}
}
