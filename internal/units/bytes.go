package units

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/invopop/jsonschema"
)

// byteUnits in the order in which String tries them; the decimal ones are read and never printed.
var byteUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

const binaryUnits = 4

// ParseBytes reads a plain number of bytes, or one with KiB, MiB, GiB, TiB (1024) or KB, MB, GB, TB (1000).
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	digits := len(text) - len(strings.TrimLeft(text, "0123456789.-"))
	num, unit := text[:digits], strings.TrimSpace(text[digits:])
	factor := int64(0)
	if unit == "" {
		factor = 1
	}
	for _, u := range byteUnits {
		if strings.EqualFold(u.name, unit) {
			factor = u.bytes
		}
	}
	if factor == 0 && len(unit) == 1 && strings.ContainsAny(unit, "kKmMgGtT") {
		up := strings.ToUpper(unit)
		return 0, fmt.Errorf("size %q has the unit %q: write %s%siB (1024) or %s%sB (1000)", s, unit, num, up, num, up)
	}
	// An exponent or a very long number would make big.Rat work for ever; no size needs either.
	if factor == 0 || num == "" || len(num) > 30 {
		return 0, badBytes(s)
	}
	v, ok := new(big.Rat).SetString(num)
	if !ok {
		return 0, badBytes(s)
	}
	v.Mul(v, new(big.Rat).SetInt64(factor))
	switch {
	case v.Sign() < 0:
		return 0, fmt.Errorf("size %q is negative", s)
	case !v.IsInt():
		return 0, fmt.Errorf("size %q is not a whole number of bytes", s)
	case !v.Num().IsInt64():
		return 0, fmt.Errorf("size %q is too large: at most 8388607TiB", s)
	}
	return Bytes(v.Num().Int64()), nil
}

func badBytes(s string) error {
	return fmt.Errorf("size %q is not understood: write a number of bytes or one with KiB, MiB, GiB or TiB, such as 64MiB", s)
}

// String prints the largest binary unit that divides it, so that it reads back exactly: "64MiB", "1500B".
func (b Bytes) String() string {
	for _, u := range byteUnits[:binaryUnits] {
		if b != 0 && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10) + "B"
}

// UnmarshalText reads what ParseBytes reads.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

// MarshalText prints it as String does.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalYAML reads a YAML scalar.
func (b *Bytes) UnmarshalYAML(unmarshal func(any) error) error {
	return unmarshalScalar(unmarshal, b.UnmarshalText)
}

// JSONSchema describes the text and the number form for editors.
func (Bytes) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		OneOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: "0"},
			{Type: "string", Pattern: `^[0-9]+(\.[0-9]+)? *([KkMmGgTt][Ii]?)?[Bb]?$`},
		},
		Description: "A size in bytes: a plain number, or one with KiB, MiB, GiB or TiB.",
		Examples:    []any{"512KiB", "64MiB"},
	}
}

// unmarshalScalar hands a YAML scalar to a text reader; lists and maps are refused by the YAML reader itself.
func unmarshalScalar(unmarshal func(any) error, text func([]byte) error) error {
	var s string
	if err := unmarshal(&s); err != nil {
		return err
	}
	return text([]byte(s))
}
