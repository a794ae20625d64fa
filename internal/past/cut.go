package past

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// ErrTooLarge: more rows would have to be looked at than the bound allows.
var ErrTooLarge = errors.New("too many rows lie in files that hold rows of before and after")

// maxManifestEntries bounds a manifest that is written.
const maxManifestEntries = 50_000

// Cutter makes snapshots of today's files cut by offsets.
type Cutter struct {
	Warehouse *objstore.Warehouse
	Read      *snapshot.Reader
	// MaxRows bounds the rows of the files that have to be looked into.
	MaxRows int64
	Mem     memory.Allocator
}

// Cut writes a snapshot on the head that has exactly its rows below a vector, as other engines read them: files that lie
// below it whole, and those that straddle it with a position delete file beside each. Files that lie above it are left out.
// All that is written goes where the head's metadata says that metadata files go.
//
// Position deletes rather than filtered copies: two columns of the straddling files are read and a few bytes for each
// hidden row are written, and a row that is erased from the table is in no copy of it.
func (c Cutter) Cut(ctx context.Context, head snapshot.Head, below offset.Vector, now time.Time) (table.Snapshot, error) {
	if head.Meta.Version() < 2 {
		return table.Snapshot{}, fmt.Errorf("%w: a table of format version %d has no position deletes", ErrNoLedger, head.Meta.Version())
	}
	partition, offs, ok := LedgerColumns(head.Meta.CurrentSchema())
	if !ok {
		return table.Snapshot{}, fmt.Errorf("%w: the table has no ledger columns", ErrNoLedger)
	}
	x := &cut{Cutter: c, head: head, rows: Rows{To: below}, id: snapshot.NewID(), partition: partition, offs: offs, budget: c.MaxRows,
		change: snapshot.Change{Operation: table.OpOverwrite, Drop: map[string]bool{}}, hidden: map[int32][]snapshot.Entry{}}
	x.change.SnapshotID = x.id
	for _, m := range head.Manifests {
		if err := x.manifest(ctx, m); err != nil {
			return table.Snapshot{}, err
		}
	}
	if err := x.deleteManifests(ctx); err != nil {
		return table.Snapshot{}, err
	}
	s, err := snapshot.Build(ctx, c.Warehouse, head, x.change, now)
	if err != nil {
		return s, err
	}
	for key, n := range map[string]int64{"delete-files": x.files, "position-deletes": x.positions} {
		s.Summary.Properties["total-"+key] = strconv.FormatInt(n, 10)
		if n > 0 {
			s.Summary.Properties["added-"+key] = strconv.FormatInt(n, 10)
		}
	}
	return s, nil
}

// cut is one call of Cut.
type cut struct {
	Cutter
	head             snapshot.Head
	rows             Rows
	id               int64
	partition, offs  int
	budget           int64 // rows that may yet be looked at
	change           snapshot.Change
	hidden           map[int32][]snapshot.Entry // delete files by partition spec
	files, positions int64
}

// manifest keeps a manifest of the head as it is when each of its files has rows below the vector, and writes it anew without
// the others.
func (x *cut) manifest(ctx context.Context, m iceberg.ManifestFile) error {
	files, err := x.Read.FilesOf(ctx, []iceberg.ManifestFile{m}, nil)
	if err != nil {
		return err
	}
	var kept []snapshot.Entry
	for _, f := range files {
		b := BoundsOf(f, x.partition, x.offs)
		visible := x.rows.HoldsAll(b)
		if !visible && x.rows.MayHold(b) {
			if visible, err = x.look(ctx, f); err != nil {
				return err
			}
		}
		if visible {
			kept = append(kept, snapshot.Kept(f))
		} else {
			x.change.Removed = append(x.change.Removed, f)
		}
	}
	if len(kept) == len(files) {
		return nil
	}
	x.change.Drop[m.FilePath()] = true
	return x.write(ctx, m.PartitionSpecID(), kept, snapshot.WriteManifest)
}

type manifestWriter func(context.Context, *objstore.Warehouse, table.Metadata, iceberg.PartitionSpec, int64, []snapshot.Entry) (iceberg.ManifestFile, error)

func (x *cut) write(ctx context.Context, specID int32, entries []snapshot.Entry, with manifestWriter) error {
	spec, err := x.spec(specID)
	if err != nil {
		return err
	}
	for len(entries) > 0 {
		n := min(maxManifestEntries, len(entries))
		m, err := with(ctx, x.Warehouse, x.head.Meta, *spec, x.id, entries[:n])
		if err != nil {
			return err
		}
		x.change.New, entries = append(x.change.New, m), entries[n:]
	}
	return nil
}

func (x *cut) spec(id int32) (*iceberg.PartitionSpec, error) {
	if spec := x.head.Meta.PartitionSpecByID(int(id)); spec != nil {
		return spec, nil
	}
	return nil, fmt.Errorf("%w: partition spec %d is not in the table's metadata", snapshot.ErrCorrupt, id)
}

func (x *cut) deleteManifests(ctx context.Context) error {
	for spec, entries := range x.hidden {
		if err := x.write(ctx, spec, entries, snapshot.WriteDeleteManifest); err != nil {
			return err
		}
	}
	return nil
}

// look reads which rows of a file lie outside and hides them by a delete file. visible is false when none lies inside.
func (x *cut) look(ctx context.Context, f snapshot.File) (visible bool, err error) {
	if x.budget -= f.Count(); x.budget < 0 {
		return false, fmt.Errorf("%w: more than %d", ErrTooLarge, x.MaxRows)
	}
	if f.FileFormat() != iceberg.ParquetFile {
		return false, fmt.Errorf("%s is a %s file: only Parquet is read here", f.FilePath(), f.FileFormat())
	}
	runs, rows, err := x.outside(ctx, f)
	if err != nil {
		return false, err
	}
	var hidden int64
	for _, r := range runs {
		hidden += r[1] - r[0]
	}
	if hidden == rows {
		return false, nil
	}
	if hidden == 0 {
		return true, nil
	}
	return true, x.hide(ctx, f, runs, hidden)
}

// outside returns the positions of the rows that are not below the vector, as runs [start, end), and how many rows there are.
func (x *cut) outside(ctx context.Context, f snapshot.File) (runs [][2]int64, rows int64, err error) {
	key, err := x.Warehouse.Key(f.FilePath())
	if err != nil {
		return nil, 0, err
	}
	r, err := datafile.Open(ctx, x.Warehouse, key, datafile.ReadOptions{Mem: x.Mem, Size: f.FileSizeBytes()})
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	p, _ := x.head.Meta.CurrentSchema().FindFieldByID(x.partition)
	o, _ := x.head.Meta.CurrentSchema().FindFieldByID(x.offs)
	err = r.Scan(ctx, iceberg.NewSchema(0, p, o), func(b arrow.RecordBatch) error {
		ps, okP := b.Column(0).(*array.Int32)
		os, okO := b.Column(1).(*array.Int64)
		if !okP || !okO {
			return fmt.Errorf("%w: columns %s and %s of %s are no int and long", ErrNoLedger, ledger.ColPartition, ledger.ColOffset, f.FilePath())
		}
		for i := range ps.Len() {
			if ps.IsNull(i) || os.IsNull(i) || !x.rows.Holds(ps.Value(i), os.Value(i)) {
				runs = extend(runs, rows)
			}
			rows++
		}
		return nil
	})
	if err == nil && rows != f.Count() { // positions would be of other rows
		err = fmt.Errorf("%w: %s has %d rows, its manifest says %d", datafile.ErrCorrupt, f.FilePath(), rows, f.Count())
	}
	return runs, rows, err
}

// hide writes the delete file of a data file.
func (x *cut) hide(ctx context.Context, f snapshot.File, runs [][2]int64, n int64) error {
	o := datafile.DefaultWriteOptions()
	o.Metrics = datafile.MetricsFull // engines find the data file by the bounds of its path
	var buf bytes.Buffer
	st, err := datafile.WritePositions(&buf, x.Mem, o, func(yield func(string, int64) bool) {
		for _, r := range runs {
			for at := r[0]; at < r[1]; at++ {
				if !yield(f.FilePath(), at) {
					return
				}
			}
		}
	})
	if err != nil {
		return fmt.Errorf("position deletes of %s: %w", f.FilePath(), err)
	}
	x.files, x.positions = x.files+1, x.positions+n
	location := snapshot.MetadataLocation(x.head.Meta, fmt.Sprintf("%d-%05d-deletes.parquet", x.id, x.files))
	key, err := x.Warehouse.Key(location)
	if err != nil {
		return err
	}
	if _, err := x.Warehouse.Put(ctx, key, bytes.NewReader(buf.Bytes()), objstore.Overwrite); err != nil {
		return fmt.Errorf("write %s: %w", location, err)
	}
	spec, err := x.spec(f.SpecID())
	if err != nil {
		return err
	}
	b, err := iceberg.NewDataFileBuilder(*spec, iceberg.EntryContentPosDeletes, location, iceberg.ParquetFile, f.Partition(), nil, nil, st.Rows, st.Bytes)
	if err != nil {
		return fmt.Errorf("delete file %s: %w", location, err)
	}
	df := b.ColumnSizes(st.ColumnSizes).ValueCounts(st.ValueCounts).NullValueCounts(st.NullCounts).
		LowerBoundValues(st.Lower).UpperBoundValues(st.Upper).SplitOffsets(st.SplitOffsets).ReferencedDataFile(f.FilePath()).Build()
	x.hidden[f.SpecID()] = append(x.hidden[f.SpecID()], snapshot.Added(df))
	return nil
}
