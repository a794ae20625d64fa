package decode

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// avroKind is a type of the Avro specification 1.12.
type avroKind uint8

const (
	avroNull avroKind = iota + 1
	avroBoolean
	avroInt
	avroLong
	avroFloat
	avroDouble
	avroBytes
	avroString
	avroRecord
	avroEnum
	avroArray
	avroMap
	avroUnion
	avroFixed
)

var avroNames = map[avroKind]string{
	avroNull: "null", avroBoolean: "boolean", avroInt: "int", avroLong: "long", avroFloat: "float", avroDouble: "double", avroBytes: "bytes",
	avroString: "string", avroRecord: "record", avroEnum: "enum", avroArray: "array", avroMap: "map", avroUnion: "union", avroFixed: "fixed",
}

var avroPrimitives = map[string]avroKind{"null": avroNull, "boolean": avroBoolean, "int": avroInt, "long": avroLong, "float": avroFloat,
	"double": avroDouble, "bytes": avroBytes, "string": avroString}

// Bounds of a schema, which may come from anybody who may write to the registry.
const (
	// maxAvroNesting is how deep the JSON of a schema may nest; a record takes four levels.
	maxAvroNesting = 512
	// maxAvroTypes is how many types one schema may spell out.
	maxAvroTypes = maxContractTypes
	// maxFixedSize is the largest fixed; its bytes come with every value.
	maxFixedSize = 1 << 20
)

// avroType is a parsed schema. Named types are shared between their definition and what refers to them, so that a
// schema may contain itself.
type avroType struct {
	kind    avroKind
	at      string // JSON pointer in the schema
	doc     string
	name    string // full name of a record, enum or fixed
	aliases []string
	logical string // only one that the specification knows and that is valid here

	precision, scale int // of decimal
	size             int // of fixed
	fields           []avroField
	symbols          []string
	symbolDefault    string
	elem             *avroType   // of array and map
	branches         []*avroType // of union
}

type avroField struct {
	name    string
	of      string // what writers call it, where it is not name (avroMerger)
	aliases []string
	doc     string
	typ     *avroType
	def     *tree // nil when the field has no default
}

// String names the type for messages.
func (t *avroType) String() string {
	s := avroNames[t.kind]
	switch {
	case t.name != "":
		s += " " + t.name
	case t.kind == avroUnion:
		parts := make([]string, len(t.branches))
		for i, b := range t.branches {
			parts[i] = b.String()
		}
		s = "[" + strings.Join(parts, ", ") + "]"
	}
	if t.logical == "decimal" {
		return s + fmt.Sprintf(" (decimal(%d,%d))", t.precision, t.scale)
	}
	if t.logical != "" {
		s += " (" + t.logical + ")"
	}
	return s
}

// avroParser turns schema documents into types; names that one document defines can be used by the next.
type avroParser struct {
	names map[string]*avroType
	types int
}

// parseAvro reads a schema; those that it refers to come first. Errors name the JSON pointer.
func parseAvro(raw string, refs []string) (*avroType, error) {
	p := avroParser{names: map[string]*avroType{}}
	for i, ref := range refs {
		if _, err := p.document(ref); err != nil {
			return nil, fmt.Errorf("referenced schema %d: %w", i+1, err)
		}
	}
	return p.document(raw)
}

func (p *avroParser) document(raw string) (*avroType, error) {
	if s := strings.TrimSpace(raw); avroPrimitives[s] != 0 { // some registries give "string" without its quotes
		raw = strconv.Quote(s)
	}
	doc, err := parseTree([]byte(raw), maxAvroNesting)
	if err != nil {
		return nil, fmt.Errorf("not a JSON document: %w", err)
	}
	return p.schema(doc, "", "")
}

// schema reads one schema inside the namespace ns.
func (p *avroParser) schema(t *tree, at, ns string) (*avroType, error) {
	if p.types++; p.types > maxAvroTypes {
		return nil, problemf(at, "the schema spells out more than %d types", maxAvroTypes)
	}
	switch {
	case t.isArr:
		return p.union(t, at, ns)
	case t.isObj:
		return p.object(t, at, ns)
	}
	name, ok := t.str()
	if !ok {
		return nil, problemf(at, "a schema is a type's name, an object or a list of schemas, this is %s", t.describe())
	}
	return p.named(name, at, ns)
}

// named finds what a name stands for: a primitive, or a type defined before.
func (p *avroParser) named(name, at, ns string) (*avroType, error) {
	if k := avroPrimitives[name]; k != 0 {
		return &avroType{kind: k, at: at}, nil
	}
	if !strings.Contains(name, ".") && ns != "" {
		if t := p.names[ns+"."+name]; t != nil {
			return t, nil
		}
	}
	if t := p.names[name]; t != nil {
		return t, nil
	}
	hint := ""
	known := []string{"record", "enum", "array", "map", "fixed"}
	for n := range p.names {
		known = append(known, n)
	}
	for n := range avroPrimitives {
		known = append(known, n)
	}
	slices.Sort(known)
	if n := nearest(name, known); n != "" {
		hint = fmt.Sprintf("; did you mean %q?", n)
	}
	return nil, problemf(at, "no type %q was defined before%s", cut(name, maxPlaceName), hint)
}

func (p *avroParser) union(t *tree, at, ns string) (*avroType, error) {
	u := &avroType{kind: avroUnion, at: at}
	seen := map[string]bool{}
	for i, v := range t.vals {
		here := at + "/" + strconv.Itoa(i)
		b, err := p.schema(v, here, ns)
		if err != nil {
			return nil, err
		}
		key := avroNames[b.kind]
		if b.name != "" {
			key = b.name
		}
		if b.kind == avroUnion || seen[key] {
			return nil, problemf(here, "a union may hold neither a union nor %s twice", key)
		}
		seen[key] = true
		u.branches = append(u.branches, b)
	}
	if len(u.branches) == 0 {
		return nil, problemf(at, "a union needs at least one type")
	}
	return u, nil
}

func (p *avroParser) object(t *tree, at, ns string) (*avroType, error) {
	ty := t.get("type")
	if ty == nil {
		return nil, problemf(at, `"type" is missing`)
	}
	name, ok := ty.str()
	if !ok { // {"type": {"type": "array", …}}
		return p.schema(ty, at+"/type", ns)
	}
	out := &avroType{at: at}
	out.doc, _ = t.get("doc").str()
	var err error
	switch name {
	case "record", "error":
		out.kind = avroRecord
		err = p.record(t, out, at, ns)
	case "enum":
		out.kind = avroEnum
		err = p.enum(t, out, at, ns)
	case "fixed":
		out.kind = avroFixed
		if _, err = p.define(t, out, at, ns); err == nil {
			out.size, err = intOf(t.get("size"), at+"/size", 0, maxFixedSize)
		}
	case "array":
		out.kind = avroArray
		out.elem, err = p.inner(t, "items", at, ns)
	case "map":
		out.kind = avroMap
		out.elem, err = p.inner(t, "values", at, ns)
	default:
		if out, err = p.named(name, at+"/type", ns); err == nil && out.name != "" {
			return out, nil // a reference; what stands beside it means nothing
		}
	}
	if err != nil {
		return nil, err
	}
	out.readLogical(t)
	return out, nil
}

func (p *avroParser) inner(t *tree, key, at, ns string) (*avroType, error) {
	v := t.get(key)
	if v == nil {
		return nil, problemf(at, "%q is missing", key)
	}
	return p.schema(v, at+"/"+key, ns)
}

// define reads name, namespace and aliases and makes the name known; it returns the namespace inside.
func (p *avroParser) define(t *tree, out *avroType, at, ns string) (string, error) {
	name, _ := t.get("name").str()
	if name == "" {
		return "", problemf(at, "a %s needs a name", avroNames[out.kind])
	}
	if own := t.get("namespace"); own != nil {
		ns, _ = own.str()
	}
	out.name = fullName(name, ns)
	if out.name != strings.Trim(out.name, ".") || avroPrimitives[out.name] != 0 {
		return "", problemf(at+"/name", "%q is not a name", cut(name, maxPlaceName))
	}
	if i := strings.LastIndexByte(out.name, '.'); i >= 0 {
		ns = out.name[:i]
	} else {
		ns = ""
	}
	aliases, err := namesOf(t.get("aliases"), at+"/aliases")
	if err != nil {
		return "", err
	}
	for _, a := range aliases {
		out.aliases = append(out.aliases, fullName(a, ns))
	}
	if p.names[out.name] != nil {
		return "", problemf(at+"/name", "%q is defined twice", out.name)
	}
	p.names[out.name] = out
	return ns, nil
}

func fullName(name, ns string) string {
	if strings.Contains(name, ".") || ns == "" {
		return name
	}
	return ns + "." + name
}

func shortName(full string) string { return full[strings.LastIndexByte(full, '.')+1:] }

// namesOf reads a list of strings; nil gives none.
func namesOf(t *tree, at string) ([]string, error) {
	if t == nil {
		return nil, nil
	}
	if !t.isArr {
		return nil, problemf(at, "must be a list of names, this is %s", t.describe())
	}
	out := make([]string, len(t.vals))
	for i, v := range t.vals {
		s, ok := v.str()
		if !ok || s == "" {
			return nil, problemf(at+"/"+strconv.Itoa(i), "must be a name, this is %s", v.describe())
		}
		out[i] = s
	}
	return out, nil
}

func intOf(t *tree, at string, lo, hi int) (int, error) {
	if t != nil {
		if num, ok := t.scalar.(json.Number); ok {
			if i, err := strconv.Atoi(num.String()); err == nil && i >= lo && i <= hi {
				return i, nil
			}
		}
	}
	return 0, problemf(at, "must be a whole number from %d to %d", lo, hi)
}

func (p *avroParser) record(t *tree, out *avroType, at, ns string) error {
	ns, err := p.define(t, out, at, ns)
	if err != nil {
		return err
	}
	fields := t.get("fields")
	if fields == nil || !fields.isArr {
		return problemf(at, `a record needs a list of "fields"`)
	}
	seen := map[string]bool{}
	for i, f := range fields.vals {
		here := at + "/fields/" + strconv.Itoa(i)
		name, _ := f.get("name").str()
		if name == "" || strings.Contains(name, "\x00") {
			return problemf(here, "a field needs a name")
		}
		if seen[name] {
			return problemf(here+"/name", "the field %q is there twice", cut(name, maxPlaceName))
		}
		seen[name] = true
		af := avroField{name: name, def: f.get("default")}
		af.doc, _ = f.get("doc").str()
		if af.aliases, err = namesOf(f.get("aliases"), here+"/aliases"); err != nil {
			return err
		}
		if af.typ, err = p.inner(f, "type", here, ns); err != nil {
			return err
		}
		out.fields = append(out.fields, af)
	}
	return nil
}

func (p *avroParser) enum(t *tree, out *avroType, at, ns string) error {
	if _, err := p.define(t, out, at, ns); err != nil {
		return err
	}
	var err error
	if out.symbols, err = namesOf(t.get("symbols"), at+"/symbols"); err != nil {
		return err
	}
	if len(out.symbols) == 0 {
		return problemf(at, `an enum needs "symbols"`)
	}
	if def := t.get("default"); def != nil {
		s, _ := def.str()
		if !slices.Contains(out.symbols, s) {
			return problemf(at+"/default", "is none of the symbols")
		}
		out.symbolDefault = s
	}
	return nil
}

// readLogical takes a logical type that is valid for the type; the specification says that any other is ignored.
func (t *avroType) readLogical(obj *tree) {
	name, _ := obj.get("logicalType").str()
	valid := false
	switch name {
	case "decimal":
		if t.kind == avroBytes || t.kind == avroFixed {
			most := math.MaxInt32
			if t.kind == avroFixed { // the digits that so many bytes hold for sure
				most = int(math.Floor(math.Log10(2) * float64(8*t.size-1)))
			}
			precision, err := intOf(obj.get("precision"), "", 1, most)
			scale := 0
			if s := obj.get("scale"); err == nil && s != nil {
				scale, err = intOf(s, "", 0, precision)
			}
			if valid = err == nil; valid {
				t.precision, t.scale = precision, scale
			}
		}
	case "uuid":
		valid = t.kind == avroString || (t.kind == avroFixed && t.size == 16)
	case "date", "time-millis":
		valid = t.kind == avroInt
	case "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
		"local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos":
		valid = t.kind == avroLong
	case "duration":
		valid = t.kind == avroFixed && t.size == 12
	}
	if valid {
		t.logical = name
	}
}
