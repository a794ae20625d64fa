package config

import (
	"bytes"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// sourceColumn is where the comments start.
const sourceColumn = 56

// Show prints the struct that into points to as YAML that reads back, with literal secrets redacted.
func Show(into any) ([]byte, error) { return ShowWith(into, nil) }

// ShowWith also says behind each value where it came from, when sources is not nil.
func ShowWith(into any, sources *Sources) ([]byte, error) {
	v := reflect.ValueOf(into)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, fmt.Errorf("config: nothing to show in a nil %T", into)
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: cannot show a %T: a struct is wanted", into)
	}
	p := &printer{sources: sources}
	if err := p.block("", v, 0); err != nil {
		return nil, err
	}
	return p.out.Bytes(), nil
}

type printer struct {
	out     bytes.Buffer
	sources *Sources
}

// line writes one line with its source behind it; scalars have a path, headings none.
func (p *printer) line(text, path string) {
	if p.sources == nil || path == "" {
		p.out.WriteString(text + "\n")
		return
	}
	fmt.Fprintf(&p.out, "%-*s # %s\n", sourceColumn, text, p.sources.Of(path))
}

func (p *printer) block(path string, v reflect.Value, indent int) error {
	for _, f := range fieldsOf(v.Type()) {
		if err := p.value(strings.Repeat(" ", indent)+f.key+":", joinPath(path, f.key), v.FieldByIndex(f.index), indent); err != nil {
			return err
		}
	}
	return nil
}

// value prints head (a key, or a list's dash) and v behind or below it.
func (p *printer) value(head, path string, v reflect.Value, indent int) error {
	for v.Kind() == reflect.Pointer && !(isScalar(v.Type()) && v.Type().Implements(textMarshaler)) {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if text, ok, err := inline(v); err != nil {
		return fmt.Errorf("config: %s: %w", path, err)
	} else if ok {
		p.line(head+" "+text, path)
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		p.line(head, "")
		return p.block(path, v, indent+2)
	case reflect.Slice:
		p.line(head, "")
		for i := range v.Len() {
			if err := p.item(path+"["+strconv.Itoa(i)+"]", v.Index(i), indent+2); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		p.line(head, "")
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			quoted, err := yamlText(k.String())
			if err != nil {
				return err
			}
			if err := p.value(strings.Repeat(" ", indent+2)+quoted+":", joinPath(path, k.String()), v.MapIndex(k), indent+2); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("config: %s: a value of type %s cannot be shown", path, v.Type())
}

// item prints a list element: its first key stands behind the dash.
func (p *printer) item(path string, v reflect.Value, indent int) error {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || isScalar(v.Type()) {
		return p.value(strings.Repeat(" ", indent)+"-", path, v, indent)
	}
	inner := &printer{sources: p.sources}
	if err := inner.block(path, v, indent+2); err != nil {
		return err
	}
	text := inner.out.Bytes()
	if len(text) > indent {
		text[indent] = '-'
	}
	p.out.Write(text)
	return nil
}

// inline is the one-line form of scalars, of short lists of scalars and of what is empty.
func inline(v reflect.Value) (string, bool, error) {
	if isScalar(v.Type()) {
		text, err := scalarYAML(v)
		return text, true, err
	}
	switch v.Kind() {
	case reflect.Map:
		return "{}", v.Len() == 0, nil
	case reflect.Slice:
		if v.Len() > 0 && !isScalar(v.Type().Elem()) {
			return "", false, nil
		}
		parts := make([]string, v.Len())
		for i := range parts {
			text, err := scalarYAML(v.Index(i))
			if err != nil {
				return "", false, err
			}
			// In a flow list a comma or bracket would end the word.
			if strings.ContainsAny(text, ",[]{}") && !strings.HasPrefix(text, `"`) {
				text = strconv.Quote(strings.Trim(text, "'"))
			}
			parts[i] = text
		}
		return "[" + strings.Join(parts, ", ") + "]", true, nil
	case reflect.Interface:
		if v.IsNil() {
			return "null", true, nil
		}
		text, err := yaml.MarshalWithOptions(v.Interface(), yaml.Flow(true))
		return strings.TrimSpace(string(text)), true, err
	}
	return "", false, nil
}

func scalarYAML(v reflect.Value) (string, error) {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return "", err
		}
		return yamlText(string(text))
	}
	if v.Kind() == reflect.String {
		return yamlText(v.String())
	}
	return fmt.Sprint(v.Interface()), nil
}

// yamlText quotes where a plain word would be read as something else.
func yamlText(s string) (string, error) {
	if strings.ContainsAny(s, "\n\r\t\"\\") {
		return strconv.Quote(s), nil
	}
	b, err := yaml.Marshal(s)
	return strings.TrimSpace(string(b)), err
}
