package encode

import (
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/parquet-go/parquet-go/compress/snappy"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// parquetGo writes columns through parquet-go's column writers, the lowest level that it offers: no rows, no reflection,
// one writer with its buffers and dictionaries for all files.
type parquetGo struct {
	w      *parquet.GenericWriter[any]
	leaves []leaf
	values []parquet.Value
}

// leaf is one column of primitive values and the way to it.
type leaf struct {
	path   []int
	append func(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value
}

func newParquetGo(sc *iceberg.Schema, codec string) (*parquetGo, error) {
	codecs := map[string]compress.Codec{"zstd": &zstd.Codec{Level: zstd.SpeedFastest}, "snappy": &snappy.Codec{}}
	p := &parquetGo{}
	root, err := p.group(sc.Fields(), nil, "")
	if err != nil {
		return nil, err
	}
	p.w = parquet.NewGenericWriter[any](io.Discard, parquet.NewSchema("schema", root), parquet.Compression(codecs[codec]),
		parquet.DataPageVersion(1), parquet.DataPageStatistics(false), parquet.PageBufferSize(1<<20), parquet.WriteBufferSize(0),
		parquet.CreatedBy("firn", "", ""), parquet.ColumnIndexSizeLimit(func([]string) int { return 64 }))
	return p, nil
}

// group is a struct with its fields in order; parquet.Group sorts them by name.
type group struct {
	parquet.Node
	fields []parquet.Field
}

func (g group) Fields() []parquet.Field { return g.fields }

type field struct {
	parquet.Node
	name string
}

func (f field) Name() string                           { return f.name }
func (f field) Value(base reflect.Value) reflect.Value { return base.FieldByName(f.name) }

func (p *parquetGo) group(fields []iceberg.NestedField, path []int, prefix string) (parquet.Node, error) {
	g := group{Node: parquet.Group{}}
	for i, f := range fields {
		n, err := p.node(f, append(slices.Clip(path), i), prefix+f.Name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if f.Required {
			return nil, fmt.Errorf("%s is required: the benchmark's events have optional columns alone", f.Name)
		}
		g.fields = append(g.fields, field{parquet.FieldID(parquet.Optional(n), f.ID), f.Name})
	}
	return g, nil
}

func (p *parquetGo) node(f iceberg.NestedField, path []int, name string) (parquet.Node, error) {
	l := leaf{path: path}
	var n parquet.Node
	switch t := f.Type.(type) {
	case *iceberg.StructType:
		return p.group(t.FieldList, path, name+".")
	case iceberg.Int32Type:
		n, l.append = parquet.Encoded(parquet.Int(32), &parquet.RLEDictionary), appendInt32
	case iceberg.Int64Type:
		n, l.append = parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary), appendInt64
	case iceberg.Float64Type:
		n, l.append = parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.RLEDictionary), appendDouble
	case iceberg.StringType:
		n, l.append = parquet.Encoded(parquet.String(), &parquet.RLEDictionary), appendString
	case iceberg.TimestampTzType:
		n, l.append = parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.RLEDictionary), appendTimestamp
	default:
		return nil, fmt.Errorf("the benchmark's events have no %s", t)
	}
	if unique[name] {
		n = parquet.Encoded(n, &parquet.Plain)
	}
	p.leaves = append(p.leaves, l)
	return n, nil
}

// chunkRows is how many values are handed over at a time: they stay in the cache.
const chunkRows = 1024

func (p *parquetGo) write(to io.Writer, rows arrow.RecordBatch) error {
	p.w.Reset(to)
	writers := p.w.ColumnWriters()
	for c, l := range p.leaves {
		for from := int64(0); from < rows.NumRows(); from += chunkRows {
			p.values = l.values(p.values[:0], rows, from, min(from+chunkRows, rows.NumRows()), c)
			if _, err := writers[c].WriteRowValues(p.values); err != nil {
				return err
			}
		}
	}
	return p.w.Close()
}

func (l *leaf) values(to []parquet.Value, rows arrow.RecordBatch, from, end int64, column int) []parquet.Value {
	var levels [chunkRows]byte
	data := array.NewSliceData(rows.Column(l.path[0]).Data(), from, end)
	defer data.Release()
	a := array.MakeFromData(data)
	defer a.Release()
	at := a
	for depth, i := range l.path {
		if depth > 0 {
			at = at.(*array.Struct).Field(i)
		}
		for row := range levels[:end-from] {
			if int(levels[row]) == depth && at.IsValid(row) {
				levels[row]++
			}
		}
	}
	return l.append(to, at, levels[:end-from], byte(len(l.path)), column)
}

func appendInt32(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value {
	v := a.(*array.Int32).Int32Values()
	for i, level := range levels {
		x := parquet.Value{}
		if level == full {
			x = parquet.Int32Value(v[i])
		}
		to = append(to, x.Level(0, int(level), column))
	}
	return to
}

func appendInt64(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value {
	v := a.(*array.Int64).Int64Values()
	for i, level := range levels {
		x := parquet.Value{}
		if level == full {
			x = parquet.Int64Value(v[i])
		}
		to = append(to, x.Level(0, int(level), column))
	}
	return to
}

func appendTimestamp(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value {
	v := a.(*array.Timestamp).TimestampValues()
	for i, level := range levels {
		x := parquet.Value{}
		if level == full {
			x = parquet.Int64Value(int64(v[i]))
		}
		to = append(to, x.Level(0, int(level), column))
	}
	return to
}

func appendDouble(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value {
	v := a.(*array.Float64).Float64Values()
	for i, level := range levels {
		x := parquet.Value{}
		if level == full {
			x = parquet.DoubleValue(v[i])
		}
		to = append(to, x.Level(0, int(level), column))
	}
	return to
}

func appendString(to []parquet.Value, a arrow.Array, levels []byte, full byte, column int) []parquet.Value {
	v := a.(*array.String)
	offsets, bytes := v.ValueOffsets(), v.Data().Buffers()[2].Bytes()
	for i, level := range levels {
		x := parquet.Value{}
		if level == full {
			x = parquet.ByteArrayValue(bytes[offsets[i]:offsets[i+1]])
		}
		to = append(to, x.Level(0, int(level), column))
	}
	return to
}
