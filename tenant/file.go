package tenant

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-metrics/weir/strictyaml"
)

// The runtime file describes tenants, and is read again while weir runs:
//
//	plans:                    # settings by name, for the tenants that follow a plan
//	  gold: {limits: {…}}
//	  default: {…}            # of tenants that name none, and of those not listed
//	tenants:
//	  team-a:
//	    plan: gold
//	    state: active
//	    limits: {…}           # single fields, over those of the plan
//	credentials: [{id: …, tenants: [team-a], …}]
//
// What a tenant does not set, its plan does; what the plan does not set, the
// configuration of the process does.

// defaultPlan is the plan of tenants that name none, if the file has it.
const defaultPlan = "default"

// maxFileBytes bounds the file: 100,000 tenants with a few limits each.
const maxFileBytes = 64 << 20

// file is the runtime file as it is written.
type file struct {
	Plans       map[string]yaml.Node `yaml:"plans"`
	Tenants     map[string]yaml.Node `yaml:"tenants"`
	Credentials []Credential         `yaml:"credentials"`
}

// tenantNode is an entry of tenants.
type tenantNode struct {
	Plan     string `yaml:"plan"`
	Settings `yaml:",inline"`
}

// entry is what holds for one tenant, or for those that follow a plan and set
// nothing themselves.
type entry struct {
	settings *Settings
	plan     string   // empty: none
	own      []string // paths of Settings that the tenant, or the plan, sets itself
}

// version is one version of what the runtime file says. It is immutable.
type version struct {
	hash        string // SHA-256 of the file in hexadecimal; empty: there is no file
	plans       map[string]entry
	tenants     map[string]entry
	unlisted    entry // of tenants that are not listed
	credentials *Credentials
}

// of returns what holds for a tenant, and whether the file lists it.
func (v *version) of(tenantID string) (entry, bool) {
	if e, ok := v.tenants[tenantID]; ok {
		return e, true
	}
	return v.unlisted, false
}

// parser makes a version of a file.
type parser struct {
	strictyaml.Decoder
	base   *Settings // of the process
	before *version  // whose pointers are kept where settings are the same
	next   *version
	faults map[string][]string // of plans: what compile said, without the path
}

// parse returns the version that src, the content of the file, describes over the
// settings of the process, or all that is wrong with it. Settings that were the same
// in the version before keep their pointers.
func parse(cfg Config, src []byte, base *Settings, before *version) (*version, []error) {
	switch {
	case len(src) > maxFileBytes:
		return nil, []error{fmt.Errorf("%s: is longer than %d bytes", cfg.File, maxFileBytes)}
	case before.hash != "" && len(bytes.TrimSpace(src)) == 0:
		// Who has no space left on the disk leaves such a file, and nobody could
		// show a credential then.
		return nil, []error{fmt.Errorf("%s: has become empty; to have no tenants, write {}", cfg.File)}
	}
	p := parser{
		Decoder: strictyaml.Decoder{File: cfg.File, Values: true}, base: base, before: before, faults: make(map[string][]string),
		next: &version{hash: hashOfFile(src), plans: make(map[string]entry), tenants: make(map[string]entry)},
	}
	var f file
	if root := p.Parse(bytes.NewReader(src)); root != nil {
		p.Read(root, &f, "")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Plans)) {
		p.plan(name, f.Plans[name])
	}
	p.next.unlisted = p.planned("")
	p.next.unlisted.settings = keep(before.unlisted.settings, p.next.unlisted.settings)
	for _, id := range slices.Sorted(maps.Keys(f.Tenants)) {
		p.tenant(id, f.Tenants[id])
	}
	var errs []error
	p.next.credentials, errs = NewCredentials("credentials", f.Credentials, before.credentials)
	p.Add(errs...)
	if cfg.Unlisted == RefuseUnlisted && len(f.Tenants) > 0 {
		p.owned(f.Credentials)
	}
	if cfg.Issuers != nil {
		p.issued(f.Credentials, cfg.Issuers)
	}
	if errs = p.Errors(); len(errs) > 0 {
		return nil, withoutSecrets(errs)
	}
	return p.next, nil
}

func hashOfFile(src []byte) string {
	hash := sha256.Sum256(src)
	return hex.EncodeToString(hash[:])
}

func (p *parser) plan(name string, node yaml.Node) {
	path := "plans." + name
	if err := ValidateID(name); err != nil {
		p.Add(fmt.Errorf("%s: must be formed as a tenant id: %w", path, err))
	}
	set := *p.base
	own := p.Read(&node, &set, path)
	e := entry{keep(p.before.plans[name].settings, &set), name, own}
	if e.settings == &set {
		p.faults[name] = p.compile(path, &set, nil)
	}
	p.next.plans[name] = e
}

func (p *parser) tenant(id string, node yaml.Node) {
	path := "tenants." + id
	if err := ValidateID(id); err != nil {
		p.Add(fmt.Errorf("%s: must be a tenant id: %w", path, err))
	}
	// Its plan has to be known before the rest of it can be read.
	plan := planOf(&node)
	e := p.planned(plan)
	if plan != "" && e.plan != plan {
		p.Add(fmt.Errorf("%s.plan: %q: must be a plan of this file", path, plan))
	}
	t := tenantNode{Settings: *e.settings}
	e.own = slices.DeleteFunc(p.Read(&node, &t, path), func(set string) bool { return set == "plan" })
	if len(e.own) > 0 {
		e.settings = &t.Settings
	}
	then, _ := p.before.of(id)
	if e.settings = keep(then.settings, e.settings); e.settings == &t.Settings {
		p.compile(path, &t.Settings, p.faults[e.plan])
	}
	p.next.tenants[id] = e
}

// keep returns then if the same was written there as in now.
func keep(then, now *Settings) *Settings {
	if then != nil && then.equal(now) {
		return then
	}
	return now
}

// compile returns the faults of the settings at path, without that path. Those
// that are known, from the plan, are not reported again.
func (p *parser) compile(path string, set *Settings, known []string) (faults []string) {
	for _, err := range set.compile(path) {
		fault := strings.TrimPrefix(err.Error(), path)
		if !slices.Contains(known, fault) {
			p.Add(err)
		}
		faults = append(faults, fault)
	}
	return faults
}

// planned returns what holds for those that follow a plan; an empty name is that
// of the default plan, which the file need not have.
func (p *parser) planned(plan string) entry {
	if e, ok := p.next.plans[cmp.Or(plan, defaultPlan)]; ok {
		return e
	}
	return entry{settings: p.base}
}

// planOf returns the plan that the entry of a tenant names.
func planOf(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		plan := n.Content[i+1]
		if plan.Kind == yaml.AliasNode {
			plan = plan.Alias
		}
		if n.Content[i].Value == "plan" && !isNull(plan) {
			return plan.Value
		}
	}
	return ""
}

// owned wants every tenant that a credential names to be listed: nobody could use
// it for another.
func (p *parser) owned(credentials []Credential) {
	for i, c := range credentials {
		for j, id := range c.Tenants {
			if _, listed := p.next.tenants[id]; !listed && !strings.Contains(id, tenantPlace) {
				p.Add(fmt.Errorf("credentials[%d].tenants[%d]: %q: must be listed under tenants", i, j, id))
			}
		}
	}
}

// issued wants the tokens that a credential is for to be of an issuer that is trusted:
// nobody could show one of another.
func (p *parser) issued(credentials []Credential, issuers []string) {
	known := "of which there is none"
	if len(issuers) > 0 {
		known = "which are " + strings.Join(issuers, ", ")
	}
	for i, c := range credentials {
		if c.JWT != nil && c.JWT.Issuer != "" && !slices.Contains(issuers, c.JWT.Issuer) {
			p.Add(fmt.Errorf("credentials[%d].jwt.issuer: %q: must be the url of one of auth.issuers, %s", i, c.JWT.Issuer, known))
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
