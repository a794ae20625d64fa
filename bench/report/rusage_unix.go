//go:build unix

package report

import (
	"os"
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
	return maxRSS(&ru)
}

// MaxRSSOf is that of a process that has ended.
func MaxRSSOf(st *os.ProcessState) int64 {
	ru, ok := st.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return maxRSS(ru)
}

// maxRSS is in bytes; ru_maxrss counts bytes on Darwin and kilobytes everywhere else.
func maxRSS(ru *syscall.Rusage) int64 {
	n := int64(ru.Maxrss) //nolint:unconvert // the field is an int32 on 32-bit systems
	if runtime.GOOS == "darwin" {
		return n
	}
	return n * 1024
}
