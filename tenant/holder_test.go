package tenant

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/proto"
)

// tokensOf verifies tokens of issuers until the test ends.
func tokensOf(t testing.TB, issuers ...*harness.Issuer) *oidc.Verifier {
	t.Helper()
	var list []oidc.Issuer
	for _, i := range issuers {
		list = append(list, oidc.Issuer{URL: i.URL, Audiences: []string{"weir"}})
	}
	v, err := oidc.New(list, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return v
}

func bearer(token string, more ...string) []string {
	return append([]string{"Authorization", "Bearer " + token}, more...)
}

func TestTokensOfIssuers(t *testing.T) {
	sso, other := harness.NewIssuer(t), harness.NewIssuer(t)
	secret, entry := held("", "")
	d := ofMode(t, ModeRequired, Auth{Tokens: tokensOf(t, sso, other)},
		Credential{
			ID: "a-leads", Tenants: []string{"a"}, Scopes: []string{"read", "rules"},
			JWT: &TokenMatch{sso.URL, map[string][]string{"groups": {"/a/leads"}}},
		},
		Credential{
			ID: "groups", Tenants: []string{"{tenant}"}, Scopes: []string{"read"},
			JWT: &TokenMatch{sso.URL, map[string][]string{"groups": {"/{tenant}", "/{tenant}/*"}}},
		},
		Credential{
			ID: "machines", Tenants: []string{"prod-{tenant}", "shared"}, Scopes: []string{"write"}, AllowedCIDRs: []string{"192.0.2.0/24"},
			JWT:     &TokenMatch{sso.URL, map[string][]string{"kubernetes.io.namespace": {"{tenant}"}, "scope": {"weir.write"}}},
			Secrets: []Secret{entry},
		},
		Credential{
			ID: "numbered", Tenants: []string{"org-{tenant}"}, Scopes: []string{"read"},
			JWT: &TokenMatch{sso.URL, map[string][]string{"https://example/org.id": {"{tenant}"}, "email_verified": {"true"}}},
		},
		Credential{
			ID: "partner", Tenants: []string{"p"}, Scopes: []string{"read"},
			JWT: &TokenMatch{other.URL, map[string][]string{"aud": {"weir"}}},
		},
	)
	inGroups := func(groups ...string) string { return sso.Token(map[string]any{"groups": groups}) }
	machine := func(namespace, scope string) string {
		return sso.Token(map[string]any{"kubernetes.io": map[string]any{"namespace": namespace}, "scope": scope})
	}
	require.Eventually(t, func() bool {
		_, one := d.Authenticate(request(bearer(inGroups("/a"))...), ScopeRead)
		_, two := d.Authenticate(request(bearer(other.Token(nil))...), ScopeRead)
		return one == nil && two == nil
	}, 10*time.Second, 10*time.Millisecond)

	const forbidden, scope, unmapped = "weir-tenant-forbidden", "weir-scope-missing", "weir-credential-unmapped"
	for _, tc := range []struct {
		name    string
		headers []string
		need    Scope
		id      string // weir-ok unless it is said
		tenant  string
		who     string
	}{
		{name: "one group", headers: bearer(inGroups("/b")), need: ScopeRead, tenant: "b", who: "groups"},
		{name: "group as a string", headers: bearer(sso.Token(map[string]any{"groups": "/b"})), need: ScopeRead, tenant: "b", who: "groups"},
		{name: "chosen of several", headers: bearer(inGroups("/b", "/c"), Header, "c"), need: ScopeRead, tenant: "c", who: "groups"},
		{name: "which of several", headers: bearer(inGroups("/b", "/c")), need: ScopeRead, id: "weir-tenant-ambiguous"},
		{name: "of others", headers: bearer(inGroups("/b"), Header, "a"), need: ScopeRead, id: forbidden, tenant: "b"},
		{name: "a group that is no tenant", headers: bearer(inGroups("/__x", "/..")), need: ScopeRead, id: unmapped},
		{name: "the first that has it", headers: bearer(inGroups("/a/leads", "/b"), Header, "a"), need: ScopeRead, tenant: "a", who: "a-leads"},
		{name: "rules by the one", headers: bearer(inGroups("/a/leads", "/b"), Header, "a"), need: ScopeRules, tenant: "a", who: "a-leads"},
		{name: "not for another's tenant", headers: bearer(inGroups("/a/leads", "/b"), Header, "b"), need: ScopeRules, id: scope, tenant: "b"},
		{name: "no group", headers: bearer(sso.Token(nil)), need: ScopeRead, id: unmapped},

		{name: "nested claim, scopes in one string", headers: bearer(machine("x", "openid weir.write"), Header, "prod-x"), need: ScopeWrite, tenant: "prod-x", who: "machines"},
		{name: "a tenant of everybody", headers: bearer(machine("x", "weir.write"), Header, "shared"), need: ScopeWrite, tenant: "shared", who: "machines"},
		{name: "one claim of two", headers: bearer(machine("x", "openid"), Header, "prod-x"), need: ScopeWrite, id: unmapped},
		{name: "to read", headers: bearer(machine("x", "weir.write"), Header, "prod-x"), need: ScopeRead, id: scope, tenant: "prod-x"},
		{name: "a secret owns what needs no name", headers: bearer(secret), need: ScopeWrite, tenant: "shared", who: "machines"},
		{name: "and no more", headers: bearer(secret, Header, "prod-x"), need: ScopeWrite, id: forbidden, tenant: "shared"},
		{name: "numbers, booleans, names with dots", headers: bearer(sso.Token(map[string]any{"https://example/org.id": 42, "email_verified": true})), need: ScopeRead, tenant: "org-42", who: "numbered"},
		{name: "not true", headers: bearer(sso.Token(map[string]any{"https://example/org.id": 42, "email_verified": false})), need: ScopeRead, id: unmapped},

		{name: "by basic auth", headers: []string{"Authorization", basic("b", inGroups("/b", "/c"))}, need: ScopeRead, tenant: "b", who: "groups"},
		{name: "by basic auth, as another", headers: []string{"Authorization", basic("z", inGroups("/b"))}, need: ScopeRead, id: "weir-credential-invalid", tenant: "b"},
		{name: "another issuer", headers: bearer(other.Token(nil)), need: ScopeRead, tenant: "p", who: "partner"},
		{name: "claims of another issuer", headers: bearer(other.Token(map[string]any{"groups": "/b"}), Header, "b"), need: ScopeRead, id: forbidden, tenant: "p"},

		{name: "Grafana, opaque access token", headers: bearer("ya29.opaque", "X-Id-Token", inGroups("/b")), need: ScopeRead, tenant: "b", who: "groups"},
		{name: "Grafana, access token for another audience", headers: bearer(sso.Token(map[string]any{"aud": "graph"}), "X-Id-Token", inGroups("/b")), need: ScopeRead, tenant: "b", who: "groups"},
		{name: "Grafana, no ID token", headers: bearer(inGroups("/b")), need: ScopeRead, tenant: "b", who: "groups"},
		{name: "ID token alone", headers: []string{"X-Id-Token", inGroups("/b")}, need: ScopeRead, id: "weir-credential-missing"},
		{name: "ID token beside a secret of ours", headers: bearer(secret, "X-Id-Token", inGroups("/b"), Header, "b"), need: ScopeRead, id: forbidden, tenant: "shared"},

		{name: "expired", headers: bearer(sso.Token(map[string]any{"exp": 1})), need: ScopeRead, id: "weir-credential-expired"},
		{name: "forged", headers: bearer(inGroups("/b") + "AAAA"), need: ScopeRead, id: "weir-credential-invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			who, err := d.Authenticate(request(tc.headers...), tc.need)
			if tc.id == "" {
				require.NoError(t, err)
				require.Equal(t, tc.tenant, who.Tenant)
				require.Equal(t, tc.who, who.Credential)
				require.True(t, who.Scopes.Has(tc.need))
				if !strings.Contains(tc.headers[1], secret) {
					require.Equal(t, "alice", who.Subject)
				}
				return
			}
			require.Equal(t, tc.id, idOf(t, err))
			require.Equal(t, tc.tenant, who.Tenant)
			requireNoRights(t, who)
			require.NotContains(t, err.Error(), "eyJ")
		})
	}

	t.Run("not from elsewhere", func(t *testing.T) {
		hr := request(bearer(machine("x", "weir.write"), Header, "prod-x")...)
		hr.RemoteAddr = "198.51.100.1:1"
		_, err := d.Authenticate(hr, ScopeWrite)
		require.Equal(t, "weir-source-forbidden", idOf(t, err))
	})
	t.Run("a rule that is gone, at once", func(t *testing.T) {
		hr := request(bearer(inGroups("/b"))...)
		_, err := d.Authenticate(hr, ScopeRead)
		require.NoError(t, err)
		d.SetCredentials(nil)
		_, err = d.Authenticate(hr, ScopeRead)
		require.Equal(t, unmapped, idOf(t, err))
	})
}

// TestForgedTokensAreThrottled, as unknown secrets are, and valid ones are not.
func TestForgedTokensAreThrottled(t *testing.T) {
	sso := harness.NewIssuer(t)
	d := ofMode(t, ModeRequired, Auth{Tokens: tokensOf(t, sso)}, Credential{
		ID: "c", Tenants: []string{"a"}, Scopes: []string{"read"}, JWT: &TokenMatch{sso.URL, map[string][]string{"sub": {"alice"}}},
	})
	good := request(bearer(sso.Token(nil))...)
	require.Eventually(t, func() bool {
		_, err := d.Authenticate(good, ScopeRead)
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	forged := request(bearer(sso.Token(nil) + "AAAA")...)
	ids := map[string]int{}
	for range 2 * failureBurst {
		_, err := d.Authenticate(forged, ScopeRead)
		ids[idOf(t, err)]++
	}
	require.GreaterOrEqual(t, ids["weir-credential-invalid"], failureBurst)
	require.Positive(t, ids["weir-auth-throttled"])
	_, err := d.Authenticate(good, ScopeRead)
	require.NoError(t, err)
}

// TestTokenWithoutKeys: who cannot be judged is told to come back, since a
// Prometheus drops what is answered 401.
func TestTokenWithoutKeys(t *testing.T) {
	sso := harness.NewIssuer(t)
	sso.SetDown(true)
	d := ofMode(t, ModeRequired, Auth{Tokens: tokensOf(t, sso)})
	_, err := d.Authenticate(request(bearer(sso.Token(nil))...), ScopeWrite)
	require.Equal(t, "weir-issuer-unavailable", idOf(t, err))
	require.Equal(t, proto.KindUnavailable, proto.KindOf(err))
}

// shown is a request over a connection whose client showed a certificate.
func shown(cert *x509.Certificate, verified bool, headers ...string) *http.Request {
	hr := request(headers...)
	hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	if verified {
		hr.TLS.VerifiedChains = [][]*x509.Certificate{{cert}}
	}
	return hr
}

func TestCertificates(t *testing.T) {
	ca := harness.NewCA(t, "clients")
	secret, entry := held("", "")
	d := ofMode(t, ModeRequired, Auth{},
		Credential{
			ID: "agents", Tenants: []string{"{tenant}"}, Scopes: []string{"write"},
			Certificate: &CertificateMatch{URI: []string{"spiffe://prod/ns/{tenant}/sa/agent"}},
		},
		Credential{
			ID: "office", Tenants: []string{"a", "b"}, Scopes: []string{"read", "write"},
			Certificate: &CertificateMatch{OU: []string{"office"}, DNS: []string{"*.office.example", "office.example"}},
		},
		Credential{ID: "named", Tenants: []string{"c"}, Scopes: []string{"read"}, Certificate: &CertificateMatch{CN: []string{"bob"}}},
		Credential{ID: "by-secret", Tenants: []string{"s"}, Scopes: []string{"write"}, Secrets: []Secret{entry}},
	)
	spiffe := func(path string) x509.Certificate {
		u, err := url.Parse("spiffe://" + path)
		require.NoError(t, err)
		return x509.Certificate{URIs: []*url.URL{u}}
	}
	office := func(dns, ou string) x509.Certificate {
		return x509.Certificate{DNSNames: []string{dns}, Subject: pkix.Name{OrganizationalUnit: []string{ou}}}
	}
	for _, tc := range []struct {
		name       string
		cert       x509.Certificate
		unverified bool
		headers    []string
		need       Scope
		id         string
		tenant     string
		who        string
		subject    string
	}{
		{name: "spiffe", cert: spiffe("prod/ns/a/sa/agent"), need: ScopeWrite, tenant: "a", who: "agents", subject: "spiffe://prod/ns/a/sa/agent"},
		{name: "another trust domain", cert: spiffe("dev/ns/a/sa/agent"), need: ScopeWrite, id: "weir-credential-unmapped"},
		{name: "another account", cert: spiffe("prod/ns/a/sa/x/sa/agent"), need: ScopeWrite, id: "weir-credential-unmapped"},
		{name: "not verified", cert: spiffe("prod/ns/a/sa/agent"), unverified: true, need: ScopeWrite, id: "weir-credential-missing"},
		{name: "a tenant of others", cert: spiffe("prod/ns/a/sa/agent"), headers: []string{Header, "b"}, need: ScopeWrite, id: "weir-tenant-forbidden"},
		{name: "no scope", cert: spiffe("prod/ns/a/sa/agent"), need: ScopeRead, id: "weir-scope-missing"},
		{name: "all lists", cert: office("pc-1.office.example", "office"), headers: []string{Header, "b"}, need: ScopeRead, tenant: "b", who: "office", subject: "OU=office"},
		{name: "one list of two", cert: office("pc-1.office.example", "shop"), need: ScopeRead, id: "weir-credential-unmapped"},
		{name: "the other", cert: office("pc-1.shop.example", "office"), need: ScopeRead, id: "weir-credential-unmapped"},
		{name: "which of two", cert: office("office.example", "office"), need: ScopeRead, id: "weir-tenant-ambiguous"},
		{name: "common name", cert: x509.Certificate{Subject: pkix.Name{CommonName: "bob"}}, need: ScopeRead, tenant: "c", who: "named", subject: "CN=bob"},
		{name: "a secret goes first", cert: spiffe("prod/ns/a/sa/agent"), headers: bearer(secret), need: ScopeWrite, tenant: "s", who: "by-secret"},
		{name: "also a wrong one", cert: spiffe("prod/ns/a/sa/agent"), headers: bearer("hunter2"), need: ScopeWrite, id: "weir-credential-invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hr := shown(ca.Pair(tc.cert).Leaf, !tc.unverified, tc.headers...)
			for range 2 { // the second time it is remembered
				who, err := d.Authenticate(hr, tc.need)
				if tc.id != "" {
					require.Equal(t, tc.id, idOf(t, err))
					continue
				}
				require.NoError(t, err)
				require.Equal(t, tc.tenant, who.Tenant)
				require.Equal(t, tc.who, who.Credential)
				require.Equal(t, tc.subject, who.Subject)
			}
		})
	}

	t.Run("the credential is taken away", func(t *testing.T) {
		hr := shown(ca.Pair(spiffe("prod/ns/a/sa/agent")).Leaf, true)
		_, err := d.Authenticate(hr, ScopeWrite)
		require.NoError(t, err)
		d.SetCredentials(nil)
		_, err = d.Authenticate(hr, ScopeWrite)
		require.Equal(t, "weir-credential-unmapped", idOf(t, err))
	})
}

// TestGrantsAreNotAddedUp: who has two grants for a tenant gets what one binds, or
// the other, and not the scopes of both.
func TestGrantsAreNotAddedUp(t *testing.T) {
	ca := harness.NewCA(t, "clients")
	by := &CertificateMatch{CN: []string{"bob"}}
	d := ofMode(t, ModeRequired, Auth{},
		Credential{ID: "bound", Tenants: []string{"a"}, Scopes: []string{"write"}, Labels: []BoundLabel{{Name: "env", Value: "dev"}}, Certificate: by},
		Credential{ID: "reads", Tenants: []string{"a", "b"}, Scopes: []string{"read"}, Certificate: by},
		Credential{ID: "all", Tenants: []string{"b"}, Scopes: []string{"read", "write"}, Certificate: by},
	)
	cert := ca.Pair(x509.Certificate{Subject: pkix.Name{CommonName: "bob"}}).Leaf
	for _, tc := range []struct {
		tenant string
		need   Scope
		who    string
		bound  bool
	}{{"a", ScopeWrite, "bound", true}, {"a", ScopeRead, "reads", false}, {"b", ScopeRead, "reads", false}, {"b", ScopeWrite, "all", false}} {
		who, err := d.Authenticate(shown(cert, true, Header, tc.tenant), tc.need)
		require.NoError(t, err)
		require.Equal(t, tc.who, who.Credential)
		require.Equal(t, tc.bound, who.Bound != nil)
	}
	_, err := d.Authenticate(shown(cert, true, Header, "a"), ScopeRules)
	require.Equal(t, "weir-scope-missing", idOf(t, err))
	require.ErrorContains(t, err, "the credential bound ")
	cs, errs := NewCredentials("credentials", d.Credentials().list, d.Credentials())
	require.Empty(t, errs)
	require.Same(t, d.Credentials().rules[""][0].of.who.Bound, cs.rules[""][0].of.who.Bound, "verdicts are remembered under it")
}

func TestMatchViolations(t *testing.T) {
	jwt := func(claims map[string][]string) *TokenMatch { return &TokenMatch{"https://sso", claims} }
	_, entry := held("", "")
	for _, tc := range []struct {
		name string
		cred Credential
		want string
	}{
		{"no issuer", Credential{Tenants: []string{"a"}, JWT: &TokenMatch{"", map[string][]string{"sub": {"a"}}}}, `c[0].jwt.issuer: "": must be the url`},
		{"every token", Credential{Tenants: []string{"a"}, JWT: jwt(nil)}, `c[0].jwt.claims: "": must say at least one form`},
		{"every token, by an empty list", Credential{Tenants: []string{"a"}, JWT: jwt(map[string][]string{"sub": {}})}, `c[0].jwt.claims`},
		{"nothing of a claim", Credential{Tenants: []string{"a"}, JWT: jwt(map[string][]string{"groups": nil, "sub": {"a"}})}, `c[0].jwt.claims.groups: "": must have a form`},
		{"every certificate", Credential{Tenants: []string{"a"}, Certificate: &CertificateMatch{}}, `c[0].certificate: "": must say at least one form`},
		{"a form", Credential{Tenants: []string{"a"}, Certificate: &CertificateMatch{DNS: []string{"a", "{b}"}}}, `c[0].certificate.dns[1]: "{b}": must have no braces`},
		{"found and not used", Credential{Tenants: []string{"a"}, JWT: jwt(map[string][]string{"sub": {"{tenant}"}})}, `c[0].tenants: "a": must have {tenant}`},
		{"used and not found", Credential{Tenants: []string{"{tenant}"}, JWT: jwt(map[string][]string{"sub": {"a"}})}, `c[0].tenants: "{tenant}": must have {tenant} where`},
		{"found in two claims", Credential{Tenants: []string{"{tenant}"}, JWT: jwt(map[string][]string{"org": {"{tenant}"}, "groups": {"/{tenant}/admins"}})}, `c[0].tenants: "{tenant}": must be found in one list of names: it has {tenant} in 2`},
		{"found in two names", Credential{Tenants: []string{"{tenant}"}, Certificate: &CertificateMatch{DNS: []string{"{tenant}.example"}, OU: []string{"{tenant}"}}}, `must be found in one list of names`},
		{"nowhere to be found", Credential{Tenants: []string{"{tenant}"}}, `c[0].tenants: "{tenant}": must have no {tenant} without`},
		{"a secret has no name", Credential{Tenants: []string{"{tenant}"}, Secrets: []Secret{entry}, JWT: jwt(map[string][]string{"sub": {"{tenant}"}})}, `c[0].secrets: "": must be of a credential that names a tenant`},
		{"a tenant around it", Credential{Tenants: []string{"__{tenant}"}, JWT: jwt(map[string][]string{"sub": {"{tenant}"}})}, `must be a tenant id`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cred.ID, tc.cred.Scopes = "id", []string{"read"}
			_, errs := NewCredentials("c", []Credential{tc.cred}, nil)
			require.NotEmpty(t, errs)
			require.ErrorContains(t, errs[0], tc.want)
		})
	}
}

// TestRememberedPinsNoVersion: who is known by a certificate, and does not come
// again, keeps nothing of the file alive but what is for him.
func TestRememberedPinsNoVersion(t *testing.T) {
	list := []Credential{{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Certificate: &CertificateMatch{CN: []string{"bob"}}}}
	d := ofMode(t, ModeRequired, Auth{}, list...)
	hr := shown(harness.NewCA(t, "clients").Pair(x509.Certificate{Subject: pkix.Name{CommonName: "bob"}}).Leaf, true)
	_, err := d.Authenticate(hr, ScopeWrite)
	require.NoError(t, err)
	before := weak.Make(d.Credentials())
	cs, errs := NewCredentials("credentials", list, d.Credentials())
	require.Empty(t, errs)
	d.SetCredentials(cs)
	runtime.GC()
	require.Nil(t, before.Value())
	_, err = d.Authenticate(hr, ScopeWrite)
	require.NoError(t, err)
}

// TestAuditNamesTheSubject: once an hour, whatever token or certificate it shows,
// across versions of the credentials.
func TestAuditNamesTheSubject(t *testing.T) {
	var out bytes.Buffer
	list := []Credential{{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Certificate: &CertificateMatch{CN: []string{"bob"}}}}
	d := ofMode(t, ModeRequired, Auth{Audit: audit.New(slog.NewJSONHandler(&out, nil), nil)}, list...)
	ca := harness.NewCA(t, "clients")
	for range 3 {
		cert := ca.Pair(x509.Certificate{Subject: pkix.Name{CommonName: "bob"}}).Leaf
		_, err := d.Authenticate(shown(cert, true), ScopeWrite)
		require.NoError(t, err)
		cs, errs := NewCredentials("credentials", list, d.Credentials())
		require.Empty(t, errs)
		d.SetCredentials(cs)
	}
	var r struct{ Event, Credential, Subject, Tenant string }
	require.NoError(t, json.Unmarshal(out.Bytes(), &r), "one record: %s", &out)
	require.Equal(t, "used c CN=bob a", strings.Join([]string{r.Event, r.Credential, r.Subject, r.Tenant}, " "))
}

// TestCertificatesAreBounded, whatever CAs issue.
func TestCertificatesAreBounded(t *testing.T) {
	var c certificates
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for m := range maxCertificates {
				c.remember([32]byte{byte(n), byte(m), byte(m >> 8)}, &memo{})
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, len(c.byHash), maxCertificates)
	var u uses
	for n := range 2*maxUses + 1 {
		require.Same(t, u.of("a", fmt.Sprint(n)), u.of("a", fmt.Sprint(n)))
		require.LessOrEqual(t, len(u.byName), maxUses)
	}
}

// BenchmarkHolder: what authentication costs for a token of an issuer and for a
// certificate that were seen before.
func BenchmarkHolder(b *testing.B) {
	sso := harness.NewIssuer(b)
	list := []Credential{{
		ID: "people", Tenants: []string{"{tenant}"}, Scopes: []string{"write"},
		JWT:         &TokenMatch{sso.URL, map[string][]string{"groups": {"/teams/{tenant}"}}},
		Certificate: &CertificateMatch{URI: []string{"spiffe://prod/ns/{tenant}/sa/agent"}},
	}}
	d := ofMode(b, ModeRequired, Auth{Tokens: tokensOf(b, sso), Registry: prometheus.NewRegistry()}, list...)
	ca := harness.NewCA(b, "clients")
	var groups []string
	for n := range 30 {
		groups = append(groups, fmt.Sprintf("/teams/team-%d", n))
	}
	var tokens, certs []*http.Request
	for n := range 100 {
		token := sso.Token(map[string]any{"sub": fmt.Sprint(n), "groups": groups})
		tokens = append(tokens, request(bearer(token, Header, "team-7")...))
		u := &url.URL{Scheme: "spiffe", Host: "prod", Path: fmt.Sprintf("/ns/team-%d/sa/agent", n)}
		certs = append(certs, shown(ca.Pair(x509.Certificate{URIs: []*url.URL{u}}).Leaf, true))
	}
	require.Eventually(b, func() bool {
		_, err := d.Authenticate(tokens[0], ScopeWrite)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	for _, bc := range []struct {
		name     string
		requests []*http.Request
	}{{"token", tokens}, {"certificate", certs}} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if _, err := d.Authenticate(bc.requests[n%len(bc.requests)], ScopeWrite); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
