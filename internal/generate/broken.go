package generate

import "bytes"

// Broken is a way in which an event cannot be read; 0 is none.
type Broken uint8

// The ways, all of which happen to real topics. Each gives one dead letter.
const (
	NotJSON     Broken = 1 + iota // somebody's log line
	Truncated                     // cut in the middle
	Empty                         // no bytes, or a tombstone
	NotUTF8                       // Latin-1 in a string
	MissingID                     // a required field is absent
	WrongType                     // text where a number belongs
	BadTime                       // a date that no calendar has
	UnknownType                   // an event_type that the contract does not list
	Negative                      // an amount below zero

	lastBroken = Negative
)

// String names the way.
func (k Broken) String() string {
	return [...]string{"none", "not_json", "truncated", "empty", "not_utf8", "missing_id", "wrong_type", "bad_time", "unknown_type", "negative"}[k]
}

// breakValue rewrites the good event at the end of the arena, from start on.
func (g *Generator) breakValue(k Broken, start int) []byte {
	b := g.arena
	good := b[start:]
	switch k {
	case NotJSON:
		return append(b[:start], "level=error msg=\"no such event\" retry=3"...)
	case Truncated:
		return b[:start+1+g.rng.IntN(len(good)-1)]
	case Empty:
		return b[:start]
	case NotUTF8:
		good[bytes.Index(good, []byte(`"page":"`))+len(`"page":"`)] = 0xe9
	case MissingID:
		return cut(b, start, `"event_id":"`, `","`, `"`)
	case WrongType:
		return cut(b, start, `"schema_version":`, `,`, `"schema_version":"three",`)
	case BadTime:
		i := bytes.Index(good, []byte(`"event_timestamp":"`)) + len(`"event_timestamp":"`)
		copy(good[i+len("2006-"):], "13-45")
	case UnknownType:
		return cut(b, start, `"event_type":"`, `"`, `"event_type":"hover"`)
	case Negative:
		return cut(b, start, `"amount":`, `}`, `"amount":-1}`)
	}
	return b
}

// cut replaces what begins with from and ends with the first to after it.
func cut(b []byte, start int, from, to, with string) []byte {
	i := start + bytes.Index(b[start:], []byte(from))
	j := i + len(from) + bytes.Index(b[i+len(from):], []byte(to)) + len(to)
	tail := append([]byte(nil), b[j:]...)
	return append(append(b[:i], with...), tail...)
}
