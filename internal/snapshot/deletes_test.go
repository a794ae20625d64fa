package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/snapshot/snapshottest"
)

// shelf is manifests of a table that nobody commits.
type shelf struct {
	testing.TB
	wh   *objstore.Warehouse
	meta table.Metadata
	ms   []iceberg.ManifestFile
}

func newShelf(t testing.TB, version string) *shelf {
	t.Helper()
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "n", Type: iceberg.PrimitiveTypes.Int64})
	meta, err := table.NewMetadata(sc, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, "mem://lake/t", iceberg.Properties{"format-version": version})
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{TB: t, wh: &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}, meta: meta}
}

func (s *shelf) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// data adds a data file of the given sequence number; nobody reads its bytes.
func (s *shelf) data(name string, seq, rows int64) string {
	s.Helper()
	loc := snapshot.DataLocation(s.meta, name)
	f, err := snapshot.DataFile(s.meta.PartitionSpec(), loc, datafile.Stats{Rows: rows, Bytes: 1}, nil, nil)
	s.must(err)
	m, err := snapshot.WriteManifest(s.Context(), s.wh, s.meta, s.meta.PartitionSpec(), seq,
		[]snapshot.Entry{{Status: iceberg.EntryStatusEXISTING, File: f, SnapshotID: seq, SequenceNumber: seq, FileSequenceNumber: seq}})
	s.must(err)
	s.ms = append(s.ms, m)
	return loc
}

func (s *shelf) deletes(seq int64, files ...iceberg.DataFile) {
	s.Helper()
	m, err := snapshottest.Manifest(s.Context(), s.wh, s.meta, seq, seq, files...)
	s.must(err)
	s.ms = append(s.ms, m)
}

func (s *shelf) positions(rows snapshottest.Rows) iceberg.DataFile {
	s.Helper()
	d, err := snapshottest.PositionDeletes(s.Context(), s.wh, s.meta, nil, rows)
	s.must(err)
	return d
}

// deleted is what LiveFilesOf says, by location.
func (s *shelf) deleted(r *snapshot.Reader) map[string][]int64 {
	s.Helper()
	files, err := r.LiveFilesOf(s.Context(), s.ms, nil)
	s.must(err)
	out := map[string][]int64{}
	for _, f := range files {
		if f.Deleted != nil {
			for it := f.Deleted.Iterator(); it.HasNext(); {
				out[f.FilePath()] = append(out[f.FilePath()], int64(it.Next()))
			}
		}
	}
	return out
}

// TestPositionDeletes: any mixture of delete files takes out what the spec says, with and without a cache: rows of data
// files that are not younger.
func TestPositionDeletes(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := newShelf(t, "2")
		s.wh.Store = objstore.NewMemory()
		seqs, locs := map[string]int64{}, []string{}
		for i := range 1 + r.IntN(6) {
			seq := 1 + r.Int64N(8)
			loc := s.data(fmt.Sprintf("%c.parquet", 'a'+i), seq, 100)
			seqs[loc], locs = seq, append(locs, loc)
		}
		want := map[string]map[int64]bool{}
		for range r.IntN(6) {
			seq, rows := 1+r.Int64N(8), snapshottest.Rows{}
			for range 1 + r.IntN(20) {
				loc, at := locs[r.IntN(len(locs))], r.Int64N(100)
				if r.IntN(10) == 0 {
					loc += "-of-another-time"
				}
				rows[loc] = append(rows[loc], at)
				if of, ok := seqs[loc]; ok && of <= seq {
					if want[loc] == nil {
						want[loc] = map[int64]bool{}
					}
					want[loc][at] = true
				}
			}
			s.deletes(seq, s.positions(rows))
		}
		reader := snapshot.NewReader(s.wh, 1<<20)
		for range 2 {
			got := s.deleted(reader)
			if len(got) != len(want) {
				t.Fatalf("seed %d: rows of %d files are deleted, want %d", seed, len(got), len(want))
			}
			for loc, rows := range want {
				if w := slices.Sorted(maps.Keys(rows)); !slices.Equal(got[loc], w) {
					t.Fatalf("seed %d: %s: %v are deleted, want %v", seed, loc, got[loc], w)
				}
			}
		}
	}
}

func TestDeletionVectors(t *testing.T) {
	s := newShelf(t, "3")
	a, b := s.data("a", 1, 100), s.data("b", 5, 100)
	vector := func(path string, rows ...int64) iceberg.DataFile {
		d, err := snapshottest.Vector(t.Context(), s.wh, s.meta, nil, path, rows)
		s.must(err)
		return d
	}
	s.deletes(2, s.positions(snapshottest.Rows{a: {1, 2}, b: {3}})) // b is younger
	s.deletes(4, vector(a, 2, 7, 1<<33), vector(b, 9))
	got := s.deleted(snapshot.NewReader(s.wh, 1<<20))
	if want := []int64{2, 7, 1 << 33}; !slices.Equal(got[a], want) || got[b] != nil {
		t.Fatalf("%v are deleted: the vector of a says %v and that of b is older than b", got, want)
	}
	s.deletes(6, vector(a, 3))
	if _, err := snapshot.NewReader(s.wh, 0).LiveFilesOf(t.Context(), s.ms, nil); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("two vectors of one file: %v", err)
	}
	// Only a is wanted: what concerns b need not even be there.
	files, err := snapshot.NewReader(s.wh, 0).LiveFilesOf(t.Context(), s.ms, func(f iceberg.DataFile) bool { return f.FilePath() == b })
	if err != nil || len(files) != 1 || files[0].Deleted != nil {
		t.Errorf("b alone: %+v, %v", files, err)
	}
}

// TestUnreadableDeletes: what cannot be honoured is said, never left out.
func TestUnreadableDeletes(t *testing.T) {
	s := newShelf(t, "2")
	loc := s.data("a", 3, 10)
	build := func(content iceberg.ManifestEntryContent, format iceberg.FileFormat, where string, size int64) iceberg.DataFile {
		b, err := iceberg.NewDataFileBuilder(s.meta.PartitionSpec(), content, where, format, nil, nil, nil, 1, size)
		s.must(err)
		if content == iceberg.EntryContentEqDeletes {
			b.EqualityFieldIDs([]int{1})
		}
		return b.Build()
	}
	key, err := s.wh.Key(snapshot.DataLocation(s.meta, "rubbish.parquet"))
	s.must(err)
	_, err = s.wh.Put(t.Context(), key, bytes.NewReader([]byte("PAR1 and nothing of use PAR1")), objstore.IfAbsent)
	s.must(err)
	here := func(name string) string { return snapshot.DataLocation(s.meta, name) }
	for name, c := range map[string]struct {
		file iceberg.DataFile
		seq  int64
		want error
	}{
		"by equality":       {build(iceberg.EntryContentEqDeletes, iceberg.ParquetFile, here("e"), 10), 4, snapshot.ErrDeleteFiles},
		"an older equality": {build(iceberg.EntryContentEqDeletes, iceberg.ParquetFile, here("e"), 10), 3, nil},
		"another format":    {build(iceberg.EntryContentPosDeletes, iceberg.OrcFile, here("o"), 10), 4, snapshot.ErrDeleteFiles},
		"gone":              {build(iceberg.EntryContentPosDeletes, iceberg.ParquetFile, here("gone"), 10), 4, objstore.ErrNotFound},
		"too large":         {build(iceberg.EntryContentPosDeletes, iceberg.ParquetFile, here("gone"), 1<<40), 4, snapshot.ErrCorrupt},
		"damaged":           {build(iceberg.EntryContentPosDeletes, iceberg.ParquetFile, here("rubbish.parquet"), 28), 4, datafile.ErrCorrupt},
	} {
		before := s.ms
		s.deletes(c.seq, c.file)
		if _, err := snapshot.NewReader(s.wh, 0).LiveFilesOf(t.Context(), s.ms, nil); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := snapshot.NewReader(s.wh, 0).FilesOf(t.Context(), s.ms, nil); !errors.Is(err, snapshot.ErrDeleteFiles) {
			t.Errorf("%s, for one who cannot leave out rows: %v", name, err)
		}
		s.ms = before
	}
	s.deletes(4, s.positions(snapshottest.Rows{loc: {-1}}))
	if _, err := snapshot.NewReader(s.wh, 0).LiveFilesOf(t.Context(), s.ms, nil); !errors.Is(err, snapshot.ErrCorrupt) {
		t.Errorf("a position of -1: %v", err)
	}
}
