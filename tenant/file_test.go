package tenant

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// noFile is the version before any file.
func noFile(base *Settings) *version { return &version{unlisted: entry{settings: base}} }

func parseText(src string, unlisted Unlisted) (*version, []string) {
	base := DefaultSettings()
	base.Limits.MaxExemplars = 7
	v, errs := parse(Config{File: "tenants.yml", Unlisted: unlisted}, []byte(src), &base, noFile(&base))
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return v, texts
}

func TestSettingsInherit(t *testing.T) {
	v, errs := parseText(`
plans:
  default: {limits: {max_labels_per_series: 10}}
  gold:
    limits: {max_labels_per_series: 20, past_grace: 30d}
tenants:
  follows: {plan: &name gold}
  differs:
    plan: gold
    limits: {past_grace: 1d}
    state: read-only
  none:
  also-none: {}
  by-alias: {plan: *name}
`, AcceptUnlisted)
	require.Empty(t, errs)
	limits := func(id string) Limits { e, _ := v.of(id); return e.settings.Limits }
	state := func(id string) State { e, _ := v.of(id); return e.settings.State }

	require.Equal(t, 20, limits("follows").MaxLabelsPerSeries)
	require.Equal(t, 30*24*time.Hour, limits("follows").PastGrace)
	require.Equal(t, StateActive, state("follows"))
	require.Equal(t, 20, limits("differs").MaxLabelsPerSeries)
	require.Equal(t, 24*time.Hour, limits("differs").PastGrace)
	require.Equal(t, StateReadOnly, state("differs"))
	require.Equal(t, 20, limits("by-alias").MaxLabelsPerSeries)
	for _, id := range []string{"none", "also-none", "unlisted"} {
		require.Equal(t, 10, limits(id).MaxLabelsPerSeries, id)
		require.Equal(t, 7, limits(id).MaxExemplars, id)
	}
	require.Same(t, v.plans["gold"].settings, v.tenants["follows"].settings, "idle tenants cost no settings")
}

func TestEveryViolationOfAFile(t *testing.T) {
	_, errs := parseText(`plan: {}
plans:
  gold: {limits: {max_labels_per_series: 0, max_exemplar: 5}}
  a b:
tenants:
  follows: {plan: gold}
  differs: {plan: gold, limits: {max_label_name_bytes: 0}, limit: []}
  astray: {plan: silver}
  a/b: {}
  held: {state: paused}
  scalar: secret
credentials:
  - {id: one, tenants: [follows], scopes: [write], secret: x}
  - {id: one, tenants: [unknown], scopes: [write]}
`, RefuseUnlisted)
	require.Equal(t, []string{
		`tenants.yml:1: plan: unknown key: did you mean plans?`,
		`tenants.yml:3: plans.gold.limits.max_exemplar: unknown key: did you mean max_exemplars?`,
		`tenants.yml:3: plans.gold.limits.max_labels_per_series: 0: must be at least 1`,
		`tenants.yml:4: plans.a b: must be formed as a tenant id: weir-tenant-invalid: the tenant id has the byte ' ' at offset 1; allowed are letters, digits and !-_.*'()`,
		`tenants.yml:7: tenants.differs.limit: unknown key: did you mean limits?`,
		`tenants.yml:7: tenants.differs.limits.max_label_name_bytes: 0: must be at least 1`,
		`tenants.yml:8: tenants.astray.plan: "silver": must be a plan of this file`,
		`tenants.yml:9: tenants.a/b: must be a tenant id: weir-tenant-invalid: the tenant id has the byte '/' at offset 1; allowed are letters, digits and !-_.*'()`,
		`tenants.yml:10: tenants.held.state: "paused": must be one of [active held read-only write-only suspended]`,
		`tenants.yml:11: tenants.scalar: a single value: must be a mapping`,
		`tenants.yml:13: credentials[0].secret: unknown key: did you mean secrets?`,
		`tenants.yml:14: credentials[1].id: "one": must be unlike all others`,
		`tenants.yml:14: credentials[1].tenants[0]: "unknown": must be listed under tenants`,
	}, errs, "what is wrong with a plan is said once")
}

func TestFilesThatAreFine(t *testing.T) {
	for _, src := range []string{"", "\n# nothing\n", "tenants:\nplans:\ncredentials:\n", "{}"} {
		v, errs := parseText(src, RefuseUnlisted)
		require.Empty(t, errs, "%q", src)
		require.Empty(t, v.tenants)
	}
}

// TestNothingIsLeftEmpty: a key without a value is no way to have the default, which
// may be that everything is allowed. Nor is an empty list where one entry narrows.
func TestNothingIsLeftEmpty(t *testing.T) {
	const missing = "null: must have a value; leave it out for the default"
	for _, tc := range []struct{ key, want string }{
		{"readable:", "readable: " + missing},
		{"readable: ~", "readable: " + missing},
		{"readable: null", "readable: " + missing},
		{"readable: []", "readable: a label policy needs a selector; to let everything be read, leave it out"},
		{"readable: [~]", "readable[0]: " + missing},
		{"allowed_cidrs:", "allowed_cidrs: " + missing},
		{"allowed_cidrs: []", `allowed_cidrs: "": must name a network; to allow all, leave it out`},
		{"labels:", "labels: " + missing},
		{"labels: [{name: a, value: b, on_conflict: }]", "labels[0].on_conflict: " + missing},
		{"rules:", "rules: " + missing},
		{"rules: {redact: }", "rules.redact: " + missing},
		{"certificate:", "certificate: " + missing},
		{"certificate: {ou: [x], uri: }", "certificate.uri: " + missing},
		{"certificate: {ou: [x], uri: []}", `certificate.uri: "": must have a form: nothing would be asked of it`},
		{"jwt: {issuer: https://x, claims: {a: }}", "jwt.claims.a: " + missing},
		{"jwt: {issuer: https://x, claims: {a: [x], b: []}}", `jwt.claims.b: "": must have a form: nothing would be asked of it`},
		{"jwt: {issuer: https://x, claims: }", "jwt.claims: " + missing},
		{"scopes:", "scopes: " + missing},
		{"tenants:", "tenants: " + missing},
		{"tenants: [~]", "tenants[0]: " + missing},
		{"secrets: [{sha256: " + strings.Repeat("0a", 32) + ", expires: }]", "secrets[0].expires: " + missing},
	} {
		t.Run(tc.key, func(t *testing.T) {
			entry := map[string]string{"id": "id: x", "tenants": "tenants: [a]", "scopes": "scopes: [read]"}
			key, _, _ := strings.Cut(tc.key, ":")
			entry[key] = tc.key
			src := "credentials:\n-\n  " + strings.Join(slices.Sorted(maps.Values(entry)), "\n  ") + "\n"
			_, errs := parseText(src, AcceptUnlisted)
			require.Contains(t, strings.Join(errs, "\n"), "credentials[0]."+tc.want)
		})
	}
	for _, tc := range []struct{ src, want string }{
		{"credentials: [~]", "credentials[0]"},
		{"tenants: {a: {limits: }}", "tenants.a.limits"},
		{"tenants: {a: {limits: {max_active_series: }}}", "tenants.a.limits.max_active_series"},
		{"tenants: {a: {limits: {label_sets: ~}}}", "tenants.a.limits.label_sets"},
		{"tenants: {a: {state: }}", "tenants.a.state"},
		{"tenants: {a: {plan: }}", "tenants.a.plan"},
		{"plans: {gold: {relabel: {drop_labels: }}}", "plans.gold.relabel.drop_labels"},
	} {
		_, errs := parseText(tc.src, AcceptUnlisted)
		require.Contains(t, errs, "tenants.yml:1: "+tc.want+": "+missing)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for _, tc := range []struct{ src, want string }{
		{"tenants: [", "did not find expected node content"},
		{"- a", "must be a mapping"},
		{"{}\n---\n{}", "second YAML document"},
		{strings.Repeat("#", maxFileBytes+1), "is longer than"},
	} {
		_, errs := parseText(tc.src, AcceptUnlisted)
		require.Len(t, errs, 1)
		require.Contains(t, errs[0], tc.want)
	}
}

// draft is a random file: what each tenant and plan sets.
type draft struct {
	plans   map[string]int // max_exemplars; -1: not set
	tenants map[string]draftTenant
}

type draftTenant struct {
	plan      string
	exemplars int // -1: not set
	state     State
}

func drawDraft(t *rapid.T) draft {
	d := draft{map[string]int{}, map[string]draftTenant{}}
	number := rapid.IntRange(-1, 2)
	for _, plan := range []string{defaultPlan, "gold"} {
		if rapid.Bool().Draw(t, "has "+plan) {
			d.plans[plan] = number.Draw(t, plan)
		}
	}
	for i := range 4 {
		if !rapid.Bool().Draw(t, "has tenant") {
			continue
		}
		plan := rapid.SampledFrom(append(slices.Sorted(maps.Keys(d.plans)), "")).Draw(t, "plan")
		d.tenants[fmt.Sprint("t", i)] = draftTenant{plan, number.Draw(t, "exemplars"), rapid.SampledFrom(States[:2]).Draw(t, "state")}
	}
	return d
}

func (d draft) yaml() string {
	var b strings.Builder
	limits := func(exemplars int) string {
		if exemplars < 0 {
			return "{}"
		}
		return fmt.Sprintf("{max_exemplars: %d}", exemplars)
	}
	b.WriteString("plans:\n")
	for name, exemplars := range d.plans {
		fmt.Fprintf(&b, "  %s: {limits: %s}\n", name, limits(exemplars))
	}
	b.WriteString("tenants:\n")
	for id, tn := range d.tenants {
		fmt.Fprintf(&b, "  %s: {limits: %s, state: %s", id, limits(tn.exemplars), tn.state)
		if tn.plan != "" {
			fmt.Fprintf(&b, ", plan: %s", tn.plan)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// effective is what a tenant must get.
func (d draft) effective(id string, base Settings) Settings {
	tn := d.tenants[id]
	plan := tn.plan
	if plan == "" {
		plan = defaultPlan
	}
	if n, ok := d.plans[plan]; ok && n >= 0 {
		base.Limits.MaxExemplars = n
	}
	if _, listed := d.tenants[id]; listed {
		base.State = tn.state
		if tn.exemplars >= 0 {
			base.Limits.MaxExemplars = tn.exemplars
		}
	}
	return base
}

// TestPointersAreVersions: over any sequence of files, each tenant has the
// settings that the file of the time says, and a new pointer when and only when
// those are others than before, unless it was taken from the file.
func TestPointersAreVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := DefaultSettings()
		before := noFile(&base)
		for range rapid.IntRange(1, 6).Draw(t, "versions") {
			d := drawDraft(t)
			now, errs := parse(Config{File: "f", Unlisted: AcceptUnlisted}, []byte(d.yaml()), &base, before)
			require.Empty(t, errs, d.yaml())
			for _, id := range []string{"t0", "t1", "t2", "t3"} {
				e, listed := now.of(id)
				then, wasListed := before.of(id)
				require.Equal(t, d.effective(id, base), *e.settings, "%s of %s", id, d.yaml())
				if wasListed && !listed {
					continue // it shares those of all that are not listed
				}
				require.Equal(t, reflect.DeepEqual(then.settings, e.settings), then.settings == e.settings, "%s of %s", id, d.yaml())
			}
			before = now
		}
	})
}

// FuzzParse: no file breaks the parser, and what it takes can be described.
func FuzzParse(f *testing.F) {
	f.Add("plans:\n  gold: {limits: {past_grace: 30d}}\ntenants:\n  a: {plan: gold, state: held}\n  b: &b {limits: {max_exemplars: 1}}\n  c: *b\n")
	f.Add("credentials:\n  - {id: a, tenants: [b], scopes: [write], secrets: [{sha256: ab, expires: 2027-01-02T03:04:05Z}]}\n")
	f.Add("tenants: {a: {<<: {plan: x}}}")
	f.Add("a: &a [*a]\ntenants: *a")
	f.Add("tenants: {? [a] : b}")
	f.Add("plans: !!binary x")
	f.Fuzz(func(t *testing.T, src string) {
		d := NewDirectory(ModeHeader, DefaultSettings())
		v, errs := parse(Config{File: "f", Unlisted: RefuseUnlisted}, []byte(src), d.base, d.current.Load())
		if len(errs) > 0 {
			require.Nil(t, v)
			return
		}
		if strings.TrimSpace(src) == "" {
			return // may be what there is, and not what there comes to be
		}
		again, errs := parse(Config{File: "f", Unlisted: RefuseUnlisted}, []byte(src), d.base, v)
		require.Empty(t, errs)
		require.Zero(t, again.changed(v), "the same file again is no new version for anybody")
		d.current.Store(v)
		for id := range v.tenants {
			require.NoError(t, ValidateID(id))
			require.Empty(t, d.Settings(id).compile("t"))
			_, err := d.Effective(id)
			require.NoError(t, err)
		}
	})
}

// BenchmarkParse reads the file of 10,000 tenants of which each tenth has limits
// of its own, and then the same again.
func BenchmarkParse(b *testing.B) {
	var src strings.Builder
	src.WriteString("plans:\n  gold: {limits: {max_exemplars: 5}}\ntenants:\n")
	for i := range 10_000 {
		fmt.Fprintf(&src, "  team-%05d:\n    plan: gold\n", i)
		if i%10 == 0 {
			fmt.Fprintf(&src, "    limits:\n      max_labels_per_series: %d\n      past_grace: 30d\n", 1+i%100)
		}
	}
	base := DefaultSettings()
	before := noFile(&base)
	b.SetBytes(int64(src.Len()))
	b.ReportAllocs()
	for b.Loop() {
		v, errs := parse(Config{File: "f", Unlisted: AcceptUnlisted}, []byte(src.String()), &base, before)
		require.Empty(b, errs)
		before = v
	}
}

// TestNamesInTheFile: rules on names are read as strictly as all else, and a
// template names no tenant that has to be listed.
func TestNamesInTheFile(t *testing.T) {
	const file = `
tenants: {a: {}}
credentials:
  - id: people
    tenants: [a, "team-{tenant}"]
    scopes: [read]
    jwt: {issuer: "https://sso.example", claims: {groups: ["/{tenant}"], aud: [weir]}}
    certificate: {uri: ["spiffe://prod/{tenant}"]}
`
	v, errs := parseText(file, RefuseUnlisted)
	require.Empty(t, errs)
	require.Len(t, v.credentials.rules["https://sso.example"], 1)
	require.Len(t, v.credentials.rules[""], 1)
	_, errs = parseText(strings.NewReplacer("issuer:", "isuer:", "uri:", "urn:", "/{tenant}\"]", "/{x}\"]").Replace(file), RefuseUnlisted)
	text := strings.Join(errs, "\n")
	require.Contains(t, text, "jwt.isuer: unknown key: did you mean issuer?")
	require.Contains(t, text, "certificate.urn: unknown key")
	require.Contains(t, text, `jwt.claims.groups[0]: "/{x}": must have no braces`)
}
