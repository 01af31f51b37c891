package tenant

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-metrics/weir/oidc"
	"github.com/weir-metrics/weir/proto"
)

// holder is somebody who is known by what was shown, and has all of these grants.
type holder struct {
	of      *grant   // the first, with the tenants of all
	grants  []*grant // in the order of the file
	subject string   // whom an issuer or a CA named; "": a secret names nobody
	use     *use
}

// maxSubjectBytes bounds what is kept of the name of somebody: more than the 255
// of OpenID Connect, for Kubernetes' service accounts.
const maxSubjectBytes = 512

// holderWith returns who has names of the forms of some rules, or nil.
func holderWith(rules []*rule, subject string, names func(list string) []string) *holder {
	h := &holder{subject: subject[:min(len(subject), maxSubjectBytes)]}
	for _, r := range rules {
		if g := r.match(names); g != nil {
			h.grants = append(h.grants, g)
		}
	}
	if len(h.grants) == 0 {
		return nil
	}
	union := *h.grants[0]
	for _, g := range h.grants[1:] {
		union.tenants = sortedSet(slices.Concat(union.tenants, g.tenants))
	}
	h.of = &union
	return h
}

// identity is who a holder is before it is known for which tenant.
func (h *holder) identity() Identity {
	who := h.of.who
	who.Subject = h.subject
	return who
}

// memo is who somebody was under one version of the credentials.
type memo struct {
	under  *mark
	holder *holder // nil: nobody
}

// recall returns m, or what takes its place under another version: find says who
// it is then.
func (d *Directory) recall(m *memo, under *Credentials, find func() *holder) *memo {
	if m != nil && m.under == under.marked() {
		return m
	}
	next := &memo{under.marked(), find()}
	if h := next.holder; h != nil {
		h.use = d.uses.of(h.of.who.Credential, h.subject)
	}
	return next
}

// maxUses bounds the subjects whose uses are told apart.
const maxUses = 10_000

// uses remembers when who used what, so that somebody who gets a new token for
// each request does not make as many records. When there are too many it begins
// anew, which costs some records more.
type uses struct {
	mu     sync.Mutex
	byName map[[2]string]*use // by credential and subject; guarded by mu
}

func (u *uses) of(credential, subject string) *use {
	name := [2]string{credential, subject}
	u.mu.Lock()
	defer u.mu.Unlock()
	of := u.byName[name]
	if of == nil {
		if u.byName == nil || len(u.byName) >= maxUses {
			u.byName = make(map[[2]string]*use)
		}
		of = new(use)
		u.byName[name] = of
	}
	return of
}

// unmapped is for who is known, but has nothing here.
func unmapped(what string) *proto.Error {
	return proto.Errorf(proto.KindForbidden, "weir-credential-unmapped",
		"the %s is good, but no credential of weir is for it; ask the operator to add one that matches", what)
}

// idTokenKey is the header in which Grafana forwards the ID token of a user, beside
// an access token that need not be a JWT.
const idTokenKey = "X-Id-Token"

// ofToken returns who showed a token of an issuer.
func (d *Directory) ofToken(hr *http.Request, text string, now time.Time) (*holder, *proto.Error) {
	t, err := d.auth.Tokens.Verify(hr.Context(), text)
	if err != nil && err.ID == "weir-credential-invalid" {
		if throttled := d.throttled(hr, now); throttled != nil {
			return nil, throttled
		}
	}
	if err != nil {
		return nil, err
	}
	cs := d.Credentials()
	before, _ := t.Memo.Load().(*memo)
	m := d.recall(before, cs, func() *holder {
		return holderWith(cs.ofIssuer(t.Issuer), t.Subject, func(path string) []string { return claimed(t.Claims, path) })
	})
	if m != before {
		t.Memo.Store(m)
	}
	if m.holder == nil {
		return nil, unmapped("token")
	}
	return m.holder, nil
}

// ofIssuer returns the rules for tokens of an issuer, or for certificates.
func (cs *Credentials) ofIssuer(issuer string) []*rule {
	if cs == nil {
		return nil
	}
	return cs.rules[issuer]
}

// claimed returns the values of the claim at a path: a name, or names with dots
// between them, of objects in objects. A name that has dots itself goes first.
func claimed(claims map[string]any, path string) []string {
	if value, ok := claims[path]; ok {
		return claimValues(path, value)
	}
	for i := range path {
		if path[i] != '.' {
			continue
		}
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			if values := claimed(inner, path[i+1:]); values != nil {
				return values
			}
		}
	}
	return nil
}

func claimValues(name string, value any) []string {
	switch v := value.(type) {
	case string:
		if name == "scope" || name == "scp" { // RFC 8693, and as Azure has it
			return strings.Fields(v)
		}
	case json.Number:
		return []string{v.String()}
	case bool:
		if v {
			return []string{"true"}
		}
		return []string{"false"}
	}
	return oidc.Strings(value)
}

// certificateOf returns the certificate that the client of a request showed, if a
// CA that the operator trusts for that vouches for it; or nil.
func certificateOf(hr *http.Request) *x509.Certificate {
	if hr.TLS == nil || len(hr.TLS.VerifiedChains) == 0 {
		return nil
	}
	return hr.TLS.VerifiedChains[0][0]
}

// maxCertificates bounds the certificates that are remembered, at 1 KiB each.
const maxCertificates = 10_000

// certificates remembers who shows which certificate, by its hash. All were
// verified, so only CAs can fill it.
type certificates struct {
	mu     sync.RWMutex
	byHash map[[sha256.Size]byte]*memo // guarded by mu
}

// ofCertificate returns who showed a certificate.
func (d *Directory) ofCertificate(cert *x509.Certificate) (*holder, *proto.Error) {
	cs, hash := d.Credentials(), sha256.Sum256(cert.Raw)
	d.certificates.mu.RLock()
	before := d.certificates.byHash[hash]
	d.certificates.mu.RUnlock()
	m := d.recall(before, cs, func() *holder {
		return holderWith(cs.ofIssuer(""), subjectOf(cert), func(list string) []string { return namesOf(cert, list) })
	})
	if m != before {
		d.certificates.remember(hash, m)
	}
	if m.holder == nil {
		return nil, unmapped("certificate that you showed")
	}
	return m.holder, nil
}

func (c *certificates) remember(hash [sha256.Size]byte, m *memo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byHash == nil || len(c.byHash) >= maxCertificates {
		c.byHash = make(map[[sha256.Size]byte]*memo)
	}
	c.byHash[hash] = m
}

// namesOf returns the names of a certificate that are of one list of a
// CertificateMatch.
func namesOf(cert *x509.Certificate, list string) []string {
	switch list {
	case "dns":
		return cert.DNSNames
	case "ou":
		return cert.Subject.OrganizationalUnit
	case "cn":
		return []string{cert.Subject.CommonName}
	}
	var uris []string
	for _, u := range cert.URIs {
		uris = append(uris, u.String())
	}
	return uris
}

// subjectOf names a certificate for records.
func subjectOf(cert *x509.Certificate) string {
	if len(cert.URIs) > 0 {
		return cert.URIs[0].String()
	}
	return cert.Subject.String()
}
