package compaction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// fewManifests is a table with more manifests than the compactor of its tests wants.
const fewManifests = 12

func manifestLake(t *testing.T, fields ...iceberg.PartitionField) (*lake, *Compactor) {
	t.Helper()
	l := newLake(t, fields...)
	for range fewManifests {
		l.append(3, "eu")
	}
	return l, l.compactor(Config{MaxManifests: fewManifests}, nil)
}

func newMergeState() *mergeState { return &mergeState{tableState: newTableState(tableID)} }

// merge looks at the table's manifests once.
func (l *lake) merge(c *Compactor) Report {
	l.Helper()
	r, err := c.mergeTable(context.Background(), newMergeState())
	l.ok(err)
	return r
}

func (l *lake) manifests() []iceberg.ManifestFile {
	l.Helper()
	ms, err := snapshot.ReadManifests(context.Background(), l.wh, l.load().CurrentSnapshot())
	l.ok(err)
	return ms
}

// listed are the live files and what their entries say, but for the manifest.
func (l *lake) listed() []string {
	l.Helper()
	var out []string
	r := snapshot.NewReader(l.wh, 0)
	for _, m := range l.manifests() {
		if m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		files, err := r.FilesOf(context.Background(), []iceberg.ManifestFile{m}, nil)
		l.ok(err)
		for _, f := range files {
			row := "-"
			if id := f.FirstRowID(); id != nil {
				row = fmt.Sprint(*id)
			}
			out = append(out, fmt.Sprint(f.FilePath(), f.SpecID(), f.Partition(), f.SequenceNumber, f.FileSequenceNumber, f.SnapshotID, row, f.Count()))
		}
	}
	slices.Sort(out)
	return out
}

// TestMergeOfManifests: the head's manifests become one, its record goes on, the tag stays, and so does what a reader of
// the snapshot before needs.
func TestMergeOfManifests(t *testing.T) {
	l, c := manifestLake(t)
	before, files := l.load(), l.listed()
	r := l.merge(c)
	if r.SnapshotID == 0 || r.ManifestsMerged != fewManifests || len(l.manifests()) != 1 {
		t.Fatalf("%d manifests after %+v", len(l.manifests()), r)
	}
	if got := l.listed(); !slices.Equal(got, files) {
		t.Errorf("the entries became\n%v\nthey were\n%v", got, files)
	}
	head := l.load().CurrentSnapshot()
	rec, err := ledger.ParseSummary(head.Summary.Properties)
	l.ok(err)
	was, err := ledger.ParseSummary(before.CurrentSnapshot().Summary.Properties)
	l.ok(err)
	if head.Summary.Operation != table.OpReplace || rec.Kind != ledger.KindCompact || !rec.Offsets.Equal(was.Offsets) || rec.BatchID != was.BatchID || rec.Prev != was.Prev {
		t.Errorf("%s with record %+v, it was %+v", head.Summary.Operation, rec, was)
	}
	if tag := l.load().SnapshotByName(ledger.TagName("p")); tag.SnapshotID != before.CurrentSnapshot().SnapshotID {
		t.Error("the pipeline's tag was moved")
	}
	if got := l.rowsOf(before.CurrentSnapshot()); len(got) != 3*fewManifests {
		t.Errorf("a reader of the snapshot before sees %d rows", len(got))
	}
	if r := l.merge(c); r.SnapshotID != 0 {
		t.Errorf("again: %+v", r)
	}
	l.sound()
}

// TestManifestsWhereRowsStay: what rounds may not touch has its manifests merged all the same.
func TestManifestsWhereRowsStay(t *testing.T) {
	for name, prepare := range map[string]func(*lake){
		"row-level deletes": func(l *lake) { l.deleteRow(true) },
		"format version 3": func(l *lake) {
			_, err := l.cat.CommitTable(l.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{table.NewUpgradeFormatVersionUpdate(3)}})
			l.ok(err)
			l.append(3, "eu")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, c := manifestLake(t, byRegion())
			prepare(l)
			deletes := func() (out []string) {
				for _, m := range l.manifests() {
					if m.ManifestContent() == iceberg.ManifestContentDeletes {
						out = append(out, fmt.Sprint(m.FilePath(), m.SequenceNum()))
					}
				}
				return out
			}
			files, del := l.listed(), deletes()
			if r := l.merge(c); r.SnapshotID == 0 || len(l.manifests()) != 1+len(del) {
				t.Errorf("%d manifests after %+v", len(l.manifests()), r)
			}
			if got := l.listed(); !slices.Equal(got, files) || !slices.Equal(deletes(), del) {
				t.Errorf("the entries became\n%v %v\nthey were\n%v %v", got, deletes(), files, del)
			}
			l.append(3, "eu")
			if got := l.listed(); len(got) != len(files)+1 {
				t.Errorf("%d files after an append", len(got))
			}
		})
	}
}

// TestManifestsWhileRowsAreRewritten: a round reads its inputs for long while a second's commits go on. Manifests stay
// few, and the round finds its inputs in what they were merged into.
func TestManifestsWhileRowsAreRewritten(t *testing.T) {
	l := newLake(t)
	for range 10 {
		l.append(3, "eu")
	}
	c := l.compactor(Config{MaxManifests: fewManifests}, nil)
	ms, most := newMergeState(), 0
	slow := &onOpen{Store: l.wh.Store, do: func() {
		for s := range 40 {
			l.append(1, "eu")
			l.advance(time.Second)
			if s%5 == 4 {
				most = max(most, len(l.manifests()))
				_, err := c.mergeTable(context.Background(), ms)
				l.ok(err)
			}
		}
	}}
	l.wh.Store = slow
	r := l.once(c)
	if r.SnapshotID == 0 || len(r.Jobs) != 1 || !r.Jobs[0].Committed || r.Jobs[0].Files != 10 || r.Conflicts == 0 {
		t.Fatalf("%+v", r)
	}
	if limit := fewManifests + 5; most > limit {
		t.Errorf("%d manifests were live, at most %d are wanted", most, limit)
	}
	l.sound()
}

// onOpen does something while the first data file is opened; several are opened at once.
type onOpen struct {
	objstore.Store
	begun atomic.Bool
	do    func()
}

func (s *onOpen) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if strings.HasSuffix(key, ".parquet") && s.begun.CompareAndSwap(false, true) {
		s.do()
	}
	return s.Store.Get(ctx, key, limit)
}

// TestMergeMeetsAppends: the head moves under every attempt but the last.
func TestMergeMeetsAppends(t *testing.T) {
	l, _ := manifestLake(t)
	f := &faults{Catalog: l.cat}
	f.before = func(n int, _ catalog.TableCommit) error {
		if n <= 3 {
			l.append(2, "eu")
		}
		return nil
	}
	r := l.merge(l.compactor(Config{MaxManifests: fewManifests}, f))
	if r.Conflicts != 3 || r.SnapshotID == 0 || len(l.manifests()) != 4 {
		t.Errorf("%d manifests after %+v", len(l.manifests()), r)
	}
	l.sound()
	l.noStrays(0)
}

// TestMergeLosesItsAnswer: a merge that took effect unseen is found, and is not done again.
func TestMergeLosesItsAnswer(t *testing.T) {
	l, _ := manifestLake(t)
	f := &faults{Catalog: l.cat, after: func(n int, err error) error {
		if n == 1 {
			return catalog.ErrUnknownOutcome
		}
		return err
	}}
	r := l.merge(l.compactor(Config{MaxManifests: fewManifests}, f))
	if r.SnapshotID == 0 || f.n != 1 || len(l.manifests()) != 1 {
		t.Errorf("%d commits, %d manifests: %+v", f.n, len(l.manifests()), r)
	}
	l.sound()
}

// dies is a store that ends the compactor's context at its nth write.
type dies struct {
	objstore.Store
	at  int
	end context.CancelFunc
}

func (d *dies) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	info, err := d.Store.Put(ctx, key, body, mode)
	if d.at--; d.at == 0 {
		d.end()
		return info, errors.Join(err, context.Canceled)
	}
	return info, err
}

// TestMergeDies at every step: nothing is lost, the next process merges, and what is left over is swept.
func TestMergeDies(t *testing.T) {
	for _, step := range []string{"manifest stored", "list stored", string(crash.CompactBeforeCommit), string(crash.CompactAfterCommit)} {
		t.Run(step, func(t *testing.T) {
			l, _ := manifestLake(t)
			files := l.listed()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			whole := l.wh.Store
			ctx = crash.With(ctx, func(p crash.Point) {
				if string(p) == step {
					l.wh.Store = objstore.NewMemory() // the dead process reaches nothing any more
					cancel()
				}
			})
			if at := slices.Index([]string{"manifest stored", "list stored"}, step); at >= 0 {
				l.wh.Store = &dies{whole, at + 1, cancel}
			}
			cut := &faults{Catalog: l.cat, before: func(int, catalog.TableCommit) error { return ctx.Err() }}
			_, err := l.compactor(Config{MaxManifests: fewManifests}, cut).mergeTable(ctx, newMergeState())
			l.wh.Store = whole
			if after := step == string(crash.CompactAfterCommit); err == nil && !after {
				t.Error("it went on")
			} else if committed := len(l.manifests()) == 1; committed != after {
				t.Errorf("%d manifests", len(l.manifests()))
			}
			if got := l.listed(); !slices.Equal(got, files) {
				t.Errorf("the entries became\n%v\nthey were\n%v", got, files)
			}
			l.sound()
			next := l.compactor(Config{MaxManifests: fewManifests, MinSnapshots: 1}, nil)
			l.merge(next)
			if len(l.manifests()) != 1 {
				t.Errorf("%d manifests after the next merge", len(l.manifests()))
			}
			for range 2 {
				l.once(next)
				l.advance(2 * next.cfg.StrayGrace.D())
				l.append(1, "eu") // and the tag moves on
			}
			l.once(next)
			l.sound()
			for _, k := range l.keys() { // what the dead one wrote under its names, and what was merged away, is gone
				if strings.HasSuffix(k, "-m0.avro") && !l.reached(k) {
					t.Errorf("%s is left over", k)
				}
			}
		})
	}
}

// reached tells whether a snapshot lists the manifest.
func (l *lake) reached(key string) bool {
	l.Helper()
	for _, s := range l.load().Snapshots() {
		ms, err := snapshot.ReadManifests(context.Background(), l.wh, &s)
		l.ok(err)
		for _, m := range ms {
			if k, err := l.wh.Key(m.FilePath()); err == nil && k == key {
				return true
			}
		}
	}
	return false
}

// TestReadersKeepMergedManifests: what a merge replaced stays as long as a snapshot lists it and OrphanGrace beyond.
func TestReadersKeepMergedManifests(t *testing.T) {
	l, _ := manifestLake(t)
	c := l.compactor(Config{MaxManifests: fewManifests, MinSnapshots: 1, MinInputFiles: 500}, nil)
	ts, release, err := c.state(t.Context(), tableID)
	l.ok(err)
	ts.reset(l.load().TableUUID())
	l.ok(c.sweep(t.Context(), ts, &Report{})) // which sees them live
	release()
	pinned, old := *l.load().CurrentSnapshot(), l.manifests()
	l.merge(c)
	there := func() (n int) {
		for _, m := range old {
			k, err := l.wh.Key(m.FilePath())
			l.ok(err)
			if _, err := l.wh.Stat(t.Context(), k); err == nil {
				n++
			}
		}
		return n
	}
	l.advance(c.cfg.SnapshotWindow.D() / 2)
	l.once(c)
	if l.rowsOf(&pinned); there() != len(old) {
		t.Errorf("%d of %d manifests are there within the window", there(), len(old))
	}
	l.advance(c.cfg.SnapshotWindow.D())
	l.append(1, "eu")
	l.once(c)
	if l.load().SnapshotByID(pinned.SnapshotID) != nil || there() != len(old) {
		t.Errorf("%d of %d manifests are there when their snapshots expire", there(), len(old))
	}
	l.advance(2 * c.cfg.OrphanGrace.D())
	l.once(c)
	if there() != 0 {
		t.Errorf("%d manifests that nothing lists are there after the grace", there())
	}
	l.sound()
}

// TestDamagedManifestIsSetAside: the others are merged, and it is tried again later.
func TestDamagedManifestIsSetAside(t *testing.T) {
	l, c := manifestLake(t)
	bad := l.manifests()[7]
	k, err := l.wh.Key(bad.FilePath())
	l.ok(err)
	whole, err := l.wh.Get(t.Context(), k, 1<<30)
	l.ok(err)
	l.put(k, "no Avro")
	ms := newMergeState()
	if _, err := c.mergeTable(t.Context(), ms); class(err) != "corrupt" || !strings.Contains(err.Error(), bad.FilePath()) {
		t.Fatalf("%v", err)
	}
	if _, err := c.mergeTable(t.Context(), ms); err != nil || len(l.manifests()) != 2 {
		t.Errorf("%d manifests, %v", len(l.manifests()), err)
	}
	l.put(k, string(whole))
	l.sound()
}

// TestFewManifestsCostNoRead: below the bound the list is not read again for every look.
func TestFewManifestsCostNoRead(t *testing.T) {
	l := newLake(t)
	l.append(3, "eu")
	reads := &counting{Store: l.wh.Store}
	l.wh.Store = reads
	c, ms := l.compactor(Config{}, nil), newMergeState()
	look := func() int {
		reads.n = 0
		_, err := c.mergeTable(t.Context(), ms)
		l.ok(err)
		return reads.n
	}
	if first, second := look(), look(); first == 0 || second != 0 {
		t.Errorf("%d reads, then %d", first, second)
	}
	l.append(3, "eu")
	if n := look(); n != 0 {
		t.Errorf("%d reads after one append", n)
	}
	l.advance(recountAfter)
	if n := look(); n == 0 {
		t.Errorf("no read after %s: another engine may have added more than a manifest", recountAfter)
	}
}

type counting struct {
	objstore.Store
	n int
}

func (c *counting) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	c.n++
	return c.Store.Get(ctx, key, limit)
}

// TestLoopMerges: Run itself keeps manifests few, on every table, without a round's help.
func TestLoopMerges(t *testing.T) {
	l, _ := manifestLake(t)
	_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{table.NewUpgradeFormatVersionUpdate(3)}})
	l.ok(err) // which rounds leave alone
	c := l.compactor(Config{MaxManifests: fewManifests}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); len(l.manifests()) > 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d manifests", len(l.manifests()))
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s := c.Status(); len(s) == 1 && s[0].Manifests > 0 && s[0].Manifests < fewManifests {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("status says %+v", s)
		}
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
