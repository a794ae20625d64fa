//go:build !unix

package broker

import (
	"fmt"
	"math"
	"os"
)

// lockDir takes the directory for this process. Without flock the lock is a file that only its holder can open.
func lockDir(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) { // an open file cannot be removed here
		return nil, fmt.Errorf("%w", ErrDirInUse)
	}
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
}

// freeBytes knows no limit here: a full disk shows as failed writes.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
