package compaction

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/snapshot/snapshottest"
)

// small is a lake with ten small files, the keys of its objects, and a compactor over the faulty catalog.
func small(t *testing.T, f *faults, fields ...iceberg.PartitionField) (*lake, []string, *Compactor) {
	t.Helper()
	l := newLake(t, fields...)
	for range 10 {
		l.append(20, "eu")
	}
	f.Catalog = l.cat
	return l, l.keys(), l.compactor(Config{}, f)
}

func TestHeadMovesUnderTheCommit(t *testing.T) {
	f := &faults{}
	l, _, c := small(t, f)
	f.before = func(n int, _ catalog.TableCommit) error {
		if n <= 3 {
			l.append(7, "eu")
		}
		return nil
	}
	r := l.once(c)
	if r.Conflicts != 3 || r.SnapshotID == 0 || len(l.files()) != 4 {
		t.Errorf("%d files after %+v", len(l.files()), r)
	}
	l.sound()
	l.noStrays(0)
}

// noStrays counts objects that no snapshot reaches.
func (l *lake) noStrays(want int) {
	l.Helper()
	c := l.compactor(Config{}, nil)
	ts, release, err := c.state(context.Background(), tableID)
	l.ok(err)
	defer release()
	ts.reset(l.load().TableUUID())
	_, err = c.loadReach(context.Background(), ts)
	l.ok(err)
	var strays []string
	for _, k := range l.keys() {
		if !ts.reach.keys[ts.reach.hash(k)] && sweepable[extension(k)] {
			strays = append(strays, k)
		}
	}
	if len(strays) != want {
		l.Errorf("%d objects are not reached by any snapshot, want %d: %v", len(strays), want, strays)
	}
}

func TestAnswerIsLostAfterTheCommit(t *testing.T) {
	f := &faults{after: func(n int, err error) error {
		if n == 1 {
			return catalog.ErrUnknownOutcome
		}
		return err
	}}
	l, _, c := small(t, f)
	r := l.once(c)
	if r.SnapshotID == 0 || !r.Jobs[0].Committed || f.n > 2 { // 2: an expiry
		t.Errorf("%d commits: %+v", f.n, r)
	}
	if l.load().CurrentSnapshot().SnapshotID != r.SnapshotID {
		t.Error("the snapshot that was reported is not the head")
	}
	l.sound()
}

func TestCommitIsLostBeforeItsEffect(t *testing.T) {
	f := &faults{before: func(n int, _ catalog.TableCommit) error {
		if n <= 2 {
			return catalog.ErrUnknownOutcome
		}
		return nil
	}}
	l, _, c := small(t, f)
	if r := l.once(c); r.SnapshotID == 0 {
		t.Errorf("%+v", r)
	}
	l.sound()
	l.noStrays(2) // the lists of the two attempts: they might have been the table's
}

// TestHeldRequestArrivesLater: a request without an answer takes effect, or does not, after the rewrite was tried again.
func TestHeldRequestArrivesLater(t *testing.T) {
	var held catalog.TableCommit
	f := &faults{before: func(n int, c catalog.TableCommit) error {
		if n == 1 {
			held = c
			return catalog.ErrUnknownOutcome
		}
		return nil
	}}
	l, _, c := small(t, f)
	l.once(c)
	if _, err := l.cat.CommitTable(t.Context(), held); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the held request was answered %v", err)
	}
	l.sound()
}

func TestHeldRequestArrivesBeforeTheRetry(t *testing.T) {
	l := (*lake)(nil)
	var held *catalog.TableCommit
	f := &faults{before: func(n int, c catalog.TableCommit) error {
		if n == 1 {
			held = &c
			return catalog.ErrUnknownOutcome
		}
		if held != nil {
			if _, err := l.cat.CommitTable(context.Background(), *held); err != nil {
				return err
			}
			held = nil
			l.append(3, "eu") // and ingest goes on
		}
		return nil
	}}
	l, _, c := small(t, f)
	if r := l.once(c); r.SnapshotID == 0 || !r.Jobs[0].Committed {
		t.Errorf("%+v", r)
	}
	l.sound()
}

// TestRequestIsDoubled: the answer to the second copy is a conflict, though the first took effect.
func TestRequestIsDoubled(t *testing.T) {
	l := (*lake)(nil)
	f := &faults{before: func(n int, c catalog.TableCommit) error {
		if n == 1 {
			_, err := l.cat.CommitTable(context.Background(), c)
			l.append(3, "eu")
			return err
		}
		return nil
	}}
	l, _, c := small(t, f)
	if r := l.once(c); r.SnapshotID == 0 || !r.Jobs[0].Committed {
		t.Errorf("%+v", r)
	}
	l.sound()
}

func TestRefusals(t *testing.T) {
	for name, refusal := range map[string]error{"denied": catalog.ErrDenied, "invalid": catalog.ErrInvalid, "conflict for ever": catalog.ErrConflict, "unavailable": catalog.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			f := &faults{before: func(int, catalog.TableCommit) error { return refusal }}
			l, before, c := small(t, f)
			_, err := c.RunOnce(t.Context(), tableID, false)
			if !errors.Is(err, refusal) {
				t.Errorf("%v", err)
			}
			if got := l.keys(); !slices.Equal(got, before) {
				t.Errorf("%d objects, there were %d", len(got), len(before))
			}
			if s := c.Status(); s[0].LastError == "" || s[0].LastErrorAt.IsZero() {
				t.Errorf("%+v", s)
			}
			f.before = nil
			l.once(c)
			l.sound()
			if s := c.Status(); s[0].LastError != "" {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestUnknownForEver(t *testing.T) {
	f := &faults{before: func(int, catalog.TableCommit) error { return catalog.ErrUnknownOutcome }}
	l, before, c := small(t, f)
	if _, err := c.RunOnce(t.Context(), tableID, false); !errors.Is(err, catalog.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
	if got := len(l.keys()); got < len(before)+1+1+maxAttempts { // data file, manifest, lists
		t.Errorf("%d objects, there were %d: something was deleted", got, len(before))
	}
	l.sound()
}

func TestInputsAreGone(t *testing.T) {
	l := (*lake)(nil)
	f := &faults{}
	f.before = func(n int, _ catalog.TableCommit) error {
		if n == 1 {
			l.once(l.compactor(Config{}, nil)) // a rival does the same
		}
		return nil
	}
	l, _, c := small(t, f)
	r, err := c.RunOnce(t.Context(), tableID, false)
	if !errors.Is(err, snapshot.ErrMoved) || r.SnapshotID != 0 || r.Jobs[0].Committed || r.Jobs[0].Error == "" {
		t.Errorf("%v, %+v", err, r)
	}
	l.sound()
	l.noStrays(0)
}

func TestSomeInputsAreGone(t *testing.T) {
	l := newLake(t, byRegion())
	for range 10 {
		l.append(20, "eu", "us")
	}
	f := &faults{Catalog: l.cat}
	f.before = func(n int, _ catalog.TableCommit) error {
		if n == 1 {
			l.replaceOne("eu")
		}
		return nil
	}
	r := l.once(l.compactor(Config{}, f))
	ok := 0
	for _, j := range r.Jobs {
		if j.Committed {
			ok++
		} else if j.Error == "" {
			t.Errorf("%+v", j)
		}
	}
	if len(r.Jobs) != 2 || ok != 1 {
		t.Errorf("%+v", r)
	}
	l.sound()
	l.noStrays(0)
}

// replaceOne rewrites one file of a region to itself under another name, as another engine may.
func (l *lake) replaceOne(region string) {
	l.Helper()
	ctx := context.Background()
	meta := l.load()
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
	l.ok(err)
	var old snapshot.File
	for _, f := range l.files() {
		if f.Partition()[1000] == region {
			old = f
		}
	}
	from, err := l.wh.Key(old.FilePath())
	l.ok(err)
	data, err := l.wh.Get(ctx, from, 1<<30)
	l.ok(err)
	loc := snapshot.DataLocation(meta, uuid.NewString()+".parquet")
	to, err := l.wh.Key(loc)
	l.ok(err)
	_, err = l.wh.Put(ctx, to, bytes.NewReader(data), 0)
	l.ok(err)
	b, err := iceberg.NewDataFileBuilder(l.spec, iceberg.EntryContentData, loc, iceberg.ParquetFile, old.Partition(), nil, nil, old.Count(), old.FileSizeBytes())
	l.ok(err)
	added := b.LowerBoundValues(old.LowerBoundValues()).UpperBoundValues(old.UpperBoundValues()).Build()
	entries := []snapshot.Entry{snapshot.Added(added), snapshot.Removed(old)}
	for _, f := range l.files() {
		if f.Manifest == old.Manifest && f.FilePath() != old.FilePath() {
			entries = append(entries, snapshot.Kept(f))
		}
	}
	id := snapshot.NewID()
	m, err := snapshot.WriteManifest(ctx, l.wh, meta, l.spec, id, entries)
	l.ok(err)
	l.commit(h, snapshot.Change{SnapshotID: id, Operation: table.OpReplace, New: []iceberg.ManifestFile{m}, Drop: map[string]bool{old.Manifest: true},
		Added: []iceberg.DataFile{added}, Removed: []snapshot.File{old}})
}

func (l *lake) commit(h snapshot.Head, ch snapshot.Change) {
	l.Helper()
	s, err := snapshot.Build(context.Background(), l.wh, h, ch, l.clock())
	l.ok(err)
	_, err = l.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: tableID, Updates: snapshot.Updates(s, table.MainBranch)})
	l.ok(err)
}

// deleteRow deletes the first row of the first file by position, or by equality, as another engine may.
func (l *lake) deleteRow(byPosition bool) string {
	l.Helper()
	ctx, meta, id := context.Background(), l.load(), snapshot.NewID()
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
	l.ok(err)
	files, err := snapshot.LiveFiles(ctx, l.wh, h.Snapshot, nil)
	l.ok(err)
	d, err := snapshottest.PositionDeletes(ctx, l.wh, meta, files[0].Partition(), snapshottest.Rows{files[0].FilePath(): {0}})
	l.ok(err)
	if !byPosition {
		b, err := iceberg.NewDataFileBuilder(meta.PartitionSpec(), iceberg.EntryContentEqDeletes, d.FilePath(), iceberg.ParquetFile, files[0].Partition(), nil, nil, 1, 100)
		l.ok(err)
		d = b.EqualityFieldIDs([]int{1}).Build()
	}
	m, err := snapshottest.Manifest(ctx, l.wh, meta, id, 0, d)
	l.ok(err)
	l.commit(h, snapshot.Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{m}})
	return files[0].FilePath()
}

func TestRowDeletes(t *testing.T) {
	t.Run("by equality", func(t *testing.T) {
		l, _, c := small(t, &faults{})
		l.deleteRow(false)
		head, files := l.load().CurrentSnapshot().SnapshotID, len(l.keys())
		r := l.once(c)
		if r.Skipped == "" || len(r.Jobs) != 0 || l.load().CurrentSnapshot().SnapshotID != head || len(l.keys()) != files {
			t.Errorf("%+v", r)
		}
		if s := c.Status(); s[0].Skipped == "" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("before", func(t *testing.T) {
		l, _, c := small(t, &faults{})
		kept := l.deleteRow(true)
		if r := l.once(c); r.Skipped != "" || len(r.Jobs) != 1 || r.Jobs[0].Files != 9 {
			t.Errorf("%+v", r)
		}
		files, err := snapshot.LiveFiles(t.Context(), l.wh, l.load().CurrentSnapshot(), nil)
		l.ok(err)
		var rows int64
		for _, f := range files {
			rows += f.Count()
			if (f.FilePath() == kept) != (f.Deleted != nil) {
				t.Errorf("%s has deleted rows: %v", f.FilePath(), f.Deleted)
			}
		}
		if len(files) != 2 || rows != 200 {
			t.Errorf("%d files with %d rows, want the one with the deleted row and the rest", len(files), rows)
		}
	})
	t.Run("meanwhile", func(t *testing.T) {
		f := &faults{}
		l, before, c := small(t, f)
		f.before = func(n int, _ catalog.TableCommit) error {
			if n == 1 {
				l.deleteRow(true)
				before = l.keys()
			}
			return nil
		}
		if _, err := c.RunOnce(t.Context(), tableID, false); !errors.Is(err, snapshot.ErrDeleteFiles) {
			t.Errorf("%v", err)
		}
		own := 3 // data file, manifest, list: deleted again, those of the first attempt are in before
		if got := len(l.keys()); got != len(before)-own {
			t.Errorf("%d objects, %d before", got, len(before))
		}
		if r := l.once(c); len(r.Jobs) != 1 { // the next round leaves that file alone
			t.Errorf("after it: %+v", r)
		}
	})
}

func TestTableIsReplaced(t *testing.T) {
	f := &faults{}
	l, _, c := small(t, f)
	f.before = func(n int, _ catalog.TableCommit) error {
		if n == 1 {
			l.ok(l.cat.DropTable(t.Context(), tableID, false))
			_, err := l.cat.CreateTable(t.Context(), tableID, catalog.CreateTable{Schema: eventSchema(), Partition: &l.spec})
			l.ok(err)
			l.wrote = nil
			l.append(5, "eu")
		}
		return nil
	}
	if _, err := c.RunOnce(t.Context(), tableID, false); !errors.Is(err, errGone) {
		t.Errorf("%v", err)
	}
	f.before = nil
	for range 8 {
		l.append(5, "eu")
	}
	if r := l.once(c); len(r.Jobs) != 1 {
		t.Errorf("the new table: %+v", r)
	}
	l.sound()
}

// TestCrashBeforeTheCommit leaves files that no snapshot names, and nothing else.
func TestCrashBeforeTheCommit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &faults{before: func(int, catalog.TableCommit) error { cancel(); return context.Canceled }}
	l, before, c := small(t, f)
	if _, err := c.RunOnce(ctx, tableID, false); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := len(l.keys()); got != len(before)+3 {
		t.Errorf("%d objects, %d before", got, len(before))
	}
	l.sound()
	next := l.compactor(Config{}, nil)
	l.rounds(next)
	l.sound()
	for range 2 {
		l.advance(2 * next.cfg.StrayGrace.D())
		l.once(next)
	}
	l.sound()
	l.noStrays(0)
}
