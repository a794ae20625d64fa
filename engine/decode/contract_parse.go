package decode

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/registry"
)

// Keywords that describe and never decide; they are read over.
var annotations = []string{"$schema", "$id", "$comment", "$anchor", "$vocabulary", "title", "description", "default", "examples",
	"deprecated", "readOnly", "writeOnly", "contentMediaType"}

// Keywords that mean something here, by the kind of type that they belong to.
var (
	commonKeywords = []string{"type", "enum", "const", "format", "$defs", "definitions", "$ref"}
	stringKeywords = []string{"minLength", "maxLength", "pattern", "contentEncoding"}
	numberKeywords = []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
	objectKeywords = []string{"properties", "required", "additionalProperties"}
	arrayKeywords  = []string{"items"}
	decimalExtras  = []string{"x-precision", "x-scale"}
)

var typeNames = []string{"string", "integer", "number", "boolean", "object", "array", "null"}

// Formats by JSON type. Formats of JSON Schema that only annotate a string are kept as strings.
var (
	stringFormats     = []string{"date-time", "date", "time", "uuid", "decimal", "byte", "binary"}
	integerFormats    = []string{"int32", "int64", "epoch-ms", "epoch-s", "epoch-us", "epoch-ns", "epoch-days", "time-ms", "time-us", "time-ns"}
	numberFormats     = []string{"double", "decimal"}
	annotationFormats = []string{"email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "iri",
		"iri-reference", "uri-template", "json-pointer", "relative-json-pointer", "regex", "duration", "password"}
)

// LoadContract reads a contract. Errors wrap ErrContract and name the JSON pointer and the nearest thing that works.
func LoadContract(raw []byte, name string) (*Contract, error) { return LoadJSONSchema(raw, nil, name) }

// LoadJSONSchema is LoadContract for a schema that refers to others by their names in the registry.
func LoadJSONSchema(raw []byte, refs []registry.Reference, name string) (*Contract, error) {
	doc, err := parseTree(raw, maxContractDepth)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is not a JSON document: %w", ErrContract, name, err)
	}
	p := contractParser{doc: doc, others: map[string]*tree{}}
	for _, r := range refs {
		if p.others[r.Name], err = parseTree([]byte(r.Text), maxContractDepth); err != nil {
			return nil, fmt.Errorf("%w: %s: the schema %s that it refers to is not a JSON document: %w", ErrContract, name, r.Name, err)
		}
	}
	root, err := p.schema(doc, "", 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %s%w", ErrContract, name, err)
	}
	c, err := newContract(name, root)
	if err != nil {
		return nil, err
	}
	if err := c.soften(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Contract) checkRoot() error {
	if c.root.kind != kindStruct {
		return fmt.Errorf("%w: %s is a %s at its top: it must be an object with properties, one per column", ErrContract, c.Name, kindNames[c.root.kind])
	}
	if c.root.nullable {
		return fmt.Errorf(`%w: %s#/type allows null for the whole event: write "type": "object"`, ErrContract, c.Name)
	}
	for _, f := range c.root.fields {
		if _, taken := ledger.OwnLike(f.name); taken {
			at := "/properties/" + engine.EscapePointer(f.name)
			if c.root.avro != nil || c.root.proto != nil {
				at = f.typ.pointer + " (" + f.name + ")"
			}
			return fmt.Errorf("%w: %s#%s: the name belongs to a column that firn writes itself; rename the field", ErrContract, c.Name, at)
		}
	}
	return nil
}

// maxContractTypes bounds what references to references may multiply a small file to; no table has as many columns.
const maxContractTypes = 10_000

// contractParser turns the document into value types.
type contractParser struct {
	doc    *tree
	others map[string]*tree // schemas that may be referred to, by name
	types  int              // made so far
}

// problem is an error at a pointer, printed as "#/properties/x: …" after the contract's name.
type problem struct{ pointer, text string }

func (e *problem) Error() string { return "#" + e.pointer + ": " + e.text }

func problemf(pointer, format string, args ...any) error {
	return &problem{pointer, fmt.Sprintf(format, args...)}
}

func (p *contractParser) schema(t *tree, at string, depth int) (*valueType, error) {
	if depth > maxContractDepth {
		return nil, problemf(at, "schemas nest deeper than %d (does a $ref refer to itself?); write the levels out", maxContractDepth)
	}
	if p.types++; p.types > maxContractTypes {
		return nil, problemf(at, "with its references followed the contract has more than %d schemas; take fields out", maxContractTypes)
	}
	if !t.isObj {
		return nil, problemf(at, "a schema is an object such as {\"type\":\"string\"}, this is %s", t.describe())
	}
	if ref := t.get("$ref"); ref != nil {
		return p.ref(t, ref, at, depth)
	}
	if value, where := t.orNull(); value != nil {
		v, err := p.schema(value, at+where, depth+1)
		if err == nil {
			v.nullable = true
		}
		return v, err
	}
	name, nullable, err := p.typeOf(t, at)
	if err != nil {
		return nil, err
	}
	v := &valueType{pointer: at, nullable: nullable}
	v.doc, _ = t.get("description").str()
	switch name {
	case "string":
		err = p.stringType(t, v, at)
	case "integer":
		err = p.integerType(t, v, at)
	case "number":
		err = p.numberType(t, v, at)
	case "boolean":
		v.kind = kindBool
		err = p.knownKeywords(t, at, "a boolean")
	case "array":
		err = p.arrayType(t, v, at, depth)
	default:
		err = p.objectType(t, v, at, depth)
	}
	if err != nil {
		return nil, err
	}
	return v, p.limits(t, v, at)
}

// orNull is the schema of the value in a choice of it and null, which is how generators of schemas write what may be null; nil
// where t is none, or says more.
func (t *tree) orNull() (value *tree, at string) {
	for _, key := range []string{"oneOf", "anyOf"} {
		list := t.get(key)
		if list == nil || len(list.vals) != 2 || slices.ContainsFunc(t.keys, func(k string) bool { return k != key && !slices.Contains(annotations, k) }) {
			continue
		}
		for i, v := range list.vals {
			if name, _ := v.get("type").str(); name == "null" {
				return list.vals[1-i], "/" + key + "/" + strconv.Itoa(1-i)
			}
		}
	}
	return nil, ""
}

// ref follows a reference inside the document, or to another one that the registry has for it.
func (p *contractParser) ref(t, ref *tree, at string, depth int) (*valueType, error) {
	target, _ := ref.str()
	file, place, _ := strings.Cut(target, "#")
	if other := p.others[file]; other != nil {
		defer func(doc *tree) { p.doc = doc }(p.doc)
		p.doc = other
	}
	inside := strings.HasPrefix(place, "/$defs/") || strings.HasPrefix(place, "/definitions/")
	if known := file == "" && inside || p.others[file] != nil && (place == "" || inside); !known {
		return nil, problemf(at+"/$ref", "only references inside the file work, \"#/$defs/name\", and those to schemas that the registry has as this one's references")
	}
	for _, k := range t.keys {
		if k != "$ref" && k != "$defs" && k != "definitions" && !slices.Contains(annotations, k) {
			return nil, problemf(at+"/"+engine.EscapePointer(k), "nothing but a description may stand beside $ref; move it into %s", target)
		}
	}
	def := p.doc
	for _, token := range strings.Split(place, "/")[1:] {
		token = engine.UnescapePointer(token)
		next := def.get(token)
		if next == nil {
			hint := ""
			if def.isObj {
				if n := nearest(token, def.keys); n != "" {
					hint = fmt.Sprintf("; did you mean %q?", n)
				}
			}
			return nil, problemf(at+"/$ref", "%q is not there: no %q%s", target, token, hint)
		}
		def = next
	}
	v, err := p.schema(def, place, depth+1)
	if err != nil {
		return nil, err
	}
	if doc, ok := t.get("description").str(); ok {
		v.doc = doc
	}
	return v, nil
}

// typeOf reads "type": a name, or a name and "null".
func (p *contractParser) typeOf(t *tree, at string) (name string, nullable bool, err error) {
	ty := t.get("type")
	if ty == nil {
		if t.get("properties") != nil {
			return "object", false, nil
		}
		return "", false, problemf(at, `"type" is missing: take one of %s`, strings.Join(typeNames[:6], ", "))
	}
	names := []*tree{ty}
	if ty.isArr {
		names = ty.vals
	}
	for i, n := range names {
		s, ok := n.str()
		if !ok || !slices.Contains(typeNames, s) {
			hint := "take one of " + strings.Join(typeNames, ", ")
			if near := nearest(s, typeNames); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			where := at + "/type"
			if ty.isArr {
				where += "/" + strconv.Itoa(i)
			}
			if !ok {
				return "", false, problemf(where, "a type is a name, this is %s; %s", n.describe(), hint)
			}
			return "", false, problemf(where, "unknown type %q; %s", s, hint)
		}
		switch {
		case s == "null":
			nullable = true
		case name == "":
			name = s
		case name == "number" && s == "integer" || name == "integer" && s == "number":
			name = "number"
		default:
			return "", false, problemf(at+"/type", `a column has one type; %s and %s cannot share one. A type and "null" works: ["%s","null"]`, name, s, name)
		}
	}
	if name == "" {
		return "", false, problemf(at+"/type", `null alone gives no column; name a type beside it: ["string","null"]`)
	}
	return name, nullable, nil
}

// knownKeywords refuses what would silently not be checked.
func (p *contractParser) knownKeywords(t *tree, at, what string, extra ...[]string) error {
	allowed := slices.Concat(append(extra, commonKeywords)...)
	for _, k := range t.keys {
		if slices.Contains(allowed, k) || slices.Contains(annotations, k) || (strings.HasPrefix(k, "x-") && !slices.Contains(decimalExtras, k)) {
			continue
		}
		hint := "supported here: " + strings.Join(allowed, ", ")
		if n := nearest(k, allowed); n != "" {
			hint = fmt.Sprintf("the nearest supported keyword is %q", n)
		}
		return problemf(at+"/"+engine.EscapePointer(k), "keyword %q is not supported for %s; %s", k, what, hint)
	}
	return nil
}

// format returns the schema's format when it is one of those that decide; it refuses unknown ones.
func (p *contractParser) format(t *tree, at, typ string, deciding, ignored []string) (string, error) {
	f := t.get("format")
	if f == nil {
		return "", nil
	}
	s, ok := f.str()
	switch {
	case ok && slices.Contains(deciding, s):
		return s, nil
	case ok && slices.Contains(ignored, s):
		return "", nil
	}
	hint := "take one of " + strings.Join(deciding, ", ")
	if !ok {
		return "", problemf(at+"/format", "a format is a name, this is %s; %s", f.describe(), hint)
	}
	if n := nearest(s, deciding); n != "" {
		hint = fmt.Sprintf("the nearest supported format is %q", n)
	}
	return "", problemf(at+"/format", "format %q is not supported for type %s; %s", s, typ, hint)
}

func (p *contractParser) stringType(t *tree, v *valueType, at string) error {
	if err := p.knownKeywords(t, at, "a string", stringKeywords, decimalKeys(t)); err != nil {
		return err
	}
	f, err := p.format(t, at, "string", stringFormats, annotationFormats)
	if err != nil {
		return err
	}
	if enc := t.get("contentEncoding"); enc != nil {
		if s, _ := enc.str(); s != "base64" {
			return problemf(at+"/contentEncoding", "only \"base64\" is supported")
		}
		if v.coded = f == "decimal"; !v.coded {
			f = "byte"
		}
	}
	kinds := map[string]kind{"": kindString, "date-time": kindTimestamp, "date": kindDate, "time": kindTime, "uuid": kindUUID,
		"decimal": kindDecimal, "byte": kindBinary, "binary": kindBinary}
	v.kind = kinds[f]
	if v.kind == kindDecimal {
		v.text = true
		return p.decimal(t, v, at)
	}
	return nil
}

func decimalKeys(t *tree) []string {
	if s, _ := t.get("format").str(); s == "decimal" {
		return decimalExtras
	}
	return nil
}

func (p *contractParser) integerType(t *tree, v *valueType, at string) error {
	if err := p.knownKeywords(t, at, "an integer", numberKeywords); err != nil {
		return err
	}
	f, err := p.format(t, at, "integer", integerFormats, nil)
	switch f {
	case "int32":
		v.kind = kindInt
	case "epoch-s":
		v.kind, v.epochUnit = kindEpoch, 1_000_000
	case "epoch-ms":
		v.kind, v.epochUnit = kindEpoch, 1_000
	case "epoch-us":
		v.kind, v.epochUnit = kindEpoch, 1
	case "epoch-ns":
		v.kind, v.epochUnit, v.nanos = kindEpoch, 1, true
	case "epoch-days":
		v.kind, v.coded = kindDate, true
	case "time-ms":
		v.kind, v.coded, v.epochUnit = kindTime, true, 1_000
	case "time-us":
		v.kind, v.coded, v.epochUnit = kindTime, true, 1
	case "time-ns":
		v.kind, v.coded, v.epochUnit, v.nanos = kindTime, true, 1, true
	default:
		v.kind = kindLong
	}
	return err
}

func (p *contractParser) numberType(t *tree, v *valueType, at string) error {
	if err := p.knownKeywords(t, at, "a number", numberKeywords, decimalKeys(t)); err != nil {
		return err
	}
	f, err := p.format(t, at, "number", numberFormats, nil)
	if err != nil {
		return err
	}
	if v.kind = kindDouble; f == "decimal" {
		v.kind = kindDecimal
		return p.decimal(t, v, at)
	}
	return nil
}

func (p *contractParser) decimal(t *tree, v *valueType, at string) error {
	read := func(key string, lo, hi int) (int, error) {
		n := t.get(key)
		if n == nil {
			return 0, problemf(at, "a decimal needs %q (%d to %d)", key, lo, hi)
		}
		num, _ := n.scalar.(json.Number)
		i, err := strconv.Atoi(num.String())
		if err != nil || i < lo || i > hi {
			return 0, problemf(at+"/"+key, "must be a whole number from %d to %d", lo, hi)
		}
		return i, nil
	}
	var err error
	if v.precision, err = read("x-precision", 1, 38); err != nil {
		return err
	}
	v.scale, err = read("x-scale", 0, v.precision)
	return err
}

func (p *contractParser) arrayType(t *tree, v *valueType, at string, depth int) error {
	v.kind = kindList
	if err := p.knownKeywords(t, at, "an array", arrayKeywords); err != nil {
		return err
	}
	items := t.get("items")
	if items == nil {
		return problemf(at, `an array needs "items": the schema of its elements`)
	}
	elem, err := p.schema(items, at+"/items", depth+1)
	v.elem = elem
	return err
}

func (p *contractParser) objectType(t *tree, v *valueType, at string, depth int) error {
	if err := p.knownKeywords(t, at, "an object", objectKeywords); err != nil {
		return err
	}
	props, extra := t.get("properties"), t.get("additionalProperties")
	if extra != nil && extra.isObj {
		if props != nil {
			return problemf(at+"/additionalProperties", "an object has either properties (a struct) or a schema for all its values (a map), not both")
		}
		v.kind = kindMap
		if t.get("required") != nil {
			return problemf(at+"/required", "a map has no required keys; give the object properties instead")
		}
		elem, err := p.schema(extra, at+"/additionalProperties", depth+1)
		v.elem = elem
		return err
	}
	v.kind = kindStruct
	if props == nil || !props.isObj || len(props.keys) == 0 {
		return problemf(at, `an object needs "properties" (a struct) or a schema in "additionalProperties" (a map of strings to values)`)
	}
	if extra != nil {
		open, ok := extra.scalar.(bool)
		if !ok {
			return problemf(at+"/additionalProperties", "must be a schema, true or false")
		}
		v.closed = !open
	}
	lower := map[string]string{}
	for i, name := range props.keys {
		here := at + "/properties/" + engine.EscapePointer(name)
		if other, twice := lower[strings.ToLower(name)]; twice {
			return problemf(here, "differs from %q in upper and lower case only, which SQL engines do not tell apart; rename one", other)
		}
		if name == "" || strings.Contains(name, "\x00") {
			return problemf(here, "a column needs a name of at least one character and no NUL")
		}
		lower[strings.ToLower(name)] = name
		ft, err := p.schema(props.vals[i], here, depth+1)
		if err != nil {
			return err
		}
		v.fields = append(v.fields, field{name: name, typ: ft})
	}
	return p.required(t, v, at)
}

func (p *contractParser) required(t *tree, v *valueType, at string) error {
	req := t.get("required")
	if req == nil {
		return nil
	}
	if !req.isArr {
		return problemf(at+"/required", "must be a list of property names, this is %s", req.describe())
	}
	for i, r := range req.vals {
		name, _ := r.str()
		idx := slices.IndexFunc(v.fields, func(f field) bool { return f.name == name })
		if idx < 0 {
			hint := ""
			if n := nearest(name, t.get("properties").keys); n != "" {
				hint = fmt.Sprintf("; did you mean %q?", n)
			}
			return problemf(at+"/required/"+strconv.Itoa(i), "%q is not among the properties%s", name, hint)
		}
		v.fields[idx].required = true
	}
	return nil
}
