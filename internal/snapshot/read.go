package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
)

// ErrCorrupt reports a manifest or manifest list that cannot be read; the error names the file.
var ErrCorrupt = errors.New("manifest is damaged")

// ErrDeleteFiles reports a table that another engine has put row deletes into, which this operation cannot honour.
var ErrDeleteFiles = errors.New("the table has row-level delete files")

const (
	maxManifestListBytes = 64 << 20
	maxManifestBytes     = 256 << 20
)

// File is a live data file and where it was found.
type File struct {
	iceberg.DataFile
	SequenceNumber     int64 // of the snapshot that its rows belong to
	FileSequenceNumber int64 // of the snapshot that added the file
	SnapshotID         int64 // that added the file
	Manifest           string
	// Deleted are positions of rows, from 0, that delete files take out, by LiveFiles; nil: none. Shared: do not change it.
	Deleted *roaring64.Bitmap
}

// Reader reads manifests and their lists of one warehouse and keeps those that were read lately: they never change.
type Reader struct {
	wh      *objstore.Warehouse
	cache   *lru.Cache[string, []iceberg.ManifestEntry]
	lists   *lru.Cache[string, []iceberg.ManifestFile]
	deletes *lru.Cache[string, deletedIn]
}

const (
	// listsShare is the part of a reader's cache that manifest lists may take besides: all queries between two commits ask for one.
	listsShare = 16
	// deletesShare is the part that the positions of deleted rows may take besides.
	deletesShare = 4
)

// NewReader keeps the entries of manifests of at most cacheBytes (encoded size) together, and manifest lists and the positions of
// deleted rows in at most a sixteenth and a quarter of that.
func NewReader(wh *objstore.Warehouse, cacheBytes int64) *Reader {
	return &Reader{wh: wh, cache: lru.New[string, []iceberg.ManifestEntry](cacheBytes),
		lists: lru.New[string, []iceberg.ManifestFile](cacheBytes / listsShare), deletes: lru.New[string, deletedIn](cacheBytes / deletesShare)}
}

// ReadManifests returns the manifests of snap, in the list's order.
func ReadManifests(ctx context.Context, wh *objstore.Warehouse, snap *table.Snapshot) ([]iceberg.ManifestFile, error) {
	return NewReader(wh, 0).Manifests(ctx, snap)
}

func fetch(ctx context.Context, wh *objstore.Warehouse, location string, limit int64) ([]byte, error) {
	key, err := wh.Key(location)
	if err != nil {
		return nil, err
	}
	data, err := wh.Get(ctx, key, limit)
	if errors.Is(err, objstore.ErrTooLarge) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return data, err
}

// damaged turns what was recovered from a panic of the decoder into ErrCorrupt: iceberg-go v0.7.0 panics on some
// damaged manifests.
func damaged(location string, recovered any, err error) error {
	if recovered == nil {
		return err
	}
	return fmt.Errorf("%s: %w: the decoder failed: %v", location, ErrCorrupt, recovered)
}

// Entries returns the live entries of one manifest. They are shared: do not change them.
func (r *Reader) Entries(ctx context.Context, m iceberg.ManifestFile) (out []iceberg.ManifestEntry, err error) {
	if e, ok := r.cache.Get(m.FilePath()); ok {
		return e, nil
	}
	data, err := fetch(ctx, r.wh, m.FilePath(), maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	defer func() { err = damaged(m.FilePath(), recover(), err) }()
	out, err = iceberg.ReadManifest(m, bytes.NewReader(data), true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", m.FilePath(), ErrCorrupt, err)
	}
	// Lists of format version 1 may leave the counts out.
	if want := int(m.AddedDataFiles()) + int(m.ExistingDataFiles()); len(out) != want && m.AddedDataFiles() >= 0 && m.ExistingDataFiles() >= 0 {
		return nil, fmt.Errorf("%s: %w: %d live entries, the list says %d", m.FilePath(), ErrCorrupt, len(out), want)
	}
	for _, e := range out {
		df := e.DataFile()
		if df.Count() < 0 || df.FileSizeBytes() < 0 {
			return nil, fmt.Errorf("%s: %w: %s has %d rows in %d bytes", m.FilePath(), ErrCorrupt, df.FilePath(), df.Count(), df.FileSizeBytes())
		}
		// Decoded lazily by the library; a panic belongs here, behind the recover, not at the reader's.
		_, _ = df.Partition(), df.LowerBoundValues()
	}
	r.cache.Add(m.FilePath(), int64(len(data)), out)
	return out, nil
}

// DataManifests are those of ms that hold data files.
func DataManifests(ms []iceberg.ManifestFile) []iceberg.ManifestFile {
	var out []iceberg.ManifestFile
	for _, m := range ms {
		if m.ManifestContent() == iceberg.ManifestContentData {
			out = append(out, m)
		}
	}
	return out
}

// Manifests returns the manifests of snap, in the list's order. They are shared: do not change them.
func (r *Reader) Manifests(ctx context.Context, snap *table.Snapshot) (out []iceberg.ManifestFile, err error) {
	if snap == nil {
		return nil, nil
	}
	if ms, ok := r.lists.Get(snap.ManifestList); ok {
		return slices.Clone(ms), nil // callers append to it and cut it
	}
	data, err := fetch(ctx, r.wh, snap.ManifestList, maxManifestListBytes)
	if err != nil {
		return nil, fmt.Errorf("manifest list of snapshot %d: %w", snap.SnapshotID, err)
	}
	defer func() { err = damaged(snap.ManifestList, recover(), err) }()
	out, err = iceberg.ReadManifestList(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", snap.ManifestList, ErrCorrupt, err)
	}
	r.lists.Add(snap.ManifestList, int64(len(data)), slices.Clone(out))
	return out, nil
}

// Files returns the live data files of snap that keep accepts (nil: all), in manifest order. A table with live
// delete files gives ErrDeleteFiles, because its data files alone would show deleted rows.
func (r *Reader) Files(ctx context.Context, snap *table.Snapshot, keep func(iceberg.DataFile) bool) ([]File, error) {
	manifests, err := r.Manifests(ctx, snap)
	if err != nil {
		return nil, err
	}
	return r.FilesOf(ctx, manifests, keep)
}

// FilesOf is Files over manifests that were read before.
func (r *Reader) FilesOf(ctx context.Context, manifests []iceberg.ManifestFile, keep func(iceberg.DataFile) bool) ([]File, error) {
	files, deletes, err := r.split(ctx, manifests, keep)
	if err == nil && len(deletes) > 0 {
		return nil, fmt.Errorf("%w: %s: compact the table with the engine that made them", ErrDeleteFiles, deletes[0].Manifest)
	}
	return files, err
}

// split gives the data files that keep accepts, and all delete files.
func (r *Reader) split(ctx context.Context, manifests []iceberg.ManifestFile, keep func(iceberg.DataFile) bool) (files, deletes []File, err error) {
	for _, m := range manifests {
		entries, err := r.Entries(ctx, m)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			df := e.DataFile()
			isDelete := m.ManifestContent() == iceberg.ManifestContentDeletes
			if !isDelete && keep != nil && !keep(df) {
				continue
			}
			f := File{DataFile: df, SequenceNumber: e.SequenceNum(), SnapshotID: e.SnapshotID(), Manifest: m.FilePath()}
			if s := e.FileSequenceNum(); s != nil {
				f.FileSequenceNumber = *s
			}
			if isDelete {
				deletes = append(deletes, f)
			} else {
				files = append(files, f)
			}
		}
	}
	return files, deletes, nil
}

// Files reads the live data files of snap without a cache.
func Files(ctx context.Context, wh *objstore.Warehouse, snap *table.Snapshot, keep func(iceberg.DataFile) bool) ([]File, error) {
	return NewReader(wh, 0).Files(ctx, snap, keep)
}

// Paths returns the location of every file that a manifest names, also of those that it says are deleted: what expires
// snapshots removes those. A manifest that has another length than its list says is ErrCorrupt, as one of more than limit
// bytes is.
func Paths(ctx context.Context, wh *objstore.Warehouse, m iceberg.ManifestFile, limit int64) (out []string, err error) {
	data, err := fetch(ctx, wh, m.FilePath(), min(limit, maxManifestBytes))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if int64(len(data)) != m.Length() {
		return nil, fmt.Errorf("%s: %w: it has %d bytes, its list says %d", m.FilePath(), ErrCorrupt, len(data), m.Length())
	}
	defer func() { err = damaged(m.FilePath(), recover(), err) }()
	entries, err := iceberg.ReadManifest(m, bytes.NewReader(data), false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", m.FilePath(), ErrCorrupt, err)
	}
	out = make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.DataFile().FilePath()
	}
	return out, nil
}
