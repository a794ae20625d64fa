package datafile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"
)

const (
	dataPageBytes  = 1 << 20
	dataPageValues = 64 << 10
	// stretchRows is how many rows a column takes at a time; a page ends after one of these.
	stretchRows = 8 << 10
	nestedRows  = 1 << 10
	// A dictionary is given up when, after so many values, more than so much of them are different. Numbers that come
	// in order, as times do, compress better as they are long before that (a second of milliseconds: half the bytes).
	dictionaryTrial      = 512
	dictionaryWorth      = 0.6
	dictionaryWorthFixed = 0.25
)

// columnWriter writes the chunk of one column in one row group. Its pages stay in memory, compressed, until the row
// group ends.
type columnWriter struct {
	leaf     *leaf
	compress compressor
	scratch  scratch

	dict    dictionary
	useDict bool // for the next page

	// The page that is being filled.
	count      int // values and nulls
	pageDict   bool
	defs, reps []uint8
	indices    []uint32 // with pageDict
	plain      []byte   // without
	bools      int      // in plain

	// The chunk.
	pages               []byte
	values, nulls       int64
	uncompressed        int64
	dictPages, rawPages int32
	bounds              bounds
	bloom               bloom
	fpp                 float64 // of the Bloom filter; 0: none
}

func (c *columnWriter) reset(l *leaf, compress compressor) {
	c.leaf, c.compress, c.useDict = l, compress, l.kind != kindBool
	c.dict.reset(l.kind, l.width)
	c.clearPage()
	c.pages, c.values, c.nulls, c.uncompressed, c.dictPages, c.rawPages = c.pages[:0], 0, 0, 0, 0, 0
	c.bounds.reset(l)
	c.bloom.reset(c.fpp)
}

func (c *columnWriter) clearPage() {
	c.count, c.pageDict, c.bools = 0, c.useDict, 0
	c.defs, c.reps, c.indices, c.plain = c.defs[:0], c.reps[:0], c.indices[:0], c.plain[:0]
}

// add takes rows [from, to) of the leaf's column of a record batch.
func (c *columnWriter) add(a arrow.Array, from, to int) error {
	for from < to {
		n := c.rowsAtOnce(a, from, to)
		s, err := c.leaf.levels(a, from, from+n, &c.scratch)
		if err != nil {
			return err
		}
		v, err := c.leaf.valuesOf(s.array, &c.scratch)
		if err != nil {
			return err
		}
		if c.leaf.col.MaxDefinitionLevel() > 0 {
			c.defs = append(c.defs, s.defs...)
		}
		if c.leaf.col.MaxRepetitionLevel() > 0 {
			c.reps = append(c.reps, s.reps...)
		}
		c.count += s.levels
		c.values += int64(s.levels)
		c.nulls += int64(s.levels - s.n)
		c.encode(&s, &v)
		from += n
		if len(c.plain) >= dataPageBytes || c.count >= dataPageValues {
			if err := c.endPage(); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowsAtOnce keeps a page of long strings near its size.
func (c *columnWriter) rowsAtOnce(a arrow.Array, from, to int) int {
	if !c.leaf.flat {
		return min(to-from, nestedRows)
	}
	n := min(to-from, stretchRows)
	if c.leaf.kind != kindBytes {
		return n
	}
	for i := range c.leaf.nodes[1:] {
		a = a.(interface{ Field(int) arrow.Array }).Field(c.leaf.nodes[i].child)
	}
	if e, ok := a.(interface{ ValueOffsets() []int32 }); ok {
		off := e.ValueOffsets()
		for n > 1 && int64(off[from+n])-int64(off[from]) > 2*dataPageBytes {
			n /= 2
		}
	}
	return n
}

// encode appends the values of a stretch to the page.
func (c *columnWriter) encode(s *stretch, v *values) {
	from := 0
	if c.pageDict {
		from = c.encodeDict(s, v)
		if c.dict.bytes() > dictionaryBytes {
			c.useDict = false // from the next page on
		}
	}
	if from < s.n {
		c.encodePlain(s, v, from)
	}
}

// encodeDict appends numbers of the dictionary, and returns how many values it took: not all when it finds that the
// chunk is better off without a dictionary.
func (c *columnWriter) encodeDict(s *stretch, v *values) int {
	for i := range s.n {
		if c.dictPages == 0 && len(c.indices) == dictionaryTrial && c.poor() {
			c.abandon()
			return i
		}
		at := s.at(i)
		switch c.leaf.kind {
		case kind32:
			c.indices = append(c.indices, c.dict.number(uint64(v.v32[at])))
		case kind64:
			c.indices = append(c.indices, c.dict.number(v.v64[at]))
		case kindBytes:
			c.indices = append(c.indices, c.dict.bytesNumber(v.data[v.offsets[at]:v.offsets[at+1]]))
		default:
			c.indices = append(c.indices, c.dict.bytesNumber(v.data[at*c.leaf.width:][:c.leaf.width]))
		}
	}
	return s.n
}

// poor tells that hardly a value came twice.
func (c *columnWriter) poor() bool {
	worth := dictionaryWorthFixed
	if c.leaf.kind == kindBytes {
		worth = dictionaryWorth
	}
	return float64(c.dict.len()) > worth*float64(len(c.indices))
}

// abandon takes the chunk's dictionary back: the page goes on with the values themselves.
func (c *columnWriter) abandon() {
	c.bounds.addEntries(&c.dict)
	c.bloom.addEntries(&c.dict)
	for _, i := range c.indices {
		c.plain = c.dict.appendPlain(c.plain, int(i))
	}
	c.useDict, c.pageDict, c.indices = false, false, c.indices[:0]
	c.dict.reset(c.leaf.kind, c.leaf.width)
}

func (c *columnWriter) encodePlain(s *stretch, v *values, from int) {
	c.bounds.add(s, v, from)
	c.bloom.add(c.leaf, s, v, from)
	switch c.leaf.kind {
	case kindBool:
		for i := from; i < s.n; i++ {
			if c.bools%8 == 0 {
				c.plain = append(c.plain, 0)
			}
			if v.bools.Value(s.at(i)) {
				c.plain[len(c.plain)-1] |= 1 << (c.bools % 8)
			}
			c.bools++
		}
	case kind32:
		for i := from; i < s.n; i++ {
			c.plain = binary.LittleEndian.AppendUint32(c.plain, v.v32[s.at(i)])
		}
	case kind64:
		for i := from; i < s.n; i++ {
			c.plain = binary.LittleEndian.AppendUint64(c.plain, v.v64[s.at(i)])
		}
	case kindBytes:
		for i := from; i < s.n; i++ {
			at := s.at(i)
			b := v.data[v.offsets[at]:v.offsets[at+1]]
			c.plain = append(binary.LittleEndian.AppendUint32(c.plain, uint32(len(b))), b...)
		}
	default:
		for i := from; i < s.n; i++ {
			c.plain = append(c.plain, v.data[s.at(i)*c.leaf.width:][:c.leaf.width]...)
		}
	}
}

// endPage closes the page that is being filled.
func (c *columnWriter) endPage() error {
	if c.count == 0 {
		return nil
	}
	if c.pageDict && c.dictPages == 0 && c.poor() {
		c.abandon() // a small chunk, which ends within the trial
	}
	b := appendLevels(c.scratch.encoded[:0], c.reps, c.leaf.col.MaxRepetitionLevel())
	b = appendLevels(b, c.defs, c.leaf.col.MaxDefinitionLevel())
	encoding := parquet.Encodings.Plain
	if c.pageDict {
		encoding = parquet.Encodings.RLEDict
		width := max(bits.Len(uint(max(c.dict.len()-1, 0))), 1)
		b = appendHybrid(append(b, byte(width)), c.indices, width)
		c.dictPages++
	} else {
		b = append(b, c.plain...)
		c.rawPages++
	}
	c.scratch.encoded = b
	var err error
	c.pages, err = c.page(c.pages, pageHeader{kind: pageData, values: int64(c.count), encoding: int64(encoding), levelEncoding: int64(parquet.Encodings.RLE)}, b)
	c.clearPage()
	return err
}

func appendLevels(b []byte, levels []uint8, most int16) []byte {
	if most == 0 {
		return b
	}
	at := len(b)
	b = appendHybrid(append(b, 0, 0, 0, 0), levels, bits.Len(uint(most)))
	binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// page compresses a page and appends it with its header and its checksum.
func (c *columnWriter) page(dst []byte, h pageHeader, raw []byte) ([]byte, error) {
	body := raw
	if c.compress != nil {
		c.scratch.packed = c.compress(c.scratch.packed[:0], raw)
		body = c.scratch.packed
	}
	if len(raw) > math.MaxInt32 || len(body) > math.MaxInt32 {
		return dst, fmt.Errorf("column %s: a page of %d bytes is more than Parquet holds: a value is too large", c.leaf.col.Path(), len(raw))
	}
	h.uncompressed, h.size, h.crc = int64(len(raw)), int64(len(body)), crc32.ChecksumIEEE(body)
	before := len(dst)
	dst = appendPageHeader(dst, h)
	c.uncompressed += int64(len(dst)-before) + h.uncompressed
	return append(dst, body...), nil
}

// finish writes the chunk at the position at of the file and describes it for the footer.
func (c *columnWriter) finish(w *countingWriter, meta *metadata.ColumnChunkMetaDataBuilder) error {
	if err := c.endPage(); err != nil {
		return err
	}
	info := metadata.ChunkMetaInfo{NumValues: c.values, IndexPageOffset: -1}
	enc := metadata.EncodingStats{DictEncodingStats: map[parquet.Encoding]int32{}, DataEncodingStats: map[parquet.Encoding]int32{}}
	start := w.n
	if c.dictPages > 0 {
		c.bounds.addEntries(&c.dict)
		c.bloom.addEntries(&c.dict)
		raw := c.scratch.encoded[:0]
		for i := range c.dict.len() {
			raw = c.dict.appendPlain(raw, i)
		}
		c.scratch.encoded = raw
		page, err := c.page(nil, pageHeader{kind: pageDictionary, values: int64(c.dict.len()), encoding: int64(parquet.Encodings.Plain)}, raw)
		if err != nil {
			return err
		}
		info.DictPageOffset = start
		enc.DictEncodingStats[parquet.Encodings.Plain] = 1
		enc.DataEncodingStats[parquet.Encodings.RLEDict] = c.dictPages
		if _, err := w.Write(page); err != nil {
			return err
		}
	}
	if c.rawPages > 0 {
		enc.DataEncodingStats[parquet.Encodings.Plain] = c.rawPages
	}
	info.DataPageOffset = w.n
	if _, err := w.Write(c.pages); err != nil {
		return err
	}
	info.CompressedSize, info.UncompressedSize = w.n-start, c.uncompressed
	st := metadata.EncodedStatistics{Signed: c.leaf.col.SortOrder() == schema.SortSIGNED, AllNullValue: c.nulls == c.values}
	st.SetNullCount(c.nulls)
	if lo, up, ok := c.bounds.encode(); ok {
		st.SetMin(lo)
		st.SetMax(up)
		st.ApplyStatSizeLimits(statsBytes)
	}
	meta.SetStats(st)
	return meta.Finish(info, c.dictPages > 0, c.dictPages > 0 && c.rawPages > 0, enc)
}

// stored is about how many bytes the chunk will take: the pages that are done, and of what they were made from the same
// share for the one that is being filled.
func (c *columnWriter) stored() int64 {
	open := len(c.plain) + len(c.defs)/8 + len(c.indices)*bits.Len(uint(c.dict.len()))/8 + c.dict.bytes()
	if done := c.uncompressed; done > 0 {
		return int64(len(c.pages)) + int64(open)*int64(len(c.pages))/done
	}
	if c.compress != nil {
		open /= 2
	}
	return int64(open)
}

// held is the memory that the writer keeps.
func (c *columnWriter) held() int {
	s := &c.scratch
	return cap(c.pages) + cap(c.plain) + 4*cap(c.indices) + cap(c.defs) + cap(c.reps) + cap(c.dict.data) + 8*cap(c.dict.nums) + 8*cap(c.dict.hashes) + 4*cap(c.dict.table) +
		8*cap(c.bloom.hashes) + cap(s.encoded) + cap(s.packed) + cap(s.fixed) + 8*cap(s.v64) + 4*cap(s.v32) + 4*cap(s.positions) + 8*cap(s.slots[0]) + 8*cap(s.slots[1])
}
