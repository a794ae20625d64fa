package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/snapshot/snapshottest"
)

// takeOut commits position deletes as another engine would, and perhaps rows that stand in for the deleted ones.
func (l *lake) takeOut(id catalog.Identifier, out snapshottest.Rows, in ...row) {
	l.t.Helper()
	ctx, meta := l.t.Context(), l.meta(id)
	d, err := snapshottest.PositionDeletes(ctx, l.wh, meta, nil, out)
	l.must(err)
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpOverwrite}
	m, err := snapshottest.Manifest(ctx, l.wh, meta, c.SnapshotID, 0, d)
	l.must(err)
	c.New = append(c.New, m)
	if len(in) > 0 {
		f := l.file(id, in)
		m, err := snapshot.WriteManifest(ctx, l.wh, meta, meta.PartitionSpec(), c.SnapshotID, []snapshot.Entry{snapshot.Added(f)})
		l.must(err)
		c.New, c.Added = append(c.New, m), append(c.Added, f)
	}
	head, err := snapshot.LoadHead(ctx, snapshot.NewReader(l.wh, 0), meta, table.MainBranch)
	l.must(err)
	s, err := snapshot.Build(ctx, l.wh, head, c, time.Now())
	l.must(err)
	_, err = l.cat.CommitTable(ctx, catalog.TableCommit{Identifier: id, Updates: snapshot.Updates(s, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, head.ID())}})
	l.must(err)
}

// TestDeletedRowsAreTold: rows that another engine deletes by position are accounted for as such, with and without the log; an
// update, which deletes a row and adds another of its offset, leaves the row; and what was lost stays lost.
func TestDeletedRowsAreTold(t *testing.T) {
	l := sound(t)
	l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 110), nil)
	files, err := snapshot.LiveFiles(t.Context(), l.wh, l.meta(l.main).CurrentSnapshot(), nil)
	l.must(err)
	last := files[0] // of the newest manifest
	for _, f := range files {
		if f.SequenceNumber > last.SequenceNumber {
			last = f
		}
	}
	if last.Count() != 10 {
		t.Fatalf("the newest file has %d rows", last.Count())
	}
	l.takeOut(l.main, snapshottest.Rows{last.FilePath(): {2, 3, 9}}, row{1, 103}) // 102 and 109 go, 103 is updated
	log := logOf(10)
	for _, o := range []Options{{}, {Kafka: log}} {
		r := l.audit(o)
		l.expect(r, Clean)
		if p := r.Partitions[1]; p.Deleted != 2 || p.Last != 108 || p.LastRow != 109 || p.Missing+p.Phantom+p.Unexplained+p.Doubled != 0 {
			t.Errorf("partition 1: %+v", p)
		}
		if !strings.Contains(r.String(), "was deleted by another engine (2)") {
			t.Errorf("no deleted rows in\n%s", r)
		}
	}
	l.ingestRows(moved(1, 110, 115), []row{{1, 110}, {1, 114}}, nil)
	r := l.audit(Options{Kafka: log})
	l.expect(r, Broken, KindMissing)
	if p := r.Partitions[1]; p.Deleted != 2 || p.Missing != 3 {
		t.Errorf("partition 1 after a loss: %+v", p)
	}
}
