package tenant_test

import (
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/weir-metrics/weir/tenant"
)

func TestBoundLabels(t *testing.T) {
	b := &tenant.BoundLabels{Labels: []tenant.BoundLabel{
		{Name: "env", Value: "prod", OnConflict: tenant.Overwrite},
		{Name: "site", Value: "a", OnConflict: tenant.Reject},
		{Name: "team", Value: "shop", OnConflict: tenant.Keep},
		{Name: "zone", Value: "1"}, // overwrites
	}}
	for _, c := range []struct {
		name     string
		in, want labels.Labels
		conflict string
	}{
		{"all are missing", labels.FromStrings("__name__", "up", "job", "j"), labels.FromStrings("__name__", "up", "env", "prod", "job", "j", "site", "a", "team", "shop", "zone", "1"), ""},
		{"none", labels.EmptyLabels(), labels.FromStrings("env", "prod", "site", "a", "team", "shop", "zone", "1"), ""},
		{"all are there", labels.FromStrings("env", "prod", "site", "a", "team", "shop", "zone", "1"), labels.FromStrings("env", "prod", "site", "a", "team", "shop", "zone", "1"), ""},
		{"others", labels.FromStrings("env", "x", "site", "a", "team", "y", "zone", "z"), labels.FromStrings("env", "prod", "site", "a", "team", "y", "zone", "1"), ""},
		{"conflict", labels.FromStrings("site", "b"), labels.EmptyLabels(), "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, conflict := b.Apply(slice(c.in))
			if c.conflict != "" {
				require.Equal(t, &labels.Label{Name: "site", Value: c.conflict}, conflict)
				return
			}
			require.Nil(t, conflict)
			require.Equal(t, slice(c.want), got)
			require.True(t, slices.IsSortedFunc(got, func(a, b labels.Label) int { return labels.Compare(labels.New(a), labels.New(b)) }))
		})
	}
	ls := slice(labels.FromStrings("a", "b"))
	got, conflict := (*tenant.BoundLabels)(nil).Apply(ls)
	require.Nil(t, conflict)
	require.Equal(t, ls, got)
}

func slice(ls labels.Labels) (out []labels.Label) {
	ls.Range(func(l labels.Label) { out = append(out, l) })
	return out
}
