package scan

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog/internal/wire"
)

// file is a live data or delete file: what planning and its answers need of a manifest's entry.
type file struct {
	content    iceberg.ManifestEntryContent
	path       string
	format     string
	spec       int
	partition  []any           // in the order of the spec's fields
	tuple      json.RawMessage // the same, as answers have it
	rows, size int64
	sequence   int64 // of the snapshot that its rows belong to
	snapshot   int64 // that added it
	added      bool  // by the manifest's own snapshot
	firstRow   *int64
	key        []byte
	splits     []int64
	sortOrder  *int
	columns    []column // by id

	equality   []int
	references string // the one data file that a position delete or a deletion vector is for
	offset     *int64
	length     *int64
}

// column holds the metrics of one column; a count of -1 is not known.
type column struct {
	id                         int
	lower, upper               []byte
	sizes, values, nulls, nans int64
}

func (f *file) deletes() bool { return f.content != iceberg.EntryContentData }

// vector tells whether a delete file is a deletion vector.
func (f *file) vector() bool {
	return f.content == iceberg.EntryContentPosDeletes && f.format == strings.ToLower(string(iceberg.PuffinFile))
}

func (f *file) column(id int) (column, bool) {
	i, ok := slices.BinarySearchFunc(f.columns, id, func(c column, id int) int { return c.id - id })
	if !ok {
		return column{values: -1, nulls: -1, nans: -1, sizes: -1}, false
	}
	return f.columns[i], true
}

// metrics is what the column metrics tell.
func (f *file) metrics(id int, typ iceberg.Type) known {
	c, ok := f.column(id)
	if !ok {
		return known{}
	}
	return known{lower: decode(typ, c.lower), upper: decode(typ, c.upper),
		noNulls: c.nulls == 0, onlyNulls: c.values >= 0 && c.nulls == c.values,
		noNaNs: c.nans == 0, onlyNaNs: c.values > 0 && c.nans == c.values}
}

// weight is about how much memory a file takes.
func (f *file) weight() int64 {
	n := 400 + len(f.path) + len(f.tuple) + 24*len(f.partition) + 8*len(f.splits)
	for _, c := range f.columns {
		n += 96 + len(c.lower) + len(c.upper)
	}
	return int64(n)
}

// newFile takes what is needed of an entry.
func newFile(e iceberg.ManifestEntry, spec *partitionSpec) (*file, error) {
	df := e.DataFile()
	f := &file{content: df.ContentType(), path: df.FilePath(), format: strings.ToLower(string(df.FileFormat())), spec: spec.id,
		rows: df.Count(), size: df.FileSizeBytes(), sequence: e.SequenceNum(), snapshot: e.SnapshotID(),
		added: e.Status() == iceberg.EntryStatusADDED, firstRow: df.FirstRowID(), key: df.KeyMetadata(), splits: df.SplitOffsets(),
		sortOrder: df.SortOrderID(), equality: df.EqualityFieldIDs(), offset: df.ContentOffset(), length: df.ContentSizeInBytes()}
	if r := df.ReferencedDataFile(); r != nil {
		f.references = *r
	}
	values := df.Partition()
	f.partition = make([]any, len(spec.fields))
	tuple := []byte{'['}
	for i, field := range spec.fields {
		f.partition[i] = values[field.id]
		if i > 0 {
			tuple = append(tuple, ',')
		}
		v, err := valueJSON(values[field.id], field.typ)
		if err != nil {
			return nil, fmt.Errorf("partition field %s: %w", field.name, err)
		}
		tuple = append(tuple, v...)
	}
	f.tuple = append(tuple, ']')
	f.columns = columnsOf(df)
	return f, nil
}

func columnsOf(df iceberg.DataFile) []column {
	byID := map[int]*column{}
	at := func(id int) *column {
		if byID[id] == nil {
			byID[id] = &column{id: id, sizes: -1, values: -1, nulls: -1, nans: -1}
		}
		return byID[id]
	}
	for id, n := range df.ColumnSizes() {
		at(id).sizes = n
	}
	for id, n := range df.ValueCounts() {
		at(id).values = n
	}
	for id, n := range df.NullValueCounts() {
		at(id).nulls = n
	}
	for id, n := range df.NaNValueCounts() {
		at(id).nans = n
	}
	for id, b := range df.LowerBoundValues() {
		at(id).lower = b
	}
	for id, b := range df.UpperBoundValues() {
		at(id).upper = b
	}
	out := make([]column, 0, len(byID))
	for _, c := range byID {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b column) int { return a.id - b.id })
	return out
}

// literal is a partition's value as a literal; ok is false for a null, and for what no literal can be made of.
func literal(v any, typ iceberg.Type) (l iceberg.Literal, ok bool) {
	switch v := v.(type) {
	case iceberg.Literal:
		l = v
	case bool:
		l = iceberg.BoolLiteral(v)
	case int32:
		l = iceberg.Int32Literal(v)
	case int64:
		l = iceberg.Int64Literal(v)
	case int:
		l = iceberg.Int64Literal(v)
	case float32:
		l = iceberg.Float32Literal(v)
	case float64:
		l = iceberg.Float64Literal(v)
	case iceberg.Date:
		l = iceberg.DateLiteral(v)
	case iceberg.Time:
		l = iceberg.TimeLiteral(v)
	case iceberg.Timestamp:
		l = iceberg.TimestampLiteral(v)
	case iceberg.TimestampNano:
		l = iceberg.TimestampNsLiteral(v)
	case iceberg.Decimal:
		l = iceberg.DecimalLiteral(v)
	case string:
		l = iceberg.StringLiteral(v)
	case []byte:
		l = iceberg.BinaryLiteral(v)
	case [16]byte:
		l = iceberg.UUIDLiteral(v)
	default:
		if u, is := uuidOf(v); is {
			l = u
			break
		}
		return nil, false
	}
	if f, is := l.(iceberg.Float32Literal); is && number(f) == nil {
		return l, true // it converts to nothing, and is what it is
	}
	l, err := l.To(typ)
	return l, err == nil
}

// valueJSON writes a partition's value as the protocol's single-value form has it.
func valueJSON(v any, typ iceberg.Type) ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	l, ok := literal(v, typ)
	if !ok {
		return nil, fmt.Errorf("%T is no value of type %s", v, typ)
	}
	switch l := l.(type) {
	case iceberg.TimestampLiteral:
		layout := "2006-01-02T15:04:05.999999"
		if _, zoned := typ.(iceberg.TimestampTzType); zoned {
			layout += "-07:00"
		}
		return json.Marshal(iceberg.Timestamp(l).ToTime().UTC().Format(layout))
	case iceberg.TimestampNsLiteral:
		layout := "2006-01-02T15:04:05.999999999"
		if _, zoned := typ.(iceberg.TimestampTzNsType); zoned {
			layout += "-07:00"
		}
		return json.Marshal(iceberg.TimestampNano(l).ToTime().UTC().Format(layout))
	case iceberg.Float32Literal, iceberg.Float64Literal:
		if doc, err := json.Marshal(l); err == nil {
			return doc, nil
		}
		return json.Marshal(fmt.Sprint(l.Any())) // JSON has no NaN and no infinity
	}
	return json.Marshal(l)
}

// wire is a file as answers have it, with the metrics of the columns that were asked for.
func (f *file) wire(stats []int) wire.ContentFile {
	out := wire.ContentFile{Spec: f.spec, Partition: f.tuple, Content: "data", Path: f.path, Format: f.format, Size: f.size, Rows: f.rows,
		Key: strings.ToUpper(hex.EncodeToString(f.key)), Splits: f.splits, SortOrder: f.sortOrder}
	switch f.content {
	case iceberg.EntryContentPosDeletes:
		out.Content, out.Offset, out.Length, out.References = "position-deletes", f.offset, f.length, f.references
		out.SortOrder = nil
		return out
	case iceberg.EntryContentEqDeletes:
		out.Content, out.Equality = "equality-deletes", f.equality
		return out
	}
	out.FirstRow = f.firstRow
	for _, id := range stats {
		c, ok := f.column(id)
		if !ok {
			continue
		}
		count := func(m **wire.CountMap, n int64) {
			if n < 0 {
				return
			}
			if *m == nil {
				*m = &wire.CountMap{}
			}
			(*m).Keys, (*m).Values = append((*m).Keys, id), append((*m).Values, n)
		}
		bound := func(m **wire.ValueMap, b []byte) {
			if b == nil {
				return
			}
			if *m == nil {
				*m = &wire.ValueMap{}
			}
			(*m).Keys, (*m).Values = append((*m).Keys, id), append((*m).Values, strings.ToUpper(hex.EncodeToString(b)))
		}
		count(&out.Sizes, c.sizes)
		count(&out.Values, c.values)
		count(&out.Nulls, c.nulls)
		count(&out.NaNs, c.nans)
		bound(&out.Lower, c.lower)
		bound(&out.Upper, c.upper)
	}
	return out
}

// group tells the files of one partition of one spec from all others.
func (f *file) group() string { return strconv.Itoa(f.spec) + string(f.tuple) }
