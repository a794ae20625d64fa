package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/firnlake/firn/internal/units"
)

// setScalar reads text into v by v's type. The error says what would be right; it never quotes a secret.
func setScalar(v reflect.Value, text string, enum []string) error {
	if v.Kind() == reflect.Pointer {
		fresh := reflect.New(v.Type().Elem())
		if err := setScalar(fresh.Elem(), text, enum); err != nil {
			return err
		}
		v.Set(fresh)
		return nil
	}
	if len(enum) > 0 && !slices.Contains(enum, text) {
		return fmt.Errorf("%q is not one of the values that this key takes%s", text, oneOf(text, enum))
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil || text != "true" && text != "false" {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return badNumber(text, "a whole number", err)
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return badNumber(text, "a whole number from 0", err)
		}
		v.SetUint(n)
	case reflect.Float32, reflect.Float64:
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return badNumber(text, "a number", err)
		}
		v.SetFloat(n)
	default:
		return fmt.Errorf("a value of type %s cannot be configured", v.Type())
	}
	return nil
}

func badNumber(text, want string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is out of range", text)
	}
	return fmt.Errorf("%q is not %s", text, want)
}

func isSecret(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t == reflect.TypeFor[units.Secret]()
}

// form names how a value of t is written, for messages about the wrong shape.
func form(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return form(t.Elem())
	}
	if isScalar(t) {
		switch t.Kind() {
		case reflect.Bool:
			return "true or false"
		case reflect.String:
			return "one text"
		case reflect.Float32, reflect.Float64:
			return "a number"
		}
		if reflect.PointerTo(t).Implements(textUnmarshaler) {
			return "one value"
		}
		return "a whole number"
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		return "a list"
	default:
		return "a block of keys"
	}
}
