package tenant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Edit changes the YAML of a runtime file. Comments, the order of keys and all
// that is not changed stay as they are. What it makes is checked as a whole by
// EditFile, so that it looks at no more than what it changes.
type Edit struct {
	root *yaml.Node // a mapping
}

// CreateTenant adds a tenant that follows a plan, or none.
func (e *Edit) CreateTenant(id, plan string) error {
	tenants, err := child(e.root, "tenants")
	if err != nil {
		return err
	}
	if valueOf(tenants, id) != nil {
		return fmt.Errorf("there is a tenant %q already", id)
	}
	entry := &yaml.Node{Kind: yaml.MappingNode}
	if plan != "" {
		put(entry, "plan", text(plan))
	}
	put(tenants, id, entry)
	return nil
}

// DeleteTenant takes a tenant from the file, and from all credentials. A
// credential that owned no other tenant goes with it.
func (e *Edit) DeleteTenant(id string) error {
	if !remove(valueOf(e.root, "tenants"), id) {
		return fmt.Errorf("there is no tenant %q", id)
	}
	list := e.credentials()
	list.Content = slices.DeleteFunc(list.Content, func(c *yaml.Node) bool {
		owned := valueOf(c, "tenants")
		if owned == nil || !slices.ContainsFunc(owned.Content, named(id)) {
			return false
		}
		owned.Content = slices.DeleteFunc(owned.Content, named(id))
		return len(owned.Content) == 0
	})
	nothingLeft(list)
	return nil
}

// SetState makes a tenant active, suspended, or what else States has.
func (e *Edit) SetState(id string, state State) error {
	return e.Set("tenants", id, "state", string(state))
}

// Set sets the value at a path below the settings of a tenant or a plan, which
// must be there; in is "tenants" or "plans". The value is read as YAML.
func (e *Edit) Set(in, name, path, value string) error {
	at, err := e.entry(in, name)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err != nil || len(doc.Content) != 1 {
		return fmt.Errorf("%s: %q: is not a YAML value", path, value)
	}
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		if at, err = child(at, key); err != nil {
			return err
		}
	}
	put(at, keys[len(keys)-1], doc.Content[0])
	return nil
}

// Unset takes away what Set has set, so that what is inherited holds.
func (e *Edit) Unset(in, name, path string) error {
	at, err := e.entry(in, name)
	if err != nil {
		return err
	}
	keys := strings.Split(path, ".")
	around := []*yaml.Node{at}
	for _, key := range keys[:len(keys)-1] {
		at = valueOf(at, key)
		around = append(around, at)
	}
	if !remove(at, keys[len(keys)-1]) {
		return fmt.Errorf("%s %s does not set %s itself", strings.TrimSuffix(in, "s"), name, path)
	}
	for i := len(around) - 1; i > 0 && len(around[i].Content) == 0; i-- {
		remove(around[i-1], keys[i-1]) // nothing is left in it
	}
	return nil
}

// CreateCredential adds a credential with one secret, which expires then, or
// never.
func (e *Edit) CreateCredential(id string, tenants, scopes []string, secret Hash, expires time.Time) error {
	if e.credential(id) != nil {
		return fmt.Errorf("there is a credential %q already", id)
	}
	list, err := e.list("credentials")
	if err != nil {
		return err
	}
	c := &yaml.Node{Kind: yaml.MappingNode}
	put(c, "id", text(id))
	put(c, "tenants", texts(tenants))
	put(c, "scopes", texts(scopes))
	put(c, "secrets", &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{secretNode(secret, expires)}})
	list.Content = append(list.Content, c)
	return nil
}

// RevokeCredential takes a credential from the file.
func (e *Edit) RevokeCredential(id string) error {
	list := e.credentials()
	at := slices.Index(list.Content, e.credential(id))
	if at < 0 {
		return fmt.Errorf("there is no credential %q", id)
	}
	list.Content = slices.Delete(list.Content, at, at+1)
	nothingLeft(list)
	return nil
}

// RotateCredential gives a credential another secret, which expires then, or
// never. Those that it has count until grace, unless they expire before.
func (e *Edit) RotateCredential(id string, secret Hash, expires, now, grace time.Time) error {
	c := e.credential(id)
	if c == nil {
		return fmt.Errorf("there is no credential %q", id)
	}
	secrets := valueOf(c, "secrets")
	if secrets == nil || secrets.Kind != yaml.SequenceNode {
		secrets = &yaml.Node{Kind: yaml.SequenceNode}
		put(c, "secrets", secrets)
	}
	secrets.Content = slices.DeleteFunc(secrets.Content, func(s *yaml.Node) bool {
		if v := valueOf(s, "expires"); v != nil && !isNull(v) {
			// What is no time is for the check to complain about.
			if t, err := time.Parse(time.RFC3339, v.Value); err != nil || !t.After(grace) {
				return err == nil && !now.Before(t)
			}
		}
		put(s, "expires", text(grace.UTC().Format(time.RFC3339)))
		return !now.Before(grace)
	})
	secrets.Content = append(secrets.Content, secretNode(secret, expires))
	return nil
}

func secretNode(secret Hash, expires time.Time) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	put(n, "sha256", text(secret.String()))
	if !expires.IsZero() {
		put(n, "expires", text(expires.UTC().Format(time.RFC3339)))
	}
	return n
}

// entry returns the mapping of a tenant or a plan.
func (e *Edit) entry(in, name string) (*yaml.Node, error) {
	all := valueOf(e.root, in)
	if valueOf(all, name) == nil {
		return nil, fmt.Errorf("there is no %s %q", strings.TrimSuffix(in, "s"), name)
	}
	return child(all, name)
}

// credentials returns the list of them, or an empty one.
func (e *Edit) credentials() *yaml.Node {
	if list := valueOf(e.root, "credentials"); list != nil && list.Kind == yaml.SequenceNode {
		return list
	}
	return &yaml.Node{Kind: yaml.SequenceNode}
}

// credential returns the one with an id, or nil.
func (e *Edit) credential(id string) *yaml.Node {
	for _, c := range e.credentials().Content {
		if v := valueOf(c, "id"); v != nil && v.Value == id {
			return c
		}
	}
	return nil
}

// list returns the list at a key of the root, which it makes if there is none.
func (e *Edit) list(key string) (*yaml.Node, error) {
	n := valueOf(e.root, key)
	if n == nil || isNull(n) {
		n = &yaml.Node{Kind: yaml.SequenceNode}
		put(e.root, key, n)
	}
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("%s is no list", key)
	}
	spread(n)
	return n, nil
}
