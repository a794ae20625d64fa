package snapshottest

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Rows are positions by the location of the data file.
type Rows map[string][]int64

// PositionDeletes writes one position delete file for rows of files of one partition.
func PositionDeletes(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, partition map[int]any, rows Rows) (iceberg.DataFile, error) {
	var buf bytes.Buffer
	st, err := datafile.WritePositions(&buf, memory.DefaultAllocator, datafile.DefaultWriteOptions(), func(yield func(string, int64) bool) {
		for _, path := range slices.Sorted(maps.Keys(rows)) {
			for _, at := range slices.Sorted(slices.Values(rows[path])) {
				if !yield(path, at) {
					return
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	loc, err := put(ctx, wh, snapshot.DataLocation(meta, uuid.NewString()+"-deletes.parquet"), buf.Bytes())
	if err != nil {
		return nil, err
	}
	df, err := builder(meta, partition, loc, iceberg.ParquetFile, st.Rows, st.Bytes)
	if err != nil {
		return nil, err
	}
	return df.LowerBoundValues(st.Lower).UpperBoundValues(st.Upper).Build(), nil
}

// Vector writes the deletion vector of one data file.
func Vector(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, partition map[int]any, path string, rows []int64) (iceberg.DataFile, error) {
	bm := dv.NewRoaringPositionBitmap()
	for _, at := range rows {
		bm.Set(uint64(at))
	}
	blob, err := dv.SerializeDV(bm)
	if err != nil {
		return nil, err
	}
	data := append(append([]byte("PFA1"), "another blob"...), blob...) // readers go by the manifest, not by the footer
	loc, err := put(ctx, wh, snapshot.DataLocation(meta, uuid.NewString()+".puffin"), data)
	if err != nil {
		return nil, err
	}
	df, err := builder(meta, partition, loc, iceberg.PuffinFile, bm.Cardinality(), int64(len(data)))
	if err != nil {
		return nil, err
	}
	return df.ReferencedDataFile(path).ContentOffset(int64(len(data) - len(blob))).ContentSizeInBytes(int64(len(blob))).Build(), nil
}

func builder(meta table.Metadata, partition map[int]any, loc string, format iceberg.FileFormat, n, size int64) (*iceberg.DataFileBuilder, error) {
	return iceberg.NewDataFileBuilder(meta.PartitionSpec(), iceberg.EntryContentPosDeletes, loc, format, partition, nil, nil, n, size)
}

func put(ctx context.Context, wh *objstore.Warehouse, location string, data []byte) (string, error) {
	key, err := wh.Key(location)
	if err == nil {
		_, err = wh.Put(ctx, key, bytes.NewReader(data), objstore.IfAbsent)
	}
	return location, err
}

// Manifest writes a manifest of delete files. seq is the sequence number that they came with; 0: they are new in snapshot id.
func Manifest(ctx context.Context, wh *objstore.Warehouse, meta table.Metadata, id, seq int64, deletes ...iceberg.DataFile) (iceberg.ManifestFile, error) {
	entries := make([]snapshot.Entry, len(deletes))
	for i, d := range deletes {
		entries[i] = snapshot.Added(d)
		if seq > 0 {
			entries[i] = snapshot.Kept(snapshot.File{DataFile: d, SnapshotID: id, SequenceNumber: seq, FileSequenceNumber: seq})
		}
	}
	return snapshot.WriteDeleteManifest(ctx, wh, meta, meta.PartitionSpec(), id, entries)
}
