package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
)

// maxCheckedFiles bounds the data files whose footer is remembered as checked.
const maxCheckedFiles = 64 << 10

// fileStore gives data files as checked files on local disk: those of a file warehouse where they lie, others as
// copies in a bounded cache.
type fileStore struct {
	warehouse *objstore.Warehouse
	checked   *lru.Cache[string, *arrow.Schema] // by location, which is written once
	shapes    *lru.Cache[string, *arrow.Schema] // one schema for all files that look the same
	cache     *diskCache
	temporary string // a folder that goes with the store; "" when the configuration named one
}

func newFileStore(cfg Config, wh *objstore.Warehouse, m *metrics) (*fileStore, error) {
	dir, temporary := cfg.CacheDir, ""
	if dir == "" {
		d, err := os.MkdirTemp("", "firn-query-")
		if err != nil {
			return nil, fmt.Errorf("query cache: %w", err)
		}
		dir, temporary = d, d
	}
	cache, err := newDiskCache(filepath.Join(dir, "files"), int64(cfg.CacheSize), cfg.Downloads, wh, m)
	if err != nil {
		return nil, errors.Join(err, removeAll(temporary))
	}
	return &fileStore{
		warehouse: wh, cache: cache, temporary: temporary,
		checked: lru.New[string, *arrow.Schema](maxCheckedFiles), shapes: lru.New[string, *arrow.Schema](1024),
	}, nil
}

func removeAll(dir string) error {
	if dir == "" {
		return nil
	}
	return os.RemoveAll(dir)
}

// Close removes what was only temporary.
func (f *fileStore) Close() error { return removeAll(f.temporary) }

// local returns the file at a location. release lets the cache forget it.
func (f *fileStore) local(ctx context.Context, location string, size int64) (out File, release func(), err error) {
	key, err := f.warehouse.Key(location)
	if err != nil {
		return File{}, nil, fmt.Errorf("data file: %w", err)
	}
	out, release, err = f.copyOf(ctx, key, location, size)
	if _, ok := f.warehouse.LocalPath(key); !ok && errors.Is(err, ErrCorrupt) && f.cache.discard(key) {
		// A copy of an earlier process may have come to harm on this disk: only a fresh one tells of the file.
		return f.copyOf(ctx, key, location, size)
	}
	return out, release, err
}

func (f *fileStore) copyOf(ctx context.Context, key, location string, size int64) (out File, release func(), err error) {
	path, ok := f.warehouse.LocalPath(key)
	release = func() {}
	if !ok {
		if path, release, err = f.cache.acquire(ctx, key, size); err != nil {
			return File{}, nil, err
		}
	}
	schema, ok := f.checked.Get(location)
	if !ok {
		if schema, err = f.check(path, location); err != nil {
			release()
			return File{}, nil, err
		}
		f.checked.Put(location, 1, schema)
	}
	return File{Path: path, Location: location, Schema: schema}, release, nil
}

// check holds the footer against the file before another library sees it, and reads the schema of the file.
func (f *fileStore) check(path, location string) (*arrow.Schema, error) {
	r, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("data file %s: %w", location, objstore.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", location, err)
	}
	defer func() { _ = r.Close() }() // nothing was written
	info, err := r.Stat()
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", location, err)
	}
	if _, err := datafile.ReadFooter(r, info.Size(), location); err != nil {
		return nil, classify(err)
	}
	sc, err := schemaOfFile(io.NewSectionReader(r, 0, info.Size()), location)
	if err != nil {
		return nil, classify(err)
	}
	text := sc.String() // with metadata: the field ids
	if shared, ok := f.shapes.Get(text); ok {
		return shared, nil
	}
	f.shapes.Put(text, 1, sc)
	return sc, nil
}

// schemaOfFile is the schema by the file's own columns. The footer was checked before.
func schemaOfFile(r *io.SectionReader, name string) (sc *arrow.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: the decoder failed: %v", name, datafile.ErrCorrupt, p)
		}
	}()
	pq, err := file.NewParquetReader(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: footer: %w", name, datafile.ErrCorrupt, err)
	}
	sc, err = pqarrow.FromParquet(pq.MetaData().Schema, &pqarrow.ArrowReadProperties{}, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: schema: %w", name, datafile.ErrCorrupt, err)
	}
	return sc, nil
}
