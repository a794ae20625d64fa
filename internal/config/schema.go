package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"unicode"

	"github.com/invopop/jsonschema"
)

// Schema gives the JSON Schema of the struct that into points to, for editors; what it holds becomes the defaults.
func Schema(into any) ([]byte, error) {
	v := reflect.ValueOf(into)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: no schema of a %T: a struct is wanted", into)
	}
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		Anonymous:                  true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		// Types of several packages are called Config; by their bare names one would stand for the other.
		Namer: func(t reflect.Type) string { return t.PkgPath() + "." + t.Name() },
		// Fields without a tag reach the namer with their Go name; an empty name leaves them out.
		KeyNamer: func(name string) string {
			if unicode.IsUpper([]rune(name)[0]) {
				return ""
			}
			return name
		},
	}
	s := r.ReflectFromType(v.Type())
	s.Title = "Firn configuration"
	if err := addDefaults(s, v); err != nil {
		return nil, err
	}
	return json.MarshalIndent(s, "", "  ")
}

// addDefaults notes the value of each set scalar; secrets have none.
func addDefaults(s *jsonschema.Schema, v reflect.Value) error {
	for _, f := range fieldsOf(v.Type()) {
		inner := v.FieldByIndex(f.index)
		if s.Properties == nil {
			return nil
		}
		prop, ok := s.Properties.Get(f.key)
		if !ok {
			continue
		}
		for inner.Kind() == reflect.Pointer && !inner.IsNil() {
			inner = inner.Elem()
		}
		switch {
		case inner.IsZero() || isSecret(inner.Type()):
		case isScalar(inner.Type()):
			if m, ok := inner.Interface().(encoding.TextMarshaler); ok {
				text, err := m.MarshalText()
				if err != nil {
					return fmt.Errorf("config: default of %s: %w", f.key, err)
				}
				prop.Default = string(text)
				continue
			}
			prop.Default = inner.Interface()
		case inner.Kind() == reflect.Slice && isScalar(inner.Type().Elem()):
			prop.Default = inner.Interface()
		case inner.Kind() == reflect.Struct:
			if err := addDefaults(prop, inner); err != nil {
				return err
			}
		}
	}
	return nil
}
