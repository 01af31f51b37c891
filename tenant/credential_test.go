package tenant

import (
	"encoding/base64"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewSecret(t *testing.T) {
	pattern := regexp.MustCompile("^" + SecretPattern + "$")
	seen := map[string]bool{}
	for range 100 {
		secret, hash := NewSecret()
		require.Regexp(t, pattern, secret)
		require.True(t, looksLikeSecret(secret))
		require.True(t, intact(secret))
		require.Equal(t, hash, hashOf(secret))
		require.Len(t, hash.String(), 64)
		require.False(t, seen[secret])
		seen[secret] = true
	}
}

func TestHashIsThatOfOtherTools(t *testing.T) {
	// printf %s weir_AAA…A | sha256sum
	require.Equal(t, "99d25c29f4611d22ef0c40244807548cbcc3df66a096852ada8efb9e58713c07",
		hashOf("weir_"+strings.Repeat("A", 48)).String())
}

// TestDamagedSecret: whatever single character is lost or changed shows, without a
// look at what secrets there are.
func TestDamagedSecret(t *testing.T) {
	secret, _ := NewSecret()
	for i := len(secretPrefix); i < len(secret); i++ {
		other := byte('A')
		if secret[i] == other {
			other = 'B'
		}
		damaged := secret[:i] + string(other) + secret[i+1:]
		require.False(t, looksLikeSecret(damaged) && intact(damaged), damaged)
		require.False(t, looksLikeSecret(secret[:i]+secret[i+1:]))
	}
	for _, c := range []string{"!", "\n", "\r", "é", "\x00", "="} { // base64 skips line breaks
		require.False(t, intact((secretPrefix + strings.Repeat(c, 48))[:secretLength]))
		require.False(t, intact((secret[:40] + strings.Repeat(c, 48))[:secretLength]))
	}
}

func TestNewCredentialsReportsAll(t *testing.T) {
	secret, hash := NewSecret()
	good := Credential{ID: "good", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{{SHA256: hash.String()}}}
	with := func(change func(*Credential)) []Credential {
		c := good
		change(&c)
		return []Credential{c}
	}
	for _, tc := range []struct {
		name string
		list []Credential
		want []string
	}{
		{"good", []Credential{good}, nil},
		{"none", nil, nil},
		{"no secret: disabled", with(func(c *Credential) { c.Secrets = nil }), nil},
		{"only admin needs no tenant", with(func(c *Credential) { c.Tenants, c.Scopes = nil, []string{"admin"} }), nil},
		{"upper case", with(func(c *Credential) { c.Secrets = []Secret{{SHA256: strings.ToUpper(hash.String())}} }), nil},
		{"no id", with(func(c *Credential) { c.ID = "" }), []string{
			`creds[0].id: "": must be formed as a tenant id: weir-tenant-invalid: the tenant id is empty`,
		}},
		{"id with a colon", with(func(c *Credential) { c.ID = "a:b" }), []string{
			`creds[0].id: "a:b": must be formed as a tenant id: weir-tenant-invalid: the tenant id has the byte ':' at offset 1; allowed are letters, digits and !-_.*'()`,
		}},
		{"two of an id", []Credential{good, {ID: "good", Tenants: []string{"b"}, Scopes: []string{"read"}}}, []string{
			`creds[1].id: "good": must be unlike all others`,
		}},
		{"tenants", with(func(c *Credential) { c.Tenants = []string{"b", "../x", "a", "a"} }), []string{
			`creds[0].tenants[1]: "../x": must be a tenant id: weir-tenant-invalid: the tenant id has the byte '/' at offset 2; allowed are letters, digits and !-_.*'()`,
			`creds[0].tenants: "a": must be listed once`,
		}},
		{"no tenant", with(func(c *Credential) { c.Tenants, c.Scopes = nil, []string{"admin", "read"} }), []string{
			`creds[0].tenants: "": must name a tenant; only a credential for nothing but admin needs none`,
		}},
		{"scopes", with(func(c *Credential) { c.Scopes = []string{"write", "Read"} }), []string{
			`creds[0].scopes[1]: "Read": must be one of write, read, rules, admin`,
		}},
		{"no scope", with(func(c *Credential) { c.Scopes = nil }), []string{
			`creds[0].scopes: "": must have one of write, read, rules, admin`,
		}},
		{"the secret for its hash", with(func(c *Credential) { c.Secrets = []Secret{{SHA256: secret}} }), []string{
			`creds[0].secrets[0].sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret`,
		}},
		{"the secret anywhere", with(func(c *Credential) {
			c.Scopes, c.AllowedCIDRs = []string{secret}, []string{secret}
			c.Secrets = []Secret{{SHA256: hash.String(), Expires: secret}}
		}), []string{
			`creds[0].scopes[0]: "weir_...": must be one of write, read, rules, admin`,
			`creds[0].allowed_cidrs[0]: "weir_...": must be a network such as 10.0.0.0/8`,
			`creds[0].secrets[0].expires: "weir_...": must be a time such as 2026-12-31T23:00:00Z`,
		}},
		{"half a hash", with(func(c *Credential) { c.Secrets = []Secret{{SHA256: hash.String()[:62]}} }), []string{
			`creds[0].secrets[0].sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret`,
		}},
		{"two that are none", with(func(c *Credential) { c.Secrets = []Secret{{}, {}} }), []string{
			`creds[0].secrets[0].sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret`,
			`creds[0].secrets[1].sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret`,
		}},
		{"more than a hash", with(func(c *Credential) { c.Secrets = []Secret{{SHA256: hash.String() + "00"}} }), []string{
			`creds[0].secrets[0].sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret`,
		}},
		{"one secret of two", []Credential{good, {ID: "other", Tenants: []string{"b"}, Scopes: []string{"read"}, Secrets: good.Secrets}}, []string{
			`creds[1].secrets[0].sha256: "` + hash.String() + `": must be of one credential: a secret says who somebody is`,
		}},
		{"times", with(func(c *Credential) {
			c.Secrets = []Secret{{SHA256: hash.String(), NotBefore: "tomorrow", Expires: "2026-13-01"}}
		}), []string{
			`creds[0].secrets[0].not_before: "tomorrow": must be a time such as 2026-12-31T23:00:00Z`,
			`creds[0].secrets[0].expires: "2026-13-01": must be a time such as 2026-12-31T23:00:00Z`,
		}},
		{"expires before it begins", with(func(c *Credential) {
			c.Secrets = []Secret{{SHA256: hash.String(), NotBefore: "2026-12-31T23:00:00Z", Expires: "2026-12-31T23:00:00Z"}}
		}), []string{`creds[0].secrets[0].expires: "2026-12-31T23:00:00Z": must be after not_before`}},
		{"networks", with(func(c *Credential) { c.AllowedCIDRs = []string{"10.0.0.0/8", "10.0.0.1", "fd00::/8"} }), []string{
			`creds[0].allowed_cidrs[1]: "10.0.0.1": must be a network such as 10.0.0.0/8`,
		}},
		{"labels", with(func(c *Credential) {
			c.Labels = []BoundLabel{
				{Name: "env", Value: "prod", OnConflict: "merge"},
				{Name: "__name__", Value: "x"},
				{Name: "", Value: "x"},
				{Name: "team", Value: ""},
				{Name: "env", Value: "dev", OnConflict: Keep},
			}
		}), []string{
			`creds[0].labels[0].on_conflict: "merge": must be overwrite, keep or reject`,
			`creds[0].labels[1].name: "__name__": must be a label name that does not start with __`,
			`creds[0].labels[2].name: "": must be a label name that does not start with __`,
			`creds[0].labels[3].value: "": must be UTF-8 and not empty`,
			`creds[0].labels: "env": must be bound once`,
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs := NewCredentials("creds", tc.list, nil)
			var got []string
			for _, err := range errs {
				got = append(got, err.Error())
				require.NotContains(t, err.Error(), secret)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// TestBoundLabels: sorted, with the default filled in, and the same pointer for
// as long as they are the same, because verdicts are remembered under it.
func TestBoundLabels(t *testing.T) {
	_, hash := NewSecret()
	list := func(labels ...BoundLabel) []Credential {
		return []Credential{{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{{SHA256: hash.String()}}, Labels: labels}}
	}
	compile := func(before *Credentials, list []Credential) *Credentials {
		cs, errs := NewCredentials("creds", list, before)
		require.Empty(t, errs)
		return cs
	}
	bound := func(cs *Credentials) *BoundLabels { return cs.bySecret[hash].of.who.Bound }

	first := compile(nil, list(BoundLabel{Name: "team", Value: "x", OnConflict: Keep}, BoundLabel{Name: "env", Value: "prod"}))
	require.Equal(t, &BoundLabels{Labels: []BoundLabel{
		{Name: "env", Value: "prod", OnConflict: Overwrite}, {Name: "team", Value: "x", OnConflict: Keep},
	}}, bound(first))
	same := compile(first, list(BoundLabel{Name: "env", Value: "prod"}, BoundLabel{Name: "team", Value: "x", OnConflict: Keep}))
	require.Same(t, bound(first), bound(same))
	changed := compile(same, list(BoundLabel{Name: "env", Value: "prod"}))
	require.NotSame(t, bound(first), bound(changed))
	require.Nil(t, bound(compile(changed, list())))
}

// TestUseGoesOn: when a secret was used outlives the version it was used under.
func TestUseGoesOn(t *testing.T) {
	secret, hash := NewSecret()
	list := []Credential{{ID: "c", Tenants: []string{"a"}, Scopes: []string{"read"}, Secrets: []Secret{{SHA256: hash.String()}}}}
	first, _ := NewCredentials("creds", list, nil)
	now := time.Unix(1e9, 0)
	require.True(t, first.find(secret).use.at(now), "first use")
	require.False(t, first.find(secret).use.at(now.Add(usePeriod-time.Second)))
	second, _ := NewCredentials("creds", list, first)
	require.False(t, second.find(secret).use.at(now.Add(usePeriod-time.Second)))
	require.True(t, second.find(secret).use.at(now.Add(usePeriod)))
	require.Equal(t, now.Add(usePeriod).UTC(), *second.describe(now)[0].Secrets[0].LastUsed)
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
