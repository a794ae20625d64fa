package datafile

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
)

const (
	// maxPageBytes bounds one page, compressed or not.
	maxPageBytes = 256 << 20
	// maxGuardedBytes bounds a column of integers in one row group, as it is stored.
	maxGuardedBytes = 256 << 20
)

// Footer is what a file says of itself, held against the file's size. No page of it has been read.
type Footer struct {
	name string
	size int64
	meta *metadata.FileMetaData
}

// ReadFooter reads and checks the footer of a file of the given size. It is the gate for whoever decodes the file with
// another library, which should also go through Chunk.
func ReadFooter(ra io.ReaderAt, size int64, name string) (f *Footer, err error) {
	defer func() { err = damaged(name, recover(), err) }()
	if err := checkFrame(ra, size); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	pq, err := file.NewParquetReader(io.NewSectionReader(ra, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: footer: %w", name, ErrCorrupt, err)
	}
	if err := checkFooter(pq.MetaData(), size); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrCorrupt, err)
	}
	return &Footer{name, size, pq.MetaData()}, nil
}

// Rows is the number of rows that the footer says.
func (f *Footer) Rows() int64 { return f.meta.NumRows }

// RowGroups is the number of row groups.
func (f *Footer) RowGroups() int { return f.meta.NumRowGroups() }

// Leaf returns the position among the file's columns of the column of values with a field id.
func (f *Footer) Leaf(fieldID int) (leaf int, ok bool) {
	for i := range f.meta.Schema.NumColumns() {
		if int(f.meta.Schema.Column(i).SchemaNode().FieldID()) == fieldID {
			return i, true
		}
	}
	return 0, false
}

// Compression names how a column is compressed in a row group: zstd, snappy, lz4_raw, …
func (f *Footer) Compression(group, leaf int) string {
	c, err := f.meta.RowGroup(group).ColumnChunk(leaf)
	if err != nil {
		return "unknown"
	}
	return strings.ToLower(c.Compression().String())
}

// Checksums is how many pages were read and how many of them carried a checksum, which was right.
type Checksums struct{ Pages, Verified int64 }

func (c *Checksums) add(o Checksums) { c.Pages, c.Verified = c.Pages+o.Pages, c.Verified+o.Verified }

// VerifyChecksums reads every page of the file and holds it against its checksum, where it has one.
func (f *Footer) VerifyChecksums(ctx context.Context, ra io.ReaderAt) (sum Checksums, err error) {
	defer func() { err = damaged(f.name, recover(), err) }()
	for g := range f.meta.NumRowGroups() {
		for c := range f.meta.Schema.NumColumns() {
			if err := ctx.Err(); err != nil {
				return sum, fmt.Errorf("%s: %w", f.name, err)
			}
			n, err := f.walk(ra, g, c, func(pageHeader, []byte) error { return nil })
			if err != nil {
				return sum, err
			}
			sum.add(n)
		}
	}
	return sum, nil
}

// Chunk is the bytes of one column in one row group, at Offset of the file.
type Chunk struct {
	Offset int64
	Bytes  []byte
}

// ReadAt reads at a position of the file that lies in the chunk.
func (c Chunk) ReadAt(p []byte, at int64) (int, error) {
	if at < c.Offset || at-c.Offset > int64(len(c.Bytes)) {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, c.Bytes[at-c.Offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Chunk reads one column of one row group, whose values are integers and not repeated, and checks what a decoder
// would trust in it: sizes and counts of its pages, lengths of runs, checksums where there are any. A decoder given
// these bytes allocates in proportion to the rows of the footer and the budget of a page.
func (f *Footer) Chunk(ra io.ReaderAt, group, leaf int) (c Chunk, sum Checksums, err error) {
	defer func() { err = damaged(f.name, recover(), err) }()
	meta, err := f.meta.RowGroup(group).ColumnChunk(leaf)
	if err != nil {
		return c, sum, fmt.Errorf("%s: %w: row group %d: %w", f.name, ErrCorrupt, group, err)
	}
	if n := meta.TotalCompressedSize(); n > maxGuardedBytes {
		return c, sum, fmt.Errorf("%s: row group %d: a column of %d bytes, at most %d are read at once: rewrite the file with smaller row groups", f.name, group, n, maxGuardedBytes)
	}
	guard, err := newGuard(f.meta.Schema.Column(leaf), meta)
	if err != nil {
		return c, sum, fmt.Errorf("%s: %w", f.name, err)
	}
	defer guard.close()
	c = Chunk{chunkStart(meta), make([]byte, meta.TotalCompressedSize())}
	if _, err := io.ReadFull(io.NewSectionReader(ra, c.Offset, int64(len(c.Bytes))), c.Bytes); err != nil {
		return c, sum, fmt.Errorf("%s: %w", f.name, err)
	}
	sum, err = f.walk(c, group, leaf, guard.page)
	if err == nil && guard.values != meta.NumValues() {
		err = f.corrupt(group, leaf, fmt.Errorf("the pages hold %d values, the footer says %d", guard.values, meta.NumValues()))
	}
	return c, sum, err
}

func (f *Footer) corrupt(group, leaf int, err error) error {
	return fmt.Errorf("%s: %w: row group %d column %s: %w", f.name, ErrCorrupt, group, f.meta.Schema.Column(leaf).Path(), err)
}

// walk goes through the pages of one chunk: each lies in the chunk, has a size within the budget and the right checksum.
// The bytes that fn gets are valid during the call.
func (f *Footer) walk(ra io.ReaderAt, group, leaf int, fn func(pageHeader, []byte) error) (Checksums, error) {
	var sum Checksums
	meta, err := f.meta.RowGroup(group).ColumnChunk(leaf)
	if err != nil {
		return sum, f.corrupt(group, leaf, err)
	}
	at := chunkStart(meta)
	w := &window{ra: ra, end: at + meta.TotalCompressedSize()}
	for at < w.end {
		h, n, err := w.header(at)
		if err != nil {
			if !errors.Is(err, errThrift) {
				return sum, fmt.Errorf("%s: %w", f.name, err)
			}
			return sum, f.corrupt(group, leaf, fmt.Errorf("page at %d: %w", at, err))
		}
		body, err := checkPage(w, h, at+n, meta)
		if err == nil {
			err = fn(h, body)
		}
		if err != nil {
			return sum, f.corrupt(group, leaf, fmt.Errorf("page at %d: %w", at, err))
		}
		sum.Pages++
		if h.hasCRC {
			sum.Verified++
		}
		at += n + h.size
	}
	return sum, nil
}

func checkPage(w *window, h pageHeader, at int64, meta *metadata.ColumnChunkMetaData) ([]byte, error) {
	switch {
	case h.size < 0 || h.size > w.end-at || h.size > maxPageBytes:
		return nil, fmt.Errorf("%d bytes of %d that are left of the column", h.size, w.end-at)
	case h.uncompressed < 0 || h.uncompressed > maxPageBytes || h.uncompressed > meta.TotalUncompressedSize():
		return nil, fmt.Errorf("it claims to inflate to %d bytes, the column to %d", h.uncompressed, meta.TotalUncompressedSize())
	case h.values < 0 || h.values > max(meta.NumValues(), 0):
		return nil, fmt.Errorf("%d values of a column of %d", h.values, meta.NumValues())
	}
	body, err := w.bytes(at, h.size)
	if err != nil {
		return nil, err
	}
	if sum := crc32.ChecksumIEEE(body); h.hasCRC && sum != h.crc {
		return nil, fmt.Errorf("its checksum is %08x, its bytes have %08x", h.crc, sum)
	}
	return body, nil
}

const (
	windowBytes = 1 << 20
	// headerBytes is what a page header fits in; statistics of long values may need longHeaderBytes.
	headerBytes     = 32 << 10
	longHeaderBytes = 8 << 20
)

// window reads a chunk in pieces that hold a page with its header, as a rule.
type window struct {
	ra   io.ReaderAt
	end  int64 // of the chunk
	base int64 // of buf
	buf  []byte
}

// bytes returns n bytes at a position of the file; they are valid until the next call.
func (w *window) bytes(at, n int64) ([]byte, error) {
	if at < w.base || at+n > w.base+int64(len(w.buf)) {
		size := min(max(n, windowBytes), w.end-at)
		if int64(cap(w.buf)) < size {
			w.buf = make([]byte, size)
		}
		w.base, w.buf = at, w.buf[:size]
		if _, err := io.ReadFull(io.NewSectionReader(w.ra, at, size), w.buf); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	return w.buf[at-w.base:][:n], nil
}

func (w *window) header(at int64) (h pageHeader, n int64, err error) {
	for _, most := range []int64{headerBytes, longHeaderBytes} {
		var b []byte
		if b, err = w.bytes(at, min(most, w.end-at)); err != nil {
			return h, 0, err
		}
		var k int
		if h, k, err = readPageHeader(b); err == nil {
			return h, int64(k), nil
		}
		if int64(len(b)) < most {
			break
		}
	}
	return h, 0, err
}
