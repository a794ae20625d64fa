package datafile

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/apache/iceberg-go"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// statsBytes bounds the min and max that Parquet keeps of a string; bounds for manifests are cut further.
const statsBytes = 4096

// sizedRows is after how many rows the size of a row group is looked at; a multiple of stretchRows, so that it does not
// show in the pages.
const sizedRows = 8 * stretchRows

// Write writes rows, all in ArrowSchema(sc), as one Parquet file and returns what a manifest says of it.
func Write(w io.Writer, sc *iceberg.Schema, rows []arrow.RecordBatch, o WriteOptions) (Stats, error) {
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
//
// Schema and footer are arrow-go's; levels, encodings and pages are written here, because arrow-go has no page
// checksums and takes several times the CPU for the small files of one second (docs/decisions/0002-parquet-writer.md).
// Values are in PLAIN or dictionary encoding, in data pages of version 1: what every reader of Iceberg tables knows.
type Writer struct {
	sc      *iceberg.Schema
	as      *arrow.Schema
	out     *countingWriter
	footer  *metadata.FileMetaDataBuilder
	columns []*columnWriter
	blooms  metadata.FileBloomFilterBuilder
	opt     WriteOptions
	group   int64 // rows in the row group at hand
	groups  int
	rows    int64
	nans    map[int]int64
	closed  bool
}

// NewWriter starts a file.
func NewWriter(w io.Writer, sc *iceberg.Schema, o WriteOptions) (*Writer, error) {
	codec, ok := Codecs[o.Codec]
	if !ok {
		return nil, fmt.Errorf("write parquet: unknown codec %q: take zstd, snappy, lz4 or none", o.Codec)
	}
	press, err := compressorOf(codec)
	if err != nil {
		return nil, fmt.Errorf("write parquet: %s: %w", o.Codec, err)
	}
	as, err := ArrowSchema(sc)
	if err != nil {
		return nil, err
	}
	props := parquet.NewWriterProperties(parquet.WithVersion(parquet.V2_LATEST), parquet.WithCompression(codec), parquet.WithCreatedBy("firn"),
		parquet.WithRootName("schema"), parquet.WithStoreDecimalAsInteger(true))
	ps, err := pqarrow.ToParquet(as, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, fmt.Errorf("write parquet: schema: %w", err)
	}
	leaves, err := leavesOf(as, ps)
	if err != nil {
		return nil, fmt.Errorf("write parquet: %w", err)
	}
	fw := &Writer{sc: sc, as: as, out: &countingWriter{w: w}, footer: metadata.NewFileMetadataBuilder(ps, props, nil),
		blooms: metadata.FileBloomFilterBuilder{Schema: ps}, opt: o, nans: map[int]int64{}}
	if fw.opt.RowGroupRows <= 0 {
		fw.opt.RowGroupRows = defaultRowGroupRows
	}
	if fw.opt.BloomBytes <= 0 {
		fw.opt.BloomBytes = defaultBloomBytes
	}
	for _, l := range leaves {
		c := columnWriters.Get().(*columnWriter)
		c.fpp = 0
		if l.canBloom() {
			c.fpp = o.Columns[l.fieldID()].Bloom
		}
		c.reset(l, press)
		fw.columns = append(fw.columns, c)
	}
	if _, err := io.WriteString(fw.out, parquetMagic); err != nil {
		return nil, fmt.Errorf("write parquet: %w", err)
	}
	return fw, nil
}

// columnWriters keeps the memory of columns from file to file.
var columnWriters = sync.Pool{New: func() any { return new(columnWriter) }}

// pooledBytes is the most memory that a column's writer may bring back to the pool.
const pooledBytes = 4 << 20

// compressor compresses src, into dst if that is large enough; dst is empty.
type compressor func(dst, src []byte) []byte

var zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	// A page has a checksum of its own.
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
})

func compressorOf(codec compress.Compression) (compressor, error) {
	switch codec {
	case compress.Codecs.Uncompressed:
		return nil, nil
	case compress.Codecs.Zstd:
		e, err := zstdEncoder()
		if err != nil {
			return nil, err
		}
		return func(dst, src []byte) []byte { return e.EncodeAll(src, dst) }, nil
	case compress.Codecs.Snappy:
		return func(dst, src []byte) []byte { return s2.EncodeSnappyBetter(dst[:cap(dst)], src) }, nil
	}
	c, err := compress.GetCodec(codec)
	if err != nil {
		return nil, err
	}
	return func(dst, src []byte) []byte { return append(dst, c.Encode(nil, src)...) }, nil
}

// Write adds a batch. It does not keep it. After an error the file is of no use.
func (w *Writer) Write(r arrow.RecordBatch) (err error) {
	defer func() {
		if r := recover(); r != nil { // a batch whose buffers are shorter than it says
			err = fmt.Errorf("write parquet: %v", r)
		}
	}()
	if err := w.fits(r); err != nil {
		return fmt.Errorf("write parquet: %w", err)
	}
	for from := int64(0); from < r.NumRows(); {
		n := min(r.NumRows()-from, w.opt.RowGroupRows-w.group, sizedRows)
		for _, c := range w.columns {
			if err := c.add(r.Column(c.leaf.top), int(from), int(from+n)); err != nil {
				return fmt.Errorf("write parquet: %w", err)
			}
		}
		from += n
		w.group += n
		if w.group == w.opt.RowGroupRows || (w.opt.RowGroupBytes > 0 && w.stored() >= w.opt.RowGroupBytes) {
			if err := w.endGroup(); err != nil {
				return fmt.Errorf("write parquet: %w", err)
			}
		}
	}
	w.rows += r.NumRows()
	countNaNs(r, w.nans)
	return nil
}

// fits holds a batch's columns against the schema.
func (w *Writer) fits(r arrow.RecordBatch) error {
	if int(r.NumCols()) != w.as.NumFields() {
		return fmt.Errorf("a batch of %d columns, the schema has %d", r.NumCols(), w.as.NumFields())
	}
	for i, f := range w.as.Fields() {
		if !arrow.TypeEqual(r.Column(i).DataType(), f.Type) {
			return fmt.Errorf("column %s is a %s, the schema says %s", f.Name, r.Column(i).DataType(), f.Type)
		}
	}
	return nil
}

func (w *Writer) endGroup() error {
	if w.group == 0 {
		return nil
	}
	g := w.footer.AppendRowGroup()
	filters := map[string]metadata.BloomFilterBuilder{}
	for _, c := range w.columns {
		if err := c.finish(w.out, g.NextColumnChunk()); err != nil {
			return err
		}
		if f := c.bloom.filter(w.opt.BloomBytes); f != nil {
			filters[c.leaf.col.Path()] = f
		}
		c.reset(c.leaf, c.compress)
	}
	w.blooms.AppendRowGroup(g, filters)
	g.SetNumRows(int(w.group))
	w.group = 0
	w.groups++
	return g.Finish(0, int16(w.groups-1))
}

// Rows is how many rows were written.
func (w *Writer) Rows() int64 { return w.rows }

// Size is about how large the file is so far, what is not written out yet included.
func (w *Writer) Size() int64 { return w.out.n + w.stored() }

// stored is about how many bytes the row group at hand will take.
func (w *Writer) stored() (n int64) {
	for _, c := range w.columns {
		n += c.stored()
	}
	return n
}

// Close writes the footer.
func (w *Writer) Close() (Stats, error) {
	if w.closed {
		return Stats{}, fmt.Errorf("write parquet: closed before")
	}
	w.closed = true
	defer w.recycle()
	if err := w.endGroup(); err != nil {
		return Stats{}, fmt.Errorf("write parquet: %w", err)
	}
	if err := w.blooms.WriteTo(w.out); err != nil {
		return Stats{}, fmt.Errorf("write parquet: bloom filters: %w", err)
	}
	meta, err := w.footer.Finish()
	if err != nil {
		return Stats{}, fmt.Errorf("write parquet: footer: %w", err)
	}
	if meta.NumRows != w.rows {
		return Stats{}, fmt.Errorf("write parquet: footer says %d rows, %d were written", meta.NumRows, w.rows)
	}
	n, err := meta.WriteTo(w.out, nil)
	if err != nil {
		return Stats{}, fmt.Errorf("write parquet: footer: %w", err)
	}
	if _, err := w.out.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), parquetMagic...)); err != nil {
		return Stats{}, fmt.Errorf("write parquet: %w", err)
	}
	st, err := statsOf(meta, w.sc, w.nans, w.opt.metrics)
	st.Bytes = w.out.n
	return st, err
}

func (w *Writer) recycle() {
	for _, c := range w.columns {
		if c.held() <= pooledBytes {
			columnWriters.Put(c)
		}
	}
	w.columns = nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

// Tell is the position in the file.
func (c *countingWriter) Tell() int64 { return c.n }

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
