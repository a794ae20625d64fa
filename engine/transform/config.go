package transform

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

// ErrConfig reports a transform that does not fit its contract or its table; the error names the place.
var ErrConfig = errors.New("transform cannot be used")

// Methods of a mask.
const (
	MethodHMAC     = "hmac"     // HMAC-SHA256 with a key, 64 hex digits
	MethodTokenise = "tokenise" // a keyed token of Length characters
	MethodRedact   = "redact"   // a fixed text; null where the column is no string
	MethodTruncate = "truncate" // the first Length characters
)

// What the dead letters of a pipeline keep of their records.
const (
	LettersRedact  = "redact"  // neither key, value nor headers
	LettersEncrypt = "encrypt" // all of them, encrypted
	LettersKeep    = "keep"    // all of them in clear
)

// Bounds of a configuration.
const (
	// minKey is the least length of a key: less could be guessed.
	minKey = 16
	// minToken and maxToken bound a token: 40 bits and 256 bits of the HMAC.
	minToken, maxToken, defaultToken = 8, 51, 16
	// maxKeyID bounds the prefix of tokens.
	maxKeyID = 16
	// maxExpression bounds the bytes of one expression, maxColumns the computed columns.
	maxExpression, maxColumns = 16 << 10, 1000
)

// Config is the transform of one pipeline. The zero value changes nothing.
type Config struct {
	Keep    []string          `yaml:"keep" jsonschema_description:"Columns that stay, with those inside them; everything else is dropped. Dotted paths."`
	Drop    []string          `yaml:"drop" jsonschema_description:"Columns that are dropped; dotted paths, such as user.address."`
	Filter  string            `yaml:"filter" jsonschema_description:"Rows for which this expression is true stay; the others are counted as filtered."`
	Columns map[string]string `yaml:"columns" jsonschema_description:"Computed columns: name and expression. One with the name of a column replaces it."`
	Mask    map[string]Mask   `yaml:"mask" jsonschema_description:"Columns whose values are stored nowhere as they came; dotted paths."`
	// DeadLetters is what dead letters keep of their records.
	DeadLetters   string       `yaml:"dead_letters" jsonschema:"enum=redact,enum=encrypt,enum=keep" jsonschema_description:"What dead letters hold of their records' key, value and headers: nothing (redact), all of it encrypted with dead_letter_key (encrypt), or in clear (keep). Default with masks: encrypt if there is a key, else redact; without masks: keep."`
	DeadLetterKey units.Secret `yaml:"dead_letter_key" jsonschema_description:"env:NAME or file:PATH, at least 16 bytes: lets firn deadletters redrive read encrypted dead letters."`
	// Route is what the routes of a pipeline make of it.
	Route Route `yaml:"-"`
}

// Mask is how one column is masked.
type Mask struct {
	Method string       `yaml:"method" jsonschema:"required,enum=hmac,enum=tokenise,enum=redact,enum=truncate"`
	Key    units.Secret `yaml:"key" jsonschema_description:"Of hmac and tokenise: env:NAME or file:PATH, at least 16 bytes. Equal values have equal tokens under one key."`
	KeyID  string       `yaml:"key_id" jsonschema_description:"Stands with a colon before each token, so that tokens of an older key are told apart after a rotation."`
	Length int          `yaml:"length" jsonschema_description:"tokenise: characters of a token, 8 to 51, default 16. truncate: characters that stay."`
	With   string       `yaml:"with" jsonschema_description:"redact: the text instead of a string; default [redacted]."`
}

// Active tells whether the configuration changes anything.
func (c Config) Active() bool {
	return len(c.Keep)+len(c.Drop)+len(c.Columns)+len(c.Mask) > 0 || c.Filter != "" || c.DeadLetters != "" || !c.DeadLetterKey.IsZero() || c.Route.active()
}

// Letters is the policy for dead letters with its default filled in.
func (c Config) Letters() string {
	switch {
	case c.DeadLetters != "":
		return c.DeadLetters
	case !c.DeadLetterKey.IsZero():
		return LettersEncrypt
	case len(c.Mask) > 0:
		return LettersRedact
	}
	return LettersKeep
}

// WithDefaults fills unset fields.
func (m Mask) WithDefaults() Mask {
	if m.Method == MethodTokenise && m.Length == 0 {
		m.Length = defaultToken
	}
	if m.Method == MethodRedact && m.With == "" {
		m.With = "[redacted]"
	}
	return m
}

// Validate names the first value that cannot be used.
func (m Mask) Validate() error {
	keyed := m.Method == MethodHMAC || m.Method == MethodTokenise
	switch {
	case !keyed && m.Method != MethodRedact && m.Method != MethodTruncate:
		return fmt.Errorf("method: %q: take %s, %s, %s or %s", m.Method, MethodHMAC, MethodTokenise, MethodRedact, MethodTruncate)
	case keyed && m.Key.IsZero():
		return fmt.Errorf("key: %s needs one: env:NAME or file:PATH", m.Method)
	case keyed && len(m.Key.Reveal()) < minKey:
		return fmt.Errorf("key: it is shorter than %d bytes and could be guessed; openssl rand -hex 32 makes one", minKey)
	case !keyed && (!m.Key.IsZero() || m.KeyID != ""):
		return fmt.Errorf("key: %s takes none", m.Method)
	case len(m.KeyID) > maxKeyID || strings.ContainsAny(m.KeyID, ": \t\n"):
		return fmt.Errorf("key_id: take at most %d characters, without colon or blank", maxKeyID)
	case m.Method == MethodTokenise && (m.Length < minToken || m.Length > maxToken):
		return fmt.Errorf("length: a token has %d to %d characters, this says %d", minToken, maxToken, m.Length)
	case m.Method == MethodTruncate && m.Length < 1:
		return errors.New("length: say how many characters stay")
	case m.Method != MethodTokenise && m.Method != MethodTruncate && m.Length != 0:
		return fmt.Errorf("length: %s takes none", m.Method)
	case m.Method != MethodRedact && m.With != "":
		return fmt.Errorf("with: %s takes none", m.Method)
	}
	return nil
}

// Validate names the first value that cannot be used whatever the contract is.
func (c Config) Validate() error {
	if len(c.Keep) > 0 && len(c.Drop) > 0 {
		return errors.New("drop: keep and drop together: what keep does not name is dropped already")
	}
	if len(c.Columns) > maxColumns {
		return fmt.Errorf("columns: %d of them, at most %d", len(c.Columns), maxColumns)
	}
	if c.Filter != "" {
		if _, err := parse(c.Filter); err != nil {
			return fmt.Errorf("filter: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Columns)) {
		if name == "" || strings.ContainsAny(name, ".\" \t\n") || ledger.IsOwn(name) {
			return fmt.Errorf("columns: %q is no name for a computed column: take one without dots and blanks that is none of the ledger's", name)
		}
		if _, err := parse(c.Columns[name]); err != nil {
			return fmt.Errorf("columns: %s: %w", name, err)
		}
	}
	switch p := c.Letters(); {
	case p != LettersRedact && p != LettersEncrypt && p != LettersKeep:
		return fmt.Errorf("dead_letters: %q: take %s, %s or %s", p, LettersRedact, LettersEncrypt, LettersKeep)
	case p == LettersEncrypt && c.DeadLetterKey.IsZero():
		return errors.New("dead_letter_key: encrypt needs one: env:NAME or file:PATH")
	case p == LettersEncrypt && len(c.DeadLetterKey.Reveal()) < minKey:
		return fmt.Errorf("dead_letter_key: it is shorter than %d bytes and could be guessed; openssl rand -hex 32 makes one", minKey)
	case p != LettersEncrypt && !c.DeadLetterKey.IsZero():
		return fmt.Errorf("dead_letter_key: dead_letters: %s takes none", p)
	}
	return nil
}
