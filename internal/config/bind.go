package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDepth bounds nesting, maxNodes the values of one file with aliases counted each time they are used.
	maxDepth = 64
	maxNodes = 100_000
)

// place is where a value or a key stands.
type place struct {
	src          *source
	line, column int
}

func (p place) String() string {
	if p.line == 0 {
		return p.src.name
	}
	return fmt.Sprintf("%s:%d", p.src.name, p.line)
}

// binder walks a parsed document beside the struct it goes into.
type binder struct {
	src     *source
	root    reflect.Type
	places  map[string]place
	anchors map[string]ast.Node
	nodes   int
	errs    []*Error
}

func (b *binder) fail(path string, tok *token.Token, cause error, format string, args ...any) {
	e := &Error{File: b.src.name, Path: path, Msg: fmt.Sprintf(format, args...), cause: cause}
	if tok != nil && tok.Position != nil {
		e.Line, e.Column = tok.Position.Line, tok.Position.Column
	}
	b.errs = append(b.errs, e)
}

// at remembers where a path's value was set; the last one wins.
func (b *binder) at(path string, tok *token.Token) {
	p := place{src: b.src}
	if tok != nil && tok.Position != nil {
		p.line, p.column = tok.Position.Line, tok.Position.Column
	}
	b.places[path] = p
}

// finish fills in the snippets: only when the whole file has been seen is every secret known.
func (b *binder) finish() []*Error {
	for _, e := range b.errs {
		if e.Snippet == "" {
			e.Snippet = b.src.snippet(e.Line, e.Column)
		}
	}
	return b.errs
}

// plain resolves anchors, aliases and the standard tags; ok is false when an error was recorded.
func (b *binder) plain(path string, n ast.Node) (_ ast.Node, ok bool) {
	for range maxDepth {
		switch t := n.(type) {
		case *ast.AnchorNode:
			b.anchors[t.Name.GetToken().Value] = t.Value
			n = t.Value
		case *ast.AliasNode:
			name := t.Value.GetToken().Value
			to, known := b.anchors[name]
			if !known {
				b.fail(path, t.GetToken(), nil, "the alias *%s has no anchor &%s above it", name, name)
				return nil, false
			}
			n = to
		case *ast.TagNode:
			if !strings.HasPrefix(t.Start.Value, "!!") {
				b.fail(path, t.GetToken(), nil, "the tag %s means nothing here: leave it out", t.Start.Value)
				return nil, false
			}
			n = t.Value
		default:
			return n, true
		}
	}
	b.fail(path, nil, nil, "aliases lead in a circle")
	return nil, false
}

// bind reads node n into v. A null leaves v as it is, unless its type has SetNull.
func (b *binder) bind(path string, n ast.Node, v reflect.Value, enum []string, depth int) {
	n, ok := b.plain(path, n)
	if !ok || n == nil {
		return
	}
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		if b.nodes <= maxNodes+1 {
			b.fail(path, n.GetToken(), nil, "the file is too large: at most %d values, nested %d deep", maxNodes, maxDepth)
		}
		b.nodes = maxNodes + 1
		return
	}
	if _, null := n.(*ast.NullNode); null {
		if w, ok := v.Addr().Interface().(interface{ SetNull() }); ok { // a key that takes null for a word
			b.at(path, n.GetToken())
			w.SetNull()
		}
		return
	}
	t := v.Type()
	if isSecret(t) {
		b.maskAll(n, 0)
	}
	switch {
	case isScalar(t):
		b.bindScalar(path, n, v, enum)
	case t.Kind() == reflect.Pointer:
		fresh := v
		if v.IsNil() {
			fresh = reflect.New(t.Elem())
			setDefaults(fresh.Elem())
		}
		b.bind(path, n, fresh.Elem(), enum, depth+1)
		v.Set(fresh)
	case t.Kind() == reflect.Struct:
		b.bindStruct(path, n, v, depth)
	case t.Kind() == reflect.Slice:
		b.bindSlice(path, n, v, enum, depth)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		b.bindMap(path, n, v, depth)
	case t.Kind() == reflect.Interface:
		b.at(path, n.GetToken())
		if err := yaml.NodeToValue(n, v.Addr().Interface()); err != nil {
			b.fail(path, n.GetToken(), err, "cannot be read")
		}
	default:
		b.fail(path, n.GetToken(), nil, "a value of type %s cannot be configured", t)
	}
}

func (b *binder) bindScalar(path string, n ast.Node, v reflect.Value, enum []string) {
	text, ok := scalarText(n)
	if !ok {
		b.fail(path, n.GetToken(), nil, "this is %s, and %s is wanted", formOf(n), form(v.Type()))
		return
	}
	b.at(path, n.GetToken())
	if err := setScalar(v, text, enum); err != nil {
		b.fail(path, n.GetToken(), err, "%s", err)
	}
}

// entries returns the key/value pairs of a block with merge keys (<<) unfolded behind the block's own.
func (b *binder) entries(path string, n ast.Node, depth int) (own []*ast.MappingValueNode, ok bool) {
	var values []*ast.MappingValueNode
	switch t := n.(type) {
	case *ast.MappingNode:
		values = t.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{t}
	default:
		return nil, false
	}
	seen := map[string]bool{}
	var merged []*ast.MappingValueNode
	for _, mv := range values {
		if !mv.Key.IsMergeKey() {
			own = append(own, mv)
			seen[keyText(mv)] = true
			continue
		}
		from, good := b.plain(path, mv.Value)
		if !good || depth > maxDepth {
			continue
		}
		if more, isBlock := b.entries(path, from, depth+1); isBlock {
			merged = append(merged, more...)
		} else {
			b.fail(path, mv.Value.GetToken(), nil, "<< takes an alias of a block of keys")
		}
	}
	for _, mv := range merged {
		if k := keyText(mv); !seen[k] {
			seen[k] = true
			own = append(own, mv)
		}
	}
	return own, true
}

func (b *binder) bindStruct(path string, n ast.Node, v reflect.Value, depth int) {
	entries, ok := b.entries(path, n, 0)
	if !ok {
		b.fail(path, n.GetToken(), nil, "this is %s, and a block of keys is wanted", formOf(n))
		return
	}
	fields := fieldsOf(v.Type())
	byKey := make(map[string]field, len(fields))
	for _, f := range fields {
		byKey[f.key] = f
	}
	// A list element has no key of its own: it stands where its first key does.
	if _, placed := b.places[path]; !placed && len(entries) > 0 {
		b.at(path, entries[0].Key.GetToken())
	}
	for _, mv := range entries {
		key := keyText(mv)
		p := joinPath(path, key)
		f, known := byKey[key]
		if !known {
			b.maskAll(mv.Value, 0)
			b.fail(path, mv.Key.GetToken(), nil, "unknown key %q%s", key, b.hint(key, fields))
			continue
		}
		b.at(p, mv.Key.GetToken())
		b.bind(p, mv.Value, v.FieldByIndex(f.index), f.enum, depth+1)
	}
}

// hint proposes the nearest key of the block, or the block where the key does belong.
func (b *binder) hint(key string, fields []field) string {
	if near := nearest(key, keysOf(fields)); near != "" {
		return "; did you mean " + near + "?"
	}
	if elsewhere := whereKey(b.root, key, "", 0); elsewhere != "" {
		return "; it belongs at " + elsewhere
	}
	return didYouMean(key, keysOf(fields))
}

func (b *binder) bindSlice(path string, n ast.Node, v reflect.Value, enum []string, depth int) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		b.fail(path, n.GetToken(), nil, "this is %s, and a list is wanted: write [%s]", formOf(n), "…")
		return
	}
	b.at(path, n.GetToken())
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		setDefaults(out.Index(i))
		b.bind(path+"["+strconv.Itoa(i)+"]", item, out.Index(i), enum, depth+1)
	}
	v.Set(out)
}

func (b *binder) bindMap(path string, n ast.Node, v reflect.Value, depth int) {
	entries, ok := b.entries(path, n, 0)
	if !ok {
		b.fail(path, n.GetToken(), nil, "this is %s, and a block of keys is wanted", formOf(n))
		return
	}
	b.at(path, n.GetToken())
	out := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, mv := range entries {
		item := reflect.New(v.Type().Elem()).Elem()
		setDefaults(item)
		key := keyText(mv)
		b.bind(joinPath(path, key), mv.Value, item, nil, depth+1)
		out.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
	v.Set(out)
}

// maskAll hides every text below n in the lines that errors show.
func (b *binder) maskAll(n ast.Node, depth int) {
	if n == nil || depth > maxDepth {
		return
	}
	switch t := n.(type) {
	case *ast.MappingNode:
		for _, mv := range t.Values {
			b.maskAll(mv.Value, depth+1)
		}
	case *ast.MappingValueNode:
		b.maskAll(t.Value, depth+1)
	case *ast.SequenceNode:
		for _, item := range t.Values {
			b.maskAll(item, depth+1)
		}
	case *ast.AnchorNode:
		b.maskAll(t.Value, depth+1)
	case *ast.TagNode:
		b.maskAll(t.Value, depth+1)
	case *ast.LiteralNode:
		b.src.mask(strings.Split(t.Value.Value, "\n")...)
	default:
		if tok := n.GetToken(); tok != nil {
			b.src.mask(tok.Value, tok.Origin)
		}
	}
}

func keyText(mv *ast.MappingValueNode) string {
	if tok := mv.Key.GetToken(); tok != nil {
		return tok.Value
	}
	return ""
}

// scalarText is the text of a scalar as the file has it: 1.10 stays 1.10.
func scalarText(n ast.Node) (string, bool) {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value, true
	case *ast.LiteralNode:
		return t.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return t.GetToken().Value, true
	}
	return "", false
}

func formOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a block of keys"
	case *ast.SequenceNode:
		return "a list"
	}
	return "one value"
}

// setDefaults lets a fresh list element or map value start from its type's defaults.
func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
		d.SetDefaults()
	}
}
