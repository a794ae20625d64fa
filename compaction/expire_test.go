package compaction

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

func (l *lake) tag(name string, id int64) {
	l.Helper()
	_, err := l.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{snapshot.SetTag(name, id, 0)}})
	l.ok(err)
}

func TestExpiryKeepsTheWindowAndTheTags(t *testing.T) {
	l := newLake(t)
	var ids []int64
	for range 40 {
		ids = append(ids, l.append(3, "eu"))
		l.advance(time.Minute)
	}
	l.tag("noon", ids[4])
	l.tag(ledger.TagName("p"), ids[6]) // as if ingest had stopped long ago
	c := l.compactor(Config{MinSnapshots: 2, SnapshotTags: "off"}, nil)
	dry, err := c.RunOnce(t.Context(), tableID, true)
	l.ok(err)
	r := l.once(c)
	// The window of 15 minutes began when ids[24] was the head until the next second: 25 to 39, ids[24] and the rewrite stay.
	meta := l.load()
	var left []int64
	for _, s := range meta.Snapshots() {
		left = append(left, s.SnapshotID)
	}
	want := append([]int64{ids[4], ids[6]}, append(slices.Clone(ids[24:]), r.SnapshotID)...)
	slices.Sort(left)
	slices.Sort(want)
	if !slices.Equal(left, want) || r.Expired != 40+1-len(want) || dry.Expired != r.Expired || dry.SnapshotID != 0 {
		t.Errorf("%d snapshots are left, want %d; expired %d, announced %d", len(left), len(want), r.Expired, dry.Expired)
	}
	if meta.SnapshotByName("noon") == nil || meta.SnapshotByName(ledger.TagName("p")).SnapshotID != ids[6] {
		t.Error("a tag is gone")
	}
	var log []int64
	for e := range meta.SnapshotLogs() {
		log = append(log, e.SnapshotID)
	}
	if !slices.Equal(log, append(slices.Clone(ids[24:]), r.SnapshotID)) {
		t.Errorf("the log has %d entries: the window's have a gap", len(log))
	}
	l.sound()
	if s := c.Status()[0]; s.Snapshots != len(left) {
		t.Errorf("status says %d snapshots, there are %d", s.Snapshots, len(left))
	}
}

// TestRefsComeOfAge: a tag with a greatest age goes when its snapshot is older, and the snapshot with it; main and tags
// without one stay.
func TestRefsComeOfAge(t *testing.T) {
	l := newLake(t)
	first := l.append(3, "eu")
	l.advance(time.Hour)
	second := l.append(3, "eu")
	for name, age := range map[string]time.Duration{"rewound-1": 30 * time.Minute, "rewound-2": 24 * time.Hour, "audit": 0} {
		id := first
		if name == "audit" {
			id = second
		}
		_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{snapshot.SetTag(name, id, age)}})
		l.ok(err)
	}
	l.advance(time.Hour)
	l.append(3, "eu")
	c := l.compactor(Config{MinSnapshots: 1, SnapshotTags: "off"}, nil)
	l.once(c)
	meta := l.load()
	if meta.SnapshotByName("rewound-1") != nil || meta.SnapshotByName("rewound-2") == nil || meta.SnapshotByName("audit") == nil {
		t.Errorf("refs after an hour: %v", meta.Refs())
	}
	l.advance(23 * time.Hour)
	l.append(3, "eu")
	l.once(c)
	meta = l.load()
	if meta.SnapshotByName("rewound-2") != nil || meta.SnapshotByID(first) != nil || meta.SnapshotByID(second) == nil || meta.SnapshotByName(table.MainBranch) == nil {
		t.Errorf("refs after a day: %v", meta.Refs())
	}
	l.sound()
}

// TestExpiryAsks for every ref: one that moved meanwhile makes it read the table again.
func TestExpiryReadsAgainWhenARefMoved(t *testing.T) {
	l := newLake(t)
	var ids []int64
	for range 6 {
		ids = append(ids, l.append(3, "eu"))
		l.advance(time.Hour)
	}
	l.tag("noon", ids[5])
	f := &faults{Catalog: l.cat}
	f.before = func(n int, _ catalog.TableCommit) error {
		if n == 1 {
			l.tag("noon", ids[1])
		}
		return nil
	}
	c := l.compactor(Config{MinSnapshots: 1, SnapshotTags: "off"}, f)
	r := l.once(c)
	if l.load().SnapshotByName("noon").SnapshotID != ids[1] || r.Expired != 4 { // all but the head and the tagged one
		t.Errorf("%+v", r)
	}
	l.sound()
}

func TestExpiryByThousands(t *testing.T) {
	l := newLake(t)
	l.append(3, "eu")
	meta := l.load()
	head := meta.CurrentSnapshot()
	const n = maxExpire + 200
	var updates table.Updates
	for i := range n { // staged snapshots, a list for all
		s := *head
		s.SnapshotID, s.ParentSnapshotID, s.SequenceNumber = snapshot.NewID(), &head.SnapshotID, head.SequenceNumber+int64(i)+1
		updates = append(updates, table.NewAddSnapshotUpdate(&s))
	}
	_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: updates})
	l.ok(err)
	l.advance(time.Hour)
	c := l.compactor(Config{MinSnapshots: 1}, nil)
	if r := l.once(c); r.Expired != maxExpire {
		t.Errorf("first round: %d", r.Expired)
	}
	if r := l.once(c); r.Expired != n-maxExpire { // at once, not a minute later
		t.Errorf("second round: %d", r.Expired)
	}
	if got := len(l.load().Snapshots()); got != 1 {
		t.Errorf("%d are left", got)
	}
}

func (l *lake) put(key, text string) {
	l.Helper()
	_, err := l.wh.Put(context.Background(), key, strings.NewReader(text), objstore.Overwrite)
	l.ok(err)
}

func TestSweepDeletesOrphansOnly(t *testing.T) {
	l := newLake(t)
	c := l.compactor(Config{MinSnapshots: 1, SnapshotTags: "off"}, nil)
	for range 30 {
		l.append(5, "eu")
		l.advance(30 * time.Second)
	}
	if r := l.once(c); r.Expired != 0 || r.Condemned != 0 {
		t.Fatalf("nothing is old: %+v", r)
	}
	root, err := l.wh.Key(l.load().Location())
	l.ok(err)
	orphans := []string{root + "/data/orphan.parquet", root + "/data/deep/er.parquet", root + "/metadata/orphan-m0.avro"}
	others := []string{root + "/data/notes.txt", root + "/metadata/00009-abc.metadata.json", root + "/metadata/version-hint.text", root + "/elsewhere/x.parquet",
		root + "-2/data/x.parquet", "other/data/x.parquet"}
	for _, k := range append(slices.Clone(orphans), others...) {
		l.put(k, "x")
	}
	there := func() (n int) {
		for _, k := range orphans {
			if slices.Contains(l.keys(), k) {
				n++
			}
		}
		return n
	}
	l.advance(2 * time.Hour) // the store has a clock of its own: everything is older than the grace now
	l.append(5, "eu")        // and the pipeline's tag moves on to what was rewritten
	first := l.once(c)
	if first.Expired != 30 || first.Orphans != 0 || first.Condemned != len(orphans)+3*30 {
		t.Fatalf("the sweep after an expiry deletes nothing: %+v", first)
	}
	l.advance(c.cfg.OrphanGrace.D() - time.Minute)
	if r := l.once(c); r.Orphans != 0 {
		t.Fatalf("within the grace: %+v", r)
	}
	l.sound()
	l.advance(c.cfg.OrphanInterval.D())
	if r := l.once(c); r.Orphans != 3*30 || r.OrphanBytes == 0 || there() != len(orphans) {
		t.Errorf("what expired goes, strays stay (%d): %+v", there(), r)
	}
	l.sound()
	l.advance(c.cfg.StrayGrace.D())
	if r := l.once(c); r.Orphans < len(orphans) || there() != 0 {
		t.Errorf("%d strays are still there: %+v", there(), r)
	}
	for _, k := range others {
		if _, err := l.wh.Stat(t.Context(), k); err != nil {
			t.Errorf("%v", err)
		}
	}
	l.noStrays(1) // the one elsewhere
	l.sound()
	ts, release, err := c.state(t.Context(), tableID)
	l.ok(err)
	defer release()
	if len(ts.condemned) != 0 || len(ts.died) > 1 {
		t.Errorf("%d and %d files are remembered for nothing", len(ts.condemned), len(ts.died))
	}
}

// A restart forgets what was live: files stay until they are as old as strays.
func TestSweepAfterARestart(t *testing.T) {
	l := newLake(t)
	for range 9 {
		l.append(5, "eu")
	}
	l.once(l.compactor(Config{MinSnapshots: 1}, nil))
	l.advance(2 * time.Hour)
	l.append(5, "eu")
	c := l.compactor(Config{MinSnapshots: 1}, nil)
	if r := l.once(c); r.Expired == 0 || r.Condemned == 0 {
		t.Fatalf("%+v", r)
	}
	l.advance(2 * c.cfg.OrphanGrace.D())
	if r := l.once(c); r.Orphans != 0 {
		t.Errorf("%+v", r)
	}
	l.advance(c.cfg.StrayGrace.D())
	if r := l.once(c); r.Orphans == 0 {
		t.Errorf("%+v", r)
	}
	l.sound()
	l.noStrays(0)
}

// A file that is younger than the grace is not even looked at: it may belong to a commit under way.
func TestSweepLeavesYoungFiles(t *testing.T) {
	l := newLake(t)
	l.append(5, "eu")
	root, err := l.wh.Key(l.load().Location())
	l.ok(err)
	c := l.compactor(Config{}, nil)
	l.put(root+"/data/orphan.parquet", "x")
	if r := l.once(c); r.Condemned != 0 || r.Orphans != 0 {
		t.Errorf("%+v", r)
	}
}

// commitAfterList commits a file that was stored long ago between a sweep's listing and its reading of the table.
type commitAfterList struct {
	objstore.Store
	commit func()
}

func (s *commitAfterList) List(ctx context.Context, prefix string, fn func(objstore.Info) error) error {
	err := s.Store.List(ctx, prefix, fn)
	if s.commit != nil && path.Base(prefix) == "metadata" {
		s.commit()
		s.commit = nil
	}
	return err
}

func TestSweepReadsTheTableAfterTheListing(t *testing.T) {
	l := newLake(t)
	l.append(5, "eu")
	store := &commitAfterList{Store: l.wh.Store}
	l.wh.Store = store
	c := l.compactor(Config{}, nil)
	// Ingest has stored its files and hangs before its commit, longer than any grace.
	ctx := context.Background()
	meta := l.load()
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
	l.ok(err)
	f, err := l.write(ctx, meta, 5, "eu")
	l.ok(err)
	id := snapshot.NewID()
	m, err := snapshot.WriteManifest(ctx, l.wh, meta, l.spec, id, []snapshot.Entry{snapshot.Added(f)})
	l.ok(err)
	l.advance(2 * c.cfg.StrayGrace.D())
	if r := l.once(c); r.Condemned < 2 {
		t.Fatalf("the sweep does not see the files: %+v", r)
	}
	l.advance(2 * c.cfg.StrayGrace.D())
	store.commit = func() {
		l.commit(h, snapshot.Change{SnapshotID: id, Operation: table.OpAppend, New: []iceberg.ManifestFile{m}, Added: []iceberg.DataFile{f}})
	}
	l.once(c)
	l.sound()
}
