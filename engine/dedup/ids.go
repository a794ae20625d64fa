package dedup

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/zeebo/xxh3"
)

// hashes appends the hash of each value of a column to to; none for null. Integers of both widths have one hash, because a column may
// become wider while the pipeline runs.
func hashes(to []id, col arrow.Array, seed uint64) ([]id, error) {
	if ext, ok := col.(array.ExtensionArray); ok {
		col = ext.Storage()
	}
	var one func(i int) id
	var word [8]byte
	whole := func(v int64) id {
		binary.LittleEndian.PutUint64(word[:], uint64(v))
		return xxh3.Hash128Seed(word[:], seed)
	}
	switch c := col.(type) {
	case *array.String:
		one = func(i int) id { return xxh3.HashString128Seed(c.Value(i), seed) }
	case *array.Binary:
		one = func(i int) id { return xxh3.Hash128Seed(c.Value(i), seed) }
	case *array.FixedSizeBinary:
		one = func(i int) id { return xxh3.Hash128Seed(c.Value(i), seed) }
	case *array.Int32:
		one = func(i int) id { return whole(int64(c.Value(i))) }
	case *array.Int64:
		one = func(i int) id { return whole(c.Value(i)) }
	default:
		return to, fmt.Errorf("%w: ids of Arrow type %s", ErrConfig, col.DataType())
	}
	for i := range col.Len() {
		if col.IsNull(i) {
			to = append(to, id{})
			continue
		}
		h := one(i)
		if h == (id{}) {
			h.Lo = 1 // zero is no id
		}
		to = append(to, h)
	}
	return to, nil
}
