package commit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// Bounds of one commit.
const (
	// maxAttempts is how often one call of Commit sends a snapshot; a head that moves more often than this gives an
	// error, and the engine calls again with the same batch.
	maxAttempts = 30
	// quickAttempts are made at once; the wait before further ones doubles from retryMin to retryMax.
	quickAttempts = 5
	retryMin      = 2 * time.Millisecond
	retryMax      = 100 * time.Millisecond
	// maxFiles bounds the files of one commit, one for each partition value that its rows have.
	maxFiles = 10_000
	// maxUploads bounds Config.MaxUploads.
	maxUploads = 64
	// manifestCacheBytes bounds the encoded manifests that recovery keeps.
	manifestCacheBytes = 8 << 20
)

// What main itself keeps against the expiry of other engines, so that the walk from a head to Firn's last snapshot
// stays whole: every snapshot of the window, and never fewer than the count.
const (
	keepSnapshots    = snapshot.MainMinSnapshots
	keepSnapshotsFor = snapshot.MainSnapshotAge
)

// DefaultStoreAgainAfter is far below the age at which sweeps take files, and far above what a commit takes.
const DefaultStoreAgainAfter = time.Hour

// Config is one pipeline's committer.
type Config struct {
	// Pipeline is the name that the tag and the records carry; one table has one pipeline.
	Pipeline string
	// Table receives the rows, DeadTable the dead letters. Both exist (EnsureTable).
	Table, DeadTable catalog.Identifier
	// GapsTable notes the offsets that Kafka no longer held (RecordGap), and is created with the first; empty: there is none.
	GapsTable catalog.Identifier
	// Topic describes what is read, as it is now: the source's Describe.
	Topic func(context.Context) (engine.Topic, error)
	// Topics, instead of Topic, describes those of a table that several go to, as far as they are there.
	Topics func(context.Context) ([]engine.Topic, error)
	// Lateness is taken off the greatest event time to give the watermark.
	Lateness time.Duration
	// PartitionBy and SortBy are how rows are dealt out to files and ordered in them, as in the configuration. When they
	// are others than the table was last told, the next commit with rows changes the table; files that are there stay.
	// nil: as the table is; empty: not at all.
	PartitionBy, SortBy []string
	// Unpublished tells per partition from which dead letter on those that are committed may not be in the topic of dead letters;
	// it is noted with every snapshot. nil: there is no such topic.
	Unpublished func() offset.Vector
	// Write overrides, where it is set, the codec and the row groups that the table's properties ask for.
	Write datafile.WriteOptions
	// MaxUploads is how many files are written to storage at a time; 0: 4.
	MaxUploads int
	// OffsetsInterval is how long offsets that gave neither row nor dead letter may wait for a snapshot; 0: 10s.
	OffsetsInterval time.Duration
	// UnknownTimeout is how long one Commit asks what became of a request whose answer was lost, before it returns an
	// error; asking goes on with the next call. 0: 10s.
	UnknownTimeout time.Duration
	// StoreAgainAfter is the age from which the files of a batch that is still not committed are written anew, under other
	// names, before the next try; 0: 1h. A sweep takes files of this age for strays when no snapshot names them
	// (compaction.stray_grace, 24h), so it has to be well below that.
	StoreAgainAfter time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.MaxUploads == 0 {
		c.MaxUploads = 4
	}
	if c.OffsetsInterval == 0 {
		c.OffsetsInterval = 10 * time.Second
	}
	if c.UnknownTimeout == 0 {
		c.UnknownTimeout = 10 * time.Second
	}
	if c.StoreAgainAfter == 0 {
		c.StoreAgainAfter = DefaultStoreAgainAfter
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Pipeline == "" || strings.ContainsAny(c.Pipeline, " \t\r\n"):
		return fmt.Errorf("pipeline %q: a name without blanks is needed, it becomes a tag of the table", c.Pipeline)
	case len(c.Table) < 2 || len(c.DeadTable) < 2:
		return fmt.Errorf("tables %q and %q: write namespace.table", c.Table.String(), c.DeadTable.String())
	case c.Table.String() == c.DeadTable.String():
		return fmt.Errorf("table %s: rows and dead letters need a table each", c.Table)
	case len(c.GapsTable) == 1 || len(c.GapsTable) > 1 && (c.GapsTable.String() == c.Table.String() || c.GapsTable.String() == c.DeadTable.String()):
		return fmt.Errorf("gaps table %s: write namespace.table, and a table of its own", c.GapsTable)
	case (c.Topic == nil) == (c.Topics == nil):
		return errors.New("topic: either what describes the topic, or what describes the topics, is needed")
	case c.Lateness < 0:
		return fmt.Errorf("lateness: %s is negative", c.Lateness)
	case c.MaxUploads < 1 || c.MaxUploads > maxUploads:
		return fmt.Errorf("max_uploads: %d is not within 1 to %d", c.MaxUploads, maxUploads)
	case c.OffsetsInterval < 0 || c.UnknownTimeout < 0 || c.StoreAgainAfter < 0:
		return errors.New("offsets interval, unknown timeout and the age at which files are stored again must not be negative")
	case c.Write.RowGroupRows < 0:
		return fmt.Errorf("row group of %d rows: at least 1", c.Write.RowGroupRows)
	}
	if _, ok := datafile.Codecs[c.Write.Codec]; !ok && c.Write.Codec != "" {
		return fmt.Errorf("codec %q: take zstd, snappy, lz4 or none", c.Write.Codec)
	}
	return nil
}
