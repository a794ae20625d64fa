package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/firnlake/firn/internal/units"
)

// Codecs of a record batch.
const (
	codecGzip = 1 + iota
	codecSnappy
	codecLZ4
	codecZstd
)

var errCodec = errors.New("codec is unknown")

// xerial is how snappy-java frames blocks, and with it Kafka's Java clients.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderBytes = 16

// decompressor turns the records of a batch into plain bytes. One goroutine uses it; close ends it.
type decompressor struct {
	limit int // of a batch's plain bytes; fixed from the first use on
	in    bytes.Reader
	gzip  *gzip.Reader
	zstd  *zstd.Decoder
}

func (d *decompressor) close() {
	if d.zstd != nil {
		d.zstd.Close()
		d.zstd = nil
	}
}

// run writes the plain bytes of src into dst's free capacity, or into more memory when that is too small, and returns
// them.
func (d *decompressor) run(dst []byte, codec int8, src []byte) (out []byte, err error) {
	switch codec {
	case codecGzip:
		out, err = d.runGzip(dst, src, d.limit)
	case codecSnappy:
		out, err = runSnappy(dst, src, d.limit)
	case codecLZ4:
		out, err = runLZ4(dst, src, d.limit)
	case codecZstd:
		out, err = d.runZstd(dst, src, d.limit)
	default:
		return nil, fmt.Errorf("%w: %w: %d", ErrCorrupt, errCodec, codec)
	}
	if err != nil && !errors.Is(err, ErrBatchTooLarge) {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, [...]string{"none", "gzip", "snappy", "lz4", "zstd"}[codec], err)
	}
	return out, err
}

func tooLarge(limit int) error {
	return fmt.Errorf("%w: uncompressed it has more than the %s of kafka.max_batch_bytes: raise that, to %s at most", ErrBatchTooLarge, units.Bytes(limit), units.Bytes(maxBatchLimit))
}

func (d *decompressor) runGzip(dst, src []byte, limit int) ([]byte, error) {
	d.in.Reset(src)
	if d.gzip == nil {
		r, err := gzip.NewReader(&d.in)
		if err != nil {
			return nil, err
		}
		d.gzip = r
	} else if err := d.gzip.Reset(&d.in); err != nil {
		return nil, err
	}
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(len(dst), 4*len(src), 512), limit-len(dst)+1))
		}
		n, err := d.gzip.Read(dst[len(dst):min(cap(dst), limit+1)])
		dst = dst[:len(dst)+n]
		if len(dst) > limit {
			return nil, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func runSnappy(dst, src []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerial) {
		return snappyBlock(dst, src, limit)
	}
	if len(src) < xerialHeaderBytes {
		return nil, io.ErrUnexpectedEOF
	}
	for src = src[xerialHeaderBytes:]; len(src) > 0; {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return nil, io.ErrUnexpectedEOF
		}
		var err error
		if dst, err = snappyBlock(dst, src[4:4+n], limit); err != nil {
			return nil, err
		}
		src = src[4+n:]
	}
	return dst, nil
}

// snappyBlock appends one block. A block of n bytes cannot say more than about 22 n, so that its stated length is held
// against its own size before memory is made for it.
func snappyBlock(dst, src []byte, limit int) ([]byte, error) {
	const maxRatio = 32
	n, err := snappy.DecodedLen(src)
	switch {
	case err != nil:
		return nil, err
	case n > limit-len(dst):
		return nil, tooLarge(limit)
	case n > maxRatio*len(src):
		return nil, snappy.ErrCorrupt
	}
	dst = slices.Grow(dst, n)
	out, err := snappy.Decode(dst[len(dst):len(dst)+n], src)
	if err != nil {
		return nil, err
	}
	return append(dst, out...), nil // in place: out begins at dst's end
}

// runZstd refuses frames whose window alone is beyond the bound; minBatchLimit leaves room for what encoders use. A frame's
// own checksum is not looked at: the batch's covers the same bytes and has been checked.
func (d *decompressor) runZstd(dst, src []byte, limit int) ([]byte, error) {
	if d.zstd == nil {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(uint64(limit)),
			zstd.IgnoreChecksum(true))
		if err != nil {
			return nil, err
		}
		d.zstd = r
	}
	out, err := d.zstd.DecodeAll(src, dst)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, tooLarge(limit)
	}
	return out, err
}

// Parts of an LZ4 frame.
const (
	lz4Magic         = 0x184D2204
	lz4Version       = 0x40
	lz4Independent   = 0x20
	lz4BlockSum      = 0x10
	lz4ContentSize   = 0x08
	lz4Dictionary    = 0x01
	lz4Plain         = 1 << 31 // of a block's size
	lz4HistoryBytes  = 64 << 10
	lz4MinHeader     = 7
	lz4BlockSizeBits = 4
)

var errLZ4 = errors.New("malformed frame")

// runLZ4 reads frames block by block into dst. The frame's own checksums are not looked at: the batch's covers the same
// bytes and has been checked.
func runLZ4(dst, src []byte, limit int) ([]byte, error) {
	start := len(dst)
	if len(src) < lz4MinHeader || binary.LittleEndian.Uint32(src) != lz4Magic {
		return nil, errLZ4
	}
	flags, bits := src[4], src[5]>>lz4BlockSizeBits&7
	if flags&0xC0 != lz4Version || flags&lz4Dictionary != 0 || bits < 4 {
		return nil, errLZ4
	}
	blockMax := 1 << (8 + 2*int(bits)) // 64 KiB to 4 MiB
	src = src[6:]
	if flags&lz4ContentSize != 0 {
		src = src[min(8, len(src)):]
	}
	src = src[min(1, len(src)):] // header checksum
	for {
		if len(src) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		head := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if head == 0 {
			return dst, nil // a content checksum may follow
		}
		n := int(head &^ lz4Plain)
		if n > len(src) || n > blockMax+blockMax/4 {
			return nil, errLZ4
		}
		block := src[:n]
		if src = src[n:]; flags&lz4BlockSum != 0 {
			src = src[min(4, len(src)):]
		}
		var err error
		if dst, err = lz4Block(dst, block, start, blockMax, head&lz4Plain != 0, flags&lz4Independent == 0); err != nil {
			return nil, err
		}
		if len(dst)-start > limit {
			return nil, tooLarge(limit)
		}
	}
}

// lz4Block appends one block of at most blockMax plain bytes.
func lz4Block(dst, block []byte, start, blockMax int, plain, linked bool) ([]byte, error) {
	if plain {
		if len(block) > blockMax {
			return nil, errLZ4
		}
		return append(dst, block...), nil
	}
	// An LZ4 block holds at most 255 plain bytes for each of its own. The memory at hand is tried first, because many
	// writers announce blocks of 4 MiB and fill far less.
	most := min(blockMax, 255*len(block)+16)
	room := min(most, max(cap(dst)-len(dst), 4*len(block)))
	for {
		dst = slices.Grow(dst, room)
		var history []byte
		if linked {
			history = dst[max(start, len(dst)-lz4HistoryBytes):]
		}
		n, err := lz4.UncompressBlockWithDict(block, dst[len(dst):len(dst)+room], history)
		if err == nil {
			return dst[:len(dst)+n], nil
		}
		if room == most {
			return nil, err
		}
		room = min(most, 4*room)
	}
}
