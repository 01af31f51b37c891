package tenant

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func editConfig(name string) Config { return Config{File: name, Unlisted: AcceptUnlisted} }

func create(id string) func(*Edit) error {
	return func(e *Edit) error { return e.CreateTenant(id, "") }
}

// TestEditKeepsTheRest: whatever the layout, an edit changes the lines that it is
// about.
func TestEditKeepsTheRest(t *testing.T) {
	setState := func(e *Edit) error { return e.SetState("a", StateHeld) }
	for _, tc := range []struct {
		name, src, want string
		change          func(*Edit) error
	}{
		{"nothing there", "", "tenants:\n  a: {}\n", create("a")},
		{"comments only", "# mine", "# mine\ntenants:\n  a: {}\n", create("a")},
		{"an empty section", "tenants:\n\nplans: {}\n", "tenants:\n  a: {}\n\nplans: {}\n", create("a")},
		{"an empty mapping", "{}\n", "tenants:\n  a: {}\n", create("a")},
		{"empty lines and comments", "# one\n\ntenants:\n  a: {} # two\n\n  # three\n  b: {}\n# four\n", "# one\n\ntenants:\n  a: {state: held} # two\n\n  # three\n  b: {}\n# four\n", setState},
		{"comment of the value that goes", "tenants:\n  a:\n    state: active   # for now\n", "tenants:\n  a:\n    state: held # for now\n", setState},
		{"four blanks", "plans:\n    x: {}\n\ntenants:\n    a: {}\n\n    b:\n        plan: x\n", "plans:\n    x: {}\n\ntenants:\n    a:\n        state: held\n\n    b:\n        plan: x\n", setState},
		{"a comment where nothing is left", "tenants: # mine\n  a: {}\nplans:\n", "tenants: # mine\nplans:\n", func(e *Edit) error { return e.DeleteTenant("a") }},
		{"nothing is left of a limit", "tenants:\n  a: {limits: {max_exemplars: 1}}\n  b:\n", "tenants:\n  a:\n  b:\n", func(e *Edit) error { return e.Unset("tenants", "a", "limits.max_exemplars") }},
		{"no credential is left", "credentials: # mine\n  - id: x\n", "credentials: # mine\n", func(e *Edit) error { return e.RevokeCredential("x") }},
		{"all in one line", "{tenants: {a: {}}}\n", "{tenants: {a: {state: held}}}\n", setState},
		{"lists without indentation", "tenants:\n  a: {}\n\ncredentials:\n- id: x\n  tenants: [a]\n", "tenants:\n  a:\n    state: held\n\ncredentials:\n- id: x\n  tenants: [a]\n", setState},
		{"no end of the last line", "tenants:\n  a: {}", "tenants:\n  a:\n    state: held\n", setState},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := edited([]byte(tc.src), tc.change)
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

func TestEditRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, src, want string
		change          func(*Edit) error
	}{
		{"aliases", "tenants:\n  b: &b {}\n  c: *b\n", "line 3 has an alias", create("a")},
		{"a list", "[]", "is no mapping", create("a")},
		{"tenants that are no mapping", "tenants: [a]", "tenants is no mapping", create("a")},
		{"no YAML", "tenants: {", "did not find expected", create("a")},
		{"credentials that are no list", "credentials: {}", "credentials is no list", func(e *Edit) error {
			return e.CreateCredential("x", nil, nil, Hash{}, time.Time{})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := edited([]byte(tc.src), tc.change)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// TestEditIsTheChange: whatever was in the file, an edit and its reverse leave the
// same meaning, and between them all but the tenant is the same.
func TestEditIsTheChange(t *testing.T) {
	meaning := func(t require.TestingT, src []byte) map[string]any {
		var v map[string]any
		require.NoError(t, yaml.Unmarshal(src, &v), "%s", src)
		return v
	}
	rapid.Check(t, func(t *rapid.T) {
		src := []byte(drawDraft(t).yaml())
		if rapid.Bool().Draw(t, "comments") {
			src = []byte(strings.ReplaceAll(string(src), "\n", rapid.SampledFrom([]string{"   # why\n", "\n\n", "\n  # so\n"}).Draw(t, "between")))
		}
		before := meaning(t, src)
		with, err := edited(src, func(e *Edit) error {
			return errors.Join(e.CreateTenant("new", ""), e.Set("tenants", "new", "limits.max_exemplars", "5"))
		})
		require.NoError(t, err)
		now := meaning(t, with)
		tenants, _ := now["tenants"].(map[string]any)
		require.Equal(t, map[string]any{"limits": map[string]any{"max_exemplars": 5}}, tenants["new"])
		delete(tenants, "new")
		if len(tenants) == 0 {
			now["tenants"] = nil
		}
		require.Equal(t, before, now, "%s", with)

		require.Equal(t, strings.Count(string(src), "#"), strings.Count(string(with), "#"), "comments stay:\n%s", with)

		without, err := edited(with, func(e *Edit) error { return e.DeleteTenant("new") })
		require.NoError(t, err)
		again, _ := edited(src, func(*Edit) error { return nil })
		require.Equal(t, strings.Fields(string(src)), strings.Fields(string(again)), "no change changes nothing")
		now = meaning(t, without)
		if tenants, _ := now["tenants"].(map[string]any); len(tenants) == 0 {
			now["tenants"] = nil
		}
		require.Equal(t, before, now, "%s", without)
	})
}

func TestEditFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tenants.yml")
	require.NoError(t, os.WriteFile(name, []byte(one), 0o604))
	link := filepath.Join(dir, "link.yml")
	require.NoError(t, os.Symlink("tenants.yml", link))
	require.NoError(t, EditFile(editConfig(link), DefaultSettings(), create("b")))

	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink, "what it was")
	info, err = os.Stat(name)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o604), info.Mode(), "whoever could read it still can")
	f := follow(t, name, AcceptUnlisted)
	require.Len(t, f.Tenants(), 2)
}

// TestEditorsWait: of many at once, no change is lost.
func TestEditorsWait(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	var all sync.WaitGroup
	const editors = 20
	for i := range editors {
		all.Go(func() {
			require.NoError(t, EditFile(editConfig(name), DefaultSettings(), create(fmt.Sprint("t", i))))
		})
	}
	all.Wait()
	require.Len(t, follow(t, name, AcceptUnlisted).Tenants(), editors)
}

// TestEditorThatDoesNotWait: what a person saved meanwhile is not overwritten.
func TestEditorThatDoesNotWait(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	write(t, name, one)
	err := EditFile(editConfig(name), DefaultSettings(), func(e *Edit) error {
		write(t, name, two)
		return e.CreateTenant("b", "")
	})
	require.ErrorContains(t, err, "was changed by somebody else meanwhile")
	src, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, two, string(src))
}

// TestEditOfABadFile: it stays as it is, unless the change makes it valid.
func TestEditOfABadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	const src = "tenants: {a: {state: paused}}\n"
	write(t, name, src)
	err := EditFile(editConfig(name), DefaultSettings(), create("b"))
	require.ErrorContains(t, err, `the file is as it was, because with this change it would not be valid:`)
	require.ErrorContains(t, err, `tenants.a.state: "paused": must be one of`)
	now, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, src, string(now))
	require.NoError(t, EditFile(editConfig(name), DefaultSettings(), func(e *Edit) error { return e.SetState("a", StateHeld) }))
}

func TestRotateCredential(t *testing.T) {
	at := func(hours int) time.Time { return time.Date(2027, 1, 1, hours, 0, 0, 0, time.UTC) }
	src := "credentials: [{id: x, tenants: [], secrets: [" +
		"{sha256: gone, expires: 2027-01-01T01:00:00Z}, {sha256: soon, expires: 2027-01-01T03:00:00Z}, " +
		"{sha256: late, expires: 2027-01-01T09:00:00Z}, {sha256: ever}]}]"
	out, err := edited([]byte(src), func(e *Edit) error { return e.RotateCredential("x", Hash{1}, at(20), at(2), at(4)) })
	require.NoError(t, err)
	var f file
	require.NoError(t, yaml.Unmarshal(out, &f))
	require.Equal(t, []Secret{
		{SHA256: "soon", Expires: "2027-01-01T03:00:00Z"},
		{SHA256: "late", Expires: "2027-01-01T04:00:00Z"},
		{SHA256: "ever", Expires: "2027-01-01T04:00:00Z"},
		{SHA256: Hash{1}.String(), Expires: "2027-01-01T20:00:00Z"},
	}, f.Credentials[0].Secrets)
}

// FuzzEdit: what an edit makes of a valid file is valid, and has what was asked.
// Of files that are no plain text it need not be: EditFile then refuses.
func FuzzEdit(f *testing.F) {
	f.Add("plans:\n  gold: {limits: {past_grace: 30d}}\n\ntenants:\n  a: # c\n    plan: gold\n# end\n")
	f.Add("credentials:\n- id: x\n  tenants: [b]\n\n  scopes: [write]\n")
	f.Add("tenants: {}")
	f.Add("# c\n---\n# d\ntenants:\n...\n# e")
	base := DefaultSettings()
	f.Fuzz(func(t *testing.T, src string) {
		before, errs := parse(Config{File: "f", Unlisted: AcceptUnlisted}, []byte(src), &base, noFile(&base))
		odd := func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }
		if len(errs) > 0 || strings.ContainsFunc(src, odd) {
			return
		}
		out, err := edited([]byte(src), create("new"))
		if _, there := before.of("new"); there {
			require.Error(t, err)
			return
		}
		if err != nil {
			require.ErrorContains(t, err, "alias")
			return
		}
		after, errs := parse(Config{File: "f", Unlisted: AcceptUnlisted}, out, &base, before)
		require.Empty(t, errs, "%q", out)
		require.Len(t, after.tenants, len(before.tenants)+1, "%q", out)
		require.Equal(t, 1, after.changed(before), "%q", out)
		require.Equal(t, before.credentials.list, after.credentials.list, "%q", out)
	})
}
