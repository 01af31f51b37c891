// Package strictyaml reads YAML into trees of structs by their yaml tags, and
// says everything that is wrong with it.
//
//	file ── Decode ──> struct ── Validate ──> violations: path, value, rule
//	-set path=value ── Set ─┘        └─ Encode ──> the YAML that would produce it
//
// It exists beside yaml.Decoder because that one stops naming paths below the
// line number and writes durations in a form nobody types ("360h0m0s").
package strictyaml

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	variable     = regexp.MustCompile(`\$\{([^}]*)\}`)
)

// Decode reads src, the content of a file that messages name so, into out, a
// pointer to a struct. What the file does not mention keeps its value. ${NAME} is
// what getenv knows by that name. It returns every violation.
func Decode(file string, src io.Reader, out any, getenv func(string) (string, bool)) []error {
	dec := yaml.NewDecoder(src)
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // an empty file
			return nil
		}
		return []error{fmt.Errorf("%s: %w", file, err)}
	}
	r := &reader{file: file, getenv: getenv}
	r.read(doc.Content[0], reflect.ValueOf(out).Elem(), "")
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		r.errs = append(r.errs, fmt.Errorf("%s: has a second YAML document; only one is read", file))
	}
	return r.errs
}

// Section is a part of a tree that knows its own rules.
type Section interface {
	// Validate returns every violation as "path: value: rule", each path below
	// prefix.
	Validate(prefix string) []error
}

// Validate asks every section of the tree that out points to.
func Validate(out any) []error { return validate(reflect.ValueOf(out).Elem(), "") }

func validate(at reflect.Value, path string) []error {
	var errs []error
	if s, ok := at.Addr().Interface().(Section); ok {
		errs = s.Validate(path)
	}
	for _, f := range Fields(at) {
		if f.Value.Kind() == reflect.Struct {
			errs = append(errs, validate(f.Value, join(path, f.Name))...)
		}
	}
	return errs
}

// reader decodes YAML nodes into structs and collects every violation.
type reader struct {
	file   string // for messages
	getenv func(string) (string, bool)
	errs   []error
}

func (r *reader) violation(n *yaml.Node, path, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s: %s", r.file, n.Line, path, fmt.Sprintf(format, args...)))
}

// read decodes n into out, a struct or a leaf. What n does not mention keeps
// its value, and so does what is wrong.
func (r *reader) read(n *yaml.Node, out reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	r.expand(n, path)
	for _, item := range n.Content {
		if n.Kind == yaml.SequenceNode {
			r.expand(item, path)
		}
	}
	if isNull(n) {
		return
	}
	if out.Kind() != reflect.Struct {
		if rule := readLeaf(n, out); rule != "" {
			r.violation(n, path, "%s: %s", show(n), rule)
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		r.violation(n, path, "%s: must be a mapping", show(n))
		return
	}
	fields := Fields(out)
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		at := join(path, key)
		field, ok := lookup(fields, key)
		switch {
		case !ok:
			r.violation(n.Content[i], at, "unknown key%s", suggest(fields, key))
		case seen[key]:
			r.violation(n.Content[i], at, "set twice")
		default:
			r.read(n.Content[i+1], field, at)
		}
		seen[key] = true
	}
}

// expand replaces ${NAME} in a scalar by the environment's value. Expansion
// happens after parsing, so that a value cannot change the shape of the file. A
// plain (unquoted) scalar takes the type of what it expands to.
func (r *reader) expand(n *yaml.Node, path string) {
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${") {
		return
	}
	n.Value = variable.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := ref[2 : len(ref)-1]
		value, ok := r.getenv(name)
		if !ok {
			r.violation(n, path, "%s: the environment has no variable %q", ref, name)
		}
		return value
	})
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		n.Tag = ""
	}
}

// readLeaf sets out from n; what it returns is the rule that n breaks.
func readLeaf(n *yaml.Node, out reflect.Value) (rule string) {
	if out.Type() == durationType {
		d, err := parseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			return "must be a duration such as 500ms, 30s, 10m or 15d"
		}
		out.SetInt(int64(d))
		return ""
	}
	if err := n.Decode(out.Addr().Interface()); err == nil {
		return ""
	}
	switch out.Kind() {
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return "must be a whole number"
	case reflect.Float64:
		return "must be a number"
	case reflect.String:
		return "must be a string"
	case reflect.Slice:
		return "must be a list such as [a, b]"
	default:
		return "must be a " + out.Type().String()
	}
}

// parseDuration takes what Go and what Prometheus write: 1.5h as well as 15d.
func parseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	d, err := model.ParseDuration(s)
	return time.Duration(d), err
}

// FormatDuration is the form operators type: 15d rather than 360h0m0s.
func FormatDuration(d time.Duration) string {
	if d < 0 || d%time.Millisecond != 0 {
		return d.String()
	}
	return model.Duration(d).String()
}

// Set sets the leaf that path names of the tree that out points to. A string
// takes the text as it is, anything else is read as YAML.
func Set(out any, path, text string) error {
	at := reflect.ValueOf(out).Elem()
	for key := range strings.SplitSeq(path, ".") {
		if at.Kind() != reflect.Struct {
			return fmt.Errorf("%s: nothing can be set below a single value", path)
		}
		fields := Fields(at)
		field, ok := lookup(fields, key)
		if !ok {
			return fmt.Errorf("%s: unknown key%s", path, suggest(fields, key))
		}
		at = field
	}
	switch at.Kind() {
	case reflect.Struct:
		return fmt.Errorf("%s: name a single value below it, such as %s", path, join(path, Fields(at)[0].Name))
	case reflect.String:
		at.SetString(text)
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) != 1 {
		return fmt.Errorf("%s: %q: is not a YAML value", path, text)
	}
	if rule := readLeaf(doc.Content[0], at); rule != "" {
		return fmt.Errorf("%s: %q: %s", path, text, rule)
	}
	return nil
}

// Encode writes tree as the YAML that would produce it.
func Encode(w io.Writer, tree any) error {
	node, err := Node(reflect.ValueOf(tree))
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return err
	}
	return enc.Close()
}

// Node returns tree as YAML.
func Node(tree reflect.Value) (*yaml.Node, error) {
	if tree.Type() == durationType {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: FormatDuration(time.Duration(tree.Int()))}, nil
	}
	n := &yaml.Node{}
	if tree.Kind() != reflect.Struct {
		return n, n.Encode(tree.Interface())
	}
	n.Kind = yaml.MappingNode
	for _, f := range Fields(tree) {
		child, err := Node(f.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}, child)
	}
	return n, nil
}

// Field is a field of a struct by its yaml name.
type Field struct {
	Name  string
	Value reflect.Value
}

// Fields lists the fields of a struct that have a yaml name, in order.
func Fields(s reflect.Value) []Field {
	var fields []Field
	for i := range s.NumField() {
		name, _, _ := strings.Cut(s.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fields = append(fields, Field{name, s.Field(i)})
		}
	}
	return fields
}

func lookup(fields []Field, name string) (reflect.Value, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return reflect.Value{}, false
}

// suggest names the key that was probably meant, or all when none is near.
func suggest(fields []Field, name string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		if distance(f.Name, name) <= 2 || strings.Contains(f.Name, name) {
			return fmt.Sprintf(": did you mean %s?", f.Name)
		}
	}
	return ": must be one of " + strings.Join(names, ", ")
}

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// show is a node as it stands in a message.
func show(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}
