package datafile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// guard looks into the pages of one integer column before a decoder does. A decoder allocates by the counts that a
// page holds, of values, of a run, of a block; each is held against the number of values that the page header claims,
// which was held against the footer, before.
type guard struct {
	codec  compress.Compression
	levels int // bits of a definition level; 0 when the column is required
	width  int64
	values int64 // in data pages so far
	dict   int64 // values of the dictionary; -1 when there is none yet
	zstd   *zstd.Decoder
	buf    []byte
}

func newGuard(col *schema.Column, c *metadata.ColumnChunkMetaData) (*guard, error) {
	g := &guard{codec: c.Compression(), levels: bits.Len(uint(col.MaxDefinitionLevel())), dict: -1}
	switch col.PhysicalType() {
	case parquet.Types.Int32:
		g.width = 4
	case parquet.Types.Int64:
		g.width = 8
	}
	if g.width == 0 || col.MaxRepetitionLevel() > 0 {
		return nil, fmt.Errorf("column %s holds no plain integers", col.Path())
	}
	if g.codec == compress.Codecs.Zstd {
		var err error
		if g.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPageBytes)); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
	}
	return g, nil
}

func (g *guard) close() {
	if g.zstd != nil {
		g.zstd.Close()
	}
}

var errShort = errors.New("it ends inside its values")

func (g *guard) page(h pageHeader, b []byte) error {
	switch h.kind {
	case pageIndex:
		return nil
	case pageDictionary:
		data, err := g.inflate(b, h.uncompressed)
		if err != nil {
			return err
		}
		if int64(len(data)) < h.values*g.width {
			return errShort
		}
		g.dict = h.values
		return nil
	case pageData, pageDataV2:
		g.values += h.values
		levels, data, err := g.split(h, b)
		if err != nil {
			return err
		}
		if g.levels > 0 && h.values > 0 {
			if err := checkRuns(levels, g.levels, h.values, true); err != nil {
				return fmt.Errorf("definition levels: %w", err)
			}
		}
		return g.checkValues(h, data)
	}
	return fmt.Errorf("a page of the unknown kind %d", h.kind)
}

// split gives the encoded definition levels and the encoded values of a data page.
func (g *guard) split(h pageHeader, b []byte) (levels, values []byte, err error) {
	if h.kind == pageDataV2 {
		if h.repBytes != 0 || h.defBytes < 0 || h.defBytes > int64(len(b)) || h.defBytes > h.uncompressed {
			return nil, nil, fmt.Errorf("levels of %d and %d bytes in a page of %d", h.repBytes, h.defBytes, len(b))
		}
		levels, values = b[:h.defBytes], b[h.defBytes:]
		if !h.plain {
			values, err = g.inflate(values, h.uncompressed-h.defBytes)
		}
		return levels, values, err
	}
	if values, err = g.inflate(b, h.uncompressed); err != nil || g.levels == 0 {
		return nil, values, err
	}
	if h.levelEncoding != int64(parquet.Encodings.RLE) {
		return nil, nil, fmt.Errorf("definition levels in the encoding %d", h.levelEncoding)
	}
	if len(values) < 4 {
		return nil, nil, errShort
	}
	n := int64(binary.LittleEndian.Uint32(values))
	if n > int64(len(values)-4) {
		return nil, nil, fmt.Errorf("definition levels of %d bytes in %d", n, len(values))
	}
	return values[4 : 4+n], values[4+n:], nil
}

// inflate decompresses into at most size bytes. What the compressed bytes claim of themselves is not trusted.
func (g *guard) inflate(b []byte, size int64) (out []byte, err error) {
	switch g.codec {
	case compress.Codecs.Uncompressed:
		out = b
	case compress.Codecs.Zstd:
		var h zstd.Header
		if err := h.Decode(b); err == nil && h.HasFCS && h.FrameContentSize > uint64(size) {
			return nil, fmt.Errorf("zstd: a frame of %d bytes in a page of %d", h.FrameContentSize, size)
		}
		out, err = g.zstd.DecodeAll(b, g.buf[:0])
		g.buf = out
	case compress.Codecs.Snappy:
		n, err := snappy.DecodedLen(b)
		if err != nil || int64(n) != size {
			return nil, fmt.Errorf("snappy: %d bytes in a page of %d: %w", n, size, errors.Join(err))
		}
		if out, err = snappy.Decode(g.buf[:cap(g.buf)], b); err != nil {
			return nil, fmt.Errorf("snappy: %w", err)
		}
		g.buf = out
	case compress.Codecs.Lz4Raw:
		if int64(cap(g.buf)) < size {
			g.buf = make([]byte, size)
		}
		if size == 0 {
			return nil, nil
		}
		n, err := lz4.UncompressBlock(b, g.buf[:size])
		if err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
		out = g.buf[:n]
	default:
		return nil, fmt.Errorf("the compression %s is not one that firn reads: rewrite the file with zstd, snappy or lz4", g.codec)
	}
	if err != nil {
		return nil, err
	}
	if int64(len(out)) != size {
		return nil, fmt.Errorf("it inflates to %d bytes, its header says %d", len(out), size)
	}
	return out, nil
}

func (g *guard) checkValues(h pageHeader, b []byte) error {
	switch parquet.Encoding(h.encoding) {
	case parquet.Encodings.Plain, parquet.Encodings.ByteStreamSplit:
		if int64(len(b)) > h.values*g.width {
			return fmt.Errorf("%d bytes for %d values", len(b), h.values)
		}
		return nil // nulls take no bytes: fewer may be right, and the decoder checks
	case parquet.Encodings.RLEDict, parquet.Encodings.PlainDict:
		if len(b) == 0 {
			return nil
		}
		if g.dict < 0 || b[0] > 32 {
			return fmt.Errorf("indices of %d bits, into a dictionary of %d", b[0], g.dict)
		}
		return checkRuns(b[1:], int(b[0]), h.values, false)
	case parquet.Encodings.DeltaBinaryPacked:
		return checkDelta(b, h.values)
	}
	return fmt.Errorf("values in the encoding %s, which integers do not have", parquet.Encoding(h.encoding))
}

// checkRuns adds up the runs of the RLE and bit-packing hybrid. They may exceed want by the padding of the last run;
// exactly says that they must reach it.
func checkRuns(b []byte, width int, want int64, exactly bool) error {
	var got int64
	for len(b) > 0 && got < want {
		head, n := binary.Uvarint(b)
		if n <= 0 {
			return errShort
		}
		b = b[n:]
		var run, size uint64
		if head&1 == 1 {
			run, size = (head>>1)*8, (head>>1)*uint64(width)
		} else {
			run, size = head>>1, uint64(width+7)/8
		}
		if head>>1 > uint64(want) || int64(run) > want-got+7 {
			return fmt.Errorf("a run of %d with %d values to come", run, want-got)
		}
		if size > uint64(len(b)) {
			// The last group may lack the bytes of its padding.
			if head&1 == 0 || uint64(len(b))*8 < uint64(want-got)*uint64(width) {
				return errShort
			}
			size = uint64(len(b))
		}
		b, got = b[size:], got+int64(run)
	}
	if exactly && got < want {
		return fmt.Errorf("%d of %d values", got, want)
	}
	if len(b) > 0 {
		return fmt.Errorf("%d bytes after the last value", len(b))
	}
	return nil
}

// maxDeltaBlock bounds the block of DELTA_BINARY_PACKED; writers take 128.
const maxDeltaBlock = 1 << 16

// checkDelta looks at the header of DELTA_BINARY_PACKED values.
func checkDelta(b []byte, want int64) error {
	if len(b) == 0 {
		return nil
	}
	var head [3]uint64 // block size, miniblocks in a block, values
	for i := range head {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return errShort
		}
		head[i], b = v, b[n:]
	}
	if head[0] == 0 || head[0] > maxDeltaBlock || head[0]%128 != 0 || head[1] == 0 || head[1] > head[0]/32 || head[2] > uint64(want) {
		return fmt.Errorf("%d deltas in blocks of %d in %d parts, with %d values to come", head[2], head[0], head[1], want)
	}
	return nil
}
