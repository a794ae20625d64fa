package datafile

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/cespare/xxhash/v2"
)

// bloom gathers the hashes of a column chunk's values for a split-block Bloom filter (Parquet format, "Bloom Filter").
// The filter is made when the chunk ends, because its size follows from how many values are different.
type bloom struct {
	fpp    float64 // 0: the column has no filter
	hashes []uint64
}

// canBloom tells that a filter of the leaf would say something: of two booleans none does.
func (l *leaf) canBloom() bool { return l.kind != kindBool }

func (b *bloom) reset(fpp float64) { b.fpp, b.hashes = fpp, b.hashes[:0] }

func (b *bloom) word32(v uint32) {
	var raw [4]byte
	binary.LittleEndian.PutUint32(raw[:], v)
	b.hashes = append(b.hashes, xxhash.Sum64(raw[:]))
}

func (b *bloom) word64(v uint64) {
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], v)
	b.hashes = append(b.hashes, xxhash.Sum64(raw[:]))
}

// add takes the values of a stretch from one on.
func (b *bloom) add(l *leaf, s *stretch, v *values, from int) {
	if b.fpp == 0 {
		return
	}
	for i := from; i < s.n; i++ {
		at := s.at(i)
		switch l.kind {
		case kind32:
			b.word32(v.v32[at])
		case kind64:
			b.word64(v.v64[at])
		case kindBytes:
			b.hashes = append(b.hashes, xxhash.Sum64(v.data[v.offsets[at]:v.offsets[at+1]]))
		default:
			b.hashes = append(b.hashes, xxhash.Sum64(v.data[at*l.width:][:l.width]))
		}
	}
}

// addEntries takes the entries of a dictionary, which are all values that were encoded with it.
func (b *bloom) addEntries(d *dictionary) {
	if b.fpp == 0 {
		return
	}
	for _, v := range d.nums {
		if d.kind == kind32 {
			b.word32(uint32(v))
		} else {
			b.word64(v)
		}
	}
	for i := range d.ends {
		b.hashes = append(b.hashes, xxhash.Sum64(d.entry(i)))
	}
}

// filter makes the filter of the values so far; nil without one.
func (b *bloom) filter(most int64) metadata.BloomFilterBuilder {
	if b.fpp == 0 {
		return nil
	}
	slices.Sort(b.hashes)
	b.hashes = slices.Compact(b.hashes)
	f := metadata.NewBloomFilterFromNDVAndFPP(uint32(min(len(b.hashes), math.MaxUint32)), b.fpp, floorPowerOf2(most), memory.NewGoAllocator())
	f.InsertBulk(b.hashes)
	return f
}

// floorPowerOf2 keeps a bound a bound: sizes of filters are rounded up to a power of two.
func floorPowerOf2(n int64) int64 {
	p := int64(1)
	for p<<1 <= n {
		p <<= 1
	}
	return p
}
