package querier

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-metrics/weir/proto"
	"github.com/weir-metrics/weir/tenant"
)

// View is what one identity may read: its tenant's series, or those of them that
// its label policy lets be read. Nothing of the others comes through it, be it
// in labels, counts, limits or errors. It may be used concurrently.
//
// Series are narrowed by adding the matchers of the policy to those of the
// query, one selection for each selector of the policy; and each series that
// comes back is held against the policy once more, which also drops those that
// two selections have. Names and values of labels are the union of what is found
// with each selector. Without a policy none of it is done.
type View struct {
	sources []Source
	limits  Limits
	tenant  string
	policy  *tenant.LabelPolicy // nil: everything may be read
}

// Queryable reads samples. Each Querier that it opens has the whole of the
// limits.
func (v *View) Queryable() storage.Queryable {
	return storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
		sel, err := v.open(mint, maxt)
		if err != nil {
			return nil, err
		}
		return sel, nil
	})
}

// ChunkQueryable reads samples as chunks, for who sends them on.
func (v *View) ChunkQueryable() storage.ChunkQueryable { return chunkQueryable{v} }

// ExemplarQueryable reads exemplars.
func (v *View) ExemplarQueryable() storage.ExemplarQueryable { return exemplarQueryable{v} }

// Whole returns nil if all of the tenant may be read, and may so be described by
// other ways than this: its blocks, its index, what was refused of it.
func (v *View) Whole() error {
	if v.policy != nil {
		return proto.Errorf(proto.KindForbidden, "weir-read-policy",
			"this describes all series of the tenant, and the credential may read some of them only; "+
				"use a credential without a label policy")
	}
	return nil
}

// narrow returns the selections whose union is what may be read of what matchers
// select: one for each selector of the policy. The slices are the caller's.
func narrow(policy *tenant.LabelPolicy, matchers []*labels.Matcher) [][]*labels.Matcher {
	if policy == nil {
		return [][]*labels.Matcher{slices.Clone(matchers)}
	}
	var narrowed [][]*labels.Matcher
	for _, selector := range policy.Selectors() {
		narrowed = append(narrowed, slices.Concat(matchers, selector))
	}
	return narrowed
}
