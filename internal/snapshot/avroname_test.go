package snapshot

import (
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// TestPartitionNamesOfOthers: Spark names a partition by the path of a nested column, and Avro takes no dot.
func TestPartitionNamesOfOthers(t *testing.T) {
	for name, want := range map[string]string{"day_part": "day_part", "metadata.at_day": "metadata_x2Eat_day", "1st": "_1st", "é-2": "_xE9_x2D2"} {
		if got := avroName(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
	for _, version := range []string{"2", "3"} {
		b := newBench(t, version)
		spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "metadata.at-day", Transform: iceberg.IdentityTransform{}})
		meta, err := table.NewMetadata(b.meta.CurrentSchema(), &spec, table.UnsortedSortOrder, "mem://lake/t", iceberg.Properties{"format-version": version})
		b.must(err)
		b.meta = meta
		b.add(b.file("a", 3, 1), b.file("b", 4, 2))
		files := b.files()
		if len(files) != 2 {
			t.Fatalf("version %s: %d files", version, len(files))
		}
		// Kept files are written from what was read.
		id := NewID()
		b.commit(b.head(), Change{SnapshotID: id, Operation: table.OpReplace, Drop: map[string]bool{b.head().Manifests[0].FilePath(): true},
			New: []iceberg.ManifestFile{b.manifest(id, Kept(files[0]), Kept(files[1]))}})
		for i, f := range b.files() {
			if got := f.Partition()[1000]; got != files[i].Partition()[1000] || got == nil {
				t.Errorf("version %s: %s lies in partition %v, want %v", version, f.FilePath(), got, files[i].Partition()[1000])
			}
		}
		if got := b.meta.PartitionSpec(); got.Field(0).Name != "metadata.at-day" {
			t.Errorf("the table's spec names it %s", got.Field(0).Name)
		}
	}
}
