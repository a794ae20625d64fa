package transform

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
)

// columnNode reads a column. It is shared by all places of a transform that name the column, and reads it once a batch.
type columnNode struct {
	base
	path   []string
	serial uint64
}

func (c *columnNode) eval(x *exec, _ []int32) *vec {
	if c.serial == x.serial {
		return &c.out
	}
	c.serial = x.serial
	v := c.room(x)
	clear(v.null)
	a := column(x.batch, c.path, v.null)
	if a == nil { // the decoder's schema was made from these paths
		for i := range v.null {
			v.null[i] = true
		}
		return v
	}
	load(v, a)
	return v
}

// column finds the array at a path of structs, and sets null for the rows of which a struct on the way is null.
func column(b arrow.RecordBatch, path []string, null []bool) arrow.Array {
	at := b.Schema().FieldIndices(path[0])
	if len(at) != 1 {
		return nil
	}
	a := b.Column(at[0])
	for _, name := range path[1:] {
		st, ok := a.(*array.Struct)
		if !ok {
			return nil
		}
		if a.NullN() > 0 {
			for i := range null {
				null[i] = null[i] || a.IsNull(i)
			}
		}
		k, ok := st.DataType().(*arrow.StructType).FieldIdx(name)
		if !ok {
			return nil
		}
		a = st.Field(k)
	}
	return a
}

// load copies an array's values, or views of them, into the vector.
func load(v *vec, a arrow.Array) {
	if a.NullN() > 0 {
		for i := range v.null {
			v.null[i] = v.null[i] || a.IsNull(i)
		}
	}
	switch a := a.(type) {
	case *array.Boolean:
		for i := range v.b {
			v.b[i] = a.Value(i)
		}
	case *array.Int32:
		for i, x := range a.Int32Values() {
			v.i[i] = int64(x)
		}
	case *array.Date32:
		for i, x := range a.Date32Values() {
			v.i[i] = int64(x)
		}
	case *array.Int64:
		copy(v.i, a.Int64Values())
	case *array.Time64:
		for i, x := range a.Time64Values() {
			v.i[i] = int64(x)
		}
	case *array.Timestamp:
		for i, x := range a.TimestampValues() {
			v.i[i] = int64(x)
		}
	case *array.Float32:
		for i, x := range a.Float32Values() {
			v.f[i] = float64(x)
		}
	case *array.Float64:
		copy(v.f, a.Float64Values())
	case *array.Decimal128:
		copy(v.d, a.Values())
	case *array.String:
		for i := range v.s {
			v.s[i] = a.Value(i)
		}
	case *array.Binary:
		for i := range v.s {
			v.s[i] = bytesOf(a.Value(i))
		}
	case *array.FixedSizeBinary:
		for i := range v.s {
			v.s[i] = bytesOf(a.Value(i))
		}
	case array.ExtensionArray:
		load(v, a.Storage())
	}
}

// fieldAt finds the field at a dotted path of structs. When there is none, near is the longest part that is there, and
// there are its fields.
func fieldAt(fields []iceberg.NestedField, path string) (f iceberg.NestedField, ok bool, near string, there []iceberg.NestedField) {
	there = fields
	parts := strings.Split(path, ".")
	for i, name := range parts {
		found := false
		for _, c := range there {
			if c.Name == name {
				f, found = c, true
				break
			}
		}
		if !found {
			return f, false, near, there
		}
		if i == len(parts)-1 {
			return f, true, near, there
		}
		near = strings.Join(parts[:i+1], ".")
		st, isStruct := f.Type.(*iceberg.StructType)
		if !isStruct {
			return f, false, near, nil
		}
		there = st.FieldList
	}
	return f, false, near, there
}
