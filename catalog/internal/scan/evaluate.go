package scan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
)

// verdict is what is certain about the rows of a file, or of all files of a manifest.
type verdict int8

const (
	none verdict = iota // no row passes
	some                // nothing is certain
	all                 // every row passes
)

// known is what metrics, a partition or a partition's summary say about one column.
type known struct {
	lower, upper       iceberg.Literal // nil: not known
	exact              bool            // every row has the value lower; there are no nulls and no NaNs
	noNulls, onlyNulls bool
	noNaNs, onlyNaNs   bool
}

// lookup gives what is known of a field.
type lookup func(id int, typ iceberg.Type) known

// check evaluates an expression, or a part of one.
type check func(lookup) verdict

func certain(v verdict) check { return func(lookup) verdict { return v } }

// compiler turns an expression without negations into a check; leaf is for its predicates.
type compiler struct {
	leaf func(iceberg.BoundPredicate) check
}

func compile(expr iceberg.BooleanExpression, leaf func(iceberg.BoundPredicate) check) (check, error) {
	return iceberg.VisitExpr(expr, iceberg.BooleanExprVisitor[check](compiler{leaf}))
}

func (compiler) VisitTrue() check  { return certain(all) }
func (compiler) VisitFalse() check { return certain(none) }

func (compiler) VisitNot(child check) check {
	return func(l lookup) verdict { return all - child(l) }
}

func (compiler) VisitAnd(left, right check) check {
	return func(l lookup) verdict {
		v := left(l)
		if v == none {
			return none
		}
		return min(v, right(l))
	}
}

func (compiler) VisitOr(left, right check) check {
	return func(l lookup) verdict {
		v := left(l)
		if v == all {
			return all
		}
		return max(v, right(l))
	}
}

func (compiler) VisitUnbound(p iceberg.UnboundPredicate) check {
	panic(fmt.Errorf("predicate %s is not bound", p))
}

func (c compiler) VisitBound(p iceberg.BoundPredicate) check { return c.leaf(p) }

// onColumn checks a predicate on a column as it stands. One on a transform of a column is left open: metrics are of the
// column itself.
func onColumn(p iceberg.BoundPredicate) check {
	if _, plain := p.Term().(iceberg.BoundReference); !plain {
		return certain(some)
	}
	field := p.Ref().Field()
	eval := predicate(p, field.Type)
	return func(l lookup) verdict { return eval(l(field.ID, field.Type)) }
}

// predicate evaluates one predicate on what is known of its field.
func predicate(p iceberg.BoundPredicate, typ iceberg.Type) func(known) verdict {
	switch p.Op() {
	case iceberg.OpIsNull:
		return func(k known) verdict { return pick(k.onlyNulls, k.noNulls) }
	case iceberg.OpNotNull:
		return func(k known) verdict { return pick(k.noNulls, k.onlyNulls) }
	case iceberg.OpIsNan:
		return func(k known) verdict { return pick(k.onlyNaNs, k.noNaNs || k.onlyNulls || k.exact) }
	case iceberg.OpNotNan:
		return func(k known) verdict { return pick(k.exact, k.onlyNaNs) }
	}
	compare := comparator(typ)
	if compare == nil {
		return func(known) verdict { return some }
	}
	switch p := p.(type) {
	case iceberg.BoundSetPredicate:
		return membership(p.Op(), sorted(p.Literals().Members(), compare), compare)
	case iceberg.BoundLiteralPredicate:
		if op := p.Op(); op == iceberg.OpStartsWith || op == iceberg.OpNotStartsWith {
			return prefix(op, p.Literal())
		}
		if _, unordered := typ.(iceberg.UUIDType); unordered && p.Op() != iceberg.OpEQ && p.Op() != iceberg.OpNEQ {
			return func(known) verdict { return some } // engines do not agree on which of two is the lesser
		}
		return comparison(p.Op(), p.Literal(), compare)
	}
	return func(known) verdict { return some }
}

func pick(every, no bool) verdict {
	switch {
	case no:
		return none
	case every:
		return all
	}
	return some
}

// comparison evaluates column OP lit. Nulls and NaNs pass nothing but a negation.
func comparison(op iceberg.Operation, lit iceberg.Literal, compare func(a, b iceberg.Literal) int) func(known) verdict {
	negated := op == iceberg.OpNEQ
	return func(k known) verdict {
		if k.onlyNulls || k.onlyNaNs {
			return pick(false, !negated)
		}
		below, above := false, false // the whole range lies on one side of lit
		atMost, atLeast := false, false
		if k.lower != nil {
			c := compare(k.lower, lit)
			above, atLeast = c > 0, c >= 0
		}
		if k.upper != nil {
			c := compare(k.upper, lit)
			below, atMost = c < 0, c <= 0
		}
		switch op {
		case iceberg.OpLT:
			return pick(k.exact && below, atLeast)
		case iceberg.OpLTEQ:
			return pick(k.exact && atMost, above)
		case iceberg.OpGT:
			return pick(k.exact && above, atMost)
		case iceberg.OpGTEQ:
			return pick(k.exact && atLeast, below)
		case iceberg.OpEQ:
			return pick(k.exact && atMost && atLeast, below || above)
		case iceberg.OpNEQ:
			return pick(k.exact && (below || above), k.exact && atMost && atLeast)
		}
		return some
	}
}

// membership evaluates column IN list, or NOT IN.
func membership(op iceberg.Operation, list []iceberg.Literal, compare func(a, b iceberg.Literal) int) func(known) verdict {
	negated := op == iceberg.OpNotIn
	return func(k known) verdict {
		if k.onlyNulls || k.onlyNaNs {
			return pick(false, !negated)
		}
		from, exact := 0, false
		if k.lower != nil {
			from, exact = slices.BinarySearchFunc(list, k.lower, compare)
		}
		hit := from < len(list) && (k.upper == nil || compare(list[from], k.upper) <= 0)
		if negated {
			return pick(k.exact && !exact, k.exact && exact)
		}
		return pick(k.exact && exact, !hit)
	}
}

// sorted orders a list's values, less those that are beyond all values of the column.
func sorted(list []iceberg.Literal, compare func(a, b iceberg.Literal) int) []iceberg.Literal {
	list = slices.DeleteFunc(list, func(l iceberg.Literal) bool {
		_, above := l.(iceberg.AboveMaxLiteral)
		_, below := l.(iceberg.BelowMinLiteral)
		return above || below
	})
	slices.SortFunc(list, compare)
	return list
}

// prefix evaluates column STARTS WITH lit, or NOT STARTS WITH.
func prefix(op iceberg.Operation, lit iceberg.Literal) func(known) verdict {
	want, ok := text(lit)
	if !ok {
		return func(known) verdict { return some }
	}
	negated := op == iceberg.OpNotStartsWith
	return func(k known) verdict {
		if k.onlyNulls {
			return pick(false, !negated)
		}
		low, haveLow := text(k.lower)
		high, haveHigh := text(k.upper)
		starts := haveLow && haveHigh && strings.HasPrefix(low, want) && strings.HasPrefix(high, want)
		outside := haveLow && low[:min(len(low), len(want))] > want || haveHigh && high[:min(len(high), len(want))] < want
		if negated {
			return pick(k.exact && !starts, starts && k.noNulls)
		}
		return pick(k.exact && starts, outside)
	}
}

func text(l iceberg.Literal) (string, bool) {
	switch l := l.(type) {
	case iceberg.StringLiteral:
		return string(l), true
	case iceberg.BinaryLiteral:
		return string(l), true
	case iceberg.FixedLiteral:
		return string(l), true
	}
	return "", false
}

// comparator orders literals of a type; nil for one without an order. Both must have the type: see decode.
func comparator(typ iceberg.Type) func(a, b iceberg.Literal) int {
	switch typ.(type) {
	case iceberg.BooleanType:
		return ordered[bool]
	case iceberg.Int32Type:
		return ordered[int32]
	case iceberg.Int64Type:
		return ordered[int64]
	case iceberg.Float32Type:
		return ordered[float32]
	case iceberg.Float64Type:
		return ordered[float64]
	case iceberg.DateType:
		return ordered[iceberg.Date]
	case iceberg.TimeType:
		return ordered[iceberg.Time]
	case iceberg.TimestampType, iceberg.TimestampTzType:
		return ordered[iceberg.Timestamp]
	case iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		return ordered[iceberg.TimestampNano]
	case iceberg.DecimalType:
		return ordered[iceberg.Decimal]
	case iceberg.StringType:
		return ordered[string]
	case iceberg.BinaryType, iceberg.FixedType:
		return ordered[[]byte]
	case iceberg.UUIDType:
		return func(a, b iceberg.Literal) int {
			l, r := a.(iceberg.UUIDLiteral), b.(iceberg.UUIDLiteral)
			return bytes.Compare(l[:], r[:])
		}
	}
	return nil
}

func ordered[T iceberg.LiteralType](a, b iceberg.Literal) int {
	l := a.(iceberg.TypedLiteral[T])
	return l.Comparator()(l.Value(), b.(iceberg.TypedLiteral[T]).Value())
}

// decode reads a bound of a column whose type may have been widened since it was written. What cannot be read, or
// bounds nothing, is nil.
func decode(typ iceberg.Type, data []byte) iceberg.Literal {
	if data == nil {
		return nil
	}
	switch typ.(type) {
	case iceberg.Int64Type:
		if len(data) == 4 {
			return iceberg.Int64Literal(int32(binary.LittleEndian.Uint32(data)))
		}
	case iceberg.Float64Type:
		if len(data) == 4 {
			return number(iceberg.Float64Literal(math.Float32frombits(binary.LittleEndian.Uint32(data))))
		}
	case iceberg.UUIDType: // engines do not agree on which of two is the lesser
		return nil
	}
	l, err := iceberg.LiteralFromBytes(typ, data)
	if err != nil {
		return nil
	}
	return number(l)
}

// number is nil for a NaN: it compares with nothing, and as a bound it tells of a writer that did not know better.
func number(l iceberg.Literal) iceberg.Literal {
	switch f := l.(type) {
	case iceberg.Float32Literal:
		if f != f {
			return nil
		}
	case iceberg.Float64Literal:
		if f != f {
			return nil
		}
	}
	return l
}
