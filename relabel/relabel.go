// Package relabel says what becomes of a series' labels before it is stored: it
// relabels as Prometheus does, drops labels, redacts what must not be stored, and
// shortens values that are too long.
//
//	Config ── Compile (compile.go: all errors, own tests) ──> Rules ── Apply ──> Outcome
//
//	relabel.go   Config, Rules.Apply: the steps in order
//	compile.go   Config -> Rules, with every error
//	examples.go  the tests that come with rules, and that they must pass
//	redact.go    what is found is hashed, masked, dropped, rejected or reported
//	detect.go    what detectors find: email, card, addresses, UUID
//	secrets.go   JWT, and keys and tokens that tell themselves by a prefix
//	canary.go    the share of series that other rules are tried on
//	tally.go     what rules did, and what others would change
//
// All of it is a pure function of the labels and the rules, so that receivers
// remember the outcome: rules cost a new series something, and a sample nothing.
package relabel

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"github.com/weir-metrics/weir/proto"
)

// Config is rules as people write them, for a tenant or for a credential. The
// steps are applied in the order of the fields.
type Config struct {
	MetricRelabel []Rule      `yaml:"metric_relabel_configs,omitempty"`
	DropLabels    []string    `yaml:"drop_labels,omitempty"` // names
	Redact        []Redaction `yaml:"redact,omitempty"`
	LongValues    LongValues  `yaml:"long_values,omitempty"`
	HashKey       Secret      `yaml:"hash_key,omitempty"` // of redaction by hash; none: one that the server has for the tenant
	Tests         []Test      `yaml:"tests,omitempty"`
	// Shadow are rules that change nothing: it is counted what they would change. They
	// are all of another version, redaction included.
	Shadow *Config `yaml:"shadow,omitempty"`
	// Canary is the percentage of series for which Shadow counts instead.
	Canary float64 `yaml:"canary,omitempty"`
}

// Rule is one step of relabelling, in the syntax of Prometheus, whose own type
// stops at the first regular expression that is wrong. nil is Prometheus' default.
type Rule struct {
	SourceLabels []string `yaml:"source_labels,flow,omitempty"`
	Separator    *string  `yaml:"separator,omitempty"`
	Regex        *string  `yaml:"regex,omitempty"`
	Modulus      uint64   `yaml:"modulus,omitempty"`
	TargetLabel  string   `yaml:"target_label,omitempty"`
	Replacement  *string  `yaml:"replacement,omitempty"`
	Action       string   `yaml:"action,omitempty"`
}

// LongValues is what becomes of label values above the tenant's limit.
type LongValues string

const (
	// LongReject refuses the series; it is the default.
	LongReject LongValues = "reject"
	// LongTruncate keeps the beginning, and a hash of the whole.
	LongTruncate LongValues = "truncate"
	// LongHash keeps a hash alone.
	LongHash LongValues = "hash"
)

// Secret is a string that is never shown.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "<secret>"
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalYAML hides the secret.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// MarshalText hides the secret, from JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Rules are a compiled Config, immutable and safe for concurrent use. nil leaves
// everything as it is.
type Rules struct {
	steps  []step
	drop   []string // sorted
	redact []redaction
	long   LongValues
	key    []byte // of hashes; nil: Scratch.Key
	shadow *Rules
	canary float64 // share of series for which shadow counts, 0 to 1
	config *Config // that it was compiled of
}

// step is one compiled Rule.
type step struct {
	*promrelabel.Config
	growth int // a result has at most this many times the bytes that it is made of
}

// MaxSeriesBytes is how long the labels of one series may be while rules look at
// them: regular expressions take time for every byte, and replacements multiply.
const MaxSeriesBytes = 1 << 20

// maxLabels is how many labels a rule may make; the tenant's limit comes later.
const maxLabels = 10_000

// Outcome is what rules make of a series.
type Outcome struct {
	Labels []labels.Label // sorted by name; only with proto.OK
	Reason proto.Reason   // proto.RelabelDropped, proto.ValueRejected, proto.LabelsTooMany, proto.LabelValueTooLong
	By     int            // index of the rule that dropped, or of the redaction that rejected
	Label  labels.Label   // the label at fault, when it is one
	Found
}

// Found is what redaction did: a set of indexes into Config.Redact.
type Found struct {
	Redacted uint64 // what is stored instead is hashed, masked or missing
	Reported uint64 // found and stored
}

// Scratch is the working memory of Apply, for one goroutine.
type Scratch struct {
	// Key is what hashes are made with unless the rules have a key, see TenantKey.
	Key []byte

	scratch labels.ScratchBuilder
	base    labels.Labels
	builder *labels.Builder
	labels  []labels.Label
	spans   []span
}

// Shadow returns the rules of Config.Shadow, nil when there are none.
func (r *Rules) Shadow() *Rules {
	if r == nil {
		return nil
	}
	return r.shadow
}

// Apply says what becomes of the series with labels ls, which are sorted by name,
// each name once, each with a value, and are no views of s. A value above
// maxValueBytes is a long one.
// The labels in the outcome may be views of ls and of s: they live as long as
// neither changes.
func (r *Rules) Apply(ls []labels.Label, maxValueBytes int, s *Scratch) Outcome {
	if r == nil {
		return Outcome{Labels: ls}
	}
	s.labels = append(s.labels[:0], ls...)
	if no := tooLong(s.labels); no.Reason != proto.OK {
		return no
	}
	if len(r.steps) > 0 {
		if no := r.relabel(s); no.Reason != proto.OK {
			return no
		}
	}
	if len(r.drop) > 0 {
		s.labels = slices.DeleteFunc(s.labels, func(l labels.Label) bool {
			_, drop := slices.BinarySearch(r.drop, l.Name)
			return drop
		})
	}
	out := r.redactLabels(s)
	if out.Reason != proto.OK {
		return out
	}
	r.shorten(s.labels, maxValueBytes)
	out.Labels = s.labels
	return out
}

// tooLong refuses labels that are longer than rules may look at.
func tooLong(ls []labels.Label) Outcome {
	size := 0
	for _, l := range ls {
		if size += len(l.Name) + len(l.Value); size > MaxSeriesBytes {
			return Outcome{Reason: proto.LabelValueTooLong, Label: l}
		}
	}
	return Outcome{}
}

// relabel applies the steps to s.labels.
func (r *Rules) relabel(s *Scratch) Outcome {
	s.scratch.Reset()
	for _, l := range s.labels {
		s.scratch.Add(l.Name, l.Value)
	}
	s.scratch.Overwrite(&s.base)
	if s.builder == nil {
		s.builder = labels.NewBuilder(s.base)
	} else {
		s.builder.Reset(s.base)
	}
	for i := range r.steps {
		if no := r.steps[i].fits(s.builder); no.Reason != proto.OK {
			return no
		}
		if !promrelabel.ProcessBuilder(s.builder, r.steps[i].Config) {
			return Outcome{Reason: proto.RelabelDropped, By: i}
		}
	}
	s.labels = s.labels[:0]
	s.builder.Range(func(l labels.Label) { s.labels = append(s.labels, l) })
	slices.SortFunc(s.labels, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	return tooLong(s.labels)
}

// fits refuses labels of which the step could make more than rules may look at.
// Otherwise few rules that double a value would fill the memory.
func (st *step) fits(b *labels.Builder) Outcome {
	size, n := 0, 0
	last := labels.Label{}
	if st.Action == promrelabel.LabelMap {
		b.Range(func(l labels.Label) {
			size += len(l.Name)
			n++
		})
	} else {
		for _, name := range st.SourceLabels {
			last = labels.Label{Name: string(name), Value: b.Get(string(name))}
			size += len(last.Value) + len(st.Separator)
		}
	}
	switch {
	case n > maxLabels/2:
		return Outcome{Reason: proto.LabelsTooMany}
	case size > MaxSeriesBytes/st.growth:
		return Outcome{Reason: proto.LabelValueTooLong, Label: last}
	}
	return Outcome{}
}

// shorten replaces long values. Values that differ still do.
func (r *Rules) shorten(ls []labels.Label, maxValueBytes int) {
	if r.long == LongReject {
		return
	}
	const sumBytes = 16
	for i, l := range ls {
		room := maxValueBytes - 1 - 2*sumBytes
		if len(l.Value) <= maxValueBytes || room < 0 || l.Name == model.MetricNameLabel {
			continue // without room, the limit refuses it
		}
		if r.long == LongHash {
			room = 0
		}
		for room > 0 && !utf8.RuneStart(l.Value[room]) {
			room--
		}
		sum := sha256.Sum256([]byte(l.Value))
		ls[i].Value = l.Value[:room] + "~" + hex.EncodeToString(sum[:sumBytes])
	}
}
