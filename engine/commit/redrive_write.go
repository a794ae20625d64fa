package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// build stores what the snapshots need and gives the requests, that of the rows first.
func (d *redriver) build(ctx context.Context, ch *chosen, out *Redriven) (commits []catalog.TableCommit, err error) {
	if out.Rows > 0 {
		c, err := d.buildRows(ctx, ch)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", d.line.id, err)
		}
		out.SnapshotID = d.sid
		commits = append(commits, c)
	}
	c, err := d.buildMarks(ctx, ch)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", d.dead, err)
	}
	out.DeadSnapshotID = d.deadID
	return append(commits, c), nil
}

// buildRows is the snapshot of the rows: V stands, the tag moves, and the last rows are what they are now.
func (d *redriver) buildRows(ctx context.Context, ch *chosen) (catalog.TableCommit, error) {
	manifests, err := d.reader.Manifests(ctx, d.head)
	if err != nil {
		return catalog.TableCommit{}, err
	}
	g, err := grow(d.line.meta, shapesOf(ch.rows))
	if err != nil {
		return catalog.TableCommit{}, err
	}
	meta := g.after(d.line.meta)
	h := snapshot.Head{Meta: meta, Snapshot: d.head, Manifests: manifests}
	lay := layoutOf(meta, g.schema, datafile.WriteOptions{})
	ready, release, err := g.ready(ctx, ch.rows)
	if err != nil {
		return catalog.TableCommit{}, err
	}
	defer release()
	files, err := encodeFiles(ctx, meta, g.schema, lay, ready)
	if err != nil {
		return catalog.TableCommit{}, err
	}
	prev := ch.pos.record
	rec := ledger.Record{Kind: ledger.KindRedrive, Pipeline: d.pipeline, BatchID: d.batch, Epoch: ch.pos.epoch, ClusterID: prev.ClusterID, TopicID: prev.TopicID, Topics: prev.Topics,
		Offsets: ch.pos.offsets(), LastRow: prev.LastRow.Clone(), Filtered: prev.Filtered, Duplicates: prev.Duplicates, Unpublished: prev.Unpublished, Watermark: prev.Watermark}
	if d.tag != nil {
		rec.Prev = *d.tag
	}
	for _, r := range ch.rows {
		p, o, _ := ledgerColumns(r)
		for i := range int(r.NumRows()) {
			if at, ok := rec.LastRow[p.Value(i)]; !ok || o.Value(i) > at {
				rec.LastRow[p.Value(i)] = o.Value(i)
			}
		}
	}
	summary, err := rec.Summary()
	if err != nil {
		return catalog.TableCommit{}, err
	}
	change := snapshot.Change{SnapshotID: d.sid, Operation: table.OpAppend, Summary: summary}
	var entries []snapshot.Entry
	for _, f := range files {
		df, err := d.stored(ctx, lay.spec, f)
		if err != nil {
			return catalog.TableCommit{}, err
		}
		change.Added = append(change.Added, df)
		entries = append(entries, snapshot.Added(df))
	}
	m, err := snapshot.WriteManifest(ctx, d.wh, meta, lay.spec, d.sid, entries)
	if err != nil {
		return catalog.TableCommit{}, err
	}
	change.New = []iceberg.ManifestFile{m}
	s, err := snapshot.Build(ctx, d.wh, h, change, time.Now())
	if err != nil {
		return catalog.TableCommit{}, err
	}
	move := fencedMove(d.line.id, d.pipeline, &d.head.SnapshotID, d.tag, h, s)
	move.Requirements, move.Updates = append(move.Requirements, g.needs...), append(slices.Clone(g.updates), move.Updates...)
	return move, nil
}

// stored puts a file on storage and describes it for a manifest.
func (d *redriver) stored(ctx context.Context, spec iceberg.PartitionSpec, f *output) (iceberg.DataFile, error) {
	key, err := d.wh.Key(f.location)
	if err != nil {
		return nil, err
	}
	if _, err := d.wh.Put(ctx, key, bytes.NewReader(f.data), objstore.Overwrite); err != nil {
		return nil, fmt.Errorf("data file %s: %w", f.location, err)
	}
	return snapshot.DataFile(spec, f.location, f.stats, f.partition, nil)
}

// buildMarks is the snapshot of the dead-letter table in which the files with redriven letters are replaced by such that
// mark them. It carries no record: what the table's own says of V goes on to hold.
func (d *redriver) buildMarks(ctx context.Context, ch *chosen) (catalog.TableCommit, error) {
	h := ch.deadHead
	meta, updates, needs, err := withMark(h.Meta)
	if err != nil {
		return catalog.TableCommit{}, err
	}
	h.Meta = meta
	change := snapshot.Change{SnapshotID: d.deadID, Operation: table.OpOverwrite, Drop: map[string]bool{}}
	entries := map[int][]snapshot.Entry{} // by partition spec
	for _, m := range h.Manifests {
		files, err := d.reader.FilesOf(ctx, []iceberg.ManifestFile{m}, nil)
		if err != nil {
			return catalog.TableCommit{}, err
		}
		if !slices.ContainsFunc(files, func(f snapshot.File) bool { _, ok := ch.files[f.FilePath()]; return ok }) {
			continue
		}
		change.Drop[m.FilePath()] = true
		id := int(m.PartitionSpecID())
		spec := meta.PartitionSpecByID(id)
		if spec == nil {
			return catalog.TableCommit{}, fmt.Errorf("partition spec %d is not in the table's metadata", id)
		}
		for _, f := range files {
			if _, ok := ch.files[f.FilePath()]; !ok {
				entries[id] = append(entries[id], snapshot.Kept(f))
				continue
			}
			marked, n, err := d.mark(ctx, meta, f, ch.marks)
			if err != nil {
				return catalog.TableCommit{}, err
			}
			if n == 0 { // its letters give no row still
				entries[id] = append(entries[id], snapshot.Kept(f))
				continue
			}
			df, err := d.stored(ctx, *spec, marked)
			if err != nil {
				return catalog.TableCommit{}, err
			}
			change.Added, change.Removed = append(change.Added, df), append(change.Removed, f)
			entries[id] = append(entries[id], snapshot.Added(df), snapshot.Removed(f))
		}
	}
	for id, es := range entries {
		m, err := snapshot.WriteManifest(ctx, d.wh, meta, *meta.PartitionSpecByID(id), d.deadID, es)
		if err != nil {
			return catalog.TableCommit{}, err
		}
		change.New = append(change.New, m)
	}
	s, err := snapshot.Build(ctx, d.wh, h, change, time.Now())
	if err != nil {
		return catalog.TableCommit{}, err
	}
	return catalog.TableCommit{Identifier: d.dead,
		Requirements: append(table.Requirements{table.AssertTableUUID(meta.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, h.ID())}, needs...),
		Updates:      append(updates, h.Updates(s, table.MainBranch, snapshot.Retention{MinSnapshots: keepSnapshots, MaxAge: keepSnapshotsFor})...)}, nil
}

// withMark is the dead-letter table with the column of the mark, and what makes it so.
func withMark(meta table.Metadata) (table.Metadata, table.Updates, table.Requirements, error) {
	sc := meta.CurrentSchema()
	if f, ok := topLevel(sc.Fields(), deadletter.ColRedriven); ok {
		if !f.Type.Equals(iceberg.PrimitiveTypes.Int64) {
			return nil, nil, nil, fmt.Errorf("%w: column %s is a %s and must be a long: rename it", ErrTable, f.Name, f.Type)
		}
		return meta, nil, nil, nil
	}
	return withColumns(meta, []iceberg.NestedField{{Name: deadletter.ColRedriven, Type: iceberg.PrimitiveTypes.Int64,
		Doc: "snapshot of the rows that took the letter in; null while it is dead"}})
}

// mark writes a file anew with the marks, and tells how many it set.
func (d *redriver) mark(ctx context.Context, meta table.Metadata, f snapshot.File, marks sticky) (*output, int, error) {
	sc := meta.CurrentSchema()
	var buf bytes.Buffer
	w, err := datafile.NewWriter(&buf, sc, layoutOf(meta, sc, datafile.WriteOptions{}).options)
	if err != nil {
		return nil, 0, err
	}
	set := 0
	err = scanFile(ctx, d.wh, f, sc, func(b arrow.RecordBatch) error {
		next, n := marked(b, marks, d.sid)
		defer next.Release()
		set += n
		return w.Write(next)
	})
	st, cerr := w.Close()
	if err = errors.Join(err, cerr); err != nil {
		return nil, 0, err
	}
	if st.Rows != f.Count() {
		return nil, 0, fmt.Errorf("%s: %d letters of %d were written", f.FilePath(), st.Rows, f.Count())
	}
	return &output{location: snapshot.DataLocation(meta, uuid.NewString()+".parquet"), data: buf.Bytes(), stats: st, partition: f.Partition()}, set, nil
}

// marked is a batch with the column of the mark filled in.
func marked(b arrow.RecordBatch, marks sticky, id int64) (arrow.RecordBatch, int) {
	p, o, ok := ledgerColumns(b)
	lines := engine.LinesOf(b)
	cols := slices.Clone(b.Columns())
	set := 0
	for c, f := range b.Schema().Fields() {
		old, is := b.Column(c).(*array.Int64)
		if f.Name != deadletter.ColRedriven || !is || !ok {
			continue
		}
		nb := array.NewInt64Builder(memory.DefaultAllocator)
		defer nb.Release()
		for i := range int(b.NumRows()) {
			switch {
			case p.IsValid(i) && o.IsValid(i) && marks[p.Value(i)][spot{o.Value(i), lines.At(i)}]:
				nb.Append(id)
				set++
			case old.IsValid(i):
				nb.Append(old.Value(i))
			default:
				nb.AppendNull()
			}
		}
		col := nb.NewInt64Array()
		defer col.Release()
		cols[c] = col
	}
	return array.NewRecordBatch(b.Schema(), cols, b.NumRows()), set
}
