package relabel

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-metrics/weir/proto"
)

// A canary tries the shadow rules on a share of the series. Which series these are
// depends on nothing but their labels before any rule, so a series does not change
// sides, in no process and not by a restart. A larger share has all series of a
// smaller one.

// CanaryOf is where a series with these labels, sorted by name, lies between 0 and
// 1: it is in every share that is larger. buf is scratch, which it returns.
func CanaryOf(ls []labels.Label, buf []byte) (float64, []byte) {
	const seed = 0 // the same everywhere, for ever
	h, buf := proto.Identity(ls, seed, buf)
	return float64(h.Hi>>11) / (1 << 53), buf // the bits that a float64 has
}

// InCanary reports whether the shadow rules count for a series whose CanaryOf is at.
func (r *Rules) InCanary(at float64) bool { return r != nil && at < r.canary }

// HasCanary reports whether the rules are not the same for all series.
func (r *Rules) HasCanary() bool { return r != nil && r.canary > 0 }
