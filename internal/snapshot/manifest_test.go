package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
)

// partitionTypes are all types that a column to partition by may have.
var partitionTypes = []iceberg.Type{iceberg.PrimitiveTypes.Bool, iceberg.PrimitiveTypes.Int32, iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.Float32,
	iceberg.PrimitiveTypes.Float64, iceberg.PrimitiveTypes.Date, iceberg.PrimitiveTypes.Time, iceberg.PrimitiveTypes.Timestamp, iceberg.PrimitiveTypes.TimestampTz,
	iceberg.PrimitiveTypes.TimestampNs, iceberg.PrimitiveTypes.TimestampTzNs, iceberg.PrimitiveTypes.String, iceberg.PrimitiveTypes.Binary, iceberg.PrimitiveTypes.UUID,
	iceberg.FixedTypeOf(5), iceberg.DecimalTypeOf(12, 3)} // one decimal: iceberg-go v0.7.0 names the Avro types of two alike

// valueOf is a value of a column of type t, in one of the forms that callers give.
func valueOf(t *rapid.T, typ iceberg.Type) any {
	n := rapid.Int64Range(-3, 3).Draw(t, "n")
	name := strconv.FormatInt(n, 10)
	switch typ := typ.(type) {
	case iceberg.BooleanType:
		return n > 0
	case iceberg.Int32Type:
		return int32(n)
	case iceberg.Int64Type:
		return n * math.MaxInt32
	case iceberg.Float32Type:
		if n == 3 {
			return float32(math.NaN())
		}
		return float32(n) / 3
	case iceberg.Float64Type:
		if n == 3 {
			return math.NaN()
		}
		return float64(n) / 3
	case iceberg.DateType:
		return iceberg.Date(20_000 + n)
	case iceberg.TimeType:
		return iceberg.Time(n + 3)
	case iceberg.TimestampType, iceberg.TimestampTzType:
		return iceberg.Timestamp(1_700_000_000_000_000 + n)
	case iceberg.TimestampNsType, iceberg.TimestampTzNsType:
		return iceberg.TimestampNano(1_700_000_000_000_000_000 + n)
	case iceberg.StringType:
		return name
	case iceberg.BinaryType:
		return []byte(name)
	case iceberg.UUIDType:
		return uuid.UUID{0: byte(n), 15: byte(n)}
	case iceberg.FixedType:
		return []byte(fmt.Sprintf("%5s", name))[:typ.Len()]
	case iceberg.DecimalType:
		l, err := iceberg.LiteralFromBytes(typ, []byte{byte(n), 7})
		if err != nil {
			t.Fatal(err)
		}
		return l.Any()
	}
	panic(typ)
}

// tableOf is a table with a column of each type, partitioned by some of them.
func tableOf(t *rapid.T, version int) table.Metadata {
	fields := []iceberg.NestedField{{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64}}
	var parts []iceberg.PartitionField
	for i, typ := range partitionTypes {
		if version < 3 && (typ == iceberg.Type(iceberg.PrimitiveTypes.TimestampNs) || typ == iceberg.Type(iceberg.PrimitiveTypes.TimestampTzNs)) {
			continue
		}
		fields = append(fields, iceberg.NestedField{ID: i + 2, Name: fmt.Sprint("c", i), Type: typ})
		if rapid.IntRange(0, 3).Draw(t, "by it") == 0 {
			parts = append(parts, iceberg.PartitionField{SourceIDs: []int{i + 2}, FieldID: 1000 + len(parts), Name: fmt.Sprint("p.", i), Transform: iceberg.IdentityTransform{}})
		}
	}
	spec := iceberg.NewPartitionSpec(parts...)
	meta, err := table.NewMetadata(iceberg.NewSchema(0, fields...), &spec, table.UnsortedSortOrder, "mem://lake/t", iceberg.Properties{"format-version": strconv.Itoa(version)})
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

func fileOf(t *rapid.T, meta table.Metadata, content iceberg.ManifestEntryContent, name string) iceberg.DataFile {
	part := map[int]any{}
	spec := meta.PartitionSpec()
	for _, f := range spec.Fields() {
		part[f.FieldID] = nil
		if rapid.IntRange(0, 4).Draw(t, "value") > 0 {
			sc, _ := meta.CurrentSchema().FindFieldByID(f.SourceID())
			part[f.FieldID] = valueOf(t, sc.Type)
		}
	}
	rows := rapid.Int64Range(0, 1000).Draw(t, "rows")
	b, err := iceberg.NewDataFileBuilder(spec, content, "mem://lake/t/data/"+name, iceberg.ParquetFile, part, nil, nil, max(rows, 1), 100*rows+1)
	if err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "statistics") {
		st := datafile.Stats{ColumnSizes: map[int]int64{1: 3 * rows}, Lower: map[int][]byte{1: {1}}, Upper: map[int][]byte{1: {9, 0, byte(rows)}}}
		b.ColumnSizes(st.ColumnSizes).ValueCounts(map[int]int64{1: rows, 4: rows}).LowerBoundValues(st.Lower).UpperBoundValues(st.Upper).
			SplitOffsets([]int64{4, 4 * rows}).SortOrderID(1).KeyMetadata([]byte("key"))
	}
	return b.Build()
}

// TestManifestsAreThoseOfTheLibrary: a manifest and a list that are written here are read as the ones that iceberg-go writes of
// the same files, in each format version, for data and for deletes, partitioned by columns of every type.
func TestManifestsAreThoseOfTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.IntRange(1, 3).Draw(t, "version")
		meta := tableOf(t, version)
		wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
		spec, id := meta.PartitionSpec(), int64(77)
		content, of := iceberg.ManifestContentData, iceberg.EntryContentData
		if version > 1 && rapid.IntRange(0, 3).Draw(t, "deletes") == 0 {
			content, of = iceberg.ManifestContentDeletes, iceberg.EntryContentPosDeletes
		}
		var want bytes.Buffer
		lib, err := iceberg.NewManifestWriter(version, &want, avroSpec(spec), meta.CurrentSchema(), id, iceberg.WithManifestWriterContent(content))
		if err != nil {
			t.Fatal(err)
		}
		var entries []Entry
		for i := range rapid.IntRange(1, 5).Draw(t, "files") {
			f := fileOf(t, meta, of, fmt.Sprint(i, ".parquet"))
			e := Entry{rapid.SampledFrom([]iceberg.ManifestEntryStatus{iceberg.EntryStatusADDED, iceberg.EntryStatusEXISTING, iceberg.EntryStatusDELETED}).Draw(t, "status"),
				f, id, rapid.Int64Range(1, 9).Draw(t, "sequence"), rapid.Int64Range(1, 9).Draw(t, "file sequence")}
			switch own := iceberg.NewManifestEntry(e.Status, &e.SnapshotID, &e.SequenceNumber, &e.FileSequenceNumber, f); e.Status {
			case iceberg.EntryStatusADDED:
				err = lib.Add(iceberg.NewManifestEntry(e.Status, &id, nil, nil, f))
			case iceberg.EntryStatusEXISTING:
				e.SnapshotID = 55
				err = lib.Existing(own)
			default:
				err = lib.Delete(own)
			}
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, e)
		}
		theirs, err := lib.ToManifestFile("mem://lake/t/metadata/theirs.avro", int64(want.Len()))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := writeManifest(context.Background(), wh, meta, spec, id, entries, content)
		if err != nil {
			t.Fatal(err)
		}
		data, err := fetch(context.Background(), wh, ours.FilePath(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "entries", readEntries(t, ours, data), readEntries(t, theirs, want.Bytes()))
		same(t, "manifest", listed(ours, true), listed(theirs, true))
		sameLists(t, version, id, []iceberg.ManifestFile{ours, theirs})
	})
}

// sameLists writes a list both ways and reads both.
func sameLists(t *rapid.T, version int, id int64, manifests []iceberg.ManifestFile) {
	for v := 1; v <= version && v < 3 && version > 1; v++ { // older ones stay in the list after an upgrade
		manifests = append(manifests, iceberg.NewManifestFile(v, fmt.Sprint("mem://lake/t/metadata/v", v), 9, 3, 5).SequenceNum(4, 2).AddedFiles(1).
			ExistingFiles(2).DeletedFiles(3).AddedRows(40).ExistingRows(50).DeletedRows(60).KeyMetadata([]byte{1, 2}).Build())
	}
	var parent *int64
	if rapid.Bool().Draw(t, "parent") {
		parent = new(int64)
		*parent = 5
	}
	var want bytes.Buffer
	seq, first := int64(9), int64(1000)
	if err := iceberg.WriteManifestList(version, &want, id, parent, &seq, first, manifests); err != nil {
		t.Fatal(err)
	}
	got, _, err := manifestList(version, id, parent, seq, first, manifests)
	if err != nil {
		t.Fatal(err)
	}
	var read [2][]string
	for i, data := range [][]byte{got, want.Bytes()} {
		ms, err := iceberg.ReadManifestList(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			read[i] = append(read[i], listed(m, false))
		}
	}
	same(t, "list", read[0], read[1])
}

func same(t *rapid.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n%v\nby the library:\n%v", what, got, want)
	}
}

func readEntries(t *rapid.T, m iceberg.ManifestFile, data []byte) (out []string) {
	entries, err := iceberg.ReadManifest(m, bytes.NewReader(data), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f := e.DataFile()
		seq := "-"
		if s := e.FileSequenceNum(); s != nil {
			seq = fmt.Sprint(*s)
		}
		order := "-"
		if o := f.SortOrderID(); o != nil {
			order = fmt.Sprint(*o)
		}
		out = append(out, fmt.Sprint(e.Status(), e.SnapshotID(), e.SequenceNum(), seq, f.ContentType(), order, portrait(File{DataFile: f})))
	}
	return out
}

// listed is what a list says of m. Names and lengths of two files that are compared differ.
func listed(m iceberg.ManifestFile, anyFile bool) string {
	out := ""
	if !anyFile {
		out = fmt.Sprint(m.FilePath(), " ", m.Length(), " ")
	}
	out += fmt.Sprint(m.Version(), m.PartitionSpecID(), m.ManifestContent(), m.SnapshotID(), m.SequenceNum(), m.MinSequenceNum(), " files ", m.AddedDataFiles(),
		m.ExistingDataFiles(), m.DeletedDataFiles(), " rows ", m.AddedRows(), m.ExistingRows(), m.DeletedRows(), " key ", string(m.KeyMetadata()), m.Partitions() == nil)
	if id := m.FirstRowID(); id != nil {
		out += fmt.Sprint(" from ", *id)
	}
	for _, p := range m.Partitions() {
		out += fmt.Sprint(" [", p.ContainsNull, *p.ContainsNaN)
		if p.LowerBound != nil {
			out += fmt.Sprintf(" %x %x", *p.LowerBound, *p.UpperBound)
		}
		out += "]"
	}
	return out
}

// TestNonsenseIsNotWritten: entries that no reader would understand are refused when they are written.
func TestNonsenseIsNotWritten(t *testing.T) {
	b := newBench(t, "2")
	f := b.file("a", 1, 1)
	spec := b.meta.PartitionSpec()
	if _, err := WriteManifest(t.Context(), b.wh, b.meta, spec, 1, nil); err == nil {
		t.Error("a manifest without entries")
	}
	if _, err := WriteManifest(t.Context(), b.wh, b.meta, spec, 1, []Entry{{Status: 7, File: f}}); err == nil {
		t.Error("an entry of status 7")
	}
	if _, err := WriteDeleteManifest(t.Context(), b.wh, b.meta, spec, 1, []Entry{Added(f)}); err == nil {
		t.Error("a data file among delete files")
	}
	m := b.manifest(8, Added(f))
	if _, _, err := manifestList(2, 9, nil, 1, 0, []iceberg.ManifestFile{m}); err == nil {
		t.Error("a manifest that was written for another snapshot")
	}
	if _, _, err := manifestList(1, 8, nil, 1, 0, []iceberg.ManifestFile{m}); err == nil {
		t.Error("a manifest of version 2 in a list of version 1")
	}
	if _, _, err := manifestList(4, 8, nil, 1, 0, []iceberg.ManifestFile{m}); err == nil {
		t.Error("a list of version 4")
	}
}

// TestBlocks: a manifest of more than one block of the container holds all its entries, in order.
func TestBlocks(t *testing.T) {
	b := newBench(t, "2")
	const files = 3000
	entries := make([]Entry, files)
	for i := range entries {
		entries[i] = Added(b.file(fmt.Sprint(i), int64(i+1), 1))
	}
	m := b.manifest(1, entries...)
	got, err := b.r.Entries(t.Context(), m)
	b.must(err)
	for i, e := range got {
		if e.DataFile().FilePath() != entries[i].File.FilePath() {
			t.Fatalf("entry %d is of %s", i, e.DataFile().FilePath())
		}
	}
	if len(got) != files || m.AddedRows() != files*(files+1)/2 {
		t.Errorf("%d entries, %d rows", len(got), m.AddedRows())
	}
}

// BenchmarkSnapshot: the manifest and the list of an append to a table of 100 manifests, by Firn and by iceberg-go.
func BenchmarkSnapshot(b *testing.B) {
	t := newBench(b, "2")
	f := t.file("a", 1000, 1)
	var list []iceberg.ManifestFile
	for range 100 {
		list = append(list, iceberg.NewManifestFile(2, MetadataLocation(t.meta, uuid.NewString()), 5000, 0, 3).SequenceNum(3, 3).AddedFiles(1).AddedRows(1000).
			Partitions([]iceberg.FieldSummary{{ContainsNaN: new(bool)}}).Build())
	}
	b.Run("firn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m, err := WriteManifest(b.Context(), t.wh, t.meta, t.meta.PartitionSpec(), 9, []Entry{Added(f)})
			t.must(err)
			data, _, err := manifestList(2, 9, nil, 4, 0, append([]iceberg.ManifestFile{m}, list...))
			t.must(err)
			b.ReportMetric(float64(len(data)), "list_bytes")
		}
	})
	b.Run("iceberg-go", func(b *testing.B) {
		b.ReportAllocs()
		id, seq := int64(9), int64(4)
		for b.Loop() {
			var manifest, out bytes.Buffer
			m, err := iceberg.WriteManifest("mem://lake/t/metadata/m.avro", &manifest, 2, t.meta.PartitionSpec(), t.meta.CurrentSchema(), id,
				[]iceberg.ManifestEntry{iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, f)})
			t.must(err)
			t.must(put(b.Context(), t.wh, m.FilePath(), manifest.Bytes()))
			t.must(iceberg.WriteManifestList(2, &out, id, nil, &seq, 0, append([]iceberg.ManifestFile{m}, list...)))
			b.ReportMetric(float64(out.Len()), "list_bytes")
		}
	})
}

// BenchmarkManifest writes a manifest of 1,000 files, by the compressor's fastest level here and by its usual one in the library.
func BenchmarkManifest(b *testing.B) {
	t := newBench(b, "2")
	id := int64(9)
	var entries []Entry
	var theirs []iceberg.ManifestEntry
	for range 1000 {
		f := t.file(uuid.NewString(), 1000, 1)
		entries = append(entries, Added(f))
		theirs = append(theirs, iceberg.NewManifestEntry(iceberg.EntryStatusADDED, &id, nil, nil, f))
	}
	b.Run("firn", func(b *testing.B) {
		for b.Loop() {
			m, err := WriteManifest(b.Context(), t.wh, t.meta, t.meta.PartitionSpec(), id, entries)
			t.must(err)
			b.ReportMetric(float64(m.Length()), "manifest_bytes")
		}
	})
	b.Run("iceberg-go", func(b *testing.B) {
		for b.Loop() {
			var out bytes.Buffer
			_, err := iceberg.WriteManifest("mem://lake/t/metadata/m.avro", &out, 2, t.meta.PartitionSpec(), t.meta.CurrentSchema(), id, theirs)
			t.must(err)
			b.ReportMetric(float64(out.Len()), "manifest_bytes")
		}
	})
}
