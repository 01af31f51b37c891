package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/api"
	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/integration/harness"
	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/receiver"
	"github.com/weir-metrics/weir/tenant"
)

// badCredentials are what does not say who sends a request, by the answer to it.
var badCredentials = map[string]string{
	"missing": "weir-credential-missing", "unknown": "weir-credential-invalid", "damaged": "weir-credential-invalid",
	"of another scheme": "weir-credential-invalid", "wrong user": "weir-credential-invalid",
	"expired": "weir-credential-expired", "early": "weir-credential-early",

	"expired, by a JWT": "weir-credential-expired", "forged, by a JWT": "weir-credential-invalid",
	"for another audience, by a JWT": "weir-credential-invalid", "of another issuer, by a JWT": "weir-credential-invalid",
	"of nobody, by a JWT": "weir-credential-unmapped", "of nobody, by a certificate": "weir-credential-unmapped",
	"not verified, by a certificate": "weir-credential-missing",
}

// guarded is a server in mode required, with a request for every kind of
// credential.
type guarded struct {
	*server
	directory *tenant.Directory
	audit     *strings.Builder
	list      []tenant.Credential
	secrets   []string
	show      map[string][]string             // headers, by kind of credential
	tls       map[string]*tls.ConnectionState // and connections
	requests  int
}

// takesAll is an ingester that stores nothing.
type takesAll struct{}

func (takesAll) Write(context.Context, string, *proto.Frame, *proto.Reply) error { return nil }

func newGuarded(t *testing.T) *guarded {
	g := &guarded{audit: &strings.Builder{}, show: map[string][]string{}, tls: map[string]*tls.ConnectionState{}}
	credential := func(id string, tenants, scopes []string, notBefore, expires string) string {
		secret, hash := tenant.NewSecret()
		g.list = append(g.list, tenant.Credential{
			ID: id, Tenants: tenants, Scopes: scopes,
			Secrets: []tenant.Secret{{SHA256: hash.String(), NotBefore: notBefore, Expires: expires}},
		})
		g.secrets = append(g.secrets, secret)
		return secret
	}
	everything := []string{"write", "read", "rules", "admin"}
	g.show["write"] = bearer(credential("writer", []string{teamA}, []string{"write"}, "", ""))
	g.show["read"] = bearer(credential("reader", []string{teamA}, []string{"read"}, "", ""))
	g.show["rules"] = bearer(credential("ruler", []string{teamA}, []string{"rules"}, "", ""))
	g.show["admin"] = bearer(credential("admin", []string{teamA}, []string{"admin"}, "", ""))
	g.show["operator without a tenant"] = bearer(credential("operator", nil, []string{"admin"}, "", ""))
	all := credential("all", []string{teamA}, everything, "", "")
	g.show["all"] = bearer(all)
	g.show["all, basic"] = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(teamA+":"+all))}
	g.show["tenant of others"] = bearer(all, tenant.Header, teamB)
	g.show["tenant of nobody"] = bearer(all, tenant.Header, "nobody")
	g.show["twice"] = bearer(all, "Authorization", "Bearer "+all)
	both := credential("both", []string{teamA, teamB}, everything, "", "")
	g.show["one of two"] = bearer(both, tenant.Header, teamB)
	g.show["which of two"] = bearer(both)
	g.show["both of two"] = bearer(both, tenant.Header, teamA+"|"+teamB)

	g.show["missing"] = []string{tenant.Header, teamA}
	unknown, _ := tenant.NewSecret()
	g.secrets = append(g.secrets, unknown)
	g.show["unknown"] = bearer(unknown, tenant.Header, teamA)
	g.show["damaged"] = bearer(all[:len(all)-1])
	g.show["of another scheme"] = []string{"Authorization", all}
	g.show["wrong user"] = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+all))}
	g.show["expired"] = bearer(credential("expired", []string{teamA}, everything, "", "2026-01-01T00:00:00Z"))
	g.show["early"] = bearer(credential("early", []string{teamA}, everything, "2100-01-01T00:00:00Z", ""))

	tokens := g.tokens(t)
	g.certificates(t)
	cs, errs := tenant.NewCredentials("credentials", g.list, nil)
	require.Empty(t, errs)
	g.server = newServer(t, func(s *server) {
		g.directory = tenant.NewDirectory(tenant.ModeRequired, tenant.DefaultSettings()).
			WithAuth(tenant.Auth{Tokens: tokens, Audit: audit.New(slog.NewJSONHandler(g.audit, nil), nil), Registry: s.reg})
		g.directory.SetCredentials(cs)
		s.deps.Tenants = g.directory
		s.deps.Logger = slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		recv := receiver.New(receiver.DefaultConfig(), receiver.Deps{Ingester: takesAll{}, Tenants: g.directory, Settings: g.directory.Settings, Logger: s.deps.Logger})
		s.deps.Writer, s.deps.OTLP = recv, recv.OTLP()
	})
	return g
}

func bearer(secret string, more ...string) []string {
	return append([]string{"Authorization", "Bearer " + secret}, more...)
}

// byName is a credential for whoever has a name that is its id.
func (g *guarded) byName(id string, scopes ...string) *tenant.Credential {
	g.list = append(g.list, tenant.Credential{ID: id, Tenants: []string{teamA}, Scopes: scopes})
	return &g.list[len(g.list)-1]
}

// tokens adds kinds of tokens of an issuer, and returns who verifies them.
func (g *guarded) tokens(t *testing.T) *oidc.Verifier {
	issuer, other := harness.NewIssuer(t), harness.NewIssuer(t)
	for _, scope := range []string{"write", "read", "rules", "admin"} {
		g.byName("jwt-"+scope, scope).JWT = &tenant.TokenMatch{Issuer: issuer.URL, Claims: map[string][]string{"sub": {scope}}}
		g.show[scope+", by a JWT"] = bearer(issuer.Token(map[string]any{"sub": scope}))
	}
	g.byName("jwt-all", "write", "read", "rules", "admin").JWT = &tenant.TokenMatch{Issuer: issuer.URL, Claims: map[string][]string{"sub": {"all"}}}
	all := map[string]any{"sub": "all"}
	with := func(claim string, value any) map[string]any { return map[string]any{"sub": "all", claim: value} }
	g.show["all, by a JWT"] = bearer(issuer.Token(all))
	g.show["all, by a JWT of Grafana"] = bearer("opaque", "X-Id-Token", issuer.Token(all))
	g.show["tenant of others, by a JWT"] = bearer(issuer.Token(all), tenant.Header, teamB)
	g.show["expired, by a JWT"] = bearer(issuer.Token(with("exp", 1)), tenant.Header, teamA)
	g.show["forged, by a JWT"] = bearer(issuer.Token(all)+"AAAA", tenant.Header, teamA)
	g.show["for another audience, by a JWT"] = bearer(issuer.Token(with("aud", "grafana")))
	g.show["of another issuer, by a JWT"] = bearer(other.Token(with("iss", issuer.URL)))
	g.show["of nobody, by a JWT"] = bearer(issuer.Token(nil), tenant.Header, teamA)
	for _, headers := range g.show {
		for _, value := range headers {
			if text := value[strings.LastIndex(value, " ")+1:]; oidc.LooksLikeToken(text) {
				g.secrets = append(g.secrets, text)
			}
		}
	}
	return tokensOf(t, issuer)
}

// tokensOf returns who verifies the tokens of an issuer.
func tokensOf(t *testing.T, issuer *harness.Issuer) *oidc.Verifier {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(keys, issuer.JWKS(), 0o600))
	v, err := oidc.New([]oidc.Issuer{{URL: issuer.URL, Audiences: []string{"weir"}, KeysFile: keys}}, slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	return v
}

// certificates adds kinds of certificates of clients.
func (g *guarded) certificates(t *testing.T) {
	ca := harness.NewCA(t, "clients")
	connection := func(name string) *tls.ConnectionState {
		cert := ca.Pair(x509.Certificate{Subject: pkix.Name{CommonName: name}}).Leaf
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	}
	for _, scope := range []string{"write", "read", "rules", "admin"} {
		g.byName("certificate-"+scope, scope).Certificate = &tenant.CertificateMatch{CN: []string{scope}}
		g.show[scope+", by a certificate"], g.tls[scope+", by a certificate"] = nil, connection(scope)
	}
	g.byName("certificate-all", "write", "read", "rules", "admin").Certificate = &tenant.CertificateMatch{CN: []string{"all"}}
	for kind, headers := range map[string][]string{
		"all, by a certificate": nil, "tenant of others, by a certificate": {tenant.Header, teamB}, "not verified, by a certificate": nil,
	} {
		g.show[kind], g.tls[kind] = headers, connection("all")
	}
	g.tls["not verified, by a certificate"].VerifiedChains = nil
	g.show["of nobody, by a certificate"], g.tls["of nobody, by a certificate"] = []string{tenant.Header, teamA}, connection("mallory")
}

// ask sends a request with a kind of credential, from an address of its own, so
// that none is throttled.
func (g *guarded) ask(t *testing.T, rt api.Route, method, kind string) *httptest.ResponseRecorder {
	path := strings.NewReplacer("{name}", "job", "{profile}", "goroutine").Replace(rt.Pattern)
	switch {
	case rt.Needs == "writers" && method == http.MethodGet:
		path += "?get_vm_proto_version=1"
	case strings.Contains(path, "pprof"):
		path += "?seconds=1"
	}
	hr := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	g.requests++
	hr.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(g.requests >> 16), byte(g.requests >> 8), byte(g.requests)}), 1).String()
	for i := 0; i < len(g.show[kind]); i += 2 {
		hr.Header.Add(g.show[kind][i], g.show[kind][i+1])
	}
	hr.TLS = g.tls[kind]
	handler := g.Handler
	if rt.Admin {
		handler = g.admin
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, hr)
	return w
}

// expected is the id of the error that a kind of credential gets at a route, "" if
// it gets past authentication.
func expected(rt api.Route, method, kind string) string {
	ofTenant := rt.Needs == "writers" || rt.Needs == "readers" || rt.Pattern == "/ingester/flush" && !rt.Admin
	if rt.Needs == "writers" && method == http.MethodGet {
		ofTenant = false // the handshake
	}
	allowed := map[string][]string{
		"anyone":    {"write", "read", "rules", "admin", "operator without a tenant"},
		"writers":   {"write"},
		"readers":   {"read"},
		"operators": {"admin", "operator without a tenant"},
	}
	id, bad := badCredentials[kind]
	kind, _, _ = strings.Cut(kind, ", by ") // which makes no difference
	switch {
	case rt.Needs == "public" || method == http.MethodOptions: // browsers ask so without a credential
		return ""
	case bad:
		return id
	case kind == "twice":
		return "weir-header-repeated"
	case kind == "both of two":
		return "weir-tenant-federation-unsupported"
	case kind == "tenant of others", kind == "tenant of nobody":
		return "weir-tenant-forbidden"
	case kind == "which of two" && ofTenant, kind == "operator without a tenant" && ofTenant && slices.Contains(allowed[rt.Needs], kind):
		return "weir-tenant-ambiguous"
	case strings.HasPrefix(kind, "all"), strings.HasSuffix(kind, "of two"), slices.Contains(allowed[rt.Needs], kind):
		return ""
	}
	return "weir-scope-missing"
}

var statusOfID = map[string]int{
	"weir-credential-missing": 401, "weir-credential-invalid": 401, "weir-credential-expired": 401, "weir-credential-early": 401,
	"weir-header-repeated": 400, "weir-tenant-federation-unsupported": 400, "weir-tenant-ambiguous": 400,
	"weir-tenant-forbidden": 403, "weir-scope-missing": 403, "weir-credential-unmapped": 403,
}

// TestAccess drives every route of both listeners, by every method, with every
// kind of credential.
func TestAccess(t *testing.T) {
	g := newGuarded(t)
	surface := api.New(g.cfg, func() api.Deps { d := g.deps; d.Registry = nil; return d }())
	table := surface.RouteTable()
	for _, rt := range table {
		for _, method := range rt.Methods {
			listener := "data"
			if rt.Admin {
				listener = "admin"
			}
			t.Run(fmt.Sprint(listener, " ", method, " ", rt.Pattern), func(t *testing.T) {
				require.NotEmpty(t, rt.Needs, "does not say whom it is for")
				for kind := range g.show {
					want := expected(rt, method, kind)
					slow := strings.HasSuffix(rt.Pattern, "/profile") || strings.HasSuffix(rt.Pattern, "/trace")
					if want == "" && slow && kind != "admin" {
						continue // a second each
					}
					w := g.ask(t, rt, method, kind)
					for _, secret := range g.secrets {
						require.NotContains(t, w.Body.String(), secret, kind)
						require.NotContains(t, fmt.Sprint(w.Header()), secret, kind)
					}
					if want == "" {
						require.NotContains(t, []int{401, 403, 429, 404, 405}, w.Code, "%s: %s", kind, w.Body)
						require.False(t, w.Code == 400 && strings.Contains(w.Body.String(), "weir-tenant-ambiguous"), kind)
						continue
					}
					require.Equal(t, statusOfID[want], w.Code, "%s: %s", kind, w.Body)
					if method != http.MethodHead {
						require.Contains(t, w.Body.String(), want, kind)
					}
					require.Equal(t, w.Code == 401, len(w.Header().Values("WWW-Authenticate")) == 2, kind)
				}
			})
		}
	}
	for _, secret := range g.secrets {
		require.NotContains(t, g.logs.String(), secret)
		require.NotContains(t, g.audit.String(), secret)
	}
	require.Equal(t, registered(t, surface), inTable(table), "a handler that is in no table")
}

// registered lists the routes of both routers, inTable those of the tables.
func registered(t *testing.T, surface *api.API) []string {
	var all []string
	for _, h := range []http.Handler{surface.Handler(), surface.AdminHandler()} {
		require.NoError(t, chi.Walk(h.(chi.Routes), func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			all = append(all, method+" "+pattern)
			return nil
		}))
	}
	slices.Sort(all)
	return all
}

func inTable(table []api.Route) []string {
	var all []string
	for _, rt := range table {
		for _, m := range rt.Methods {
			all = append(all, m+" "+rt.Pattern)
		}
	}
	slices.Sort(all)
	return all
}

// TestPublicIsHealthOnly: what anybody may ask is a short list.
func TestPublicIsHealthOnly(t *testing.T) {
	s := newServer(t, noDBs)
	public := map[string]bool{}
	for _, rt := range api.New(s.cfg, func() api.Deps { d := s.deps; d.Registry = nil; return d }()).RouteTable() {
		if rt.Needs == "public" {
			public[rt.Pattern] = true
		}
	}
	require.Equal(t, map[string]bool{"/ready": true, "/-/ready": true, "/-/healthy": true, "/livez": true}, public)
}

// TestThrottledAnswer: 429, with a time that a client can obey.
func TestThrottledAnswer(t *testing.T) {
	g := newGuarded(t)
	for _, path := range []string{"/api/v1/query?query=1", "/api/v1/push", "/otlp/v1/metrics", "/metrics"} {
		method := http.MethodGet
		if path != "/metrics" {
			method = http.MethodPost
		}
		var w *httptest.ResponseRecorder
		for range 40 {
			w = send(t, g.Handler, method, path, nil, g.show["unknown"]...)
		}
		require.Equal(t, 429, w.Code, path)
		require.Contains(t, w.Body.String(), "weir-auth-throttled")
		require.Regexp(t, `^[1-9]\d?$`, w.Header().Get("Retry-After"))
	}
	require.Equal(t, 200, send(t, g.Handler, "GET", "/api/v1/query?query=1", nil, g.show["read"]...).Code, "from the same address")
}

// TestOperatorsAreAudited: who did what, by which credential.
func TestOperatorsAreAudited(t *testing.T) {
	g := newGuarded(t)
	operator := g.show["operator without a tenant"]
	do := func(method, path string, status int) {
		t.Helper()
		require.Equal(t, status, send(t, g.admin, method, path, nil, append(operator, tenant.Header, "")...).Code)
	}
	do("POST", "/ingester/flush?tenant="+teamB, 204)
	do("POST", "/admin/log-level?level=debug", 200)
	do("GET", "/admin/log-level", 200)
	do("GET", "/debug/pprof/goroutine", 200)
	do("GET", "/admin/credentials", 200)
	require.Equal(t, 204, g.do(t, "POST", "/ingester/flush", nil, g.show["admin"]...).Code)
	var acts []string
	for line := range strings.Lines(g.audit.String()) {
		var r struct {
			Event, Credential, Action, Object, Path string
			RequestID                               string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		if r.Event == "acted" {
			acts = append(acts, strings.TrimSpace(strings.Join([]string{r.Credential, r.Action, r.Object}, " ")))
			require.NotEmpty(t, r.RequestID)
		}
	}
	require.Equal(t, []string{
		"operator flush " + teamB, "operator set log level DEBUG", "operator profile /debug/pprof/goroutine",
		"operator list credentials", "admin flush " + teamA,
	}, acts)
}

// TestCredentialsPage has who may do what, and no secret.
func TestCredentialsPage(t *testing.T) {
	g := newGuarded(t)
	before := time.Now().Add(-time.Second)
	require.Equal(t, 200, g.do(t, "GET", "/api/v1/query?query=1", nil, g.show["read"]...).Code)
	w := send(t, g.admin, "GET", "/admin/credentials", nil, append(g.show["operator without a tenant"], tenant.Header, "")...)
	require.Equal(t, 200, w.Code)
	var page []tenant.CredentialInfo
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
	byID := map[string]tenant.CredentialInfo{}
	for _, c := range page {
		byID[c.ID] = c
	}
	require.Len(t, page, len(byID))
	require.Equal(t, []string{"read"}, byID["reader"].Scopes)
	require.True(t, byID["reader"].Secrets[0].LastUsed.After(before))
	require.Nil(t, byID["writer"].Secrets[0].LastUsed)
	require.Equal(t, "expired", byID["expired"].Secrets[0].State)
	require.Equal(t, "not yet valid", byID["early"].Secrets[0].State)
	for _, secret := range g.secrets {
		require.NotContains(t, w.Body.String(), secret)
	}
}
