package engine

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/internal/offset"
)

// Batcher holds the batch being filled. It is used under the pipeline's lock.
type Batcher interface {
	// Add takes one decoded stretch, rows included; the batch owns them from here on.
	Add(partition int32, d Decoded) error
	// Bytes is the memory of the rows held; Empty tells that nothing arrived since the last Cut.
	Bytes() int64
	Empty() bool
	// Full tells that the batch has reached its row or byte bound and should be cut before the interval ends.
	Full() bool
	// Cut hands the batch over and starts the next one; nil when empty.
	Cut() (*Batch, error)
	// Drop releases everything held.
	Drop()
}

// Tail keeps rows for fresh queries until they are committed and a grace time has passed.
type Tail interface {
	// Append retains rows (nil for a stretch without rows) that cover r.
	Append(rows arrow.RecordBatch, r offset.Range)
	// Committed says that everything below v is in a snapshot.
	Committed(v offset.Vector)
	// Reset forgets all rows: the pipeline starts over at v in the given epoch.
	Reset(epoch int64, v offset.Vector)
	// Bytes is the memory held.
	Bytes() int64
}

// Ahead is a Committer that encodes rows of the batch which is still being filled, so that less is left to do once it is cut.
type Ahead interface {
	// EncodeAhead takes the next rows that the open batch got, in the order in which it got them; they stay the caller's. The Commit that
	// follows is of that batch, or a Recover forgets it. It is called between two Commits.
	EncodeAhead(ctx context.Context, rows []arrow.RecordBatch)
}

// Publisher brings dead letters from their table to a topic, beside the pipeline: nothing waits for it. All methods return at once.
type Publisher interface {
	// Resume says that the pipeline stands at v, and which dead letters below it may not be in the topic: in each partition those
	// from the offset in unpublished on. What was said before is void. With nil for both there is nothing to publish until the next.
	Resume(unpublished, v offset.Vector)
	// Committed says that everything below v is in a snapshot, and per partition the first dead letter that came with it.
	Committed(dead, v offset.Vector)
}
