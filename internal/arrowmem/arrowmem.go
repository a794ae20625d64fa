package arrowmem

import "github.com/apache/arrow-go/v18/arrow"

// Bytes is the memory of all buffers that r refers to, nested columns and dictionaries included, with the room that they have left
// over. A buffer shared by two columns counts twice.
func Bytes(r arrow.RecordBatch) int64 {
	var n int64
	for _, c := range r.Columns() {
		n += dataBytes(c.Data())
	}
	return n
}

func dataBytes(d arrow.ArrayData) int64 {
	var n int64
	for _, b := range d.Buffers() {
		if b != nil {
			n += int64(b.Cap())
		}
	}
	for _, c := range d.Children() {
		n += dataBytes(c)
	}
	if d.DataType().ID() == arrow.DICTIONARY { // elsewhere Dictionary is a typed nil
		n += dataBytes(d.Dictionary())
	}
	return n
}
