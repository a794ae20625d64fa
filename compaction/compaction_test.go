package compaction

import (
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

func TestMergesSmallFiles(t *testing.T) {
	l := newLake(t)
	for range 20 {
		l.append(50, "eu")
	}
	_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{
		table.NewSetSnapshotRefUpdate(table.MainBranch, l.prev, table.BranchRef, 0, 900_000, 120)}})
	l.ok(err)
	before := l.load()
	tag := before.SnapshotByName(ledger.TagName("p"))
	c := l.compactor(Config{}, nil)
	r := l.once(c)
	if len(r.Jobs) != 1 || !r.Jobs[0].Committed || r.Jobs[0].Files != 20 || r.Jobs[0].Rows != 1000 {
		t.Fatalf("%+v", r)
	}
	l.sound()
	after := l.load()
	head := after.CurrentSnapshot()
	if len(l.files()) != 1 || head.SnapshotID != r.SnapshotID || head.Summary.Operation != "replace" || *head.ParentSnapshotID != before.CurrentSnapshot().SnapshotID {
		t.Errorf("head %v of %d files", head, len(l.files()))
	}
	if got := after.SnapshotByName(ledger.TagName("p")); got.SnapshotID != tag.SnapshotID {
		t.Error("the pipeline's tag was moved")
	}
	if ref := after.Ref(); ref.MinSnapshotsToKeep == nil || *ref.MinSnapshotsToKeep != 120 || ref.MaxSnapshotAgeMs == nil || *ref.MaxSnapshotAgeMs != 900_000 {
		t.Errorf("main's retention is lost: %+v", ref)
	}
	was, err := ledger.ParseSummary(before.CurrentSnapshot().Summary.Properties)
	l.ok(err)
	now, err := ledger.ParseSummary(head.Summary.Properties)
	l.ok(err)
	if now.Kind != ledger.KindCompact || !now.Offsets.Equal(was.Offsets) || !now.LastRow.Equal(was.LastRow) || now.BatchID != was.BatchID || now.Prev != was.Prev {
		t.Errorf("the record became %+v, it was %+v", now, was)
	}
	if r := l.once(c); r.SnapshotID != 0 || len(r.Jobs) != 0 {
		t.Errorf("a second round did %+v", r)
	}
	s := c.Status()
	if len(s) != 1 || s[0].LiveFiles != 1 || s[0].SmallFiles != 1 || s[0].Manifests != 1 || s[0].Rows != 1000 || s[0].LastError != "" || s[0].LastJob.IsZero() {
		t.Errorf("status %+v", s)
	}
}

func TestPartitionsStayApart(t *testing.T) {
	l := newLake(t, byRegion())
	for range 9 {
		l.append(30, "eu", "us", "a/b=c'\"\\")
	}
	l.append(30, "eu")
	c := l.compactor(Config{TargetFileSize: units.Bytes(1 << 20)}, nil)
	if n := l.rounds(c); n != 3 {
		t.Errorf("%d jobs for three partitions", n)
	}
	l.sound()
	rows := map[any]int64{}
	for _, f := range l.files() {
		rows[f.Partition()[1000]] += f.Count()
	}
	if len(l.files()) != 3 || rows["eu"] != 300 || rows["us"] != 270 || rows["a/b=c'\"\\"] != 270 {
		t.Errorf("%d files: %v", len(l.files()), rows)
	}
}
