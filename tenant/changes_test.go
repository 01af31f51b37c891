package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/audit"
)

// versionOf is a version of a file that is fine.
func versionOf(t *testing.T, src string, before *version) *version {
	t.Helper()
	base := DefaultSettings()
	if before == nil {
		before = noFile(&base)
	}
	v, errs := parse(Config{File: "f"}, []byte(src), &base, before)
	require.Empty(t, errs)
	return v
}

func TestChanges(t *testing.T) {
	const (
		plans = "plans: {gold: {limits: {max_exemplars: 3}}}\n"
		a     = "tenants: {a: {plan: gold, limits: {past_grace: 30d}}, b: {plan: gold}}\n"
	)
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	credential := func(more string) string {
		return "credentials: [{id: c, tenants: [a], scopes: [write]" + more + "}]\n"
	}
	for _, tc := range []struct {
		name, before, now string
		want              []string // action, object and differences
	}{
		{"nothing", plans + a, "# comment\n" + a + plans, nil},
		{"the same by another spelling", a + plans, strings.Replace(a, "30d", "720h", 1) + plans, nil},
		{"a limit", a + plans, strings.Replace(a, "30d", "1d", 1) + plans, []string{"change tenant a [limits.past_grace: 30d -> 1d]"}},
		{"set over the plan", a + plans, strings.Replace(a, "{past", "{max_exemplars: 0, past", 1) + plans, []string{"change tenant a [limits.max_exemplars: 3 -> 0]"}},
		{"inherited again", a + plans, strings.Replace(a, ", limits: {past_grace: 30d}", "", 1) + plans, []string{"change tenant a [limits.past_grace: 30d -> 2w]"}},
		{"set to what it inherits", a + plans, strings.Replace(a, "{past", "{max_exemplars: 3, past", 1) + plans, nil},
		{"a limit of a plan, told of the plan alone", a + plans, a + strings.Replace(plans, "3", "4", 1), []string{"change plan gold [limits.max_exemplars: 3 -> 4]"}},
		{"tenants and plans come and go", a + plans, "tenants: {b: {}, n: {state: held}}\nplans: {default: {}, silver: {state: read-only}}", []string{
			"add plan default []", "remove plan gold []", "add plan silver [state: read-only]",
			"remove tenant a []", "change tenant b [plan: gold -> default]", "add tenant n [plan: default state: held]",
		}},
		{"rules", "tenants: {a: {}}", "tenants: {a: {relabel: {drop_labels: [pod, ip]}}}", []string{"change tenant a [relabel.drop_labels: [pod, ip]]"}},
		{"another key of hashes", "tenants: {a: {relabel: {hash_key: 0123456789abcdef}}}", "tenants: {a: {relabel: {hash_key: 0123456789abcdeX}}}",
			[]string{"change tenant a [relabel.hash_key: <secret> -> <secret>]"}},
		{"label sets", "tenants: {a: {}}", "tenants: {a: {limits: {label_sets: [{name: x, match: '{a=\"b\"}'}]}}}",
			[]string{`change tenant a [limits.label_sets: [{name: x, match: '{a="b"}', max_active_series: 0, ingestion_rate: 0}]]`}},

		{"a credential", "", credential(", secrets: [{sha256: " + one + ", expires: 2100-01-01T00:00:00Z}]"),
			[]string{"add credential c [scopes: [write] secrets.1a1a1a1a: until 2100-01-01T00:00:00Z tenants: [a]]"}},
		{"revoked", credential(""), "{}", []string{"remove credential c []"}},
		{"rotated", credential(", secrets: [{sha256: " + one + "}]"), credential(", secrets: [{sha256: " + one + ", expires: 2100-01-01T00:00:00Z}, {sha256: " + two + "}]"),
			[]string{"change credential c [secrets.1a1a1a1a: until revoked -> until 2100-01-01T00:00:00Z secrets.2b2b2b2b: until revoked]"}},
		{"everything about a credential", credential(", readable: ['{a=\"b\"}']"), "credentials: [{id: c, tenants: [a, b], scopes: [write, rules], labels: [{name: env, value: x}], allowed_cidrs: [10.0.0.0/8], rules: {drop_labels: [a], hash_key: 0123456789abcdef}, certificate: {ou: [x]}}]",
			[]string{"change credential c [allowed_cidrs: [10.0.0.0/8] certificate: {uri: [], dns: [], ou: [x], cn: []} " +
				"labels: [{name: env, value: x, on_conflict: \"\"}] readable: ['{a=\"b\"}'] -> none rules: {drop_labels: [a], hash_key: <secret>} " +
				"scopes: [write] -> [write, rules] tenants: [a] -> [a, b]]"}},
		{"a secret in the wrong place", credential(""), credential(", labels: [{name: weir, value: weir_" + strings.Repeat("A", 48) + "}]"),
			[]string{"change credential c [labels: [{name: weir, value: weir_..., on_conflict: \"\"}]]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := versionOf(t, tc.before, nil)
			var got []string
			for _, c := range versionOf(t, tc.now, before).changes(before) {
				got = append(got, fmt.Sprintf("%s %s %v", c.action, c.object, c.differences))
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// TestChangesAreRecorded: of versions that are taken, and of nothing else.
func TestChangesAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		name := filepath.Join(t.TempDir(), "tenants.yml")
		write(t, name, one)
		d := NewDirectory(ModeHeader, DefaultSettings()).WithAuth(Auth{Audit: audit.New(slog.NewJSONHandler(&out, nil), prometheus.NewRegistry())})
		require.NoError(t, d.Follow(Config{File: name}, slog.New(slog.DiscardHandler), nil))
		done := make(chan error)
		go func() { done <- d.Run(t.Context()) }()
		t.Cleanup(func() { require.NoError(t, <-done) })
		records := func() (all []string) {
			t.Helper()
			for line := range strings.Lines(out.String()) {
				var r struct {
					Event, Action, Object string
					Changes               []string
				}
				require.NoError(t, json.Unmarshal([]byte(line), &r))
				require.Equal(t, "changed", r.Event)
				all = append(all, fmt.Sprint(r.Action, " ", r.Object, " ", r.Changes))
			}
			out.Reset()
			return all
		}
		taken := func(content string) string { return "take tenants file " + hashOfFile([]byte(content)) + " []" }
		require.Equal(t, []string{taken(one)}, records(), "what a process begins with is no change")
		write(t, name, bad)
		pass(3)
		require.Empty(t, records())
		write(t, name, two)
		pass(3)
		require.Equal(t, []string{taken(two), "change tenant a [limits.max_exemplars: 1 -> 2]"}, records())

		require.NoError(t, EditFile(Config{File: name}, DefaultSettings(), func(e *Edit) error { return e.CreateTenant("b", "") }))
		pass(3)
		require.Equal(t, "add tenant b []", records()[1])

		var many strings.Builder
		many.WriteString("tenants:\n")
		for i := range maxChanges + 10 {
			fmt.Fprintf(&many, "  t%d: {}\n", i)
		}
		write(t, name, many.String())
		pass(3)
		all := records()
		require.Len(t, all, maxChanges+2)
		require.Equal(t, "change 12 more "+hashOfFile([]byte(many.String()))+" []", all[maxChanges+1])
	})
}
