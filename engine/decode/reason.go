package decode

import (
	"fmt"
	"unicode/utf8"

	"github.com/firnlake/firn/engine"
)

// Reason codes of dead letters. They are stored in tables and used as metric labels: never rename one.
const (
	ReasonEmptyValue    = "empty_value"    // a null value (tombstone) or one of no bytes
	ReasonInvalidJSON   = "invalid_json"   // not exactly one RFC 8259 text
	ReasonInvalidUTF8   = "invalid_utf8"   // bytes that are not UTF-8, or a lone surrogate in a value that is kept
	ReasonTooLarge      = "too_large"      // more bytes than max_value_bytes
	ReasonTooDeep       = "too_deep"       // nested deeper than max_depth
	ReasonMissingField  = "missing_field"  // a required field is absent
	ReasonWrongType     = "wrong_type"     // another JSON type than the contract's, or null where null is not allowed
	ReasonInvalidFormat = "invalid_format" // a string that is not the date-time, date, time, uuid, decimal or base64 it should be
	ReasonOutOfRange    = "out_of_range"   // beyond the type, its precision, the contract's bounds or lengths
	ReasonNotInEnum     = "not_in_enum"
	ReasonNoMatch       = "pattern_mismatch"
	ReasonDuplicateKey  = "duplicate_key"
	ReasonUnknownField  = "unknown_field" // only where the contract says additionalProperties: false
	// Of binary formats:
	ReasonInvalidAvro     = "invalid_avro"        // bytes that are no value of the schema they were written with
	ReasonInvalidProtobuf = "invalid_protobuf"    // bytes that are no Protobuf message
	ReasonWrongIndex      = "wrong_message_index" // message indexes that lead to no message of the schema
	ReasonWrongMagic      = "wrong_magic"         // neither the Confluent wire format nor single-object encoding
	ReasonUnknownSchema   = "unknown_schema"      // a schema id or fingerprint that nobody knows
	ReasonIncompatible    = "incompatible_schema" // written with a schema that the pipeline's cannot read
	ReasonUnusableSchema  = "unusable_schema"     // written with a schema that is damaged or of another format
)

// Reasons returns every reason code, for what lists them: metrics, documentation.
func Reasons() []string {
	return []string{ReasonEmptyValue, ReasonInvalidJSON, ReasonInvalidUTF8, ReasonTooLarge, ReasonTooDeep, ReasonMissingField, ReasonWrongType,
		ReasonInvalidFormat, ReasonOutOfRange, ReasonNotInEnum, ReasonNoMatch, ReasonDuplicateKey, ReasonUnknownField,
		ReasonInvalidAvro, ReasonInvalidProtobuf, ReasonWrongIndex, ReasonWrongMagic, ReasonUnknownSchema, ReasonIncompatible, ReasonUnusableSchema}
}

const (
	// maxPlaceName bounds, in bytes, one token of a JSON pointer that comes from the payload.
	maxPlaceName = 128
	// maxMessage bounds a dead letter's message in bytes; patterns and enums of the contract go into it.
	maxMessage = 512
)

// failure is why the present record gives no row. The place is put together while the walk unwinds.
type failure struct {
	reason, place, message string
}

// fresh forgets the failure of the record before, when there is one: most have none, and writing pointers costs.
func (d *rows) fresh() {
	if d.failure.reason != "" {
		d.failure = failure{}
	}
}

// fail records a failure at byte position pos of the payload and returns -1, the position that means failure.
func (d *rows) fail(reason string, pos int, format string, args ...any) int {
	d.failure = failure{reason: reason, message: cut(fmt.Sprintf(format, args...), maxMessage) + fmt.Sprintf(" (byte %d)", min(pos, d.size))}
	return -1
}

// syntax is fail for text that is not JSON: it says what was expected and what stands there.
func (d *JSON) syntax(pos int, expected string) int {
	if pos >= d.size {
		return d.fail(ReasonInvalidJSON, pos, "the payload ends where %s was expected", expected)
	}
	return d.fail(ReasonInvalidJSON, pos, "found %s where %s was expected", describeByte(d.buf[pos]), expected)
}

func describeByte(c byte) string {
	if c > ' ' && c < 0x7f {
		return fmt.Sprintf("%q", rune(c))
	}
	return fmt.Sprintf("byte 0x%02x", c)
}

// under puts a key in front of the failure's place.
func (d *rows) under(name string) int {
	d.failure.place = "/" + engine.EscapePointer(cut(name, maxPlaceName)) + d.failure.place
	return -1
}

// cut shortens s to at most n bytes and never splits a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
