package transform

import (
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// castNode changes the type of values; what does not fit fails, or is null with try_cast.
type castNode struct {
	base
	arg  node
	f    *fault
	soft bool
}

func newCast(arg node, to valueType, f *fault, soft bool) node {
	return &castNode{base: base{t: to}, arg: arg, f: f, soft: soft}
}

// castable tells which casts there are from one type to another; to is one that parseType gives.
func castable(from, to valueType) bool {
	switch {
	case from.kind == kindNull:
		return true
	case from.kind == kindOther || from.kind == kindBinary || from.kind == kindFixed:
		return false
	case to.kind == kindString || from.kind == kindString:
		return true
	case from.numeric() && to.numeric():
		return true
	case (from.instant() || from.kind == kindDate) && (to.instant() || to.kind == kindDate):
		return true
	}
	return false
}

func (n *castNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	from := n.arg.typ()
	for _, i := range sel {
		out.null[i] = a.null[i]
		if a.null[i] || n.one(x, a, out, i, from) {
			continue
		}
		out.null[i] = true
		if !n.soft {
			x.fail(i, n.f)
		}
	}
	return out
}

// one casts the value of a row.
func (n *castNode) one(x *exec, a, out *vec, i int32, from valueType) bool {
	switch {
	case n.t.kind == kindString:
		at := len(x.arena)
		x.arena = appendText(x.arena, a, i, from)
		out.s[i] = x.text(at)
	case from.kind == kindString && n.t.kind == kindUUID:
		u, ok := parseUUID(strings.TrimSpace(a.s[i]))
		at := len(x.arena)
		x.arena = append(x.arena, u[:]...)
		out.s[i] = x.text(at)
		return ok
	case from.kind == kindString:
		v, ok := parseText(a.s[i], n.t)
		n.set(out, i, v)
		return ok
	case from.numeric() && n.t.numeric():
		v, ok := number128(a, i, from, n.t)
		n.set(out, i, v)
		return ok
	default:
		return n.times(a, out, i, from)
	}
	return true
}

func (n *castNode) set(out *vec, i int32, v value) {
	switch {
	case n.t.kind == kindBool:
		out.b[i] = v.b
	case n.t.onInts():
		out.i[i] = v.i
	case n.t.floating():
		out.f[i] = v.f
	case n.t.kind == kindDecimal:
		out.d[i] = v.d
	default:
		out.s[i] = v.s
	}
}

// times casts between dates and instants. Zones do not matter: a timestamp without one is read as UTC.
func (n *castNode) times(a, out *vec, i int32, from valueType) bool {
	v := a.i[i]
	switch {
	case from.kind == kindDate && n.t.instant():
		if v < minDays || v > maxDays {
			return false
		}
		v *= dayMicros
	case from.instant() && n.t.kind == kindDate:
		v = floorDiv(v, dayMicros)
	}
	out.i[i] = v
	return true
}

// number128 casts between numbers. Fractions are cut off on the way to a whole number, and rounded half away from zero on the
// way to fewer decimal places.
func number128(a *vec, i int32, from, to valueType) (v value, ok bool) {
	switch {
	case from.floating():
		f := a.f[i]
		switch {
		case to.whole():
			// The bounds themselves are exact as doubles; 2^63 is not a long.
			low, high := float64(math.MinInt64), float64(math.MaxInt64)
			if to.kind == kindInt {
				low, high = math.MinInt32, math.MaxInt32+1
			}
			f = math.Trunc(f)
			return value{i: int64(f)}, f >= low && f < high
		case to.kind == kindDecimal:
			d, err := decimal128.FromFloat64(f, int32(to.precision), int32(to.scale))
			return value{d: d}, err == nil && d.FitsInPrecision(int32(to.precision))
		case to.kind == kindFloat:
			g := float64(float32(f))
			return value{f: g}, !math.IsInf(g, 0) || math.IsInf(f, 0)
		}
		return value{f: f}, true
	case from.whole():
		n := a.i[i]
		switch {
		case to.floating():
			return value{f: float64(n)}, true
		case to.kind == kindDecimal:
			return rescaled(decimal128.FromI64(n), 0, to)
		}
		return value{i: n}, to.kind == kindLong || n == int64(int32(n))
	}
	d := a.d[i]
	switch {
	case to.floating():
		return value{f: d.ToFloat64(int32(from.scale))}, true
	case to.kind == kindDecimal:
		return rescaled(d, from.scale, to)
	}
	q, _ := divided(d, pow10(from.scale))
	n := int64(q.LowBits())
	if decimal128.FromI64(n) != q {
		return v, false
	}
	return value{i: n}, to.kind == kindLong || n == int64(int32(n))
}

// pow10 is a power of ten up to 38.
func pow10(n int) decimal128.Num { return decimal128.GetScaleMultiplier(n) }

// rescaled writes a decimal with another scale.
func rescaled(d decimal128.Num, scale int, to valueType) (value, bool) {
	switch {
	case to.scale > scale:
		up := to.scale - scale
		if !d.FitsInPrecision(int32(maxPrecision - up)) {
			return value{}, false
		}
		d = d.Mul(pow10(up))
	case to.scale < scale:
		by := pow10(scale - to.scale)
		q, rest := divided(d, by)
		if twice := rest.Abs().Mul(decimal128.FromU64(2)); !twice.Less(by) {
			if d.Sign() < 0 {
				q = q.Sub(decimal128.FromU64(1))
			} else {
				q = q.Add(decimal128.FromU64(1))
			}
		}
		d = q
	}
	return value{d: d}, d.FitsInPrecision(int32(to.precision))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
