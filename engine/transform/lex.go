package transform

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token kinds.
const (
	tokEnd = iota
	tokName
	tokQuoted // "name"
	tokNumber
	tokString
	tokOp
)

type token struct {
	kind int
	text string // as written; word folds the case of names
	pos  int    // bytes before it
}

// exprError is an error at a place of an expression. Places are characters, counted from 1.
type exprError struct {
	at  int
	msg string
}

func (e *exprError) Error() string { return fmt.Sprintf("character %d: %s", e.at, e.msg) }

func errorAt(src string, pos int, format string, args ...any) error {
	return placed(src, pos, format, args...)
}

func placed(src string, pos int, format string, args ...any) *exprError {
	return &exprError{at: utf8.RuneCountInString(src[:min(pos, len(src))]) + 1, msg: fmt.Sprintf(format, args...)}
}

// describe is the token in messages.
func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "the end"
	case tokString:
		return "a string"
	}
	return fmt.Sprintf("%q", t.text)
}

// lex splits an expression into tokens; the last one is tokEnd.
func lex(src string) ([]token, error) {
	if len(src) > maxExpression {
		return nil, errorAt(src, maxExpression, "the expression has %d bytes, at most %d are read", len(src), maxExpression)
	}
	if !utf8.ValidString(src) {
		return nil, errorAt(src, 0, "the expression is not UTF-8")
	}
	var out []token
	for p := 0; p < len(src); {
		r, size := utf8.DecodeRuneInString(src[p:])
		if unicode.IsSpace(r) {
			p += size
			continue
		}
		t, next, err := lexOne(src, p, r)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
		p = next
	}
	return append(out, token{kind: tokEnd, pos: len(src)}), nil
}

func lexOne(src string, p int, r rune) (token, int, error) {
	switch {
	case r == '_' || unicode.IsLetter(r):
		end := p
		for end < len(src) {
			c, size := utf8.DecodeRuneInString(src[end:])
			if c != '_' && c != '$' && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
				break
			}
			end += size
		}
		return token{tokName, src[p:end], p}, end, nil
	case r >= '0' && r <= '9':
		end := number(src, p)
		return token{tokNumber, src[p:end], p}, end, nil
	case r == '\'' || r == '"':
		return quoted(src, p, byte(r))
	}
	for _, op := range []string{"<=", ">=", "<>", "!=", "||"} {
		if strings.HasPrefix(src[p:], op) {
			return token{tokOp, op, p}, p + len(op), nil
		}
	}
	if strings.ContainsRune("=<>+-*/%(),.", r) {
		return token{tokOp, string(r), p}, p + 1, nil
	}
	return token{}, 0, errorAt(src, p, "%q means nothing here", r)
}

// number ends a number: digits, a fraction, an exponent.
func number(src string, p int) int {
	digits := func() {
		for p < len(src) && src[p] >= '0' && src[p] <= '9' {
			p++
		}
	}
	digits()
	if p+1 < len(src) && src[p] == '.' && src[p+1] >= '0' && src[p+1] <= '9' {
		p++
		digits()
	}
	if p < len(src) && (src[p] == 'e' || src[p] == 'E') {
		q := p + 1
		if q < len(src) && (src[q] == '+' || src[q] == '-') {
			q++
		}
		if q < len(src) && src[q] >= '0' && src[q] <= '9' {
			p = q
			digits()
		}
	}
	return p
}

// quoted reads a string or a quoted name; the quote twice is one of it.
func quoted(src string, p int, q byte) (token, int, error) {
	kind := tokString
	if q == '"' {
		kind = tokQuoted
	}
	var b strings.Builder
	for i := p + 1; i < len(src); i++ {
		if src[i] != q {
			b.WriteByte(src[i])
			continue
		}
		if i+1 < len(src) && src[i+1] == q {
			b.WriteByte(q)
			i++
			continue
		}
		return token{kind, b.String(), p}, i + 1, nil
	}
	return token{}, 0, errorAt(src, p, "the quote %c is never closed", q)
}
