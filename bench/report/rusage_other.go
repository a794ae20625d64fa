//go:build !unix

package report

import (
	"os"
	"time"
)

// CPUTime is not counted on this system; figures per CPU-second are refused as zero.
func CPUTime() time.Duration { return 0 }

// MaxRSS is not counted on this system.
func MaxRSS() int64 { return 0 }

// MaxRSSOf is not counted on this system.
func MaxRSSOf(*os.ProcessState) int64 { return 0 }
