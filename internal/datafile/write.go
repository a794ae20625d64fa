package datafile

import (
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

// Codecs are the compressions by name.
var Codecs = map[string]compress.Compression{
	"zstd": compress.Codecs.Zstd, "snappy": compress.Codecs.Snappy, "lz4": compress.Codecs.Lz4Raw, "none": compress.Codecs.Uncompressed,
}

// WriteOptions tune one file.
type WriteOptions struct {
	Codec        string // zstd, snappy, lz4 or none
	RowGroupRows int64  // rows per row group
	Mem          memory.Allocator
}

// DefaultWriteOptions compresses with zstd at its fastest level.
func DefaultWriteOptions() WriteOptions {
	return WriteOptions{Codec: "zstd", RowGroupRows: 1 << 20, Mem: memory.DefaultAllocator}
}

const (
	zstdLevel    = 1
	dataPageSize = 1 << 20
	// statsBytes bounds the min and max that Parquet keeps of a string; bounds for manifests are cut further.
	statsBytes = 4096
)

// Write writes rows, all in ArrowSchema(sc), as one Parquet file and returns what a manifest says of it.
func Write(w io.Writer, sc *iceberg.Schema, rows []arrow.RecordBatch, o WriteOptions) (st Stats, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("write parquet: %v", r)
		}
	}()
	fw, err := NewWriter(w, sc, o)
	if err != nil {
		return Stats{}, err
	}
	for _, r := range rows {
		if err := fw.Write(r); err != nil {
			return Stats{}, err
		}
	}
	return fw.Close()
}

// Writer writes one file batch by batch.
type Writer struct {
	sc   *iceberg.Schema
	out  *countingWriter
	pq   *pqarrow.FileWriter
	rows int64
	nans map[int]int64
}

// NewWriter starts a file.
func NewWriter(w io.Writer, sc *iceberg.Schema, o WriteOptions) (*Writer, error) {
	codec, ok := Codecs[o.Codec]
	if !ok {
		return nil, fmt.Errorf("write parquet: unknown codec %q: take zstd, snappy, lz4 or none", o.Codec)
	}
	as, err := ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	if o.Mem == nil {
		o.Mem = memory.DefaultAllocator
	}
	props := []parquet.WriterProperty{
		parquet.WithAllocator(o.Mem), parquet.WithVersion(parquet.V2_LATEST), parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithCompression(codec), parquet.WithDataPageSize(dataPageSize), parquet.WithMaxRowGroupLength(o.RowGroupRows),
		parquet.WithDictionaryDefault(true), parquet.WithStats(true), parquet.WithMaxStatsSize(statsBytes), parquet.WithCreatedBy("firn"),
		parquet.WithRootName("schema"), parquet.WithStoreDecimalAsInteger(true),
	}
	if codec == compress.Codecs.Zstd {
		props = append(props, parquet.WithCompressionLevel(zstdLevel))
	}
	// The ledger's numbers grow from row to row: their differences are a byte or less.
	for _, col := range []string{ledger.ColOffset, ledger.ColTimestamp, ledger.ColIngestedAt} {
		props = append(props, parquet.WithDictionaryFor(col, false), parquet.WithEncodingFor(col, parquet.Encodings.DeltaBinaryPacked))
	}
	out := &countingWriter{w: w}
	pq, err := pqarrow.NewFileWriter(as, out, parquet.NewWriterProperties(props...), pqarrow.NewArrowWriterProperties(pqarrow.WithAllocator(o.Mem)))
	if err != nil {
		return nil, fmt.Errorf("write parquet: %w", err)
	}
	return &Writer{sc: sc, out: out, pq: pq, nans: map[int]int64{}}, nil
}

// Write adds a batch. It does not keep it.
func (w *Writer) Write(r arrow.RecordBatch) error {
	if r.NumRows() == 0 {
		return nil
	}
	if err := w.pq.WriteBuffered(r); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	w.rows += r.NumRows()
	countNaNs(r, w.nans)
	return nil
}

// Rows is how many rows were written.
func (w *Writer) Rows() int64 { return w.rows }

// Close writes the footer.
func (w *Writer) Close() (Stats, error) {
	if err := w.pq.Close(); err != nil {
		return Stats{}, fmt.Errorf("write parquet: %w", err)
	}
	meta, err := w.pq.FileMetadata()
	if err != nil {
		return Stats{}, fmt.Errorf("write parquet: footer: %w", err)
	}
	if meta.NumRows != w.rows {
		return Stats{}, fmt.Errorf("write parquet: footer says %d rows, %d were written", meta.NumRows, w.rows)
	}
	st, err := statsOf(meta, w.sc, w.nans)
	st.Bytes = w.out.n
	return st, err
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
