package decode

import (
	"encoding/base64"
)

// Values that are written as a number, or as bytes, and mean a date, a time of day or a decimal: what Kafka Connect and
// Debezium make of a database's columns. Nothing in the value says so; the contract's format does.

// coded reads the integer at p as a date or a time of day.
func (d *JSON) coded(v *valuePlan, b []byte, p int) int {
	end := numberEnd(b, p)
	if end < 0 {
		return d.syntax(p, "a number as JSON writes it")
	}
	x, res := exactInt(b[p:end])
	switch res {
	case numOK:
	case numNotWhole:
		return d.fail(ReasonWrongType, p, "a number with a fraction where the contract wants integer")
	default:
		return d.fail(ReasonOutOfRange, p, "the number does not fit 64 bits")
	}
	if v.kind == kindDate {
		if x < minMicros/microsPerDay || x > maxMicros/microsPerDay {
			return d.fail(ReasonOutOfRange, p, "the date lies outside the years 0000 to 9999 (days since 1970 are wanted)")
		}
		v.col.appendInt32(int32(x))
		return end
	}
	if v.nanos {
		x = floorMicros(x)
	}
	if x < 0 || x >= microsPerDay/v.epochUnit {
		return d.fail(ReasonOutOfRange, p, "the time lies outside the day (is the unit right?)")
	}
	v.col.appendInt64(x * v.epochUnit)
	return end
}

// floorMicros cuts nanoseconds down to the microsecond before, also before 1970.
func floorMicros(ns int64) int64 {
	us := ns / 1000
	if ns%1000 < 0 {
		us--
	}
	return us
}

// codedDecimal stores a decimal whose unscaled value came as base64 of its two's complement, the first byte being the
// highest, as java.math.BigInteger writes it. The scale is the contract's.
func (d *JSON) codedDecimal(v *valuePlan, s []byte, p int) bool {
	n := base64.StdEncoding.DecodedLen(len(s))
	if cap(d.raw) < n {
		d.raw = make([]byte, n)
	}
	raw, ok := strictBytes(d.raw[:n], s)
	if !ok {
		d.fail(ReasonInvalidFormat, p, "the string is not standard base64 with padding")
		return false
	}
	x, ok := bigEndian128(raw)
	switch {
	case len(raw) == 0:
		d.fail(ReasonInvalidFormat, p, "the string holds no byte of a decimal")
		return false
	case !ok || !x.fits(v.precision):
		d.fail(ReasonOutOfRange, p, "does not fit decimal(%d,%d)", v.precision, v.scale)
		return false
	case v.checks != nil && !v.checks.decOK(x):
		d.fail(ReasonOutOfRange, p, "the contract wants %s", v.checks.rangeDescription)
		return false
	}
	v.col.appendDec(x)
	return true
}
