package tenant

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// BoundLabels are labels that a credential gives every series it writes, sorted by
// name.
type BoundLabels struct{ Labels []BoundLabel }

// BoundLabel is a label that a credential gives every series it writes.
type BoundLabel struct {
	Name       string     `yaml:"name"`
	Value      string     `yaml:"value"`
	OnConflict OnConflict `yaml:"on_conflict"`
}

// OnConflict says what becomes of a series that comes with another value of a
// bound label.
type OnConflict string

const (
	// Overwrite stores the bound value, and is the default: a client cannot pass
	// for another.
	Overwrite OnConflict = "overwrite"
	// Keep stores the value that came.
	Keep OnConflict = "keep"
	// Reject refuses the series.
	Reject OnConflict = "reject"
)

// Apply gives the series with labels ls, which are sorted by name and may be
// changed, the bound labels. Of a conflict that rejects it returns the label that
// came. A nil b binds nothing.
func (b *BoundLabels) Apply(ls []labels.Label) (bound []labels.Label, conflict *labels.Label) {
	if b == nil {
		return ls, nil
	}
	for _, l := range b.Labels {
		i, has := slices.BinarySearchFunc(ls, l.Name, func(have labels.Label, name string) int { return strings.Compare(have.Name, name) })
		switch {
		case !has:
			ls = slices.Insert(ls, i, labels.Label{Name: l.Name, Value: l.Value})
		case ls[i].Value == l.Value || l.OnConflict == Keep:
		case l.OnConflict == Reject:
			return nil, &ls[i]
		default:
			ls[i].Value = l.Value
		}
	}
	return ls, nil
}
