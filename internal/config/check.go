package config

import (
	"reflect"
	"regexp"
	"strconv"
)

// checker fills defaults and validates from the leaves up.
type checker struct {
	places map[string]place
	file   string
	errs   []*Error
}

// check returns whether v and all below it are right. A block with an error below is not validated itself: its
// Validate would say the same again.
func (c *checker) check(path string, v reflect.Value, quiet bool) bool {
	t := v.Type()
	if isScalar(t) {
		return true
	}
	good := true
	switch t.Kind() {
	case reflect.Pointer:
		return v.IsNil() || c.check(path, v.Elem(), quiet)
	case reflect.Slice:
		for i := range v.Len() {
			good = c.check(path+"["+strconv.Itoa(i)+"]", v.Index(i), quiet) && good
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			item := reflect.New(t.Elem()).Elem()
			item.Set(v.MapIndex(k))
			good = c.check(joinPath(path, k.String()), item, quiet) && good
			v.SetMapIndex(k, item)
		}
	case reflect.Struct:
		for _, f := range fieldsOf(t) {
			inner, p := v.FieldByIndex(f.index), joinPath(path, f.key)
			good = c.check(p, inner, quiet || f.novalidate) && good
			if f.required && inner.IsZero() && !quiet {
				c.fail(path, p, "the key "+f.key+" is missing", nil)
				good = false
			}
		}
		if !good {
			return false
		}
		withDefaults(v)
		return quiet || c.validate(path, v)
	}
	return good
}

// withDefaults replaces v by the result of its WithDefaults, when the type has one that gives the same type.
func withDefaults(v reflect.Value) {
	m := v.Addr().MethodByName("WithDefaults")
	if m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 && m.Type().Out(0) == v.Type() {
		v.Set(m.Call(nil)[0])
	}
}

func (c *checker) validate(path string, v reflect.Value) bool {
	val, ok := v.Addr().Interface().(interface{ Validate() error })
	if !ok {
		return true
	}
	err := val.Validate()
	if err == nil {
		return true
	}
	c.fail(path, path, err.Error(), err)
	return false
}

// leadingKey is the key that a Validate error starts with: "commit_interval: …", "commit_interval is …".
var leadingKey = regexp.MustCompile(`^([a-z][a-z0-9_]*(?:(?:\.|\[)[a-z0-9_\]]+)*)(?:: | is | are | must )`)

// fail records msg at the most exact place known: the key that it begins with, the path, or the blocks around it.
func (c *checker) fail(path, at, msg string, cause error) {
	e := &Error{File: c.file, Path: path, Msg: msg, cause: cause}
	if m := leadingKey.FindStringSubmatch(msg); m != nil {
		if _, set := c.places[joinPath(path, m[1])]; set {
			at = joinPath(path, m[1])
		}
	}
	for ; ; at = parentPath(at) {
		if p, ok := c.places[at]; ok {
			e.File, e.Line, e.Column = p.src.name, p.line, p.column
			e.Snippet = p.src.snippet(p.line, p.column)
			break
		}
		if at == "" {
			break
		}
	}
	c.errs = append(c.errs, e)
}

// parentPath is pipelines[0] of pipelines[0].topic, and pipelines of that.
func parentPath(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '.' || p[i] == '[' {
			return p[:i]
		}
	}
	return ""
}
