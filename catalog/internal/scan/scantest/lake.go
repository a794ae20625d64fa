package scantest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Column is a column of the test tables. A value is an int64, a float64 or a string, or nil.
type Column struct {
	iceberg.NestedField
	Literal func(v any) iceberg.Literal
	JSON    func(v any) any // as a filter has it
}

// Columns are the columns of the test tables, by position.
var Columns = []Column{
	{field(1, "id", iceberg.PrimitiveTypes.Int64), func(v any) iceberg.Literal { return iceberg.Int64Literal(v.(int64)) }, same},
	{field(2, "at", iceberg.PrimitiveTypes.TimestampTz), func(v any) iceberg.Literal { return iceberg.TimestampLiteral(v.(int64)) },
		func(v any) any { return time.UnixMicro(v.(int64)).UTC().Format("2006-01-02T15:04:05.000000-07:00") }},
	{field(3, "name", iceberg.PrimitiveTypes.String), func(v any) iceberg.Literal { return iceberg.StringLiteral(v.(string)) }, same},
	{field(4, "price", iceberg.PrimitiveTypes.Float64), func(v any) iceberg.Literal { return iceberg.Float64Literal(v.(float64)) }, same},
	{field(5, "day", iceberg.PrimitiveTypes.Date), func(v any) iceberg.Literal { return iceberg.DateLiteral(v.(int64)) },
		func(v any) any { return time.Unix(86400*v.(int64), 0).UTC().Format(time.DateOnly) }},
	{field(6, "size", iceberg.PrimitiveTypes.Int32), func(v any) iceberg.Literal { return iceberg.Int32Literal(v.(int64)) }, same},
	{field(7, "amount", iceberg.DecimalTypeOf(9, 2)), func(v any) iceberg.Literal {
		return iceberg.DecimalLiteral{Val: decimal128.FromI64(v.(int64)), Scale: 2}
	}, func(v any) any { return fmt.Sprintf("%d.%02d", v.(int64)/100, v.(int64)%100) }},
	{field(8, "flag", iceberg.PrimitiveTypes.Bool), func(v any) iceberg.Literal { return iceberg.BoolLiteral(v.(int64) == 1) },
		func(v any) any { return v.(int64) == 1 }},
	{field(9, "raw", iceberg.PrimitiveTypes.Binary), func(v any) iceberg.Literal { return iceberg.BinaryLiteral(v.(string)) },
		func(v any) any { return fmt.Sprintf("%X", v) }},
}

func field(id int, name string, t iceberg.Type) iceberg.NestedField {
	return iceberg.NestedField{ID: id, Name: name, Type: t}
}

func same(v any) any { return v }

// Schema is the schema of Columns.
func Schema() *iceberg.Schema {
	fields := make([]iceberg.NestedField, len(Columns))
	for i, c := range Columns {
		fields[i] = c.NestedField
	}
	return iceberg.NewSchema(0, fields...)
}

// Row has a value for each of Columns.
type Row []any

// File is a data file that is in a table.
type File struct {
	Path string
	Rows []Row
}

// Lake is a table whose snapshots are made here. Commit, when it is set, hands them to a catalog.
type Lake struct {
	testing.TB
	WH     *objstore.Warehouse
	Meta   table.Metadata
	Files  map[string]*File // all that were ever added, by path
	Commit func(context.Context, table.Requirements, table.Updates) table.Metadata

	at time.Time
	n  int
}

// New makes a table in memory, partitioned by spec.
func New(t testing.TB, version string, spec *iceberg.PartitionSpec) *Lake {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"}
	meta, err := table.NewMetadata(Schema(), spec, table.UnsortedSortOrder, wh.URI+"/t", iceberg.Properties{"format-version": version})
	l := Over(t, wh, meta)
	l.must(err)
	return l
}

// Over goes on with a table that is there.
func Over(t testing.TB, wh *objstore.Warehouse, meta table.Metadata) *Lake {
	l := &Lake{TB: t, WH: wh, Meta: meta, Files: map[string]*File{}, at: time.UnixMilli(meta.LastUpdatedMillis())}
	return l
}

func (l *Lake) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// Partition is what the rows of a file have in common under a spec: the values of its first row.
func Partition(spec iceberg.PartitionSpec, row Row) map[int]any {
	out := map[int]any{}
	for _, f := range spec.Fields() {
		v := row[f.SourceID()-1]
		out[f.FieldID] = nil
		if v == nil {
			continue
		}
		got := f.Transform.Apply(iceberg.Optional[iceberg.Literal]{Val: Columns[f.SourceID()-1].Literal(v), Valid: true})
		if got.Valid {
			out[f.FieldID] = got.Val.Any()
		}
	}
	return out
}

// DataFile describes a file of these rows, which all lie in the partition of the first.
func (l *Lake) DataFile(spec iceberg.PartitionSpec, rows []Row) iceberg.DataFile {
	l.Helper()
	l.n++
	path := fmt.Sprintf("%s/data/%05d.parquet", l.Meta.Location(), l.n)
	b := l.builder(spec, iceberg.EntryContentData, path, iceberg.ParquetFile, Partition(spec, rows[0]), int64(len(rows)))
	values, nulls, nans := map[int]int64{}, map[int]int64{}, map[int]int64{}
	lower, upper := map[int][]byte{}, map[int][]byte{}
	for i, c := range Columns {
		id := c.ID
		values[id] = int64(len(rows))
		nulls[id] = 0
		var least, most any
		for _, r := range rows {
			f, float := r[i].(float64)
			switch {
			case r[i] == nil:
				nulls[id]++
				continue
			case float && math.IsNaN(f):
				nans[id]++
				continue
			}
			if least == nil || Less(r[i], least) {
				least = r[i]
			}
			if most == nil || Less(most, r[i]) {
				most = r[i]
			}
		}
		if _, float := c.Type.(iceberg.Float64Type); float && nans[id] == 0 {
			nans[id] = 0
		}
		if least != nil {
			lower[id], upper[id] = l.bytes(c, least), l.bytes(c, most)
		}
	}
	l.Files[path] = &File{path, rows}
	return b.ValueCounts(values).NullValueCounts(nulls).NaNValueCounts(nans).LowerBoundValues(lower).UpperBoundValues(upper).
		ColumnSizes(map[int]int64{1: 8}).SplitOffsets([]int64{4}).Build()
}

func (l *Lake) bytes(c Column, v any) []byte {
	l.Helper()
	b, err := c.Literal(v).(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
	l.must(err)
	return b
}

// Less orders two values of one column.
func Less(a, b any) bool {
	switch a := a.(type) {
	case int64:
		return a < b.(int64)
	case float64:
		return a < b.(float64)
	}
	return a.(string) < b.(string)
}

func (l *Lake) builder(spec iceberg.PartitionSpec, content iceberg.ManifestEntryContent, path string, format iceberg.FileFormat, partition map[int]any, rows int64) *iceberg.DataFileBuilder {
	l.Helper()
	logical := map[int]string{}
	for id, v := range partition {
		switch v.(type) {
		case iceberg.Date:
			logical[id] = "date"
		case iceberg.Timestamp:
			logical[id] = "timestamp-micros"
		}
	}
	b, err := iceberg.NewDataFileBuilder(spec, content, path, format, partition, logical, nil, rows, 1000)
	l.must(err)
	return b
}

// Append commits one snapshot with a manifest of each group of files.
func (l *Lake) Append(spec iceberg.PartitionSpec, groups ...[]iceberg.DataFile) int64 {
	l.Helper()
	id := snapshot.NewID()
	c := snapshot.Change{SnapshotID: id, Operation: table.OpAppend}
	for _, g := range groups {
		var entries []snapshot.Entry
		for _, f := range g {
			entries = append(entries, snapshot.Added(f))
		}
		m, err := snapshot.WriteManifest(l.Context(), l.WH, l.Meta, spec, id, entries)
		l.must(err)
		c.New, c.Added = append(c.New, m), append(c.Added, g...)
	}
	l.commit(c)
	return id
}

func (l *Lake) commit(c snapshot.Change) {
	l.Helper()
	h, err := snapshot.LoadHead(l.Context(), snapshot.NewReader(l.WH, 0), l.Meta, table.MainBranch)
	l.must(err)
	l.at = l.at.Add(time.Second)
	s, err := snapshot.Build(l.Context(), l.WH, h, c, l.at)
	l.must(err)
	l.Apply(snapshot.Updates(s, table.MainBranch))
}

// Apply makes updates the table's newest state.
func (l *Lake) Apply(updates table.Updates) {
	l.Helper()
	if l.Commit != nil {
		l.Meta = l.Commit(l.Context(), nil, updates)
		return
	}
	b, err := table.MetadataBuilderFromBase(l.Meta, "")
	l.must(err)
	for _, u := range updates {
		l.must(u.Apply(b))
	}
	l.Meta, err = b.Build()
	l.must(err)
}

// Delete is a delete file to be.
type Delete struct {
	Content   iceberg.ManifestEntryContent
	Vector    bool   // a deletion vector of For
	For       string // the one data file that it is for; else those of the partition
	Partition map[int]any
	Equality  []int
	Low, High string // bounds of the paths that it names
}

// Deletes commits one snapshot of delete files and returns their paths.
func (l *Lake) Deletes(spec iceberg.PartitionSpec, list ...Delete) (paths []string) {
	l.Helper()
	id := snapshot.NewID()
	var buf bytes.Buffer
	w, err := iceberg.NewManifestWriter(l.Meta.Version(), &buf, spec, l.Meta.CurrentSchema(), id, iceberg.WithManifestWriterContent(iceberg.ManifestContentDeletes))
	l.must(err)
	for _, d := range list {
		l.n++
		format, path := iceberg.ParquetFile, fmt.Sprintf("%s/data/%05d-deletes.parquet", l.Meta.Location(), l.n)
		if d.Vector {
			format, path = iceberg.PuffinFile, fmt.Sprintf("%s/data/%05d-vector.puffin", l.Meta.Location(), l.n)
		}
		b := l.builder(spec, d.Content, path, format, d.Partition, 1)
		if d.Equality != nil {
			b.EqualityFieldIDs(d.Equality)
		}
		if d.For != "" {
			b.ReferencedDataFile(d.For)
		}
		if d.Vector {
			b.ContentOffset(4).ContentSizeInBytes(40)
		}
		if d.Low != "" {
			b.LowerBoundValues(map[int][]byte{2147483546: []byte(d.Low)}).UpperBoundValues(map[int][]byte{2147483546: []byte(d.High)})
		}
		l.must(w.Add(iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, b.Build())))
		paths = append(paths, path)
	}
	l.must(w.Close())
	location := fmt.Sprintf("%s/metadata/%d-deletes.avro", l.Meta.Location(), id)
	m, err := w.ToManifestFile(location, int64(buf.Len()), iceberg.WithManifestFileContent(iceberg.ManifestContentDeletes))
	l.must(err)
	key, err := l.WH.Key(location)
	l.must(err)
	_, err = l.WH.Put(l.Context(), key, bytes.NewReader(buf.Bytes()), objstore.IfAbsent)
	l.must(err)
	l.commit(snapshot.Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{m}})
	return paths
}
