package transform

import (
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// What Arrow's decimals do through math/big, done without: each of these is done for a value of every event.

// divided is d/by, cut off towards zero, and what is left of it, which has d's sign. by is positive.
func divided(d, by decimal128.Num) (q, rest decimal128.Num) {
	n := d.Abs()
	qh, ql, rh, rl := divide128(uint64(n.HighBits()), n.LowBits(), uint64(by.HighBits()), by.LowBits())
	q, rest = decimal128.New(int64(qh), ql), decimal128.New(int64(rh), rl)
	if d.Sign() < 0 {
		return q.Negate(), rest.Negate()
	}
	return q, rest
}

// divide128 divides 128 bits by 128 bits without sign (Hacker's Delight, section 9-5).
func divide128(uh, ul, vh, vl uint64) (qh, ql, rh, rl uint64) {
	if vh == 0 {
		qh, rh = uh/vl, uh%vl
		ql, rl = bits.Div64(rh, ul, vl)
		return qh, ql, 0, rl
	}
	// The quotient has 64 bits: an estimate by the divisor's upper 64, which is right or one too great, less one.
	shift := uint(bits.LeadingZeros64(vh))
	top := vh << shift
	if shift > 0 {
		top |= vl >> (64 - shift)
	}
	ql, _ = bits.Div64(uh>>1, uh<<63|ul>>1, top)
	if ql >>= 63 - shift; ql > 0 {
		ql--
	}
	ph, pl := bits.Mul64(ql, vl)
	ph += ql * vh
	rl, borrow := bits.Sub64(ul, pl, 0)
	rh, _ = bits.Sub64(uh, ph, borrow)
	if rh > vh || rh == vh && rl >= vl {
		ql++
		rl, borrow = bits.Sub64(rl, vl, 0)
		rh, _ = bits.Sub64(rh, vh, borrow)
	}
	return 0, ql, rh, rl
}

// maxDigits is what 128 bits without sign have at most.
const maxDigits = 39

// appendDecimal writes all digits of a decimal, as many of them behind the point as its scale says.
func appendDecimal(to []byte, d decimal128.Num, scale int) []byte {
	var digits [maxDigits]byte
	at := len(digits)
	n := d.Abs()
	for hi, lo := uint64(n.HighBits()), n.LowBits(); hi != 0 || lo != 0; {
		var rest uint64
		hi, lo, _, rest = divide128(hi, lo, 0, 10)
		at--
		digits[at] = byte('0' + rest)
	}
	for len(digits)-at <= scale {
		at--
		digits[at] = '0'
	}
	if d.Sign() < 0 {
		to = append(to, '-')
	}
	to = append(to, digits[at:len(digits)-scale]...)
	if scale > 0 {
		to = append(append(to, '.'), digits[len(digits)-scale:]...)
	}
	return to
}
