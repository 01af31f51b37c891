//go:build linux || darwin

package tenant

import (
	"os"
	"syscall"
)

// lockDir waits until no other editor has a folder. The lock is on the folder
// because the file is replaced, and ends with the process.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// keepOwner gives f to whom the file has that it replaces, if there is one: weir
// may run as another user than its operator, and must be able to read it.
func keepOwner(f *os.File, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid()) {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}
