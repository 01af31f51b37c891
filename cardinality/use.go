package cardinality

import "github.com/weir-metrics/weir/proto"

// Use appends how much of each limit on the tenant and its label sets is used,
// where that is at least the share from.
func (a *Active) Use(dst []proto.Quota, from float64) []proto.Quota {
	use := func(name string, active, limit int) {
		if limit > 0 && float64(active) >= from*float64(limit) {
			dst = append(dst, proto.Quota{Limit: name, Current: float64(active), Maximum: float64(limit)})
		}
	}
	use("max_active_series", a.total.active, a.limits.Series)
	for i := range a.limits.Sets {
		s := &a.limits.Sets[i]
		use(s.Setting, a.sets[i].active, s.Series)
	}
	return dst
}
