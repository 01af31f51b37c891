//go:build !linux

package server

// limitAddressSpace does nothing here: GOMEMLIMIT alone has to do.
func limitAddressSpace(int, uint64) error { return nil }
