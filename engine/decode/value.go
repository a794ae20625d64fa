package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

func itoa(n int) string { return strconv.Itoa(n) }

// The literals of JSON as the words that they are in memory.
var (
	wordTrue = binary.LittleEndian.Uint32([]byte("true"))
	wordAlse = binary.LittleEndian.Uint32([]byte("alse")) //nolint:misspell // false without its first letter
	wordNull = binary.LittleEndian.Uint32([]byte("null"))
)

// value reads the value at p (no whitespace before it) into its column and returns the position after it, or -1.
func (d *JSON) value(v *valuePlan, b []byte, p int) int {
	switch c := b[p]; v.kind {
	case kindString:
		if c == '"' {
			return d.str(v, b, p)
		}
	case kindLong, kindInt, kindEpoch:
		if c == '-' || c-'0' < 10 {
			return d.integer(v, b, p)
		}
	case kindStruct:
		if c == '{' {
			return d.object(v.obj, b, p+1)
		}
	case kindTimestamp:
		if c == '"' {
			if micros, q, ok := d.day.parseTimestamp(b, p+1); ok && b[q] == '"' {
				v.col.appendInt64(micros)
				return q + 1
			}
			return d.formatted(v, b, p)
		}
	case kindDouble:
		if c == '-' || c-'0' < 10 {
			return d.double(v, b, p)
		}
	case kindBool:
		if load32(b, p) == wordTrue {
			return d.boolean(v, true, p, p+4)
		}
		if c == 'f' && load32(b, p+1) == wordAlse {
			return d.boolean(v, false, p, p+5)
		}
	case kindList:
		if c == '[' {
			return d.list(v, b, p+1)
		}
	case kindMap:
		if c == '{' {
			return d.mapping(v, b, p+1)
		}
	case kindDecimal:
		if !v.text && (c == '-' || c-'0' < 10) {
			return d.decimal(v, b, p)
		}
		if v.text && c == '"' {
			return d.formatted(v, b, p)
		}
	default:
		if v.coded && (c == '-' || c-'0' < 10) {
			return d.coded(v, b, p)
		}
		if c == '"' && !v.coded {
			return d.formatted(v, b, p)
		}
	}
	return d.other(v, b, p)
}

// notFinite is how Kafka Connect writes those values of a database's that no JSON number is.
var notFinite = map[string]float64{`"NaN"`: math.NaN(), `"Infinity"`: math.Inf(1), `"-Infinity"`: math.Inf(-1)}

// other deals with a value that is not of the contract's type: null, another type, or no JSON at all.
func (d *JSON) other(v *valuePlan, b []byte, p int) int {
	if load32(b, p) == wordNull {
		if v.nullable {
			v.col.null()
			return p + 4
		}
		return d.fail(ReasonWrongType, p, "null where the contract wants %s; a type of [%s, null] takes both", v.name, v.name)
	}
	if v.kind == kindDouble && d.change.whole != nil {
		for text, f := range notFinite {
			if bytes.HasPrefix(b[p:], []byte(text)) {
				return d.putDouble(v, f, p, p+len(text))
			}
		}
	}
	c := b[p]
	if d.skip(b, p, v.depth-1) < 0 {
		return -1
	}
	return d.fail(ReasonWrongType, p, "%s where the contract wants %s", typeOfByte(c), v.name)
}

func typeOfByte(c byte) string {
	switch c {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	}
	return "number"
}

// str reads the string at p into a string column. The plain case is one loop that copies eight bytes at a time into
// the column and looks for the end in the same word. It needs room for the rest of the payload; where the column has
// less, and for escapes and what is not ASCII, the string is looked at first and copied then.
func (d *JSON) str(v *valuePlan, b []byte, p int) int {
	col := v.col
	dst := col.data[min(col.end, len(col.data)):]
	if len(dst) < d.size-p+8 || col.n >= col.cap {
		return d.strSlow(v, b, p)
	}
	q := p + 1
	n := 0
	for {
		w := load64(b, q+n)
		binary.LittleEndian.PutUint64(dst[n:], w)
		if m := special(w); m != 0 {
			n += bits.TrailingZeros64(m) >> 3
			break
		}
		n += 8
	}
	if b[q+n] != '"' {
		return d.strSlow(v, b, p)
	}
	if v.checks != nil && !d.stringAllowed(v.checks, dst[:n], p) {
		return -1
	}
	col.end += n
	col.n++
	col.offs[col.n] = int32(col.end)
	return q + n + 1
}

func (d *JSON) strSlow(v *valuePlan, b []byte, p int) int {
	s, end, lone := d.text(b, p)
	if end < 0 {
		return -1
	}
	if lone {
		return d.loneSurrogate(p)
	}
	if v.checks != nil && !d.stringAllowed(v.checks, s, p) {
		return -1
	}
	v.col.appendBytes(s)
	return end
}

// stringAllowed checks a string against the contract's limits.
func (d *JSON) stringAllowed(c *checks, s []byte, p int) bool {
	if c.hasEnum && !c.inEnum(s) {
		d.notInEnum(c, p)
		return false
	}
	if c.hasLen {
		n := utf8.RuneCount(s)
		if n < c.minLen || (c.maxLen >= 0 && n > c.maxLen) {
			d.fail(ReasonOutOfRange, p, "the string has %d characters, the contract allows %s", n, c.lengths())
			return false
		}
	}
	if c.pattern != nil && !c.pattern.Match(s) {
		d.fail(ReasonNoMatch, p, "the string does not match %s", c.pattern)
		return false
	}
	return true
}

func (c *checks) lengths() string {
	if c.maxLen < 0 {
		return "at least " + itoa(c.minLen)
	}
	return itoa(c.minLen) + " to " + itoa(c.maxLen)
}

func (d *JSON) notInEnum(c *checks, p int) int {
	return d.fail(ReasonNotInEnum, p, "the value is none of: %s", c.enumDescription)
}

func (d *JSON) integer(v *valuePlan, b []byte, p int) int {
	i := p
	if b[i] == '-' {
		i++
	}
	start := i
	var u uint64
	for c := b[i] - '0'; c < 10; c = b[i] - '0' {
		u = u*10 + uint64(c)
		i++
	}
	n := i - start
	if n == 0 || (n > 1 && b[start] == '0') {
		return d.syntax(start+min(n, 1), "a number as JSON writes it")
	}
	x := int64(u)
	if start > p {
		x = -x
	}
	if n > 18 || b[i] == '.' || b[i]|0x20 == 'e' {
		if i = numberEnd(b, p); i < 0 {
			return d.syntax(p, "a number as JSON writes it")
		}
		var res numResult
		if x, res = exactInt(b[p:i]); res == numNotWhole {
			return d.fail(ReasonWrongType, p, "a number with a fraction where the contract wants integer")
		} else if res != numOK {
			return d.fail(ReasonOutOfRange, p, "the number does not fit 64 bits")
		}
	}
	if v.checks != nil && !d.intAllowed(v.checks, x, p) {
		return -1
	}
	return d.storeInt(v, x, p, i)
}

func (d *JSON) intAllowed(c *checks, x int64, p int) bool {
	if !c.intOK(x) {
		d.fail(ReasonOutOfRange, p, "the contract wants %s", c.rangeDescription)
		return false
	}
	if c.hasEnum && !c.inEnumInt(x) {
		d.notInEnum(c, p)
		return false
	}
	return true
}

func (d *JSON) storeInt(v *valuePlan, x int64, p, end int) int {
	switch v.kind {
	case kindInt:
		if x != int64(int32(x)) {
			return d.fail(ReasonOutOfRange, p, "the number does not fit 32 bits")
		}
		if !v.wide {
			v.col.appendInt32(int32(x))
			return end
		}
	case kindEpoch:
		if v.nanos {
			x = floorMicros(x)
		}
		if x < minMicros/v.epochUnit || x > maxMicros/v.epochUnit {
			return d.fail(ReasonOutOfRange, p, "the time lies outside the years 0000 to 9999 (is the unit right?)")
		}
		x *= v.epochUnit
	}
	v.col.appendInt64(x)
	return end
}

func (d *JSON) double(v *valuePlan, b []byte, p int) int {
	f, end, res := parseDouble(b, p)
	switch res {
	case numInvalid:
		return d.syntax(p, "a number as JSON writes it")
	case numTooBig:
		return d.fail(ReasonOutOfRange, p, "the number does not fit a double")
	}
	return d.putDouble(v, f, p, end)
}

func (d *JSON) putDouble(v *valuePlan, f float64, p, end int) int {
	if c := v.checks; c != nil {
		if !c.numOK(f) {
			return d.fail(ReasonOutOfRange, p, "the contract wants %s", c.rangeDescription)
		}
		if c.hasEnum && !c.inEnumNum(f) {
			return d.notInEnum(c, p)
		}
	}
	v.col.appendInt64(int64(math.Float64bits(f)))
	return end
}

func (d *JSON) boolean(v *valuePlan, x bool, p, end int) int {
	if v.checks != nil && !v.checks.inEnumBool(x) {
		return d.notInEnum(v.checks, p)
	}
	v.col.appendBool(x)
	return end
}

func (d *JSON) decimal(v *valuePlan, b []byte, p int) int {
	end := numberEnd(b, p)
	if end < 0 {
		return d.syntax(p, "a number as JSON writes it")
	}
	if !d.storeDecimal(v, b[p:end], p) {
		return -1
	}
	return end
}

func (d *JSON) storeDecimal(v *valuePlan, tok []byte, p int) bool {
	x, res := parseDecimal(tok, v.precision, v.scale)
	switch res {
	case numNotWhole:
		d.fail(ReasonOutOfRange, p, "more than %d decimal places; decimals are never rounded", v.scale)
		return false
	case numTooBig:
		d.fail(ReasonOutOfRange, p, "does not fit decimal(%d,%d)", v.precision, v.scale)
		return false
	}
	if v.checks != nil && !v.checks.decOK(x) {
		d.fail(ReasonOutOfRange, p, "the contract wants %s", v.checks.rangeDescription)
		return false
	}
	v.col.appendDec(x)
	return true
}

// formatted reads a string whose text is a date, time, uuid, decimal or base64.
func (d *JSON) formatted(v *valuePlan, b []byte, p int) int {
	s, end, lone := d.text(b, p)
	if end < 0 {
		return -1
	}
	if lone {
		return d.loneSurrogate(p)
	}
	n := len(s)
	if v.kind == kindBinary {
		if !d.base64(v.col, s) {
			return d.fail(ReasonInvalidFormat, p, "the string is not standard base64 with padding")
		}
		return end
	}
	if v.coded {
		if !d.codedDecimal(v, s, p) {
			return -1
		}
		return end
	}
	d.tmp = append(append(d.tmp[:0], s...), zeroPad[:]...) // the parsers below read in words, past the end of what they accept
	t := d.tmp
	var ok bool
	var at int
	var x int64
	switch v.kind {
	case kindTimestamp:
		if x, at, ok = d.day.parseTimestamp(t, 0); ok && at == n {
			v.col.appendInt64(x)
			return end
		}
		return d.fail(ReasonInvalidFormat, p, "the string is not an RFC 3339 date-time with an offset, such as 2026-06-04T11:01:23.456Z")
	case kindDate:
		if x, ok = d.day.parseDay(t, 0); ok && (n == len("2006-01-02") || d.change.whole != nil && string(t[len("2006-01-02"):n]) == "Z") { // an IsoDate of Debezium's
			v.col.appendInt32(int32(x))
			return end
		}
		return d.fail(ReasonInvalidFormat, p, "the string is not a date such as 2026-06-04")
	case kindTime:
		if x, at, ok = parseTime(t, 0); ok && at == n {
			v.col.appendInt64(x)
			return end
		}
		return d.fail(ReasonInvalidFormat, p, "the string is not a time such as 11:01:23.456 (Z or a zero offset may follow)")
	case kindUUID:
		var id [16]byte
		if n == 36 && parseUUID(t, 0, &id) {
			v.col.appendFixed(id[:])
			return end
		}
		return d.fail(ReasonInvalidFormat, p, "the string is not a UUID of 36 characters")
	}
	if numberEnd(t, 0) != n {
		return d.fail(ReasonInvalidFormat, p, "the string is not a decimal number as JSON writes it")
	}
	if !d.storeDecimal(v, t[:n], p) {
		return -1
	}
	return end
}

func (c *column) appendFixed(v []byte) {
	if c.n == c.cap {
		c.growTo(c.n + 1)
	}
	copy(c.data[c.n*c.width:(c.n+1)*c.width], v)
	c.n++
}

// strictBase64 refuses padding bits that are not zero, so that each value has one spelling.
var strictBase64 = base64.StdEncoding.Strict()

func (d *JSON) base64(col *column, s []byte) bool {
	raw, ok := strictBytes(col.room(base64.StdEncoding.DecodedLen(len(s))), s)
	if ok {
		col.endBytes(len(raw))
	}
	return ok
}

// strictBytes decodes base64 into dst, which has room for it.
func strictBytes(dst, s []byte) ([]byte, bool) {
	if bytes.IndexByte(s, '\n') >= 0 || bytes.IndexByte(s, '\r') >= 0 { // which encoding/base64 reads over
		return nil, false
	}
	n, err := strictBase64.Decode(dst, s)
	return dst[:n], err == nil
}

// skip checks the value at p and everything in it, and returns the position after it. depth is the nesting around it.
func (d *JSON) skip(b []byte, p, depth int) int {
	open := d.open[:0] // the closing bracket of each level that is open
	defer func() { d.open = open[:0] }()
	for {
		var opened bool
		p, opened = d.skipStart(b, space(b, p))
		if p < 0 {
			return -1
		}
		if opened {
			closing := b[p-1] + 2 // '[' + 2 = ']' and '{' + 2 = '}'
			if depth+len(open) >= d.opt.MaxDepth {
				return d.fail(ReasonTooDeep, p-1, "nested deeper than %d", d.opt.MaxDepth)
			}
			if p = space(b, p); b[p] != closing {
				open = append(open, closing)
				if closing == '}' {
					if p = d.skipKey(b, p); p < 0 {
						return -1
					}
				}
				continue
			}
			p++
		}
		for { // after a value: close levels, or go on to the next value of this one
			if len(open) == 0 {
				return p
			}
			closing := open[len(open)-1]
			p = space(b, p)
			if b[p] == ',' {
				p++
				if closing == '}' {
					if p = d.skipKey(b, space(b, p)); p < 0 {
						return -1
					}
				}
				break
			}
			if b[p] != closing {
				return d.syntax(p, "',' or '"+string(rune(closing))+"'")
			}
			open = open[:len(open)-1]
			p++
		}
	}
}

// skipStart skips a scalar, or the opening bracket of an object or array.
func (d *JSON) skipStart(b []byte, p int) (end int, opened bool) {
	switch b[p] {
	case '"':
		return d.skipText(b, p), false
	case '{', '[':
		return p + 1, true
	case 't', 'n':
		if w := load32(b, p); w == wordTrue || w == wordNull {
			return p + 4, false
		}
	case 'f':
		if load32(b, p+1) == wordAlse {
			return p + 5, false
		}
	default:
		if end := numberEnd(b, p); end >= 0 {
			return end, false
		}
	}
	return d.syntax(p, "a value"), false
}

func (d *JSON) skipKey(b []byte, p int) int {
	if b[p] != '"' {
		return d.syntax(p, "a key")
	}
	if p = d.skipText(b, p); p < 0 {
		return -1
	}
	if p = space(b, p); b[p] != ':' {
		return d.syntax(p, "':'")
	}
	return p + 1
}
