package tenant

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-metrics/weir/strictyaml"
)

// maxChanges bounds the audit records of one version of the runtime file.
const maxChanges = 1000

// record writes down what a version changes of the one before, whoever wrote it: a
// command, a person or a program. The first version of a process changes nothing.
func (d *Directory) record(next, before *version) {
	if d.auth.Audit == nil {
		return
	}
	ctx := context.Background()
	d.auth.Audit.Changed(ctx, "take tenants file", next.hash, nil)
	if before.hash == "" {
		return
	}
	all := next.changes(before)
	for _, c := range all[:min(len(all), maxChanges)] {
		d.auth.Audit.Changed(ctx, c.action, c.object, c.differences)
	}
	if more := len(all) - maxChanges; more > 0 {
		d.auth.Audit.Changed(ctx, fmt.Sprintf("change %d more", more), next.hash, nil)
	}
}

// change is what a version of the runtime file does to a plan, a tenant or a
// credential.
type change struct {
	action      string // such as "add tenant"
	object      string // its name
	differences []string
}

// changes returns what v changes of the version before. What a plan changes for those
// who follow it is told of the plan alone.
func (v *version) changes(before *version) []change {
	ofPlan := func(now, then entry) []string {
		then.plan = now.plan // itself
		return now.differences(then)
	}
	return slices.Concat(
		changesOf("plan", before.plans, v.plans, ofPlan),
		changesOf("tenant", before.tenants, v.tenants, entry.differences),
		changesOf("credential", before.credentials.byID(), v.credentials.byID(), (*Credential).differences),
	)
}

// changesOf compares things of a kind by their names. A difference from the zero value
// is what one has that is new.
func changesOf[T any](kind string, then, now map[string]T, differences func(now, then T) []string) []change {
	names := maps.Clone(now)
	maps.Copy(names, then)
	var all []change
	for _, name := range slices.Sorted(maps.Keys(names)) {
		old, was := then[name]
		this, is := now[name]
		c := change{object: name}
		switch {
		case !was:
			c.action, c.differences = "add "+kind, differences(this, old)
		case !is:
			c.action = "remove " + kind
		default:
			if c.action, c.differences = "change "+kind, differences(this, old); len(c.differences) == 0 {
				continue
			}
		}
		all = append(all, c)
	}
	return all
}

// differences are those between what holds for e and what held for then, as far as
// either sets it itself.
func (e entry) differences(then entry) []string {
	was, is := map[string]any{"plan": then.plan}, map[string]any{"plan": e.plan}
	if then.settings != e.settings {
		for _, path := range slices.Concat(then.own, e.own) {
			was[path], is[path] = valueAt(then.settings, path), valueAt(e.settings, path)
		}
	}
	return differences(was, is)
}

// valueAt returns what settings say at a path, nil for nothing.
func valueAt(s *Settings, path string) any {
	at := reflect.ValueOf(s)
	for key := range strings.SplitSeq(path, ".") {
		if at = reflect.Indirect(at); !at.IsValid() {
			return nil
		}
		for _, f := range strictyaml.Fields(at) {
			if f.Name == key {
				at = f.Value
				break
			}
		}
	}
	return at.Interface()
}

// byID returns the credentials by their ids.
func (cs *Credentials) byID() map[string]*Credential {
	all := make(map[string]*Credential)
	if cs != nil {
		for i := range cs.list {
			all[cs.list[i].ID] = &cs.list[i]
		}
	}
	return all
}

// differences are those between a credential and what it was; nil: nothing.
func (c *Credential) differences(then *Credential) []string {
	switch {
	case then == nil:
		then = new(Credential)
	case reflect.DeepEqual(then, c):
		return nil
	}
	return differences(then.values(), c.values())
}

// values are what was written of a credential: of its secrets how long they live.
func (c *Credential) values() map[string]any {
	all := make(map[string]any)
	for _, f := range strictyaml.Fields(reflect.ValueOf(c).Elem()) {
		if f.Name != "id" && f.Name != "secrets" {
			all[f.Name] = f.Value.Interface()
		}
	}
	for _, s := range c.Secrets {
		hash, _ := parseHash(s.SHA256)
		life := "until " + cmp.Or(s.Expires, "revoked")
		if s.NotBefore != "" {
			life = "from " + s.NotBefore + " " + life
		}
		all["secrets."+hash.short()] = life
	}
	return all
}

// differences spells out where values differ, by path.
func differences(then, now map[string]any) []string {
	paths := maps.Clone(now)
	maps.Copy(paths, then)
	var all []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if reflect.DeepEqual(then[path], now[path]) {
			continue
		}
		switch was, is := textOf(then[path]), textOf(now[path]); {
		case was != "":
			all = append(all, path+": "+was+" -> "+cmp.Or(is, "none"))
		case is != "":
			all = append(all, path+": "+is)
		}
	}
	return all
}

// textOf is a value as the runtime file has it, in one line; "" for none. Secrets are
// hidden.
func textOf(value any) string {
	v := reflect.ValueOf(value)
	if !v.IsValid() || v.IsZero() && v.Kind() != reflect.Bool && !v.CanInt() || v.Kind() == reflect.Slice && v.Len() == 0 {
		return ""
	}
	n, err := strictyaml.Node(v)
	if err != nil {
		return ""
	}
	n.Style = yaml.FlowStyle
	text, err := yaml.Marshal(n)
	if err != nil {
		return ""
	}
	return likeSecret.ReplaceAllString(strings.TrimSpace(string(text)), secretPrefix+"...")
}
