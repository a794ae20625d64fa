package decode

import "encoding/binary"

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86_400 * microsPerSecond
	// The instants that a timestamptz takes: years 0000 to 9999 in UTC, what RFC 3339 can write.
	minMicros = -62_167_219_200 * microsPerSecond
	maxMicros = 253_402_300_800*microsPerSecond - 1

	highBits = 0x8080808080808080
)

func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }

// dayCache remembers the last date text and its day, because neighbouring events share it.
type dayCache struct {
	ymd  uint64 // the text "YYYY-MM-"
	day  uint32 // and "-DD", with a NUL after it
	days int64
}

// newDayCache starts with a day that is true: the zero value would take NUL bytes for one.
func newDayCache() dayCache {
	var c dayCache
	c.parseDay(append([]byte("1970-01-01"), zeroPad[:]...), 0)
	return c
}

// parseDay reads YYYY-MM-DD at p as days since 1970. b must reach 16 bytes beyond p.
func (c *dayCache) parseDay(b []byte, p int) (days int64, ok bool) {
	ymd, day := load64(b, p), load32(b, p+7)&0xFFFFFF
	if ymd == c.ymd && day == c.day {
		return c.days, true
	}
	for i, ch := range b[p : p+10] {
		if i == 4 || i == 7 {
			if ch != '-' {
				return 0, false
			}
		} else if ch-'0' > 9 {
			return 0, false
		}
	}
	d2 := func(i int) int64 { return int64(b[p+i]-'0')*10 + int64(b[p+i+1]-'0') }
	y, m, d := d2(0)*100+d2(2), d2(5), d2(8)
	if m < 1 || m > 12 || d < 1 || d > daysIn(y, m) {
		return 0, false
	}
	c.ymd, c.day, c.days = ymd, day, daysFromCivil(y, m, d)
	return c.days, true
}

func daysIn(y, m int64) int64 {
	if m == 2 {
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	}
	return 30 + (m+m>>3)&1
}

// daysFromCivil counts days from 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, days_from_civil).
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	doy := (153*((m+9)%12)+2)/5 + d - 1
	return era*146_097 + yoe*365 + yoe/4 - yoe/100 + doy - 719_468
}

// parseClock reads HH:MM:SS[.digits] at p as microseconds of the day; digits after the sixth are cut off.
func parseClock(b []byte, p int) (micros int64, end int, ok bool) {
	// XOR with "00:00:00": digits become 0..9 and colons 0, then one addition finds any byte that is too large.
	t := load64(b, p) ^ 0x30303A30303A3030
	if ((t+0x76767F76767F7676)|t)&highBits != 0 {
		return 0, p, false
	}
	h := int64(t&0xff)*10 + int64(t>>8&0xff)
	m := int64(t>>24&0xff)*10 + int64(t>>32&0xff)
	s := int64(t>>48&0xff)*10 + int64(t>>56)
	if h > 23 || m > 59 || s > 59 {
		return 0, p, false
	}
	micros = (h*3600 + m*60 + s) * microsPerSecond
	p += 8
	if b[p] != '.' {
		return micros, p, true
	}
	p++
	unit, start := int64(100_000), p
	for d := b[p] - '0'; d < 10; d = b[p] - '0' {
		micros += int64(d) * unit
		unit /= 10
		p++
	}
	return micros, p, p > start
}

// parseTimestamp reads an RFC 3339 date-time at p as microseconds since 1970 in UTC. b must be padded.
func (c *dayCache) parseTimestamp(b []byte, p int) (micros int64, end int, ok bool) {
	days, ok := c.parseDay(b, p)
	if !ok || b[p+10]|0x20 != 't' {
		return 0, p, false
	}
	clock, p, ok := parseClock(b, p+11)
	if !ok {
		return 0, p, false
	}
	micros = days*microsPerDay + clock
	if b[p]|0x20 == 'z' {
		return micros, p + 1, true
	}
	sign := int64(1)
	switch b[p] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, p, false
	}
	off := load64(b, p)>>8 ^ 0x00003030_3A3030 // "HH:MM" after the sign
	off &= 0xFFFFFFFFFF
	if ((off+0x76767F7676)|off)&0x8080808080 != 0 {
		return 0, p, false
	}
	h, m := int64(off&0xff)*10+int64(off>>8&0xff), int64(off>>24&0xff)*10+int64(off>>32&0xff)
	if h > 23 || m > 59 {
		return 0, p, false
	}
	micros -= sign * (h*60 + m) * 60 * microsPerSecond
	return micros, p + 6, micros >= minMicros && micros <= maxMicros
}

// parseTime reads HH:MM:SS[.digits] and an optional Z or zero offset: an Iceberg time has no zone to keep another in.
func parseTime(b []byte, p int) (micros int64, end int, ok bool) {
	micros, p, ok = parseClock(b, p)
	if !ok {
		return 0, p, false
	}
	if b[p]|0x20 == 'z' {
		return micros, p + 1, true
	}
	if s := string(b[p : p+6]); s == "+00:00" || s == "-00:00" {
		return micros, p + 6, true
	}
	return micros, p, true
}

// hexValue is the value of a hexadecimal digit, 0xff for anything else.
var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 10 {
		t['0'+i] = byte(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = byte(10+i), byte(10+i)
	}
	return t
}()

// parseUUID reads 8-4-4-4-12 hexadecimal digits at p.
func parseUUID(b []byte, p int, out *[16]byte) bool {
	const layout = "\x00\x02\x04\x06\x09\x0b\x0e\x10\x13\x15\x18\x1a\x1c\x1e\x20\x22" // where each byte's digits stand
	if b[p+8] != '-' || b[p+13] != '-' || b[p+18] != '-' || b[p+23] != '-' {
		return false
	}
	var bad byte
	for i := range out {
		at := p + int(layout[i])
		hi, lo := hexValue[b[at]], hexValue[b[at+1]]
		bad |= hi | lo
		out[i] = hi<<4 | lo&0xf
	}
	return bad < 0x10
}
