package config

import (
	"encoding"
	"reflect"
	"strings"
)

// field is one configurable field of a struct.
type field struct {
	key        string
	index      []int
	typ        reflect.Type
	enum       []string
	required   bool
	novalidate bool
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
)

// fieldsOf lists the fields of struct type t that have a yaml tag, inline ones unfolded, in order.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("yaml")
		name, opts, _ := strings.Cut(tag, ",")
		if !tagged || name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if name == "" {
			if strings.Contains(","+opts+",", ",inline,") && f.Type.Kind() == reflect.Struct {
				for _, inner := range fieldsOf(f.Type) {
					inner.index = append([]int{i}, inner.index...)
					out = append(out, inner)
				}
			}
			continue
		}
		fd := field{key: name, index: []int{i}, typ: f.Type, novalidate: f.Tag.Get("config") == "novalidate"}
		for word := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			if v, ok := strings.CutPrefix(word, "enum="); ok {
				fd.enum = append(fd.enum, v)
			}
			fd.required = fd.required || word == "required"
		}
		out = append(out, fd)
	}
	return out
}

// isScalar tells that a value of t is written as one word: it has a text form or a basic kind.
func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer:
		return isScalar(t.Elem())
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	}
	return true
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// whereKey finds the place of a key anywhere in t, for the message about a key that stands in the wrong block.
func whereKey(t reflect.Type, key, prefix string, depth int) string {
	if depth > maxDepth {
		return ""
	}
	switch t.Kind() {
	case reflect.Pointer:
		return whereKey(t.Elem(), key, prefix, depth+1)
	case reflect.Slice:
		if isScalar(t.Elem()) {
			return ""
		}
		return whereKey(t.Elem(), key, prefix+"[]", depth+1)
	case reflect.Struct:
		if isScalar(t) {
			return ""
		}
		for _, f := range fieldsOf(t) {
			p := joinPath(prefix, f.key)
			if f.key == key {
				return p
			}
			if found := whereKey(f.typ, key, p, depth+1); found != "" {
				return found
			}
		}
	}
	return ""
}

func joinPath(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}
