package engine

import "strings"

var (
	pointerEscaper   = strings.NewReplacer("~", "~0", "/", "~1")
	pointerUnescaper = strings.NewReplacer("~1", "/", "~0", "~")
)

// EscapePointer codes one token of a JSON pointer (RFC 6901), such as DeadLetter.Place is.
func EscapePointer(token string) string { return pointerEscaper.Replace(token) }

// UnescapePointer is what EscapePointer coded.
func UnescapePointer(token string) string { return pointerUnescaper.Replace(token) }
