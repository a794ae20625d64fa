//go:build unix

package report

import (
	"runtime"
	"syscall"
	"time"
)

// CPUTime is the user + system time that this process has used (getrusage).
func CPUTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// MaxRSS is the largest resident set of this process so far, in bytes.
func MaxRSS() int64 {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	// ru_maxrss counts bytes on Darwin and kilobytes everywhere else.
	n := int64(ru.Maxrss) //nolint:unconvert // the field is an int32 on 32-bit systems
	if runtime.GOOS == "darwin" {
		return n
	}
	return n * 1024
}
