package tenant

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/audit"
)

// files are what lies in a folder, by name without the hash of a version.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		name, hash, kept := strings.Cut(e.Name(), beforeInfix)
		if kept {
			require.Len(t, hash, 16)
			name += beforeInfix
		}
		require.NotContains(t, all, name, "more than one version is kept")
		all[name] = string(content)
	}
	return all
}

func TestRollBack(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tenants.yml")
	const first = "# mine\ntenants:\n  a: {limits: {max_exemplars: 1}}\n"
	require.NoError(t, os.WriteFile(name, []byte(first), 0o604))
	cfg, base := editConfig(name), DefaultSettings()
	edit := func(change func(*Edit) error) {
		t.Helper()
		require.NoError(t, EditFile(cfg, base, change))
	}
	edit(func(e *Edit) error { return e.Set("tenants", "a", "limits.max_exemplars", "2") })
	second := files(t, dir)["tenants.yml"]
	require.Equal(t, map[string]string{"tenants.yml": second, "tenants.yml.before-": first}, files(t, dir))
	info, err := os.Stat(beforeName(name, []byte(second)))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o604), info.Mode())
	edit(create("b"))
	third := files(t, dir)["tenants.yml"]
	edit(func(*Edit) error { return nil }) // and what was before stays so
	require.Equal(t, map[string]string{"tenants.yml": third, "tenants.yml.before-": second}, files(t, dir))

	done, err := RollBack(cfg, base)
	require.NoError(t, err)
	require.Equal(t, RolledBack{From: hashOfFile([]byte(third)), To: hashOfFile([]byte(second))}, done, "b is no tenant any more, and a what it was")
	require.Equal(t, map[string]string{"tenants.yml": second, "tenants.yml.before-": third}, files(t, dir))
	require.Len(t, follow(t, name, AcceptUnlisted).Tenants(), 1)

	done, err = RollBack(cfg, base)
	require.NoError(t, err)
	require.Equal(t, 1, done.Tenants, "b is back")
	require.Equal(t, map[string]string{"tenants.yml": third, "tenants.yml.before-": second}, files(t, dir))
}

// TestRollBackSaysWhoCountsAgain: a secret that was revoked by the edit that is taken
// back is named, and so is one that was replaced.
func TestRollBackSaysWhoCountsAgain(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tenants.yml")
	cfg, base := editConfig(name), DefaultSettings()
	_, hash := NewSecret()
	for _, id := range []string{"x", "y"} {
		require.NoError(t, EditFile(cfg, base, func(e *Edit) error {
			return e.CreateCredential(id, []string{"a"}, []string{"write"}, hash, time.Time{})
		}))
		_, hash = NewSecret()
	}
	require.NoError(t, EditFile(cfg, base, func(e *Edit) error { return e.RevokeCredential("x") }))
	done, err := RollBack(cfg, base)
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, done.Credentials)
}

// TestRollBackRefuses: the file stays as it is when nobody knows what it was, and
// when that would not be valid.
func TestRollBackRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		prepare    func(t *testing.T, name string)
	}{
		{"no file", "no version is kept that was before this one", func(*testing.T, string) {}},
		{"never edited", "no version is kept", func(t *testing.T, name string) { write(t, name, one) }},
		{"made by an edit", "no version is kept", func(t *testing.T, name string) {
			require.NoError(t, EditFile(editConfig(name), DefaultSettings(), create("a")))
		}},
		{"edited by hand since", "or somebody else has since", func(t *testing.T, name string) {
			write(t, name, one)
			require.NoError(t, EditFile(editConfig(name), DefaultSettings(), create("b")))
			write(t, name, two)
		}},
		{"not valid before", "the file is as it was, because with this change it would not be valid:\n", func(t *testing.T, name string) {
			write(t, name, "tenants: {a: {state: paused}}\n")
			require.NoError(t, EditFile(editConfig(name), DefaultSettings(), func(e *Edit) error { return e.SetState("a", StateHeld) }))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "tenants.yml")
			tc.prepare(t, name)
			before := files(t, dir)
			_, err := RollBack(editConfig(name), DefaultSettings())
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, before, files(t, dir))
		})
	}
}

// TestRollBackIsRecorded: a process says what it changed, as of any version.
func TestRollBackIsRecorded(t *testing.T) {
	var out bytes.Buffer
	name := filepath.Join(t.TempDir(), "tenants.yml")
	write(t, name, one)
	d := NewDirectory(ModeHeader, DefaultSettings()).WithAuth(Auth{Audit: audit.New(slog.NewJSONHandler(&out, nil), nil)})
	require.NoError(t, d.Follow(editConfig(name), slog.New(slog.DiscardHandler), nil))
	require.NoError(t, EditFile(editConfig(name), DefaultSettings(), func(e *Edit) error { return e.Set("tenants", "a", "limits.max_exemplars", "2") }))
	d.poll() // reads it
	d.poll() // and takes it
	out.Reset()
	_, err := RollBack(editConfig(name), DefaultSettings())
	require.NoError(t, err)
	d.poll()
	d.poll()
	require.Contains(t, out.String(), hashOfFile([]byte(one)))
	require.Contains(t, out.String(), "limits.max_exemplars: 2 -> 1")
}
