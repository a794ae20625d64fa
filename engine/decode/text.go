package decode

import (
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	lowBits    = 0x0101010101010101
	quoteFlip  = 0x02 * lowBits
	quoteLimit = 0x21 * lowBits
	slashes    = 0x5c * lowBits
)

// special marks, in the top bit of each byte of w, what ends the plain stretch of a string: a quote, a backslash, a
// control character or a byte that is not ASCII. Only the lowest mark is exact, which is the one that counts: marks
// above it may come from a borrow. With bit 1 flipped, quote (0x22) and the controls (0x00-0x1f) are exactly what is
// below 0x21, so one subtraction finds both.
func special(w uint64) uint64 {
	return (((w ^ quoteFlip) - quoteLimit) | ((w ^ slashes) - lowBits) | w) & highBits
}

// plainEnd returns the position of the first special byte at or after p.
func plainEnd(b []byte, p int) int {
	for {
		if m := special(load64(b, p)); m != 0 {
			return p + bits.TrailingZeros64(m)>>3
		}
		p += 8
	}
}

// text reads the string at p (its opening quote). s is its value: a part of b, or d.tmp when there were escapes. lone
// tells of a surrogate without its other half, which has no UTF-8 form. end is -1 after a failure.
func (d *JSON) text(b []byte, p int) (s []byte, end int, lone bool) {
	start := p + 1
	q := start
	for {
		q = plainEnd(b, q)
		switch c := b[q]; {
		case c == '"':
			return b[start:q], q + 1, false
		case c == '\\':
			d.tmp = append(d.tmp[:0], b[start:q]...)
			return d.unescape(b, q)
		case c < ' ':
			return nil, d.control(q), false
		}
		if q = d.runes(b, q); q < 0 {
			return nil, -1, false
		}
	}
}

// runes checks the bytes from p on that are not ASCII and returns the position after them.
func (d *JSON) runes(b []byte, p int) int {
	for b[p] >= utf8.RuneSelf {
		r, n := utf8.DecodeRune(b[p:d.size])
		if r == utf8.RuneError && n <= 1 {
			return d.fail(ReasonInvalidUTF8, p, "%s is not UTF-8 here", describeByte(b[p]))
		}
		p += n
	}
	return p
}

func (d *JSON) control(p int) int {
	if p >= d.size {
		return d.fail(ReasonInvalidJSON, p, "the payload ends inside a string")
	}
	return d.fail(ReasonInvalidJSON, p, "control character 0x%02x inside a string must be escaped", d.buf[p])
}

// unescape reads on from the backslash at p; what stood before is in d.tmp.
func (d *JSON) unescape(b []byte, p int) (s []byte, end int, lone bool) {
	for {
		switch c := b[p]; {
		case c == '"':
			return d.tmp, p + 1, lone
		case c == '\\':
			r, n := escape(b, p)
			if n == 0 {
				return nil, d.badEscape(b, p), false
			}
			if r == utf8.RuneError && n == 6 && !isReplacement(b, p) {
				lone = true
			}
			d.tmp = utf8.AppendRune(d.tmp, r)
			p += n
		case c < ' ':
			return nil, d.control(p), false
		default:
			q := plainEnd(b, p)
			if q == p {
				if q = d.runes(b, p); q < 0 {
					return nil, -1, false
				}
			}
			d.tmp = append(d.tmp, b[p:q]...)
			p = q
		}
	}
}

// isReplacement tells whether the escape at p spells U+FFFD itself.
func isReplacement(b []byte, p int) bool {
	u, _ := hex4(b, p+2)
	return u == 0xFFFD
}

func (d *JSON) badEscape(b []byte, p int) int {
	if p+1 >= d.size {
		return d.fail(ReasonInvalidJSON, p, "the payload ends inside a string")
	}
	return d.fail(ReasonInvalidJSON, p, `\ followed by %s is no escape of JSON`, describeByte(b[p+1]))
}

// shortEscapes maps the letter after a backslash to its character.
var shortEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads the escape at p. n is its length, 0 when it is none; a lone surrogate gives U+FFFD and n = 6.
func escape(b []byte, p int) (r rune, n int) {
	if b[p+1] != 'u' {
		if c := shortEscapes[b[p+1]]; c != 0 {
			return rune(c), 2
		}
		return 0, 0
	}
	u, ok := hex4(b, p+2)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(rune(u)) {
		return rune(u), 6
	}
	if b[p+6] == '\\' && b[p+7] == 'u' {
		if low, ok := hex4(b, p+8); ok {
			if r := utf16.DecodeRune(rune(u), rune(low)); r != utf8.RuneError {
				return r, 12
			}
		}
	}
	return utf8.RuneError, 6
}

func hex4(b []byte, p int) (v uint32, ok bool) {
	h0, h1, h2, h3 := hexValue[b[p]], hexValue[b[p+1]], hexValue[b[p+2]], hexValue[b[p+3]]
	return uint32(h0)<<12 | uint32(h1)<<8 | uint32(h2)<<4 | uint32(h3), h0|h1|h2|h3 < 0x10
}

// skipText checks the string at p (its opening quote) and returns the position after it. A lone surrogate passes: it
// is good JSON, and nothing of it is kept.
func (d *JSON) skipText(b []byte, p int) int {
	p++
	for {
		p = plainEnd(b, p)
		switch c := b[p]; {
		case c == '"':
			return p + 1
		case c == '\\':
			_, n := escape(b, p)
			if n == 0 {
				return d.badEscape(b, p)
			}
			p += n
		case c < ' ':
			return d.control(p)
		default:
			if p = d.runes(b, p); p < 0 {
				return -1
			}
		}
	}
}
