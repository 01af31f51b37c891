package tenant

import (
	"maps"
	"reflect"
	"slices"

	"github.com/weir-metrics/weir/strictyaml"
)

// Effective is what holds for a tenant, and why.
type Effective struct {
	Tenant   string            `json:"tenant"`
	Listed   bool              `json:"listed"`         // in the runtime file
	Plan     string            `json:"plan,omitempty"` // that it follows
	Version  string            `json:"version"`        // SHA-256 of the runtime file; empty: there is none
	Settings map[string]any    `json:"settings"`       // as the runtime file would have them
	Origins  map[string]string `json:"origins"`        // of each path in Settings
}

// Where a value comes from, the nearest last. A plan is named: "plan gold".
const (
	originDefault = "default" // what the process would have without a configuration
	originConfig  = "config"  // the configuration of the process
	originPlan    = "plan "
	originTenant  = "tenant"
)

// Effective describes what holds for a tenant now.
func (d *Directory) Effective(tenantID string) (Effective, error) {
	v := d.current.Load()
	e, listed := v.of(tenantID)
	out := Effective{Tenant: tenantID, Listed: listed, Plan: e.plan, Version: v.hash, Origins: d.origins(v, e, listed)}
	node, err := strictyaml.Node(reflect.ValueOf(e.settings))
	if err == nil {
		err = node.Decode(&out.Settings)
	}
	if err != nil {
		return Effective{}, err
	}
	return out, nil
}

// Origins says of each path of the settings of a tenant where its value comes from, as
// in Effective.
func (d *Directory) Origins(tenantID string) map[string]string {
	v := d.current.Load()
	e, listed := v.of(tenantID)
	return d.origins(v, e, listed)
}

func (d *Directory) origins(v *version, e entry, listed bool) map[string]string {
	all := make(map[string]string)
	defaults := DefaultSettings()
	byDefault, byConfig := valuesOf(&defaults), valuesOf(d.base)
	for path := range valuesOf(e.settings) {
		switch {
		case listed && slices.Contains(e.own, path):
			all[path] = originTenant
		case e.plan != "" && slices.Contains(v.plans[e.plan].own, path):
			all[path] = originPlan + e.plan
		case reflect.DeepEqual(byConfig[path], byDefault[path]):
			all[path] = originDefault
		default:
			all[path] = originConfig
		}
	}
	return all
}

// valuesOf returns what settings say by path.
func valuesOf(s *Settings) map[string]any {
	values := make(map[string]any)
	for _, leaf := range strictyaml.Leaves(reflect.ValueOf(*s)) {
		values[leaf.Name] = leaf.Value.Interface()
	}
	return values
}

// Info is a tenant that the runtime file lists.
type Info struct {
	ID   string
	Plan string   // empty: none
	Own  []string // paths of what it sets itself
}

// Tenants returns those that the runtime file lists, by id.
func (d *Directory) Tenants() []Info {
	v := d.current.Load()
	var all []Info
	for _, id := range slices.Sorted(maps.Keys(v.tenants)) {
		all = append(all, Info{id, v.tenants[id].plan, v.tenants[id].own})
	}
	return all
}
