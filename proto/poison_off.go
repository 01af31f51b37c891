//go:build !poison

package proto

// Poison does nothing without the build tag "poison".
func Poison([]byte) {}
