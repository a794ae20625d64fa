package query

import (
	"context"
	"errors"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
)

// Errors that a caller can act on; implementations wrap them with the place and the remedy.
var (
	ErrInvalidSQL = errors.New("the statement cannot be run")       // syntax, unknown column or table, type mismatch
	ErrNotSelect  = errors.New("only SELECT statements run here")   // anything that would change or reveal more than rows
	ErrNotBuiltIn = errors.New("SQL is not built into this binary") // CGO_ENABLED=0
	ErrLimit      = errors.New("the query reached a limit")         // memory, rows, concurrent queries
	ErrCorrupt    = errors.New("a data file is damaged")            // names the file
)

// Level says which rows a query sees.
type Level string

const (
	LevelHot       Level = "hot"       // the newest snapshot and the rows not yet committed
	LevelCommitted Level = "committed" // the newest snapshot, what every other engine sees
)

// Options of one statement or scan.
type Options struct {
	Level Level // empty: hot
	// MinOffsets makes the query wait, as long as ctx allows, until the table's visible rows reach the vector (own writes).
	MinOffsets map[string]offset.Vector
	// AsOf reads every table of the statement as of that time, unless the statement says otherwise; zero: now.
	AsOf time.Time
}

// Pin tells which state of a table an answer was read from.
type Pin struct {
	Table      catalog.Identifier
	SnapshotID int64         // 0: the table has no snapshot
	Committed  offset.Vector // C: the snapshot's vector; nil when the table carries none
	End        offset.Vector // H: end of the hot rows that were added; equal to Committed at level committed
	Level      Level         // what was given: hot falls back to committed where nobody serves a tail
	AsOf       time.Time     // zero: newest
	// Kind is "newest", "as it stood then" (a snapshot or tag) or "as we read it today" (today's files cut by offsets).
	Kind string
}

// Result is a stream of record batches. Use it from one goroutine; Release ends the query early and frees everything.
type Result interface {
	Schema() *arrow.Schema
	// Next makes the next batch current; false at the end or after an error.
	Next(ctx context.Context) bool
	// RecordBatch is the current batch; valid until the next Next or Release unless retained.
	RecordBatch() arrow.RecordBatch
	Err() error
	Pins() []Pin
	Release()
}

// ScanRequest is a plain read of one table without SQL, the fast path.
type ScanRequest struct {
	Table      catalog.Identifier
	Columns    []string      // top-level names; nil: all
	SnapshotID int64         // 0: the newest (or as Options say)
	From       offset.Vector // only rows with _kafka_offset >= From[p]; nil: all
	To         offset.Vector // only rows with _kafka_offset < To[p]; nil: all
	Limit      int64         // rows; 0: all
}

// TableInfo describes a table for listings.
type TableInfo struct {
	Identifier catalog.Identifier
	Schema     *arrow.Schema // nil unless asked for
}

// Engine is what a server hands to its clients. Implemented by *Service; safe for concurrent use.
type Engine interface {
	// Query runs one SELECT. params is one row of bound parameters in order, nil for none.
	Query(ctx context.Context, sql string, params arrow.RecordBatch, o Options) (Result, error)
	// Describe gives the schemas of the result and of the parameters without running the statement; result is nil where it
	// depends on the types of the parameters that will be bound.
	Describe(ctx context.Context, sql string, o Options) (result, params *arrow.Schema, err error)
	Scan(ctx context.Context, r ScanRequest, o Options) (Result, error)
	// Tables lists the tables, with their schemas when asked; names are exact, not patterns.
	Tables(ctx context.Context, withSchema bool) ([]TableInfo, error)
	// Watch calls each, one after the other, for every commit that moves the table's head, and for other changes at least
	// once after the last of them, until ctx ends or each gives an error. catalog.ErrWatchEnded: from there it cannot go on.
	Watch(ctx context.Context, r WatchRequest, each func(Commit) error) error
}
