package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// alwaysReserved are not configuration: tests, tools and the choice of the file itself use them.
var alwaysReserved = []string{"FIRN_TEST_", "FIRN_PYTHON", "FIRN_CONFIG", "FIRN_URI", "FIRN_CATALOG_URL", "FIRN_TOKEN"}

// serviceLink is what Kubernetes puts into every container for a service named firn-…; those variables are nobody's
// configuration.
var serviceLink = regexp.MustCompile(`_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// applyEnvironment sets every key that a FIRN_ variable names, in the order of the names so that errors are stable.
func applyEnvironment(root reflect.Value, places map[string]place, opts Options) []*Error {
	environ := slices.Clone(opts.Environ)
	slices.Sort(environ)
	var errs []*Error
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if !ok || !strings.HasPrefix(name, Prefix) || isReserved(name, opts.Reserved) {
			continue
		}
		e := &envVar{name: name, value: value, root: root.Type(), places: places}
		if e.apply("", strings.TrimPrefix(name, Prefix), root, nil) {
			errs = append(errs, e.errs...)
			continue
		}
		if serviceLink.MatchString(name) {
			continue
		}
		msg := "no key has this name"
		if e.beyond != "" {
			msg = e.beyond
		} else if near := nearest(name, envNames(root)); near != "" {
			msg += "; did you mean " + near + "?"
		} else {
			msg += ": unset it (firn config show lists the keys)"
		}
		errs = append(errs, &Error{File: name, Msg: msg})
	}
	return errs
}

func isReserved(name string, more []string) bool {
	for _, r := range append(slices.Clone(alwaysReserved), more...) {
		if name == r || strings.HasSuffix(r, "_") && strings.HasPrefix(name, r) {
			return true
		}
	}
	return false
}

// envVar is one variable on its way to its key.
type envVar struct {
	name, value string
	root        reflect.Type
	places      map[string]place
	errs        []*Error
	// beyond says why an index did not fit, when nothing else matched.
	beyond string
}

// apply follows rest, the name without the prefix, through v; false when no key fits.
func (e *envVar) apply(path, rest string, v reflect.Value, enum []string) bool {
	t := v.Type()
	if rest == "" {
		e.set(path, v, enum)
		return true
	}
	switch {
	case isScalar(t):
		return false
	case t.Kind() == reflect.Pointer:
		if !v.IsNil() {
			return e.apply(path, rest, v.Elem(), enum)
		}
		fresh := reflect.New(t.Elem())
		setDefaults(fresh.Elem())
		if !e.apply(path, rest, fresh.Elem(), enum) {
			return false
		}
		v.Set(fresh)
		return true
	case t.Kind() == reflect.Struct:
		fields := fieldsOf(t)
		// The longest key first: a key may be the beginning of another.
		slices.SortStableFunc(fields, func(a, b field) int { return len(b.key) - len(a.key) })
		for _, f := range fields {
			if after, ok := cutKey(rest, f.key); ok && e.apply(joinPath(path, f.key), after, v.FieldByIndex(f.index), f.enum) {
				return true
			}
		}
	case t.Kind() == reflect.Slice:
		return e.applyIndex(path, rest, v, enum)
	}
	return false
}

// applyIndex goes into an element, or appends one when the index is the list's length.
func (e *envVar) applyIndex(path, rest string, v reflect.Value, enum []string) bool {
	digits, after, _ := strings.Cut(rest, "_")
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || strconv.Itoa(i) != digits {
		return false
	}
	if i > v.Len() {
		e.beyond = fmt.Sprintf("%s has %d elements, so the next index is %d, not %d", path, v.Len(), v.Len(), i)
		return false
	}
	item := reflect.New(v.Type().Elem()).Elem()
	if i < v.Len() {
		item.Set(v.Index(i))
	} else {
		setDefaults(item)
	}
	if !e.apply(path+"["+digits+"]", after, item, enum) {
		return false
	}
	if i < v.Len() {
		v.Index(i).Set(item)
	} else {
		v.Set(reflect.Append(v, item))
	}
	return true
}

// set reads the value: one word for a scalar, words with commas for a list of scalars, YAML for anything else.
func (e *envVar) set(path string, v reflect.Value, enum []string) {
	src := newSource(e.name, []byte(e.value))
	e.places[path] = place{src: src}
	t := v.Type()
	if isScalar(t) {
		if err := setScalar(v, e.value, enum); err != nil {
			e.errs = append(e.errs, &Error{File: e.name, Path: path, Msg: err.Error(), cause: err})
		}
		return
	}
	if t.Kind() == reflect.Slice && isScalar(t.Elem()) && !strings.HasPrefix(strings.TrimSpace(e.value), "[") {
		e.setWords(path, v, enum)
		return
	}
	doc, fault := parse(src, []byte(e.value))
	if fault != nil {
		fault.Path = path
		fault.Snippet = ""
		e.errs = append(e.errs, fault)
		return
	}
	if doc == nil {
		v.SetZero()
		return
	}
	b := &binder{src: src, root: e.root, places: e.places, anchors: map[string]ast.Node{}}
	b.bind(path, doc, v, enum, 0)
	e.errs = append(e.errs, b.finish()...)
}

func (e *envVar) setWords(path string, v reflect.Value, enum []string) {
	out := reflect.MakeSlice(v.Type(), 0, 4)
	if strings.TrimSpace(e.value) != "" {
		for word := range strings.SplitSeq(e.value, ",") {
			item := reflect.New(v.Type().Elem()).Elem()
			if err := setScalar(item, strings.TrimSpace(word), enum); err != nil {
				e.errs = append(e.errs, &Error{File: e.name, Path: path, Msg: err.Error(), cause: err})
				return
			}
			out = reflect.Append(out, item)
		}
	}
	v.Set(out)
}

// cutKey takes the key off the front of rest: KAFKA_BROKERS without kafka is BROKERS.
func cutKey(rest, key string) (after string, ok bool) {
	after, ok = strings.CutPrefix(rest, envKey(key))
	if !ok || after == "" {
		return after, ok
	}
	return strings.CutPrefix(after, "_")
}

func envKey(key string) string { return strings.ToUpper(strings.ReplaceAll(key, "-", "_")) }

// envNames lists the variables that would be taken, lists with the indexes they have and the next one.
func envNames(root reflect.Value) []string {
	var names []string
	var walk func(prefix string, v reflect.Value, depth int)
	walk = func(prefix string, v reflect.Value, depth int) {
		t := v.Type()
		if depth > maxDepth {
			return
		}
		if prefix != strings.TrimSuffix(Prefix, "_") {
			names = append(names, prefix)
		}
		switch {
		case isScalar(t):
		case t.Kind() == reflect.Pointer:
			if v.IsNil() {
				v = reflect.New(t.Elem())
			}
			walk(prefix, v.Elem(), depth+1)
		case t.Kind() == reflect.Struct:
			for _, f := range fieldsOf(t) {
				walk(prefix+"_"+envKey(f.key), v.FieldByIndex(f.index), depth+1)
			}
		case t.Kind() == reflect.Slice && !isScalar(t.Elem()):
			for i := range v.Len() {
				walk(prefix+"_"+strconv.Itoa(i), v.Index(i), depth+1)
			}
			walk(prefix+"_"+strconv.Itoa(v.Len()), reflect.New(t.Elem()).Elem(), depth+1)
		}
	}
	walk(strings.TrimSuffix(Prefix, "_"), root, 0)
	return names
}
