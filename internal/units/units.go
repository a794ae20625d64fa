package units

import "time"

// Duration is a time.Duration that configuration writes as "250ms", "1s", "15m" or "7d".
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Bytes is a size in bytes that configuration writes as "512KiB", "64MiB" or a plain number.
type Bytes int64
