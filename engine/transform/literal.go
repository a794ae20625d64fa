package transform

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/google/uuid"
)

// value is one value of a vector, for literals and for casts of texts.
type value struct {
	null bool
	i    int64
	f    float64
	b    bool
	s    string
	d    decimal128.Num
}

// literal is a constant.
type literal struct {
	base
	v      value
	filled int
}

func (l *literal) eval(x *exec, _ []int32) *vec {
	if x.n <= l.filled {
		return &l.out
	}
	l.filled = 0
	out := l.room(x)
	l.filled = x.n
	for i := range x.n {
		out.null[i] = l.v.null
	}
	for i := range out.i {
		out.i[i] = l.v.i
	}
	for i := range out.f {
		out.f[i] = l.v.f
	}
	for i := range out.b {
		out.b[i] = l.v.b
	}
	for i := range out.s {
		out.s[i] = l.v.s
	}
	for i := range out.d {
		out.d[i] = l.v.d
	}
	return out
}

// The instants that dates and timestamps may have: the years 0000 to 9999, as the decoders have it.
const (
	minMicros = -62167219200_000000
	maxMicros = 253402300799_999999
	minDays   = -719528
	maxDays   = 2932896
	dayMicros = 86400_000000
)

// parseText reads a text as a value of the type, as cast does.
func parseText(s string, t valueType) (v value, ok bool) {
	s = strings.TrimSpace(s)
	switch t.kind {
	case kindString:
		return value{s: s}, utf8.ValidString(s)
	case kindBool:
		switch {
		case strings.EqualFold(s, "true"):
			return value{b: true}, true
		case strings.EqualFold(s, "false"):
			return value{}, true
		}
		return v, false
	case kindInt, kindLong:
		bits := 64
		if t.kind == kindInt {
			bits = 32
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, bits)
		return value{i: n}, err == nil && !strings.HasPrefix(s, "+-")
	case kindFloat, kindDouble:
		f, err := strconv.ParseFloat(s, 64)
		if t.kind == kindFloat {
			f = float64(float32(f))
		}
		return value{f: f}, err == nil && !math.IsInf(f, 0) && !strings.ContainsAny(s, "xX_pP")
	case kindDecimal:
		d, ok := parseDecimal(s, t.precision, t.scale)
		return value{d: d}, ok
	case kindUUID:
		u, ok := parseUUID(s)
		return value{s: string(u[:])}, ok
	}
	return parseTime(s, t)
}

func parseTime(s string, t valueType) (v value, ok bool) {
	switch t.kind {
	case kindDate:
		at, err := time.Parse("2006-01-02", s)
		return value{i: at.Unix() / 86400}, err == nil
	case kindTime:
		at, err := time.Parse("15:04:05.999999999", s)
		h, m, sec := at.Clock()
		return value{i: int64((h*60+m)*60+sec)*1_000_000 + int64(at.Nanosecond()/1000)}, err == nil
	case kindTimestamp:
		at, ok := parseLocal(s)
		return value{i: at.UnixMicro()}, ok
	case kindTimestampTz:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00"} {
			if at, err := time.Parse(layout, s); err == nil {
				us := at.UnixMicro()
				return value{i: us}, us >= minMicros && us <= maxMicros
			}
		}
	}
	return v, false
}

func parseLocal(s string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// maxDecimalText is longer than any decimal that could fit.
const maxDecimalText = 100

// parseDecimal reads digits with an optional fraction. Places beyond the scale must be zeros: nothing is rounded.
func parseDecimal(s string, precision, scale int) (decimal128.Num, bool) {
	if len(s) > maxDecimalText {
		return decimal128.Num{}, false
	}
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	whole, frac, dot := strings.Cut(s, ".")
	if whole == "" || dot && frac == "" {
		return decimal128.Num{}, false
	}
	whole = strings.TrimLeft(whole, "0")
	frac = strings.TrimRight(frac, "0")
	if len(frac) > scale || len(whole)+scale > precision {
		return decimal128.Num{}, false
	}
	var n decimal128.Num
	ten := decimal128.FromU64(10)
	for _, c := range []byte(whole + frac + strings.Repeat("0", scale-len(frac))) {
		if c < '0' || c > '9' {
			return decimal128.Num{}, false
		}
		n = n.Mul(ten).Add(decimal128.FromU64(uint64(c - '0')))
	}
	if neg {
		n = n.Negate()
	}
	return n, true
}

// appendText writes a value as cast(x as string) has it, and as masks see it.
func appendText(to []byte, v *vec, row int32, t valueType) []byte {
	switch t.kind {
	case kindBool:
		return strconv.AppendBool(to, v.b[row])
	case kindInt, kindLong:
		return strconv.AppendInt(to, v.i[row], 10)
	case kindFloat:
		return strconv.AppendFloat(to, v.f[row], 'g', -1, 32)
	case kindDouble:
		return strconv.AppendFloat(to, v.f[row], 'g', -1, 64)
	case kindDecimal:
		return appendDecimal(to, v.d[row], t.scale)
	case kindUUID:
		return appendUUID(to, v.s[row])
	case kindDate:
		return time.Unix(v.i[row]*86400, 0).UTC().AppendFormat(to, "2006-01-02")
	case kindTime:
		return time.UnixMicro(v.i[row]).UTC().AppendFormat(to, "15:04:05.999999")
	case kindTimestamp:
		return time.UnixMicro(v.i[row]).UTC().AppendFormat(to, "2006-01-02T15:04:05.999999")
	case kindTimestampTz:
		return time.UnixMicro(v.i[row]).UTC().AppendFormat(to, "2006-01-02T15:04:05.999999Z07:00")
	}
	return append(to, v.s[row]...)
}

// parseUUID reads the form of 36 characters.
func parseUUID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.UUID{}, false
	}
	u, err := uuid.Parse(s)
	return u, err == nil
}

// appendUUID writes the 16 bytes of a UUID in the form of 36 characters.
func appendUUID(to []byte, s string) []byte {
	var u uuid.UUID
	if copy(u[:], s) < len(u) {
		return to
	}
	for i, group := range [...][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, group)
	}
	return to
}
