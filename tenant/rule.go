package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// TokenMatch says which tokens of an issuer a credential is for.
type TokenMatch struct {
	Issuer string              `yaml:"issuer" json:"issuer"` // one of auth.issuers
	Claims map[string][]string `yaml:"claims" json:"claims"` // by path: each must have a value of one of the forms
}

// CertificateMatch says which certificates of clients a credential is for. Each
// list that is there must have a form of one of the certificate's names.
type CertificateMatch struct {
	URI []string `yaml:"uri" json:"uri,omitempty"` // such as a SPIFFE id
	DNS []string `yaml:"dns" json:"dns,omitempty"`
	OU  []string `yaml:"ou" json:"ou,omitempty"`
	CN  []string `yaml:"cn" json:"cn,omitempty"`
}

// lists are those that are there of a match, by name.
func (m *CertificateMatch) lists() map[string][]string {
	all := map[string][]string{"uri": m.URI, "dns": m.DNS, "ou": m.OU, "cn": m.CN}
	maps.DeleteFunc(all, func(_ string, list []string) bool { return list == nil })
	return all
}

// rule gives a grant to whoever has names of the right forms.
type rule struct {
	of     *grant
	issuer string               // of tokens; "" for certificates
	forms  map[string][]pattern // by list: each must be met
}

// places counts the lists in whose names a tenant can be found.
func (r *rule) places() (n int) {
	for _, forms := range r.forms {
		if slices.ContainsFunc(forms, func(p pattern) bool { return p.places }) {
			n++
		}
	}
	return n
}

// match returns what somebody with these names gets, or nil.
func (r *rule) match(names func(list string) []string) *grant {
	var found []string
	for list, forms := range r.forms {
		met := false
		for _, name := range names(list) {
			for i := range forms {
				id, ok := forms[i].match(name)
				met = met || ok
				if ok && id != "" && !slices.Contains(found, id) {
					found = append(found, id)
				}
			}
		}
		if !met {
			return nil
		}
	}
	if len(r.of.templates) == 0 {
		return r.of
	}
	g := *r.of
	g.tenants = sortedSet(slices.Concat(g.tenants, fill(g.templates, found)))
	return &g
}

func sortedSet(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// rules returns those by which a credential is found other than by its secrets.
func (c *compiler) rules(path string, cred *Credential, g *grant) []*rule {
	var all []*rule
	if m := cred.JWT; m != nil {
		r := &rule{of: g, issuer: m.Issuer, forms: c.forms(path+".jwt.claims", m.Claims)}
		if m.Issuer == "" {
			c.violation(path+".jwt.issuer", m.Issuer, "be the url of one of auth.issuers")
		}
		all = append(all, r)
	}
	if m := cred.Certificate; m != nil {
		all = append(all, &rule{of: g, forms: c.forms(path+".certificate", m.lists())})
	}
	for _, r := range all {
		places := r.places()
		if (places > 0) != (len(g.templates) > 0) {
			c.violation(path+".tenants", strings.Join(cred.Tenants, ", "), "have %s where names are matched by it, and only there", tenantPlace)
		}
		if places > 1 { // or who has one thing of one tenant and the other of another had both
			c.violation(path+".tenants", strings.Join(cred.Tenants, ", "), "be found in one list of names: it has %s in %d", tenantPlace, places)
		}
	}
	if len(cred.Secrets) > 0 && len(g.tenants) == 0 && len(g.templates) > 0 {
		c.violation(path+".secrets", "", "be of a credential that names a tenant: no secret has a %s in it", tenantPlace)
	}
	if len(all) == 0 && len(g.templates) > 0 {
		c.violation(path+".tenants", strings.Join(cred.Tenants, ", "), "have no %s without jwt or certificate", tenantPlace)
	}
	return all
}

// forms compiles the lists of a match, which must not match everything.
func (c *compiler) forms(path string, lists map[string][]string) map[string][]pattern {
	all := make(map[string][]pattern)
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		if len(lists[list]) == 0 {
			c.violation(path+"."+list, "", "have a form: nothing would be asked of it")
		}
		for i, text := range lists[list] {
			all[list] = append(all[list], c.pattern(fmt.Sprintf("%s.%s[%d]", path, list, i), text))
		}
	}
	if len(lists) == 0 {
		c.violation(path, "", "say at least one form of a name")
	}
	return all
}
