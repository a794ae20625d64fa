//go:build !unix

package report

import "time"

// CPUTime is not counted on this system; figures per CPU-second are refused as zero.
func CPUTime() time.Duration { return 0 }

// MaxRSS is not counted on this system.
func MaxRSS() int64 { return 0 }
