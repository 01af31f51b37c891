package relabel

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// Redaction says what becomes of what one detector finds in label values. Help
// texts of metrics and labels of exemplars are treated the same.
type Redaction struct {
	Detector string `yaml:"detector"`         // email, card, ipv4, ipv6, uuid, jwt, secret or regex
	Regex    string `yaml:"regex,omitempty"`  // of the detector regex: found anywhere in a value
	Name     string `yaml:"name,omitempty"`   // what stands in place of what was found; by default the detector
	Action   Action `yaml:"action"`           //
	Labels   string `yaml:"labels,omitempty"` // names of the labels to look at, a whole regular expression; none: all but __name__
}

// Action is what becomes of what a detector found.
type Action string

const (
	// Hash puts [name:hash] in its place. The hash is keyed: who lacks the key cannot
	// try values. Different values stay different.
	Hash Action = "hash"
	// Mask puts [name] in its place.
	Mask Action = "mask"
	// Drop drops the label.
	Drop Action = "drop"
	// Reject refuses the series.
	Reject Action = "reject"
	// Report counts it, and changes nothing.
	Report Action = "report"
)

// redaction is a compiled Redaction.
type redaction struct {
	detector
	name   string
	action Action
	labels func(name string) bool
}

// findRegex is the detector of a regular expression. Each match may take the time
// that the rest of the value takes, so behind a number of them all counts as found.
func findRegex(re *regexp.Regexp) detector {
	const most = 16
	return detector{find: func(value string, found func(from, to int)) {
		matches := re.FindAllStringIndex(value, most)
		for i, m := range matches {
			switch {
			case i == most-1:
				found(m[0], len(value))
			case m[0] < m[1]:
				found(m[0], m[1])
			}
		}
	}}
}

// TenantKey derives the key of a tenant's hashes from a secret of the server.
func TenantKey(secret []byte, tenant string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("redaction of tenant " + tenant))
	return mac.Sum(nil)
}

// hashLetters is 64 bits of a keyed hash, in letters: no detector finds anything
// in them.
func hashLetters(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	var sum [sha256.Size]byte
	mac.Sum(sum[:0])
	var out [16]byte
	for i := range out {
		out[i] = 'a' + sum[i/2]>>(4*(i%2))&15
	}
	return string(out[:])
}

// fault is what a value leads to besides another value.
type fault uint8

const (
	none fault = iota
	dropLabel
	rejectSeries
)

// redactValue returns what is to be stored instead of value, of the label name.
// by is the redaction that rejects it.
func (r *Rules) redactValue(name, value string, s *Scratch) (redacted string, found Found, f fault, by int) {
	s.spans = s.spans[:0]
	has := classify(value)
	for i := range r.redact {
		d := &r.redact[i]
		if has&d.need != d.need || !d.labels(name) {
			continue
		}
		n := len(s.spans)
		d.find(value, func(from, to int) { s.spans = append(s.spans, span{from, to, i}) })
		if len(s.spans) == n {
			continue
		}
		switch d.action {
		case Reject:
			return value, found, rejectSeries, i
		case Report:
			found.Reported |= 1 << i
			s.spans = s.spans[:n]
			continue
		case Drop:
			f = dropLabel
		}
		found.Redacted |= 1 << i
	}
	if f == dropLabel {
		return "", found, f, 0
	}
	key := r.key
	if key == nil {
		key = s.Key
	}
	return r.replace(value, s.spans, func(d *redaction, what string) string {
		if d.action == Hash {
			return "[" + d.name + ":" + hashLetters(key, what) + "]"
		}
		return "[" + d.name + "]"
	}), found, none, 0
}

// replace puts what by says in place of each span. Those that overlap are one, for
// the redaction that comes first.
func (r *Rules) replace(value string, spans []span, by func(d *redaction, what string) string) string {
	if len(spans) == 0 {
		return value
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	at := 0
	for len(spans) > 0 {
		one := spans[0]
		for spans = spans[1:]; len(spans) > 0 && spans[0].from < one.to; spans = spans[1:] {
			one.to, one.by = max(one.to, spans[0].to), min(one.by, spans[0].by)
		}
		out.WriteString(value[at:one.from])
		out.WriteString(by(&r.redact[one.by], value[one.from:one.to]))
		at = one.to
	}
	out.WriteString(value[at:])
	return out.String()
}

// redactLabels redacts s.labels.
func (r *Rules) redactLabels(s *Scratch) Outcome {
	var out Outcome
	if len(r.redact) == 0 {
		return out
	}
	kept := s.labels[:0]
	for _, l := range s.labels {
		value, found, f, by := r.redactValue(l.Name, l.Value, s)
		out.Redacted |= found.Redacted
		out.Reported |= found.Reported
		switch f {
		case rejectSeries:
			return Outcome{Reason: proto.ValueRejected, By: by, Label: l}
		case none:
			kept = append(kept, labels.Label{Name: l.Name, Value: value})
		}
	}
	s.labels = kept
	return out
}

// Redacts reports whether there is anything to redact.
func (r *Rules) Redacts() bool { return r != nil && len(r.redact) > 0 }

// Exemplar returns the labels of an exemplar as they are to be stored, and
// proto.ValueRejected when it must not be.
func (r *Rules) Exemplar(ls labels.Labels, s *Scratch) (labels.Labels, proto.Reason) {
	if !r.Redacts() {
		return ls, proto.OK
	}
	var changed Found
	rejected := false
	b := labels.NewScratchBuilder(ls.Len())
	ls.Range(func(l labels.Label) {
		value, found, f, _ := r.redactValue(l.Name, l.Value, s)
		changed.Redacted |= found.Redacted
		switch f {
		case rejectSeries:
			rejected = true
		case none:
			b.Add(l.Name, value)
		}
	})
	switch {
	case rejected:
		return labels.Labels{}, proto.ValueRejected
	case changed.Redacted == 0:
		return ls, proto.OK
	}
	return b.Labels(), proto.OK
}

// Metadata redacts what is said of a metric family. The family's name is treated
// as the label __name__, help and unit by every redaction, whatever its labels; what
// would drop a label empties them.
func (r *Rules) Metadata(m proto.Metadata, s *Scratch) (proto.Metadata, proto.Reason) {
	if !r.Redacts() {
		return m, proto.OK
	}
	for _, field := range []struct {
		label string
		text  *string
	}{{model.MetricNameLabel, &m.Family}, {anyLabel, &m.Help}, {anyLabel, &m.Unit}} {
		value, _, f, _ := r.redactValue(field.label, *field.text, s)
		if f == rejectSeries {
			return m, proto.ValueRejected
		}
		*field.text = value
	}
	return m, proto.OK
}

// anyLabel stands for texts that are of no label: every redaction looks at them.
const anyLabel = ""

// Hide returns text without anything that any redaction must keep from being
// stored, whatever its action and labels. It is for messages that quote what was
// sent.
func (r *Rules) Hide(text string) string {
	if !r.Redacts() {
		return text
	}
	var spans []span
	has := classify(text)
	for i := range r.redact {
		if d := &r.redact[i]; d.action != Report && has&d.need == d.need {
			d.find(text, func(from, to int) { spans = append(spans, span{from, to, i}) })
		}
	}
	return r.replace(text, spans, func(d *redaction, _ string) string { return "[" + d.name + "]" })
}

// Names returns how the redactions in set are called, in their order.
func (r *Rules) Names(set uint64) []string {
	var names []string
	for i := range r.redact {
		if set&(1<<i) != 0 {
			names = append(names, r.redact[i].name)
		}
	}
	return names
}
