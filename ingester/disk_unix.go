//go:build linux || darwin

package ingester

import "syscall"

// fileSystemSpace returns the bytes that a file system has for files, and those
// that are left to us, as df counts them.
func fileSystemSpace(dir string) (size, free int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize)
	free = int64(st.Bavail) * block
	return int64(st.Blocks-st.Bfree)*block + free, free, nil
}
