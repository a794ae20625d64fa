package commit

import (
	"bytes"
	"cmp"
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
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// ErrRedrive reports dead letters that cannot be redriven; the error says what is possible.
var ErrRedrive = errors.New("dead letters cannot be redriven")

const (
	// maxRedriveTries bounds how often a redrive is tried beside a writer that commits each second.
	maxRedriveTries = 30
	// maxRedrive and maxRedriveBytes bound what one commit redrives; the caller goes on while there are More.
	maxRedrive      = 50_000
	maxRedriveBytes = 64 << 20
)

// RowMaker turns letters into rows of the schema, batches of one Kafka partition each, in ascending order of offsets;
// still are those that give no row as before. A letter of a whole record gives all rows of its lines, or none. The caller releases the rows.
type RowMaker func(sc *iceberg.Schema, letters []deadletter.Letter) (rows []arrow.RecordBatch, still []engine.Dead, err error)

// RedriveOptions choose the letters.
type RedriveOptions struct {
	Filter deadletter.Filter
	// Again takes letters in that were redriven before and whose row is not in the table: it was set back since, or
	// somebody deleted the row.
	Again  bool
	DryRun bool
	// Limit bounds the letters of this call; 0 and at most: 50,000.
	Limit int
}

// Redriven is what one commit of a redrive did, or would do.
type Redriven struct {
	Chosen  int            // letters that the options choose
	Rows    int            // rows that they became: one each, or those of the lines of whole records
	Present int            // of them, those whose row was there before
	Still   map[string]int // of them, those that give no row, by reason
	Ahead   int            // not chosen, because the pipeline stands before them and comes to them again
	More    bool           // the limit was reached
	// SnapshotID is that of the rows, DeadSnapshotID that of the marks; 0 when there was none.
	SnapshotID, DeadSnapshotID int64
}

// Redrive makes rows of dead letters, at the offsets that their records had. Rows and marks are one transaction of the
// catalog, on the heads that were looked at and at the pipeline's tag, which moves along: a writer that commits meanwhile is
// fenced, or makes this try again. Which letters still need a row is told by the ledger columns of the head that the commit
// is built on, so a redrive that comes twice, or whose answer was lost, adds nothing. On catalogs that commit one table at a time
// the rows go first; marks that are missing then are made up by the next redrive.
func Redrive(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, rows, dead catalog.Identifier, pipeline string, o RedriveOptions, rowsOf RowMaker) (Redriven, error) {
	batch, err := uuid.NewV7()
	if err != nil {
		return Redriven{}, fmt.Errorf("batch id: %w", err)
	}
	d := &redriver{cat: cat, wh: wh, dead: dead, o: o, rowsOf: rowsOf, batch: batch.String(), sid: snapshot.NewID(), deadID: snapshot.NewID()}
	if d.o.Limit <= 0 || d.o.Limit > maxRedrive {
		d.o.Limit = maxRedrive
	}
	var done Redriven // of an attempt that may have taken effect
	for n := 1; ; n++ {
		if d.rewinder, err = newRewinder(ctx, cat, wh, rows, pipeline); err != nil {
			return Redriven{}, err
		}
		ours := d.line.meta.SnapshotByID(d.sid) != nil // it came with the move of main
		out, err := d.attempt(ctx, ours)
		switch o := classify(err); o {
		case committed:
			if ours { // the answer was lost; what was left to do is done now
				done.SnapshotID, done.DeadSnapshotID = d.sid, max(done.DeadSnapshotID, out.DeadSnapshotID)
				return done, nil
			}
			return out, nil
		case conflict, unknown:
			if !ours {
				done = out
			}
			if n == maxRedriveTries {
				return Redriven{}, fmt.Errorf("redrive into table %s, attempt %d: %w", rows, n, err)
			}
			if perr := pause(ctx, min(n, quickAttempts+2), o); perr != nil {
				return Redriven{}, fmt.Errorf("redrive into table %s: %w: repeat it, it adds nothing twice", rows, errors.Join(perr, err))
			}
		default:
			return Redriven{}, fmt.Errorf("redrive into table %s: %w", rows, err)
		}
	}
}

// redriver holds one look at both tables.
type redriver struct {
	*rewinder // of the rows
	cat       catalog.Catalog
	wh        *objstore.Warehouse
	dead      catalog.Identifier
	o         RedriveOptions
	rowsOf    RowMaker
	batch     string
	sid       int64 // of the snapshot with the rows, the same in every attempt
	deadID    int64
}

// chosen is what was found to do.
type chosen struct {
	pos      position
	deadHead snapshot.Head
	files    map[string]snapshot.File // of the dead-letter table, with a letter to be marked
	letters  []deadletter.Letter      // without a row
	there    sticky                   // rows of the letters' records
	marks    sticky                   // letters to be marked
	rows     []arrow.RecordBatch
}

func (d *redriver) attempt(ctx context.Context, ours bool) (out Redriven, err error) {
	ch, err := d.choose(ctx, &out)
	if err != nil {
		return out, err
	}
	sc := d.line.meta.CurrentSchema()
	if len(ch.letters) > 0 && !ours {
		var still []engine.Dead
		if ch.rows, still, err = d.rowsOf(sc, ch.letters); err != nil {
			return out, err
		}
		defer func() {
			for _, r := range ch.rows {
				r.Release()
			}
		}()
		out.Still = map[string]int{}
		for _, s := range still {
			out.Still[s.Reason]++
		}
		made, err := d.checkRedriven(ch)
		if err != nil {
			return out, err
		}
		if made+len(still) != len(ch.letters) {
			return out, fmt.Errorf("%w: %d letters gave rows of %d and %d letters", ErrRedrive, len(ch.letters), made, len(still))
		}
		for _, r := range ch.rows {
			out.Rows += int(r.NumRows())
		}
	}
	if d.o.DryRun || len(ch.marks) == 0 {
		return out, nil
	}
	commits, err := d.build(ctx, ch, &out)
	if err != nil {
		return out, err
	}
	if len(commits) > 1 {
		if err = d.cat.CommitTransaction(ctx, commits); !errors.Is(err, catalog.ErrUnsupported) {
			return out, err
		}
	}
	for _, c := range commits { // the rows first: a mark without a row would hide the letter
		if _, err = d.cat.CommitTable(ctx, c); err != nil {
			return out, err
		}
	}
	return out, nil
}

// choose finds the letters, and which of them have a row.
func (d *redriver) choose(ctx context.Context, out *Redriven) (*chosen, error) {
	ch := &chosen{files: map[string]snapshot.File{}, marks: sticky{}}
	var err error
	if ch.pos, err = newFinder(d.rewinder.wh, d.reader, d.line, d.pipeline).find(ctx); err != nil {
		return nil, err
	}
	t, err := d.cat.LoadTable(ctx, d.dead, catalog.LoadRefs)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", d.dead, err)
	}
	if ch.deadHead, err = snapshot.LoadHead(ctx, d.reader, t.Metadata, table.MainBranch); err != nil {
		return nil, fmt.Errorf("table %s: %w", d.dead, err)
	}
	files, err := d.reader.FilesOf(ctx, ch.deadHead.Manifests, nil)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", d.dead, err)
	}
	var found []deadletter.Letter
	in := map[place]snapshot.File{}
	v, size := ch.pos.offsets(), 0
	want := deadletter.Columns(t.Metadata.CurrentSchema(), true)
	err = deadletter.Files(ctx, d.wh, files, want, func(f snapshot.File, l *deadletter.Letter) error {
		if !d.o.Filter.Match(l) || (l.Redriven != 0 && !d.o.Again) {
			return nil
		}
		if at, known := v[l.Partition]; !known || l.Offset >= at {
			out.Ahead++
			return nil
		}
		if len(found) == d.o.Limit || size > maxRedriveBytes {
			out.More = true
			return nil
		}
		size += len(l.Value) + len(l.Key)
		found = append(found, *l)
		in[placeOf(l)] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", d.dead, err)
	}
	out.Chosen = len(found)
	if ch.there, err = d.present(ctx, found); err != nil {
		return nil, err
	}
	for _, l := range found {
		if !ch.there.has(l.Partition, l.Offset, l.Line) {
			ch.letters = append(ch.letters, l)
			continue
		}
		if out.Present++; l.Redriven == 0 {
			ch.marks.add(l.Partition, l.Offset, l.Line)
		}
	}
	slices.SortFunc(ch.letters, func(a, b deadletter.Letter) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Line, b.Line))
	})
	for at, f := range in {
		if ch.marks[at.partition][at.spot] {
			ch.files[f.FilePath()] = f
		}
	}
	for i := range ch.letters {
		f := in[placeOf(&ch.letters[i])]
		ch.files[f.FilePath()] = f
	}
	return ch, nil
}

// place is a spot with its partition.
type place struct {
	partition int32
	spot
}

func placeOf(l *deadletter.Letter) place { return place{l.Partition, spot{l.Offset, l.Line}} }

// present tells which rows of the head came from the records of the letters. Rows that another engine hid by row deletes count as there:
// whoever deletes a row does not want it back.
func (d *redriver) present(ctx context.Context, letters []deadletter.Letter) (sticky, error) {
	out, want := sticky{}, map[int32]map[int64]bool{}
	if len(letters) == 0 {
		return out, nil
	}
	least := int64(1<<63 - 1)
	top := offset.Vector{}
	for _, l := range letters {
		if want[l.Partition] == nil {
			want[l.Partition] = map[int64]bool{}
		}
		want[l.Partition][l.Offset] = true
		least = min(least, l.Offset)
		top[l.Partition] = max(top[l.Partition], l.Offset)
	}
	manifests, err := d.reader.Manifests(ctx, d.head)
	if err != nil {
		return nil, err
	}
	files, err := d.reader.FilesOf(ctx, snapshot.DataManifests(manifests), nil)
	if err != nil {
		return nil, err
	}
	scan, err := newLedgerScan(d.wh, d.line.meta)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if b := scan.boundsOf(f); b.empty || b.known && (b.upper < least || !anyBetween(top, b)) {
			continue
		}
		err := scan.readLines(ctx, f, func(p int32, o int64, line int32) error {
			if want[p][o] {
				out.add(p, o, line)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%w: table %s: %w", ErrRedrive, d.line.id, err)
		}
	}
	return out, nil
}

func anyBetween(top offset.Vector, b bounds) bool {
	for p := range top {
		if p >= b.low && p <= b.top {
			return true
		}
	}
	return false
}

// checkRedriven holds the rows against the letters that they were made of: each is a letter's, once, in its partition. Lines of
// a whole record that are rows already are left out. It adds the letters to the marks and tells how many they are.
func (d *redriver) checkRedriven(ch *chosen) (letters int, err error) {
	want, seen := sticky{}, sticky{}
	for _, l := range ch.letters {
		want.add(l.Partition, l.Offset, l.Line)
	}
	var kept []arrow.RecordBatch
	for _, r := range ch.rows {
		p, o, ok := ledgerColumns(r)
		if !ok {
			return 0, fmt.Errorf("%w: rows without the ledger columns", ErrTable)
		}
		lines := engine.LinesOf(r)
		from, n := 0, int(r.NumRows())
		keep := func(to int) {
			if to > from {
				kept = append(kept, r.NewSlice(int64(from), int64(to)))
			}
			from = to + 1
		}
		for i := range n {
			at := spot{o.Value(i), lines.At(i)}
			if !want.has(p.Value(i), at.offset, at.line) || seen[p.Value(i)][at] {
				for _, k := range kept {
					k.Release()
				}
				return 0, fmt.Errorf("%w: partition %d offset %d came out of the decoder and did not go in, or twice", ErrRedrive, p.Value(i), at.offset)
			}
			seen.add(p.Value(i), at.offset, at.line)
			if ch.there[p.Value(i)][at] {
				keep(i)
			}
			if !want[p.Value(i)][at] {
				at.line = 0
			}
			if !ch.marks[p.Value(i)][at] {
				letters++
				ch.marks.add(p.Value(i), at.offset, at.line)
			}
		}
		keep(n)
	}
	for _, r := range ch.rows {
		r.Release()
	}
	ch.rows = kept
	return letters, nil
}

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
	rec := ledger.Record{Kind: ledger.KindRedrive, Pipeline: d.pipeline, BatchID: d.batch, Epoch: ch.pos.epoch, ClusterID: prev.ClusterID, TopicID: prev.TopicID,
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
