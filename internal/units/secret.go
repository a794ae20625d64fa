package units

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/invopop/jsonschema"
)

// maxSecretFile bounds what file:PATH reads; a path that points at a device or a dump is refused, not swallowed.
const maxSecretFile = 64 << 10

const redacted = "<redacted>"

// ErrSecretMissing is wrapped by the error of a reference that leads to nothing.
var ErrSecretMissing = errors.New("secret is not there")

// Secret is a value that no log, error, metric or dump shows. Reveal is the only way to read it.
type Secret struct {
	value string
	// ref is where it came from, env:NAME or file:PATH, and empty for a literal; it may be shown.
	ref string
}

// NewSecret wraps a literal value.
func NewSecret(v string) Secret { return Secret{value: v} }

// ResolveSecret reads env:NAME from the environment, file:PATH from the file (one trailing line end is cut), and takes
// anything else literally. The error names the reference, never the value.
func ResolveSecret(text string) (Secret, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		v, set := os.LookupEnv(name)
		switch {
		case name == "":
			return Secret{}, fmt.Errorf("%w: env: names no variable: write env:NAME", ErrSecretMissing)
		case !set:
			return Secret{}, fmt.Errorf("%w: the environment variable %s is not set: export it, or write file:PATH", ErrSecretMissing, name)
		case v == "":
			return Secret{}, fmt.Errorf("%w: the environment variable %s is empty", ErrSecretMissing, name)
		}
		return Secret{value: v, ref: text}, nil
	}
	if path, ok := strings.CutPrefix(text, "file:"); ok {
		v, err := readSecretFile(path)
		if err != nil {
			return Secret{}, err
		}
		return Secret{value: v, ref: text}, nil
	}
	return Secret{value: text}, nil
}

func readSecretFile(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("%w: file: names no path: write file:PATH", ErrSecretMissing)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretMissing, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretMissing, err)
	} else if st.IsDir() {
		return "", fmt.Errorf("%w: %s is a directory, not a file", ErrSecretMissing, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrSecretMissing, err)
	}
	if len(b) > maxSecretFile {
		return "", fmt.Errorf("%w: %s is longer than %d bytes: that is no secret", ErrSecretMissing, path, maxSecretFile)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 {
		return "", fmt.Errorf("%w: %s is empty", ErrSecretMissing, path)
	}
	return string(b), nil
}

// Reveal returns the value itself. Call it where the value leaves for its consumer, nowhere else.
func (s Secret) Reveal() string { return s.value }

// IsZero tells that no value is set.
func (s Secret) IsZero() bool { return s.value == "" }

// Ref is where the value came from, env:NAME or file:PATH; empty for a literal.
func (s Secret) Ref() string { return s.ref }

// String hides the value.
func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return redacted
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the value from every verb: %d or %x would print the fields otherwise.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText resolves a reference or takes a literal.
func (s *Secret) UnmarshalText(text []byte) error {
	v, err := ResolveSecret(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// MarshalText prints the reference where there is one, so that a dump can be used again; a literal is hidden.
func (s Secret) MarshalText() ([]byte, error) {
	if s.ref != "" {
		return []byte(s.ref), nil
	}
	return []byte(s.String()), nil
}

// UnmarshalYAML reads a YAML scalar.
func (s *Secret) UnmarshalYAML(unmarshal func(any) error) error {
	return unmarshalScalar(unmarshal, s.UnmarshalText)
}

// JSONSchema describes the three forms for editors.
func (Secret) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:        "string",
		Description: "A secret: env:NAME reads a variable, file:PATH a file, anything else is the value itself.",
		Examples:    []any{"env:S3_SECRET_KEY", "file:/run/secrets/s3"},
	}
}
