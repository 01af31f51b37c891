//go:build poison

package proto

// Poison overwrites a buffer that goes back to its pool, so that a string that
// still points into it shows in a test. This is the build tag "poison".
func Poison(b []byte) {
	b = b[:cap(b)]
	for i := range b {
		b[i] = 0xdb
	}
}
