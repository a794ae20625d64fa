//go:build unix

package broker

import "syscall"

// freeBytes is what an ordinary user may still write on the file system of path.
func freeBytes(path string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // Bsize is 32 bits wide on macOS
}
