package api

import (
	"regexp/syntax"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRegexpSize(t *testing.T) {
	for _, tc := range []struct {
		name, pattern string
		size          int
	}{
		{"literal", "abc", 3},
		{"empty", "", 1},
		{"alternatives", "web-1|web-2", 11},
		{"repeated", "a{100}", 100},
		{"repeated at least", "a{100,}", 101},
		{"repeated at most", "(?:ab){2,50}", 100},
		{"repeated nothing", "(?:){500}", 500},
		{"nested", "(?:a{10}b{10}){20}", 400},
		{"beyond the limit", "(?:(?:abcdefghij){1000})", 1001},
		{"classes", `\pL`, 3 + classSize},
		{"ASCII ranges, folded", "(?i)[a-z]", 9},
		{"long ranges, folded", `(?i)[B-\x{1e943}]`, 17 + foldSize},
		{"long ranges, not folded", `[B-\x{1e943}]`, 13},
		{"not valid", "(", 1},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.size, regexpSize(tc.pattern, 1000)) })
	}
}

// TestProgramSize compares the estimate with what is compiled.
func TestProgramSize(t *testing.T) {
	for _, pattern := range []string{
		"abc", "a|b|cde|f.*", "(a|b)*c+", "((a{3}b?){10}c{2,5}){4}", "[a-z0-9]+\\.example\\.com", "(a*){50}", "(()?){30}", ".{0,100}", "(?i)some|Thing",
		"(?:10\\.0\\.\\d{1,3}\\.\\d{1,3}:9100)|(?:node-.+)", strings.Repeat("host-[0-9]{1,4}\\.dc[12]|", 50) + "x",
	} {
		tree, err := syntax.Parse(pattern, syntax.Perl|syntax.DotNL)
		require.NoError(t, err)
		estimate := programSize(tree, 1<<20)
		program, err := syntax.Compile(tree.Simplify())
		require.NoError(t, err)
		require.InDelta(t, 1, float64(estimate+2)/float64(len(program.Inst)), 0.7, "%s: %d of %d", pattern, estimate, len(program.Inst))
	}
}
