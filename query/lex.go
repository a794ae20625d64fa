package query

import (
	"strings"
	"unicode/utf8"
)

// tokenKind is what a token of SQL is; comments and white space are none.
type tokenKind int

const (
	tokenWord   tokenKind = iota // unquoted identifier or keyword
	tokenQuoted                  // "identifier"
	tokenString                  // 'text', E'text', $tag$text$tag$
	tokenNumber
	tokenOther // operators, punctuation, parameters
)

type token struct {
	kind       tokenKind
	start, end int    // bytes in the statement
	text       string // unquoted for tokenQuoted and tokenString, as it stands otherwise
}

// is reports whether the token is that keyword.
func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

// name reports whether the token can be part of a name.
func (t token) name() bool { return t.kind == tokenWord || t.kind == tokenQuoted }

// lex splits a statement as PostgreSQL and DuckDB do. It never fails: an unclosed quote or comment reaches to the
// end, and the parser that comes after says what is wrong with it. Nothing that is quoted is taken for a keyword.
func lex(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case strings.HasPrefix(sql[i:], "--"):
			i += lineEnd(sql[i:])
		case strings.HasPrefix(sql[i:], "/*"):
			i += commentEnd(sql[i:])
		case c == '\'':
			end, text := quoted(sql[i:], '\'', false)
			out = append(out, token{tokenString, i, i + end, text})
			i += end
		case (c == 'e' || c == 'E') && i+1 < len(sql) && sql[i+1] == '\'':
			end, text := quoted(sql[i+1:], '\'', true)
			out = append(out, token{tokenString, i, i + 1 + end, text})
			i += 1 + end
		case c == '"':
			end, text := quoted(sql[i:], '"', false)
			out = append(out, token{tokenQuoted, i, i + end, text})
			i += end
		case c == '$':
			end, text, isString := dollar(sql[i:])
			kind := tokenOther
			if isString {
				kind = tokenString
			}
			out = append(out, token{kind, i, i + end, text})
			i += end
		case isDigit(c):
			end := numberEnd(sql[i:])
			out = append(out, token{tokenNumber, i, i + end, sql[i : i+end]})
			i += end
		case isWordStart(c):
			end := 1
			for i+end < len(sql) && (isWordStart(sql[i+end]) || isDigit(sql[i+end]) || sql[i+end] == '$') {
				end++
			}
			out = append(out, token{tokenWord, i, i + end, sql[i : i+end]})
			i += end
		default:
			end := 1
			if strings.HasPrefix(sql[i:], "=>") || strings.HasPrefix(sql[i:], ":=") {
				end = 2
			}
			out = append(out, token{tokenOther, i, i + end, sql[i : i+end]})
			i += end
		}
	}
	return out
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf
}

func lineEnd(s string) int {
	if n := strings.IndexAny(s, "\n\r"); n >= 0 {
		return n
	}
	return len(s)
}

// commentEnd is the length of a comment that may hold others.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

// quoted reads what stands between two quotes, a doubled one inside standing for itself.
func quoted(s string, quote byte, backslash bool) (end int, text string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != quote:
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == quote:
			i++
			b.WriteByte(quote)
		default:
			return i + 1, b.String()
		}
	}
	return len(s), b.String()
}

// dollar reads $tag$text$tag$, or a parameter such as $1 or $name, of which it returns the text as it stands.
func dollar(s string) (end int, text string, isString bool) {
	n := 1
	for n < len(s) && (isWordStart(s[n]) || n > 1 && isDigit(s[n])) {
		n++
	}
	if n < len(s) && s[n] == '$' {
		tag := s[:n+1]
		body := s[n+1:]
		if at := strings.Index(body, tag); at >= 0 {
			return len(tag) + at + len(tag), body[:at], true
		}
		return len(s), body, true
	}
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n, s[:n], false
}

// numberEnd is the length of a number; only its end matters.
func numberEnd(s string) int {
	n := 0
	for n < len(s) && (isDigit(s[n]) || s[n] == '.' || s[n] == '_' || isWordStart(s[n]) && s[n] < utf8.RuneSelf) {
		if (s[n] == 'e' || s[n] == 'E') && n+1 < len(s) && (s[n+1] == '-' || s[n+1] == '+') {
			n++
		}
		n++
	}
	return n
}

// quoteName writes a name part for DuckDB.
func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
