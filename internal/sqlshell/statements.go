package sqlshell

import (
	"errors"
	"strings"
)

// maxStatement bounds the text of one statement.
const maxStatement = 4 << 20 // bytes

var errTooLong = errors.New("a statement is longer than 4 MiB: is a quote or a semicolon missing?")

// splitter cuts text into statements at the semicolons outside of quotes and comments. Text comes line by line.
type splitter struct {
	buf  []byte
	at   int // scanned so far
	mode mode
	deep int    // nesting of block comments
	tag  string // end of a dollar quote
	code bool   // something besides blanks and comments was seen
}

type mode uint8

const (
	plain     mode = iota
	single         // '…', where '' is a quote
	escape         // E'…', where \' is one too
	double         // "…"
	dollar         // $tag$…$tag$
	lineNote       // -- …
	blockNote      // /* … */, which nest
)

// feed adds a line, without its end.
func (s *splitter) feed(line string) error {
	if len(s.buf)+len(line) >= maxStatement {
		s.reset()
		return errTooLong
	}
	s.buf = append(append(s.buf, line...), '\n')
	return nil
}

func (s *splitter) reset() { *s = splitter{} }

// pending tells that a statement has begun and not ended.
func (s *splitter) pending() bool { return s.code || s.mode != plain && s.mode != lineNote }

// next returns the next whole statement, without its semicolon; false when more text is needed.
func (s *splitter) next() (string, bool) {
	for s.at < len(s.buf) {
		if s.mode == plain && s.buf[s.at] == ';' {
			text, had := strings.TrimSpace(string(s.buf[:s.at])), s.code
			s.buf = append(s.buf[:0], s.buf[s.at+1:]...)
			s.at, s.code = 0, false
			if had && text != "" { // blanks of Unicode are code to the scanner and nothing to SQL
				return text, true
			}
			continue
		}
		s.step()
	}
	if !s.pending() { // comments and blanks alone
		s.buf, s.at = s.buf[:0], 0
	}
	return "", false
}

// rest is what stands after the last semicolon when the text is at its end.
func (s *splitter) rest() (string, bool) {
	text, had := strings.TrimSpace(string(s.buf)), s.code
	s.reset()
	return text, had && text != ""
}

// step moves over one token that matters. Lines come whole, so that no token is cut in two.
func (s *splitter) step() {
	rest := s.buf[s.at:]
	two := ""
	if len(rest) > 1 {
		two = string(rest[:2])
	}
	switch s.mode {
	case plain:
		s.at += s.open(rest, two)
	case single:
		s.close(rest, two, "''", '\'')
	case double:
		s.close(rest, two, `""`, '"')
	case escape:
		if rest[0] == '\\' && len(two) == 2 {
			s.at += 2
			return
		}
		s.close(rest, two, "''", '\'')
	case dollar:
		if strings.HasPrefix(string(rest[:min(len(rest), len(s.tag))]), s.tag) {
			s.at += len(s.tag)
			s.mode = plain
			return
		}
		s.at++
	case lineNote:
		if rest[0] == '\n' {
			s.mode = plain
		}
		s.at++
	case blockNote:
		s.block(two)
	}
}

// open is plain text: it returns how far to go.
func (s *splitter) open(rest []byte, two string) int {
	switch {
	case two == "--":
		s.mode = lineNote
		return 2
	case two == "/*":
		s.mode, s.deep = blockNote, 1
		return 2
	case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n' || rest[0] == '\r':
		return 1
	}
	s.code = true
	switch rest[0] {
	case '\'':
		s.mode = single
		if s.at > 0 && (s.buf[s.at-1]|0x20) == 'e' && (s.at == 1 || !inWord(s.buf[s.at-2])) {
			s.mode = escape
		}
	case '"':
		s.mode = double
	case '$':
		if tag := dollarTag(rest); tag != "" && (s.at == 0 || !inWord(s.buf[s.at-1])) {
			s.mode, s.tag = dollar, tag
			return len(tag)
		}
	}
	return 1
}

func (s *splitter) close(rest []byte, two, twice string, quote byte) {
	switch {
	case two == twice:
		s.at += 2
	case rest[0] == quote:
		s.mode = plain
		s.at++
	default:
		s.at++
	}
}

func (s *splitter) block(two string) {
	switch two {
	case "/*":
		s.deep++
		s.at += 2
	case "*/":
		if s.deep--; s.deep == 0 {
			s.mode = plain
		}
		s.at += 2
	default:
		s.at++
	}
}

func inWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' || b >= 0x80
}

// dollarTag is $tag$ at the start of b, "" when there is none. $1 is a parameter.
func dollarTag(b []byte) string {
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == '$':
			return string(b[:i+1])
		case !inWord(b[i]) || i == 1 && b[i] >= '0' && b[i] <= '9':
			return ""
		}
	}
	return ""
}
