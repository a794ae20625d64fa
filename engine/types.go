package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// Header is one Kafka record header. It aliases the fetch buffer.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record. Key, Value and HeaderBytes alias the Fetch's buffer and are valid until its
// Release; a nil Value is a tombstone.
type Record struct {
	Offset      int64
	TimestampMs int64 // Unix milliseconds, create time or log-append time as the topic says
	Key, Value  []byte
	HeaderBytes []byte // the record's headers as on the wire; ParseHeaders reads them
	HeaderCount int32
	// Line is 0 for a record as it stands in the log. A line of a record with several that is read by itself, because it was a
	// dead letter, is told by its number, from 1 on; such records may share an offset, their lines ascending.
	Line int32
}

// Fetch is a stretch [Start, End) of one partition's log, contiguous with the Fetch before it. Offsets inside
// it without a record are control, aborted or compacted away.
type Fetch struct {
	Partition int32
	// Topic is the topic's name where a table takes several; Partition is the table's number then (ledger.Number).
	Topic            string
	Start, End       int64
	LeaderEpoch      int32    // of the last record batch; -1 when unknown
	Records          []Record // ascending offsets, all in [Start, End)
	Bytes            int64    // uncompressed payload bytes
	LogStart         int64    // the partition's first offset that Kafka still holds
	LastStable       int64    // last stable offset; readable records end here
	FetchedAt        time.Time
	Control, Aborted int64  // offsets skipped for these reasons
	Release          func() // gives the buffers back; nil when there is nothing to give
}

// Topic describes what a source reads from.
type Topic struct {
	Name       string
	ClusterID  string
	TopicID    string // "n/a" where the broker gives none
	Partitions []int32
}

// ErrTopicsChanged ends a generation of a source of several topics when one of them has come that was not there at the start: the next
// one gives it a place in the table.
var ErrTopicsChanged = errors.New("a topic of the table has come into being")

// Numbered is a Source of several topics, whose partitions it calls by the table's numbers. Number tells it, before each Start,
// which topics the table knows, in their places, and by which ids; those of them that it does not read it leaves alone.
type Numbered interface {
	Number(topics ledger.Topics)
}

// Position is where a partition's log begins and ends now.
type Position struct {
	LogStart, LastStable, HighWatermark int64
}

// Errors that a Source returns from Poll or Start when only a person can decide (docs/exactly-once.md).
var (
	ErrTopicRecreated = errors.New("the topic is not the one that was read before")
	ErrLogTruncated   = errors.New("the log ends before the offset to read next")
	ErrRetentionGap   = errors.New("kafka no longer holds the offset to read next")
	ErrNoTopic        = errors.New("topic does not exist")
)

// LogError says how a partition's log stands to the offset that is to be read next. It unwraps to its Kind.
type LogError struct {
	Kind             error // ErrRetentionGap, ErrLogTruncated or ErrTopicRecreated
	Partition        int32
	Place            string // what to call the partition where the table takes several topics: TOPIC/PARTITION; empty: its number
	Next             int64  // the offset to read next
	LogStart, LogEnd int64  // as the broker says; -1 when it was not asked
	Remedy           string
}

func (e *LogError) Error() string {
	var how string
	switch {
	case errors.Is(e.Kind, ErrRetentionGap):
		how = fmt.Sprintf("the next offset is %d and the log starts at %d: %d offsets are gone", e.Next, e.LogStart, e.LogStart-e.Next)
	case errors.Is(e.Kind, ErrLogTruncated):
		how = fmt.Sprintf("the next offset is %d and the log ends at %d: the topic was created again, or lost records", e.Next, e.LogEnd)
	default:
		how = fmt.Sprintf("the next offset is %d", e.Next)
	}
	if e.Remedy != "" {
		how += " (" + e.Remedy + ")"
	}
	if e.Place != "" {
		return fmt.Sprintf("%v: %s: %s", e.Kind, e.Place, how)
	}
	return fmt.Sprintf("%v: partition %d: %s", e.Kind, e.Partition, how)
}

// Unwrap gives the Kind.
func (e *LogError) Unwrap() error { return e.Kind }

// Source reads partitions of one topic, or of several (Numbered), at exact offsets. Poll is called from one goroutine; the other methods
// may be called from any.
type Source interface {
	// Describe asks the broker for the topic as it is now.
	Describe(ctx context.Context) (Topic, error)
	// Start (or start over) reading: each known partition at its offset in from, partitions not in from at their
	// first offset. Stretches of an earlier Start never come out of Poll afterwards. epochs are the leader epochs of the
	// last record batches below from, as far as they are known: where the log up to there is another by now,
	// ErrLogTruncated comes out of Poll before the partition's first stretch.
	Start(ctx context.Context, from offset.Vector, epochs map[int32]int32) error
	// Poll waits for the next stretch of any partition. Transient broker trouble is retried inside and shows in
	// Health; an error is final until the next Start.
	Poll(ctx context.Context) (*Fetch, error)
	// Positions tells the log's bounds per partition, for lag; as of the last answer of the broker.
	Positions() map[int32]Position
	// Health returns the present trouble with the broker, nil when there is none.
	Health() error
	Close() error
}

// DeadLetter is a record that gave no row, or a line of one, with the reason.
type DeadLetter struct {
	Reason      string // stable code: invalid_json, missing_field, wrong_type, out_of_range, …
	Place       string // JSON pointer to the field, "" for the whole payload
	Message     string
	Offset      int64
	Line        int32 // of a record with several events the one that failed, from 1 on, and Value is that line; 0: the whole record
	TimestampMs int64
	Key, Value  []byte // own copies
	Headers     []Header
	SchemaID    uint32 // of the registry, that the record names; meaningless without HasSchema
	HasSchema   bool
	TraceID     [16]byte // of the record's traceparent header; zero: none
}

// Violation counts, within one Fetch, how often a rule of the contract was broken and what was done with the events.
type Violation struct {
	Column string // dotted path; .element and .value stand for what lists and maps hold
	Rule   string // the reason code that a dead letter would have: missing_field, out_of_range, …
	Action string // dead_letter, null or keep_and_flag
	Count  int64
}

// Decoded is one Fetch after decoding.
type Decoded struct {
	Range    offset.Range
	Rows     arrow.RecordBatch // table schema, ledger columns included; nil when no record gave a row. The receiver releases it.
	LastRow  int64             // last offset that gave a row; -1 when none did
	Dead     []DeadLetter
	Bytes    int64      // payload bytes decoded
	MaxEvent time.Time  // greatest event time; zero when the table has none
	MinKafka time.Time  // smallest Kafka timestamp; zero when no record
	TraceIDs [][16]byte // sampled from record headers (traceparent), at most 100
	Skipped  int64      // offsets in Range without a record: control, aborted, compacted
	Filtered []int64    // ascending offsets of records that a filter kept out, and of tombstones of an envelope: they are neither rows nor dead letters
	// Duplicates are ascending offsets of records that deduplication dropped, because the event is a row already.
	Duplicates []int64
	// Unrouted is how many of Filtered no route takes, where this pipeline is the one that counts them.
	Unrouted int64
	// SchemaIDs are those of the registry's schemas that records were written with, as far as a bound allows.
	SchemaIDs []uint32

	Events     int64       // decoded: rows and dead letters, before a transform
	Complete   int64       // of them the rows that lack nothing of what the contract wants
	Violations []Violation // of the contract, each column, rule and action once
}

// Decoder turns fetched records into rows of the table's schema. Not safe for concurrent use.
type Decoder interface {
	// Decode never fails for bad payloads (they become dead letters); it copies what it keeps, so f may be
	// released afterwards. An error means that the decoder itself cannot go on.
	Decode(f *Fetch) (Decoded, error)
	// ArrowSchema is the schema of Decoded.Rows as of the last Decode, with Iceberg field ids in the metadata
	// (PARQUET:field_id). It may grow with a schema that Decode meets: columns are added and widened, none is taken away.
	// Columns that no table has yet have ids from evolve.FirstNew on, and go by their names until a commit gives them one.
	ArrowSchema() *arrow.Schema
}

// Follower is a Decoder whose rows depend on those that the table has. Resume comes with every position that was recovered,
// before the first Decode from there: what was known of rows that were decoded before and not committed is wrong by then.
// Committed says that everything below v is in a snapshot; it may be called while Decode runs, v is not changed afterwards.
type Follower interface {
	Resume(ctx context.Context, st State) error
	Committed(v offset.Vector)
}

// Batch is what one commit makes a snapshot of. Whoever holds it releases Rows.
type Batch struct {
	ID         string         // UUIDv7
	Ranges     []offset.Range // merged, sorted by partition, contiguous with the vector before
	Rows       []arrow.RecordBatch
	Dead       []Dead
	LastRow    offset.Vector // partitions that gave a row in this batch
	Filtered   []Filtered    // records that a filter kept out
	Duplicates []Filtered    // records that deduplication dropped
	Bytes      int64
	RowCount   int64
	MaxEvent   time.Time
	MinKafka   time.Time
	Opened     time.Time // when its first stretch arrived
	TraceIDs   [][16]byte
}

// Filtered are offsets of a partition that a filter kept out, or that deduplication dropped, ascending.
type Filtered struct {
	Partition int32
	Offsets   []int64
}

// Dead is a dead letter with its partition.
type Dead struct {
	Partition int32
	DeadLetter
}

// Position of a pipeline in its table, as recovered from the table.
type State struct {
	Offsets    offset.Vector // V: where to read on; empty for a table that Firn never wrote
	Epoch      int64
	SnapshotID int64 // of the head that V was read from; 0 when there is none
	// LeaderEpochs are those of the last record batches below V, of the partitions that moved last.
	LeaderEpochs map[int32]int32
	Source       string // which step of recovery answered (docs/exactly-once.md)
	// Unpublished is per partition the first dead letter below V that is not known to be in the topic of dead letters.
	Unpublished offset.Vector
	// Topics are those of a table that several go to, in their places; empty: there is one.
	Topics ledger.Topics
	// IsDead tells whether the record at an offset at or beyond V is a dead letter already, and stays one whatever it decodes
	// to now; nil: none is. It does not change.
	IsDead func(partition int32, offset int64) bool
}

// Committed is a commit that took effect.
type Committed struct {
	SnapshotID int64 // 0 when the batch held nothing that needs a snapshot
	Offsets    offset.Vector
	Epoch      int64
	Files      int
	FileBytes  int64
	Attempts   int
	Phases     map[string]time.Duration // encode, upload, manifest, catalog
	At         time.Time
	// SchemaID is that of the table's schema that the rows are in; SchemaChanges say what this commit changed to make it so.
	SchemaID      int
	SchemaChanges []string
	// DeadLetters is per partition the first dead letter among the offsets that this commit moved V over.
	DeadLetters offset.Vector
	// Waiting tells that this snapshot is not the last word, although nothing may come any more: the committer asks for an empty
	// batch now and then, as it does when it made no snapshot.
	Waiting bool
}

// Errors of a Committer.
var (
	// ErrFenced: another writer moved the pipeline's tag. Buffers must be dropped and the state recovered again.
	ErrFenced = errors.New("another writer has committed for this pipeline")
	// ErrRewound: somebody set the table back (a rollback); drop the buffers and recover, as after ErrFenced.
	ErrRewound = errors.New("the table was set back to an earlier snapshot")
	// ErrRedriven: dead letters were made rows beside the pipeline; drop the buffers and recover, as after ErrRewound.
	ErrRedriven = errors.New("dead letters were redriven into the table")
	// ErrNeedsDecision: recovery cannot answer with certainty; a person decides (firn offsets resolve).
	ErrNeedsDecision = errors.New("the offsets of this table cannot be recovered with certainty")
)

// ErrIncompatibleSchema: events come in a schema that the table cannot follow, and the pipeline is told to stop at that.
var ErrIncompatibleSchema = errors.New("events are written with a schema that the table cannot follow")

// ErrUnreadable: Kafka has records that this configuration cannot read; the error says what to change.
var ErrUnreadable = errors.New("records cannot be read")

// Gap is a stretch [First, Next) of a partition that Kafka no longer held when it was to be read.
type Gap struct {
	Partition   int32
	First, Next int64
	Table       string // that names it
	SnapshotID  int64  // of the rows' table, from which on V stands behind it; 0 when there was nothing to jump over
	Known       bool   // the gaps table named it before
}

// Missing is the number of offsets.
func (g Gap) Missing() int64 { return g.Next - g.First }

// GapRecorder is a Committer that can note offsets which Kafka no longer holds, and move V behind them, in one commit.
// Recover comes after it. An ErrRetentionGap that comes again is the rest of the gap, or the next.
type GapRecorder interface {
	RecordGap(ctx context.Context, e *LogError) (Gap, error)
}

// Committer makes batches durable for one pipeline. Commit calls are sequential.
type Committer interface {
	// Recover reads from the table where the pipeline stands.
	Recover(ctx context.Context) (State, error)
	// Commit writes the batch's files and one snapshot, retrying what can be retried until ctx ends. It does not
	// release the batch's rows. ErrFenced and ErrRewound ask for Recover; any other error leaves the batch
	// uncommitted or unknown, and Commit may be called again with the same batch (same ID): it finds out first.
	// Offsets that gave no rows may wait for a later batch, which may be empty.
	Commit(ctx context.Context, b *Batch) (Committed, error)
	// Check looks whether the table is still where the last commit, or Recover, left it. ErrFenced, ErrRewound and
	// ErrNeedsDecision end the generation; any other error says that the look failed, and nothing else. Between batches only.
	Check(ctx context.Context) error
}
