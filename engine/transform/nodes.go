package transform

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

type notNode struct {
	base
	arg node
}

func (n *notNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		out.null[i], out.b[i] = a.null[i], !a.b[i]
	}
	return out
}

type isNullNode struct {
	base
	arg node
}

func (n *isNullNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		out.null[i], out.b[i] = false, a.null[i]
	}
	return out
}

// logicNode is and, or. The right side is evaluated only for rows that the left has not decided, so that
// count > 0 and total / count > 5 fails for no row.
type logicNode struct {
	base
	or   bool
	l, r node
}

func (n *logicNode) eval(x *exec, sel []int32) *vec {
	a, out := n.l.eval(x, sel), n.room(x)
	open := x.rows()
	for _, i := range sel {
		out.null[i], out.b[i] = a.null[i], a.b[i]
		if a.null[i] || a.b[i] != n.or {
			open = append(open, i)
		}
	}
	if len(open) > 0 {
		b := n.r.eval(x, open)
		for _, i := range open {
			switch {
			case !b.null[i] && b.b[i] == n.or:
				out.null[i], out.b[i] = false, n.or
			case out.null[i] || b.null[i]:
				out.null[i] = true
			default:
				out.b[i] = b.b[i]
			}
		}
	}
	x.give(open)
	return out
}

type compareNode struct {
	base
	l, r                 node
	of                   valueType
	less, equal, greater bool
}

func (n *compareNode) eval(x *exec, sel []int32) *vec {
	a, b, out := n.l.eval(x, sel), n.r.eval(x, sel), n.room(x)
	switch {
	case n.of.onInts():
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i] || b.null[i], n.is(cmp.Compare(a.i[i], b.i[i]))
		}
	case n.of.floating():
		for _, i := range sel { // NaN is equal to nothing, as IEEE 754 has it
			p, q := a.f[i], b.f[i]
			out.null[i], out.b[i] = a.null[i] || b.null[i], n.less && p < q || n.equal && p == q || n.greater && p > q
			if n.less && n.greater {
				out.b[i] = p != q
			}
		}
	case n.of.kind == kindBool:
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i] || b.null[i], (a.b[i] == b.b[i]) == n.equal
		}
	case n.of.kind == kindDecimal:
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i] || b.null[i], n.is(a.d[i].Cmp(b.d[i]))
		}
	case n.less == n.greater: // = and <>
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i] || b.null[i], (a.s[i] == b.s[i]) == n.equal
		}
	default:
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i] || b.null[i], n.is(strings.Compare(a.s[i], b.s[i]))
		}
	}
	return out
}

func (n *compareNode) is(c int) bool {
	return n.less && c < 0 || n.equal && c == 0 || n.greater && c > 0
}

// setNode is in with a list of strings or whole numbers.
type setNode struct {
	base
	arg   node
	texts map[string]bool
	ints  []int64
}

func (n *setNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	if n.texts != nil {
		for _, i := range sel {
			out.null[i], out.b[i] = a.null[i], n.texts[a.s[i]]
		}
		return out
	}
	for _, i := range sel {
		out.null[i] = a.null[i]
		_, out.b[i] = slices.BinarySearch(n.ints, a.i[i])
	}
	return out
}

type likeNode struct {
	base
	arg     node
	pattern pattern
}

func (n *likeNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		out.null[i], out.b[i] = a.null[i], !a.null[i] && n.pattern.match(a.s[i])
	}
	return out
}

// pattern is that of like: parts between %, in which anyRune stands for one character.
type pattern struct{ parts [][]rune }

const anyRune = -1

// newPattern reads % (any text), _ (any character) and \ (the next character as it is).
func newPattern(s string) pattern {
	p := pattern{parts: [][]rune{nil}}
	last := 0
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
			continue
		case r == '%':
			p.parts = append(p.parts, nil)
			last++
			continue
		case r == '_':
			r = anyRune
		}
		p.parts[last] = append(p.parts[last], r)
	}
	return p
}

// match finds each part as early as it can be, the first at the start and the last at the end.
func (p pattern) match(s string) bool {
	n, ok := startsWith(s, p.parts[0])
	if !ok {
		return false
	}
	if s = s[n:]; len(p.parts) == 1 {
		return s == ""
	}
	for _, part := range p.parts[1 : len(p.parts)-1] {
		for {
			if n, ok = startsWith(s, part); ok {
				s = s[n:]
				break
			}
			if s == "" {
				return false
			}
			_, size := utf8.DecodeRuneInString(s)
			s = s[size:]
		}
	}
	last := p.parts[len(p.parts)-1]
	at := len(s)
	for range last {
		if at == 0 {
			return false
		}
		_, size := utf8.DecodeLastRuneInString(s[:at])
		at -= size
	}
	_, ok = startsWith(s[at:], last)
	return ok
}

// startsWith tells how many bytes of s the part takes.
func startsWith(s string, part []rune) (int, bool) {
	at := 0
	for _, want := range part {
		r, size := utf8.DecodeRuneInString(s[at:])
		if size == 0 || want != anyRune && r != want {
			return 0, false
		}
		at += size
	}
	return at, true
}

// caseNode is case, coalesce and if: the first condition that is true chooses the value, and only rows that it chooses are
// evaluated for it. There is one value more than conditions.
type caseNode struct {
	base
	conds, values []node
}

func (n *caseNode) eval(x *exec, sel []int32) *vec {
	out := n.room(x)
	rest := append(x.rows(), sel...)
	hit := x.rows()
	for k, cond := range n.conds {
		if len(rest) == 0 {
			break
		}
		c := cond.eval(x, rest)
		hit = hit[:0]
		left := rest[:0]
		for _, i := range rest {
			if !c.null[i] && c.b[i] {
				hit = append(hit, i)
			} else if x.failed[i] == nil {
				left = append(left, i)
			} else {
				out.null[i] = true
			}
		}
		rest = left
		if len(hit) > 0 {
			n.take(out, n.values[k].eval(x, hit), hit)
		}
	}
	if len(rest) > 0 {
		n.take(out, n.values[len(n.values)-1].eval(x, rest), rest)
	}
	x.give(rest)
	x.give(hit)
	return out
}

func (n *caseNode) take(out, v *vec, rows []int32) {
	for _, i := range rows {
		out.null[i] = v.null[i]
		switch {
		case n.t.kind == kindBool:
			out.b[i] = v.b[i]
		case n.t.onInts():
			out.i[i] = v.i[i]
		case n.t.floating():
			out.f[i] = v.f[i]
		case n.t.kind == kindDecimal:
			out.d[i] = v.d[i]
		default:
			out.s[i] = v.s[i]
		}
	}
}

// coalesceNode is the first value that is not null.
type coalesceNode struct {
	caseNode
}

func (n *coalesceNode) eval(x *exec, sel []int32) *vec {
	out := n.room(x)
	rest := append(x.rows(), sel...)
	for _, value := range n.values {
		if len(rest) == 0 {
			break
		}
		v := value.eval(x, rest)
		n.take(out, v, rest)
		left := rest[:0]
		for _, i := range rest {
			if v.null[i] && x.failed[i] == nil {
				left = append(left, i)
			}
		}
		rest = left
	}
	x.give(rest)
	return out
}

// arithNode is + - * / % of two longs or two doubles. Whole numbers divide to whole ones, towards zero.
type arithNode struct {
	base
	op         byte
	l, r       node
	over, zero *fault
}

func (n *arithNode) eval(x *exec, sel []int32) *vec {
	a, b, out := n.l.eval(x, sel), n.r.eval(x, sel), n.room(x)
	for _, i := range sel {
		if out.null[i] = a.null[i] || b.null[i]; out.null[i] {
			continue
		}
		var f *fault
		if n.t.kind == kindLong {
			out.i[i], f = n.longs(a.i[i], b.i[i])
		} else {
			out.f[i], f = n.doubles(a.f[i], b.f[i])
		}
		if f != nil {
			out.null[i] = true
			x.fail(i, f)
		}
	}
	return out
}

func (n *arithNode) longs(a, b int64) (int64, *fault) {
	switch n.op {
	case '+':
		if s := a + b; (s > a) == (b > 0) {
			return s, nil
		}
	case '-':
		if s := a - b; (s < a) == (b > 0) {
			return s, nil
		}
	case '*':
		if a == 0 || b == 0 {
			return 0, nil
		}
		if p := a * b; p/b == a && (a != -1 || b != math.MinInt64) && (b != -1 || a != math.MinInt64) {
			return p, nil
		}
	case '/':
		if b == 0 {
			return 0, n.zero
		}
		if a != math.MinInt64 || b != -1 {
			return a / b, nil
		}
	case '%':
		if b == 0 {
			return 0, n.zero
		}
		if b == -1 {
			return 0, nil
		}
		return a % b, nil
	}
	return 0, n.over
}

// doubles fails where a finite calculation leaves the finite numbers; what was no number before stays none.
func (n *arithNode) doubles(a, b float64) (v float64, _ *fault) {
	switch n.op {
	case '+':
		v = a + b
	case '-':
		v = a - b
	case '*':
		v = a * b
	case '/', '%':
		if b == 0 {
			return 0, n.zero
		}
		if v = a / b; n.op == '%' {
			v = math.Mod(a, b)
		}
	}
	if math.IsInf(v, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		return 0, n.over
	}
	return v, nil
}

type concatNode struct {
	base
	args []node
	vecs []*vec
}

func (n *concatNode) eval(x *exec, sel []int32) *vec {
	out := n.room(x)
	n.vecs = n.vecs[:0]
	for _, a := range n.args {
		n.vecs = append(n.vecs, a.eval(x, sel))
	}
	for _, i := range sel {
		out.null[i] = false
		from := len(x.arena)
		for _, v := range n.vecs {
			if v.null[i] {
				out.null[i] = true
				break
			}
			x.arena = append(x.arena, v.s[i]...)
		}
		out.s[i] = x.text(from)
	}
	return out
}
