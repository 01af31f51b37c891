// Package strictyaml reads YAML into trees of structs by their yaml tags, and
// says everything that is wrong with it.
//
//	file ── Decode ──> struct ── Validate ──> violations: path, value, rule
//	-set path=value ── Set ─┘        └─ Encode ──> the YAML that would produce it
//
// Below Decode is Decoder, in decoder.go, for files whose parts inherit from each
// other.
//
// It exists beside yaml.Decoder because that one stops naming paths below the
// line number and writes durations in a form nobody types ("360h0m0s").
package strictyaml

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

var durationType = reflect.TypeFor[time.Duration]()

// Decode reads src, the content of a file that messages name so, into out, a
// pointer to a struct. What the file does not mention keeps its value. ${NAME} is
// what getenv knows by that name. It returns every violation.
func Decode(file string, src io.Reader, out any, getenv func(string) (string, bool)) []error {
	d := Decoder{File: file, Getenv: getenv}
	if doc := d.Parse(src); doc != nil {
		d.Read(doc, out, "")
	}
	return d.Errors()
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
	var d Decoder
	d.read(doc.Content[0], at, path)
	return errors.Join(d.Errors()...)
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
	n := &yaml.Node{}
	switch {
	case tree.Type() == durationType:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: FormatDuration(time.Duration(tree.Int()))}, nil
	case tree.Kind() == reflect.Pointer && tree.IsNil():
		return n, n.Encode(nil)
	case tree.Kind() == reflect.Pointer:
		return Node(tree.Elem())
	case tree.Kind() == reflect.Slice && tree.Len() > 0 && isStruct(tree.Type().Elem()):
		n.Kind = yaml.SequenceNode
		for _, item := range tree.Seq2() {
			child, err := Node(item)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		return n, nil
	case !isStruct(tree.Type()):
		return n, n.Encode(tree.Interface())
	}
	n.Kind = yaml.MappingNode
	for _, f := range Fields(tree) {
		if f.omitEmpty && f.Value.IsZero() {
			continue
		}
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
	Name      string
	Value     reflect.Value
	omitEmpty bool
}

// Fields lists the fields of a struct that have a yaml name, in order, and those
// of structs that are inlined.
func Fields(s reflect.Value) []Field {
	var fields []Field
	for i := range s.NumField() {
		name, options, _ := strings.Cut(s.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			fields = append(fields, Fields(s.Field(i))...)
		case name != "" && name != "-":
			fields = append(fields, Field{name, s.Field(i), strings.Contains(options, "omitempty")})
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
	if n.Kind == yaml.ScalarNode {
		return fmt.Sprintf("%q", n.Value)
	}
	return kindOf(n)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "a single value"
}

// Leaves lists what has a value in a tree by its path: a list or a map is one.
func Leaves(tree reflect.Value) []Field { return leaves(tree, "") }

func leaves(at reflect.Value, path string) []Field {
	if !isStruct(at.Type()) || at.Kind() == reflect.Pointer && at.IsNil() {
		return []Field{{Name: path, Value: at}}
	}
	var all []Field
	for _, f := range Fields(reflect.Indirect(at)) {
		all = append(all, leaves(f.Value, join(path, f.Name))...)
	}
	return all
}
