package commit

import (
	"context"
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// leg is one table's part of a batch. Its snapshot id, files and manifest are the same in every attempt; only the
// manifest list is made anew when the head moved.
type leg struct {
	p      *pinned
	id     int64 // of the snapshot
	schema *iceberg.Schema
	spec   iceberg.PartitionSpec
	lay    evolution // of the main table's rows: what the commit changes of their schema and layout
	record ledger.Record
	files  []*output

	change   snapshot.Change
	prepared bool
	snap     table.Snapshot
	built    bool // snap goes on from p.head
	done     bool // it took effect
}

// manifest writes the leg's manifest.
func (c *Committer) manifest(ctx context.Context, l *leg) error {
	if l.prepared {
		return nil
	}
	summary, err := l.record.Summary()
	if err != nil {
		return err
	}
	l.change = snapshot.Change{SnapshotID: l.id, Operation: table.OpAppend, Summary: summary}
	var entries []snapshot.Entry
	for _, f := range l.files {
		df, err := snapshot.DataFile(l.spec, f.location, f.stats, f.partition, nil)
		if err != nil {
			return err
		}
		l.change.Added = append(l.change.Added, df)
		entries = append(entries, snapshot.Added(df))
	}
	if len(entries) > 0 {
		m, err := snapshot.WriteManifest(ctx, c.wh, l.lay.after(l.p.head.Meta), l.spec, l.id, entries)
		if err != nil {
			return err
		}
		l.change.New = []iceberg.ManifestFile{m}
	}
	l.prepared = true
	return nil
}

// build makes the leg's snapshot on the pinned head.
func (c *Committer) build(ctx context.Context, l *leg) error {
	if l.built {
		return nil
	}
	head := l.p.head
	head.Meta = l.lay.after(head.Meta)
	s, err := snapshot.Build(ctx, c.wh, head, l.change, c.cfg.Now())
	if err != nil {
		return fmt.Errorf("table %s: %w", l.p.id, err)
	}
	l.snap, l.built = s, true
	return nil
}

// request pins what the leg was built on, and moves main and the pipeline's tag together.
func request(l *leg, pipeline string) catalog.TableCommit {
	move := fencedMove(l.p.id, pipeline, l.p.head.ID(), l.p.tag, l.p.head, l.snap)
	move.Requirements = append(move.Requirements, l.lay.needs...)
	move.Updates = append(slices.Clone(l.lay.updates), move.Updates...)
	return move
}

// fencedMove is the one request by which a pipeline's table moves: s, which goes on from h, becomes main and the place of
// the pipeline's tag, if the table is the one that h is of and both refs stand where they were seen, at main and tag.
func fencedMove(id catalog.Identifier, pipeline string, main, tag *int64, h snapshot.Head, s table.Snapshot) catalog.TableCommit {
	name := ledger.TagName(pipeline)
	return catalog.TableCommit{Identifier: id,
		Requirements: table.Requirements{table.AssertTableUUID(h.Meta.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, main),
			table.AssertRefSnapshotID(name, tag)},
		Updates: append(h.Updates(s, table.MainBranch, snapshot.Retention{MinSnapshots: keepSnapshots, MaxAge: keepSnapshotsFor}),
			snapshot.SetTag(name, s.SnapshotID, 0))}
}

// send commits the legs, all or none. after is nil for more than one.
func (c *Committer) send(ctx context.Context, legs []*leg) (after *catalog.Table, err error) {
	if len(legs) == 1 {
		return c.cat.CommitTable(ctx, request(legs[0], c.cfg.Pipeline))
	}
	var commits []catalog.TableCommit
	for _, l := range legs {
		commits = append(commits, request(l, c.cfg.Pipeline))
	}
	return nil, c.cat.CommitTransaction(ctx, commits)
}

// adopt takes a leg that took effect as the state to build on. meta is the table as it was right after, if known; where
// it does not show our snapshot as the head, the table is loaded before the next commit.
func (c *Committer) adopt(ctx context.Context, l *leg, meta table.Metadata) {
	id := l.id
	l.done, l.p.tag, l.p.stale = true, &id, true
	if meta == nil || !sameID(refID(meta, table.MainBranch), &id) || !l.built {
		return
	}
	// The same snapshot may have been sent with other files before (storeAgain), and that request have won.
	if s := meta.SnapshotByID(id); s == nil || s.ManifestList != l.snap.ManifestList {
		return
	}
	head, err := l.p.head.After(ctx, c.reader, meta, l.snap, l.change)
	if err != nil {
		return
	}
	l.p.head, l.p.stale = head, false
}

func sameID(a, b *int64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
