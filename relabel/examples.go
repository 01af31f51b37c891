package relabel

import (
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-metrics/weir/proto"
)

// Test is what rules must do, written with them. Rules that fail one are not
// taken.
type Test struct {
	Name   string `yaml:"name,omitempty"`
	Series string `yaml:"series"` // as in PromQL: up{job="a"}
	// Expect is the series that is stored, or dropped, or rejected. Hashes in it are
	// made with an empty key, so that they are the same everywhere.
	Expect string `yaml:"expect"`
	// MaxValueBytes stands for the limit max_label_value_bytes; 0 for its default.
	MaxValueBytes int `yaml:"max_label_value_bytes,omitempty"`
}

const (
	expectDropped  = "dropped"
	expectRejected = "rejected"
	// maxValueBytes is the default of the tenant's limit.
	maxValueBytes = 4096
)

// Run returns an error when r does not do what t expects.
func (t *Test) Run(r *Rules) error {
	series, err := parser.NewParser(parser.Options{}).ParseMetric(t.Series)
	if err != nil {
		return fmt.Errorf("series %q: %w", t.Series, err)
	}
	want := t.Expect
	if want != expectDropped && want != expectRejected {
		ls, err := parser.NewParser(parser.Options{}).ParseMetric(want)
		if err != nil {
			return fmt.Errorf("expect %q: must be a series, %s or %s: %w", want, expectDropped, expectRejected, err)
		}
		want = ls.String()
	}
	keyless := *r
	keyless.key = nil
	limit := t.MaxValueBytes
	if limit == 0 {
		limit = maxValueBytes
	}
	var in []labels.Label
	series.Range(func(l labels.Label) { in = append(in, l) })
	out := keyless.Apply(in, limit, new(Scratch))
	if got := out.text(limit); got != want {
		name := ""
		if t.Name != "" {
			name = t.Name + ": "
		}
		return fmt.Errorf("%s%s becomes %s, must become %s", name, series, got, want)
	}
	return nil
}

// text is the outcome as a test expects it.
func (o *Outcome) text(maxValueBytes int) string {
	switch o.Reason {
	case proto.RelabelDropped:
		return expectDropped
	case proto.OK:
	default:
		return expectRejected
	}
	b := labels.NewScratchBuilder(len(o.Labels))
	for _, l := range o.Labels {
		if len(l.Value) > maxValueBytes {
			return expectRejected
		}
		b.Add(strings.Clone(l.Name), strings.Clone(l.Value))
	}
	return b.Labels().String()
}
