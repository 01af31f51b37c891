package tenant

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/audit"
	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/proto"
)

// Auth is how requests are authenticated, beside the credentials.
type Auth struct {
	// TrustedProxies are believed when they say from where a request came. In
	// ModeHeader, when there are any, nobody else may name a tenant.
	TrustedProxies []netip.Prefix

	Tokens   *oidc.Verifier // of issuers; nil: none is taken
	Audit    *audit.Log     // nil: nothing is recorded
	Registry prometheus.Registerer
}

// Authenticate returns who sent a request about a tenant's data, who must have a
// scope of need. Its errors are of the kinds Unauthenticated, Forbidden, BadData,
// Limit and Unavailable; the answer to the first needs Challenge. With an error the
// Identity permits nothing; its Tenant is the one in whose ledger the refusal belongs,
// as far as that is sure, or "".
//
//	secret, token or certificate ── holderOf ──> holder of grants ── pick ──> Identity
//	X-Scope-OrgID, user ── choose, among the tenants of the grants ───┘
func (d *Directory) Authenticate(hr *http.Request, need Scope) (Identity, error) {
	who, err := d.identify(hr, need)
	if err == nil && who.Tenant == "" {
		err = d.unnamed(&who)
	}
	if err == nil {
		err = d.exists(who.Tenant)
	}
	if err == nil {
		err = d.Settings(who.Tenant).State.Refuse(need)
	}
	return d.observe(hr, who, err)
}

// Identify returns who sent a request about the process as a whole, which concerns
// every tenant: where the sender may choose a tenant but does not, the Identity has
// none. In ModeHeader the proxy names a tenant in all that it lets through, so that
// only who names none is an operator, unless that is a proxy: clients can make many
// proxies drop the header, as by Connection: X-Scope-OrgID.
func (d *Directory) Identify(hr *http.Request, need Scope) (Identity, error) {
	if d.mode == ModeHeader && need.Has(ScopeAdmin) && (len(hr.Header[headerKey]) > 0 || d.fromProxy(hr)) {
		return d.observe(hr, Identity{}, proto.Errorf(proto.KindForbidden, "weir-operators-only",
			"this is about all tenants, and the request comes from one, by a proxy or by %s; operators ask past the proxy, or the admin listener", Header))
	}
	who, err := d.identify(hr, need)
	return d.observe(hr, who, err)
}

// Operator is Identify for the admin listener, which operators alone reach unless
// it asks for credentials.
func (d *Directory) Operator(hr *http.Request) (Identity, error) {
	if d.mode != ModeRequired {
		return d.observe(hr, Identity{Scopes: AllScopes}, nil)
	}
	return d.Identify(hr, ScopeAdmin)
}

// Challenge says in the header of an answer 401 what to send.
func Challenge(h http.Header) {
	h["Www-Authenticate"] = []string{`Basic realm="weir"`, `Bearer realm="weir"`}
}

// identify returns who sent a request. With an error, its Credential says whose
// it was, as far as that is known.
func (d *Directory) identify(hr *http.Request, need Scope) (Identity, *proto.Error) {
	if d.mode != ModeRequired {
		id, err := d.named(hr)
		return Identity{Tenant: id, Scopes: AllScopes}, err
	}
	now := time.Now()
	h, user, err := d.holderOf(hr, now)
	if h == nil {
		return Identity{}, err
	}
	who := h.identity()
	if err == nil {
		who, err = d.pick(hr, h, user, need)
	}
	if err != nil && who.Tenant == "" {
		who.Tenant = h.concerned(hr.Header, user)
	}
	if err == nil && h.use.at(now) && d.auth.Audit != nil {
		d.auth.Audit.Used(hr.Context(), d.actor(hr, who))
	}
	return who, err
}

// holderOf returns who sent a request, and the user of basic auth. What the
// Authorization header shows goes before the certificate of the connection. With
// an error, that is somebody whose secret does not count now, or nil.
func (d *Directory) holderOf(hr *http.Request, now time.Time) (h *holder, user string, err *proto.Error) {
	if cert := certificateOf(hr); cert != nil && len(hr.Header["Authorization"]) == 0 {
		h, err = d.ofCertificate(cert)
		return h, "", err
	}
	user, secret, err := shownIn(hr.Header)
	if err != nil {
		return nil, "", err
	}
	if d.auth.Tokens != nil && !looksLikeSecret(secret) {
		if forwarded := hr.Header[idTokenKey]; len(forwarded) == 1 && user == "" {
			secret = forwarded[0]
		}
		if oidc.LooksLikeToken(secret) {
			h, err = d.ofToken(hr, secret, now)
			return h, user, err
		}
	}
	held, err := d.verify(hr, secret, now)
	if held == nil {
		return nil, user, err
	}
	return &held.holder, user, err
}

// pick returns who a holder is for the tenant of a request: by the first grant
// that owns it and does for the request. Grants are not added up, so that what one
// binds or hides, another does not undo. Where none does, the error is that of the
// first that owns the tenant.
func (d *Directory) pick(hr *http.Request, h *holder, user string, need Scope) (Identity, *proto.Error) {
	who := h.identity()
	tenantID, err := h.of.choose(hr.Header, user)
	if err != nil {
		return who, err
	}
	who.Tenant = tenantID
	for _, g := range h.grants {
		if tenantID != "" && !g.owns(tenantID) {
			continue
		}
		refusal := d.permit(hr, g, need)
		if refusal == nil {
			who = g.who
			who.Tenant, who.Subject = tenantID, h.subject
			return who, nil
		}
		if err == nil {
			err = refusal
		}
	}
	return who, err
}

// named returns the tenant that a header names, whom nobody checks.
func (d *Directory) named(hr *http.Request) (string, *proto.Error) {
	if d.mode == ModeNone {
		return Anonymous, nil
	}
	id, err := chosen(hr.Header)
	if err != nil || id == "" {
		return "", err
	}
	if err := validateID(id); err != nil {
		return "", err
	}
	if len(d.auth.TrustedProxies) > 0 && !d.fromProxy(hr) {
		return "", proto.Errorf(proto.KindForbidden, "weir-proxy-untrusted",
			"%s is believed from the proxies in auth.trusted_proxies only, and you are none of them; send requests to the proxy", Header)
	}
	return id, nil
}

// unnamed is what to do about a request that names no tenant.
func (d *Directory) unnamed(who *Identity) *proto.Error {
	if d.mode == ModeRequired {
		return proto.Errorf(proto.KindBadData, "weir-tenant-ambiguous",
			"the credential %s does not own exactly one tenant: name the one you mean in the header %s, or as the user of basic auth", who.Credential, Header)
	}
	return proto.Errorf(proto.KindUnauthenticated, "weir-tenant-missing",
		"no tenant: send the %s header, or run with auth.mode: none for a single tenant", Header)
}

// chosen returns the tenant that the header names, or "".
func chosen(h http.Header) (string, *proto.Error) {
	given := h[headerKey]
	switch {
	case len(given) == 0:
		return "", nil
	case len(given) > 1:
		return "", proto.Errorf(proto.KindBadData, "weir-tenant-invalid",
			"the header %s comes %d times; a proxy must replace it, not add to it", Header, len(given))
	case strings.Contains(given[0], "|"):
		return "", proto.Errorf(proto.KindBadData, "weir-tenant-federation-unsupported",
			"%s names several tenants; one request is for one tenant, reads of several at once are not there yet", Header)
	}
	return given[0], nil
}

// shownIn returns the one credential of a request. No error repeats any of it: a
// secret without its scheme, or in the wrong place, is a secret all the same.
func shownIn(h http.Header) (user, secret string, err *proto.Error) {
	given := h["Authorization"]
	switch len(given) {
	case 0:
		return "", "", proto.Errorf(proto.KindUnauthenticated, "weir-credential-missing",
			"no credential: send a token as Authorization: Bearer, or as the password of basic auth")
	case 1:
	default:
		return "", "", proto.Errorf(proto.KindBadData, "weir-header-repeated",
			"the request has %d Authorization headers; send one", len(given))
	}
	scheme, rest, _ := strings.Cut(given[0], " ")
	rest = strings.TrimLeft(rest, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return "", rest, nil
	case strings.EqualFold(scheme, "Basic"):
		plain, bad := base64.StdEncoding.DecodeString(rest)
		user, secret, ok := strings.Cut(string(plain), ":")
		if bad != nil || !ok {
			return "", "", invalid("the basic auth is not user:password in base64")
		}
		return user, secret, nil
	}
	return "", "", invalid("the Authorization header is neither Bearer nor Basic")
}

// invalid is a credential that says nothing of who sent it.
func invalid(why string) *proto.Error {
	return proto.Errorf(proto.KindUnauthenticated, "weir-credential-invalid", "%s; send a token as Authorization: Bearer, or as the password of basic auth", why)
}

// verify returns whose secret it is. With an error, that is somebody whose secret
// does not count now, or nil.
func (d *Directory) verify(hr *http.Request, secret string, now time.Time) (*heldSecret, *proto.Error) {
	held := d.Credentials().find(secret)
	switch {
	case held == nil:
		return nil, d.unknown(hr, secret, now)
	case held.early(now):
		return held, proto.Errorf(proto.KindUnauthenticated, "weir-credential-early",
			"the token of %s is valid from %s on", held.of.who.Credential, held.notBefore.Format(time.RFC3339))
	case held.late(now):
		return held, proto.Errorf(proto.KindUnauthenticated, "weir-credential-expired",
			"the token of %s expired at %s; use its successor", held.of.who.Credential, held.expires.Format(time.RFC3339))
	}
	return held, nil
}

// unknown is what to answer to a secret that nobody has.
func (d *Directory) unknown(hr *http.Request, secret string, now time.Time) *proto.Error {
	if throttled := d.throttled(hr, now); throttled != nil {
		return throttled
	}
	switch {
	case !looksLikeSecret(secret):
		return invalid("what was sent is not a token, which is weir_ and 48 characters")
	case !intact(secret):
		return invalid("the token is damaged, its checksum is wrong: was it copied in full?")
	}
	return invalid("the token is not known here: was it revoked?")
}

// throttled notes that a request showed what is wrong, and is what to answer when
// its source did so too often; nil when it did not.
func (d *Directory) throttled(hr *http.Request, now time.Time) *proto.Error {
	wait := d.failures.take(sourceOf(hr, d.auth.TrustedProxies), now)
	if wait <= 0 {
		return nil
	}
	return &proto.Error{
		Kind: proto.KindLimit, ID: "weir-auth-throttled", RetryAfter: wait,
		Msg: "too many unknown tokens from your address; correct the token, and wait",
	}
}

// choose returns the tenant that a request is for: the one it names, or the only
// one there is, or "". A header only chooses among the tenants that the credential
// owns. What others there are, it does not tell.
func (g *grant) choose(h http.Header, user string) (string, *proto.Error) {
	id, err := chosen(h)
	if err != nil {
		return "", err
	}
	userOwned := g.owns(user)
	switch {
	case user != "" && user != g.who.Credential && !userOwned:
		return "", invalid("the user of basic auth is neither the id of the token's credential nor a tenant that it owns")
	case id != "" && userOwned && user != g.who.Credential && user != id:
		return "", proto.Errorf(proto.KindBadData, "weir-tenant-ambiguous",
			"the user of basic auth names another tenant than the header %s; send one of them", Header)
	case id != "" && !g.owns(id):
		return "", proto.Errorf(proto.KindForbidden, "weir-tenant-forbidden",
			"the credential %s does not own the tenant that %s names", g.who.Credential, Header)
	case id != "":
		return id, nil
	case userOwned:
		return user, nil
	case len(g.tenants) == 1:
		return g.tenants[0], nil
	}
	return "", nil
}

// concerned returns the tenant that a request of a holder is about, whatever else is
// wrong with it: the one it names, or the only one there is, or "".
func (h *holder) concerned(header http.Header, user string) string {
	if id, err := h.of.choose(header, user); err == nil {
		return id
	}
	if len(h.of.tenants) == 1 {
		return h.of.tenants[0]
	}
	return ""
}

// permit returns why a grant does not do for a request.
func (d *Directory) permit(hr *http.Request, g *grant, need Scope) *proto.Error {
	if len(g.sources) > 0 && !contains(g.sources, sourceOf(hr, d.auth.TrustedProxies)) {
		return proto.Errorf(proto.KindForbidden, "weir-source-forbidden",
			"the credential %s may not be used from your address", g.who.Credential)
	}
	if !g.who.Scopes.Has(need) {
		return proto.Errorf(proto.KindForbidden, "weir-scope-missing",
			"the credential %s has the scopes %s; this needs %s", g.who.Credential, g.who.Scopes, need)
	}
	return nil
}

// observe counts and records how a request fared. Of one that is refused it returns
// for whom, if that is a tenant that exists: others anybody can make up.
func (d *Directory) observe(hr *http.Request, who Identity, err *proto.Error) (Identity, error) {
	if err == nil {
		d.metrics.ok.Inc()
		return who, nil
	}
	d.metrics.requests.WithLabelValues(err.ID).Inc()
	if d.auth.Audit != nil {
		d.auth.Audit.Refused(hr.Context(), d.actor(hr, who), err.ID)
	}
	if who.Tenant == "" || d.exists(who.Tenant) != nil {
		return Identity{}, err
	}
	return Identity{Tenant: who.Tenant, Credential: who.Credential, Subject: who.Subject}, err
}

// Acted records what an operator did by a request.
func (d *Directory) Acted(hr *http.Request, who Identity, action, object string) {
	if d.auth.Audit != nil {
		d.auth.Audit.Acted(hr.Context(), d.actor(hr, who), action, object)
	}
}

// actor is who is behind a request, for records.
func (d *Directory) actor(hr *http.Request, who Identity) audit.Actor {
	a := audit.Actor{
		Credential: who.Credential, Subject: who.Subject, Tenant: who.Tenant, UserAgent: hr.UserAgent(), Method: hr.Method, Path: hr.URL.Path,
	}
	if source := sourceOf(hr, d.auth.TrustedProxies); source.IsValid() {
		a.Source = source.String()
	}
	return a
}
