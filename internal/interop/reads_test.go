//go:build integration || interop

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	icetable "github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// told is what an engine reads of Firn's table, by what docs/catalog.md calls it; null where it does not offer that.
type told struct {
	Snapshots []int64 // in any order
	History   []int64 // the oldest first
	Refs      map[string]int64
	// Counts: of files and their rows; of manifests and their files; of partitions, their rows and their files.
	Files, Manifests, Partitions []int64
	// Rows as of a snapshot, a time and a tag.
	Snapshot *runs `json:"as of a snapshot"`
	Time     *runs `json:"as of a time"`
	Tag      *runs `json:"as of a tag"`
}

// reads are the names of told's parts, as docs/catalog.md has them.
var reads = []string{"snapshots", "history", "refs", "files", "manifests", "partitions", "as of a snapshot", "as of a time", "as of a tag"}

// holdReads has an engine read the metadata tables of the table that Firn writes, and its rows as of a snapshot, a time and a
// tag: while Firn commits, where what is of the past must be exact to the row, and while the events pause, where all must be.
func (l *lake) holdReads(engine string) {
	l.t.Helper()
	l.commits(1)
	at, want := l.pasts()
	var moving told
	l.reads(engine, at, &moving)
	l.prod.mu.Lock()
	defer l.prod.mu.Unlock()
	moving.isAsOf(l.t, engine, l.prod, want)
	if len(moving.Snapshots) < 3 || len(moving.Files) == 0 || moving.Files[0] == 0 {
		l.t.Errorf("%s: while firn commits: %d snapshots, files %v", engine, len(moving.Snapshots), moving.Files)
	}
	l.untilRead("for " + engine)
	for try := 0; ; try++ {
		before := l.whole()
		var still told
		l.reads(engine, at, &still)
		if l.whole().Version != before.Version && try < 3 { // what keeps the table in order commits without events too
			continue
		}
		still.isAsOf(l.t, engine, l.prod, want)
		still.is(l.t, engine, before, l.prod.expected().Rows)
		break
	}
	l.t.Logf("%s: metadata tables and times of firn's table, of %d snapshots", engine, len(moving.Snapshots))
}

// whole is Firn's table with every snapshot.
func (l *lake) whole() *catalog.Table {
	l.t.Helper()
	id, err := catalog.ParseIdentifier(table)
	if err != nil {
		l.t.Fatal(err)
	}
	t, err := l.cat.LoadTable(l.t.Context(), id, catalog.LoadAll)
	if err != nil {
		l.t.Fatal(err)
	}
	return t
}

// pasts chooses three snapshots of Firn to be read: one by its id, one by its time, and one by a tag that is put on it. want are
// the offsets below which each has rows.
func (l *lake) pasts() (at map[string]any, want [3]offset.Vector) {
	l.t.Helper()
	t := l.whole()
	by := map[int64]icetable.Snapshot{}
	for _, s := range t.Metadata.Snapshots() {
		by[s.SnapshotID] = s
	}
	var of []icetable.Snapshot // with rows, the oldest first
	var vectors []offset.Vector
	for e := range t.Metadata.SnapshotLogs() {
		s, ok := by[e.SnapshotID]
		if !ok || s.Summary == nil {
			continue
		}
		if v, err := offset.DecodeVector(s.Summary.Properties["firn.offsets"]); err == nil && len(v) > 0 {
			of, vectors = append(of, s), append(vectors, v)
		}
	}
	if len(of) < 4 {
		l.t.Fatalf("%d snapshots of firn with rows, of %d", len(of), len(by))
	}
	n := len(of)
	const tag = "seen"
	if _, err := l.cat.CommitTable(l.t.Context(), catalog.TableCommit{Identifier: t.Identifier, Updates: icetable.Updates{snapshot.SetTag(tag, of[n-3].SnapshotID, 0)}}); err != nil {
		l.t.Fatal(err)
	}
	return args("snapshot", of[0].SnapshotID, "ms", of[n-2].TimestampMs, "tag", tag), [3]offset.Vector{vectors[0], vectors[n-2], vectors[n-3]}
}

// reads asks the engine, and holds what it offers against the documentation.
func (l *lake) reads(engine string, at map[string]any, into *told) {
	l.t.Helper()
	a := args("of", table)
	maps.Copy(a, at)
	var raw map[string]json.RawMessage
	if err := l.engine.ask("reads", a, &raw); err != nil {
		l.t.Fatal(err)
	}
	doc := documented(l.t, "of firn's table", engine)
	for _, what := range reads {
		switch came, ok := raw[what]; {
		case !ok:
			l.t.Errorf("%s: %s was not tried", engine, what)
		case string(came) == `"not offered"`:
			if doc[what] != "not offered" {
				l.t.Errorf("%s: docs/catalog.md says that %s is %q; it is not offered", engine, what, doc[what])
			}
			delete(raw, what)
		case doc[what] != "ok":
			l.t.Errorf("%s: docs/catalog.md says that %s is %q; it is offered", engine, what, doc[what])
		}
	}
	text, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		l.t.Fatalf("%s: %v: %s", engine, err, text)
	}
}

// isAsOf holds the rows of past times against the offsets of then. Nothing was deleted of them.
func (r told) isAsOf(t *testing.T, engine string, p *producer, want [3]offset.Vector) {
	t.Helper()
	for i, got := range []*runs{r.Snapshot, r.Time, r.Tag} {
		if got == nil {
			continue
		}
		if d := p.expectedBelow(want[i], 0).diff(*got); d != "" {
			t.Errorf("%s: %s has other rows than below %s: %s", engine, reads[len(reads)-3+i], want[i], d)
		}
	}
}

// is holds the metadata tables against the table as the catalog gives it.
func (r told) is(t *testing.T, engine string, whole *catalog.Table, rows int64) {
	t.Helper()
	m := whole.Metadata
	want := told{Refs: map[string]int64{}}
	for _, s := range m.Snapshots() {
		want.Snapshots = append(want.Snapshots, s.SnapshotID)
	}
	for e := range m.SnapshotLogs() {
		want.History = append(want.History, e.SnapshotID)
	}
	for name, ref := range m.Refs() {
		want.Refs[name] = ref.SnapshotID
	}
	files, err := strconv.ParseInt(m.CurrentSnapshot().Summary.Properties["total-data-files"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want.Snapshots)
	slices.Sort(r.Snapshots)
	for what, differs := range map[string]bool{
		fmt.Sprintf("snapshots %v, want %v", r.Snapshots, want.Snapshots):                          !slices.Equal(r.Snapshots, want.Snapshots),
		fmt.Sprintf("history %v, want %v", r.History, want.History):                                r.History != nil && !slices.Equal(r.History, want.History),
		fmt.Sprintf("refs %v, want %v", r.Refs, want.Refs):                                         r.Refs != nil && !maps.Equal(r.Refs, want.Refs),
		fmt.Sprintf("files and their rows %v, want %v", r.Files, []int64{files, rows}):             !slices.Equal(r.Files, []int64{files, rows}),
		fmt.Sprintf("manifests and their files %v, want some and %d", r.Manifests, files):          len(r.Manifests) != 2 || r.Manifests[0] < 1 || r.Manifests[1] != files,
		fmt.Sprintf("partitions, rows and files %v, want some, %d, %d", r.Partitions, rows, files): r.Partitions != nil && (len(r.Partitions) != 3 || r.Partitions[0] < 1 || !slices.Equal(r.Partitions[1:], []int64{rows, files})),
	} {
		if differs {
			t.Errorf("%s: %s", engine, what)
		}
	}
}
