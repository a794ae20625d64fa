package decode

import (
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// numResult is how reading a number into a type ended.
type numResult uint8

const (
	numOK       numResult = iota
	numNotWhole           // has a fraction that the type cannot hold
	numTooBig             // beyond the type's range or precision
	numInvalid            // not a JSON number
)

// maxExponent caps exponents while they are read, far beyond any type's range, so that they cannot overflow an int.
const maxExponent = 1 << 30

// numberEnd returns the position after the JSON number that starts at p, or -1 when there is none. b must end in a
// byte that is no part of a number.
func numberEnd(b []byte, p int) int {
	if b[p] == '-' {
		p++
	}
	switch {
	case b[p] == '0':
		p++
	case b[p]-'1' < 9:
		for b[p]-'0' < 10 {
			p++
		}
	default:
		return -1
	}
	if b[p] == '.' {
		p++
		if b[p]-'0' >= 10 {
			return -1
		}
		for b[p]-'0' < 10 {
			p++
		}
	}
	if b[p]|0x20 == 'e' {
		p++
		if b[p] == '+' || b[p] == '-' {
			p++
		}
		if b[p]-'0' >= 10 {
			return -1
		}
		for b[p]-'0' < 10 {
			p++
		}
	}
	return p
}

// numberParts is a number token as an exact decimal: ± digits × 10^exp, without leading or trailing zero digits.
type numberParts struct {
	neg    bool
	digits []byte // of the token, may hold one '.' inside
	n      int    // count of significant digits
	exp    int    // power of ten of the last significant digit
}

// splitNumber takes a valid number token apart without rounding; it allocates nothing.
func splitNumber(tok []byte) numberParts {
	var s numberParts
	i := 0
	if tok[0] == '-' {
		s.neg, i = true, 1
	}
	first, last, frac, seenDot := -1, -1, 0, false
	lastExp, count, countAtLast := 0, 0, 0
	for ; i < len(tok) && tok[i]|0x20 != 'e'; i++ {
		if tok[i] == '.' {
			seenDot = true
			continue
		}
		if seenDot {
			frac++
		}
		if first < 0 && tok[i] == '0' {
			continue
		}
		if first < 0 {
			first = i
		}
		count++
		if tok[i] != '0' {
			last, countAtLast = i, count
			lastExp = -frac
			if !seenDot {
				lastExp = 0
			}
		}
	}
	mantissaEnd := i
	if first < 0 {
		return s
	}
	exp := 0
	if i < len(tok) {
		i++
		negExp := tok[i] == '-'
		if tok[i] == '-' || tok[i] == '+' {
			i++
		}
		for ; i < len(tok); i++ {
			exp = min(exp*10+int(tok[i]-'0'), maxExponent)
		}
		if negExp {
			exp = -exp
		}
	}
	if last < mantissaEnd && lastExp == 0 { // zeros between the last significant digit and the point count as exponent
		for j := last + 1; j < mantissaEnd && tok[j] != '.'; j++ {
			lastExp++
		}
	}
	s.digits, s.n, s.exp = tok[first:last+1], countAtLast, lastExp+exp
	return s
}

// exactInt reads a valid number token as a 64-bit integer, exactly; 3.0 and 3e2 are whole numbers, 1e-1 is not.
func exactInt(tok []byte) (int64, numResult) {
	s := splitNumber(tok)
	switch {
	case s.n == 0:
		return 0, numOK
	case s.exp < 0:
		return 0, numNotWhole
	case s.n+s.exp > 19:
		return 0, numTooBig
	}
	var u uint64
	for _, c := range s.digits {
		if c != '.' {
			u = u*10 + uint64(c-'0')
		}
	}
	for range s.exp {
		u *= 10 // at most 19 digits in all: below 2^64
	}
	if s.neg {
		if u > 1<<63 {
			return 0, numTooBig
		}
		return -int64(u), numOK
	}
	if u > math.MaxInt64 {
		return 0, numTooBig
	}
	return int64(u), numOK
}

// pow10 holds the powers of ten that a double holds exactly.
var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
	1e20, 1e21, 1e22}

// parseDouble reads the number at p. A mantissa below 2^53 times or over an exact power of ten is exact after one
// rounding (Clinger); everything else goes to strconv, whose result this always equals.
func parseDouble(b []byte, p int) (v float64, end int, res numResult) {
	i := p
	neg := b[i] == '-'
	if neg {
		i++
	}
	var mant uint64
	start := i
	for d := b[i] - '0'; d < 10; d = b[i] - '0' {
		mant = mant*10 + uint64(d)
		i++
	}
	digits := i - start
	if digits == 0 || (digits > 1 && b[start] == '0') {
		return 0, p, numInvalid
	}
	exp := 0
	if b[i] == '.' {
		i++
		fracStart := i
		for d := b[i] - '0'; d < 10; d = b[i] - '0' {
			mant = mant*10 + uint64(d)
			i++
		}
		if exp = fracStart - i; exp == 0 {
			return 0, p, numInvalid
		}
		digits -= exp
	}
	if b[i]|0x20 == 'e' || digits > 18 || mant >= 1<<53 || exp < -22 {
		return parseDoubleSlow(b, p)
	}
	v = float64(mant)
	if exp < 0 {
		v /= pow10[-exp]
	}
	if neg {
		v = -v
	}
	return v, i, numOK
}

func parseDoubleSlow(b []byte, p int) (float64, int, numResult) {
	end := numberEnd(b, p)
	if end < 0 {
		return 0, p, numInvalid
	}
	v, err := strconv.ParseFloat(unsafe.String(&b[p], end-p), 64)
	if err != nil {
		return 0, end, numTooBig
	}
	return v, end, numOK
}

// dec128 is a two's complement 128-bit integer, the unscaled value of a decimal.
type dec128 struct {
	hi int64
	lo uint64
}

func (d dec128) less(o dec128) bool { return d.hi < o.hi || (d.hi == o.hi && d.lo < o.lo) }

func (d dec128) add(n int64) dec128 {
	lo, carry := bits.Add64(d.lo, uint64(n), 0)
	return dec128{d.hi + n>>63 + int64(carry), lo}
}

func (d dec128) neg() dec128 {
	lo, carry := bits.Add64(^d.lo, 1, 0)
	return dec128{int64(uint64(^d.hi) + carry), lo}
}

// mul10 returns d*10+digit of a value that stays below 10^38.
func (d dec128) mul10(digit byte) dec128 {
	hi, lo := bits.Mul64(d.lo, 10)
	lo, carry := bits.Add64(lo, uint64(digit), 0)
	return dec128{d.hi*10 + int64(hi+carry), lo}
}

// parseDecimal reads a valid number token as the unscaled value of decimal(precision, scale), exactly.
func parseDecimal(tok []byte, precision, scale int) (dec128, numResult) {
	s := splitNumber(tok)
	if s.n == 0 {
		return dec128{}, numOK
	}
	zeros := s.exp + scale // how many zeros follow the digits in the unscaled value
	switch {
	case zeros < 0:
		return dec128{}, numNotWhole
	case s.n+zeros > precision:
		return dec128{}, numTooBig
	}
	var d dec128
	for _, c := range s.digits {
		if c != '.' {
			d = d.mul10(c - '0')
		}
	}
	for range zeros {
		d = d.mul10(0)
	}
	if s.neg {
		d = d.neg()
	}
	return d, numOK
}
