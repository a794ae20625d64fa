package scan

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firnlake/firn/catalog/internal/scan/scantest"
)

// expr is a filter of the tests: its own grammar and its own meaning, so that neither is taken from what is tested.
type expr struct {
	op   string
	col  int
	vals []any
	kids []*expr
}

var inverse = map[string]string{"and": "or", "or": "and", "lt": "gt-eq", "gt-eq": "lt", "gt": "lt-eq", "lt-eq": "gt", "eq": "not-eq", "not-eq": "eq",
	"in": "not-in", "not-in": "in", "starts-with": "not-starts-with", "not-starts-with": "starts-with",
	"is-null": "not-null", "not-null": "is-null", "is-nan": "not-nan", "not-nan": "is-nan", "true": "false", "false": "true"}

// passes evaluates an expression on a row. A negation reverses the operators below it, as Iceberg has it, so nulls and
// NaNs pass what says "not" and nothing else.
func (e *expr) passes(r scantest.Row, negate bool) bool {
	op := e.op
	if op == "not" {
		return e.kids[0].passes(r, !negate)
	}
	if negate {
		op = inverse[op]
	}
	switch op {
	case "true", "false":
		return op == "true"
	case "and":
		return e.kids[0].passes(r, negate) && e.kids[1].passes(r, negate)
	case "or":
		return e.kids[0].passes(r, negate) || e.kids[1].passes(r, negate)
	}
	v := r[e.col]
	f, float := v.(float64)
	nan := float && math.IsNaN(f)
	switch op {
	case "is-null", "not-null":
		return (v == nil) == (op == "is-null")
	case "is-nan", "not-nan":
		return nan == (op == "is-nan")
	}
	if v == nil || nan {
		return strings.HasPrefix(op, "not-")
	}
	x := e.vals[0]
	switch op {
	case "lt":
		return scantest.Less(v, x)
	case "lt-eq":
		return !scantest.Less(x, v)
	case "gt":
		return scantest.Less(x, v)
	case "gt-eq":
		return !scantest.Less(v, x)
	case "eq", "in":
		return slices.Contains(e.vals, v)
	case "not-eq", "not-in":
		return !slices.Contains(e.vals, v)
	case "starts-with", "not-starts-with":
		return strings.HasPrefix(v.(string), x.(string)) == (op == "starts-with")
	}
	panic(op)
}

// json writes an expression as a client does.
func (e *expr) json() any {
	switch e.op {
	case "true", "false":
		return e.op == "true"
	case "not":
		return map[string]any{"type": "not", "child": e.kids[0].json()}
	case "and", "or":
		return map[string]any{"type": e.op, "left": e.kids[0].json(), "right": e.kids[1].json()}
	}
	c := scantest.Columns[e.col]
	out := map[string]any{"type": e.op, "term": c.Name}
	switch e.op {
	case "in", "not-in":
		list := []any{}
		for _, v := range e.vals {
			list = append(list, c.JSON(v))
		}
		out["values"] = list
	case "is-null", "not-null", "is-nan", "not-nan":
	default:
		out["value"] = c.JSON(e.vals[0])
	}
	return out
}

func (e *expr) String() string {
	doc, _ := json.Marshal(e.json())
	return string(doc)
}

// parse reads what is left of a filter back.
func parse(doc any) (*expr, error) {
	if b, ok := doc.(bool); ok {
		return &expr{op: strconv.FormatBool(b)}, nil
	}
	node := doc.(map[string]any)
	e := &expr{op: node["type"].(string)}
	for _, k := range []string{"left", "right", "child"} {
		if node[k] == nil {
			continue
		}
		kid, err := parse(node[k])
		if err != nil {
			return nil, err
		}
		e.kids = append(e.kids, kid)
	}
	if e.kids != nil {
		return e, nil
	}
	e.col = slices.IndexFunc(scantest.Columns, func(c scantest.Column) bool { return c.Name == node["term"] })
	list, _ := node["values"].([]any)
	if v, ok := node["value"]; ok {
		list = []any{v}
	}
	for _, v := range list {
		got, err := value(e.col, v)
		if err != nil {
			return nil, err
		}
		e.vals = append(e.vals, got)
	}
	return e, nil
}

func value(col int, v any) (any, error) {
	switch scantest.Columns[col].Name {
	case "id", "size":
		return v.(json.Number).Int64()
	case "price":
		return v.(json.Number).Float64()
	case "at":
		t, err := time.Parse("2006-01-02T15:04:05.999999-07:00", v.(string))
		return t.UnixMicro(), err
	case "day":
		t, err := time.Parse(time.DateOnly, v.(string))
		return t.Unix() / 86400, err
	case "amount":
		return strconv.ParseInt(strings.Replace(v.(string), ".", "", 1), 10, 64)
	case "flag":
		return map[bool]int64{true: 1}[v.(bool)], nil
	case "raw":
		b, err := hex.DecodeString(v.(string))
		return string(b), err
	}
	return v.(string), nil
}

// cell draws a value of a column from a few, so that filters meet rows.
func cell(col int, nulls bool) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if nulls && rapid.IntRange(0, 5).Draw(t, "null") == 0 {
			return nil
		}
		switch n := rapid.Int64Range(0, 12).Draw(t, "n"); scantest.Columns[col].Name {
		case "at":
			return (n-6)*11*3600*1e6 + n%3 - 1 // about the epoch, and just beside whole hours
		case "day":
			return n - 6
		case "size":
			return n - 6
		case "flag":
			return n % 2
		case "name", "raw": // no empty string: see TestEmptyStrings
			return []string{"A", "a", "ab", "abc", "abd", "ac", "b", "ba", "bab", "c", "é", "éa", "z"}[n]
		case "price":
			if nulls && n == 12 {
				return math.NaN()
			}
			return float64(n-6) / 4
		case "amount":
			return n * 37
		default:
			return n
		}
	})
}

func row() *rapid.Generator[scantest.Row] {
	return rapid.Custom(func(t *rapid.T) scantest.Row {
		r := make(scantest.Row, len(scantest.Columns))
		for i := range r {
			r[i] = cell(i, true).Draw(t, scantest.Columns[i].Name)
		}
		return r
	})
}

func filters(depth int) *rapid.Generator[*expr] {
	return rapid.Custom(func(t *rapid.T) *expr {
		ops := []string{"lt", "lt-eq", "gt", "gt-eq", "eq", "not-eq", "in", "not-in", "is-null", "not-null"}
		if depth > 0 {
			ops = append(ops, "and", "or", "and", "or", "and", "or", "not", "not", "true", "false")
		}
		e := &expr{op: rapid.SampledFrom(ops).Draw(t, "op")}
		for range map[string]int{"and": 2, "or": 2, "not": 1}[e.op] {
			e.kids = append(e.kids, filters(depth-1).Draw(t, "kid"))
		}
		if e.kids != nil || e.op == "true" || e.op == "false" {
			return e
		}
		e.col = rapid.IntRange(0, len(scantest.Columns)-1).Draw(t, "col")
		switch name := scantest.Columns[e.col].Name; {
		case name == "price" && rapid.IntRange(0, 2).Draw(t, "nan") == 0:
			e.op = rapid.SampledFrom([]string{"is-nan", "not-nan"}).Draw(t, "op")
		case name == "name" && rapid.Bool().Draw(t, "prefix"):
			e.op = rapid.SampledFrom([]string{"starts-with", "not-starts-with"}).Draw(t, "op")
		}
		n := 1
		if strings.HasSuffix(e.op, "in") && e.op != "min" {
			n = rapid.IntRange(1, 4).Draw(t, "values")
		}
		for range n {
			e.vals = append(e.vals, cell(e.col, false).Draw(t, "value"))
		}
		return e
	})
}

// TestInverses: the tests' own negation undoes itself.
func TestInverses(t *testing.T) {
	for op, inv := range inverse {
		if inverse[inv] != op {
			t.Errorf("%s, %s, %s", op, inv, inverse[inv])
		}
	}
	if got := fmt.Sprint(&expr{op: "eq", col: 8, vals: []any{"az"}}); got != `{"term":"raw","type":"eq","value":"617A"}` {
		t.Error(got)
	}
}
