package tenant

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/relabel"
)

// TestRelabelInTheFile: rules are compiled once for all that share them, and what
// is wrong with them is said with its place.
func TestRelabelInTheFile(t *testing.T) {
	base := DefaultSettings()
	read := func(src string, before *version) (*version, []error) {
		return parse(Config{File: "tenants.yaml", Unlisted: AcceptUnlisted}, []byte(src), &base, before)
	}
	none := &version{unlisted: entry{settings: &base}, credentials: new(Credentials)}
	const src = `
plans:
  gold:
    relabel:
      metric_relabel_configs: [{source_labels: [a], target_label: b, replacement: 'x${1}'}]
      hash_key: 0123456789abcdef
tenants:
  same: {plan: gold}
  limited: {plan: gold, limits: {max_exemplars: 1}}
  own: {plan: gold, relabel: {drop_labels: [a]}}
  bare: {}
`
	v, errs := read(src, none)
	require.Empty(t, errs)
	rules := func(v *version, id string) *relabel.Rules {
		e, ok := v.of(id)
		require.True(t, ok)
		return e.settings.Rules
	}
	require.NotNil(t, rules(v, "same"))
	require.Same(t, rules(v, "same"), rules(v, "limited"), "of 10,000 tenants of a plan")
	require.NotSame(t, rules(v, "same"), rules(v, "own"))
	require.Nil(t, rules(v, "bare"))
	out := rules(v, "own").Apply([]labels.Label{{Name: "a", Value: "v"}}, 10, new(relabel.Scratch))
	require.Equal(t, []labels.Label{{Name: "b", Value: "xv"}}, out.Labels, "a list is replaced, the rest is the plan's")

	d := NewDirectory(ModeHeader, base)
	d.current.Store(v)
	shown, err := d.Effective("same")
	require.NoError(t, err)
	text, err := json.Marshal(shown)
	require.NoError(t, err)
	require.Contains(t, string(text), `"hash_key":"\u003csecret\u003e"`)
	require.NotContains(t, string(text), "0123456789abcdef")

	again, errs := read(src+"\n# a comment\n", v)
	require.Empty(t, errs)
	require.Same(t, rules(v, "own"), rules(again, "own"))

	_, errs = read("plans:\n  default:\n    relabel:\n      metric_relabel_configs:\n      - {regex: '('}\n      - {regexp: x}\n      tests: [{series: up, expect: dropped}]\n", none)
	all := errors.Join(errs...)
	require.ErrorContains(t, all, "tenants.yaml:5: plans.default.relabel.metric_relabel_configs[0].regex: \"(\"")
	require.ErrorContains(t, all, "tenants.yaml:6: plans.default.relabel.metric_relabel_configs[1].regexp: unknown key")
}

// TestRulesOfCredentials: they are compiled, and their tests are run, as those of
// tenants are, and keep their pointer unless they change.
func TestRulesOfCredentials(t *testing.T) {
	base := DefaultSettings()
	none := &version{unlisted: entry{settings: &base}, credentials: new(Credentials)}
	secret, hash := NewSecret()
	file := func(rules string) []byte {
		return []byte("credentials:\n- id: c\n  tenants: [a]\n  scopes: [write]\n  secrets: [{sha256: " + hash.String() + "}]\n" + rules)
	}
	read := func(rules string, before *version) (*version, []error) {
		return parse(Config{File: "tenants.yaml", Unlisted: AcceptUnlisted}, file(rules), &base, before)
	}
	rules := func(v *version) *relabel.Rules { return v.credentials.find(secret).identity().Rules }

	first, errs := read("  rules: {drop_labels: [pod], hash_key: 0123456789abcdef}\n", none)
	require.Empty(t, errs)
	out := rules(first).Apply([]labels.Label{{Name: "job", Value: "x"}, {Name: "pod", Value: "y"}}, 10, new(relabel.Scratch))
	require.Equal(t, []labels.Label{{Name: "job", Value: "x"}}, out.Labels)
	same, errs := read("  rules: {hash_key: 0123456789abcdef, drop_labels: [pod]}\n", first)
	require.Empty(t, errs)
	require.Same(t, rules(first), rules(same))
	other, errs := read("  rules: {drop_labels: [node]}\n", same)
	require.Empty(t, errs)
	require.NotSame(t, rules(first), rules(other))
	gone, errs := read("", other)
	require.Empty(t, errs)
	require.Nil(t, rules(gone))

	_, errs = read("  rules:\n    hash_key: short\n    drop_label: [a]\n", none)
	all := errors.Join(errs...)
	require.ErrorContains(t, all, "tenants.yaml:7: credentials[0].rules.hash_key: 5 bytes: must have at least 16")
	require.ErrorContains(t, all, "tenants.yaml:8: credentials[0].rules.drop_label: unknown key: did you mean drop_labels?")
	require.NotContains(t, all.Error(), "short")
	_, errs = read("  rules:\n    drop_labels: [a]\n    tests: [{series: 'up{a=\"1\"}', expect: dropped}]\n", none)
	require.ErrorContains(t, errors.Join(errs...), "tenants.yaml:8: credentials[0].rules.tests[0]: ")
	text, err := json.Marshal(first.credentials.describe(time.Now()))
	require.NoError(t, err)
	require.NotContains(t, string(text), "0123456789abcdef")
}
