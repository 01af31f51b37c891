package strictyaml_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/weir-metrics/weir/strictyaml"
)

type part struct {
	Size  int           `yaml:"size"`
	Every time.Duration `yaml:"every"`
}

// digest reads itself, and does not say what it read.
type digest string

func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != 4 {
		return errors.New("must have 4 digits")
	}
	*d = digest(text)
	return nil
}

// choice reads itself as types of Prometheus do, from a string or a mapping.
type choice struct{ Name string }

func (c *choice) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&c.Name) == nil {
		return nil
	}
	var long struct {
		Name string `yaml:"name"`
	}
	err := unmarshal(&long)
	c.Name = long.Name
	return err
}

type shared struct {
	Part    part            `yaml:"part"`
	Parts   []part          `yaml:"parts"`
	Named   map[string]part `yaml:"named"`
	Maybe   *part           `yaml:"maybe"`
	Digests []digest        `yaml:"digests"`
	Choice  choice          `yaml:"choice"`
	Until   time.Time       `yaml:"until,omitempty"`
}

type tree struct {
	Name   string    `yaml:"name"`
	Later  yaml.Node `yaml:"later"`
	Text   *string   `yaml:"text"`
	Again  *tree     `yaml:"again"`
	shared `yaml:",inline"`
}

func read(t *testing.T, src string, into *tree) (set []string, errs []string) {
	t.Helper()
	d := strictyaml.Decoder{File: "f"}
	if root := d.Parse(strings.NewReader(src)); root != nil {
		set = d.Read(root, into, "")
	}
	for _, err := range d.Errors() {
		errs = append(errs, err.Error())
	}
	return set, errs
}

func TestRead(t *testing.T) {
	until := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name, src string
		want      tree
		set       []string
		errs      []string
	}{
		{name: "nothing"},
		{name: "null is nothing", src: "part:\nparts: ~\nmaybe:\n"},
		{name: "fields, inlined too", src: "name: n\npart: {every: 15d}", set: []string{"name", "part.every"},
			want: tree{Name: "n", shared: shared{Part: part{Every: 360 * time.Hour}}}},
		{name: "list of structs", src: "parts: [{size: 1}, {size: 2, every: 1s}]", set: []string{"parts"},
			want: tree{shared: shared{Parts: []part{{Size: 1}, {2, time.Second}}}}},
		{name: "map of structs", src: "named: {a.b: {size: 1}, c: {}}", set: []string{"named"},
			want: tree{shared: shared{Named: map[string]part{"a.b": {Size: 1}, "c": {}}}}},
		{name: "pointer", src: "maybe: {size: 3}", set: []string{"maybe.size"},
			want: tree{shared: shared{Maybe: &part{Size: 3}}}},
		{name: "what reads itself", src: "digests: [0123, abcd]\nuntil: 2027-01-02T03:04:05Z\nchoice: x", set: []string{"digests", "until", "choice"},
			want: tree{shared: shared{Digests: []digest{"0123", "abcd"}, Until: until, Choice: choice{"x"}}}},
		{name: "alias", src: "part: &p {size: 1}\nmaybe: *p", set: []string{"part.size", "maybe.size"},
			want: tree{shared: shared{Part: part{Size: 1}, Maybe: &part{Size: 1}}}},
		{name: "${NAME} without an environment", src: "name: ${1}", set: []string{"name"}, want: tree{Name: "${1}"}},

		{name: "violations everywhere, in order", set: []string{"parts", "named", "maybe.size"}, src: `parts:
  - {size: x}
  - size: 1
    sise: 2
named:
  a: 5
  b: {}
  b: {}
maybe:
  size: 1
  size: 2
`, want: tree{shared: shared{Parts: []part{{}, {Size: 1}}, Named: map[string]part{"a": {}, "b": {}}, Maybe: &part{Size: 1}}},
			errs: []string{
				`f:2: parts[0].size: "x": must be a whole number`,
				`f:4: parts[1].sise: unknown key: did you mean size?`,
				`f:6: named.a: a single value: must be a mapping`,
				`f:8: named.b: set twice`,
				`f:11: maybe.size: set twice`,
			}},
		{name: "a secret is not shown", src: "digests: [secret]", set: []string{"digests"},
			want: tree{shared: shared{Digests: []digest{""}}}, errs: []string{`f:1: digests[0]: must have 4 digits`}},
		{name: "a secret in the wrong place neither", src: "parts: [secret]", set: []string{"parts"},
			want: tree{shared: shared{Parts: []part{{}}}}, errs: []string{`f:1: parts[0]: a single value: must be a mapping`}},
		{name: "unknown key of what reads itself", src: "choice: {name: x, nom: y}", set: []string{"choice"},
			want: tree{shared: shared{Choice: choice{"x"}}}, errs: []string{"f:1: choice: yaml: unmarshal errors:\n  line 1: field nom not found in type struct { Name string \"yaml:\\\"name\\\"\" }"}},
		{name: "a list where there is one value", src: "digests: [[a]]", set: []string{"digests"},
			want: tree{shared: shared{Digests: []digest{""}}}, errs: []string{`f:1: digests[0]: must be a single value`}},
		{name: "a key that is no text", src: "? [a]\n: b\n", errs: []string{"f:1: : a list: cannot be a key"}},
		{name: "its own alias", src: "again: &a {again: *a}", errs: []string{`f:1: ` + strings.TrimSuffix(strings.Repeat("again.", 32), ".") + `: is nested too deep`}},
		{name: "pointer to a value", src: "text: x", set: []string{"text"}, want: tree{Text: new("x")}},
		{name: "no YAML", src: "a: [", errs: []string{"f: yaml: line 1: did not find expected node content"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got tree
			set, errs := read(t, tc.src, &got)
			if got.Again == nil {
				require.Equal(t, tc.want, got)
			}
			require.Equal(t, tc.set, set)
			require.Equal(t, tc.errs, errs)
		})
	}
}

// TestReadOver: a tree that inherits from another one leaves that as it is.
func TestReadOver(t *testing.T) {
	var parent tree
	_, errs := read(t, "{name: p, part: {size: 1, every: 1s}, parts: [{size: 1}], named: {a: {size: 1}}, maybe: {size: 1, every: 1s}, digests: [aaaa]}", &parent)
	require.Empty(t, errs)
	child := parent
	set, errs := read(t, "{part: {every: 2s}, parts: [{every: 2s}], named: {b: {size: 2}}, maybe: {every: 2s}, digests: [bbbb]}", &child)
	require.Empty(t, errs)
	require.Equal(t, []string{"part.every", "parts", "named", "maybe.every", "digests"}, set)
	require.Equal(t, tree{Name: "p", shared: shared{
		Part:    part{1, 2 * time.Second},
		Parts:   []part{{Every: 2 * time.Second}},
		Named:   map[string]part{"b": {Size: 2}},
		Maybe:   &part{1, 2 * time.Second},
		Digests: []digest{"bbbb"},
	}}, child)
	require.Equal(t, tree{Name: "p", shared: shared{
		Part:    part{1, time.Second},
		Parts:   []part{{Size: 1}},
		Named:   map[string]part{"a": {Size: 1}},
		Maybe:   &part{1, time.Second},
		Digests: []digest{"aaaa"},
	}}, parent)
}

// TestReadLater reads a part of the file after the rest of it.
func TestReadLater(t *testing.T) {
	d := strictyaml.Decoder{File: "f"}
	var whole tree
	d.Read(d.Parse(strings.NewReader("name: n\nlater:\n  size: 1\n  sise: 2\n")), &whole, "")
	var p part
	require.Equal(t, []string{"size"}, d.Read(&whole.Later, &p, "later"))
	require.Equal(t, part{Size: 1}, p)
	d.Add(errors.New("later.every: 0s: must be more"), errors.New("name: n: must be longer"), errors.New("nothing: is there"))
	require.EqualError(t, errors.Join(d.Errors()...), `f: nothing: is there
f:1: name: n: must be longer
f:2: later.every: 0s: must be more
f:4: later.sise: unknown key: did you mean size?`)
}

func TestEncodeReadsBack(t *testing.T) {
	want := tree{Name: "n", shared: shared{
		Part: part{1, 360 * time.Hour}, Parts: []part{{2, time.Second}}, Named: map[string]part{"a": {Size: 1}}, Digests: []digest{"0123"},
	}}
	var text strings.Builder
	require.NoError(t, strictyaml.Encode(&text, struct {
		Name   string `yaml:"name"`
		shared `yaml:",inline"`
	}{want.Name, want.shared}))
	require.Contains(t, text.String(), "every: 15d\n")
	require.NotContains(t, text.String(), "until", "empty, and omitted then")
	var got tree
	_, errs := read(t, text.String(), &got)
	require.Empty(t, errs)
	require.Equal(t, want, got)
}

// TestValues: where nothing may be left empty, only the top keys are, and what is to
// be read later.
func TestValues(t *testing.T) {
	for src, want := range map[string]string{
		"":                            "",
		"part:\nparts: ~":             "",
		"part: {size: }":              "f:1: part.size: null: must have a value; leave it out for the default",
		"parts: [~]":                  "f:1: parts[0]: null: must have a value; leave it out for the default",
		"named: {a: }":                "f:1: named.a: null: must have a value; leave it out for the default",
		"again: {text: ~}":            "f:1: again.text: null: must have a value; leave it out for the default",
		"again: {later: ~}":           "",
		"name: &n\nagain: {text: *n}": "f:1: again.text: null: must have a value; leave it out for the default",
		"part: {size: 0}\nname: ''":   "",
	} {
		d := strictyaml.Decoder{File: "f", Values: true}
		if root := d.Parse(strings.NewReader(src)); root != nil {
			d.Read(root, new(tree), "")
		}
		if err := errors.Join(d.Errors()...); want == "" {
			require.NoError(t, err, src)
		} else {
			require.EqualError(t, err, want, src)
		}
	}
}
