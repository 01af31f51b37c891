package server

import (
	"syscall"
	"unsafe"
)

// limitAddressSpace sets RLIMIT_AS of a process that already runs, so that a
// runaway peer fails alone and does not take the machine with it.
func limitAddressSpace(pid int, bytes uint64) error {
	limit := syscall.Rlimit{Cur: bytes, Max: bytes}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_AS, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
