package tenant

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Credentials is one version of all credentials, found by the hash of a secret.
// It is immutable, but for when each secret was last used, which the version
// after it goes on with.
//
// A secret is looked up by its hash, in a map, and not compared. That takes as
// long as it takes, and tells nothing: what differs in time depends on the
// SHA-256 of what was sent and on those that are kept. Whoever could tell how
// many bytes of the two agree would know a part of a hash, and would need to find
// 32 random bytes with that hash to make use of it. A look-up that fails costs
// what one costs that succeeds, so there is nothing to gain from remembering that
// a secret was wrong; and a new secret counts as soon as its version is there.
type Credentials struct {
	bySecret map[Hash]*heldSecret
	rules    map[string][]*rule // by the issuer of tokens; "": for certificates
	list     []Credential
	mark     *mark
}

// mark tells versions of credentials apart, for who remembers what held under one
// without keeping all of it. It has a size, so that no two are at one address.
type mark struct{ _ byte }

func (cs *Credentials) marked() *mark {
	if cs == nil {
		return nil
	}
	return cs.mark
}

// heldSecret is a secret by which its holder is known.
type heldSecret struct {
	holder
	name               string    // Hash.short
	notBefore, expires time.Time // zero: no bound
}

// NewCredentials compiles the list of the runtime file, which is at path in it,
// and reports every violation. before is the version that it follows, or nil:
// what is bound to a credential keeps its pointer there unless it changed.
func NewCredentials(path string, list []Credential, before *Credentials) (*Credentials, []error) {
	var (
		c    compiler
		cs   = &Credentials{bySecret: make(map[Hash]*heldSecret), rules: make(map[string][]*rule), list: list, mark: new(mark)}
		ids  = make(map[string]bool)
		then = before.grants()
	)
	for i := range list {
		cred, at := &list[i], fmt.Sprintf("%s[%d]", path, i)
		g := c.grant(at, cred, then[cred.ID])
		if ids[cred.ID] {
			c.violation(at+".id", cred.ID, "be unlike all others")
		}
		ids[cred.ID] = true
		for _, r := range c.rules(at, cred, g) {
			cs.rules[r.issuer] = append(cs.rules[r.issuer], r)
		}
		for j := range cred.Secrets {
			at := fmt.Sprintf("%s.secrets[%d]", at, j)
			hash, held := c.secret(at, &cred.Secrets[j], g)
			if cs.bySecret[hash] != nil && hash != (Hash{}) {
				c.violation(at+".sha256", hash.String(), "be of one credential: a secret says who somebody is")
			}
			if held.use = before.useOf(hash); held.use == nil {
				held.use = new(use)
			}
			cs.bySecret[hash] = held
		}
	}
	return cs, withoutSecrets(c.errs)
}

// grants returns those of every credential that anybody can show, by id.
func (cs *Credentials) grants() map[string]*grant {
	all := make(map[string]*grant)
	if cs != nil {
		for _, held := range cs.bySecret {
			all[held.of.who.Credential] = held.of
		}
		for _, rules := range cs.rules {
			for _, r := range rules {
				all[r.of.who.Credential] = r.of
			}
		}
	}
	return all
}

func (cs *Credentials) useOf(hash Hash) *use {
	if cs == nil || cs.bySecret[hash] == nil {
		return nil
	}
	return cs.bySecret[hash].use
}

// find returns who has a secret, or nil.
func (cs *Credentials) find(secret string) *heldSecret {
	if cs == nil || !looksLikeSecret(secret) {
		return nil
	}
	return cs.bySecret[hashOf(secret)]
}

// usePeriod is how often the use of a secret is news.
const usePeriod = time.Hour

// use is when a secret was used.
type use struct {
	last atomic.Int64 // Unix seconds; 0: never since the start
	news atomic.Int64 // of the use that was last reported, Unix seconds
}

// at notes a use, and reports whether it is the first in usePeriod.
func (u *use) at(now time.Time) bool {
	s := now.Unix()
	if u.last.Load() != s { // most requests find it there, and leave the cache line alone
		u.last.Store(s)
	}
	news := u.news.Load()
	return s-news >= int64(usePeriod/time.Second) && u.news.CompareAndSwap(news, s)
}

// CredentialInfo describes a credential to operators.
type CredentialInfo struct {
	ID      string   `json:"id"`
	Tenants []string `json:"tenants"`
	Scopes  []string `json:"scopes"`
	// Readable are the selectors of what it may read; none: all.
	Readable []string     `json:"readable,omitempty"`
	Secrets  []SecretInfo `json:"secrets"`

	JWT         *TokenMatch       `json:"jwt,omitempty"`
	Certificate *CertificateMatch `json:"certificate,omitempty"`
}

// SecretInfo describes a secret of a credential, of which it tells nothing.
type SecretInfo struct {
	Hash      string     `json:"hash"` // the first 8 digits of its sha256
	State     string     `json:"state"`
	NotBefore *time.Time `json:"notBefore,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	LastUsed  *time.Time `json:"lastUsed,omitempty"` // since the process started
}

// describe returns the credentials and their secrets in the order of the file.
func (cs *Credentials) describe(now time.Time) []CredentialInfo {
	all := []CredentialInfo{}
	if cs == nil {
		return all
	}
	for _, c := range cs.list {
		info := CredentialInfo{
			ID: c.ID, Tenants: c.Tenants, Scopes: c.Scopes, Readable: c.Readable, Secrets: []SecretInfo{}, JWT: c.JWT, Certificate: c.Certificate,
		}
		for _, s := range c.Secrets {
			hash, _ := parseHash(s.SHA256)
			info.Secrets = append(info.Secrets, cs.bySecret[hash].info(now))
		}
		all = append(all, info)
	}
	return all
}

func (s *heldSecret) info(now time.Time) SecretInfo {
	info := SecretInfo{Hash: s.name, State: "valid"}
	optional := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	info.NotBefore, info.Expires = optional(s.notBefore), optional(s.expires)
	if last := s.use.last.Load(); last != 0 {
		info.LastUsed = optional(time.Unix(last, 0).UTC())
	}
	switch {
	case s.early(now):
		info.State = "not yet valid"
	case s.late(now):
		info.State = "expired"
	}
	return info
}

func (s *heldSecret) early(now time.Time) bool { return now.Before(s.notBefore) }

func (s *heldSecret) late(now time.Time) bool {
	return !s.expires.IsZero() && !now.Before(s.expires)
}
