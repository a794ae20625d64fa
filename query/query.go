package query

import (
	"context"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/offset"
)

// TailSource hands out the rows of a table that are decoded and not yet committed: the tail of a pipeline in this
// process, or a remote one over Flight.
type TailSource interface {
	// Cut returns the rows with _kafka_offset >= from[p] of each partition p; partitions absent in from are
	// taken whole. Errors: hot.ErrExpired (pin again), hot.ErrNoTail, hot.ErrFenced.
	Cut(ctx context.Context, table catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error)
}
