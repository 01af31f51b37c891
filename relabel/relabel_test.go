package relabel

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/proto"
)

// compile compiles YAML that is right.
func compile(tb require.TestingT, text string) *Rules {
	r, errs := Compile(parse(tb, text), "")
	require.Empty(tb, errs)
	return r
}

func parse(tb require.TestingT, text string) *Config {
	c, errs := Read(strings.NewReader(text))
	require.Empty(tb, errs)
	return c
}

// series parses labels as PromQL spells them.
func series(tb require.TestingT, text string) []labels.Label {
	m, err := parser.NewParser(parser.Options{}).ParseMetric(text)
	require.NoError(tb, err)
	return slice(m)
}

func slice(ls labels.Labels) (out []labels.Label) {
	ls.Range(func(l labels.Label) { out = append(out, l) })
	return out
}

// apply returns the outcome as text.
func apply(tb require.TestingT, r *Rules, text string, maxValueBytes int) string {
	out := r.Apply(series(tb, text), maxValueBytes, &Scratch{Key: []byte("key")})
	if out.Reason != proto.OK {
		return out.Reason.ID()
	}
	return out.text(1 << 20)
}

func TestApply(t *testing.T) {
	for _, c := range []struct{ name, rules, in, want string }{
		{"nothing", ``, `up{a="b"}`, `{__name__="up", a="b"}`},
		{"relabel", "metric_relabel_configs: [{source_labels: [a], target_label: c, replacement: 'x-$1'}]", `up{a="b"}`, `{__name__="up", a="b", c="x-b"}`},
		{"dropped", "metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]", `go_x{a="b"}`, `weir-relabel-dropped`},
		{"labels dropped", "drop_labels: [z, a]", `up{a="b", b="c"}`, `{__name__="up", b="c"}`},
		{"drop behind relabelling", "metric_relabel_configs: [{source_labels: [a], target_label: c}]\ndrop_labels: [a]", `up{a="b"}`, `{__name__="up", c="b"}`},
		{"mask", "redact: [{detector: email, action: mask}]", `up{a="to x@example.com", b="y@example.com"}`, `{__name__="up", a="to [email]", b="[email]"}`},
		{"hash", "redact: [{detector: email, action: hash, name: mail}]", `up{a="<x@example.com>"}`, `{__name__="up", a="<[mail:` + hashLetters([]byte("key"), "x@example.com") + `]>"}`},
		{"redaction drops the label", "redact: [{detector: email, action: drop}]", `up{a="x@example.com", b="c"}`, `{__name__="up", b="c"}`},
		{"rejected", "redact: [{detector: email, action: reject}]", `up{a="x@example.com"}`, `weir-value-rejected`},
		{"reported", "redact: [{detector: email, action: report}]", `up{a="x@example.com"}`, `{__name__="up", a="x@example.com"}`},
		{"own regular expression", "redact: [{detector: regex, regex: 'EMP-\\d+', name: employee, action: mask}]", `up{a="EMP-1, EMP-22"}`, `{__name__="up", a="[employee], [employee]"}`},
		{"of some labels", "redact: [{detector: uuid, action: mask, labels: 'id|path'}]",
			`up{id="550e8400-e29b-41d4-a716-446655440000", other="550e8400-e29b-41d4-a716-446655440000"}`, `{__name__="up", id="[uuid]", other="550e8400-e29b-41d4-a716-446655440000"}`},
		{"not the name", "redact: [{detector: uuid, action: mask}]", `{__name__="550e8400-e29b-41d4-a716-446655440000"}`, `{__name__="550e8400-e29b-41d4-a716-446655440000"}`},
		{"the name when asked for", "redact: [{detector: uuid, action: mask, labels: __name__}]", `{__name__="550e8400-e29b-41d4-a716-446655440000"}`, `{__name__="[uuid]"}`},
		{"several in one value, the first wins", "redact: [{detector: ipv6, action: mask}, {detector: ipv4, action: mask}, {detector: email, action: mask}]",
			`up{a="x@example.com from ::ffff:10.0.0.1 or 10.0.0.2"}`, `{__name__="up", a="[email] from [ipv6] or [ipv4]"}`},
		{"what overlaps is hidden as a whole", "redact: [{detector: regex, regex: 'x@ex', name: r, action: mask}, {detector: email, action: mask}]", `up{a="x@example.com"}`, `{__name__="up", a="[r]"}`},
		{"reports do not win", "redact: [{detector: regex, regex: 'x@ex', name: r, action: report}, {detector: email, action: mask}]", `up{a="x@example.com"}`, `{__name__="up", a="[email]"}`},
		{"redaction behind relabelling", "metric_relabel_configs: [{source_labels: [u, d], separator: '@', target_label: mail}]\ndrop_labels: [u, d]\nredact: [{detector: email, action: mask}]",
			`up{u="x", d="example.com"}`, `{__name__="up", mail="[email]"}`},
		{"dropped beats redaction", "metric_relabel_configs: [{source_labels: [a], regex: '.*@.*', action: drop}]\nredact: [{detector: email, action: reject}]", `up{a="x@example.com"}`, `weir-relabel-dropped`},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, apply(t, compile(t, c.rules), c.in, 4096)) })
	}
}

func TestFound(t *testing.T) {
	r := compile(t, `redact: [{detector: email, action: mask}, {detector: ipv4, action: report}, {detector: uuid, action: drop}, {detector: jwt, action: hash}]`)
	out := r.Apply(series(t, `up{a="x@example.com 10.0.0.1", b="550e8400-e29b-41d4-a716-446655440000"}`), 4096, new(Scratch))
	require.Equal(t, Found{Redacted: 0b0101, Reported: 0b0010}, out.Found)
	require.Equal(t, []string{"email", "uuid"}, r.Names(out.Redacted))
	out = r.Apply(series(t, `up{a="b"}`), 4096, new(Scratch))
	require.Equal(t, Found{}, out.Found)
}

func TestLongValues(t *testing.T) {
	long := strings.Repeat("é", 50)
	for _, c := range []struct {
		policy LongValues
		limit  int
		want   string // a regular expression
	}{
		{LongReject, 64, "^" + long + "$"},
		{LongTruncate, 100, "^" + long + "$"},
		{LongTruncate, 99, `^é{33}~[0-9a-f]{32}$`},
		{LongTruncate, 98, `^é{32}~[0-9a-f]{32}$`}, // no character is cut in two
		{LongHash, 99, `^~[0-9a-f]{32}$`},
		{LongTruncate, 33, `^~[0-9a-f]{32}$`},
		{LongHash, 32, "^" + long + "$"}, // no room: the limit refuses it
	} {
		t.Run(fmt.Sprint(c.policy, c.limit), func(t *testing.T) {
			r := compile(t, "long_values: "+string(c.policy))
			out := r.Apply(series(t, `up{a="`+long+`"}`), c.limit, new(Scratch))
			require.Equal(t, proto.OK, out.Reason)
			require.Regexp(t, c.want, out.Labels[1].Value)
		})
	}
}

// TestShortenedStayDistinct: values that differ anywhere still do.
func TestShortenedStayDistinct(t *testing.T) {
	for _, policy := range []LongValues{LongTruncate, LongHash} {
		r := &Rules{long: policy}
		seen := map[string]bool{}
		for i := range 1000 {
			v := []byte(strings.Repeat("x", 1000))
			v[i] = 'y'
			ls := []labels.Label{{Name: "a", Value: string(v)}}
			r.shorten(ls, 64)
			require.LessOrEqual(t, len(ls[0].Value), 64)
			require.False(t, seen[ls[0].Value])
			seen[ls[0].Value] = true
		}
	}
}

// TestHashes: the same value has one hash, another one another, and without the
// key nobody can tell.
func TestHashes(t *testing.T) {
	masked := func(key []byte, value string) string {
		r := compile(t, "redact: [{detector: email, action: hash}]")
		return r.Apply([]labels.Label{{Name: "a", Value: value}}, 4096, &Scratch{Key: key}).Labels[0].Value
	}
	one, other := TenantKey([]byte("secret"), "one"), TenantKey([]byte("secret"), "other")
	require.Equal(t, masked(one, "x@example.com"), masked(one, "x@example.com"))
	require.NotEqual(t, masked(one, "x@example.com"), masked(one, "y@example.com"))
	require.NotEqual(t, masked(one, "x@example.com"), masked(other, "x@example.com"))
	require.NotEqual(t, masked(one, "x@example.com"), masked(TenantKey([]byte("another"), "one"), "x@example.com"))
	own := compile(t, "redact: [{detector: email, action: hash}]\nhash_key: 0123456789abcdef")
	got := own.Apply([]labels.Label{{Name: "a", Value: "x@example.com"}}, 4096, &Scratch{Key: one}).Labels[0].Value
	require.Equal(t, masked([]byte("0123456789abcdef"), "x@example.com"), got)
	seen := map[string]bool{}
	for i := range 100_000 {
		h := hashLetters(one, fmt.Sprint(i))
		require.Regexp(t, "^[a-p]{16}$", h)
		require.False(t, seen[h])
		seen[h] = true
	}
}

// TestGrowth: rules that multiply are stopped before memory is taken.
func TestGrowth(t *testing.T) {
	double := strings.Repeat("- {source_labels: [a], target_label: a, replacement: '$1$1'}\n", 60)
	require.Equal(t, "weir-label-value-too-long", apply(t, compile(t, "metric_relabel_configs:\n"+double), `up{a="0123456789"}`, 4096))
	join := strings.Repeat("- {source_labels: [a, a, a], target_label: a}\n", 60)
	require.Equal(t, "weir-label-value-too-long", apply(t, compile(t, "metric_relabel_configs:\n"+join), `up{a="0123456789"}`, 4096))
	names := strings.Repeat("- {regex: '(.+)', replacement: 'x${1}${1}', action: labelmap}\n", 60)
	require.Contains(t, []string{"weir-labels-too-many", "weir-label-value-too-long"}, apply(t, compile(t, "metric_relabel_configs:\n"+names), `up{a="0123456789"}`, 4096))
	many := strings.Repeat("- {regex: '(.+)', replacement: 'x$1', action: labelmap}\n", 60)
	require.Contains(t, []string{"weir-labels-too-many", "weir-label-value-too-long", "{"}, apply(t, compile(t, "metric_relabel_configs:\n"+many), `up{a="0123456789"}`, 4096)[:min(20, 1)])
}

func TestTooLongForRules(t *testing.T) {
	r := compile(t, "long_values: hash")
	ls := []labels.Label{{Name: "a", Value: strings.Repeat("x", MaxSeriesBytes-1)}}
	require.Equal(t, proto.OK, r.Apply(ls, 4096, new(Scratch)).Reason)
	ls = append(ls, labels.Label{Name: "b", Value: "x"})
	out := r.Apply(ls, 4096, new(Scratch))
	require.Equal(t, proto.LabelValueTooLong, out.Reason)
	require.Equal(t, "b", out.Label.Name)
}

// TestNil: no rules leave everything as it is.
func TestNil(t *testing.T) {
	var r *Rules
	ls := series(t, `up{a="x@example.com"}`)
	require.Equal(t, Outcome{Labels: ls}, r.Apply(ls, 1, new(Scratch)))
	require.Nil(t, r.Shadow())
	require.False(t, r.Redacts())
	require.Equal(t, "x@example.com", r.Hide("x@example.com"))
}

func TestExemplarAndMetadata(t *testing.T) {
	r := compile(t, `redact: [{detector: email, action: mask}, {detector: uuid, action: drop}, {detector: jwt, action: reject, labels: token}]`)
	const jwt, uuid = "eyJhbGciOiJub25lIn0.e30.", "550e8400-e29b-41d4-a716-446655440000"
	exemplar := func(pairs ...string) (string, proto.Reason) {
		ls, reason := r.Exemplar(labels.FromStrings(pairs...), new(Scratch))
		return ls.String(), reason
	}
	got, reason := exemplar("trace_id", "abc", "user", "x@example.com", "id", uuid)
	require.Equal(t, proto.OK, reason)
	require.Equal(t, `{trace_id="abc", user="[email]"}`, got)
	_, reason = exemplar("token", jwt)
	require.Equal(t, proto.ValueRejected, reason)
	got, _ = exemplar("trace_id", "abc")
	require.Equal(t, `{trace_id="abc"}`, got)

	m := proto.Metadata{Family: "up"}
	m.Help, m.Unit = "ask x@example.com", "seconds"
	got2, reason := r.Metadata(m, new(Scratch))
	require.Equal(t, proto.OK, reason)
	require.Equal(t, "ask [email]", got2.Help)
	require.Equal(t, "seconds", got2.Unit)
	m.Help = "see " + uuid
	got2, _ = r.Metadata(m, new(Scratch))
	require.Empty(t, got2.Help)
	m.Help = jwt
	_, reason = r.Metadata(m, new(Scratch))
	require.Equal(t, proto.ValueRejected, reason)
	require.Equal(t, "a [email] [jwt] [uuid]", r.Hide("a x@example.com "+jwt+" "+uuid), "whatever the action and the label")
}

// TestSameAsPrometheus: random rules are taken or refused as by Prometheus, and
// make of random labels what they make there.
func TestSameAsPrometheus(t *testing.T) {
	name := rapid.SampledFrom([]string{"__name__", "a", "b", "c", "job", "le", "weird.name", "${1}"})
	value := rapid.OneOf(rapid.StringMatching(`[a-cA-C]{0,4}`), rapid.SampledFrom([]string{"", "foo", "FOO-bar", "1;2", "b", "é", "x\ny"}))
	refused, compared, changed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var rules Config
		var theirs []*promrelabel.Config
		for range rapid.IntRange(1, 10).Draw(t, "rules") {
			rule := randomRule(t, name)
			their, err := asPrometheus(rule)
			_, errs := Compile(&Config{MetricRelabel: []Rule{rule}}, "")
			require.Equal(t, err != nil, len(errs) > 0, "%+v\nPrometheus: %v\nweir: %v", rule, err, errs)
			if err != nil {
				refused++
				continue
			}
			rules.MetricRelabel, theirs = append(rules.MetricRelabel, rule), append(theirs, their)
		}
		ours, errs := Compile(&rules, "")
		require.Empty(t, errs)
		scratch := new(Scratch)
		for range 20 {
			in := labels.FromMap(rapid.MapOfN(name, value, 0, 6).Draw(t, "labels")).WithoutEmpty()
			b := labels.NewBuilder(in)
			keep := promrelabel.ProcessBuilder(b, theirs...)
			out := ours.Apply(slice(in), 4096, scratch)
			compared++
			if !keep {
				require.Equal(t, proto.RelabelDropped, out.Reason)
				continue
			}
			require.Equal(t, proto.OK, out.Reason)
			require.Equal(t, b.Labels().String(), out.text(1<<20))
			if !labels.Equal(b.Labels(), in) {
				changed++
			}
		}
	})
	t.Logf("%d rules refused by both; %d outcomes compared, %d of them with other labels", refused, compared, changed)
	require.Greater(t, refused, 10)
	require.Greater(t, changed, compared/20)
}

func randomRule(t *rapid.T, name *rapid.Generator[string]) Rule {
	optional := func(label string, values ...string) *string {
		if rapid.Bool().Draw(t, "set "+label) {
			v := rapid.SampledFrom(values).Draw(t, label)
			return &v
		}
		return nil
	}
	// Those that drop are drawn less often: little is left to compare behind them.
	action := rapid.SampledFrom(append([]promrelabel.Action{promrelabel.Replace, promrelabel.Replace, promrelabel.LabelMap, promrelabel.HashMod, promrelabel.Lowercase}, actions...)).Draw(t, "action")
	rule := Rule{
		Action:      string(action),
		Regex:       optional("regex", "", "(.*)", "(.+)", "a|b", "(a)(.*)", "([^;]*);(.*)", "foo.*", "(?i)FOO", "[a-c]+", "le|b", "(?P<x>.*)b", "("),
		Separator:   optional("separator", ";", "", "-"),
		Replacement: optional("replacement", "", "$1", "$2", "${1}x", "x", "$1$1", "${x}", "$$", "a.b"),
	}
	if rapid.Bool().Draw(t, "plain") { // what the pickier actions take
		rule.Separator, rule.Replacement = nil, nil
	}
	if rapid.IntRange(0, 5).Draw(t, "targets") > 0 {
		rule.TargetLabel = rapid.OneOf(name, rapid.SampledFrom([]string{"$1", "${1}_x", "new"})).Draw(t, "target")
	}
	if rapid.IntRange(0, 5).Draw(t, "sources") > 0 {
		rule.SourceLabels = rapid.SliceOfN(name, 1, 3).Draw(t, "source")
	}
	if action == promrelabel.HashMod {
		rule.Modulus = rapid.Uint64Range(0, 8).Draw(t, "modulus")
	}
	return rule
}

// asPrometheus is the rule as Prometheus loads it from its configuration.
func asPrometheus(rule Rule) (*promrelabel.Config, error) {
	text, err := yaml.Marshal(rule)
	if err != nil {
		return nil, err
	}
	var c promrelabel.Config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	return &c, c.Validate(model.UTF8Validation)
}

// TestApplyIsPure: the outcome depends on the labels alone, and the labels are
// left as they are, whoever calls at the same time.
func TestApplyIsPure(t *testing.T) {
	r := compile(t, `
metric_relabel_configs: [{source_labels: [a], target_label: c, replacement: 'x-$1'}]
redact: [{detector: email, action: hash}]
long_values: truncate`)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			s := new(Scratch)
			for i := range 500 {
				in := series(t, fmt.Sprintf(`up{a="%d-%d@example.com", b="%s"}`, g, i, strings.Repeat("z", 100)))
				before := fmt.Sprint(in)
				first, again := r.Apply(in, 64, new(Scratch)), r.Apply(in, 64, s)
				if !slices.Equal(first.Labels, again.Labels) || before != fmt.Sprint(in) {
					t.Errorf("%s becomes %s and %s", before, first.Labels, again.Labels)
				}
			}
		})
	}
	wg.Wait()
}

func TestCompare(t *testing.T) {
	now := `redact: [{detector: uuid, action: mask}]`
	for _, c := range []struct {
		name, now, then, in string
		want                Change
	}{
		{"same", now, now, `up{a="b"}`, Same},
		{"drop", now, `metric_relabel_configs: [{source_labels: [a], regex: b, action: drop}]`, `up{a="b"}`, WouldDrop},
		{"both drop", `metric_relabel_configs: [{regex: '', action: drop}]`, `metric_relabel_configs: [{source_labels: [a], regex: b, action: drop}]`, `up{a="b"}`, Same},
		{"reject", now, `redact: [{detector: email, action: reject}]`, `up{a="x@example.com"}`, WouldReject},
		{"store", `metric_relabel_configs: [{regex: '', action: drop}]`, ``, `up{a="b"}`, WouldStore},
		{"rename", now, `metric_relabel_configs: [{target_label: __name__, replacement: x}]`, `up{a="b"}`, WouldRename},
		{"redact", now, `redact: [{detector: email, action: mask}]`, `up{a="x@example.com"}`, WouldRedact},
		{"relabel", now, `drop_labels: [a]`, `up{a="b"}`, WouldRelabel},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := series(t, c.in)
			now, then := compile(t, c.now).Apply(in, 4096, new(Scratch)), compile(t, c.then).Apply(in, 4096, new(Scratch))
			require.Equal(t, c.want, Compare(&now, &then))
			require.NotEmpty(t, c.want.String())
		})
	}
}

// TestCompileSaysEverything: all that is wrong at once, each with its path.
func TestCompileSaysEverything(t *testing.T) {
	long := strings.Repeat("x", 5000)
	_, errs := Compile(parse(t, `
metric_relabel_configs:
- {action: nonsense}
- {regex: '(', target_label: a}
- {action: hashmod, target_label: a}
- {source_labels: [''], target_label: a}
- {regex: '`+long+`', target_label: a}
- {action: labeldrop, source_labels: [a], regex: b}
drop_labels: ["", __name__]
redact:
- {detector: what, action: mask}
- {detector: email, action: burn}
- {detector: regex, action: mask}
- {detector: regex, action: mask, regex: 'x*'}
- {detector: regex, action: mask, regex: '['}
- {detector: email, action: mask, regex: 'x'}
- {detector: email, action: mask, labels: ')'}
- {detector: email, action: mask, name: 'A B'}
long_values: shrink
hash_key: short
tests: [{series: 'up', expect: dropped}]
shadow:
  long_values: shrink
  shadow: {}
  canary: 1
canary: 101
`), "tenants.a.rules")
	for i, want := range []string{
		"tenants.a.rules.metric_relabel_configs[0].action: \"nonsense\"",
		"tenants.a.rules.metric_relabel_configs[1].regex: \"(\": error parsing regexp",
		"tenants.a.rules.metric_relabel_configs[2]: relabel configuration for hashmod",
		"tenants.a.rules.metric_relabel_configs[3].source_labels: \"\": must be a label name",
		"tenants.a.rules.metric_relabel_configs[4].regex: 5000 bytes: must be at most 4096",
		"tenants.a.rules.metric_relabel_configs[5]: labeldrop action requires only 'regex'",
		"tenants.a.rules.drop_labels[0]: \"\": must be a label name",
		"tenants.a.rules.drop_labels[1]: \"__name__\": must not be dropped",
		"tenants.a.rules.redact[0].detector: \"what\"",
		"tenants.a.rules.redact[1].action: \"burn\"",
		"tenants.a.rules.redact[2].regex: \"\": must be set",
		"tenants.a.rules.redact[3].regex: \"x*\": matches the empty string",
		"tenants.a.rules.redact[4].regex: \"[\": error parsing",
		"tenants.a.rules.redact[5].regex: \"x\": is for the detector regex",
		"tenants.a.rules.redact[6].labels: \")\": error parsing",
		"tenants.a.rules.redact[7].name: \"A B\"",
		"tenants.a.rules.long_values: \"shrink\"",
		"tenants.a.rules.hash_key: 5 bytes",
		"tenants.a.rules.shadow.shadow: must not be set",
		"tenants.a.rules.shadow.canary: must not be set",
		"tenants.a.rules.shadow.long_values: \"shrink\"",
		"tenants.a.rules.canary: 101: must be a percentage, 0 to 100",
	} {
		require.Greater(t, len(errs), i, want)
		require.ErrorContains(t, errs[i], want)
	}
	require.Len(t, errs, 22)
	for text, want := range map[string]string{
		"canary: 5":                "canary: 5: needs rules under shadow",
		"canary: -1\nshadow: {}":   "canary: -1: must be a percentage",
		"canary: .nan\nshadow: {}": "canary: NaN: must be a percentage",
	} {
		_, errs := Compile(parse(t, text), "")
		require.Len(t, errs, 1, text)
		require.ErrorContains(t, errs[0], want)
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a comment", "# none\n", ""},
		{"rules", "drop_labels: [a]\nshadow: {drop_labels: [b]}", ""},
		{"a defaulted rule", "metric_relabel_configs: [{target_label: a, regex: , separator: }]", ""},
		{"no YAML", "a: b: c", "mapping values are not allowed"},
		{"unknown keys", "drop_label: [a]\nmetric_relabel_configs: [{target: x}]\n", "line 1: field drop_label not found in type relabel.Config\nline 2: field target not found in type relabel.Rule"},
		{"another type", "drop_labels: 7", "cannot unmarshal"},
		{"two documents", "drop_labels: [a]\n---\ndrop_labels: [b]\n", "second YAML document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := Read(strings.NewReader(c.text))
			if c.want == "" {
				require.Empty(t, errs)
				return
			}
			require.ErrorContains(t, errors.Join(errs...), c.want)
		})
	}
}

func TestOf(t *testing.T) {
	const text = "drop_labels: [a]\nmetric_relabel_configs: [{regex: 'x', action: labeldrop}]"
	r := compile(t, text)
	require.True(t, r.Of(parse(t, text)))
	require.False(t, r.Of(parse(t, text+"\nlong_values: hash")))
	require.False(t, r.Of(&Config{}))
	require.True(t, (*Rules)(nil).Of(&Config{}))
	require.False(t, (*Rules)(nil).Of(parse(t, text)))
}

// TestManual: the rules in the manual are right, and do what their tests say.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(manual), "\n## Rules\n")
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	c := parse(t, strings.Replace(text, "5f0c7b…", "5f0c7b5f0c7b5f0c7b", 1))
	require.Len(t, c.Tests, 2)
	require.Empty(t, c.Validate("rules"))
}

func TestTooMany(t *testing.T) {
	c := &Config{}
	for range maxRules + 1 {
		c.MetricRelabel = append(c.MetricRelabel, Rule{Action: "labeldrop"})
		c.DropLabels = append(c.DropLabels, "a")
		c.Redact = append(c.Redact, Redaction{Detector: "email", Action: Mask})
	}
	for range maxTests + 1 {
		c.Tests = append(c.Tests, Test{Series: "up", Expect: "{}"})
	}
	c.MetricRelabel[0] = Rule{SourceLabels: make([]string, maxSources+1), TargetLabel: "a"}
	errs := fmt.Sprint(c.Validate("rules"))
	for _, want := range []string{
		"rules.metric_relabel_configs: 201 entries: must be at most 200", "rules.drop_labels: 201 entries: must be at most 200",
		"rules.redact: 201 entries: must be at most 64", "rules.tests: 1001 entries: must be at most 1000", "source_labels: 65 entries: must be at most 64",
	} {
		require.Contains(t, errs, want)
	}
}

func TestTests(t *testing.T) {
	const rules = `
metric_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]
redact: [{detector: email, action: hash}, {detector: jwt, action: reject}]
`
	for _, c := range []struct{ name, test, want string }{
		{"stored", `{series: 'up{a="b"}', expect: 'up{a="b"}'}`, ""},
		{"hashed without a key", `{series: 'up{a="x@example.com"}', expect: 'up{a="[email:` + hashLetters(nil, "x@example.com") + `]"}'}`, ""},
		{"dropped", `{series: 'go_x', expect: dropped}`, ""},
		{"rejected", `{series: 'up{a="eyJhbGciOiJub25lIn0.e30."}', expect: rejected}`, ""},
		{"a metric of that name", `{series: 'dropped', expect: 'dropped{}'}`, ""},
		{"too long", `{series: 'up{a="bbbb"}', expect: rejected, max_label_value_bytes: 3}`, ""},
		{"other labels", `{name: mine, series: 'up{a="b"}', expect: 'up'}`, `tests[0]: mine: {__name__="up", a="b"} becomes {__name__="up", a="b"}, must become {__name__="up"}`},
		{"not dropped", `{series: 'up', expect: dropped}`, `tests[0]: {__name__="up"} becomes {__name__="up"}, must become dropped`},
		{"no series", `{series: 'up{', expect: dropped}`, `tests[0]: series "up{": `},
		{"no outcome", `{series: 'up', expect: 'gone?'}`, `tests[0]: expect "gone?": must be a series, dropped or rejected`},
	} {
		t.Run(c.name, func(t *testing.T) {
			errs := parse(t, rules+"tests: ["+c.test+"]").Validate("")
			if c.want == "" {
				require.Empty(t, errs)
				return
			}
			require.Len(t, errs, 1)
			require.ErrorContains(t, errs[0], c.want)
		})
	}
}

// TestSecretIsNotShown: not by YAML, JSON or a log.
func TestSecretIsNotShown(t *testing.T) {
	const key = "0123456789abcdef"
	c := Config{HashKey: key}
	y, err := yaml.Marshal(c)
	require.NoError(t, err)
	j, err := json.Marshal(c)
	require.NoError(t, err)
	for _, text := range []string{string(y), string(j), fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c.HashKey)} {
		require.NotContains(t, text, key)
	}
	require.Contains(t, string(y), "hash_key: <secret>")
}

func BenchmarkApply(b *testing.B) {
	rules := compile(b, TenRules)
	in := series(b, `container_cpu_usage_seconds_total{cluster="prod-eu-1", container="app", cpu="total", endpoint="https-metrics", id="/kubepods/burstable/pod1f0d", image="registry.example.com/shop/cart:1.42.0", instance="10-2-3-4.example.com:10250", job="kubelet", metrics_path="/metrics/cadvisor", namespace="shop", node="ip-10-2-3-4", pod="cart-7d9f8b6c5d-x2x9z"}`)
	s := new(Scratch)
	b.ReportAllocs()
	for b.Loop() {
		if out := rules.Apply(in, 4096, s); out.Reason != proto.OK {
			b.Fatal(out)
		}
	}
}

// TenRules is what the issue wants measured: ten rules and two detectors.
const TenRules = `
metric_relabel_configs:
- {source_labels: [__name__], regex: 'go_gc_.*|process_open_fds', action: drop}
- {source_labels: [namespace], regex: 'kube-(.*)', target_label: system, replacement: '$1'}
- {source_labels: [pod], regex: '(.+)-[a-z0-9]+-[a-z0-9]{5}', target_label: workload, replacement: '$1'}
- {regex: 'endpoint|metrics_path', action: labeldrop}
- {source_labels: [job, namespace], separator: /, target_label: source}
- {source_labels: [cluster], target_label: region, regex: '[a-z]+-([a-z]+)-[0-9]+'}
- {source_labels: [container], regex: POD, action: drop}
- {source_labels: [image], regex: '.*/([^:]+):.*', target_label: app}
- {source_labels: [node], action: lowercase, target_label: node}
- {regex: 'label_(.+)', action: labelmap}
redact:
- {detector: email, action: hash}
- {detector: card, action: mask}
`
