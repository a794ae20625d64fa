package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
)

const (
	// maxFilterDepth bounds how deep a filter nests, maxFilterNodes how many operators and predicates it has, and
	// maxFilterLiterals its literals, all lists together.
	maxFilterDepth    = 100
	maxFilterNodes    = 2000
	maxFilterLiterals = 20_000
)

// Filter is a filter bound to a schema, without negations.
type Filter struct {
	Expr iceberg.BooleanExpression
	JSON json.RawMessage // what ParseFilter makes the same filter of again; nil for one that every row passes
}

// All is the filter that every row passes.
func All() Filter { return Filter{Expr: iceberg.AlwaysTrue{}} }

func (f Filter) all() bool { return f.JSON == nil }

// ParseFilter reads an expression of the REST protocol, as the document, Iceberg's Java library and PyIceberg write it,
// and binds it to schema. Nothing is parsed beyond limit bytes. Errors are catalog.ErrInvalid and name the column.
func ParseFilter(raw []byte, schema *iceberg.Schema, caseSensitive bool, limit int) (f Filter, err error) {
	if len(raw) > limit {
		return f, fmt.Errorf("%w: filter: it has %d bytes, plan.max_filter allows %d", catalog.ErrInvalid, len(raw), limit)
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return All(), nil
	}
	defer func() { // the library's decoders and its binding are not trusted with foreign bytes
		if p := recover(); p != nil {
			f, err = Filter{}, fmt.Errorf("%w: filter: it cannot be evaluated: %v", catalog.ErrInvalid, p)
		}
	}()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // a long does not fit a float
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return f, fmt.Errorf("%w: filter: %w", catalog.ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("%w: filter: something follows the expression", catalog.ErrInvalid)
	}
	p := filterParser{schema: schema, caseSensitive: caseSensitive}
	expr, err := p.expression(doc, 1)
	if err == nil {
		expr, err = iceberg.RewriteNotExpr(expr)
	}
	if err == nil {
		expr, err = iceberg.BindExpr(schema, expr, true)
	}
	if err != nil {
		if !errors.Is(err, catalog.ErrInvalid) {
			err = fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
		return f, fmt.Errorf("filter: %w", err)
	}
	if _, yes := expr.(iceberg.AlwaysTrue); yes {
		return All(), nil
	}
	if f.JSON, err = json.Marshal(expr); err != nil {
		return f, fmt.Errorf("%w: filter: %w", catalog.ErrInvalid, err)
	}
	f.Expr = expr
	return f, nil
}

// filterParser holds a filter to its bounds and to the columns that there are. Predicates it leaves to iceberg-go.
type filterParser struct {
	schema          *iceberg.Schema
	caseSensitive   bool
	nodes, literals int
}

func (p *filterParser) expression(doc any, depth int) (iceberg.BooleanExpression, error) {
	if p.nodes++; depth > maxFilterDepth || p.nodes > maxFilterNodes {
		return nil, fmt.Errorf("%w: it nests deeper than %d or has more than %d operators", catalog.ErrInvalid, maxFilterDepth, maxFilterNodes)
	}
	if constant, ok := doc.(bool); ok {
		return truth(constant), nil
	}
	node, ok := doc.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: an expression is an object or a boolean, not %T", catalog.ErrInvalid, doc)
	}
	kind, _ := node["type"].(string)
	switch kind {
	case "true", "false":
		return truth(kind == "true"), nil
	case "literal":
		if constant, ok := node["value"].(bool); ok {
			return truth(constant), nil
		}
		return nil, fmt.Errorf("%w: a literal expression has a boolean value", catalog.ErrInvalid)
	case "not":
		child, err := p.expression(node["child"], depth+1)
		if err != nil {
			return nil, err
		}
		return iceberg.NewNot(child), nil
	case "and", "or":
		left, err := p.expression(node["left"], depth+1)
		if err != nil {
			return nil, err
		}
		right, err := p.expression(node["right"], depth+1)
		if err != nil {
			return nil, err
		}
		if kind == "and" {
			return iceberg.NewAnd(left, right), nil
		}
		return iceberg.NewOr(left, right), nil
	}
	return p.predicate(kind, node)
}

func truth(b bool) iceberg.BooleanExpression {
	if b {
		return iceberg.AlwaysTrue{}
	}
	return iceberg.AlwaysFalse{}
}

func (p *filterParser) predicate(kind string, node map[string]any) (iceberg.BooleanExpression, error) {
	name, err := p.term(node)
	if err != nil {
		return nil, err
	}
	values, _ := node["values"].([]any)
	if p.literals += len(values); p.literals > maxFilterLiterals {
		return nil, fmt.Errorf("%w: column %s: more than %d values in all lists together", catalog.ErrInvalid, name, maxFilterLiterals)
	}
	leaf, err := json.Marshal(node)
	if err != nil {
		return nil, err
	}
	expr, err := iceberg.ParseExpr(leaf, p.schema)
	if err != nil {
		return nil, fmt.Errorf("%w: column %s, %s: %w", catalog.ErrInvalid, name, kind, err)
	}
	return expr, nil
}

// term puts the column's own name into a predicate, and returns it.
func (p *filterParser) term(node map[string]any) (string, error) {
	holder, key := node, "term"
	if t, ok := node["term"].(map[string]any); ok { // a transform, or a reference that is spelt out
		holder = t
	}
	given, ok := holder[key].(string)
	if !ok {
		return "", fmt.Errorf("%w: a predicate's term is a column's name or a transform of one", catalog.ErrInvalid)
	}
	name, _, err := Column(p.schema, given, p.caseSensitive)
	if err != nil {
		return "", err
	}
	holder[key] = name
	return name, nil
}

// Column finds a column by its full name and returns the name as the schema has it, and its id.
func Column(schema *iceberg.Schema, given string, caseSensitive bool) (name string, id int, err error) {
	find := schema.FindFieldByName
	if !caseSensitive {
		find = schema.FindFieldByNameCaseInsensitive
	}
	field, ok := find(given)
	if ok {
		name, ok = schema.FindColumnName(field.ID)
	}
	if !ok {
		return "", 0, fmt.Errorf("%w: there is no column %q in schema %d", catalog.ErrInvalid, cut(given), schema.ID)
	}
	return name, field.ID, nil
}

// cut bounds what an error repeats of a request.
func cut(s string) string {
	const longest = 200
	if len(s) <= longest {
		return s
	}
	return s[:longest] + "…"
}
