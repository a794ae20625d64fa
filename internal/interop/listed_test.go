//go:build integration || interop

package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	icetable "github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/nettest"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

// documented reads the table of docs/catalog.md that has this at its head, as it is for an engine: the act → "ok" or "not offered".
func documented(t *testing.T, head, engine string) map[string]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	column, out := -1, map[string]string{}
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == head:
			column = slices.IndexFunc(cells, func(c string) bool { return strings.HasPrefix(c, engine+" ") })
		case column > 0 && len(cells) <= column:
			return out
		case column > 0 && !strings.HasPrefix(cells[0], "-"):
			if out[cells[0]] = cells[column]; strings.HasPrefix(cells[column], "–") {
				out[cells[0]] = "not offered"
			}
		}
	}
	return out
}

// holdActs has the engine do every act on tables of its own, while Firn commits to another, and holds what came of it against
// the documentation.
func (l *lake) holdActs(engine string) {
	l.t.Helper()
	var got map[string]string
	began, others := time.Now(), l.dataFiles()
	if err := l.engine.ask("acts", args("where", l.warehouse, "tagged", l.tagged()), &got); err != nil {
		l.t.Fatal(err)
	}
	want := documented(l.t, "act", engine)
	for act, w := range want {
		if w == "on MinIO" {
			if want[act] = "not offered"; strings.HasPrefix(l.warehouse, "s3:") {
				want[act] = "ok"
			}
		}
	}
	if len(want) == 0 || len(got) == 0 {
		l.t.Fatalf("%s did %d acts, docs/catalog.md names %d", engine, len(got), len(want))
	}
	for act, came := range got {
		if want[act] != came {
			l.t.Errorf("%s: %s: docs/catalog.md says %q; came: %s", engine, act, want[act], came)
		}
	}
	for act := range want {
		if _, done := got[act]; !done && want[act] != "" {
			l.t.Errorf("%s: %s: docs/catalog.md says %q, and it was not done", engine, act, want[act])
		}
	}
	for f := range l.dataFiles() { // the last act drops the table and purges its files
		if !others[f] {
			l.t.Errorf("%s: the data file %s is left of a table that was purged", engine, f)
		}
	}
	l.t.Logf("%s: %d acts in %s", engine, len(got), time.Since(began).Round(time.Millisecond))
	l.commits(1) // Firn goes on beside all that
}

// dataFiles are those of the warehouse, but for the tables that Firn writes.
func (l *lake) dataFiles() map[string]bool {
	l.t.Helper()
	id, err := catalog.ParseIdentifier(table)
	if err != nil {
		l.t.Fatal(err)
	}
	tables, err := l.cat.ListTables(l.t.Context(), id.Namespace())
	if err != nil {
		l.t.Fatal(err)
	}
	firns := map[string]bool{}
	for _, id := range tables {
		t, err := l.cat.LoadTable(l.t.Context(), id, catalog.LoadRefs)
		if err != nil {
			l.t.Fatal(err)
		}
		firns[l.files+strings.TrimPrefix(t.Metadata.Location(), l.warehouse)] = true
	}
	out := map[string]bool{}
	if err := filepath.WalkDir(l.files, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since its directory was read
			return nil
		case err != nil:
			return err
		case firns[path]:
			return fs.SkipDir
		case strings.HasSuffix(path, ".parquet"):
			out[path] = true
			if d.IsDir() { // an object of MinIO
				return fs.SkipDir
			}
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
	return out
}

// tagged puts the tag "kept" at the head of Firn's table, for engines that read tags and do not make them.
func (l *lake) tagged() string {
	l.t.Helper()
	m, err := l.head(table)
	if err != nil {
		l.t.Fatal(err)
	}
	id, _ := catalog.ParseIdentifier(table)
	if _, err := l.cat.CommitTable(l.t.Context(), catalog.TableCommit{Identifier: id, Updates: icetable.Updates{snapshot.SetTag("kept", m.CurrentSnapshot().SnapshotID, 0)}}); err != nil {
		l.t.Fatal(err)
	}
	return table
}

// commitAtOnce has two engines commit n times each to one table, at the same time; maker is PyIceberg, whichever two they are.
func (l *lake) commitAtOnce(maker, a, b *driver, n int64) {
	l.t.Helper()
	const shared = "shared.rows"
	if err := maker.ask("make", args("table", shared), nil); err != nil {
		l.t.Fatal(err)
	}
	var lost [2]int
	var errs [2]error
	var wg sync.WaitGroup
	for i, e := range []*driver{a, b} {
		wg.Go(func() { errs[i] = e.ask("simple", args("table", shared, "n", n), &lost[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		l.t.Fatal(err)
	}
	var got map[string][2]int64
	if err := maker.ask("by_name", args("table", shared), &got); err != nil {
		l.t.Fatal(err)
	}
	for _, e := range []*driver{a, b} {
		if have := got[strings.ToLower(e.name)]; have != [2]int64{n, n} {
			l.t.Errorf("%s committed %d rows, %d are there, %d of them different", e.name, n, have[0], have[1])
		}
	}
	l.t.Logf("%s and %s committed %d times each and lost %v tries", a.name, b.name, n, lost)
	l.commits(1)
}

// moment is a commit of Firn and the table of then.
type moment struct {
	name    string
	offsets offset.Vector
}

// moments are commits of Firn's from the first that had rows on, at most n, of snapshots that no ref keeps, nor a mark that the
// catalog has set each five minutes, which only all of the metadata shows.
func (l *lake) moments(n int) (out []moment) {
	l.t.Helper()
	kept := map[int64]bool{}
	for _, r := range l.whole().Metadata.Refs() {
		kept[r.SnapshotID] = true
	}
	id, _ := catalog.ParseIdentifier(table)
	entries, err := l.cat.ListHistory(l.t.Context(), id, catalog.HistoryRange{})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Reverse(entries)
	for _, e := range entries {
		v, err := offset.DecodeVector(e.Offsets)
		if err != nil || len(v) == 0 || len(out) == n || kept[e.SnapshotID] {
			continue
		}
		out = append(out, moment{past.Name(table, e.At), v})
	}
	return out
}

// holdPast has engines read tables of past times, while their snapshots are there and when they have expired, and holds the
// rows against the offsets that were committed then.
func (l *lake) holdPast(engines ...*driver) {
	l.t.Helper()
	l.commits(3)
	at := l.moments(3)
	var names []string
	for _, m := range at {
		names = append(names, m.name)
	}
	for _, kind := range []past.Kind{past.Stood, past.ReadNow} {
		if kind == past.ReadNow {
			l.expireAll()
		}
		for _, e := range engines {
			l.readsPast(e, kind, at, names)
		}
	}
}

func (l *lake) readsPast(engine *driver, kind past.Kind, at []moment, names []string) {
	l.t.Helper()
	var got map[string]struct {
		Kind string // where the engine shows properties
		Rows runs
	}
	if err := engine.ask("past", args("tables", names), &got); err != nil {
		l.t.Fatal(err)
	}
	for _, m := range at {
		g := got[m.name]
		if g.Kind != "" && g.Kind != string(kind) {
			l.t.Errorf("%s: %s is of kind %q, want %q", engine.name, m.name, g.Kind, kind)
		}
		l.prod.mu.Lock()
		if d := l.prod.expectedBelow(m.offsets, 0).diff(g.Rows); d != "" {
			l.t.Errorf("%s: %s (%s) has other rows than below %s: %s", engine.name, m.name, kind, m.offsets, d)
		}
		l.prod.mu.Unlock()
	}
	l.t.Logf("%s: %d tables of kind %s, up to offsets %s", engine.name, len(at), kind, at[len(at)-1].offsets)
}

// expireAll removes every snapshot that no ref names, after Firn's compactor has put files of several commits together.
func (l *lake) expireAll() {
	l.t.Helper()
	id, _ := catalog.ParseIdentifier(table)
	l.compacted(id)
	t, err := l.cat.LoadTable(l.t.Context(), id, catalog.LoadAll)
	if err != nil {
		l.t.Fatal(err)
	}
	keep := map[int64]bool{}
	for _, r := range t.Metadata.Refs() {
		keep[r.SnapshotID] = true
	}
	var gone []int64
	for _, s := range t.Metadata.Snapshots() {
		if !keep[s.SnapshotID] {
			gone = append(gone, s.SnapshotID)
		}
	}
	if _, err := l.cat.CommitTable(l.t.Context(), catalog.TableCommit{Identifier: id, Updates: icetable.Updates{icetable.NewRemoveSnapshotsUpdate(gone, false)}}); err != nil {
		l.t.Fatal(err)
	}
}

// compacted starts the compactor and waits until it has rewritten files.
func (l *lake) compacted(id catalog.Identifier) {
	l.t.Helper()
	compactor := l.role("compact", "--http", loopback(nettest.FreePorts(l.t, 1)))
	until(l.t, "a compaction", 60*time.Second, func() (bool, string) {
		t, err := l.cat.LoadTable(l.t.Context(), id, catalog.LoadAll)
		if err != nil {
			return false, err.Error()
		}
		for _, s := range t.Metadata.Snapshots() {
			if s.Summary != nil && s.Summary.Operation == icetable.OpReplace {
				return true, ""
			}
		}
		return false, fmt.Sprint(len(t.Metadata.Snapshots()), " snapshots, none of them a replace")
	})
	compactor.kill()
}
