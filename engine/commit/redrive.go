package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
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
	rows := past.Rows{From: offset.Vector{}, To: offset.Vector{}}
	for _, l := range letters {
		if want[l.Partition] == nil {
			want[l.Partition] = map[int64]bool{}
			rows.From[l.Partition] = l.Offset
		}
		want[l.Partition][l.Offset] = true
		rows.From[l.Partition] = min(rows.From[l.Partition], l.Offset)
		rows.To[l.Partition] = max(rows.To[l.Partition], l.Offset+1)
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
		if !rows.MayHold(scan.boundsOf(f)) {
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
