package api

import (
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

const (
	// classSize is charged for \p{L} and the like, which list hundreds of ranges.
	classSize = 1000
	// foldSize is charged for a range beyond ASCII that may be folded: all of its
	// up to 125,000 characters are looked at, one by one.
	foldSize = 10_000
)

// regexpSize is the size of a regular expression: its bytes, or the instructions
// it compiles to, whichever is more. Without counted repetitions there is about
// one instruction per byte. Once the size is beyond limit it need not be exact.
func regexpSize(pattern string, limit int) int {
	size := sourceSize(pattern)
	if size > limit {
		return size
	}
	tree, err := syntax.Parse(pattern, syntax.Perl|syntax.DotNL)
	if err != nil {
		return size // whoever compiles it will say so
	}
	return max(size, programSize(tree, limit))
}

// sourceSize is the length of a regular expression, more where parsing it takes
// more than its length.
func sourceSize(pattern string) int {
	size := len(pattern) + classSize*(strings.Count(pattern, `\p`)+strings.Count(pattern, `\P`))
	if !strings.Contains(pattern, "(?") { // nothing is folded
		return size
	}
	for rest := pattern; ; {
		_, after, found := strings.Cut(rest, "-")
		if !found {
			return size
		}
		if after != "" && after[0] >= utf8.RuneSelf || strings.HasPrefix(after, `\x`) {
			size += foldSize
		}
		rest = after
	}
}

// programSize is about the number of instructions that a tree compiles to. The
// parser bounds its depth. Sums and products beyond limit are cut, lest they
// overflow.
func programSize(tree *syntax.Regexp, limit int) int {
	size := 0
	for _, sub := range tree.Sub {
		size = min(size+programSize(sub, limit), limit+1)
	}
	switch tree.Op {
	case syntax.OpLiteral:
		return len(tree.Rune)
	case syntax.OpRepeat:
		times := tree.Max
		if times < 0 { // any number from Min on
			times = tree.Min + 1
		}
		return min(max(1, size)*max(1, times), limit+1)
	case syntax.OpConcat:
		return size
	default:
		return size + 1 + len(tree.Sub)
	}
}
