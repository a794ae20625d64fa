package decode

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

// ruleSet holds each row against the rules of the contract once its event was read. It costs nothing where there are none.
type ruleSet struct {
	rules    []boundRule
	complete []*column
	flags    *column // ledger.ColViolations; nil where no rule keeps and flags
	broken   map[engine.Violation]int64
	event    *objectPlan
}

// boundRule is a rule with its column.
type boundRule struct {
	rule
	col, parent *column // parent is nil at the top
	code        []byte  // what flags says
	seen        int64
}

// actionOrder is the order in which rules are looked at: what makes a dead letter first, and what changes a value last.
var actionOrder = map[Action]int{ActionDeadLetter: 0, ActionFlag: 1, ActionNull: 2}

func newRuleSet(c *Contract, event *objectPlan, flags *column) (ruleSet, error) {
	rs := ruleSet{event: event, flags: flags, broken: map[engine.Violation]int64{}}
	if c.flags() && flags == nil {
		return rs, fmt.Errorf("%w: %s has rules that keep and flag, and the table has no column %s list<string>: add it", ErrContract, c.Name, ledger.ColViolations)
	}
	watch := slices.Clone(c.complete)
	for _, r := range c.rules {
		path := strings.Join(r.path, ".")
		b := boundRule{rule: r, col: event.column(path), code: []byte(path + ":" + r.reason)}
		if len(r.path) > 1 {
			b.parent = event.column(strings.Join(r.path[:len(r.path)-1], "."))
		}
		rs.rules = append(rs.rules, b)
		if r.reason == ReasonMissingField && r.action != ActionDeadLetter {
			watch = append(watch, r.path)
		}
	}
	slices.SortStableFunc(rs.rules, func(a, b boundRule) int { return cmp.Compare(actionOrder[a.action], actionOrder[b.action]) })
	for _, path := range watch {
		if col := event.column(strings.Join(path, ".")); !slices.Contains(rs.complete, col) {
			rs.complete = append(rs.complete, col)
		}
	}
	return rs, nil
}

// hold holds the row that was just read, at index row, against the rules. The first that makes a dead letter of it is
// returned; else values are null, and the row flagged, as the rules say. A partial row may lack what rules require.
func (rs *ruleSet) hold(row int, partial bool) *boundRule {
	flagged := 0
	for i := range rs.rules {
		r := &rs.rules[i]
		if partial && r.checks == nil || !r.brokenBy(row) {
			continue
		}
		r.seen++
		if r.action == ActionDeadLetter {
			return r
		}
		if r.action == ActionNull {
			r.col.truncate(row)
			r.col.null()
		}
		if rs.flags != nil {
			rs.flags.kids[0].appendBytes(r.code)
			flagged++
		}
	}
	if rs.flags == nil {
		return nil
	}
	if flagged == 0 {
		rs.flags.null()
	} else {
		rs.flags.endList()
	}
	return nil
}

func (r *boundRule) brokenBy(row int) bool {
	null := r.col.isNull(row)
	if r.checks == nil {
		return null && (!r.within || r.parent == nil || !r.parent.isNull(row))
	}
	return !null && !r.checks.keeps(r.col, r.typ.kind, row)
}

// keeps tells whether the value at row is as the checks, which are of one kind, want it.
func (c *checks) keeps(col *column, k kind, row int) bool {
	switch k {
	case kindString:
		return c.stringKept(col.bytesAt(row))
	case kindDouble, kindFloat:
		v := col.floatAt(row)
		return c.numOK(v) && (!c.hasEnum || c.inEnumNum(v))
	case kindDecimal:
		return c.decOK(dec128{lo: load64(col.data, row*16), hi: int64(load64(col.data, row*16+8))})
	case kindBool:
		return c.inEnumBool(col.data[row>>3]&(1<<(row&7)) != 0)
	}
	v := col.intAt(row)
	return c.intOK(v) && (!c.hasEnum || c.inEnumInt(v))
}

func (c *checks) stringKept(s []byte) bool {
	switch {
	case c.hasEnum:
		return c.inEnum(s)
	case c.hasLen:
		n := utf8.RuneCount(s)
		return n >= c.minLen && (c.maxLen < 0 || n <= c.maxLen)
	case c.pattern != nil:
		return c.pattern.Match(s)
	}
	return true
}

// wanted says what the checks demand, for dead letters.
func (r *rule) wanted() string {
	switch c := r.checks; {
	case c == nil:
		return "the contract requires the field: " + r.path[len(r.path)-1]
	case c.hasEnum:
		return "the value is none of: " + c.enumDescription
	case c.hasLen:
		return "the contract allows " + c.lengths() + " characters"
	case c.pattern != nil:
		return "the string does not match " + c.pattern.String()
	default:
		return "the contract wants " + c.rangeDescription
	}
}

// place is the JSON pointer of the rule's field.
func (r *rule) place() string {
	var b strings.Builder
	for _, name := range r.path {
		b.WriteByte('/')
		b.WriteString(engine.EscapePointer(cut(name, maxPlaceName)))
	}
	return b.String()
}

func (c *column) isNull(i int) bool {
	return c.layout == layoutNulls || c.bits != nil && c.bits[i>>3]&(1<<(i&7)) == 0
}

func (c *column) intAt(i int) int64 {
	if c.width == 4 {
		return int64(int32(load32(c.data, i*4)))
	}
	return int64(load64(c.data, i*8))
}

func (c *column) floatAt(i int) float64 {
	if c.width == 4 {
		return float64(math.Float32frombits(load32(c.data, i*4)))
	}
	return math.Float64frombits(load64(c.data, i*8))
}

// completeRows is how many of the n rows at hand have all that the contract wants.
func (rs *ruleSet) completeRows(n int) int64 {
	watch := make([]*column, 0, len(rs.complete))
	for _, c := range rs.complete {
		if c.nulls > 0 || c.layout == layoutNulls {
			watch = append(watch, c)
		}
	}
	if len(watch) == 0 {
		return int64(n)
	}
	var sum int64
	for i := range n {
		if !slices.ContainsFunc(watch, func(c *column) bool { return c.isNull(i) }) {
			sum++
		}
	}
	return sum
}

// contractReasons are the reasons that say that an event could be read and is not as the contract wants it.
var contractReasons = []string{ReasonMissingField, ReasonWrongType, ReasonInvalidFormat, ReasonOutOfRange, ReasonNotInEnum, ReasonNoMatch}

// refused counts a dead letter that the reading of values made for a reason of the contract's.
// inside is the pointer to the part of the payload that the columns are made of.
func (rs *ruleSet) refused(f failure, inside string) {
	if !slices.Contains(contractReasons, f.reason) {
		return
	}
	if col := rs.event.dotted(strings.TrimPrefix(f.place, inside)); col != "" {
		rs.broken[engine.Violation{Column: col, Rule: f.reason, Action: string(ActionDeadLetter)}]++
	}
}

// dotted turns a JSON pointer into the payload into the path of a column, which has as many values as the table has columns.
func (o *objectPlan) dotted(place string) string {
	var path []string
	var v *valuePlan
	for token := range strings.SplitSeq(strings.TrimPrefix(place, "/"), "/") {
		switch {
		case o != nil:
			i, ok := o.index[engine.UnescapePointer(token)]
			if !ok {
				return ""
			}
			path, v = append(path, o.fields[i].name), &o.fields[i].val
		case v.elem == nil:
			return ""
		case v.kind == kindMap:
			path, v = append(path, "value"), v.elem
		default:
			path, v = append(path, "element"), v.elem
		}
		o = v.obj
	}
	return strings.Join(path, ".")
}

// take returns what was counted since the last call, in a stable order.
func (rs *ruleSet) take() []engine.Violation {
	var out []engine.Violation
	for i := range rs.rules {
		if r := &rs.rules[i]; r.seen > 0 {
			rs.broken[engine.Violation{Column: r.column(), Rule: r.reason, Action: string(r.action)}] += r.seen
			r.seen = 0
		}
	}
	if len(rs.broken) == 0 {
		return nil
	}
	for v, n := range rs.broken {
		v.Count = n
		out = append(out, v)
	}
	clear(rs.broken)
	slices.SortFunc(out, func(a, b engine.Violation) int {
		return cmp.Or(cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Action, b.Action))
	})
	return out
}

// violationsField is the column in which rows say what is wrong with them.
func violationsField(ids *idSource) iceberg.NestedField {
	return iceberg.NestedField{ID: ids.next(), Name: ledger.ColViolations, Doc: "rules of the contract that the event breaks, each as column:reason; null when there is none"}
}

// isStringList tells whether a column can hold the violations.
func isStringList(t iceberg.Type) bool {
	l, ok := t.(*iceberg.ListType)
	return ok && l.Element.Equals(iceberg.PrimitiveTypes.String)
}
