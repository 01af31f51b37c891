// Package oidc verifies JSON web tokens of issuers that the operator trusts.
//
//	token ── Verifier.Verify ──> *Token: its claims, until when they hold
//	  │ shown before (recent.go): one hash and one look-up
//	  └ key of its issuer (keys.go) <── issuer.refresh (issuer.go): discovery and JWKS over HTTP, or a file
//
// An issuer that cannot be reached locks out nobody whose key is known, however
// long that lasts. Where a key could be one that we have not seen yet, the answer
// is "unavailable" and not "unauthenticated": a sender repeats what it is told
// the former about, and drops the latter.
package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/proto"
)

const (
	// clockSkew is how far the clocks of an issuer and ours may be apart.
	clockSkew = time.Minute

	// maxTokenBytes bounds what is parsed before anything is known of it. Tokens
	// with hundreds of groups have 8 KiB.
	maxTokenBytes = 16 << 10
)

// Issuer is who signs tokens. All of it is the operator's: nothing that a client
// sends says where keys are fetched.
type Issuer struct {
	URL        string   `yaml:"url"`        // as the claim iss has it; keys are found below it
	Audiences  []string `yaml:"audiences"`  // one of which must be in the claim aud
	Algorithms []string `yaml:"algorithms"` // empty: DefaultAlgorithms
	KeysURL    string   `yaml:"keys_url"`   // of the JWKS; empty: by discovery
	KeysFile   string   `yaml:"keys_file"`  // a JWKS in a file, instead
}

// DefaultAlgorithms are those of issuers that name none.
var DefaultAlgorithms = []string{"RS256", "ES256", "EdDSA"}

// known are the algorithms that a key nobody keeps secret can verify.
var known = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// Validate reports every violation.
func (i *Issuer) Validate(prefix string) []error {
	var errs []error
	violation := func(name, value, rule string) {
		errs = append(errs, fmt.Errorf("%s.%s: %q: must %s", prefix, name, value, rule))
	}
	if !mayFetch(i.URL) {
		violation("url", i.URL, "be an https URL")
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		violation("audiences", strings.Join(i.Audiences, ", "), "name the audiences that tokens for weir have: those for others must not do")
	}
	for _, alg := range i.Algorithms {
		if !slices.Contains(known, alg) {
			violation("algorithms", alg, "be one of "+strings.Join(known, ", "))
		}
	}
	if i.KeysURL != "" && !mayFetch(i.KeysURL) {
		violation("keys_url", i.KeysURL, "be an https URL")
	}
	if i.KeysURL != "" && i.KeysFile != "" {
		violation("keys_file", i.KeysFile, "be empty when there is a keys_url")
	}
	return errs
}

// mayFetch reports whether keys can be trusted that come from a URL: over TLS, or
// from this machine.
func mayFetch(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	local := err == nil && addr.IsLoopback() || u.Hostname() == "localhost"
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// Token is a token that was verified. It is shared, and immutable but for Memo.
type Token struct {
	Issuer  string
	Subject string
	Claims  map[string]any // as encoding/json has them, but for numbers, which are json.Number

	// Memo is for whoever asked, who remembers what the claims mean to it.
	Memo atomic.Value

	text               string  // as it was shown
	keys               *keySet // that has the key by which it was verified
	notBefore, expires time.Time
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*issuer
	algs    []jose.SignatureAlgorithm // of all issuers
	recent  *recent
}

// New returns a verifier of tokens of the issuers, which were validated. Keys in
// files are read at once, those of others by Run.
func New(issuers []Issuer, logger *slog.Logger, reg prometheus.Registerer) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*issuer), recent: newRecent()}
	m := newMetrics(reg)
	for _, cfg := range issuers {
		if v.issuers[cfg.URL] != nil {
			return nil, fmt.Errorf("the issuer %s is there twice", cfg.URL)
		}
		i := newIssuer(cfg, logger, m)
		if cfg.KeysFile != "" {
			if err := i.fetch(context.Background()); err != nil {
				return nil, fmt.Errorf("keys of the issuer %s: %w", cfg.URL, err)
			}
		}
		v.issuers[cfg.URL] = i
		v.algs = append(v.algs, i.algs...)
	}
	return v, nil
}

// Run keeps the keys up to date until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, i := range v.issuers {
		all.Go(func() { i.run(ctx) })
	}
	<-ctx.Done()
	all.Wait()
	return nil
}

// LooksLikeToken reports whether s has the form of a signed token.
func LooksLikeToken(s string) bool { return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2 }

// Verify returns what a token says, once it is known that its issuer says so, to
// us, and now. Its errors are of the kinds Unauthenticated and Unavailable and
// repeat nothing of the token.
func (v *Verifier) Verify(ctx context.Context, token string) (*Token, *proto.Error) {
	now := time.Now()
	if len(token) > maxTokenBytes {
		return nil, invalid("has %d bytes, the limit is %d", len(token), maxTokenBytes)
	}
	if t := v.recent.get(token); t != nil && v.issuers[t.Issuer].keys.Load() == t.keys {
		if refusal := t.within(now); refusal != nil {
			return nil, refusal
		}
		return t, nil
	}
	signed, err := jose.ParseSignedCompact(token, v.algs)
	if err != nil {
		return nil, malformed(err)
	}
	claims, refusal := parseClaims(signed.UnsafePayloadWithoutVerification())
	if refusal != nil {
		return nil, refusal
	}
	i := v.issuers[claims.issuer]
	if i == nil {
		return nil, invalid("is of an issuer that is not trusted here")
	}
	keys, refusal := i.verify(ctx, signed, claims, now)
	if refusal != nil {
		return nil, refusal
	}
	if !slices.ContainsFunc(claims.audiences, func(a string) bool { return slices.Contains(i.cfg.Audiences, a) }) {
		return nil, invalid("is meant for another audience")
	}
	t := &Token{
		Issuer: claims.issuer, Subject: claims.subject, Claims: claims.all,
		keys: keys, notBefore: claims.notBefore, expires: claims.expires,
	}
	if refusal := t.within(now); refusal != nil {
		return nil, refusal
	}
	v.recent.put(token, t)
	return t, nil
}

func invalid(format string, args ...any) *proto.Error {
	return proto.Errorf(proto.KindUnauthenticated, "weir-credential-invalid", "the token %s", fmt.Sprintf(format, args...))
}

// malformed says what is wrong with what is not signed as it should be.
func malformed(err error) *proto.Error {
	if errors.As(err, new(*jose.ErrUnexpectedSignatureAlgorithm)) {
		return invalid("is signed by an algorithm that its issuer does not use")
	}
	return invalid("is no signed JWT")
}

// within returns why a token does not hold now.
func (t *Token) within(now time.Time) *proto.Error {
	switch {
	case now.After(t.expires.Add(clockSkew)):
		return proto.Errorf(proto.KindUnauthenticated, "weir-credential-expired",
			"the token expired at %s; get a new one from its issuer", t.expires.UTC().Format(time.RFC3339))
	case now.Before(t.notBefore.Add(-clockSkew)):
		return proto.Errorf(proto.KindUnauthenticated, "weir-credential-early",
			"the token is valid from %s on", t.notBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// claims are those of a token that we need ourselves, and all.
type claims struct {
	issuer, subject            string
	audiences                  []string
	expires, notBefore, issued time.Time // zero: not there, but for expires
	all                        map[string]any
}

// parseClaims reads the payload of a token, which need not be verified.
func parseClaims(payload []byte) (claims, *proto.Error) {
	var c claims
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if err := dec.Decode(&c.all); err != nil || c.all == nil {
		return claims{}, invalid("is no JWT: its payload is not a JSON object")
	}
	c.issuer, _ = c.all["iss"].(string)
	c.subject, _ = c.all["sub"].(string)
	c.audiences = Strings(c.all["aud"])
	for _, f := range []struct {
		name string
		to   *time.Time
	}{{"exp", &c.expires}, {"nbf", &c.notBefore}, {"iat", &c.issued}} {
		value, there := c.all[f.name]
		if !there {
			continue
		}
		n, _ := value.(json.Number)
		seconds, err := n.Float64()
		if err != nil || seconds < 0 || seconds > 1e12 {
			return claims{}, invalid("has a claim %s that is no time", f.name)
		}
		*f.to = time.Unix(int64(seconds), 0)
	}
	if c.expires.IsZero() {
		return claims{}, invalid("has no claim exp, so it would be good for ever")
	}
	if c.issued.After(c.notBefore) {
		c.notBefore = c.issued // nobody can have signed it before
	}
	return c, nil
}

// Strings are the strings of a claim that is one, or a list of them.
func Strings(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}
