package units

import "time"

// Duration is a time.Duration that configuration writes as "250ms", "1s" or "15m".
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// Bytes is a size in bytes that configuration writes as "512KiB", "64MiB" or a plain number.
type Bytes int64

// Secret is a value that no log, error, metric or dump shows. Reveal is the only way to read it.
type Secret struct{ value string }

// NewSecret wraps a literal value.
func NewSecret(v string) Secret { return Secret{value: v} }

// Reveal returns the value itself. Call it where the value leaves for its consumer, nowhere else.
func (s Secret) Reveal() string { return s.value }

// String hides the value.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return "<redacted>"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }
