package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
)

// specs of the table of the property test: a partition value of each kind that manifests write differently.
func mergeSpecs() []iceberg.PartitionSpec {
	f := func(id, source int, name string, tr iceberg.Transform) iceberg.PartitionField {
		return iceberg.PartitionField{SourceIDs: []int{source}, FieldID: id, Name: name, Transform: tr}
	}
	return []iceberg.PartitionSpec{
		iceberg.NewPartitionSpecID(0, f(1000, 2, "day_part", iceberg.IdentityTransform{})),
		iceberg.NewPartitionSpecID(1, f(1001, 3, "ts_day", iceberg.DayTransform{}), f(1002, 4, "who.name", iceberg.BucketTransform{NumBuckets: 8})),
		iceberg.NewPartitionSpecID(2),
		iceberg.NewPartitionSpecID(3, f(1003, 3, "at_exactly", iceberg.IdentityTransform{}), f(1004, 5, "amount", iceberg.IdentityTransform{}), f(1005, 6, "id", iceberg.IdentityTransform{})),
	}
}

func newMergeBench(t testing.TB, version string) *bench {
	t.Helper()
	p := iceberg.PrimitiveTypes
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: p.Int64}, iceberg.NestedField{ID: 2, Name: "day", Type: p.Date},
		iceberg.NestedField{ID: 3, Name: "at", Type: p.TimestampTz}, iceberg.NestedField{ID: 4, Name: "who", Type: p.String},
		iceberg.NestedField{ID: 5, Name: "amount", Type: iceberg.DecimalTypeOf(12, 3)}, iceberg.NestedField{ID: 6, Name: "id", Type: p.UUID})
	specs := mergeSpecs()
	meta, err := table.NewMetadata(sc, &specs[0], table.UnsortedSortOrder, "mem://lake/t", iceberg.Properties{"format-version": version})
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, version)
	b.meta = meta
	return b
}

// values draws the partition of a file; nulls among them.
func values(t *rapid.T, spec iceberg.PartitionSpec) map[int]any {
	out := map[int]any{}
	for _, f := range spec.Fields() {
		n := rapid.Int32Range(0, 5).Draw(t, "value")
		switch {
		case n == 0:
			out[f.FieldID] = nil
		case f.Name == "day_part", f.Name == "ts_day":
			out[f.FieldID] = iceberg.Date(20_000 + n)
		case f.Name == "who.name":
			out[f.FieldID] = n
		case f.Name == "at_exactly":
			out[f.FieldID] = iceberg.Timestamp(1_700_000_000_000_000 + int64(n))
		case f.Name == "amount":
			d, _ := iceberg.LiteralFromBytes(iceberg.DecimalTypeOf(12, 3), []byte{byte(n), 7})
			out[f.FieldID] = d.(iceberg.DecimalLiteral)
		default:
			out[f.FieldID] = uuid.UUID{15: byte(n)}
		}
	}
	return out
}

// portrait is everything that a live entry says, but its status: a merge makes existing files of added ones.
func portrait(f File) string {
	ref := func(p *int64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	return fmt.Sprint(f.FilePath(), " spec ", f.SpecID(), " part ", f.Partition(), " seq ", f.SequenceNumber, " file seq ", f.FileSequenceNumber,
		" by ", f.SnapshotID, " row id ", ref(f.FirstRowID()), " ", f.FileFormat(), f.Count(), f.FileSizeBytes(), f.ColumnSizes(), f.ValueCounts(),
		f.NullValueCounts(), f.NaNValueCounts(), f.LowerBoundValues(), f.UpperBoundValues(), f.SplitOffsets(), string(f.KeyMetadata()), f.EqualityFieldIDs())
}

// live are the portraits of the head's files, also beside delete files, sorted.
func (b *bench) live(t interface{ Fatal(...any) }) []string {
	var out []string
	for _, m := range b.head().Manifests {
		if m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		files, err := b.r.FilesOf(context.Background(), []iceberg.ManifestFile{m}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			out = append(out, portrait(f))
		}
	}
	slices.Sort(out)
	return out
}

// TestMergesKeepEveryEntry: after any acts of Firn and of others (appends, rewrites, deletes with and without delete
// files, changes of the spec), a merge of any manifests leaves every live entry as it was.
func TestMergesKeepEveryEntry(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newMergeBench(t, rapid.SampledFrom([]string{"2", "3"}).Draw(rt, "version"))
		for range rapid.IntRange(2, 8).Draw(rt, "acts") {
			switch act := rapid.IntRange(0, 9).Draw(rt, "act"); {
			case act < 5:
				b.addTo(rt)
			case act == 5:
				b.changeSpec(rt)
			case act == 6:
				b.rewriteSome(rt)
			case act == 7 && b.meta.CurrentSnapshot() != nil:
				b.deletePositions()
			default:
				b.mergeSome(rt)
			}
		}
		b.mergeSome(rt)
	})
}

var fileNames int

func (b *bench) draw(t *rapid.T, spec iceberg.PartitionSpec) iceberg.DataFile {
	fileNames++
	rows := rapid.Int64Range(1, 1000).Draw(t, "rows")
	order := 0
	f, err := DataFile(spec, DataLocation(b.meta, fmt.Sprint(fileNames, ".parquet")), datafile.Stats{Rows: rows, Bytes: 100 * rows,
		ColumnSizes: map[int]int64{1: 3 * rows}, ValueCounts: map[int]int64{1: rows, 4: rows}, NullCounts: map[int]int64{1: 0, 4: rows},
		Lower: map[int][]byte{1: {1, 0, 0, 0, 0, 0, 0, 0}}, Upper: map[int][]byte{1: {9, 0, 0, 0, 0, 0, 0, 0}}, SplitOffsets: []int64{4, 4 * rows}, SortOrderID: order},
		values(t, spec), nil)
	b.must(err)
	return f
}

func (b *bench) addTo(t *rapid.T) {
	spec := b.meta.PartitionSpec()
	var files []iceberg.DataFile
	var entries []Entry
	for range rapid.IntRange(1, 3).Draw(t, "files") {
		f := b.draw(t, spec)
		files, entries = append(files, f), append(entries, Added(f))
	}
	id := NewID()
	m, err := WriteManifest(context.Background(), b.wh, b.meta, spec, id, entries)
	b.must(err)
	b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpAppend, New: []iceberg.ManifestFile{m}, Added: files})
}

func (b *bench) changeSpec(t *rapid.T) {
	to := rapid.SampledFrom(mergeSpecs()).Draw(t, "spec")
	var updates table.Updates
	if b.meta.PartitionSpecByID(to.ID()) == nil {
		if to.ID() != b.meta.PartitionSpecs()[len(b.meta.PartitionSpecs())-1].ID()+1 {
			return // ids are given in order
		}
		updates = append(updates, table.NewAddPartitionSpecUpdate(&to, false))
	}
	if b.meta.DefaultPartitionSpec() != to.ID() {
		b.apply(append(updates, table.NewSetDefaultSpecUpdate(to.ID())))
	}
}

// rewriteSome writes a manifest again with one of its files replaced, one taken out, the others kept, as rewrites and
// deletes of whole files do.
func (b *bench) rewriteSome(t *rapid.T) {
	h := b.head()
	var of []iceberg.ManifestFile
	for _, m := range h.Manifests {
		if m.ManifestContent() == iceberg.ManifestContentData {
			of = append(of, m)
		}
	}
	if len(of) == 0 {
		return
	}
	m := rapid.SampledFrom(of).Draw(t, "rewritten manifest")
	files, err := b.r.FilesOf(context.Background(), []iceberg.ManifestFile{m}, nil)
	b.must(err)
	spec := *b.meta.PartitionSpecByID(int(m.PartitionSpecID()))
	id := NewID()
	added := b.draw(t, spec)
	entries := []Entry{Added(added), Removed(files[0])}
	for _, f := range files[1:] {
		entries = append(entries, Kept(f))
	}
	fresh, err := WriteManifest(context.Background(), b.wh, b.meta, spec, id, entries)
	b.must(err)
	b.commit(h, Change{SnapshotID: id, Operation: table.OpReplace, New: []iceberg.ManifestFile{fresh}, Drop: map[string]bool{m.FilePath(): true},
		Added: []iceberg.DataFile{added}, Removed: files[:1]})
}

// deletePositions adds a delete manifest, as other engines do.
func (b *bench) deletePositions() {
	spec, id := b.meta.PartitionSpec(), NewID()
	part := map[int]any{}
	for _, f := range spec.Fields() {
		part[f.FieldID] = nil
	}
	fileNames++
	d, err := iceberg.NewDataFileBuilder(spec, iceberg.EntryContentPosDeletes, DataLocation(b.meta, fmt.Sprint(fileNames, "-deletes.parquet")), iceberg.ParquetFile, part, nil, nil, 1, 100)
	b.must(err)
	m, err := WriteDeleteManifest(context.Background(), b.wh, b.meta, spec, id, []Entry{Added(d.Build())})
	b.must(err)
	b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{m}})
}

// mergeSome merges some manifests of each spec, commits them as compaction does, and compares.
func (b *bench) mergeSome(t *rapid.T) {
	h := b.head()
	if h.Snapshot == nil {
		return
	}
	before, deletes := b.live(t), 0
	groups := map[int32][]iceberg.ManifestFile{}
	for _, m := range h.Manifests {
		if m.ManifestContent() != iceberg.ManifestContentData {
			deletes++
		} else if m.AddedDataFiles()+m.ExistingDataFiles() > 0 && rapid.IntRange(0, 3).Draw(t, "in") > 0 {
			groups[m.PartitionSpecID()] = append(groups[m.PartitionSpecID()], m)
		}
	}
	c := Change{SnapshotID: NewID(), Operation: table.OpReplace, Drop: map[string]bool{}}
	for _, spec := range slices.Sorted(maps.Keys(groups)) {
		m, err := MergeManifests(context.Background(), b.wh, b.meta, *b.meta.PartitionSpecByID(int(spec)), c.SnapshotID, groups[spec])
		b.must(err)
		c.New = append(c.New, m)
		for _, in := range groups[spec] {
			c.Drop[in.FilePath()] = true
		}
	}
	next := b.meta.NextRowID()
	s := b.commit(h, c)
	if after := b.live(t); !slices.Equal(before, after) {
		t.Fatalf("of %d entries before:\n%v\nafter:\n%v", len(before), before, after)
	}
	left := 0
	for _, m := range b.head().Manifests {
		if m.ManifestContent() != iceberg.ManifestContentData {
			left++
		}
	}
	if left != deletes {
		t.Fatalf("%d delete manifests, there were %d", left, deletes)
	}
	if b.meta.Version() >= 3 && (*s.FirstRowID != next || b.meta.NextRowID() < next) {
		t.Fatalf("row ids go on at %d, they stood at %d", b.meta.NextRowID(), next)
	}
}

// TestUpgradeGivesEveryFileItsRowIDs: the list of the first snapshot of format version 3 gives ids to all manifests, and
// the table's next row id lies beyond, so that no later row gets one of them.
func TestUpgradeGivesEveryFileItsRowIDs(t *testing.T) {
	b := newBench(t, "2")
	b.add(b.file("a", 10, 1))
	b.add(b.file("b", 20, 1))
	b.apply(table.Updates{table.NewUpgradeFormatVersionUpdate(3)})
	b.add(b.file("c", 5, 1))
	b.add(b.file("d", 7, 1))
	h := b.head()
	id := NewID()
	m, err := MergeManifests(t.Context(), b.wh, b.meta, b.meta.PartitionSpec(), id, h.Manifests)
	b.must(err)
	drop := map[string]bool{}
	for _, in := range h.Manifests {
		drop[in.FilePath()] = true
	}
	before := b.live(t)
	b.commit(h, Change{SnapshotID: id, Operation: table.OpReplace, New: []iceberg.ManifestFile{m}, Drop: drop})
	if after := b.live(t); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
	b.add(b.file("e", 3, 1))
	taken := map[int64]string{}
	for _, f := range b.files() {
		if f.FirstRowID() == nil {
			t.Fatalf("%s has no row id", f.FilePath())
		}
		for r := *f.FirstRowID(); r < *f.FirstRowID()+f.Count(); r++ {
			if other := taken[r]; other != "" {
				t.Fatalf("row id %d is in %s and in %s", r, f.FilePath(), other)
			}
			if taken[r] = f.FilePath(); r >= b.meta.NextRowID() {
				t.Fatalf("row id %d of %s is not below the table's next, %d", r, f.FilePath(), b.meta.NextRowID())
			}
		}
	}
}

func TestMergeNamesTheManifestAtFault(t *testing.T) {
	b := newBench(t, "2")
	for i := range 12 {
		b.add(b.file(fmt.Sprint(i), 10, 1))
	}
	inputs := b.head().Manifests
	at := func(m iceberg.ManifestFile) string {
		k, err := b.wh.Key(m.FilePath())
		b.must(err)
		return k
	}
	keys := 0
	count := func() (n int) {
		b.must(b.wh.List(t.Context(), "", func(objstore.Info) error { n++; return nil }))
		return n
	}
	keys = count()
	fails := func(what string, m iceberg.ManifestFile, is error) {
		t.Helper()
		_, err := MergeManifests(t.Context(), b.wh, b.meta, b.meta.PartitionSpec(), NewID(), inputs)
		var bad *ManifestError
		if !errors.As(err, &bad) || bad.Location != m.FilePath() || is != nil && !errors.Is(err, is) {
			t.Errorf("%s: %v", what, err)
		}
		if n := count(); n != keys {
			t.Errorf("%s: %d objects, there were %d", what, n, keys)
		}
	}
	key := at(inputs[5])
	whole, err := b.wh.Get(t.Context(), key, 1<<30)
	b.must(err)
	b.must(b.wh.Delete(t.Context(), key))
	keys--
	fails("missing", inputs[5], objstore.ErrNotFound)
	for what, data := range map[string][]byte{"garbage": []byte("no Avro"), "truncated": whole[:len(whole)-20]} {
		b.must(put(t.Context(), b.wh, inputs[5].FilePath(), data))
		keys = count()
		fails(what, inputs[5], ErrCorrupt)
	}
	other, err := b.wh.Get(t.Context(), at(inputs[4]), 1<<30)
	b.must(err)
	b.must(put(t.Context(), b.wh, inputs[5].FilePath(), other))
	two := b.manifest(NewID(), Added(b.file("x", 1, 1)), Added(b.file("y", 1, 1)))
	data, err := b.wh.Get(t.Context(), at(two), 1<<30)
	b.must(err)
	b.must(put(t.Context(), b.wh, inputs[7].FilePath(), data))
	keys = count()
	fails("more entries than the list says", inputs[7], ErrCorrupt)
	spec := iceberg.NewPartitionSpecID(9)
	if _, err := MergeManifests(t.Context(), b.wh, b.meta, spec, NewID(), inputs[:2]); err == nil {
		t.Error("manifests of another spec were merged")
	}
	if _, err := MergeManifests(t.Context(), b.wh, b.meta, b.meta.PartitionSpec(), NewID(), nil); !errors.Is(err, iceberg.ErrEmptyManifest) {
		t.Errorf("nothing was merged: %v", err)
	}
}
