package tenant

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		ok            bool
		tenant        string
	}{
		{"team-a", "team-a", true, ""},
		{"team-a", "team-ab", false, ""},
		{"team.a", "team-a", false, ""},
		{"team-*", "team-a", true, ""},
		{"team-*", "team-", true, ""},
		{"team-*", "my-team-a", false, ""},
		{"*", "a/b", false, ""},
		{"*.agents.example", "a.b.agents.example", true, ""},
		{"*.agents.example", "agents.example", false, ""},
		{"/teams/*/leads", "/teams/a/leads", true, ""},
		{"/teams/*/leads", "/teams/a/b/leads", false, ""},
		{"{tenant}", "a", true, "a"},
		{"{tenant}", "a/b", false, ""},
		{"{tenant}", "", false, ""},
		{"{tenant}", "__reserved", false, "__reserved"},
		{"{tenant}", strings.Repeat("a", 151), false, strings.Repeat("a", 151)},
		{"weir-{tenant}", "weir-a", true, "a"},
		{"weir-{tenant}-dev", "weir-a-dev-dev", true, "a-dev"},
		{"spiffe://prod/ns/{tenant}/sa/*", "spiffe://prod/ns/a/sa/prometheus", true, "a"},
		{"spiffe://prod/ns/{tenant}/sa/*", "spiffe://prod/ns/a/sa/b/sa/c", false, ""},
		{"spiffe://prod/ns/{tenant}/sa/*", "spiffe://prod/ns/a\n/sa/b", false, "a\n"},
		{"(a|b)", "a", false, ""},
	} {
		var c compiler
		p := c.pattern("at", tc.pattern)
		require.Empty(t, c.errs)
		got, ok := p.match(tc.name)
		require.Equal(t, tc.ok, ok, "%s %q", tc.pattern, tc.name)
		require.Equal(t, tc.tenant, got, "%s %q", tc.pattern, tc.name)
	}
}

func TestPatternViolations(t *testing.T) {
	for pattern, want := range map[string]string{
		"":                    "not be empty",
		"{org}":               "no braces but those of one {tenant}",
		"{tenant}{tenant}":    "no braces but those of one {tenant}",
		"*{tenant}":           "have a / between",
		"{tenant}-*":          "have a / between",
		"*.{tenant}.example":  "have a / between",
		"a/*-x-{tenant}/b":    "have a / between",
		"a/{tenant}-*.b/c/*d": "have a / between",
	} {
		var c compiler
		c.pattern("at", pattern)
		require.NotEmpty(t, c.errs, pattern)
		require.ErrorContains(t, c.errs[0], want)
	}
}

// TestPatternNamesOneTenant: no pattern that compiles lets a name be read as that
// of two tenants.
func TestPatternNamesOneTenant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[ab/*-]{0,4}`)
		text := part.Draw(t, "before") + tenantPlace + part.Draw(t, "after")
		var c compiler
		p := c.pattern("at", text)
		if len(c.errs) > 0 {
			return
		}
		name := rapid.StringMatching(`[ab/-]{0,9}`).Draw(t, "name")
		got, ok := p.match(name)
		var others []string
		for from := range name {
			for to := from + 1; to <= len(name); to++ {
				id := name[from:to]
				form := strings.ReplaceAll(regexp.QuoteMeta(strings.Replace(text, tenantPlace, id, 1)), `\*`, `[^/]*`)
				if validateID(id) == nil && regexp.MustCompile(`^`+form+`$`).MatchString(name) {
					others = append(others, id)
				}
			}
		}
		if !ok {
			require.Empty(t, others)
			return
		}
		for _, id := range others {
			require.Equal(t, got, id)
		}
		require.NotEmpty(t, others)
	})
}
