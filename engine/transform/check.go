package transform

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/config"
)

// checker turns a syntax tree into nodes, or says what is wrong with it.
type checker struct {
	src    string
	of     string                 // what the expression is in the message of a row that fails; empty for that of a column, which is named beside it
	column string                 // that is computed; empty for filter and routes
	fields []iceberg.NestedField  // that may be named
	shared map[string]*columnNode // by path
	masks  map[string]*maskNode   // by path: what stands in the place of a column; nil for the filter
	nodes  int
}

// maxNodes bounds the nodes of one expression: each holds a vector as long as a batch.
const maxNodes = 500

func (c *checker) errorf(e *expr, format string, args ...any) error {
	return errorAt(c.src, e.pos, format, args...)
}

func (c *checker) fault(e *expr, format string, args ...any) *fault {
	at := placed(c.src, e.pos, format, args...)
	return &fault{column: c.column, msg: fmt.Sprintf("%s (character %d of %s)", at.msg, at.at, cmp.Or(c.of, "the expression"))}
}

// compile checks e. want is the type that the place asks for, so that literals take it; its kind may be kindNull.
func (c *checker) compile(e *expr, want valueType) (node, error) {
	if c.nodes++; c.nodes > maxNodes {
		return nil, c.errorf(e, "the expression has more than %d parts", maxNodes)
	}
	switch e.op {
	case opNull:
		return &literal{base: base{t: want}, v: value{null: true}}, nil
	case opBool:
		return &literal{base: base{t: valueType{kind: kindBool}}, v: value{b: e.text == "true"}}, nil
	case opNumber:
		return c.number(e, want)
	case opString:
		return c.text(e, want)
	case opColumn:
		return c.columnOf(e)
	case opCall:
		return c.call(e, want)
	case "and", "or":
		return c.logic(e)
	case opNot:
		n, err := c.boolean(e.args[0], "not")
		return &notNode{base{t: valueType{kind: kindBool}}, n}, err
	case opIsNull:
		n, err := c.compile(e.args[0], valueType{})
		return &isNullNode{base{t: valueType{kind: kindBool}}, n}, err
	case "=", "<>", "<", "<=", ">", ">=":
		return c.compare(e, e.args[0], e.args[1])
	case opIn:
		return c.in(e)
	case opLike:
		return c.like(e)
	case opCase:
		return c.caseWhen(e, want)
	case opCast, opTry:
		return c.cast(e)
	case "||":
		return c.concat(e, e.args)
	case opNeg, "+", "-", "*", "/", "%":
		return c.arithmetic(e, want)
	}
	return nil, c.errorf(e, "%q means nothing here", e.op)
}

func (c *checker) number(e *expr, want valueType) (node, error) {
	switch {
	case want.kind == kindDecimal:
		if d, ok := parseDecimal(e.text, want.precision, want.scale); ok {
			return &literal{base: base{t: want}, v: value{d: d}}, nil
		}
	case want.floating():
		if f, err := strconv.ParseFloat(e.text, 64); err == nil {
			return &literal{base: base{t: valueType{kind: kindDouble}}, v: value{f: f}}, nil
		}
	}
	if n, err := strconv.ParseInt(e.text, 10, 64); err == nil {
		t := valueType{kind: kindLong}
		if want.kind == kindInt && n == int64(int32(n)) {
			t = want
		}
		return &literal{base: base{t: t}, v: value{i: n}}, nil
	}
	f, err := strconv.ParseFloat(e.text, 64)
	if err != nil {
		return nil, c.errorf(e, "%s does not fit a double", e.text)
	}
	return &literal{base: base{t: valueType{kind: kindDouble}}, v: value{f: f}}, nil
}

// text is a string, or what the place asks for: a date, a time, an instant, a UUID.
func (c *checker) text(e *expr, want valueType) (node, error) {
	switch want.kind {
	case kindDate, kindTime, kindTimestamp, kindTimestampTz, kindUUID:
		v, ok := parseText(e.text, want)
		if !ok {
			return nil, c.errorf(e, "'%s' is no %s, such as %s", e.text, want, examples[want.kind])
		}
		return &literal{base: base{t: want}, v: v}, nil
	}
	return &literal{base: base{t: valueType{kind: kindString}}, v: value{s: e.text}}, nil
}

var examples = map[kind]string{kindDate: "2026-06-04", kindTime: "11:01:23", kindTimestamp: "2026-06-04T11:01:23",
	kindTimestampTz: "2026-06-04T11:01:23Z", kindUUID: "0197a0f0-0000-7000-8000-000000000000"}

func (c *checker) columnOf(e *expr) (node, error) {
	for path, m := range c.masks {
		if e.text == path {
			return m, nil
		}
		if within(e.text, path) {
			return nil, c.errorf(e, "%s is masked as a whole: nothing inside of it can be read", path)
		}
	}
	if n, ok := c.shared[e.text]; ok {
		return n, nil
	}
	f, ok, near, there := fieldAt(c.fields, e.text)
	if !ok {
		return nil, c.errorf(e, "%s", unknownColumn(e.text, f, near, there))
	}
	n := &columnNode{base: base{t: typeOf(f.Type)}, path: strings.Split(e.text, ".")}
	if n.t.kind == kindOther && len(n.path) > 1 {
		return nil, c.errorf(e, "%s is a %s inside of a struct: only whole columns of such a type can be named", e.text, f.Type)
	}
	c.shared[e.text] = n
	return n, nil
}

// unknownColumn says what is there instead of a path that leads nowhere.
func unknownColumn(path string, f iceberg.NestedField, near string, there []iceberg.NestedField) string {
	if near != "" && there == nil {
		return fmt.Sprintf("%s is a %s and has no fields: there is no %s", near, f.Type, path)
	}
	names := make([]string, len(there))
	for i, t := range there {
		names[i] = t.Name
	}
	last := strings.TrimPrefix(strings.TrimPrefix(path, near), ".")
	last, _, _ = strings.Cut(last, ".")
	where, prefix := "there is no column "+path, ""
	if near != "" {
		where, prefix = fmt.Sprintf("%s has no field %q", near, last), near+"."
	}
	if hint := config.DidYouMean(last, names); hint != "" {
		return where + hint
	}
	shown := slices.Clone(names)
	if len(shown) > 10 {
		shown = append(shown[:10], "…")
	}
	return fmt.Sprintf("%s; there are %s%s", where, prefix, strings.Join(shown, ", "+prefix))
}

// boolean compiles what has to be a condition.
func (c *checker) boolean(e *expr, where string) (node, error) {
	n, err := c.compile(e, valueType{kind: kindBool})
	if err != nil {
		return nil, err
	}
	if n.typ().kind != kindBool {
		return nil, c.errorf(e, "%s takes a boolean, this is a %s", where, n.typ())
	}
	return n, nil
}

func (c *checker) logic(e *expr) (node, error) {
	l, err := c.boolean(e.args[0], e.op)
	if err != nil {
		return nil, err
	}
	r, err := c.boolean(e.args[1], e.op)
	return &logicNode{base{t: valueType{kind: kindBool}}, e.op == "or", l, r}, err
}

// both compiles two operands, literals by the type of the other.
func (c *checker) both(a, b *expr) (x, y node, err error) {
	if isLiteral(a) && !isLiteral(b) {
		y, x, err = c.both(b, a)
		return x, y, err
	}
	if x, err = c.compile(a, valueType{}); err != nil {
		return nil, nil, err
	}
	want := x.typ()
	if x.typ().kind == kindDecimal && b.op == opNumber { // 100.5 beside decimal(10,0) is no decimal(10,0)
		want = literalDecimal(b.text, want)
	}
	y, err = c.compile(b, want)
	return x, y, err
}

func isLiteral(e *expr) bool {
	switch e.op {
	case opNumber, opString, opBool, opNull:
		return true
	}
	return false
}

// literalDecimal is the decimal type that a number is written in, if that can be.
func literalDecimal(text string, beside valueType) valueType {
	whole, frac, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	scale := max(len(frac), beside.scale)
	precision := max(len(whole)+scale, beside.precision)
	if strings.ContainsAny(text, "eE") || precision > maxPrecision {
		return beside
	}
	return valueType{kind: kindDecimal, precision: precision, scale: scale}
}

// common is the type in which values of two types can stand side by side.
func common(a, b valueType) (valueType, bool) {
	switch {
	case a.kind == kindNull:
		return b, true
	case b.kind == kindNull:
		return a, true
	case a.kind == kindOther || b.kind == kindOther:
		return a, a.kind == b.kind && a.other.Equals(b.other)
	case a == b:
		return a, true
	case a.whole() && b.whole():
		return valueType{kind: kindLong}, true
	case a.numeric() && b.numeric() && (a.floating() || b.floating()):
		return valueType{kind: kindDouble}, true
	case a.numeric() && b.numeric():
		a, b = asDecimal(a), asDecimal(b)
		scale := max(a.scale, b.scale)
		precision := max(a.precision-a.scale, b.precision-b.scale) + scale
		return valueType{kind: kindDecimal, precision: min(precision, maxPrecision), scale: scale}, precision <= maxPrecision
	case a.instant() && b.kind == kindDate:
		return a, true
	case b.instant() && a.kind == kindDate:
		return b, true
	}
	return a, false
}

func asDecimal(t valueType) valueType {
	switch t.kind {
	case kindInt:
		return valueType{kind: kindDecimal, precision: 10}
	case kindLong:
		return valueType{kind: kindDecimal, precision: 19}
	}
	return t
}

// to converts a node to the common type of its place; common has said that it can be.
func (c *checker) to(n node, t valueType, e *expr) node {
	from := n.typ()
	if from == t || from.kind == kindOther || from.kind == kindInt && t.kind == kindLong || from.kind == kindFloat && t.kind == kindDouble {
		return n
	}
	if from.kind == kindNull {
		return &literal{base: base{t: t}, v: value{null: true}}
	}
	if l, ok := n.(*literal); ok && from.whole() && t.floating() {
		return &literal{base: base{t: t}, v: value{null: l.v.null, f: float64(l.v.i)}}
	}
	return newCast(n, t, c.fault(e, "the value does not fit %s", t), false)
}

func (c *checker) compare(e, a, b *expr) (node, error) {
	x, y, err := c.both(a, b)
	if err != nil {
		return nil, err
	}
	t, ok := common(x.typ(), y.typ())
	if !ok {
		return nil, c.errorf(e, "%s and %s cannot be compared: cast one of them", x.typ(), y.typ())
	}
	if t.kind == kindOther || t.kind == kindNull || t.kind == kindBool && e.op != "=" && e.op != "<>" {
		return nil, c.errorf(e, "%s values cannot be compared with %s", t, e.op)
	}
	n := &compareNode{base: base{t: valueType{kind: kindBool}}, l: c.to(x, t, a), r: c.to(y, t, b), of: t}
	n.less, n.equal, n.greater = strings.Contains(e.op, "<"), strings.Contains(e.op, "="), strings.Contains(e.op, ">")
	return n, nil
}

func (c *checker) in(e *expr) (node, error) {
	if len(e.args) < 2 {
		return nil, c.errorf(e, "in takes at least one value in its parentheses")
	}
	x, err := c.compile(e.args[0], valueType{})
	if err != nil {
		return nil, err
	}
	if set := c.set(x, e.args[1:]); set != nil {
		return set, nil
	}
	var any node
	for _, a := range e.args[1:] {
		eq, err := c.compare(&expr{op: "=", pos: a.pos}, e.args[0], a)
		if err != nil {
			return nil, err
		}
		if any == nil {
			any = eq
			continue
		}
		any = &logicNode{base{t: valueType{kind: kindBool}}, true, any, eq}
	}
	return any, nil
}

// set is x in (…) of strings or whole numbers alone, looked up at once; nil for other lists.
func (c *checker) set(x node, list []*expr) node {
	n := &setNode{base: base{t: valueType{kind: kindBool}}, arg: x}
	for _, a := range list {
		v, err := strconv.ParseInt(a.text, 10, 64)
		switch {
		case a.op == opString && x.typ().kind == kindString:
			if n.texts == nil {
				n.texts = map[string]bool{}
			}
			n.texts[a.text] = true
		case a.op == opNumber && err == nil && x.typ().whole():
			n.ints = append(n.ints, v)
		default:
			return nil
		}
	}
	slices.Sort(n.ints)
	return n
}

func (c *checker) like(e *expr) (node, error) {
	x, err := c.compile(e.args[0], valueType{kind: kindString})
	if err != nil {
		return nil, err
	}
	if x.typ().kind != kindString {
		return nil, c.errorf(e, "like takes a string, this is a %s", x.typ())
	}
	if e.args[1].op != opString {
		return nil, c.errorf(e.args[1], "the pattern of like has to be a string that is written out, such as 'a%%'")
	}
	return &likeNode{base: base{t: valueType{kind: kindBool}}, arg: x, pattern: newPattern(e.args[1].text)}, nil
}

func (c *checker) caseWhen(e *expr, want valueType) (node, error) {
	n := &caseNode{}
	var values []*expr
	for i := 0; i+1 < len(e.args); i += 2 {
		cond, err := c.boolean(e.args[i], "when")
		if err != nil {
			return nil, err
		}
		n.conds = append(n.conds, cond)
		values = append(values, e.args[i+1])
	}
	values = append(values, e.args[len(e.args)-1])
	var err error
	n.values, n.t, err = c.alike(e, values, want)
	return n, err
}

// alike compiles values that have to have one type in common.
func (c *checker) alike(e *expr, list []*expr, want valueType) ([]node, valueType, error) {
	t := valueType{}
	out := make([]node, len(list))
	for _, literals := range []bool{false, true} { // literals take the type of the others
		for i, a := range list {
			if isLiteral(a) != literals {
				continue
			}
			hint := t
			if hint.kind == kindNull {
				hint = want
			}
			var err error
			if out[i], err = c.compile(a, hint); err != nil {
				return nil, t, err
			}
			next, ok := common(t, out[i].typ())
			if !ok {
				return nil, t, c.errorf(a, "this is a %s beside a %s: cast one of them", out[i].typ(), t)
			}
			t = next
		}
	}
	if t.kind == kindNull {
		return nil, t, c.errorf(e, "it is null whatever the row is: nothing tells its type; cast(null as …) does")
	}
	if t.kind == kindOther {
		return nil, t, c.errorf(e, "%s values can be passed on whole and nothing else", t)
	}
	for i := range out {
		out[i] = c.to(out[i], t, list[i])
	}
	return out, t, nil
}

func (c *checker) arithmetic(e *expr, want valueType) (node, error) {
	if e.op == opNeg {
		return c.arithmetic(&expr{op: "-", pos: e.pos, args: []*expr{{op: opNumber, pos: e.pos, text: "0"}, e.args[0]}}, want)
	}
	x, y, err := c.both(e.args[0], e.args[1])
	if err != nil {
		return nil, err
	}
	t := valueType{kind: kindLong}
	for i, n := range []node{x, y} {
		switch k := n.typ(); {
		case k.kind == kindDecimal:
			return nil, c.errorf(e.args[i], "%s takes no decimals: cast(… as double), or as long", e.op)
		case k.floating():
			t.kind = kindDouble
		case !k.whole() && k.kind != kindNull:
			return nil, c.errorf(e.args[i], "%s takes numbers, this is a %s", e.op, k)
		}
	}
	over := c.fault(e, "the result of %s does not fit a %s", e.op, t)
	zero := c.fault(e, "division by zero")
	x, y = c.to(x, t, e.args[0]), c.to(y, t, e.args[1])
	return &arithNode{base: base{t: t}, op: e.op[0], l: x, r: y, over: over, zero: zero}, nil
}

func (c *checker) cast(e *expr) (node, error) {
	t, err := parseType(e.text)
	if err != nil {
		return nil, c.errorf(e.args[1], "%s", err)
	}
	hint := valueType{}
	if e.args[0].op == opNull {
		hint = t
	}
	n, err := c.compile(e.args[0], hint)
	if err != nil {
		return nil, err
	}
	if n.typ() == t {
		return n, nil
	}
	if !castable(n.typ(), t) {
		return nil, c.errorf(e, "a %s cannot be cast to %s", n.typ(), t)
	}
	return newCast(n, t, c.fault(e, "the value cannot be cast to %s", t), e.op == opTry), nil
}

func (c *checker) concat(e *expr, args []*expr) (node, error) {
	n := &concatNode{base: base{t: valueType{kind: kindString}}}
	for _, a := range args {
		x, err := c.compile(a, valueType{kind: kindString})
		if err != nil {
			return nil, err
		}
		if x.typ().kind != kindString {
			return nil, c.errorf(a, "only strings are joined, this is a %s: cast(… as string)", x.typ())
		}
		n.args = append(n.args, x)
	}
	if len(n.args) == 0 {
		return nil, c.errorf(e, "concat takes at least one string")
	}
	return n, nil
}
