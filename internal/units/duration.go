package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

const day = 24 * time.Hour

// ParseDuration reads Go's durations and whole days in front of them: "90s", "1h30m", "7d", "1d12h".
func ParseDuration(s string) (Duration, error) {
	text := strings.TrimSpace(s)
	if text == "0" {
		return 0, nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, fmt.Errorf("duration %q has no unit: write %ss, %sm or %sms", s, text, text, text)
	}
	rest, negative := strings.CutPrefix(text, "-")
	var days time.Duration
	if n, after, ok := strings.Cut(rest, "d"); ok {
		whole, err := strconv.ParseInt(n, 10, 64)
		if err != nil || whole < 0 {
			return 0, badDuration(s)
		}
		if whole > int64(math.MaxInt64/day) {
			return 0, fmt.Errorf("duration %q is too long: at most %dd", s, int64(math.MaxInt64/day))
		}
		days, rest = time.Duration(whole)*day, after
	}
	total := days
	if rest != "" {
		part, err := time.ParseDuration(rest)
		if err != nil || strings.ContainsAny(rest[:1], "+-") {
			return 0, badDuration(s)
		}
		if total += part; total < days {
			return 0, fmt.Errorf("duration %q is too long", s)
		}
	} else if days == 0 && !strings.HasSuffix(text, "d") {
		return 0, badDuration(s)
	}
	if negative {
		total = -total
	}
	return Duration(total), nil
}

func badDuration(s string) error {
	return fmt.Errorf("duration %q is not understood: write a number with ms, s, m, h or d, such as 250ms, 1s or 7d", s)
}

// String prints whole days as such, the rest as Go does without its trailing zero units: "7d", "1h30m", "15m".
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	if d < 0 {
		if d == math.MinInt64 {
			return time.Duration(d).String()
		}
		return "-" + (-d).String()
	}
	days := ""
	if d.D() >= day {
		days, d = strconv.FormatInt(int64(d.D()/day), 10)+"d", Duration(d.D()%day)
		if d == 0 {
			return days
		}
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return days + s
}

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MarshalText prints it as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalYAML reads a YAML scalar.
func (d *Duration) UnmarshalYAML(unmarshal func(any) error) error {
	return unmarshalScalar(unmarshal, d.UnmarshalText)
}

// JSONSchema describes the text form for editors.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Pattern:     `^(0|-?([0-9]+d)?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*)$`,
		Description: "A duration: a number with ms, s, m, h or d.",
		Examples:    []any{"250ms", "1s", "15m", "7d"},
	}
}
