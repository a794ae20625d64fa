package transform

import (
	"slices"
	"strings"
)

// Operators of the syntax tree beside those that are written as they are (=, +, and, …).
const (
	opNumber = "number"
	opString = "string"
	opBool   = "boolean"
	opNull   = "null"
	opColumn = "column"
	opCall   = "call"
	opNeg    = "neg"
	opNot    = "not"
	opIsNull = "is null"
	opIn     = "in"
	opLike   = "like"
	opCase   = "case"
	opCast   = "cast"
	opTry    = "try_cast"
)

// expr is one node of the syntax tree.
type expr struct {
	op   string
	pos  int
	text string // of literals, columns (dotted), functions and types
	args []*expr
}

// maxDepthOf bounds how deep expressions nest.
const maxDepthOf = 100

// keywords cannot be column names without quotes.
var keywords = []string{"and", "or", "not", "is", "in", "like", "between", "case", "when", "then", "else", "end", "null", "true", "false", "as", "from"}

type parser struct {
	src   string
	toks  []token
	at    int
	depth int
}

// parse reads an expression.
func parse(src string) (*expr, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, toks: toks}
	e, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, p.errorf(t, "%s follows the end of the expression", t.describe())
	}
	return e, nil
}

func (p *parser) peek() token { return p.toks[p.at] }
func (p *parser) next() token {
	t := p.toks[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) errorf(t token, format string, args ...any) error {
	return errorAt(p.src, t.pos, format, args...)
}

// word tells whether the next token is the keyword, and takes it.
func (p *parser) word(w string) bool {
	t := p.peek()
	if t.kind == tokName && strings.EqualFold(t.text, w) {
		p.at++
		return true
	}
	return false
}

func (p *parser) op(o string) bool {
	t := p.peek()
	if t.kind == tokOp && t.text == o {
		p.at++
		return true
	}
	return false
}

func (p *parser) want(o string) error {
	if t := p.peek(); !p.op(o) {
		return p.errorf(t, "%q is missing, %s stands here", o, t.describe())
	}
	return nil
}

func (p *parser) wantWord(w string) error {
	if t := p.peek(); !p.word(w) {
		return p.errorf(t, "%s is missing, %s stands here", w, t.describe())
	}
	return nil
}

// The binding powers, from loose to tight. not stands between and and comparisons, as in SQL.
const (
	powerOr = iota + 1
	powerAnd
	powerNot
	powerCompare
	powerAdd
	powerMul
	powerConcat
)

var powers = map[string]int{"or": powerOr, "and": powerAnd, "=": powerCompare, "<>": powerCompare, "!=": powerCompare, "<": powerCompare, "<=": powerCompare,
	">": powerCompare, ">=": powerCompare, "is": powerCompare, "in": powerCompare, "like": powerCompare, "between": powerCompare, "not": powerCompare,
	"+": powerAdd, "-": powerAdd, "*": powerMul, "/": powerMul, "%": powerMul, "||": powerConcat}

// binary reads operators that bind tighter than least.
func (p *parser) binary(least int) (*expr, error) {
	if p.depth++; p.depth > maxDepthOf {
		return nil, p.errorf(p.peek(), "the expression nests deeper than %d", maxDepthOf)
	}
	defer func() { p.depth-- }()
	left, err := p.prefix(least)
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		if t.kind != tokOp && t.kind != tokName {
			return left, nil
		}
		op := strings.ToLower(t.text)
		power, ok := powers[op]
		if !ok || power <= least {
			return left, nil
		}
		p.at++
		if left, err = p.infix(left, t, op, power); err != nil {
			return nil, err
		}
	}
}

func (p *parser) infix(left *expr, t token, op string, power int) (*expr, error) {
	negated := op == "not"
	if negated {
		n := p.next()
		if op = strings.ToLower(n.text); n.kind != tokName || (op != "in" && op != "like" && op != "between") {
			return nil, p.errorf(n, "after not stands in, like or between here, not %s", n.describe())
		}
	}
	var e *expr
	switch op {
	case "is":
		not := p.word("not")
		if err := p.wantWord("null"); err != nil {
			return nil, err
		}
		e, negated = &expr{op: opIsNull, pos: t.pos, args: []*expr{left}}, not
	case "in":
		if err := p.want("("); err != nil {
			return nil, err
		}
		args, err := p.list()
		if err != nil {
			return nil, err
		}
		e = &expr{op: opIn, pos: t.pos, args: append([]*expr{left}, args...)}
	case "between":
		low, err := p.binary(powerCompare)
		if err != nil {
			return nil, err
		}
		if err := p.wantWord("and"); err != nil {
			return nil, err
		}
		high, err := p.binary(powerCompare)
		if err != nil {
			return nil, err
		}
		e = &expr{op: "and", pos: t.pos, args: []*expr{{op: ">=", pos: t.pos, args: []*expr{left, low}}, {op: "<=", pos: t.pos, args: []*expr{left, high}}}}
	default:
		right, err := p.binary(power)
		if err != nil {
			return nil, err
		}
		if op == "!=" {
			op = "<>"
		}
		e = &expr{op: op, pos: t.pos, args: []*expr{left, right}}
	}
	if negated {
		e = &expr{op: opNot, pos: t.pos, args: []*expr{e}}
	}
	return e, nil
}

// prefix reads what an operand begins with.
func (p *parser) prefix(least int) (*expr, error) {
	t := p.peek()
	switch {
	case p.word("not"):
		if least >= powerCompare {
			return nil, p.errorf(t, "not needs parentheses here")
		}
		e, err := p.binary(powerNot)
		return &expr{op: opNot, pos: t.pos, args: []*expr{e}}, err
	case p.op("-"):
		e, err := p.binary(powerConcat)
		if err == nil && e.op == opNumber && !strings.HasPrefix(e.text, "-") {
			return &expr{op: opNumber, pos: t.pos, text: "-" + e.text}, nil
		}
		return &expr{op: opNeg, pos: t.pos, args: []*expr{e}}, err
	case p.op("("):
		e, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		return e, p.want(")")
	}
	p.next()
	switch t.kind {
	case tokNumber:
		return &expr{op: opNumber, pos: t.pos, text: t.text}, nil
	case tokString:
		return &expr{op: opString, pos: t.pos, text: t.text}, nil
	case tokQuoted:
		return p.column(t)
	case tokName:
		return p.named(t)
	}
	return nil, p.errorf(t, "a value is missing, %s stands here", t.describe())
}

func (p *parser) named(t token) (*expr, error) {
	switch w := strings.ToLower(t.text); w {
	case "null":
		return &expr{op: opNull, pos: t.pos}, nil
	case "true", "false":
		return &expr{op: opBool, pos: t.pos, text: w}, nil
	case "case":
		return p.caseWhen(t)
	case "cast", "try_cast":
		if p.op("(") {
			return p.cast(t, w)
		}
	case "extract":
		if p.op("(") {
			return p.extract(t)
		}
	default:
		if slices.Contains(keywords, w) {
			return nil, p.errorf(t, "a value is missing, %q stands here", t.text)
		}
	}
	if !p.op("(") {
		return p.column(t)
	}
	args, err := p.list()
	return &expr{op: opCall, pos: t.pos, text: strings.ToLower(t.text), args: args}, err
}

// column reads a dotted path. A name with a dot inside has no path of its own and cannot be reached.
func (p *parser) column(t token) (*expr, error) {
	e := &expr{op: opColumn, pos: t.pos, text: t.text}
	for p.op(".") {
		n := p.next()
		if n.kind != tokName && n.kind != tokQuoted {
			return nil, p.errorf(n, "after a dot stands a field, not %s", n.describe())
		}
		e.text += "." + n.text
	}
	return e, nil
}

// list reads arguments up to the closing parenthesis.
func (p *parser) list() ([]*expr, error) {
	var out []*expr
	if p.op(")") {
		return nil, nil
	}
	for {
		e, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		if !p.op(",") {
			return out, p.want(")")
		}
	}
}

// caseWhen reads both forms; the one with an operand becomes comparisons. Arguments: condition and value in turn, else last.
func (p *parser) caseWhen(t token) (*expr, error) {
	e := &expr{op: opCase, pos: t.pos}
	var operand *expr
	var err error
	if w := p.peek(); w.kind != tokName || !strings.EqualFold(w.text, "when") {
		if operand, err = p.binary(0); err != nil {
			return nil, err
		}
	}
	for p.word("when") {
		cond, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		if operand != nil {
			cond = &expr{op: "=", pos: cond.pos, args: []*expr{operand, cond}}
		}
		if err := p.wantWord("then"); err != nil {
			return nil, err
		}
		value, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, cond, value)
	}
	if len(e.args) == 0 {
		return nil, p.errorf(p.peek(), "when is missing, %s stands here", p.peek().describe())
	}
	other := &expr{op: opNull, pos: t.pos}
	if p.word("else") {
		if other, err = p.binary(0); err != nil {
			return nil, err
		}
	}
	e.args = append(e.args, other)
	return e, p.wantWord("end")
}

func (p *parser) cast(t token, op string) (*expr, error) {
	arg, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	if err := p.wantWord("as"); err != nil {
		return nil, err
	}
	n := p.next()
	if n.kind != tokName {
		return nil, p.errorf(n, "after as stands a type, not %s", n.describe())
	}
	name := strings.ToLower(n.text)
	if p.op("(") {
		args, err := p.list()
		if err != nil {
			return nil, err
		}
		var parts []string
		for _, a := range args {
			if a.op != opNumber {
				return nil, errorAt(p.src, a.pos, "a type takes numbers in its parentheses")
			}
			parts = append(parts, a.text)
		}
		name += "(" + strings.Join(parts, ",") + ")"
	}
	return &expr{op: op, pos: t.pos, text: name, args: []*expr{arg, {op: opNull, pos: n.pos}}}, p.want(")")
}

// extract reads extract(year from x); it is the call extract('year', x).
func (p *parser) extract(t token) (*expr, error) {
	n := p.next()
	if n.kind != tokName && n.kind != tokString {
		return nil, p.errorf(n, "extract takes a unit and from, such as extract(hour from at), not %s", n.describe())
	}
	if n.kind == tokName {
		if err := p.wantWord("from"); err != nil {
			return nil, err
		}
	} else if err := p.want(","); err != nil {
		return nil, err
	}
	arg, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	return &expr{op: opCall, pos: t.pos, text: "extract", args: []*expr{{op: opString, pos: n.pos, text: strings.ToLower(n.text)}, arg}}, p.want(")")
}
