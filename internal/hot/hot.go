package hot

import (
	"errors"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/internal/offset"
)

var (
	// ErrExpired: the tail no longer holds rows from C on (they are committed since). Pin a newer snapshot and ask again.
	ErrExpired = errors.New("CUT_EXPIRED: the tail starts after the asked offsets; pin a newer snapshot")
	// ErrNoTail: nobody serves a tail of this table; the committed rows are all there is.
	ErrNoTail = errors.New("no tail is served for this table")
	// ErrFenced: the tail's owner belongs to another epoch than the snapshot; its rows must not be shown.
	ErrFenced = errors.New("the tail belongs to another epoch than the snapshot")
)

// Cut is the rows of a table's tail from a vector on, in the table's Arrow schema, ledger columns included.
// Each batch holds rows of one partition in ascending _kafka_offset.
type Cut struct {
	Rows    []arrow.RecordBatch
	From    offset.Vector // C as asked
	End     offset.Vector // H: next offset per partition after these rows
	Epoch   int64         // rewind generation that the tail belongs to
	release func()
}

// NewCut returns a Cut that calls release when it is released; release may be nil.
func NewCut(rows []arrow.RecordBatch, from, end offset.Vector, epoch int64, release func()) *Cut {
	return &Cut{Rows: rows, From: from, End: end, Epoch: epoch, release: release}
}

// Release gives the rows back. It may be called more than once.
func (c *Cut) Release() {
	if c == nil || c.release == nil {
		return
	}
	c.release()
	c.release = nil
}
