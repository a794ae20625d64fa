package deadletter

import (
	"encoding/binary"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// Stretch is, of each partition in From, the offsets from From on and below To.
type Stretch struct{ From, To offset.Vector }

// Has tells whether the letter's record lies in it.
func (s Stretch) Has(l *Letter) bool {
	from, ok := s.From[l.Partition]
	return ok && l.Offset >= from && l.Offset < s.To[l.Partition]
}

// MayHold tells of a data file of a table with the given schema whether its statistics leave open that it holds such letters.
func (s Stretch) MayHold(sc *iceberg.Schema) func(iceberg.DataFile) bool {
	pf, pok := sc.FindFieldByName(ledger.ColPartition)
	of, ook := sc.FindFieldByName(ledger.ColOffset)
	if !pok || !ook {
		return func(iceberg.DataFile) bool { return true }
	}
	return func(f iceberg.DataFile) bool {
		low, top := f.LowerBoundValues(), f.UpperBoundValues()
		p1, p2, o1, o2 := low[pf.ID], top[pf.ID], low[of.ID], top[of.ID]
		if len(p1) != 4 || len(p2) != 4 || len(o1) != 8 || len(o2) != 8 {
			return true
		}
		first, last := int64(binary.LittleEndian.Uint64(o1)), int64(binary.LittleEndian.Uint64(o2))
		for p, from := range s.From {
			if p >= int32(binary.LittleEndian.Uint32(p1)) && p <= int32(binary.LittleEndian.Uint32(p2)) && last >= from && first < s.To[p] {
				return true
			}
		}
		return false
	}
}
