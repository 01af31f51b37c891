package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tenantsFile is a file that commands of a test look at and edit.
type tenantsFile struct {
	t    *testing.T
	name string
}

func newTenantsFile(t *testing.T, content string) tenantsFile {
	f := tenantsFile{t, filepath.Join(t.TempDir(), "tenants.yml")}
	require.NoError(t, os.WriteFile(f.name, []byte(content), 0o600))
	return f
}

func (f tenantsFile) content() string {
	f.t.Helper()
	b, err := os.ReadFile(f.name)
	require.NoError(f.t, err)
	return string(b)
}

// weir runs a command that must end with code; it returns what it printed.
func (f tenantsFile) weir(code int, args ...string) (stdout, stderr string) {
	f.t.Helper()
	var out, errs bytes.Buffer
	got := run(f.t.Context(), append([]string{"-tenants.file", f.name}, args...), env(nil), &out, &errs)
	require.Equal(f.t, code, got, "%s", &errs)
	return out.String(), errs.String()
}

const platform = `# tenants of the platform

plans:
  gold:   # for those who pay
    limits: {past_grace: 30d}

tenants:
  # the first
  team-a: {plan: gold}

  team-b:
    limits:
      max_exemplars: 5
`

func TestTenantCommands(t *testing.T) {
	f := newTenantsFile(t, platform)
	f.weir(0, "tenant", "create", "team-c", "-plan", "gold")
	f.weir(0, "tenant", "suspend", "team-a")
	f.weir(0, "tenant", "suspend", "team-b", "-state=held")
	out, _ := f.weir(0, "tenant", "list")
	require.Equal(t, `TENANT  PLAN  STATE      SETS ITSELF
team-a  gold  suspended  state
team-b        held       limits.max_exemplars, state
team-c  gold  active
`, out)
	require.Equal(t, `# tenants of the platform

plans:
  gold:   # for those who pay
    limits: {past_grace: 30d}

tenants:
  # the first
  team-a: {plan: gold, state: suspended}

  team-b:
    limits:
      max_exemplars: 5
    state: held
  team-c:
    plan: gold
`, f.content())

	f.weir(0, "tenant", "resume", "team-a")
	out, _ = f.weir(0, "tenant", "delete", "team-b")
	require.Contains(t, out, "It is still served")
	out, _ = f.weir(0, "tenants", "check")
	require.Contains(t, out, "is valid: 2 tenants, 0 credentials")
	require.NotContains(t, f.content(), "team-b")
	require.Contains(t, f.content(), "state: active")
}

func TestTenantsRollback(t *testing.T) {
	f := newTenantsFile(t, platform)
	_, stderr := f.weir(1, "tenants", "rollback")
	require.Contains(t, stderr, "no version is kept that was before this one")
	f.weir(0, "token", "create", "team-a", "-id", "x")
	f.weir(0, "token", "revoke", "x")
	revoked := f.content()
	f.weir(1, "limits", "set", "team-a", "max_exemplars=-1") // is no edit
	out, _ := f.weir(0, "tenants", "rollback")
	require.Regexp(t, `(?s)is as it was before the last change: version [0-9a-f]{64} in place of [0-9a-f]{64}
something else holds for 0 of the tenants in it
these credentials are what they were before, with secrets that may have been revoked: x
$`, out)
	require.Contains(t, f.content(), "id: x")
	out, _ = f.weir(0, "tenants", "rollback")
	require.NotContains(t, out, "credentials")
	require.Equal(t, revoked, f.content())
	require.NoError(t, os.WriteFile(f.name, []byte(platform), 0o600))
	_, stderr = f.weir(1, "tenants", "rollback")
	require.Contains(t, stderr, "somebody else has since")
	require.Equal(t, platform, f.content())
}

func TestTenantCommandsThatFail(t *testing.T) {
	f := newTenantsFile(t, platform)
	for _, tc := range []struct{ command, want string }{
		{"tenant create team-a", `there is a tenant "team-a" already`},
		{"tenant create a/b", "tenants.a/b: must be a tenant id"},
		{"tenant create x -plan silver", `tenants.x.plan: "silver": must be a plan of this file`},
		{"tenant suspend x", `there is no tenant "x"`},
		{"tenant suspend team-a -state asleep", `tenants.team-a.state: "asleep": must be one of`},
		{"tenant delete x", `there is no tenant "x"`},
		{"token revoke x", `there is no credential "x"`},
		{"token rotate x", `there is no credential "x"`},
		{"limits set team-a max_exemplar=5", "unknown key"},
		{"limits set team-a max_exemplars=x", `tenants.team-a.limits.max_exemplars: "x": must be a whole number`},
		{"limits set team-a max_exemplars=[", "is not a YAML value"},
		{"limits set team-a max_exemplars", "must be PATH=VALUE"},
		{"limits set team-a plan.x=5", "plan is no mapping"},
		{"limits set -plan silver max_exemplars=5", `there is no plan "silver"`},
		{"limits unset team-a max_exemplars", "tenant team-a does not set limits.max_exemplars itself"},
	} {
		t.Run(tc.command, func(t *testing.T) {
			_, stderr := f.weir(1, strings.Fields(tc.command)...)
			require.Contains(t, stderr, tc.want)
			require.Equal(t, platform, f.content())
		})
	}
	left, err := os.ReadDir(filepath.Dir(f.name))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing lies beside it")
}

func TestTenantCommandsWithoutFile(t *testing.T) {
	for _, command := range []string{"tenants check", "tenants rollback", "tenant list", "tenant create a", "limits get a"} {
		var stdout, stderr bytes.Buffer
		require.NotZero(t, run(t.Context(), strings.Fields(command), env(nil), &stdout, &stderr), command)
		require.Contains(t, stderr.String(), "there is no tenants file: name one by -tenants.file", command)
	}
	f := tenantsFile{t, filepath.Join(t.TempDir(), "new.yml")}
	f.weir(0, "tenant", "create", "a")
	require.Equal(t, "tenants:\n  a: {}\n", f.content(), "it is made")
}

// TestIssuersOfCredentials: what is checked and edited with the configuration of a
// weir may be for tokens of its issuers alone; without, nobody knows them.
func TestIssuersOfCredentials(t *testing.T) {
	const file = "tenants: {a: {}}\ncredentials:\n- {id: c, tenants: [a], scopes: [read], jwt: {issuer: https://sso.example.com/, claims: {aud: [weir]}}}\n"
	f := newTenantsFile(t, file)
	config := func(auth string) string {
		name := filepath.Join(t.TempDir(), "weir.yml")
		require.NoError(t, os.WriteFile(name, []byte("auth: "+auth), 0o600))
		return name
	}
	issuers := "{mode: required, issuers: [{url: %s, audiences: [weir]}, {url: https://b.example.com, audiences: [weir]}]}"
	good, other := config(fmt.Sprintf(issuers, "https://sso.example.com/")), config(fmt.Sprintf(issuers, "https://sso.example.com"))
	none, header := config("{mode: required}"), config("{mode: header}")

	f.weir(0, "tenants", "check")
	f.weir(0, "tenants", "check", "-config.file", good)
	f.weir(0, "tenants", "check", "-config.file", header)
	_, stderr := f.weir(2, "tenants", "check", "-config.file", other)
	require.Contains(t, stderr, f.name+`:3: credentials[0].jwt.issuer: "https://sso.example.com/": must be the url of one of auth.issuers, which are https://sso.example.com, https://b.example.com`)
	_, stderr = f.weir(2, "tenants", "check", "-config.file", none)
	require.Contains(t, stderr, "must be the url of one of auth.issuers, of which there is none")
	_, stderr = f.weir(1, "-config.file", other, "-data.dir", t.TempDir(), "-http.listen=127.0.0.1:0", "-admin.listen=")
	require.Contains(t, stderr, "credentials[0].jwt.issuer", "nor does it start")
	f.weir(1, "tenant", "create", "b", "-config.file", other)
	require.Equal(t, file, f.content())
	f.weir(0, "tenant", "create", "b", "-config.file", good)
}

func TestTenantsCheck(t *testing.T) {
	f := newTenantsFile(t, "tenants: {a: {limits: {max_exemplars: -1}, stat: held}}")
	_, stderr := f.weir(2, "tenants", "check")
	require.Equal(t, "weir: the tenants file is not valid:\n"+f.name+":1: tenants.a.stat: unknown key: did you mean state?\n"+
		f.name+":1: tenants.a.limits.max_exemplars: -1: must not be negative\n", stderr)
	other := newTenantsFile(t, platform)
	out, _ := f.weir(0, "tenants", "check", other.name)
	require.Contains(t, out, other.name+" is valid: 2 tenants")
}

func TestLimitsCommands(t *testing.T) {
	f := newTenantsFile(t, platform)
	get := func(tenant, path string) string {
		out, _ := f.weir(0, "limits", "get", tenant)
		match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(path) + ` +(.*)$`).FindStringSubmatch(out)
		require.NotNil(t, match, out)
		return regexp.MustCompile(` +`).ReplaceAllString(match[1], " ")
	}
	f.weir(0, "limits", "set", "team-a", "max_exemplars=7", "limits.past_grace=60d", "state=held")
	require.Equal(t, "7 tenant", get("team-a", "limits.max_exemplars"))
	require.Equal(t, "60d tenant", get("team-a", "limits.past_grace"))
	require.Equal(t, "held tenant", get("team-a", "state"))
	require.Equal(t, "100000 default", get("somebody", "limits.max_exemplars"))

	f.weir(0, "limits", "unset", "team-a", "past_grace", "max_exemplars", "state")
	require.Equal(t, platform, f.content(), "as it was")
	require.Equal(t, "30d plan gold", get("team-a", "limits.past_grace"))

	f.weir(0, "limits", "set", "-plan", "gold", "max_exemplars=9")
	require.Equal(t, "9 plan gold", get("team-a", "limits.max_exemplars"))
	f.weir(0, "limits", "unset", "-plan", "gold", "max_exemplars")
	require.Equal(t, platform, f.content())
}

func TestTokenCommands(t *testing.T) {
	f := newTenantsFile(t, platform)
	secret, note := f.weir(0, "token", "create", "team-a", "-scopes=write,read", "-expires=90d")
	require.Contains(t, note, "credential team-a-write-read created")
	require.Regexp(t, `^weir_[A-Za-z0-9_-]{43,}\n$`, secret, "and nothing else: for scripts")
	hash := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	require.Contains(t, f.content(), hex.EncodeToString(hash[:]))
	require.NotContains(t, f.content(), strings.TrimSpace(secret))
	f.weir(1, "token", "create", "team-a", "-scopes=write,read")

	list := func() []string {
		out, _ := f.weir(0, "token", "list")
		return strings.Split(strings.TrimSpace(out), "\n")[1:]
	}
	inDays := func(days int) string {
		return time.Now().AddDate(0, 0, days).UTC().Format("2006-01-02T")
	}
	require.Len(t, list(), 1)
	require.Contains(t, list()[0], "team-a-write-read  team-a   write,read  "+hex.EncodeToString(hash[:4])+"  valid  "+inDays(90))

	second, _ := f.weir(0, "token", "rotate", "team-a-write-read", "-grace=2d")
	require.NotEqual(t, secret, second)
	require.Len(t, list(), 2)
	require.Contains(t, list()[0], hex.EncodeToString(hash[:4])+"  valid  "+inDays(2))
	require.Contains(t, list()[1], "valid  never")

	f.weir(0, "token", "rotate", "team-a-write-read", "-grace=0s")
	require.Len(t, list(), 1, "those without grace are gone")

	f.weir(0, "token", "create", "team-a", "team-b", "-id", "both")
	f.weir(0, "tenant", "delete", "team-a")
	require.Len(t, list(), 1, "who owned nothing else went with it")
	require.Contains(t, list()[0], "both        team-b   write")
	f.weir(0, "token", "revoke", "both")
	require.Empty(t, list())
}
