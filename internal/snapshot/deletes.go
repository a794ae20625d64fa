package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	"golang.org/x/sync/errgroup"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
)

const (
	maxDeleteFileBytes = 256 << 20
	// deletesAtOnce bounds the delete files of one snapshot that are read at the same time.
	deletesAtOnce = 8
)

// deleteSchema is the part of a position delete file that is read; both columns are required by the spec.
var deleteSchema = iceberg.NewSchema(0,
	iceberg.NestedField{ID: datafile.DeletePathID, Name: "file_path", Type: iceberg.PrimitiveTypes.String},
	iceberg.NestedField{ID: datafile.DeletePosID, Name: "pos", Type: iceberg.PrimitiveTypes.Int64})

// deletedIn is positions of deleted rows by the location of the data file.
type deletedIn map[string]*roaring64.Bitmap

// LiveFiles is Files for those who can leave out rows: position deletes and deletion vectors are told by File.Deleted. Deletes
// by equality that may concern one of the files give ErrDeleteFiles.
func (r *Reader) LiveFiles(ctx context.Context, snap *table.Snapshot, keep func(iceberg.DataFile) bool) ([]File, error) {
	manifests, err := r.Manifests(ctx, snap)
	if err != nil {
		return nil, err
	}
	return r.LiveFilesOf(ctx, manifests, keep)
}

// LiveFiles reads the live files of snap, and which of their rows are deleted, without a cache.
func LiveFiles(ctx context.Context, wh *objstore.Warehouse, snap *table.Snapshot, keep func(iceberg.DataFile) bool) ([]File, error) {
	return NewReader(wh, 0).LiveFiles(ctx, snap, keep)
}

// LiveFilesOf is LiveFiles over all manifests of a snapshot that were read before.
func (r *Reader) LiveFilesOf(ctx context.Context, manifests []iceberg.ManifestFile, keep func(iceberg.DataFile) bool) ([]File, error) {
	files, deletes, err := r.split(ctx, manifests, keep)
	if err != nil || len(deletes) == 0 || len(files) == 0 {
		return files, err
	}
	return files, r.markDeleted(ctx, files, deletes)
}

// markDeleted sets Deleted of files.
func (r *Reader) markDeleted(ctx context.Context, files, deletes []File) error {
	at := make(map[string][]int, len(files)) // a damaged table lists a file twice
	paths := make([]string, 0, len(files))
	oldest := int64(math.MaxInt64)
	for i, f := range files {
		at[f.FilePath()] = append(at[f.FilePath()], i)
		paths = append(paths, f.FilePath())
		oldest = min(oldest, f.SequenceNumber)
	}
	slices.Sort(paths)
	found := make([]deletedIn, len(deletes))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for i, d := range deletes {
		if d.ContentType() == iceberg.EntryContentEqDeletes {
			if d.SequenceNumber > oldest { // they concern older rows only
				return errors.Join(g.Wait(), fmt.Errorf("%w: %s deletes by equality: compact the table with the engine that made it", ErrDeleteFiles, d.FilePath()))
			}
			continue
		}
		if d.SequenceNumber < oldest || !concerns(d, at, paths) {
			continue
		}
		g.Go(func() (err error) {
			found[i], err = r.deletedBy(gctx, d)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return merge(files, deletes, found, at)
}

// concerns reports whether a delete file may delete rows of one of the files. It errs on the side of yes.
func concerns(d File, at map[string][]int, paths []string) bool {
	if ref := d.ReferencedDataFile(); ref != nil {
		return len(at[*ref]) > 0
	}
	lower, upper := string(d.LowerBoundValues()[datafile.DeletePathID]), string(d.UpperBoundValues()[datafile.DeletePathID])
	if lower == "" || upper == "" {
		return true
	}
	i, _ := slices.BinarySearch(paths, lower)
	return i < len(paths) && (paths[i] <= upper || strings.HasPrefix(paths[i], upper)) // bounds may be cut short
}

// merge brings together what several delete files say of one data file. A deletion vector holds everything that position
// deletes said before it (Iceberg spec, "Scan Planning").
func merge(files, deletes []File, found []deletedIn, at map[string][]int) error {
	vectors := map[int]string{}
	for _, vector := range []bool{true, false} {
		for i, in := range found {
			if vector != (deletes[i].FileFormat() == iceberg.PuffinFile) {
				continue
			}
			for path, rows := range in {
				for _, j := range at[path] {
					f := &files[j]
					if deletes[i].SequenceNumber < f.SequenceNumber {
						continue
					}
					before, has := vectors[j]
					switch {
					case vector && has:
						return fmt.Errorf("%s: %w: two deletion vectors, in %s and %s", path, ErrCorrupt, before, deletes[i].FilePath())
					case vector:
						vectors[j] = deletes[i].FilePath()
						f.Deleted = rows
					case has:
					case f.Deleted == nil:
						f.Deleted = rows
					default:
						f.Deleted = roaring64.Or(f.Deleted, rows)
					}
				}
			}
		}
	}
	return nil
}

// deletedBy reads one delete file. The result is shared: do not change it.
func (r *Reader) deletedBy(ctx context.Context, d File) (deletedIn, error) {
	key := d.FilePath()
	if at := d.ContentOffset(); at != nil {
		key = fmt.Sprintf("%s#%d", key, *at) // one file holds the vectors of many data files
	}
	if in, ok := r.deletes.Get(key); ok {
		return in, nil
	}
	var in deletedIn
	var err error
	switch {
	case d.FileSizeBytes() > maxDeleteFileBytes:
		err = fmt.Errorf("%w: %d bytes, at most %d", ErrCorrupt, d.FileSizeBytes(), maxDeleteFileBytes)
	case d.FileFormat() == iceberg.PuffinFile:
		in, err = r.readVector(ctx, d)
	case d.FileFormat() == iceberg.ParquetFile:
		in, err = r.readPositions(ctx, d)
	default:
		err = fmt.Errorf("%w: they are in a %s file, which is not read here: compact the table with the engine that made it", ErrDeleteFiles, d.FileFormat())
	}
	if err != nil {
		return nil, fmt.Errorf("delete file %s: %w", d.FilePath(), err)
	}
	var size int64
	for path, rows := range in {
		rows.RunOptimize()
		size += int64(len(path)) + int64(rows.GetSizeInBytes())
	}
	r.deletes.Add(key, size, in)
	return in, nil
}

func (r *Reader) readPositions(ctx context.Context, d File) (_ deletedIn, err error) {
	key, err := r.wh.Key(d.FilePath())
	if err != nil {
		return nil, err
	}
	file, err := datafile.Open(ctx, r.wh, key, datafile.ReadOptions{Size: d.FileSizeBytes()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	in, path, rows := deletedIn{}, "", (*roaring64.Bitmap)(nil)
	err = file.Scan(ctx, deleteSchema, func(b arrow.RecordBatch) error {
		paths, at := b.Column(0).(*array.String), b.Column(1).(*array.Int64)
		for i := range paths.Len() {
			if paths.IsNull(i) || at.IsNull(i) || at.Value(i) < 0 {
				return fmt.Errorf("%w: row %d names no row of a file", ErrCorrupt, i)
			}
			if p := paths.Value(i); rows == nil || p != path { // they are sorted by path
				path = strings.Clone(p)
				if rows = in[path]; rows == nil {
					rows = roaring64.New()
					in[path] = rows
				}
			}
			rows.Add(uint64(at.Value(i)))
		}
		return nil
	})
	return in, err
}

// readVector reads the blob of a deletion vector where the manifest says that it is; its checksum and its cardinality tell
// whether it is the one.
func (r *Reader) readVector(ctx context.Context, d File) (_ deletedIn, err error) {
	ref, start, size := d.ReferencedDataFile(), d.ContentOffset(), d.ContentSizeInBytes()
	if ref == nil || start == nil || size == nil || *start < 0 || *size <= 0 || *size > maxDeleteFileBytes {
		return nil, fmt.Errorf("%w: the manifest does not say where the deletion vector is and whose", ErrCorrupt)
	}
	key, err := r.wh.Key(d.FilePath())
	if err != nil {
		return nil, err
	}
	obj, err := r.wh.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, obj.Close()) }()
	if *start > obj.Size()-*size {
		return nil, fmt.Errorf("%w: the deletion vector at %d with %d bytes lies behind the end at %d", ErrCorrupt, *start, *size, obj.Size())
	}
	data := make([]byte, *size)
	if _, err := obj.ReadAt(data, *start); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	defer func() { err = damaged(d.FilePath(), recover(), err) }()
	vector, err := dv.DeserializeDV(data, d.Count())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	rows := roaring64.New()
	for at := range vector.Positions() {
		rows.Add(at)
	}
	return deletedIn{*ref: rows}, nil
}
