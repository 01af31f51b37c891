package api

import "slices"

// Route is a line of a route table, for tests.
type Route struct {
	Methods []string
	Pattern string
	Needs   string
	Admin   bool // of the admin listener
}

// RouteTable returns the tables of both listeners.
func (a *API) RouteTable() []Route {
	var all []Route
	add := func(routes []route, admin bool) {
		for _, rt := range routes {
			needs := []string{"", "public", "anyone", "writers", "readers", "operators"}[rt.needs]
			all = append(all, Route{slices.Clone(rt.methods), rt.pattern, needs, admin})
		}
	}
	add(a.dataRoutes(), false)
	add(a.adminRoutes(), true)
	return all
}
