package decode

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

// valuePlan says how one value is read and where it goes.
type valuePlan struct {
	kind      kind
	nullable  bool
	wide      bool // kindInt into a long column, kindFloat into a double one
	text      bool // a decimal written as a string
	precision int
	scale     int
	epochUnit int64
	coded     bool // valueType says what these are
	nanos     bool
	col       *column
	checks    *checks
	obj       *objectPlan // kindStruct
	elem      *valuePlan  // kindList, kindMap
	name      string      // JSON type, for messages
	depth     int         // nesting of the value itself when it is a list or a map
	avro      *avroType   // of the reader's schema
	proto     *protoValue
}

// objectPlan is a struct's fields in the contract's order.
type objectPlan struct {
	col    *column
	fields []fieldPlan
	index  map[string]int
	first  int // the field that came first in the last object that was not as predicted
	closed bool
	depth  int
	rest   *column // of the members that no field names; nil where they are read over
}

// fieldPlan is one field, with its key as a token that is compared in place.
type fieldPlan struct {
	keyToken
	val      valuePlan
	next     int // the field that is expected after this one
	name     string
	required bool
	demanded bool // the table requires it, so that no row may lack it
	absent   bool // a writer of Protobuf's does not have it: null
}

// keyToken is `"name":` cut into words of eight bytes.
type keyToken struct {
	head, mask uint64
	mid, tail  uint64
	n          int
	text       string
}

func newKeyToken(name string) keyToken {
	quoted, _ := json.Marshal(name) // a string always marshals
	raw := quoted
	if !strings.ContainsAny(name, "\"\\\x7f<>&\u2028\u2029") && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		raw = []byte(`"` + name + `"`)
	}
	k := keyToken{text: string(raw) + ":"}
	k.n = len(k.text)
	padded := append([]byte(k.text), make([]byte, 8)...)
	k.head, k.mask = binary.LittleEndian.Uint64(padded), ^uint64(0)
	if k.n < 8 {
		k.mask = 1<<(8*k.n) - 1
	}
	if k.n > 8 {
		k.tail = binary.LittleEndian.Uint64(padded[k.n-8:])
	}
	if k.n > 16 {
		k.mid = binary.LittleEndian.Uint64(padded[8:])
	}
	return k
}

// ends tells whether a token of more than eight bytes, of which the first eight stand at p, stands there whole. b must reach 32
// bytes beyond p.
func (k *keyToken) ends(b []byte, p int) bool {
	if p+k.n > len(b) || load64(b, p+k.n-8) != k.tail {
		return false
	}
	if k.n <= 16 {
		return true
	}
	if k.n <= 24 {
		return load64(b, p+8) == k.mid
	}
	return string(b[p:p+k.n]) == k.text
}

// planner joins a contract with a table's schema.
type planner struct {
	contract *Contract
	alloc    memory.Allocator
	maxDepth int
	flags    *column // of ledger.ColViolations, once planned
	extras   extraColumns
}

func (pl *planner) errorf(place, format string, args ...any) error {
	return fmt.Errorf("%w: contract %s and the table do not fit at column %s: %s", ErrContract, pl.contract.Name, place, fmt.Sprintf(format, args...))
}

// fills tells the columns of the ledger that the rows of this contract have. Others that a table has stay null.
func (pl *planner) fills(name string) bool {
	switch name {
	case ledger.ColIndex:
		return pl.contract.lines
	case ledger.ColTopic:
		return pl.contract.topics
	}
	return ledger.IsColumn(name)
}

// root plans the whole table. The columns come back in the table's order, those of the contract under the plan.
func (pl *planner) root(fields []iceberg.NestedField, arrowFields []arrow.Field, isLedger func(string) bool) (*column, *objectPlan, error) {
	col := &column{layout: layoutStruct, alloc: pl.alloc}
	obj := &objectPlan{col: col, closed: pl.contract.root.closed, depth: 1}
	for i, f := range fields {
		if pl.fills(f.Name) {
			k, err := pl.leaf(arrowFields[i].Type)
			if err != nil {
				return nil, nil, err
			}
			col.kids = append(col.kids, k)
			continue
		}
		if f.Name == ledger.ColViolations && pl.contract.flags() {
			if !isStringList(f.Type) {
				return nil, nil, pl.errorf(f.Name, "it is a %s and must be a list<string>: rename it, firn adds its own", f.Type)
			}
			text := &column{dt: arrowFields[i].Type.(*arrow.ListType).Elem(), layout: layoutBytes, alloc: pl.alloc}
			pl.flags = &column{dt: arrowFields[i].Type, layout: layoutList, alloc: pl.alloc, kids: []*column{text}}
			col.kids = append(col.kids, pl.flags)
			continue
		}
		if e := pl.contract.extra(f.Name); e != nil {
			k, err := pl.extraColumn(e, f, arrowFields[i].Type)
			if err != nil {
				return nil, nil, err
			}
			col.kids = append(col.kids, k)
			continue
		}
		k, err := pl.structField(obj, pl.contract.root, f, arrowFields[i].Type, "")
		if err != nil {
			return nil, nil, err
		}
		col.kids = append(col.kids, k)
	}
	obj.finish(pl.contract.root)
	return col, obj, nil
}

// structField plans one column of a struct: by the contract's field of that name, or null in every row.
func (pl *planner) structField(obj *objectPlan, t *valueType, f iceberg.NestedField, dt arrow.DataType, path string) (*column, error) {
	i := slices.IndexFunc(t.fields, func(c field) bool { return c.inTable() == f.Name })
	if i < 0 {
		if f.Required {
			return nil, pl.errorf(path+f.Name, "the table requires it, the contract has no such field; make the column optional or add the field as required")
		}
		return &column{dt: dt, layout: layoutNulls, alloc: pl.alloc}, nil
	}
	c := t.fields[i]
	if f.Required && (!c.required || c.typ.nullable) {
		return nil, pl.errorf(path+f.Name, "the table requires it, the contract (#%s) lets it be absent or null; make the column optional, or the field required and not null", c.typ.pointer)
	}
	val, err := pl.value(c.typ, f.Type, dt, path+f.Name, obj.depth+1)
	if err != nil {
		return nil, err
	}
	obj.fields = append(obj.fields, fieldPlan{keyToken: newKeyToken(c.name), val: val, name: c.name, required: c.required, demanded: f.Required})
	return val.col, nil
}

// finish puts the fields into the contract's order, which predicts the order of keys.
func (o *objectPlan) finish(t *valueType) {
	order := make(map[string]int, len(t.fields))
	for i, f := range t.fields {
		order[f.name] = i
	}
	slices.SortFunc(o.fields, func(a, b fieldPlan) int { return order[a.name] - order[b.name] })
	o.index = make(map[string]int, len(o.fields))
	for i := range o.fields {
		o.index[o.fields[i].name] = i
		o.fields[i].next = (i + 1) % len(o.fields)
	}
}

// column returns the column at a dotted path of fields that are structs up to the last.
func (o *objectPlan) column(path string) *column {
	head, rest, nested := strings.Cut(path, ".")
	i, ok := o.index[head]
	switch {
	case !ok:
		return nil
	case !nested:
		return o.fields[i].val.col
	case o.fields[i].val.obj == nil:
		return nil
	}
	return o.fields[i].val.obj.column(rest)
}

func (pl *planner) value(t *valueType, it iceberg.Type, dt arrow.DataType, path string, depth int) (valuePlan, error) {
	v := valuePlan{kind: t.kind, nullable: t.nullable, text: t.text, precision: t.precision, scale: t.scale, epochUnit: t.epochUnit, coded: t.coded, nanos: t.nanos,
		checks: t.checks, name: t.jsonKind(), depth: depth, avro: t.avro, proto: t.proto}
	if nests := t.kind >= kindStruct; nests && depth > pl.maxDepth {
		return v, pl.errorf(path, "the contract nests deeper than max_depth = %d", pl.maxDepth)
	}
	var err error
	switch t.kind {
	case kindStruct:
		err = pl.structValue(&v, t, it, dt, path, depth)
	case kindList:
		lt, ok := it.(*iceberg.ListType)
		if !ok {
			return v, pl.incompatible(t, it, path)
		}
		if lt.ElementRequired && t.elem.nullable {
			return v, pl.errorf(path, "the table requires list elements, the contract (#%s) lets them be null", t.elem.pointer)
		}
		elem, err := pl.value(t.elem, lt.Element, dt.(*arrow.ListType).Elem(), path+".element", depth+1)
		v.elem, v.col = &elem, &column{dt: dt, layout: layoutList, alloc: pl.alloc, kids: []*column{elem.col}}
		return v, err
	case kindMap:
		mt, ok := it.(*iceberg.MapType)
		if !ok || !mt.KeyType.Equals(iceberg.PrimitiveTypes.String) {
			return v, pl.incompatible(t, it, path)
		}
		if mt.ValueRequired && t.elem.nullable {
			return v, pl.errorf(path, "the table requires map values, the contract (#%s) lets them be null", t.elem.pointer)
		}
		am := dt.(*arrow.MapType)
		elem, err := pl.value(t.elem, mt.ValueType, am.ItemType(), path+".value", depth+1)
		key := &column{dt: am.KeyType(), layout: layoutBytes, alloc: pl.alloc}
		v.elem, v.col = &elem, &column{dt: dt, layout: layoutMap, alloc: pl.alloc, kids: []*column{key, elem.col}}
		return v, err
	default:
		if !storable(t, it) {
			return v, pl.incompatible(t, it, path)
		}
		v.wide = widens(t, it)
		v.col, err = pl.leaf(dt)
	}
	return v, err
}

func (pl *planner) structValue(v *valuePlan, t *valueType, it iceberg.Type, dt arrow.DataType, path string, depth int) error {
	st, ok := it.(*iceberg.StructType)
	if !ok {
		return pl.incompatible(t, it, path)
	}
	v.col = &column{dt: dt, layout: layoutStruct, alloc: pl.alloc}
	v.obj = &objectPlan{col: v.col, closed: t.closed, depth: depth}
	for i, f := range st.FieldList {
		k, err := pl.structField(v.obj, t, f, dt.(*arrow.StructType).Field(i).Type, path+".")
		if err != nil {
			return err
		}
		v.col.kids = append(v.col.kids, k)
	}
	v.obj.finish(t)
	return nil
}

// storable tells whether a column can hold every value that the contract's type allows, without loss.
func storable(t *valueType, it iceberg.Type) bool {
	if t.kind == kindDecimal {
		d, ok := it.(iceberg.DecimalType)
		return ok && d.Scale() == t.scale && d.Precision() >= t.precision
	}
	var ids idSource
	return it.Equals(icebergType(t, &ids)) || widens(t, it)
}

// widens tells whether the column is of the wider type that Iceberg may promote the contract's to.
func widens(t *valueType, it iceberg.Type) bool {
	return t.kind == kindInt && it.Equals(iceberg.PrimitiveTypes.Int64) || t.kind == kindFloat && it.Equals(iceberg.PrimitiveTypes.Float64)
}

func (pl *planner) incompatible(t *valueType, it iceberg.Type, path string) error {
	var ids idSource
	return pl.errorf(path, "the contract says %s (#%s), the table says %s; change one of them", icebergType(t, &ids), t.pointer, it)
}

// leaf makes the column of a type without children.
func (pl *planner) leaf(dt arrow.DataType) (*column, error) {
	c := &column{dt: dt, alloc: pl.alloc}
	storage := dt
	if ext, ok := dt.(arrow.ExtensionType); ok {
		storage = ext.StorageType()
	}
	switch st := storage.(type) {
	case *arrow.BooleanType:
		c.layout = layoutBits
	case *arrow.StringType, *arrow.BinaryType:
		c.layout = layoutBytes
	case arrow.FixedWidthDataType:
		c.layout, c.width = layoutFixed, st.BitWidth()/8
	default:
		return nil, fmt.Errorf("%w: no column layout for Arrow type %s", ErrContract, dt)
	}
	return c, nil
}
