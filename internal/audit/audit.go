package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// PropDeadLetters is the property of a table that names its dead-letter table; without it the name is that of the table
// with _dead.
const PropDeadLetters = "firn.dead-letter-table"

// LogBounds is the part of a partition's log that can be read now: [Start, End), End being the last stable offset.
type LogBounds struct{ Start, End int64 }

// Stretch is a part [Start, End) of a partition's log: the offsets of the records that a consumer sees (read committed),
// ascending, and how many others are markers or aborted. What is left was removed by log compaction.
type Stretch struct {
	Start, End       int64
	Offsets          []int64
	Control, Aborted int64
}

// Log is the topic itself, or the topics: partitions have the table's numbers.
type Log interface {
	// Describe comes first: it says, by the table's record, which topics the numbers are of (none: there is one topic), and gives the
	// ids of the cluster and of the topics, in these places, as the ledger records them; empty when unknown.
	Describe(ctx context.Context, topics ledger.Topics) (clusterID string, topicIDs []string, err error)
	Bounds(ctx context.Context) (map[int32]LogBounds, error)
	// ReadRange calls fn with contiguous stretches that cover [from, to); the first may begin before from and the last
	// end after to. An error of fn ends it and is returned.
	ReadRange(ctx context.Context, partition int32, from, to int64, fn func(Stretch) error) error
}

// Options tune an audit.
type Options struct {
	// Kafka is the log to compare with; nil: the tables alone.
	Kafka Log
	// DeadLetters names the dead-letter table; nil: as PropDeadLetters says.
	DeadLetters catalog.Identifier
	// Gaps are the stretches that Kafka had dropped before Firn read them, as the gaps table names them: what lies in
	// them is told as a gap of its own kind, and is missing all the same.
	Gaps []Gap
	// Concurrency is how many files are read at a time; 0: 4.
	Concurrency int
	// AllColumns verifies the page checksums of every column, which reads the files whole; otherwise those of the
	// ledger columns alone.
	AllColumns bool
	// Progress is called after each file, and each partition of the log, from one goroutine at a time.
	Progress func(done, total int)
}

const defaultConcurrency = 4

// Gap is a stretch [First, Next) of a partition that was never read.
type Gap struct {
	Partition   int32
	First, Next int64
}

// auditor is one run.
type auditor struct {
	cat    catalog.Catalog
	wh     *objstore.Warehouse
	opt    Options
	report *Report

	mu          sync.Mutex // of everything below, while files are read
	done, total int
	rows, dead  *offsets
	rowsGone    *offsets // of rows and dead letters that delete files take out
	deadGone    *offsets
	redriven    *offsets // dead letters that say a row was made of them; read only where there are both
}

// Table audits the table id. An error means that the audit could not be finished; what is wrong with the table is in the
// report.
func Table(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier, o Options) (*Report, error) {
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	a := &auditor{cat: cat, wh: wh, opt: o, rows: newOffsets(), dead: newOffsets(), rowsGone: newOffsets(), deadGone: newOffsets(), redriven: newOffsets(), report: &Report{Table: id.String(), Kafka: o.Kafka != nil}}
	if err := a.run(ctx, id); err != nil {
		return nil, fmt.Errorf("audit %s: %w", id, err)
	}
	a.report.finish()
	return a.report, nil
}

func (a *auditor) run(ctx context.Context, id catalog.Identifier) error {
	// The table's head first, the dead letters after it: a commit in between shows as dead letters above the vector,
	// which are expected, and not as gaps below it.
	main, err := a.cat.LoadTable(ctx, id, catalog.LoadAll)
	if err != nil {
		return err
	}
	chain := a.chain(main.Metadata)
	if err := a.scan(ctx, main.Metadata, a.rows, a.rowsGone, "table"); err != nil {
		return err
	}
	dead, err := a.deadLetters(ctx, id, main.Metadata)
	if err != nil {
		return err
	}
	if dead != nil {
		a.report.DeadLetterTable = dead.Identifier.String()
		if err := a.scan(ctx, dead.Metadata, a.dead, a.deadGone, "dead-letter table"); err != nil {
			return err
		}
	}
	if err := a.readRedriven(ctx, dead); err != nil {
		return err
	}
	parts := a.partitions(chain)
	if err := a.locateDoubled(ctx, main.Metadata, dead); err != nil {
		return err
	}
	if a.opt.Kafka != nil {
		if err := a.compareLog(ctx, chain, parts); err != nil {
			return fmt.Errorf("kafka: %w", err)
		}
	}
	a.judge(parts)
	return nil
}

// deadLetters loads the dead-letter table; nil when there is none.
func (a *auditor) deadLetters(ctx context.Context, id catalog.Identifier, meta table.Metadata) (*catalog.Table, error) {
	name, named := a.opt.DeadLetters, a.opt.DeadLetters != nil
	if name == nil {
		if prop := meta.Properties()[PropDeadLetters]; prop != "" {
			var err error
			if name, err = catalog.ParseIdentifier(prop); err != nil {
				return nil, fmt.Errorf("property %s: %w", PropDeadLetters, err)
			}
			named = true
		} else {
			name = append(slices.Clone(id.Namespace()), id.Name()+"_dead")
		}
	}
	t, err := a.cat.LoadTable(ctx, name, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) && !named {
		a.report.note("there is no dead-letter table %s: no gap can be explained by dead letters", name)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("dead-letter table: %w", err)
	}
	return t, nil
}

// scan reads the ledger columns of every file of the table's head into set, and those of deleted rows into gone.
func (a *auditor) scan(ctx context.Context, meta table.Metadata, set, gone *offsets, what string) error {
	head := meta.CurrentSnapshot()
	if head == nil {
		a.report.note("the %s has no snapshot yet", what)
		return nil
	}
	files, err := snapshot.LiveFiles(ctx, a.wh, head, nil)
	if errors.Is(err, snapshot.ErrCorrupt) || errors.Is(err, datafile.ErrCorrupt) || errors.Is(err, objstore.ErrNotFound) {
		a.report.problem(Problem{Kind: KindDamaged, Message: fmt.Sprintf("%s: %v", what, err)})
		return nil
	}
	if err != nil {
		return err
	}
	ids, err := ledgerColumns(meta.CurrentSchema())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	a.listedTwice(files, what)
	a.total += len(files)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.opt.Concurrency)
	for _, f := range files {
		g.Go(func() error { return a.file(ctx, f, ids, set, gone) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	set.close()
	gone.close()
	if set == a.rows {
		a.checkTotals(head)
	}
	return nil
}

// readRedriven finds which dead letters are marked as redriven, if any is a row as well.
func (a *auditor) readRedriven(ctx context.Context, dead *catalog.Table) error {
	over := false
	for p, rows := range a.rows.of {
		over = over || rows.Intersects(orEmpty(a.dead.of[p]))
	}
	if !over || dead == nil || dead.Metadata.CurrentSnapshot() == nil {
		return nil
	}
	if _, ok := dead.Metadata.CurrentSchema().FindFieldByName(deadletter.ColRedriven); !ok {
		return nil
	}
	files, err := snapshot.LiveFiles(ctx, a.wh, dead.Metadata.CurrentSnapshot(), nil)
	if err != nil {
		return err
	}
	want := deadletter.Columns(dead.Metadata.CurrentSchema(), false)
	err = deadletter.Files(ctx, a.wh, files, want, func(_ snapshot.File, l *deadletter.Letter) error {
		if l.Redriven != 0 {
			a.redriven.addRow(l.Partition, l.Offset, 1, l.Line)
		}
		return nil
	})
	a.redriven.close()
	if errors.Is(err, datafile.ErrCorrupt) {
		return nil // scan has said so
	}
	return err
}

// file reads one file. Its faults become problems; the error is for what keeps the audit from going on.
func (a *auditor) file(ctx context.Context, f snapshot.File, ids ledgerIDs, set, gone *offsets) error {
	own, ownGone := newOffsets(), newOffsets()
	got, err := readFile(ctx, a.wh, f, ids, a.opt.AllColumns, found{own.addRow, ownGone.addRow})
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.report
	switch {
	case errors.Is(err, errFault):
		r.problem(Problem{Kind: KindDamaged, Files: []string{f.FilePath()}, Message: err.Error()})
	case err != nil:
		return err
	}
	r.Files++
	if got.arrow {
		r.FilesByArrow++
	}
	r.Pages += got.sums.Pages
	r.PagesVerified += got.sums.Verified
	if err == nil && got.rows != f.Count() {
		r.problem(Problem{Kind: KindRowCount, Files: []string{f.FilePath()}, Message: fmt.Sprintf("the file holds %d rows, its manifest says %d", got.rows, f.Count())})
	}
	if got.unledgered > 0 {
		r.problem(Problem{Kind: KindNoLedger, Files: []string{f.FilePath()},
			Message: fmt.Sprintf("%d rows without %s or %s: they did not come from Kafka through firn", got.unledgered, ledger.ColPartition, ledger.ColOffset)})
	}
	set.merge(own)
	gone.merge(ownGone)
	a.progress()
	return nil
}

func (a *auditor) progress() {
	a.done++
	if a.opt.Progress != nil {
		a.opt.Progress(a.done, max(a.total, a.done))
	}
}

func (a *auditor) listedTwice(files []snapshot.File, what string) {
	first := make(map[string]string, len(files))
	for _, f := range files {
		if m, twice := first[f.FilePath()]; twice {
			a.report.problem(Problem{Kind: KindListedTwice, Files: []string{f.FilePath()},
				Message: fmt.Sprintf("the %s lists a data file twice, in %s and %s: readers see its rows twice", what, m, f.Manifest)})
			continue
		}
		first[f.FilePath()] = f.Manifest
	}
}

// partitions brings together what the ledger, the dead letters and the vector say of each partition.
func (a *auditor) partitions(c *chain) []*partition {
	known := map[int32]bool{}
	for p := range a.rows.of {
		known[p] = true
	}
	for p := range a.dead.of {
		known[p] = true
	}
	for p := range c.vector {
		known[p] = true
	}
	v := offset.Vector{}
	for p := range known {
		v[p] = 0
	}
	var out []*partition
	for _, p := range v.Partitions() {
		out = append(out, a.newPartition(p, c))
	}
	return out
}
