package decode

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// avroOp is how one value of the writer's is read.
type avroOp uint8

const (
	opFail avroOp = iota // a value that has no place in the reader's schema
	opNull
	opBool
	opInt    // into int
	opLong   // into long, from int or long
	opScaled // into a time or an instant in microseconds
	opDate
	opIntFloat
	opIntDouble
	opFloat
	opFloatDouble
	opDouble
	opString
	opBytes
	opFixed // bytes of the column's width
	opUUID  // as text
	opDecimal
	opEnum
	opRecord
	opArray
	opMap
	opUnion
	opOptional // a union of one type and null, or several that fail, as most are

	// What has no column: it is read over.
	opSkipNothing
	opSkipVarint
	opSkipFixed
	opSkipBytes
	opSkipRecord
	opSkipArray
	opSkipMap
	opSkipUnion
)

// avroNode is how one value of a writer's schema goes into the reader's columns. Nodes form a tree; only what is read
// over may lead back to itself.
type avroNode struct {
	op       avroOp
	narrow   bool // a varint that must fit 32 bits, because the writer says int
	at       byte // of opOptional: what stands before the value
	col      *column
	elem     *avroNode // of arrays and maps, and the value of opOptional
	size     int       // bytes of opFixed, opSkipFixed and of a decimal in a fixed; -1 for a decimal in bytes
	mul, div int64     // of opScaled: microseconds are v*mul/div
	lo, hi   int64     // of opScaled, in the writer's unit

	precision int        // of opDecimal
	symbols   [][]byte   // of opEnum by the writer's index; nil for those that the reader lacks
	branches  []avroNode // of unions
	steps     []avroStep // of records, in the writer's order
	fills     []avroFill // fields that the writer does not have
	ignored   int64      // fields that the reader does not have
	why       string     // of opFail, and what is wanted
}

type avroStep struct {
	node avroNode
	name string
}

// avroFill is a default: its Avro bytes, which are read like those of an event.
type avroFill struct {
	node  avroNode
	bytes []byte
	name  string
}

// maxPlanNodes bounds the plan of one writer's schema; unions within unions of records may multiply.
const maxPlanNodes = 100_000

// errIncompatible reports a writer's schema that the reader's cannot read.
var errIncompatible = errors.New("schemas do not resolve")

// avroResolver makes the plan for one writer's schema (specification, "Schema Resolution").
type avroResolver struct {
	nodes   int
	skips   map[*avroType]*avroNode // of records, which may contain themselves
	partial bool                    // a field that the writer lacks and that has no default is null
}

func incompatible(at string, w, r *avroType, why string) error {
	if why != "" {
		why = ": " + why
	}
	return fmt.Errorf("%w: #%s: written as %s, wanted as %s%s", errIncompatible, at, w, r, why)
}

// inField names the field whose type does not fit; the JSON pointer of the type is of places alone.
func inField(name string, err error) error {
	if errors.Is(err, errIncompatible) {
		return fmt.Errorf("field %s: %w", name, err)
	}
	return err
}

// resolve plans a value written as w into the column that v describes, whose type is r.
func (rs *avroResolver) resolve(w, r *avroType, v *valuePlan) (avroNode, error) {
	if rs.nodes++; rs.nodes > maxPlanNodes {
		return avroNode{}, fmt.Errorf("%w: the plan has more than %d steps", errIncompatible, maxPlanNodes)
	}
	if w.kind == avroUnion {
		return rs.union(w, r, v)
	}
	if w.kind == avroNull {
		if v.nullable {
			return avroNode{op: opNull, col: v.col}, nil
		}
		return avroNode{}, incompatible(w.at, w, r, "null is not allowed")
	}
	n := avroNode{col: v.col}
	switch r.kind {
	case avroInt, avroLong, avroFloat, avroDouble:
		return rs.number(w, r, v)
	case avroBoolean:
		n.op = opBool
		return n, sameKind(w, r)
	case avroString, avroBytes:
		return rs.text(w, r, v)
	case avroFixed:
		if err := sameNamed(w, r); err != nil {
			return n, err
		}
		if w.size != r.size {
			return n, incompatible(w.at, w, r, fmt.Sprintf("%d bytes and %d", w.size, r.size))
		}
		if n.op, n.size = opFixed, w.size; v.kind == kindDecimal {
			return decimalNode(w, r, v, w.size)
		}
		return n, nil
	case avroEnum:
		return n, rs.enum(&n, w, r)
	case avroArray, avroMap:
		if n.op = opArray; r.kind == avroMap {
			n.op = opMap
		}
		if err := sameKind(w, r); err != nil {
			return n, err
		}
		elem, err := rs.resolve(w.elem, v.elem.avro, v.elem)
		n.elem = &elem
		return n, err
	}
	return n, rs.record(&n, w, r, v)
}

func sameKind(w, r *avroType) error {
	if w.kind != r.kind {
		return incompatible(w.at, w, r, "")
	}
	return nil
}

// sameNamed tells whether named types match: kind, and the name without its namespace or one of the reader's aliases.
func sameNamed(w, r *avroType) error {
	if w.kind != r.kind {
		return incompatible(w.at, w, r, "")
	}
	if shortName(w.name) == shortName(r.name) || slices.Contains(r.aliases, w.name) {
		return nil
	}
	return incompatible(w.at, w, r, "the names differ; an alias in the schema of the pipeline would bring them together")
}

// union plans each branch; those that do not fit fail only when they come.
func (rs *avroResolver) union(w, r *avroType, v *valuePlan) (avroNode, error) {
	n := avroNode{op: opUnion, col: v.col, branches: make([]avroNode, len(w.branches))}
	fits := false
	var first error
	for i, b := range w.branches {
		node, err := rs.resolve(b, r, v)
		if err != nil {
			if !errors.Is(err, errIncompatible) || rs.nodes > maxPlanNodes {
				return n, err
			}
			if first == nil {
				first = err
			}
			node = avroNode{op: opFail, why: fmt.Sprintf("%s where the schema of the pipeline wants %s", b, r)}
		} else {
			fits = true
		}
		n.branches[i] = node
	}
	if !fits {
		return n, first
	}
	n.optional()
	return n, nil
}

// maxShortBranch is how many branches of a union are told by one byte.
const maxShortBranch = 64

// optional makes opOptional of a union in which one branch is a value that is neither null nor fails.
func (n *avroNode) optional() {
	for i := range n.branches {
		if op := n.branches[i].op; op == opNull || op == opFail {
			continue
		}
		if n.elem != nil || i >= maxShortBranch {
			n.elem = nil
			return
		}
		n.elem, n.at = &n.branches[i], byte(2*i)
	}
	if n.elem != nil {
		n.op = opOptional
	}
}

// unitOf is what an int or long counts, and how many microseconds a unit of it are: mul/div.
func unitOf(t *avroType) (class string, mul, div int64) {
	switch t.logical {
	case "date":
		return "date", 1, 1
	case "time-millis":
		return "time", 1000, 1
	case "time-micros":
		return "time", 1, 1
	case "timestamp-millis":
		return "instant", 1000, 1
	case "timestamp-micros":
		return "instant", 1, 1
	case "timestamp-nanos":
		return "instant", 1, 1000
	case "local-timestamp-millis":
		return "local", 1000, 1
	case "local-timestamp-micros":
		return "local", 1, 1
	case "local-timestamp-nanos":
		return "local", 1, 1000
	}
	return "", 1, 1
}

func (rs *avroResolver) number(w, r *avroType, v *valuePlan) (avroNode, error) {
	n := avroNode{col: v.col, narrow: w.kind == avroInt}
	if w.kind < avroInt || w.kind > r.kind || r.kind > avroDouble {
		return n, incompatible(w.at, w, r, "")
	}
	class, mul, div := unitOf(r)
	if wc, wm, wd := unitOf(w); wc != "" && class != "" {
		if wc != class {
			return n, incompatible(w.at, w, r, "")
		}
		mul, div = wm, wd
	}
	switch r.kind {
	case avroInt, avroLong:
		n.integer(class, mul, div, v)
	case avroFloat:
		if n.op = opIntFloat; w.kind == avroFloat {
			n.op = opFloat
		}
		if v.wide { // the column is wider than the reader's schema
			if n.op = opIntDouble; w.kind == avroFloat {
				n.op = opFloatDouble
			}
		}
	default:
		n.op = map[avroKind]avroOp{avroInt: opIntDouble, avroLong: opIntDouble, avroFloat: opFloatDouble, avroDouble: opDouble}[w.kind]
	}
	return n, nil
}

func (n *avroNode) integer(class string, mul, div int64, v *valuePlan) {
	switch class {
	case "date":
		n.op, n.lo, n.hi = opDate, minMicros/microsPerDay, maxMicros/microsPerDay
	case "time":
		n.op, n.mul, n.div, n.lo, n.hi = opScaled, mul, div, 0, (microsPerDay-1)*div/mul
	case "instant", "local":
		n.op, n.mul, n.div = opScaled, mul, div
		if n.lo, n.hi = minMicros/mul, maxMicros/mul; div > 1 { // nanoseconds in 64 bits are always within
			n.lo, n.hi = math.MinInt64, math.MaxInt64
		}
	default:
		if n.op = opLong; v.kind == kindInt && !v.wide {
			n.op = opInt
		}
	}
}

func (rs *avroResolver) text(w, r *avroType, v *valuePlan) (avroNode, error) {
	n := avroNode{op: opString, col: v.col}
	if w.kind != avroString && w.kind != avroBytes {
		return n, incompatible(w.at, w, r, "")
	}
	switch v.kind {
	case kindDecimal:
		if w.kind == avroString {
			return n, incompatible(w.at, w, r, "text is no decimal")
		}
		return decimalNode(w, r, v, -1)
	case kindUUID:
		n.op = opUUID
	case kindBinary:
		n.op = opBytes
	}
	return n, nil
}

func decimalNode(w, r *avroType, v *valuePlan, size int) (avroNode, error) {
	if w.logical == "decimal" && w.scale != r.scale {
		return avroNode{}, incompatible(w.at, w, r, "the scales differ")
	}
	return avroNode{op: opDecimal, col: v.col, size: size, precision: v.precision,
		why: fmt.Sprintf("decimal(%d,%d)", v.precision, v.scale)}, nil
}

func (rs *avroResolver) enum(n *avroNode, w, r *avroType) error {
	if err := sameNamed(w, r); err != nil {
		return err
	}
	n.op, n.symbols = opEnum, make([][]byte, len(w.symbols))
	for i, s := range w.symbols {
		switch {
		case slices.Contains(r.symbols, s):
			n.symbols[i] = []byte(s)
		case r.symbolDefault != "":
			n.symbols[i] = []byte(r.symbolDefault)
		}
	}
	return nil
}

func (rs *avroResolver) record(n *avroNode, w, r *avroType, v *valuePlan) error {
	if err := sameNamed(w, r); err != nil {
		return err
	}
	n.op = opRecord
	n.steps = make([]avroStep, 0, len(w.fields))
	filled := make([]bool, len(r.fields))
	for _, wf := range w.fields {
		step, i, err := rs.step(wf, w, r, v, filled)
		if err != nil {
			return err
		}
		if i < 0 {
			n.ignored++
		} else {
			filled[i] = true
		}
		n.steps = append(n.steps, step)
	}
	for i, rf := range r.fields {
		if filled[i] {
			continue
		}
		fill, err := rs.fill(rf, v.obj.plan(rf.name), w, r)
		if err != nil {
			return err
		}
		n.fills = append(n.fills, fill)
	}
	return nil
}

func (o *objectPlan) plan(name string) *valuePlan { return &o.fields[o.index[name]].val }

// step plans one field of the writer's: into the first of the reader's fields for it that can read it, -1 where there is none.
func (rs *avroResolver) step(wf avroField, w, r *avroType, v *valuePlan, filled []bool) (avroStep, int, error) {
	var first error
	for _, i := range readerFields(r, wf.name, w, filled) {
		val := v.obj.plan(r.fields[i].name)
		node, err := rs.resolve(wf.typ, val.avro, val)
		if err == nil {
			name := r.fields[i].name
			if r.fields[i].of != "" {
				name = r.fields[i].of
			}
			return avroStep{node: node, name: name}, i, nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return avroStep{}, -1, inField(wf.name, first)
	}
	return avroStep{node: *rs.skip(wf.typ), name: wf.name}, -1, nil
}

// readerFields finds the reader's fields for a writer's: the one of that name, else one with an alias of it whose own
// name the writer does not have; and those that stand for another type of the same name.
func readerFields(r *avroType, name string, w *avroType, filled []bool) []int {
	var out []int
	for i, f := range r.fields {
		if f.name == name {
			out = append(out, i)
		}
	}
	for i, f := range r.fields {
		if len(out) == 0 && !filled[i] && slices.Contains(f.aliases, name) && !slices.ContainsFunc(w.fields, func(o avroField) bool { return o.name == f.name }) {
			out = append(out, i)
		}
	}
	for i, f := range r.fields {
		if f.of == name {
			out = append(out, i)
		}
	}
	return out
}

// fill plans the default of a field that the writer does not have.
func (rs *avroResolver) fill(f avroField, v *valuePlan, w, r *avroType) (avroFill, error) {
	if f.def == nil && rs.partial && v.nullable {
		return avroFill{node: avroNode{op: opNull, col: v.col}, name: f.name}, nil
	}
	if f.def == nil {
		return avroFill{}, incompatible(w.at, w, r, fmt.Sprintf("the writer has no field %q, and it has no default; add one to the schema of the pipeline", f.name))
	}
	raw, err := avroDefault(nil, f.typ, f.def)
	if err != nil {
		return avroFill{}, fmt.Errorf("%w: the default of %q: %w", errIncompatible, f.name, err)
	}
	node, err := rs.resolve(f.typ, v.avro, v)
	return avroFill{node: node, bytes: raw, name: f.name}, err
}

// skip plans how a value without a column is read over.
func (rs *avroResolver) skip(w *avroType) *avroNode {
	rs.nodes++
	switch w.kind {
	case avroNull:
		return &avroNode{op: opSkipNothing}
	case avroBoolean:
		return &avroNode{op: opSkipFixed, size: 1}
	case avroInt, avroEnum:
		return &avroNode{op: opSkipVarint, narrow: true}
	case avroLong:
		return &avroNode{op: opSkipVarint}
	case avroFloat:
		return &avroNode{op: opSkipFixed, size: 4}
	case avroDouble:
		return &avroNode{op: opSkipFixed, size: 8}
	case avroFixed:
		return &avroNode{op: opSkipFixed, size: w.size}
	case avroArray:
		return &avroNode{op: opSkipArray, elem: rs.skip(w.elem)}
	case avroMap:
		return &avroNode{op: opSkipMap, elem: rs.skip(w.elem)}
	case avroUnion:
		n := &avroNode{op: opSkipUnion}
		for _, b := range w.branches {
			n.branches = append(n.branches, *rs.skip(b))
		}
		return n
	case avroRecord:
		// The record is planned once and reached through a node of its own, for it may be on its way through itself.
		inner := rs.skips[w]
		if inner == nil {
			inner = &avroNode{op: opSkipRecord}
			rs.skips[w] = inner
			for _, f := range w.fields {
				inner.steps = append(inner.steps, avroStep{node: *rs.skip(f.typ), name: f.name})
			}
		}
		return &avroNode{op: opSkipRecord, elem: inner}
	}
	return &avroNode{op: opSkipBytes}
}
