package tenant

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/weir-metrics/weir/relabel"
)

// Credential is an entry of the list credentials in the runtime file: who may do
// what for which tenants. It holds hashes of secrets, never a secret.
type Credential struct {
	ID           string            `yaml:"id"`                    // for people, logs and basic auth; formed as a tenant id
	Tenants      []string          `yaml:"tenants"`               // that it owns; {tenant} is what is found in a name that jwt or certificate matches
	Scopes       []string          `yaml:"scopes"`                // write, read, rules, admin
	Secrets      []Secret          `yaml:"secrets"`               // each is as good as another: two of them overlap in a rotation
	JWT          *TokenMatch       `yaml:"jwt,omitempty"`         // tokens that are as good
	Certificate  *CertificateMatch `yaml:"certificate,omitempty"` // certificates of clients that are as good
	Labels       []BoundLabel      `yaml:"labels"`                // of every series that is written with it
	Rules        relabel.Config    `yaml:"rules,omitempty"`       // for series that are written with it, before those of the tenant
	Readable     []string          `yaml:"readable"`              // selectors of the series that it may read, see LabelPolicy; none: all
	AllowedCIDRs []string          `yaml:"allowed_cidrs"`         // from where it may be used; none: from anywhere
}

// Secret is one of the secrets of a credential.
type Secret struct {
	SHA256    string `yaml:"sha256"`     // of the secret, in hexadecimal
	NotBefore string `yaml:"not_before"` // RFC 3339; empty: no bound
	Expires   string `yaml:"expires"`    // RFC 3339; empty: never
}

// scopeNames are the scopes as the runtime file spells them.
var scopeNames = []struct {
	name  string
	scope Scope
}{{"write", ScopeWrite}, {"read", ScopeRead}, {"rules", ScopeRules}, {"admin", ScopeAdmin}}

// scopeOf returns the scope of a name, or 0.
func scopeOf(name string) Scope {
	for _, n := range scopeNames {
		if n.name == name {
			return n.scope
		}
	}
	return 0
}

// String lists the scopes by name.
func (s Scope) String() string {
	var names []string
	for _, n := range scopeNames {
		if s.Has(n.scope) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ", ")
}

// grant is what a credential allows, whatever was shown to prove it.
type grant struct {
	who       Identity // all but the tenant
	tenants   []string // that it owns, sorted
	templates []string // of more tenants, with a place for what a name has
	sources   []netip.Prefix
}

func (g *grant) owns(tenantID string) bool {
	_, found := slices.BinarySearch(g.tenants, tenantID)
	return found
}

// compiler turns credentials into what is asked for each request, and collects
// every violation.
type compiler struct{ errs []error }

func (c *compiler) violation(path, value, rule string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %q: must %s", path, value, fmt.Sprintf(rule, args...)))
}

// grant compiles what a credential allows. before is what it allowed in the version
// before, or nil: what is bound to it keeps its pointer unless it changed, because
// verdicts are remembered under that.
func (c *compiler) grant(path string, cred *Credential, before *grant) *grant {
	if before == nil {
		before = new(grant)
	}
	if err := ValidateID(cred.ID); err != nil {
		c.violation(path+".id", cred.ID, "be formed as a tenant id: %v", err)
	}
	g := new(grant)
	g.tenants, g.templates = c.tenants(path+".tenants", cred.Tenants)
	g.who.Credential = cred.ID
	g.who.Scopes = c.scopes(path+".scopes", cred.Scopes)
	if g.who.Bound = c.labels(path+".labels", cred.Labels); reflect.DeepEqual(before.who.Bound, g.who.Bound) {
		g.who.Bound = before.who.Bound
	}
	if g.who.Rules = before.who.Rules; !g.who.Rules.Of(&cred.Rules) {
		var errs []error
		g.who.Rules, errs = relabel.Compile(&cred.Rules, path+".rules")
		c.errs = append(c.errs, errs...)
	}
	g.who.Readable = c.readable(path+".readable", cred.Readable, g.who.Scopes)
	if len(cred.Tenants) == 0 && g.who.Scopes != ScopeAdmin {
		c.violation(path+".tenants", "", "name a tenant; only a credential for nothing but admin needs none")
	}
	if cred.AllowedCIDRs != nil && len(cred.AllowedCIDRs) == 0 {
		c.violation(path+".allowed_cidrs", "", "name a network; to allow all, leave it out")
	}
	for i, cidr := range cred.AllowedCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			c.violation(fmt.Sprintf("%s.allowed_cidrs[%d]", path, i), cidr, "be a network such as 10.0.0.0/8")
		}
		g.sources = append(g.sources, prefix)
	}
	return g
}

// tenants returns the tenants that are named, sorted, and the templates of others.
func (c *compiler) tenants(path string, ids []string) (sorted, templates []string) {
	seen := make(map[string]bool)
	for i, id := range ids {
		example := id
		if strings.Contains(id, tenantPlace) {
			example = strings.Replace(id, tenantPlace, "a", 1)
			templates = append(templates, id)
		} else {
			sorted = append(sorted, id)
		}
		if err := ValidateID(example); err != nil {
			c.violation(fmt.Sprintf("%s[%d]", path, i), id, "be a tenant id: %v", err)
		}
		if seen[id] {
			c.violation(path, id, "be listed once")
		}
		seen[id] = true
	}
	slices.Sort(sorted)
	return sorted, templates
}

// readable compiles the label policy of a credential with scopes; those that go
// around it cannot be had with it.
func (c *compiler) readable(path string, selectors []string, scopes Scope) *LabelPolicy {
	if selectors == nil { // left out; an empty list would be a mistake, and null the file cannot have
		return nil
	}
	if scopes&(ScopeRules|ScopeAdmin) != 0 {
		c.errs = append(c.errs, fmt.Errorf("%s: must not be with the scopes rules or admin, which show more than it lets be read", path))
	}
	policy, err := ParseLabelPolicy(selectors)
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", path, err))
		return new(LabelPolicy) // lets nothing be read, should anybody go on
	}
	return policy
}

func (c *compiler) scopes(path string, names []string) Scope {
	var all Scope
	for i, name := range names {
		scope := scopeOf(name)
		if scope == 0 {
			c.violation(fmt.Sprintf("%s[%d]", path, i), name, "be one of %s", AllScopes)
		}
		all |= scope
	}
	if len(names) == 0 {
		c.violation(path, "", "have one of %s", AllScopes)
	}
	return all
}

func (c *compiler) labels(path string, bound []BoundLabel) *BoundLabels {
	if len(bound) == 0 {
		return nil
	}
	out := &BoundLabels{Labels: slices.Clone(bound)}
	for i := range out.Labels {
		l, at := &out.Labels[i], fmt.Sprintf("%s[%d]", path, i)
		if !model.UTF8Validation.IsValidLabelName(l.Name) || strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			c.violation(at+".name", l.Name, "be a label name that does not start with %s", model.ReservedLabelPrefix)
		}
		if l.Value == "" || !utf8.ValidString(l.Value) {
			c.violation(at+".value", l.Value, "be UTF-8 and not empty")
		}
		switch l.OnConflict {
		case "":
			l.OnConflict = Overwrite
		case Overwrite, Keep, Reject:
		default:
			c.violation(at+".on_conflict", string(l.OnConflict), "be %s, %s or %s", Overwrite, Keep, Reject)
		}
	}
	slices.SortFunc(out.Labels, func(a, b BoundLabel) int { return strings.Compare(a.Name, b.Name) })
	for i := range out.Labels[1:] {
		if name := out.Labels[i].Name; name == out.Labels[i+1].Name {
			c.violation(path, name, "be bound once")
		}
	}
	return out
}

// secret returns a secret of the credential that g is of, by its hash.
func (c *compiler) secret(path string, s *Secret, g *grant) (Hash, *heldSecret) {
	hash, ok := parseHash(s.SHA256)
	if !ok {
		// The value is left out: whatever it is, somebody may use it as a secret.
		c.errs = append(c.errs, fmt.Errorf("%s.sha256: must be 64 hexadecimal digits, the SHA-256 of a secret and not the secret", path))
	}
	held := &heldSecret{holder: holder{of: g, grants: []*grant{g}}, name: hash.short()}
	held.notBefore = c.time(path+".not_before", s.NotBefore)
	held.expires = c.time(path+".expires", s.Expires)
	if !held.expires.IsZero() && !held.notBefore.Before(held.expires) {
		c.violation(path+".expires", s.Expires, "be after not_before")
	}
	return hash, held
}

func (c *compiler) time(path, text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		c.violation(path, text, "be a time such as 2026-12-31T23:00:00Z")
	}
	return t
}
