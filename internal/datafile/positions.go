package datafile

import (
	"errors"
	"io"
	"iter"
	"math"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
)

// Field ids of position delete files (Iceberg spec, "Reserved Field IDs").
const (
	DeletePathID = math.MaxInt32 - 101
	DeletePosID  = math.MaxInt32 - 102
)

// positionSchema is that of a position delete file, without the rows that some writers copy into it.
var positionSchema = iceberg.NewSchema(0,
	iceberg.NestedField{ID: DeletePathID, Name: "file_path", Type: iceberg.PrimitiveTypes.String, Required: true},
	iceberg.NestedField{ID: DeletePosID, Name: "pos", Type: iceberg.PrimitiveTypes.Int64, Required: true})

// positionBatch is how many positions are given to the writer at once.
const positionBatch = 64 << 10

// WritePositions writes a position delete file: the path of a data file and a position in it for each deleted row, which the
// spec wants sorted by both. What it holds at a time is positionBatch of them and the writer's row group.
func WritePositions(w io.Writer, mem memory.Allocator, o WriteOptions, rows iter.Seq2[string, int64]) (Stats, error) {
	as, err := ArrowSchema(positionSchema)
	if err != nil {
		return Stats{}, err
	}
	fw, err := NewWriter(w, positionSchema, o)
	if err != nil {
		return Stats{}, err
	}
	abandon := func(err error) (Stats, error) {
		_, cerr := fw.Close() // gives the writer's buffers back
		return Stats{}, errors.Join(err, cerr)
	}
	b := array.NewRecordBuilder(mem, as)
	defer b.Release()
	paths, positions := b.Field(0).(*array.StringBuilder), b.Field(1).(*array.Int64Builder)
	flush := func() error {
		batch := b.NewRecordBatch()
		defer batch.Release()
		return fw.Write(batch)
	}
	for path, at := range rows {
		paths.Append(path)
		positions.Append(at)
		if positions.Len() == positionBatch {
			if err := flush(); err != nil {
				return abandon(err)
			}
		}
	}
	if positions.Len() > 0 {
		if err := flush(); err != nil {
			return abandon(err)
		}
	}
	return fw.Close()
}
