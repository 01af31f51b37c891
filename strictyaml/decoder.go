package strictyaml

import (
	"bytes"
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Decoder reads the nodes of one file into trees of structs, and collects every
// violation. A tree may be read over another one that it inherits from: structs
// are merged field by field, lists and maps are replaced as a whole, and what was
// inherited is never written to.
type Decoder struct {
	File   string                      // for messages
	Getenv func(string) (string, bool) // what ${NAME} stands for; nil: for itself
	// Values says that all below the top keys must have a value, where what was left
	// empty by mistake would have consequences. Otherwise null is as if it was not there.
	Values bool

	violations []violation
	lines      map[string]int // of the paths that were read
	set        []string       // see Read
	inside     int            // lists and maps around the node that is read
	depth      int            // nodes around it
}

// maxDepth is how deep a tree may be. Types that hold themselves can be read from
// a node that is its own alias.
const maxDepth = 64

// violation is an error with the line that it is about; 0: the whole file.
type violation struct {
	line int
	err  error
}

var (
	variable = regexp.MustCompile(`\$\{([^}]*)\}`)
	nodeType = reflect.TypeFor[yaml.Node]()
)

// obsoleteUnmarshaler is how types of Prometheus read themselves.
type obsoleteUnmarshaler interface {
	UnmarshalYAML(unmarshal func(any) error) error
}

// Parse returns the root of the only document of src; nil when there is none, or
// when src is not YAML, which is then a violation.
func (d *Decoder) Parse(src io.Reader) *yaml.Node {
	dec := yaml.NewDecoder(src)
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file
			d.violations = append(d.violations, violation{0, fmt.Errorf("%s: %w", d.File, err)})
		}
		return nil
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		d.violations = append(d.violations, violation{0, fmt.Errorf("%s: has a second YAML document; only one is read", d.File)})
	}
	return doc.Content[0]
}

// Read reads n, which stands at path, into out, a pointer. What n does not
// mention keeps its value, and so does what is wrong. It returns the paths below
// path that n sets; a list or a map is one.
func (d *Decoder) Read(n *yaml.Node, out any, path string) (set []string) {
	d.set = nil
	d.read(n, reflect.ValueOf(out).Elem(), path)
	for i, p := range d.set {
		d.set[i] = strings.TrimPrefix(strings.TrimPrefix(p, path), ".")
	}
	return d.set
}

// Add collects violations of the form "path: value: rule" that only a whole tree
// shows, and names the lines where their paths were read.
func (d *Decoder) Add(errs ...error) {
	for _, err := range errs {
		path, _, _ := strings.Cut(err.Error(), ": ")
		d.violations = append(d.violations, d.at(d.lineOf(path), err))
	}
}

// Errors returns all violations in the order of their lines.
func (d *Decoder) Errors() []error {
	slices.SortStableFunc(d.violations, func(a, b violation) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, v := range d.violations {
		errs = append(errs, v.err)
	}
	return errs
}

// lineOf is the line of path, or of the nearest thing around it that the file
// has; 0: it has none.
func (d *Decoder) lineOf(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

func (d *Decoder) at(line int, err error) violation {
	switch {
	case d.File == "":
		return violation{0, err}
	case line == 0:
		return violation{0, fmt.Errorf("%s: %w", d.File, err)}
	}
	return violation{line, fmt.Errorf("%s:%d: %w", d.File, line, err)}
}

func (d *Decoder) violation(n *yaml.Node, path, format string, args ...any) {
	d.violations = append(d.violations, d.at(n.Line, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))))
}

// read decodes n, unless it is null, into out, which can be set.
func (d *Decoder) read(n *yaml.Node, out reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	n = d.expand(n, path)
	if isNull(n) {
		if d.Values && n.Kind != 0 && out.Type() != nodeType && strings.ContainsAny(path, ".[") {
			d.violation(n, path, "null: must have a value; leave it out for the default")
		}
		return
	}
	if d.depth++; d.depth > maxDepth {
		d.violation(n, path, "is nested too deep")
	} else {
		d.readValue(n, out, path)
	}
	d.depth--
}

func (d *Decoder) readValue(n *yaml.Node, out reflect.Value, path string) {
	if d.inside == 0 && out.Kind() != reflect.Pointer && !isStruct(out.Type()) {
		d.set = append(d.set, path)
	}
	switch out.Addr().Interface().(type) {
	case *yaml.Node:
		out.Set(reflect.ValueOf(*n))
		return
	case yaml.Unmarshaler, obsoleteUnmarshaler, encoding.TextUnmarshaler:
		if err := readItself(n, out); err != nil {
			d.violation(n, path, "%s", err)
		}
		return
	}
	switch out.Kind() {
	case reflect.Struct:
		d.readStruct(n, out, path)
	case reflect.Map:
		d.readMap(n, out, path)
	case reflect.Slice:
		d.readList(n, out, path)
	case reflect.Pointer:
		value := reflect.New(out.Type().Elem())
		if !out.IsNil() {
			value.Elem().Set(out.Elem())
		}
		d.read(n, value.Elem(), path)
		out.Set(value)
	default:
		if rule := readLeaf(n, out); rule != "" {
			d.violation(n, path, "%s: %s", show(n), rule)
		}
	}
}

// isStruct says whether fields of t are paths of their own.
func isStruct(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		return isStruct(t.Elem())
	}
	return t.Kind() == reflect.Struct && t != nodeType && !readsItself(t)
}

func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[yaml.Unmarshaler]()) || p.Implements(reflect.TypeFor[obsoleteUnmarshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// readItself lets out, which knows how, read n. What is wrong is for it to say:
// the value may be a secret.
func readItself(n *yaml.Node, out reflect.Value) error {
	if text, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode {
			return errors.New("must be a single value")
		}
		return text.UnmarshalText([]byte(n.Value))
	}
	src, err := yaml.Marshal(n) // nodes by themselves cannot be decoded strictly
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(src))
	dec.KnownFields(true)
	return dec.Decode(out.Addr().Interface())
}

func (d *Decoder) readStruct(n *yaml.Node, out reflect.Value, path string) {
	fields := Fields(out)
	d.eachKey(n, path, func(key, value *yaml.Node, at string) {
		if field, ok := lookup(fields, key.Value); ok {
			d.read(value, field, at)
		} else {
			d.violation(key, at, "unknown key%s", suggest(fields, key.Value))
		}
	})
}

func (d *Decoder) readMap(n *yaml.Node, out reflect.Value, path string) {
	d.inside++
	defer func() { d.inside-- }()
	all := reflect.MakeMap(out.Type())
	d.eachKey(n, path, func(key, value *yaml.Node, at string) {
		item := reflect.New(out.Type().Elem()).Elem()
		d.read(value, item, at)
		all.SetMapIndex(reflect.ValueOf(key.Value).Convert(out.Type().Key()), item)
	})
	out.Set(all)
}

func (d *Decoder) readList(n *yaml.Node, out reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.violation(n, path, "%s: must be a list such as [a, b]", show(n))
		return
	}
	d.inside++
	defer func() { d.inside-- }()
	all := reflect.MakeSlice(out.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.mark(at, item)
		d.read(item, all.Index(i), at)
	}
	out.Set(all)
}

// eachKey calls f for each key of a mapping and its value.
func (d *Decoder) eachKey(n *yaml.Node, path string, f func(key, value *yaml.Node, at string)) {
	if n.Kind != yaml.MappingNode {
		// Not its value, which may be a secret in the wrong place.
		d.violation(n, path, "%s: must be a mapping", kindOf(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at := join(path, key.Value)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.violation(key, path, "%s: cannot be a key", kindOf(key))
		case seen[key.Value]:
			d.violation(key, at, "set twice")
		default:
			d.mark(at, key)
			f(key, n.Content[i+1], at)
		}
		seen[key.Value] = true
	}
}

// mark remembers the line of a path.
func (d *Decoder) mark(path string, n *yaml.Node) {
	if d.lines == nil {
		d.lines = map[string]int{}
	}
	d.lines[path] = n.Line
}

// expand returns n with ${NAME} in a scalar replaced by the environment's value.
// Expansion happens after parsing, so that a value cannot change the shape of the
// file, and once: n stays as it is, since an alias may lead here again. A plain
// (unquoted) scalar takes the type of what it expands to.
func (d *Decoder) expand(n *yaml.Node, path string) *yaml.Node {
	if d.Getenv == nil || n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${") {
		return n
	}
	expanded := *n
	expanded.Value = variable.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := ref[2 : len(ref)-1]
		value, ok := d.Getenv(name)
		if !ok {
			d.violation(n, path, "%s: the environment has no variable %q", ref, name)
		}
		return value
	})
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		expanded.Tag = ""
	}
	return &expanded
}
