package catalogtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

// Features are what a catalog need not have. Without one, the suite checks that it says so.
type Features struct {
	Transactions bool // CommitTransaction over several tables
	History      bool // catalog.Historian
	Kept         bool // catalog.HistoryKeeper
	Watched      bool // catalog.Watcher
	Views        bool // catalog.Viewer
	Nested       bool // namespaces within namespaces
	Versions     bool // Table.Version grows with every commit
	Lean         bool // LoadRefs leaves out snapshots that no ref names
}

// Run runs the suite; open returns a catalog for one test, which the suite does not close.
func Run(t *testing.T, open func(t *testing.T) catalog.Catalog, f Features) {
	for _, s := range []struct {
		name string
		run  func(*suite)
	}{
		{"Namespaces", (*suite).namespaces},
		{"NestedNamespaces", (*suite).nested},
		{"ManyNames", (*suite).manyNames},
		{"OddNames", (*suite).oddNames},
		{"CreateAndLoad", (*suite).createAndLoad},
		{"CreateKeepsNothingOnFailure", (*suite).createRefused},
		{"Drop", (*suite).drop},
		{"UnknownTables", (*suite).unknownTables},
		{"Append", (*suite).appends},
		{"Requirements", (*suite).requirements},
		{"RequirementsInOneCommit", (*suite).allOrNothing},
		{"OneOfManyWins", (*suite).oneWins},
		{"ManyWritersLoseNothing", (*suite).writersLoseNothing},
		{"Refs", (*suite).refs},
		{"Rollback", (*suite).rollback},
		{"Expire", (*suite).expire},
		{"SchemaAndProperties", (*suite).evolve},
		{"CommitCreates", (*suite).commitCreates},
		{"LeanAndFull", (*suite).lean},
		{"Transaction", (*suite).transaction},
		{"TransactionIsAtomic", (*suite).transactionAtomic},
		{"TransactionsSeeWholeStates", (*suite).transactionIsolated},
		{"History", (*suite).history},
		{"Watch", (*suite).watch},
		{"Views", (*suite).views},
		{"ReplacedViews", (*suite).viewsReplaced},
		{"CancelledCalls", (*suite).cancelled},
	} {
		t.Run(s.name, func(t *testing.T) {
			c := open(t)
			ns := catalog.Identifier{fmt.Sprintf("suite_%d", namespaces.Add(1))}
			x := &suite{T: t, c: c, f: f, ns: ns}
			x.ok(c.CreateNamespace(t.Context(), ns, nil))
			s.run(x)
		})
	}
}

// namespaces numbers the namespaces of a process, so that tests may share a catalog.
var namespaces atomic.Int64

// suite is one test with its catalog and a namespace of its own.
type suite struct {
	*testing.T
	c  catalog.Catalog
	f  Features
	ns catalog.Identifier
}

func (x *suite) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *suite) is(err, want error) {
	x.Helper()
	if !errors.Is(err, want) {
		x.Fatalf("got error %v, want %v", err, want)
	}
}

func (x *suite) id(name string) catalog.Identifier { return append(slices.Clone(x.ns), name) }

// Schema is the schema of the suite's tables.
func Schema() *iceberg.Schema {
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64, Required: true},
		iceberg.NestedField{ID: 2, Name: "at", Type: iceberg.PrimitiveTypes.TimestampTz},
		iceberg.NestedField{ID: 3, Name: "tags", Type: &iceberg.MapType{KeyID: 4, KeyType: iceberg.PrimitiveTypes.String,
			ValueID: 5, ValueType: iceberg.PrimitiveTypes.String}})
}

// create makes a table with nothing in it.
func (x *suite) create(name string) *catalog.Table {
	x.Helper()
	t, err := x.c.CreateTable(x.Context(), x.id(name), catalog.CreateTable{Schema: Schema()})
	x.ok(err)
	return t
}

func (x *suite) load(t *catalog.Table, how catalog.Load) *catalog.Table {
	x.Helper()
	got, err := x.c.LoadTable(x.Context(), t.Identifier, how)
	x.ok(err)
	return got
}

// commit applies updates under the requirement that the table is the same one.
func (x *suite) commit(t *catalog.Table, reqs table.Requirements, updates ...table.Update) (*catalog.Table, error) {
	reqs = append(table.Requirements{table.AssertTableUUID(t.Metadata.TableUUID())}, reqs...)
	return x.c.CommitTable(x.Context(), catalog.TableCommit{Identifier: t.Identifier, Requirements: reqs, Updates: updates})
}

// append commits one snapshot on the head of t and returns the table after it.
func (x *suite) append(t *catalog.Table, id int64) *catalog.Table {
	x.Helper()
	c := Append(t, id, nil)
	got, err := x.c.CommitTable(x.Context(), c)
	x.ok(err)
	return got
}

// Append is a commit of snapshot id on the head of t, fenced by that head, as Firn's committer makes it.
// summary is added to the snapshot's.
func Append(t *catalog.Table, id int64, summary map[string]string) catalog.TableCommit {
	head := Head(t.Metadata)
	return catalog.TableCommit{Identifier: t.Identifier,
		Requirements: table.Requirements{table.AssertTableUUID(t.Metadata.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, head)},
		Updates: table.Updates{table.NewAddSnapshotUpdate(Snapshot(t.Metadata, id, summary)),
			table.NewSetSnapshotRefUpdate(table.MainBranch, id, table.BranchRef, 0, 0, 0)}}
}

// Snapshot is a snapshot that follows the head of m.
func Snapshot(m table.Metadata, id int64, summary map[string]string) *table.Snapshot {
	schema := m.CurrentSchema().ID
	s := &table.Snapshot{SnapshotID: id, ParentSnapshotID: Head(m), SequenceNumber: m.LastSequenceNumber() + 1,
		TimestampMs: max(time.Now().UnixMilli(), m.LastUpdatedMillis()), SchemaID: &schema,
		ManifestList: fmt.Sprintf("%s/metadata/snap-%d.avro", m.Location(), id),
		Summary:      &table.Summary{Operation: table.OpAppend, Properties: iceberg.Properties{"added-records": "1"}}}
	maps.Copy(s.Summary.Properties, summary)
	if m.Version() >= 3 {
		row, added := m.NextRowID(), int64(1)
		s.FirstRowID, s.AddedRows = &row, &added
	}
	return s
}

// Head is the snapshot that main points at, nil without one.
func Head(m table.Metadata) *int64 { return ref(m, table.MainBranch) }

func ref(m table.Metadata, name string) *int64 {
	for n, r := range m.Refs() {
		if n == name {
			return &r.SnapshotID
		}
	}
	return nil
}

// snapshotIDs are the snapshots of m in order.
func snapshotIDs(m table.Metadata) []int64 {
	ids := []int64{}
	for _, s := range m.Snapshots() {
		ids = append(ids, s.SnapshotID)
	}
	return ids
}

func logIDs(m table.Metadata) []int64 {
	ids := []int64{}
	for e := range m.SnapshotLogs() {
		ids = append(ids, e.SnapshotID)
	}
	return ids
}

func (x *suite) wantSnapshots(m table.Metadata, want ...int64) {
	x.Helper()
	if got := snapshotIDs(m); !slices.Equal(got, want) {
		x.Fatalf("snapshots %v, want %v", got, want)
	}
}

func (x *suite) wantHead(m table.Metadata, want int64) {
	x.Helper()
	if h := Head(m); h == nil || *h != want {
		x.Fatalf("main is at %v, want %d", deref(h), want)
	}
	if s := m.CurrentSnapshot(); s == nil || s.SnapshotID != want {
		x.Fatalf("the current snapshot is %v, want %d", s, want)
	}
}

func deref(p *int64) any {
	if p == nil {
		return nil
	}
	return *p
}

func ptr[T any](v T) *T { return &v }
