package transform

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
)

// Sealed dead letters, as they lie in the column raw_value (docs/format/sealed-letters.md).
const (
	// Redacted stands where a key or a value was.
	Redacted = "firn:redacted"
	// sealedPrefix comes before the id of the key, a colon, the nonce and the ciphertext.
	sealedPrefix = "firn:aes256gcm:"
)

// ErrSealed reports a dead letter whose record cannot be had back; the error says why.
var ErrSealed = errors.New("the dead letter's record is not there in clear")

var errRedacted = fmt.Errorf("%w", ErrSealed)

// sealer takes the records out of dead letters as the policy says.
type sealer struct {
	policy string
	keyID  string
	aead   cipher.AEAD // of LettersEncrypt
	known  []iceberg.NestedField
}

func newSealer(c Config, known []iceberg.NestedField) (*sealer, error) {
	s := &sealer{policy: c.Letters(), known: known}
	if s.policy != LettersEncrypt {
		return s, nil
	}
	secret := []byte(c.DeadLetterKey.Reveal())
	key, err := hkdf.Key(sha256.New, secret, nil, "firn dead letters", 32)
	if err != nil {
		return nil, fmt.Errorf("%w: dead_letter_key: %w", ErrConfig, err)
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "firn dead letters key id", 4)
	if err != nil {
		return nil, fmt.Errorf("%w: dead_letter_key: %w", ErrConfig, err)
	}
	s.keyID = hex.EncodeToString(id)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("%w: dead_letter_key: %w", ErrConfig, err)
	}
	s.aead, err = cipher.NewGCM(block)
	return s, err
}

// seal changes a letter so that it holds nothing of its record in clear.
func (s *sealer) seal(partition int32, l *engine.DeadLetter) error {
	if l.Reason != ReasonFailed { // which names a computed column and no value
		l.Place, l.Message = s.place(l.Place), withoutBytes(l.Message)
	}
	if s.policy == LettersRedact {
		if l.Value != nil {
			l.Value = []byte(Redacted)
		}
		if l.Key != nil {
			l.Key = []byte(Redacted)
		}
		l.Headers = nil
		return nil
	}
	nonce := make([]byte, s.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("seal a dead letter: %w", err)
	}
	out := append([]byte(sealedPrefix+s.keyID+":"), nonce...)
	l.Value = s.aead.Seal(out, nonce, packRecord(l.Key, l.Value, l.Headers), origin(partition, l.Offset))
	l.Key, l.Headers = nil, nil
	return nil
}

// fromPayload are the parts of a decoder's message that may come from the payload: a character that stands where another was
// expected, and numbers that were read there.
var fromPayload = regexp.MustCompile(`'[^']{1,6}'|0x[0-9a-f]+|\b[0-9a-f]{16}\b|-?\d[\d.]*`)

// fromContract begins what a message says of the contract, or of a schema of the registry, to its end: limits, patterns, forms.
// The id of a schema stands in the letter's own column, too.
var fromContract = regexp.MustCompile(`schema id \d+|registry does not know id \d+|the contract (wants|allows) |does not (fit|match) |the string is not |the value is none of: |more than \d+ decimal places|(is not|has no) UTF-8| \(byte \d+\)$`)

// withoutBytes leaves out what a message may have of the payload, and keeps what the contract wanted and where.
func withoutBytes(msg string) string {
	at := len(msg)
	if found := fromContract.FindStringIndex(msg); found != nil {
		at = found[0]
	}
	return fromPayload.ReplaceAllString(msg[:at], "…") + msg[at:]
}

// origin binds a sealed record to where it came from, so that it opens nowhere else.
func origin(partition int32, offset int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(partition)), uint64(offset))
}

// Record is what a dead letter was made of.
type Record struct {
	Key, Value []byte
	Headers    map[string][]byte // of several with one name the last
}

// Reasons of letters that stay dead because their record is not there in clear.
const (
	ReasonRedacted = "redacted"
	ReasonSealed   = "encrypted"
)

// WhyClosed is the reason for an error of Open.
func WhyClosed(err error) string {
	if errors.Is(err, errRedacted) {
		return ReasonRedacted
	}
	return ReasonSealed
}

// Open gives back what a letter's record was, sealed or not. Errors wrap ErrSealed. A nil Plan has no key.
func (p *Plan) Open(partition int32, offset int64, r Record) (Record, error) {
	at := fmt.Sprintf("partition %d offset %d", partition, offset)
	switch {
	case string(r.Value) == Redacted:
		return r, fmt.Errorf("%w: %s was redacted (transform.dead_letters: redact): only the topic has it still; encrypt lets later letters be redriven", errRedacted, at)
	case !bytes.HasPrefix(r.Value, []byte(sealedPrefix)):
		return r, nil
	}
	id, rest, ok := bytes.Cut(r.Value[len(sealedPrefix):], []byte(":"))
	if !ok {
		return r, fmt.Errorf("%w: %s is damaged", ErrSealed, at)
	}
	var s *sealer
	if p != nil {
		s = p.sealer
	}
	if s == nil || s.aead == nil {
		return r, fmt.Errorf("%w: %s was encrypted with the key %s: set transform.dead_letter_key to it", ErrSealed, at, id)
	}
	if string(id) != s.keyID {
		return r, fmt.Errorf("%w: %s was encrypted with the key %s, transform.dead_letter_key is the key %s: redrive it with the other one", ErrSealed, at, id, s.keyID)
	}
	n := s.aead.NonceSize()
	if len(rest) < n {
		return r, fmt.Errorf("%w: %s is damaged", ErrSealed, at)
	}
	packed, err := s.aead.Open(nil, rest[:n], rest[n:], origin(partition, offset))
	if err != nil {
		return r, fmt.Errorf("%w: %s is damaged, or was copied from another record", ErrSealed, at)
	}
	return unpackRecord(packed)
}

// packRecord writes key, value and headers, each with its length; 0 is null, n+1 are n bytes.
func packRecord(key, value []byte, headers []engine.Header) []byte {
	field := func(to, b []byte) []byte {
		if b == nil {
			return append(to, 0)
		}
		return append(binary.AppendUvarint(to, uint64(len(b))+1), b...)
	}
	out := field(field(nil, key), value)
	out = binary.AppendUvarint(out, uint64(len(headers)))
	for _, h := range headers {
		out = field(field(out, []byte(h.Key)), h.Value)
	}
	return out
}

func unpackRecord(b []byte) (r Record, err error) {
	bad := fmt.Errorf("%w: its contents are damaged", ErrSealed)
	number := func() (uint64, bool) {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return 0, false
		}
		b = b[size:]
		return n, true
	}
	field := func() ([]byte, bool) {
		n, ok := number()
		switch {
		case !ok || n > uint64(len(b))+1:
			return nil, false
		case n == 0:
			return nil, true
		}
		v := b[: n-1 : n-1]
		b = b[n-1:]
		return v, true
	}
	var ok1, ok2, ok3 bool
	r.Key, ok1 = field()
	r.Value, ok2 = field()
	n, ok3 := number()
	if !ok1 || !ok2 || !ok3 || n > uint64(len(b)) {
		return r, bad
	}
	r.Headers = map[string][]byte{}
	for range n {
		k, ok1 := field()
		v, ok2 := field()
		if !ok1 || !ok2 {
			return r, bad
		}
		r.Headers[string(k)] = v
	}
	return r, nil
}

// envelopeParts are the words of a change event (docs/formats.md) that may stand before the names of a row's columns. They say
// nothing of an event, in whatever place it has them.
var envelopeParts = map[string]bool{"payload": true, "before": true, "after": true, "op": true, "ts_ms": true, "source": true}

// place keeps of a JSON pointer what the contract names: keys of maps, and of fields that it does not know, are data.
func (s *sealer) place(pointer string) string {
	if pointer == "" {
		return ""
	}
	tokens := strings.Split(pointer[1:], "/")
	fields, inside := s.known, iceberg.Type(nil)
	from := 0
	for from < min(2, len(tokens)) && envelopeParts[tokens[from]] && !slices.ContainsFunc(fields, func(f iceberg.NestedField) bool { return f.Name == tokens[from] }) {
		from++
	}
	for i := from; i < len(tokens); i++ {
		tok := tokens[i]
		name := engine.UnescapePointer(tok)
		switch t := inside.(type) {
		case *iceberg.ListType:
			inside = t.Element
			if !digits(tok) {
				tokens[i] = "*"
			}
		case *iceberg.MapType:
			inside, tokens[i] = t.ValueType, "*"
		default:
			at := slices.IndexFunc(fields, func(f iceberg.NestedField) bool { return f.Name == name })
			if at < 0 {
				tokens[i], inside = "*", nil
				break
			}
			inside = fields[at].Type
		}
		fields = nil
		if st, ok := inside.(*iceberg.StructType); ok {
			fields = st.FieldList
		}
	}
	return "/" + strings.Join(tokens, "/")
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// sortedKeys is for errors that come in one order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
