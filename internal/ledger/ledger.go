package ledger

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/firnlake/firn/internal/offset"
)

// The ledger columns, the last columns of every table that Firn ingests into.
const (
	ColTopic      = "_kafka_topic"     // string, only where several topics go to the table: which of them
	ColPartition  = "_kafka_partition" // int; where several topics go to the table, the table's own number (Number)
	ColOffset     = "_kafka_offset"    // long
	ColIndex      = "_kafka_index"     // int, only where a record gives several rows: which of them, from 0 on
	ColTimestamp  = "_kafka_timestamp" // timestamptz, of the Kafka record
	ColIngestedAt = "_ingested_at"     // timestamptz, when Firn decoded the row
)

// ColViolations is the column, list of string, of a table whose contract keeps events that break a rule: each broken rule
// as column:reason; null for the others.
const ColViolations = "_contract_violations"

// own are the columns that Firn fills itself, those of the ledger first.
var own = [...]string{ColTopic, ColPartition, ColOffset, ColIndex, ColTimestamp, ColIngestedAt, ColViolations}

// IsColumn tells whether a column is one of the ledger.
func IsColumn(name string) bool { return slices.Contains(own[:len(own)-1], name) }

// IsOwn tells whether a column is one that Firn fills itself: of the ledger, or ColViolations.
func IsOwn(name string) bool { return slices.Contains(own[:], name) }

// OwnLike finds the column that Firn fills itself which SQL engines, that do not tell letters' case, take name for.
func OwnLike(name string) (string, bool) {
	i := slices.IndexFunc(own[:], func(o string) bool { return strings.EqualFold(o, name) })
	if i < 0 {
		return "", false
	}
	return own[i], true
}

// ColGapNext is the column of a gaps table that ends the stretch which _kafka_offset begins.
const ColGapNext = "next_offset" // long

// The summary keys of a snapshot that Firn makes. See docs/format/summary.md.
const (
	KeyVersion    = "firn.v"
	KeyPipeline   = "firn.pipeline"
	KeyBatchID    = "firn.batch-id"
	KeyEpoch      = "firn.epoch"
	KeyClusterID  = "firn.cluster-id"
	KeyTopicID    = "firn.topic-id"
	KeyTopics     = "firn.topics"
	KeyRange      = "firn.range"
	KeyOffsets    = "firn.offsets"
	KeyLastRow    = "firn.last-row"
	KeyWatermark  = "firn.watermark"
	KeyPrev       = "firn.prev"
	KeyTraceID    = "firn.trace-id"
	KeyKind       = "firn.kind"
	KeyFiltered   = "firn.filtered"
	KeyDuplicates = "firn.duplicates"

	KeyUnpublished = "firn.unpublished"
)

// Kind says what made a snapshot.
type Kind string

const (
	KindIngest  Kind = "ingest"  // rows of one batch, or offsets alone
	KindCompact Kind = "compact" // same rows in other files; carries the parent's record on
	KindRewind  Kind = "rewind"
	KindRedrive Kind = "redrive" // rows of records that were dead letters; V stands
	KindGap     Kind = "gap"     // no rows: V moved over offsets that Kafka no longer held; the gaps table names them
)

// TagName returns the name of the tag that stands at the pipeline's last snapshot: firn.<pipeline>.
func TagName(pipeline string) string { return "firn." + pipeline }

// markPrefix begins the name of a mark, and markEnd is the first name after all of them.
const (
	markPrefix = "at-"
	markEnd    = "at."
)

// MarkName returns the name of a mark: the tag at the snapshot that main stood at at a time, which compaction sets for the
// full minutes of its calendar. A table has some 300 after a day and 550 after three months.
func MarkName(at time.Time) string { return markPrefix + at.UTC().Format("20060102T1504Z") }

// IsMark tells whether a ref's name is a mark's. Firn's own work never goes by them, so what is carried with each commit
// leaves them out.
func IsMark(ref string) bool { return strings.HasPrefix(ref, markPrefix) }

// MarkRange returns the names between which all marks lie, the second excluded, in the order of bytes.
func MarkRange() (from, to string) { return markPrefix, markEnd }

// ErrNoRecord reports a summary without Firn's keys: somebody else made the snapshot.
var ErrNoRecord = errors.New("snapshot carries no firn record")

// Record is what every snapshot of Firn carries: which batch it is and where Kafka stands after it.
type Record struct {
	Version    int
	Kind       Kind
	Pipeline   string
	BatchID    string // UUIDv7
	Epoch      int64  // rewind generation, from 0
	ClusterID  string
	TopicID    string             // "n/a" where the broker gives none, and where Topics has one for each
	Topics     Topics             // of a table that several topics go to, whose partitions are told by Number; empty: there is one topic
	Ranges     []offset.Range     // what moved, sorted by partition
	Offsets    offset.Vector      // the whole vector after this snapshot
	LastRow    offset.Vector      // per partition the last offset that gave a row; absent when none did
	Filtered   map[int32]Filtered // per partition the offsets that a filter kept out so far; absent where none was
	Duplicates map[int32]Filtered // and those of events that were there already (docs/deduplication.md)
	// Unpublished is per partition the first dead letter below Offsets that is not known to be in the topic of dead letters
	// (docs/dead-letters.md); absent where none is, or the pipeline has no such topic.
	Unpublished offset.Vector
	Watermark   time.Time // greatest event time seen, less the allowed lateness; zero when unknown
	Prev        int64     // Firn's snapshot before this one; 0 when none
	TraceID     string    // of the batch's trace; empty when tracing is off
}
