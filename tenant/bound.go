package tenant

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
