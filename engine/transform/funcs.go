package transform

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/firnlake/firn/internal/config"
)

// function checks a call.
type function func(c *checker, e *expr, want valueType) (node, error)

// functions are those of the language. It is filled in init, because a function compiles its arguments.
var functions map[string]function

func init() {
	functions = map[string]function{
		"lower": textFunc(lowered(unicode.ToLower)), "upper": textFunc(lowered(unicode.ToUpper)),
		"trim":  textFunc(func(_ *exec, s string) string { return strings.Trim(s, " ") }),
		"ltrim": textFunc(func(_ *exec, s string) string { return strings.TrimLeft(s, " ") }),
		"rtrim": textFunc(func(_ *exec, s string) string { return strings.TrimRight(s, " ") }),
		"abs":   absFunc, "floor": doubleFunc(math.Floor), "ceil": doubleFunc(math.Ceil), "round": doubleFunc(math.Round),
		"length": lengthFunc, "substr": substrFunc, "concat": func(c *checker, e *expr, _ valueType) (node, error) { return c.concat(e, e.args) },
		"coalesce": coalesceFunc, "nullif": nullifFunc, "if": ifFunc, "date_trunc": dateTruncFunc, "extract": extractFunc,
	}
}

func (c *checker) call(e *expr, want valueType) (node, error) {
	f, ok := functions[e.text]
	if !ok {
		names := append(slices.Collect(maps.Keys(functions)), "cast", "try_cast")
		return nil, c.errorf(e, "there is no function %s%s", e.text, config.DidYouMean(e.text, names))
	}
	return f(c, e, want)
}

func (c *checker) arity(e *expr, least, most int) error {
	if n := len(e.args); n < least || n > most {
		takes := strconv.Itoa(least)
		if most > least {
			takes = fmt.Sprintf("%d to %d", least, most)
		}
		return c.errorf(e, "%s takes %s arguments, these are %d", e.text, takes, n)
	}
	return nil
}

// arg compiles argument i, which has to be what ok says.
func (c *checker) arg(e *expr, i int, hint valueType, what string, ok func(valueType) bool) (node, error) {
	n, err := c.compile(e.args[i], hint)
	if err != nil {
		return nil, err
	}
	if !ok(n.typ()) {
		return nil, c.errorf(e.args[i], "%s takes %s here, this is a %s", e.text, what, n.typ())
	}
	return n, nil
}

func isString(t valueType) bool { return t.kind == kindString }

// textNode maps strings to strings.
type textNode struct {
	base
	arg node
	fn  func(*exec, string) string
}

func (n *textNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		if out.null[i] = a.null[i]; !a.null[i] {
			out.s[i] = n.fn(x, a.s[i])
		}
	}
	return out
}

func textFunc(fn func(*exec, string) string) function {
	return func(c *checker, e *expr, _ valueType) (node, error) {
		if err := c.arity(e, 1, 1); err != nil {
			return nil, err
		}
		a, err := c.arg(e, 0, valueType{kind: kindString}, "a string", isString)
		return &textNode{base{t: valueType{kind: kindString}}, a, fn}, err
	}
}

// lowered changes the case of each character, and copies only what changes.
func lowered(to func(rune) rune) func(*exec, string) string {
	return func(x *exec, s string) string {
		same := true
		for _, r := range s {
			if to(r) != r {
				same = false
				break
			}
		}
		if same {
			return s
		}
		at := len(x.arena)
		for _, r := range s {
			x.arena = utf8.AppendRune(x.arena, to(r))
		}
		return x.text(at)
	}
}

// numberNode maps longs or doubles.
type numberNode struct {
	base
	arg    node
	ints   func(int64) (int64, bool)
	floats func(float64) float64
	f      *fault
}

func (n *numberNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		if out.null[i] = a.null[i]; a.null[i] {
			continue
		}
		if n.t.floating() {
			out.f[i] = n.floats(a.f[i])
			continue
		}
		v, ok := n.ints(a.i[i])
		if out.i[i] = v; !ok {
			out.null[i] = true
			x.fail(i, n.f)
		}
	}
	return out
}

func absFunc(c *checker, e *expr, want valueType) (node, error) {
	if err := c.arity(e, 1, 1); err != nil {
		return nil, err
	}
	a, err := c.arg(e, 0, want, "a whole number or a double", func(t valueType) bool { return t.whole() || t.floating() })
	if err != nil {
		return nil, err
	}
	t := valueType{kind: kindLong}
	if a.typ().floating() {
		t.kind = kindDouble
	}
	return &numberNode{base: base{t: t}, arg: a, floats: math.Abs, f: c.fault(e, "the result of abs does not fit a long"),
		ints: func(v int64) (int64, bool) { return max(v, -v), v != math.MinInt64 }}, nil
}

func doubleFunc(fn func(float64) float64) function {
	return func(c *checker, e *expr, _ valueType) (node, error) {
		if err := c.arity(e, 1, 1); err != nil {
			return nil, err
		}
		t := valueType{kind: kindDouble}
		a, err := c.arg(e, 0, t, "a double", valueType.floating)
		return &numberNode{base: base{t: t}, arg: a, floats: fn}, err
	}
}

type lengthNode struct {
	base
	arg node
}

func (n *lengthNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	text := n.arg.typ().kind == kindString
	for _, i := range sel {
		if out.null[i] = a.null[i]; a.null[i] {
			continue
		}
		if out.i[i] = int64(len(a.s[i])); text {
			out.i[i] = int64(utf8.RuneCountInString(a.s[i]))
		}
	}
	return out
}

func lengthFunc(c *checker, e *expr, _ valueType) (node, error) {
	if err := c.arity(e, 1, 1); err != nil {
		return nil, err
	}
	a, err := c.arg(e, 0, valueType{kind: kindString}, "a string or bytes", func(t valueType) bool { return t.onBytes() && t.kind != kindUUID })
	return &lengthNode{base{t: valueType{kind: kindLong}}, a}, err
}

// substrNode cuts characters out, counted from 1, as SQL does: places before the first character count and hold nothing.
type substrNode struct {
	base
	arg, from, length node // length may be nil
	negative          *fault
}

func (n *substrNode) eval(x *exec, sel []int32) *vec {
	a, f, out := n.arg.eval(x, sel), n.from.eval(x, sel), n.room(x)
	var l *vec
	if n.length != nil {
		l = n.length.eval(x, sel)
	}
	for _, i := range sel {
		if out.null[i] = a.null[i] || f.null[i] || l != nil && l.null[i]; out.null[i] {
			continue
		}
		start, end := f.i[i], int64(math.MaxInt64)
		if l != nil {
			if l.i[i] < 0 {
				out.null[i] = true
				x.fail(i, n.negative)
				continue
			}
			if l.i[i] <= math.MaxInt64-max(start, 0) {
				end = start + l.i[i]
			}
		}
		out.s[i] = characters(a.s[i], start-1, end-1)
	}
	return out
}

// characters are those from start to before end, counted from 0.
func characters(s string, start, end int64) string {
	var n int64
	from := len(s)
	for at := range s {
		if n >= end {
			return s[min(from, at):at]
		}
		if n >= start && from == len(s) {
			from = at
		}
		n++
	}
	return s[from:]
}

func substrFunc(c *checker, e *expr, _ valueType) (node, error) {
	if err := c.arity(e, 2, 3); err != nil {
		return nil, err
	}
	n := &substrNode{base: base{t: valueType{kind: kindString}}, negative: c.fault(e, "the length that substr takes is negative")}
	var err error
	if n.arg, err = c.arg(e, 0, n.t, "a string", isString); err != nil {
		return nil, err
	}
	if n.from, err = c.arg(e, 1, valueType{kind: kindLong}, "a whole number", valueType.whole); err != nil {
		return nil, err
	}
	if len(e.args) == 3 {
		n.length, err = c.arg(e, 2, valueType{kind: kindLong}, "a whole number", valueType.whole)
	}
	return n, err
}

func coalesceFunc(c *checker, e *expr, want valueType) (node, error) {
	if err := c.arity(e, 1, 100); err != nil {
		return nil, err
	}
	n := &coalesceNode{}
	var err error
	n.values, n.t, err = c.alike(e, e.args, want)
	return n, err
}

func nullifFunc(c *checker, e *expr, want valueType) (node, error) {
	if err := c.arity(e, 2, 2); err != nil {
		return nil, err
	}
	return c.caseWhen(&expr{op: opCase, pos: e.pos, args: []*expr{{op: "=", pos: e.pos, args: e.args}, {op: opNull, pos: e.pos}, e.args[0]}}, want)
}

func ifFunc(c *checker, e *expr, want valueType) (node, error) {
	if err := c.arity(e, 3, 3); err != nil {
		return nil, err
	}
	return c.caseWhen(&expr{op: opCase, pos: e.pos, args: e.args}, want)
}

// unitNode is date_trunc and extract.
type unitNode struct {
	base
	arg  node
	days bool // the argument is a date
	fn   func(us int64) int64
}

func (n *unitNode) eval(x *exec, sel []int32) *vec {
	a, out := n.arg.eval(x, sel), n.room(x)
	for _, i := range sel {
		if out.null[i] = a.null[i]; a.null[i] {
			continue
		}
		us := a.i[i]
		if n.days {
			us *= dayMicros
		}
		v := n.fn(us)
		if n.t.kind == kindDate {
			v /= dayMicros
		}
		out.i[i] = v
	}
	return out
}

func (c *checker) unit(e *expr, fns map[string]func(int64) int64) (fn func(int64) int64, arg node, err error) {
	if err := c.arity(e, 2, 2); err != nil {
		return nil, nil, err
	}
	u := e.args[0]
	fn, ok := fns[strings.ToLower(u.text)]
	if u.op != opString || !ok {
		return nil, nil, c.errorf(u, "%s takes one of these units in quotes: %s", e.text, strings.Join(slices.Sorted(maps.Keys(fns)), ", "))
	}
	arg, err = c.arg(e, 1, valueType{kind: kindTimestampTz}, "a timestamp or a date", func(t valueType) bool { return t.instant() || t.kind == kindDate })
	return fn, arg, err
}

func every(us int64) func(int64) int64 {
	return func(v int64) int64 { return floorDiv(v, us) * us }
}

// byDate computes in the calendar of UTC.
func byDate(fn func(time.Time) time.Time) func(int64) int64 {
	return func(v int64) int64 { return fn(time.UnixMicro(v).UTC()).UnixMicro() }
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

var truncations = map[string]func(int64) int64{
	"millisecond": every(1000), "second": every(1_000_000), "minute": every(60_000_000), "hour": every(3600_000000), "day": every(dayMicros),
	"week":    func(v int64) int64 { return floorDiv(v-4*dayMicros, 7*dayMicros)*7*dayMicros + 4*dayMicros }, // 1970-01-05 was a Monday
	"month":   byDate(func(t time.Time) time.Time { return day(t.Year(), t.Month(), 1) }),
	"quarter": byDate(func(t time.Time) time.Time { return day(t.Year(), (t.Month()-1)/3*3+1, 1) }),
	"year":    byDate(func(t time.Time) time.Time { return day(t.Year(), 1, 1) }),
}

func dateTruncFunc(c *checker, e *expr, _ valueType) (node, error) {
	fn, arg, err := c.unit(e, truncations)
	if err != nil {
		return nil, err
	}
	return &unitNode{base: base{t: arg.typ()}, arg: arg, days: arg.typ().kind == kindDate, fn: fn}, nil
}

func part(fn func(time.Time) int) func(int64) int64 {
	return func(v int64) int64 { return int64(fn(time.UnixMicro(v).UTC())) }
}

var parts = map[string]func(int64) int64{
	"year": part(time.Time.Year), "month": part(func(t time.Time) int { return int(t.Month()) }), "day": part(time.Time.Day),
	"quarter": part(func(t time.Time) int { return int(t.Month()-1)/3 + 1 }), "doy": part(time.Time.YearDay),
	"dow":  part(func(t time.Time) int { return int(t.Weekday()) }),
	"week": part(func(t time.Time) int { _, w := t.ISOWeek(); return w }),
	"hour": part(time.Time.Hour), "minute": part(time.Time.Minute), "second": part(time.Time.Second),
	"epoch": func(v int64) int64 { return floorDiv(v, 1_000_000) },
}

func extractFunc(c *checker, e *expr, _ valueType) (node, error) {
	fn, arg, err := c.unit(e, parts)
	if err != nil {
		return nil, err
	}
	return &unitNode{base: base{t: valueType{kind: kindLong}}, arg: arg, days: arg.typ().kind == kindDate, fn: fn}, nil
}
