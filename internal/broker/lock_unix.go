//go:build unix

package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockDir takes the directory for this process. The lock ends with the process, however that ends.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		raw, _ := io.ReadAll(io.LimitReader(f, 32)) // a holder that cannot be named is still a holder
		holder := strings.TrimSpace(string(raw))
		_ = f.Close()
		if holder == "" {
			holder = "unknown"
		}
		return nil, fmt.Errorf("%w by process %s", ErrDirInUse, holder)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
