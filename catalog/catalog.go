package catalog

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Sentinel errors of the contract; implementations wrap them with the operation and the name.
var (
	ErrNoSuchTable     = errors.New("table does not exist")
	ErrNoSuchNamespace = errors.New("namespace does not exist")
	ErrNoSuchView      = errors.New("view does not exist")
	ErrExists          = errors.New("already exists")
	ErrNotEmpty        = errors.New("namespace is not empty")
	// ErrConflict: a requirement did not hold (HTTP 409 CommitFailedException). Nothing was changed.
	ErrConflict = errors.New("commit requirement failed")
	// ErrUnknownOutcome: no answer, or one that leaves open whether the commit took effect (timeouts, 500, 502, 504, a cut connection).
	ErrUnknownOutcome = errors.New("outcome of the commit is unknown")
	// ErrUnavailable: nothing was changed and a retry later may succeed (503, connection refused before the request was sent).
	ErrUnavailable = errors.New("catalog unavailable")
	// ErrInvalid: the request can never succeed as it is (400, 406, 422).
	ErrInvalid     = errors.New("invalid catalog request")
	ErrDenied      = errors.New("access denied by the catalog") // 401, 403
	ErrUnsupported = errors.New("not supported by this catalog")
	// ErrWatchEnded: a watch cannot go on from where it stood; load the table and watch anew from its version.
	ErrWatchEnded = errors.New("the watch cannot go on")
	ErrNoHistory  = errors.New("the catalog has no history of that time")
)

// Identifier names a table or a namespace: its parts from the outermost namespace inwards.
type Identifier []string

// ParseIdentifier splits "ns.table" (parts may be double-quoted, as in SQL: "a.b".t).
func ParseIdentifier(s string) (Identifier, error) { return parseIdentifier(s) }

// Namespace returns all but the last part.
func (id Identifier) Namespace() Identifier { return id[:max(len(id)-1, 0)] }

// Name returns the last part.
func (id Identifier) Name() string {
	if len(id) == 0 {
		return ""
	}
	return id[len(id)-1]
}

// String joins the parts by dots, for people; it is not unique when a part contains a dot.
func (id Identifier) String() string { return strings.Join(id, ".") }

// Table is a table's state as the catalog gave it.
type Table struct {
	Identifier       Identifier
	Metadata         table.Metadata
	MetadataLocation string // of the newest metadata.json that was materialised; may be empty in a lean answer
	Version          int64  // of the catalog's state, when it says so; 0 otherwise
}

// CreateTable says what a new table is like. Field ids are assigned by the catalog.
type CreateTable struct {
	Schema     *iceberg.Schema
	Partition  *iceberg.PartitionSpec // nil: unpartitioned
	SortOrder  *table.SortOrder       // nil: unsorted
	Location   string                 // empty: the catalog chooses one under the warehouse
	Properties map[string]string
}

// TableCommit is one table's part of a commit: all requirements must hold, then all updates take effect.
type TableCommit struct {
	Identifier   Identifier
	Requirements table.Requirements
	Updates      table.Updates
}

// Load says how much of a table's metadata is wanted.
type Load int

const (
	LoadAll Load = iota // every snapshot
	// LoadRefs: only snapshots that a branch or tag points at. Firn's own catalog leaves the marks out (ledger.IsMark) with
	// what only they name; LoadAll has them.
	LoadRefs
)

// Catalog is what ingest, compaction and queries need of an Iceberg catalog. All methods are safe for
// concurrent use and obey ctx. Commit methods are never retried by an implementation: the caller owns that.
type Catalog interface {
	ListNamespaces(ctx context.Context, parent Identifier) ([]Identifier, error)
	// CreateNamespace gives ErrExists when it exists.
	CreateNamespace(ctx context.Context, ns Identifier, props map[string]string) error
	ListTables(ctx context.Context, ns Identifier) ([]Identifier, error)
	CreateTable(ctx context.Context, id Identifier, req CreateTable) (*Table, error)
	LoadTable(ctx context.Context, id Identifier, how Load) (*Table, error)
	// CommitTable applies one commit. The returned table may be lean (only referenced snapshots).
	CommitTable(ctx context.Context, c TableCommit) (*Table, error)
	// CommitTransaction applies several commits, all or none; ErrUnsupported where the catalog cannot.
	CommitTransaction(ctx context.Context, commits []TableCommit) error
	// DropTable removes the table; purge also deletes its files.
	DropTable(ctx context.Context, id Identifier, purge bool) error
}

// HistoryEntry is what one commit left for time travel.
type HistoryEntry struct {
	Version    int64     // of the table in the catalog
	At         time.Time // when the catalog committed it, to the millisecond
	SnapshotID int64     // main's head after it; perhaps expired since
	Offsets    string    // the summary's firn.offsets; empty when the snapshot carried none
}

// Historian is what a catalog that keeps the commit history can do besides. Firn's own server and client do.
type Historian interface {
	// HistoryAt returns the newest commit at or before at; ErrNoHistory when there is none,
	// ErrUnsupported when the catalog keeps no history.
	HistoryAt(ctx context.Context, id Identifier, at time.Time) (HistoryEntry, error)
}

// HistoryRange selects commits of a table's history. The zero value is all of them.
type HistoryRange struct {
	Since, Until time.Time // committed at or after, at or before; zero: no bound
	Before       int64     // only versions below this one; 0: no bound. The next page begins below the last entry of this one
	Limit        int       // at most so many, and never more than the catalog's page; 0: a page
}

// HistoryKeeper is a Historian whose history can be listed and cut. Firn's own server and client are.
type HistoryKeeper interface {
	Historian
	// ListHistory returns a page of entries, the newest first.
	ListHistory(ctx context.Context, id Identifier, r HistoryRange) ([]HistoryEntry, error)
	// PruneHistory forgets the commits before a time, but for the last of them: what the table was at that time and
	// later stays known. It returns how many those are, and with dryRun changes nothing.
	PruneHistory(ctx context.Context, id Identifier, before time.Time, dryRun bool) (int64, error)
}

// Event is a commit to a table as a watcher hears of it.
type Event struct {
	HistoryEntry
	// Head: the commit moved main, and HistoryEntry is whole. Otherwise only Version is set: a schema, a property, a tag or
	// another branch changed, perhaps more than once.
	Head bool
}

// Watcher is what a catalog can do besides that tells of commits as they happen. Firn's own server and client do.
type Watcher interface {
	// Watch calls each, one after the other, for every commit that moves main after the version after, and for other
	// changes at least once after the last of them. With after 0 it begins now, with an event of the present version. It
	// returns when ctx ends, when each gives an error, with ErrNoSuchTable when the table is gone, with ErrWatchEnded when
	// after is too far back or of another table, with ErrUnsupported when the catalog tells of nothing.
	Watch(ctx context.Context, id Identifier, after int64, each func(Event) error) error
}
