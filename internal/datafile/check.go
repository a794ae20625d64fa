package datafile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/parquet/metadata"
)

// What a file may claim. A footer is small; a column chunk that inflates beyond these would take the process down.
const (
	maxFooterBytes    = 64 << 20
	maxColumns        = 10_000
	maxRowGroups      = 100_000
	maxChunks         = 1 << 18 // row groups times columns: what the footer costs in memory once it is read
	maxChunkBytes     = 2 << 30 // uncompressed, of one column in one row group
	maxChunkRatio     = 5_000   // uncompressed to compressed; zstd of one repeated byte stays below
	minParquetBytes   = 12
	parquetMagic      = "PAR1"
	parquetTailLength = 8
)

// checkFrame looks at the magic bytes and the footer's length.
func checkFrame(ra io.ReaderAt, size int64) error {
	if size < minParquetBytes {
		return fmt.Errorf("%d bytes are too few for Parquet", size)
	}
	var head [4]byte
	var tail [parquetTailLength]byte
	if _, err := ra.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("read the head: %w", err)
	}
	if _, err := ra.ReadAt(tail[:], size-parquetTailLength); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the tail: %w", err)
	}
	if string(head[:]) != parquetMagic || string(tail[4:]) != parquetMagic {
		return fmt.Errorf("no Parquet magic at head or tail")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n > size-minParquetBytes || n > maxFooterBytes {
		return fmt.Errorf("the footer claims %d bytes of a file of %d", n, size)
	}
	return nil
}

// checkFooter holds every offset, length and count against the file's size before a page is decoded.
func checkFooter(m *metadata.FileMetaData, size int64) error {
	if m.NumRowGroups() > maxRowGroups || m.Schema.NumColumns() > maxColumns {
		return fmt.Errorf("%d row groups of %d columns: more than %d of %d", m.NumRowGroups(), m.Schema.NumColumns(), maxRowGroups, maxColumns)
	}
	if n := m.NumRowGroups() * m.Schema.NumColumns(); n > maxChunks {
		return fmt.Errorf("%d column chunks: more than %d", n, maxChunks)
	}
	var rows int64
	for g := range m.NumRowGroups() {
		rg := m.RowGroup(g)
		if rg.NumRows() < 0 || rg.NumColumns() != m.Schema.NumColumns() {
			return fmt.Errorf("row group %d: %d rows of %d columns, the schema has %d", g, rg.NumRows(), rg.NumColumns(), m.Schema.NumColumns())
		}
		rows += rg.NumRows()
		for c := range rg.NumColumns() {
			chunk, err := rg.ColumnChunk(c)
			if err != nil {
				return fmt.Errorf("row group %d column %d: %w", g, c, err)
			}
			if err := checkChunk(chunk, rg.NumRows(), size, m.Schema.Column(c).MaxRepetitionLevel() > 0); err != nil {
				return fmt.Errorf("row group %d column %s: %w", g, m.Schema.Column(c).Path(), err)
			}
		}
	}
	if rows != m.NumRows {
		return fmt.Errorf("the row groups hold %d rows, the footer says %d", rows, m.NumRows)
	}
	return nil
}

func checkChunk(c *metadata.ColumnChunkMetaData, rows, size int64, repeated bool) error {
	start, n, raw := chunkStart(c), c.TotalCompressedSize(), c.TotalUncompressedSize()
	switch {
	case start < int64(len(parquetMagic)) || n < 0 || start > size || n > size-start:
		return fmt.Errorf("bytes [%d,+%d) of a file of %d", start, n, size)
	case c.DataPageOffset() < start || c.DataPageOffset() > start+n:
		return fmt.Errorf("data pages at %d outside of [%d,+%d)", c.DataPageOffset(), start, n)
	case raw < 0 || raw > maxChunkBytes || raw > (n+1024)*maxChunkRatio:
		return fmt.Errorf("%d bytes claim to inflate to %d", n, raw)
	case c.NumValues() < 0 || (!repeated && c.NumValues() != rows):
		return fmt.Errorf("%d values for %d rows", c.NumValues(), rows)
	}
	return nil
}
