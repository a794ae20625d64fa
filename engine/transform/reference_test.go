package transform

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"pgregory.net/rapid"
)

// The reference evaluates the syntax tree for one row at a time, with Go's dynamic values: nil, bool, int64, float64, string,
// time.Time. It shares the parser with what it checks and nothing else.

var errRow = errors.New("the row fails")

type reference map[string]any // columns by path

func (r reference) eval(e *expr) (any, error) {
	switch e.op {
	case opNull:
		return nil, nil
	case opBool:
		return e.text == "true", nil
	case opString:
		return e.text, nil
	case opNumber:
		if n, err := strconv.ParseInt(e.text, 10, 64); err == nil {
			return n, nil
		}
		return strconv.ParseFloat(e.text, 64)
	case opColumn:
		return r[e.text], nil
	case "and", "or":
		return r.logic(e)
	case opCase:
		return r.choose(e)
	case opCall:
		if e.text == "coalesce" {
			for _, a := range e.args {
				if v, err := r.eval(a); v != nil || err != nil {
					return v, err
				}
			}
			return nil, nil
		}
		if e.text == "if" {
			return r.choose(e)
		}
	case opIn:
		var null bool
		for _, a := range e.args[1:] {
			v, err := r.eval(&expr{op: "=", args: []*expr{e.args[0], a}})
			if err != nil || v == true {
				return v, err
			}
			null = null || v == nil
		}
		if null {
			return nil, nil
		}
		return false, nil
	}
	args := make([]any, len(e.args))
	for i, a := range e.args {
		v, err := r.eval(a)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	if e.op == opIsNull {
		return args[0] == nil, nil
	}
	for _, a := range args[:len(args)-b2i(e.op == opCast || e.op == opTry)] {
		if a == nil {
			return nil, nil
		}
	}
	return strict(e, args)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r reference) logic(e *expr) (any, error) {
	l, err := r.eval(e.args[0])
	if err != nil || l == (e.op == "or") {
		return l, err
	}
	v, err := r.eval(e.args[1])
	if err != nil || v == (e.op == "or") {
		return v, err
	}
	if l == nil || v == nil {
		return nil, nil
	}
	return v, nil
}

func (r reference) choose(e *expr) (any, error) {
	for i := 0; i+1 < len(e.args); i += 2 {
		c, err := r.eval(e.args[i])
		if err != nil {
			return nil, err
		}
		if c == true {
			return r.eval(e.args[i+1])
		}
	}
	return r.eval(e.args[len(e.args)-1])
}

// strict are the operators and functions of which no argument is null.
func strict(e *expr, a []any) (any, error) {
	switch e.op {
	case opNot:
		return !a[0].(bool), nil
	case opNeg:
		return calculate('-', int64(0), a[0])
	case "+", "-", "*", "/", "%":
		return calculate(e.op[0], a[0], a[1])
	case "=", "<>", "<", "<=", ">", ">=":
		return ordered(e.op, a[0], a[1]), nil
	case opLike:
		re := regexp.QuoteMeta(a[1].(string))
		re = strings.ReplaceAll(strings.ReplaceAll(re, "%", "(?s:.*)"), "_", "(?s:.)")
		return regexp.MustCompile("^" + re + "$").MatchString(a[0].(string)), nil
	case "||":
		return a[0].(string) + a[1].(string), nil
	case opCast, opTry:
		v, err := casted(e.text, a[0])
		if err != nil && e.op == opTry {
			return nil, nil
		}
		return v, err
	}
	s, _ := a[0].(string)
	switch e.text {
	case "lower":
		return strings.ToLower(s), nil
	case "upper":
		return strings.ToUpper(s), nil
	case "trim":
		return strings.Trim(s, " "), nil
	case "length":
		return int64(len([]rune(s))), nil
	case "abs":
		if n, ok := a[0].(int64); ok {
			return calculate('*', n, int64(1-2*b2i(n < 0)))
		}
		return math.Abs(a[0].(float64)), nil
	case "substr":
		var out []rune
		for i, c := range []rune(s) {
			at := big.NewInt(int64(i + 1))
			end := new(big.Int).Add(big.NewInt(a[1].(int64)), big.NewInt(a[2].(int64)))
			if at.Cmp(big.NewInt(a[1].(int64))) >= 0 && at.Cmp(end) < 0 {
				out = append(out, c)
			}
		}
		if a[2].(int64) < 0 {
			return nil, errRow
		}
		return string(out), nil
	case "date_trunc":
		at := a[1].(time.Time)
		switch s {
		case "hour":
			return at.Truncate(time.Hour), nil
		case "day":
			return time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC), nil
		case "week":
			return time.Date(at.Year(), at.Month(), at.Day()-(int(at.Weekday())+6)%7, 0, 0, 0, 0, time.UTC), nil
		}
		return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC), nil
	case "extract":
		at := a[1].(time.Time)
		return int64(map[string]int{"year": at.Year(), "hour": at.Hour(), "dow": int(at.Weekday())}[s]), nil
	}
	panic("the reference has no " + e.op + " " + e.text)
}

func calculate(op byte, a, b any) (any, error) {
	x, xi := a.(int64)
	y, yi := b.(int64)
	if xi && yi {
		p, q, v := big.NewInt(x), big.NewInt(y), new(big.Int)
		switch op {
		case '+':
			v.Add(p, q)
		case '-':
			v.Sub(p, q)
		case '*':
			v.Mul(p, q)
		default:
			if y == 0 {
				return nil, errRow
			}
			if v.Quo(p, q); op == '%' {
				v.Rem(p, q)
			}
		}
		if !v.IsInt64() {
			return nil, errRow
		}
		return v.Int64(), nil
	}
	f, g, v := asFloat(a), asFloat(b), 0.0
	switch op {
	case '+':
		v = f + g
	case '-':
		v = f - g
	case '*':
		v = f * g
	case '/':
		v = f / g
	case '%':
		v = math.Mod(f, g)
	}
	if (op == '/' || op == '%') && g == 0 || math.IsInf(v, 0) {
		return nil, errRow
	}
	return v, nil
}

func asFloat(a any) float64 {
	if n, ok := a.(int64); ok {
		return float64(n)
	}
	return a.(float64)
}

func ordered(op string, a, b any) bool {
	var c int
	switch x := a.(type) {
	case bool:
		c = b2i(x) - b2i(b.(bool))
	case string:
		c = strings.Compare(x, b.(string))
	case time.Time:
		c = x.Compare(b.(time.Time))
	default:
		y, whole := b.(int64)
		if n, ok := a.(int64); ok && whole {
			c = big.NewInt(n).Cmp(big.NewInt(y))
		} else {
			c = b2i(asFloat(a) > asFloat(b)) - b2i(asFloat(a) < asFloat(b))
		}
	}
	return map[string]bool{"=": c == 0, "<>": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[op]
}

func casted(to string, v any) (any, error) {
	switch to {
	case "string":
		switch x := v.(type) {
		case float64:
			return strconv.FormatFloat(x, 'g', -1, 64), nil
		case time.Time:
			return x.Format("2006-01-02T15:04:05.999999Z07:00"), nil
		}
		return fmt.Sprint(v), nil
	case "double":
		if s, ok := v.(string); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
			if err != nil || math.IsInf(f, 0) || strings.ContainsAny(s, "xX_pP") {
				return nil, errRow
			}
			return f, nil
		}
		return asFloat(v), nil
	}
	n := new(big.Int)
	switch x := v.(type) {
	case int64:
		n.SetInt64(x)
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, errRow
		}
		big.NewFloat(x).Int(n)
	case string:
		if _, ok := n.SetString(strings.TrimSpace(x), 10); !ok || strings.Contains(x, "_") {
			return nil, errRow
		}
	}
	if !n.IsInt64() || to == "int" && n.Int64() != int64(int32(n.Int64())) {
		return nil, errRow
	}
	return n.Int64(), nil
}

// draw makes expressions of a kind: b(oolean), l(ong), d(ouble), s(tring), t(imestamp).
type draw struct{ t *rapid.T }

func (g draw) one(options ...string) string { return rapid.SampledFrom(options).Draw(g.t, "of") }

func (g draw) expr(kind byte, depth int) string {
	if depth == 0 || rapid.IntRange(0, 9).Draw(g.t, "leaf") == 0 {
		switch kind {
		case 'b':
			return g.one("true", "false", "ok", "null")
		case 'l':
			return g.one("0", "1", "-7", "3", "9223372036854775807", "id", "small", "id", "small")
		case 'd':
			return g.one("0.0", "1.5", "-2.25", "1e308", "ratio", "ratio", "ratio")
		case 's':
			return g.one("''", "'a'", "'Ab c'", "' é '", "email", "user.name", "user.address.city", "'12'", "'1.5'")
		}
		return "at"
	}
	sub := func(k byte) string { return g.expr(k, depth-1) }
	any := func() byte { return rapid.SampledFrom([]byte("ldst")).Draw(g.t, "kind") }
	common := []func() string{
		func() string { return "coalesce(" + sub(kind) + ", " + sub(kind) + ")" },
		func() string { return "if(" + sub('b') + ", " + sub(kind) + ", " + sub(kind) + ")" },
		func() string {
			return "case when " + sub('b') + " then " + sub(kind) + " when " + sub('b') + " then " + sub(kind) + " else " + sub(kind) + " end"
		},
	}
	own := map[byte][]func() string{
		'b': {func() string { return "(" + sub('b') + " and " + sub('b') + ")" }, func() string { return "(" + sub('b') + " or " + sub('b') + ")" },
			func() string { return "(not " + sub('b') + ")" }, func() string { k := any(); return "(" + sub(k) + ") is null" },
			func() string { k := any(); return "((" + sub(k) + ") is not null)" },
			func() string {
				k := any()
				return "((" + sub(k) + ") " + g.one("=", "<>", "<", "<=", ">", ">=") + " (" + sub(k) + "))"
			},
			func() string {
				return "((" + sub('s') + ") like '" + g.one("a%", "%b%", "_b c", "%", "", "%é%", "A_%c") + "')"
			},
			func() string {
				k := rapid.SampledFrom([]byte("ls")).Draw(g.t, "kind")
				return "((" + sub(k) + ") " + g.one("in", "not in") + " (" + sub(k) + ", " + g.expr(k, 0) + "))"
			},
			func() string { return "(email in ('a', 'Ab c', 'zz'))" }, func() string { return "(small not in (1, 2, 3))" },
			func() string { return "((" + sub('l') + ") between " + g.expr('l', 0) + " and " + g.expr('l', 0) + ")" }},
		'l': {func() string { return "((" + sub('l') + ") " + g.one("+", "-", "*", "/", "%") + " (" + sub('l') + "))" },
			func() string { return "(-(" + sub('l') + "))" }, func() string { return "length(" + sub('s') + ")" }, func() string { return "abs(" + sub('l') + ")" },
			func() string {
				return g.one("cast", "try_cast") + "((" + sub(rapid.SampledFrom([]byte("dsl")).Draw(g.t, "from")) + ") as " + g.one("long", "int") + ")"
			},
			func() string { return "extract(" + g.one("year", "hour", "dow") + " from " + sub('t') + ")" }},
		'd': {func() string { return "((" + sub('d') + ") " + g.one("+", "-", "*", "/", "%") + " (" + sub('d') + "))" },
			func() string { return "abs(" + sub('d') + ")" },
			func() string {
				return g.one("cast", "try_cast") + "((" + sub(rapid.SampledFrom([]byte("ls")).Draw(g.t, "from")) + ") as double)"
			}},
		's': {func() string { return "(" + sub('s') + " || " + sub('s') + ")" }, func() string { return g.one("lower", "upper", "trim") + "(" + sub('s') + ")" },
			func() string {
				return "substr(" + sub('s') + ", " + g.one("-1", "0", "1", "2", "small") + ", " + g.one("0", "1", "2", "small") + ")"
			},
			func() string { return "cast((" + sub(any()) + ") as string)" }},
		't': {func() string { return "date_trunc('" + g.one("hour", "day", "week", "month") + "', " + sub('t') + ")" }},
	}
	list := append(own[kind], common...)
	return rapid.SampledFrom(list).Draw(g.t, "form")()
}

// row draws a JSON event and the columns that it has.
func (g draw) row() (string, reference) {
	r := reference{"id": int64(rapid.IntRange(-3, 3).Draw(g.t, "id"))}
	parts := []string{fmt.Sprintf(`"id":%d`, r["id"])}
	null := func() bool { return rapid.IntRange(0, 3).Draw(g.t, "null") == 0 }
	if !null() {
		n := rapid.Int32Range(-4, 4).Draw(g.t, "small")
		r["small"] = int64(n)
		parts = append(parts, fmt.Sprintf(`"small":%d`, n))
	}
	if !null() {
		f := rapid.SampledFrom([]float64{0, 1.5, -2.5, 1e300, 7}).Draw(g.t, "ratio")
		r["ratio"] = f
		parts = append(parts, fmt.Sprintf(`"ratio":%g`, f))
	}
	if !null() {
		r["ok"] = rapid.Bool().Draw(g.t, "ok")
		parts = append(parts, fmt.Sprintf(`"ok":%v`, r["ok"]))
	}
	if !null() {
		at := time.UnixMicro(rapid.Int64Range(-1e15, 2e15).Draw(g.t, "at")).UTC()
		r["at"] = at
		parts = append(parts, fmt.Sprintf(`"at":%q`, at.Format(time.RFC3339Nano)))
	}
	text := rapid.SampledFrom([]string{"", "a", "Ab c", " é ", "zz", "12", "-3", "1e2"})
	str := func(path string) string {
		if null() {
			return "null"
		}
		s := text.Draw(g.t, path)
		r[path] = s
		return strconv.Quote(s)
	}
	parts = append(parts, `"email":`+str("email"))
	if !null() {
		user := `"user":{"name":` + str("user.name")
		if !null() {
			user += `,"address":{"city":` + str("user.address.city") + `}`
		}
		parts = append(parts, user+"}")
	}
	return "{" + strings.Join(parts, ",") + "}", r
}

// TestAgainstReference holds columns and filters against the reference, on random expressions and rows.
func TestAgainstReference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := draw{rt}
		var events []string
		var rows []reference
		for range rapid.IntRange(1, 8).Draw(rt, "rows") {
			e, r := g.row()
			events, rows = append(events, e), append(rows, r)
		}
		for _, kind := range []byte("bldsst") {
			checkAgainst(t, rt, g.expr(kind, rapid.IntRange(1, 4).Draw(rt, "depth")), g.expr('b', 3), events, rows)
		}
	})
}

func checkAgainst(t *testing.T, rt *rapid.T, src, filter string, events []string, rows []reference) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	con := loadContract(t)
	c := Config{Keep: []string{"id"}, Columns: map[string]string{"v": src}, Filter: filter}
	if _, err := New(c, con.IcebergSchema(), Options{}); err != nil {
		if strings.Contains(err.Error(), "null whatever the row is") {
			return
		}
		rt.Fatalf("%s\nwhere %s\n%v", src, filter, err)
	}
	_, d := bound(t, mem, c, nil)
	o, err := d.Decode(fetchOf(events...))
	if err != nil {
		rt.Fatal(err)
	}
	got := map[int64]string{}
	for _, f := range o.Filtered {
		got[f] = "filtered"
	}
	for _, l := range o.Dead {
		got[l.Offset] = "dead"
	}
	if o.Rows != nil {
		offsets := offsetsOf(o.Rows)
		v := o.Rows.Column(o.Rows.Schema().FieldIndices("v")[0])
		for i, at := range offsets {
			got[at] = "row " + v.ValueStr(i)
			if f, ok := v.(*array.Float64); ok && f.IsValid(i) {
				got[at] = "row " + strconv.FormatFloat(f.Value(i), 'g', -1, 64)
			}
		}
		o.Rows.Release()
	}
	ftree, _ := parse(filter)
	tree, _ := parse(src)
	for i, r := range rows {
		want := "filtered"
		keep, err := r.eval(ftree)
		if err != nil {
			want = "dead"
		} else if keep == true {
			want = shown(r.eval(tree))
		}
		if at := int64(100 + i); got[at] != want {
			rt.Errorf("%s\nwhere %s\n%s\ngives %q, the reference says %q", src, filter, events[i], got[at], want)
		}
	}
	if len(got) != len(rows) {
		rt.Errorf("%d records gave %d outcomes", len(rows), len(got))
	}
	mem.AssertSize(t, 0)
}

func shown(v any, err error) string {
	switch x := v.(type) {
	case nil:
		if err != nil {
			return "dead"
		}
		return "row (null)"
	case time.Time:
		return "row " + x.Format("2006-01-02T15:04:05.999999Z")
	case float64:
		return "row " + strconv.FormatFloat(x, 'g', -1, 64)
	}
	return fmt.Sprint("row ", v)
}
