package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// edited returns src with a change made to it.
func edited(src []byte, change func(*Edit) error) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 { // nothing but comments
		e := Edit{root: &yaml.Node{Kind: yaml.MappingNode}}
		if err := change(&e); err != nil {
			return nil, err
		}
		out, err := encoded(e.root, 2)
		return append(line(src), out...), err
	}
	if isNull(doc.Content[0]) {
		doc.Content[0] = &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	}
	if n := aliasIn(&doc); n != nil {
		return nil, fmt.Errorf("line %d has an alias, so that one change could be several: edit the file by hand, and see whether a plan would do", n.Line)
	}
	spellNulls(&doc, false)
	before, err := encoded(&doc, indentOf(src))
	if err != nil {
		return nil, err
	}
	e := Edit{root: doc.Content[0]}
	if e.root.Kind != yaml.MappingNode {
		return nil, errors.New("the file is no mapping")
	}
	spread(e.root)
	if err := change(&e); err != nil {
		return nil, err
	}
	after, err := encoded(&doc, indentOf(src))
	if err != nil {
		return nil, err
	}
	return keepLayout(src, before, after), nil
}

func aliasIn(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n
	}
	for _, c := range n.Content {
		if found := aliasIn(c); found != nil {
			return found
		}
	}
	return nil
}

// spellNulls writes null where nothing stands in a mapping or list on one line,
// which the encoder would make an empty string.
func spellNulls(n *yaml.Node, flow bool) {
	if flow && isNull(n) && n.Value == "" {
		n.Value = "null"
	}
	for _, c := range n.Content {
		spellNulls(c, flow || n.Style&yaml.FlowStyle != 0)
	}
}

// line returns src with an end to its last line.
func line(src []byte) []byte {
	if len(src) == 0 || src[len(src)-1] == '\n' {
		return src
	}
	return append(slices.Clone(src), '\n')
}

// indentOf returns by how many blanks a file indents: as many as its first line
// that has any.
func indentOf(src []byte) int {
	for l := range strings.Lines(string(src)) {
		if strings.TrimSpace(l) == "" {
			continue
		}
		text := strings.TrimLeft(l, " ")
		if n := len(l) - len(text); n > 1 && text[0] != '#' {
			return min(n, 8)
		}
	}
	return 2
}

func encoded(n *yaml.Node, indent int) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(indent)
	err := enc.Encode(n)
	return b.Bytes(), errors.Join(err, enc.Close())
}

// keepLayout returns after with the lines that the change did not touch as they
// stand in src. The encoder drops empty lines and indents in its own way: before
// is what it made of src, so each of its lines is one of src. Whether lines of
// both ways still say the same together is tried; if not, after stays as it is.
func keepLayout(src, before, after []byte) []byte {
	s, b, a := chunks(src), chunks(before), chunks(after)
	if len(s) != len(b) {
		return after
	}
	same := func(i, j int) bool { return strings.TrimSpace(b[i]) == strings.TrimSpace(a[j]) }
	first := 0
	for first < len(b) && first < len(a) && same(first, first) {
		first++
	}
	last := 0
	for last < len(b)-first && last < len(a)-first && same(len(b)-1-last, len(a)-1-last) {
		last++
	}
	merged := slices.Concat(s[:first], a[first:len(a)-last], s[len(s)-last:])
	out := []byte(strings.Join(merged, ""))
	if want, got := documents(after), documents(out); got == nil || !reflect.DeepEqual(want, got) {
		return after
	}
	return out
}

// documents returns what the YAML documents of src say, or nil if one is none.
func documents(src []byte) []any {
	var all []any
	dec := yaml.NewDecoder(bytes.NewReader(src))
	for {
		var v any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			return nil
		}
		all = append(all, v)
	}
}

// chunks cuts a text into its lines, each with the empty lines before it.
func chunks(src []byte) []string {
	var all []string
	from := ""
	for l := range strings.Lines(string(src)) {
		if from += l; strings.TrimSpace(l) != "" {
			all, from = append(all, from), ""
		}
	}
	return all
}

// child returns the mapping at a key of a mapping, which it makes if there is
// none.
func child(m *yaml.Node, key string) (*yaml.Node, error) {
	n := valueOf(m, key)
	if n == nil || isNull(n) {
		n = &yaml.Node{Kind: yaml.MappingNode}
		put(m, key, n)
	}
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s is no mapping", key)
	}
	spread(n)
	return n, nil
}

// spread lets an empty list or mapping get a line for each entry, unless there is
// a comment, which only has a place behind the bracket.
func spread(n *yaml.Node) {
	if len(n.Content) == 0 && n.LineComment == "" {
		n.Style = 0
	}
}

// valueOf returns what a mapping has at a key, or nil.
func valueOf(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// put sets a key of a mapping. Comments beside the value before stay.
func put(m *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			before := m.Content[i+1]
			value.HeadComment, value.LineComment, value.FootComment = before.HeadComment, before.LineComment, before.FootComment
			m.Content[i+1] = value
			return
		}
	}
	m.Content = append(m.Content, text(key), value)
}

// remove takes a key from a mapping, and reports whether it was there.
func remove(m *yaml.Node, key string) bool {
	if m == nil || m.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			nothingLeft(m)
			return true
		}
	}
	return false
}

// nothingLeft makes null of an empty mapping or list: the encoder has no place for
// the comment of a key before {} or [].
func nothingLeft(n *yaml.Node) {
	if len(n.Content) == 0 {
		n.Kind, n.Tag, n.Style = yaml.ScalarNode, "!!null", 0
	}
}

// text is a string as YAML, quoted where it would be something else.
func text(s string) *yaml.Node {
	var n yaml.Node
	n.SetString(s)
	return &n
}

func texts(list []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		n.Content = append(n.Content, text(s))
	}
	return n
}

func named(s string) func(*yaml.Node) bool {
	return func(n *yaml.Node) bool { return n.Value == s }
}
