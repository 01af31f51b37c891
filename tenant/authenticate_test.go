package tenant

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/proto"
)

// held makes a secret and its entry in the runtime file.
func held(notBefore, expires string) (string, Secret) {
	secret, hash := NewSecret()
	return secret, Secret{SHA256: hash.String(), NotBefore: notBefore, Expires: expires}
}

// ofMode returns a directory with credentials.
func ofMode(t require.TestingT, mode Mode, a Auth, list ...Credential) *Directory {
	cs, errs := NewCredentials("credentials", list, nil)
	require.Empty(t, errs)
	d := NewDirectory(mode, DefaultSettings()).WithAuth(a)
	d.SetCredentials(cs)
	return d
}

// request is one with headers, name before value.
func request(headers ...string) *http.Request {
	hr := httptest.NewRequest(http.MethodPost, "/api/v1/push", nil)
	hr.RemoteAddr = "192.0.2.1:1234"
	for i := 0; i < len(headers); i += 2 {
		hr.Header.Add(headers[i], headers[i+1])
	}
	return hr
}

// idOf is the id of an error, weir-ok for none.
func idOf(t require.TestingT, err error) string {
	if err == nil {
		return "weir-ok"
	}
	var e *proto.Error
	require.ErrorAs(t, err, &e)
	return e.ID
}

// requireNoRights wants an identity that says whose request was refused, at most.
func requireNoRights(t require.TestingT, who Identity) {
	require.Equal(t, Identity{Tenant: who.Tenant, Credential: who.Credential, Subject: who.Subject}, who)
}

func TestAuthenticateRequired(t *testing.T) {
	one, oneSecret := held("", "")
	next, nextSecret := held("", "2100-01-01T00:00:00Z")
	expired, expiredSecret := held("", "2026-01-01T00:00:00Z")
	early, earlySecret := held("2100-01-01T00:00:00+01:00", "")
	two, twoSecret := held("", "")
	reader, readerSecret := held("", "")
	operator, operatorSecret := held("", "")
	office, officeSecret := held("", "")
	namesake, namesakeSecret := held("", "")
	unknown, _ := held("", "")
	d := ofMode(t, ModeRequired, Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
		Credential{ID: "one", Tenants: []string{"a"}, Scopes: []string{"write", "read"}, Secrets: []Secret{oneSecret, nextSecret, expiredSecret, earlySecret}},
		Credential{ID: "two", Tenants: []string{"a", "b"}, Scopes: []string{"write"}, Secrets: []Secret{twoSecret}},
		Credential{ID: "reader", Tenants: []string{"a"}, Scopes: []string{"read"}, Secrets: []Secret{readerSecret}},
		Credential{ID: "operator", Scopes: []string{"admin"}, Secrets: []Secret{operatorSecret}},
		Credential{ID: "office", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{officeSecret}, AllowedCIDRs: []string{"198.51.100.0/24"}},
		Credential{ID: "b", Tenants: []string{"a", "b"}, Scopes: []string{"write"}, Secrets: []Secret{namesakeSecret}},
	)
	bearer := func(secret string, more ...string) []string {
		return append([]string{"Authorization", "Bearer " + secret}, more...)
	}
	asBasic := func(user, secret string, more ...string) []string {
		return append([]string{"Authorization", basic(user, secret)}, more...)
	}
	for _, tc := range []struct {
		name    string
		headers []string
		from    string
		need    Scope // 0: ScopeWrite
		id      string
		kind    proto.Kind
		tenant  string // also of a refusal, if it is sure
		who     string
	}{
		{name: "bearer", headers: bearer(one), tenant: "a", who: "one"},
		{name: "its successor, which will expire", headers: bearer(next), tenant: "a", who: "one"},
		{name: "scheme in another case, more blanks", headers: []string{"Authorization", "bEARER   " + one}, tenant: "a", who: "one"},
		{name: "the tenant that it owns", headers: bearer(one, Header, "a"), tenant: "a", who: "one"},
		{name: "an empty choice is none", headers: bearer(one, Header, ""), tenant: "a", who: "one"},
		{name: "one of two", headers: bearer(two, Header, "b"), tenant: "b", who: "two"},
		{name: "basic by id", headers: asBasic("one", one), tenant: "a", who: "one"},
		{name: "basic by tenant", headers: asBasic("a", one), tenant: "a", who: "one"},
		{name: "basic by tenant, one of two", headers: asBasic("b", two), tenant: "b", who: "two"},
		{name: "basic by id, header chooses", headers: asBasic("two", two, Header, "b"), tenant: "b", who: "two"},
		{name: "basic by tenant, header agrees", headers: asBasic("b", two, Header, "b"), tenant: "b", who: "two"},
		{name: "basic without a user", headers: asBasic("", one), tenant: "a", who: "one"},
		{name: "basic, credential has the name of a tenant", headers: asBasic("b", namesake), tenant: "b", who: "b"},
		{name: "the same, and header chooses another", headers: asBasic("b", namesake, Header, "a"), tenant: "a", who: "b"},
		{name: "read", headers: bearer(reader), need: ScopeRead, tenant: "a", who: "reader"},
		{name: "from an allowed network", headers: bearer(office), from: "198.51.100.9:1", tenant: "a", who: "office"},
		{name: "the same, IPv4 in IPv6", headers: bearer(office), from: "[::ffff:198.51.100.9]:1", tenant: "a", who: "office"},
		{name: "the same, behind a proxy", headers: bearer(office, "X-Forwarded-For", "198.51.100.9"), from: "203.0.113.7:1", tenant: "a", who: "office"},

		{name: "missing", id: "weir-credential-missing", kind: proto.KindUnauthenticated},
		{name: "tenant alone", headers: []string{Header, "a"}, id: "weir-credential-missing", kind: proto.KindUnauthenticated},
		{name: "unknown", headers: bearer(unknown), id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "damaged", headers: bearer(one[:52] + "!"), id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "no token at all", headers: bearer("hunter2"), id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "empty", headers: bearer(""), id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "without a scheme", headers: []string{"Authorization", one}, id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "another scheme", headers: []string{"Authorization", "Digest " + one}, id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "basic is no base64", headers: []string{"Authorization", "Basic " + one}, id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "basic without a colon", headers: []string{"Authorization", "Basic YWJj"}, id: "weir-credential-invalid", kind: proto.KindUnauthenticated},
		{name: "basic by another id", headers: asBasic("two", one), id: "weir-credential-invalid", kind: proto.KindUnauthenticated, tenant: "a"},
		{name: "basic by a tenant of others", headers: asBasic("b", one), id: "weir-credential-invalid", kind: proto.KindUnauthenticated, tenant: "a"},
		{name: "expired", headers: bearer(expired), id: "weir-credential-expired", kind: proto.KindUnauthenticated, tenant: "a"},
		{name: "not yet valid", headers: bearer(early), id: "weir-credential-early", kind: proto.KindUnauthenticated, tenant: "a"},
		{name: "two credentials", headers: bearer(one, "Authorization", "Bearer "+one), id: "weir-header-repeated", kind: proto.KindBadData},
		{name: "two in different schemes", headers: bearer(one, "Authorization", basic("one", one)), id: "weir-header-repeated", kind: proto.KindBadData},
		{name: "two tenants", headers: bearer(two, Header, "a", Header, "b"), id: "weir-tenant-invalid", kind: proto.KindBadData},
		{name: "user and header differ", headers: asBasic("a", two, Header, "b"), id: "weir-tenant-ambiguous", kind: proto.KindBadData},
		{name: "which of two", headers: bearer(two), id: "weir-tenant-ambiguous", kind: proto.KindBadData},
		{name: "which of none", headers: bearer(operator), need: ScopeAdmin, id: "weir-tenant-ambiguous", kind: proto.KindBadData},
		{name: "both of two", headers: bearer(two, Header, "a|b"), id: "weir-tenant-federation-unsupported", kind: proto.KindBadData},
		{name: "a tenant of others", headers: bearer(one, Header, "b"), id: "weir-tenant-forbidden", kind: proto.KindForbidden, tenant: "a"},
		{name: "a tenant that does not exist", headers: bearer(one, Header, "zzz"), id: "weir-tenant-forbidden", kind: proto.KindForbidden, tenant: "a"},
		{name: "a tenant that cannot exist", headers: bearer(one, Header, "../x"), id: "weir-tenant-forbidden", kind: proto.KindForbidden, tenant: "a"},
		{name: "write without the scope", headers: bearer(reader), id: "weir-scope-missing", kind: proto.KindForbidden, tenant: "a"},
		{name: "read without the scope", headers: bearer(two, Header, "a"), need: ScopeRead, id: "weir-scope-missing", kind: proto.KindForbidden, tenant: "a"},
		{name: "admin without the scope", headers: bearer(one), need: ScopeAdmin, id: "weir-scope-missing", kind: proto.KindForbidden, tenant: "a"},
		{name: "from elsewhere", headers: bearer(office), id: "weir-source-forbidden", kind: proto.KindForbidden, tenant: "a"},
		{name: "from elsewhere, which says otherwise", headers: bearer(office, "X-Forwarded-For", "198.51.100.9"), id: "weir-source-forbidden", kind: proto.KindForbidden, tenant: "a"},
		{name: "from nowhere", headers: bearer(office), from: "@", id: "weir-source-forbidden", kind: proto.KindForbidden, tenant: "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hr := request(tc.headers...)
			if tc.from != "" {
				hr.RemoteAddr = tc.from
			}
			need := tc.need
			if need == 0 {
				need = ScopeWrite
			}
			who, err := d.Authenticate(hr, need)
			if tc.id == "" {
				require.NoError(t, err)
				require.Equal(t, tc.tenant, who.Tenant)
				require.Equal(t, tc.who, who.Credential)
				require.True(t, who.Scopes.Has(need))
				return
			}
			require.Equal(t, tc.id, idOf(t, err))
			require.Equal(t, tc.kind, proto.KindOf(err))
			require.Equal(t, tc.tenant, who.Tenant)
			requireNoRights(t, who)
			for _, secret := range []string{one, two, expired, early, office, reader, operator, unknown, "hunter2"} {
				require.NotContains(t, err.Error(), secret)
			}
		})
	}

	t.Run("the process is no tenant's", func(t *testing.T) {
		who, err := d.Identify(request(bearer(operator)...), ScopeAdmin)
		require.NoError(t, err)
		require.Equal(t, Identity{Credential: "operator", Scopes: ScopeAdmin}, who)
		who, err = d.Identify(request(bearer(two)...), 0)
		require.NoError(t, err)
		require.Empty(t, who.Tenant)
		_, err = d.Identify(request(bearer(two, Header, "c")...), 0)
		require.Equal(t, "weir-tenant-forbidden", idOf(t, err))
		_, err = d.Identify(request(), 0)
		require.Equal(t, "weir-credential-missing", idOf(t, err))
		_, err = d.Identify(request(bearer(one)...), ScopeAdmin)
		require.Equal(t, "weir-scope-missing", idOf(t, err))
	})
}

// TestRequiredWithoutCredentials: nobody is let in before there is a list.
func TestRequiredWithoutCredentials(t *testing.T) {
	secret, _ := NewSecret()
	_, err := NewDirectory(ModeRequired, DefaultSettings()).Authenticate(request("Authorization", "Bearer "+secret), ScopeWrite)
	require.Equal(t, "weir-credential-invalid", idOf(t, err))
}

// TestNotOwnedTellsNothing: the answer about a tenant of others is that about one
// that there is not.
func TestNotOwnedTellsNothing(t *testing.T) {
	secret, entry := held("", "")
	d := ofMode(t, ModeRequired, Auth{},
		Credential{ID: "mine", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}},
		Credential{ID: "theirs", Tenants: []string{"exists"}, Scopes: []string{"write"}})
	_, there := d.Authenticate(request("Authorization", "Bearer "+secret, Header, "exists"), ScopeWrite)
	_, not := d.Authenticate(request("Authorization", "Bearer "+secret, Header, "missing"), ScopeWrite)
	require.Equal(t, not, there)
}

// TestNobodyBecomesAnother: whatever a request shows and names, it is served for a
// tenant that the credential with that secret owns, or not at all.
func TestNobodyBecomesAnother(t *testing.T) {
	tenants := []string{"a", "b", "c", "d"}
	scopes := []string{"write", "read", "rules", "admin"}
	rapid.Check(t, func(t *rapid.T) {
		var (
			list    []Credential
			secrets []string
			owner   = map[string]*Credential{}
		)
		for i := range rapid.IntRange(1, 4).Draw(t, "credentials") {
			secret, entry := held("", "")
			list = append(list, Credential{
				ID:      fmt.Sprint("id-", i),
				Tenants: rapid.SliceOfNDistinct(rapid.SampledFrom(tenants), 1, 3, rapid.ID).Draw(t, "tenants"),
				Scopes:  rapid.SliceOfNDistinct(rapid.SampledFrom(scopes), 1, 4, rapid.ID).Draw(t, "scopes"),
				Secrets: []Secret{entry},
			})
			secrets = append(secrets, secret)
		}
		for i, secret := range secrets {
			owner[secret] = &list[i]
		}
		d := ofMode(t, ModeRequired, Auth{}, list...)
		secret := rapid.SampledFrom(append(slices.Clone(secrets), "weir_"+strings.Repeat("A", 48), "", "x")).Draw(t, "secret")
		user := rapid.SampledFrom(append([]string{"", "id-0", "id-1", "zz"}, tenants...)).Draw(t, "user")
		hr := request("Authorization", "Bearer "+secret)
		if rapid.Bool().Draw(t, "basic") {
			hr = request("Authorization", basic(user, secret))
		}
		if chosen := rapid.SampledFrom(append([]string{"", "a|b", "zz", "../a"}, tenants...)).Draw(t, "chosen"); chosen != "" {
			hr.Header.Set(Header, chosen)
		}
		n := rapid.IntRange(0, 3).Draw(t, "need")
		who, err := d.Authenticate(hr, scopeNames[n].scope)
		cred := owner[secret]
		if err != nil {
			requireNoRights(t, who)
			if who.Tenant != "" {
				require.NotNil(t, cred)
				require.Contains(t, cred.Tenants, who.Tenant, "in whose ledger the refusal is")
			}
			return
		}
		require.NotNil(t, cred)
		require.Equal(t, cred.ID, who.Credential)
		require.Contains(t, cred.Tenants, who.Tenant)
		require.Contains(t, cred.Scopes, scopes[n])
		if chosen := hr.Header.Get(Header); chosen != "" {
			require.Equal(t, chosen, who.Tenant)
		}
	})
}

func TestStates(t *testing.T) {
	for _, tc := range []struct {
		state             State
		write, read, rule string
	}{
		{StateActive, "", "", ""},
		{StateHeld, "weir-tenant-held", "", ""},
		{StateReadOnly, "weir-tenant-suspended", "", ""},
		{StateWriteOnly, "", "weir-tenant-suspended", ""},
		{StateSuspended, "weir-tenant-suspended", "weir-tenant-suspended", "weir-tenant-suspended"},
	} {
		t.Run(string(tc.state), func(t *testing.T) {
			for _, mode := range []Mode{ModeNone, ModeHeader, ModeRequired} {
				secret, entry := held("", "")
				d := NewDirectory(mode, Settings{Limits: DefaultLimits(), State: tc.state})
				d.SetCredentials(ofMode(t, mode, Auth{}, Credential{
					ID: "c", Tenants: []string{"a"}, Scopes: []string{"write", "read", "rules", "admin"}, Secrets: []Secret{entry},
				}).Credentials())
				for need, want := range map[Scope]string{ScopeWrite: tc.write, ScopeRead: tc.read, ScopeRules: tc.rule} {
					if want == "" {
						want = "weir-ok"
					}
					_, err := d.Authenticate(request("Authorization", "Bearer "+secret, Header, "a"), need)
					require.Equal(t, want, idOf(t, err), "%s, mode %s", need, mode)
				}
				_, err := d.Identify(request("Authorization", "Bearer "+secret), ScopeAdmin)
				require.NoError(t, err, "what is about the process")
				_, err = d.Operator(request("Authorization", "Bearer "+secret, Header, "a"))
				require.NoError(t, err, "what is about the process")
			}
		})
	}
	require.Len(t, States, 5, "add the new one here")
	held := StateHeld.Refuse(ScopeWrite)
	require.Equal(t, proto.KindUnavailable, held.Kind)
	require.InDelta(t, 302, held.RetrySeconds(), 2)
}

// TestHeaderFromProxiesOnly: in mode header, who names a tenant is believed, so it
// has to be a proxy when the operator says which these are.
func TestHeaderFromProxiesOnly(t *testing.T) {
	proxies := Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	for _, tc := range []struct {
		from string
		a    Auth
		want string
	}{
		{"192.0.2.1:1", Auth{}, "weir-ok"},
		{"203.0.113.9:1", proxies, "weir-ok"},
		{"[::ffff:203.0.113.9]:1", proxies, "weir-ok"},
		{"192.0.2.1:1", proxies, "weir-proxy-untrusted"},
		{"", proxies, "weir-proxy-untrusted"},
	} {
		hr := request(Header, "a", "X-Forwarded-For", "203.0.113.9")
		hr.RemoteAddr = tc.from
		_, err := ofMode(t, ModeHeader, tc.a).Authenticate(hr, ScopeRead)
		require.Equal(t, tc.want, idOf(t, err), tc.from)
	}
}

// TestOperatorsOfModeHeader: what a proxy lets through names a tenant, and is not
// from an operator.
func TestOperatorsOfModeHeader(t *testing.T) {
	d := ofMode(t, ModeHeader, Auth{})
	for _, name := range []string{"a", "not/valid", ""} {
		_, err := d.Identify(request(Header, name), ScopeAdmin)
		require.Equal(t, "weir-operators-only", idOf(t, err))
	}
	_, err := d.Identify(request(), ScopeAdmin)
	require.NoError(t, err)
	_, err = d.Identify(request(Header, "a"), 0)
	require.NoError(t, err)
}

// TestNoOperatorThroughAProxy: a proxy that names nobody, because a client made it
// drop the header or because it knows no tenant of that client, makes no operator.
func TestNoOperatorThroughAProxy(t *testing.T) {
	d := ofMode(t, ModeHeader, Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	for from, want := range map[string]string{
		"203.0.113.9:1": "weir-operators-only", "[::ffff:203.0.113.9]:1": "weir-operators-only", "192.0.2.1:1": "weir-ok",
	} {
		hr := request()
		hr.RemoteAddr = from
		_, err := d.Identify(hr, ScopeAdmin)
		require.Equal(t, want, idOf(t, err), from)
		_, err = d.Identify(hr, 0)
		require.NoError(t, err)
		_, err = d.Operator(hr)
		require.NoError(t, err, "the admin listener is for operators")
	}
}

func TestSourceOf(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "192.0.2.1:99", nil, "192.0.2.1"},
		{"anybody says anything", "192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1"},
		{"proxy that says nothing", "10.0.0.1:99", nil, "10.0.0.1"},
		{"proxy", "10.0.0.1:99", []string{"198.51.100.1"}, "198.51.100.1"},
		{"the client wrote the first", "10.0.0.1:99", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"with a port", "10.0.0.1:99", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", "10.0.0.1:99", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"two proxies", "10.0.0.1:99", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"in two headers", "10.0.0.1:99", []string{"1.1.1.1, 198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"proxies all the way", "10.0.0.1:99", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"garbage in front of a proxy", "10.0.0.1:99", []string{"what, 10.0.0.2"}, "10.0.0.2"},
		{"IPv6", "[fd00::1]:99", []string{"2001:db8::1"}, "2001:db8::1"},
		{"mapped", "[::ffff:10.0.0.1]:99", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"no address", "@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hr := request()
			hr.RemoteAddr = tc.peer
			hr.Header["X-Forwarded-For"] = tc.forwarded
			require.Equal(t, tc.want, sourceOf(hr, proxies).String())
			if tc.peer != "@" {
				require.Equal(t, tc.want, ofMode(t, ModeNone, Auth{TrustedProxies: proxies}).Source(hr))
			}
		})
	}
}

// TestThrottle: guesses run dry, at the source they come from, and come back with
// time. What is valid passes all along.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secret, entry := held("", "")
		reg := prometheus.NewRegistry()
		d := ofMode(t, ModeRequired, Auth{Registry: reg}, Credential{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
		guess := func(from string) *proto.Error {
			wrong, _ := NewSecret()
			hr := request("Authorization", "Bearer "+wrong)
			hr.RemoteAddr = from
			_, err := d.Authenticate(hr, ScopeWrite)
			var e *proto.Error
			require.ErrorAs(t, err, &e)
			return e
		}
		const flood, other = "192.0.2.1:1", "192.0.2.2:1"
		for range failureBurst {
			require.Equal(t, "weir-credential-invalid", guess(flood).ID)
		}
		for range 1000 {
			e := guess(flood)
			require.Equal(t, "weir-auth-throttled", e.ID)
			require.Equal(t, proto.KindLimit, e.Kind)
			require.LessOrEqual(t, e.RetryAfter, failureEvery, "those that are refused for it cost nothing")
		}
		require.Equal(t, "weir-auth-throttled", guess("192.0.2.1:2").ID, "another port is no other source")
		require.Equal(t, "weir-credential-invalid", guess(other).ID)
		_, err := d.Authenticate(request("Authorization", "Bearer "+secret), ScopeWrite)
		require.NoError(t, err)
		_, err = d.Authenticate(request(), ScopeWrite)
		require.Equal(t, "weir-credential-missing", idOf(t, err), "no guess")

		time.Sleep(guess(flood).RetryAfter)
		require.Equal(t, "weir-credential-invalid", guess(flood).ID, "the wait it was told is enough")
		require.Equal(t, "weir-auth-throttled", guess(flood).ID)
		time.Sleep(time.Hour)
		for range failureBurst {
			require.Equal(t, "weir-credential-invalid", guess(flood).ID)
		}
		require.Equal(t, "weir-auth-throttled", guess(flood).ID, "more cannot be saved up")
		require.Equal(t, 1004.0, testutil.ToFloat64(d.metrics.requests.WithLabelValues("weir-auth-throttled")))
	})
}

// TestThrottleBySite: who has a /64 of IPv6 has one budget.
func TestThrottleBySite(t *testing.T) {
	th, now := newThrottle(), time.Now()
	throttled := 0
	for i := range failureBurst + 10 {
		if th.take(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), now) > 0 {
			throttled++
		}
	}
	require.Equal(t, 10, throttled)
}

func TestThrottleIsExactUnderConcurrency(t *testing.T) {
	th, now := newThrottle(), time.Now()
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if th.take(netip.MustParseAddr("192.0.2.1"), now) == 0 {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, failureBurst, passed.Load())
}

// TestRotation: senders write all the time while a secret is replaced by another,
// with grace, in versions that replace each other. Nobody who keeps to it is
// refused; the old one is, afterwards.
func TestRotation(t *testing.T) {
	const rotations, senders = 20, 8
	list := func(secrets ...Secret) []Credential {
		return []Credential{
			{ID: "rotates", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: secrets, Labels: []BoundLabel{{Name: "env", Value: "prod"}}},
		}
	}
	secret, entry := held("", "")
	d := ofMode(t, ModeRequired, Auth{}, list(entry)...)
	load := func(list []Credential) {
		cs, errs := NewCredentials("credentials", list, d.Credentials())
		require.Empty(t, errs)
		d.SetCredentials(cs)
	}
	var (
		current  atomic.Pointer[string]
		requests atomic.Int64
		refused  atomic.Int64
		stop     atomic.Bool
		wg       sync.WaitGroup
		inFlight [senders]atomic.Pointer[string] // what each sender may be using
	)
	current.Store(&secret)
	for i := range senders {
		wg.Go(func() {
			for !stop.Load() {
				inFlight[i].Store(current.Load())
				if _, err := d.Authenticate(request("Authorization", "Bearer "+*inFlight[i].Load()), ScopeWrite); err != nil {
					refused.Add(1)
				}
				requests.Add(1)
			}
		})
	}
	old, oldEntry := secret, entry
	for range rotations {
		fresh, freshEntry := held("", "")
		load(list(oldEntry, freshEntry)) // both are valid: the grace
		current.Store(&fresh)
		require.Eventually(t, func() bool { return all(inFlight[:], &fresh) }, 10*time.Second, time.Millisecond)
		oldEntry.Expires = time.Now().UTC().Format(time.RFC3339) // now
		load(list(oldEntry, freshEntry))
		_, err := d.Authenticate(request("Authorization", "Bearer "+old), ScopeWrite)
		require.Equal(t, "weir-credential-expired", idOf(t, err))
		load(list(freshEntry))
		_, err = d.Authenticate(request("Authorization", "Bearer "+old), ScopeWrite)
		require.Contains(t, []string{"weir-credential-invalid", "weir-auth-throttled"}, idOf(t, err))
		old, oldEntry = fresh, freshEntry
	}
	stop.Store(true)
	wg.Wait()
	require.Zero(t, refused.Load(), "of %d", requests.Load())
	require.Positive(t, requests.Load())
}

func all(in []atomic.Pointer[string], want *string) bool {
	for i := range in {
		if in[i].Load() != want {
			return false
		}
	}
	return true
}

// TestExpiresByTheClock: a secret in grace is refused when that ends, without a
// new version.
func TestExpiresByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339) }
		secret, entry := held(at(time.Hour), at(25*time.Hour))
		reg := prometheus.NewRegistry()
		d := ofMode(t, ModeRequired, Auth{Registry: reg}, Credential{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
		try := func() string {
			_, err := d.Authenticate(request("Authorization", "Bearer "+secret), ScopeWrite)
			return idOf(t, err)
		}
		state := func() string { return d.DescribeCredentials()[0].Secrets[0].State }
		require.Equal(t, "weir-credential-early", try())
		require.Equal(t, "not yet valid", state())
		time.Sleep(time.Hour)
		require.Equal(t, "weir-ok", try())
		require.Equal(t, "valid", state())
		time.Sleep(24*time.Hour - time.Nanosecond)
		require.Equal(t, "weir-ok", try())
		time.Sleep(time.Nanosecond)
		require.Equal(t, "weir-credential-expired", try())
		require.Equal(t, "expired", state())
		time.Sleep(time.Minute)
		name := entry.SHA256[:8]
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP weir_auth_requests_total Requests that were asked who sends them, by result: weir-ok, or the id of the error.
# TYPE weir_auth_requests_total counter
weir_auth_requests_total{result="weir-credential-early"} 1
weir_auth_requests_total{result="weir-credential-expired"} 1
weir_auth_requests_total{result="weir-ok"} 2
# HELP weir_credential_expires_seconds Seconds until a secret of a credential expires, negative once it has; of those that expire first. secret is the first 8 digits of its hash.
# TYPE weir_credential_expires_seconds gauge
weir_credential_expires_seconds{credential="c",secret="%s"} -60
# HELP weir_credential_last_used_timestamp_seconds When a secret of a credential was used last, since the process started; of those that expire first.
# TYPE weir_credential_last_used_timestamp_seconds gauge
weir_credential_last_used_timestamp_seconds{credential="c",secret="%s"} %d
`, name, name, now.Add(25*time.Hour-time.Nanosecond).Unix()))))
	})
}

// TestCredentialMetricsAreBounded shows those that expire first.
func TestCredentialMetricsAreBounded(t *testing.T) {
	var list []Credential
	for i := range shownSecrets + 100 {
		expires := ""
		if i >= 100 {
			expires = time.Unix(2e9-int64(i), 0).UTC().Format(time.RFC3339)
		}
		secret, entry := held("", expires)
		_ = secret
		list = append(list, Credential{ID: fmt.Sprintf("c-%04d", i), Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
	}
	reg := prometheus.NewRegistry()
	ofMode(t, ModeRequired, Auth{Registry: reg}, list...)
	n, err := testutil.GatherAndCount(reg, "weir_credential_expires_seconds")
	require.NoError(t, err)
	require.Equal(t, shownSecrets, n)
}

// TestAuditOfRequests: a use is recorded once an hour, refusals when they begin and
// then by the minute, with exact counts, and never a secret.
func TestAuditOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		records := audit.New(slog.NewJSONHandler(&out, nil), nil)
		secret, entry := held("", "")
		wrong, _ := NewSecret()
		d := ofMode(t, ModeRequired, Auth{Audit: records}, Credential{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
		go records.Run(t.Context())
		good, bad, foreign := request("Authorization", "Bearer "+secret), request("Authorization", "Bearer "+wrong), request("Authorization", "Bearer "+secret, Header, "b")
		for range 61 {
			_, err := d.Authenticate(good, ScopeWrite)
			require.NoError(t, err)
			for range 10 {
				_, err = d.Authenticate(bad, ScopeWrite)
				require.Error(t, err)
			}
			_, err = d.Authenticate(foreign, ScopeWrite)
			require.Error(t, err)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		d.Acted(good, Identity{Credential: "c"}, "flush", "a")
		require.NotContains(t, out.String(), secret)
		require.NotContains(t, out.String(), wrong)
		counts, lines := map[string]int{}, map[string]int{}
		for line := range strings.Lines(out.String()) {
			var r struct {
				Event, Credential, Addr, Reason, Action, Object string
				Count                                           int
			}
			require.NoError(t, json.Unmarshal([]byte(line), &r))
			require.Equal(t, "192.0.2.1", r.Addr)
			counts[r.Event+" "+r.Reason+r.Action] += r.Count
			lines[r.Event+" "+r.Reason+r.Action]++
			if r.Reason != "weir-credential-invalid" {
				require.Equal(t, "c", r.Credential)
			}
		}
		require.Equal(t, 2, lines["used "], "at first and after an hour")
		require.Equal(t, 610, counts["refused weir-credential-invalid"])
		require.Equal(t, 61, counts["refused weir-tenant-forbidden"])
		require.LessOrEqual(t, lines["refused weir-credential-invalid"], 62)
		require.Equal(t, 1, lines["acted flush"])
	})
}

func TestChallenge(t *testing.T) {
	h := http.Header{}
	Challenge(h)
	require.Equal(t, []string{`Basic realm="weir"`, `Bearer realm="weir"`}, h.Values("WWW-Authenticate"))
}

// FuzzAuthenticate: whatever the headers say, an unknown token lets nobody in, no
// error has it, and nothing panics.
func FuzzAuthenticate(f *testing.F) {
	secret, entry := held("", "")
	d := ofMode(f, ModeRequired, Auth{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		Credential{ID: "c", Tenants: []string{"a", "b"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
	var sources atomic.Uint32
	f.Add("Bearer weir_x", "a", "1.1.1.1", false)
	f.Add("user:weir_"+strings.Repeat("\n", 48), "a|b", "[::1]:2, x", true)
	f.Add("c:"+secret+" ", "", "", true)
	f.Fuzz(func(t *testing.T, shown, chosen, forwarded string, isBasic bool) {
		if isBasic {
			shown = "Basic " + base64.StdEncoding.EncodeToString([]byte(shown))
		}
		hr := request("Authorization", shown, Header, chosen, "X-Forwarded-For", forwarded)
		n := sources.Add(1) // each from an address of its own, or all would be throttled
		hr.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 1).String()
		for _, need := range []Scope{ScopeWrite, ScopeAdmin} {
			who, err := d.Authenticate(hr, need)
			if err == nil {
				t.Fatalf("%q lets in %v", shown, who)
			}
			if _, given, _ := strings.Cut(shown, " "); len(given) > 20 && strings.Contains(err.Error(), given) {
				t.Fatalf("%q is repeated in %v", shown, err)
			}
		}
	})
}

// BenchmarkAuthenticate: with 10,000 credentials, of which requests show one after
// another, or none.
func BenchmarkAuthenticate(b *testing.B) {
	const n = 10_000
	var (
		list    []Credential
		bearers []*http.Request
		basics  []*http.Request
	)
	for i := range n {
		secret, entry := held("", "2100-01-01T00:00:00Z")
		id := "tenant-" + strconv.Itoa(i)
		list = append(list, Credential{ID: "c-" + id, Tenants: []string{id}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
		bearers = append(bearers, request("Authorization", "Bearer "+secret))
		basics = append(basics, request("Authorization", basic(id, secret), Header, id))
	}
	wrong, _ := NewSecret()
	d := ofMode(b, ModeRequired, Auth{Registry: prometheus.NewRegistry()}, list...)
	for _, bc := range []struct {
		name     string
		requests []*http.Request
		ok       bool
	}{
		{"bearer/same", bearers[:1], true},
		{"bearer/10000", bearers, true},
		{"basic/10000", basics, true},
		{"throttled", []*http.Request{request("Authorization", "Bearer "+wrong)}, false},
		{"missing", []*http.Request{request()}, false},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := d.Authenticate(bc.requests[i], ScopeWrite); (err == nil) != bc.ok {
					b.Fatal(err)
				}
				if i++; i == len(bc.requests) {
					i = 0
				}
			}
		})
	}
}

// TestAuthenticateAllocatesNothing: it runs for every request.
func TestAuthenticateAllocatesNothing(t *testing.T) {
	secret, entry := held("", "")
	d := ofMode(t, ModeRequired, Auth{}, Credential{ID: "c", Tenants: []string{"a"}, Scopes: []string{"write"}, Secrets: []Secret{entry}})
	hr := request("Authorization", "Bearer "+secret, Header, "a")
	_, err := d.Authenticate(hr, ScopeWrite) // the first use is recorded
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = d.Authenticate(hr, ScopeWrite) }))
}
