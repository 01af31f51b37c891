// Package relabel says what becomes of a series' labels before it is stored.
package relabel

// Rules are a compiled pipeline, immutable and safe for concurrent use. nil
// leaves everything as it is.
type Rules struct{}
