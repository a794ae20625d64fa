package compaction

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	readAhead     = 4        // inputs opened before their turn; each is in memory when it is small
	batchBytes    = 1 << 20  // stored bytes that a batch read at once comes from
	rowGroupBytes = 16 << 20 // stored bytes of a row group, all of which is in memory until it is full
	// maxRowGroupBytes bounds what a table may ask for instead.
	maxRowGroupBytes = 128 << 20
	maxPuts          = 3 // attempts to store an output
)

// rewritten is one job whose output is stored.
type rewritten struct {
	inputs []snapshot.File // in order; Manifest is where each is live
	output iceberg.DataFile
	rows   int64
	bytes  int64 // of the inputs
	at     int   // in Report.Jobs
}

// rewriteTable plans on the table's head, rewrites files and commits.
func (c *Compactor) rewriteTable(ctx context.Context, ts *tableState, t *catalog.Table, r *Report) error {
	if v := t.Metadata.Version(); v != 2 {
		r.Skipped = fmt.Sprintf("format version %d: only version 2 is rewritten", v) // v3: rows would lose their ids
		return nil
	}
	head, err := c.loadHead(ctx, ts, t.Metadata)
	if err != nil || head.Snapshot == nil {
		return c.failedIf("plan", err)
	}
	small, err := c.survey(ctx, ts, head)
	if errors.Is(err, snapshot.ErrDeleteFiles) {
		r.Skipped = err.Error()
		return nil
	}
	if err != nil {
		return c.failed("plan", err)
	}
	jobs := plan.Rewrites(c.cfg.filePolicy(c.coldSequence(ts, t.Metadata.LastSequenceNumber())), small)
	batch := c.batch(jobs)
	r.More = len(batch) < len(jobs)
	if r.DryRun {
		r.describe(jobs)
		for _, g := range c.mergesOf(ts, nil) {
			r.ManifestsMerged += len(g)
		}
		return nil
	}
	r.describe(batch)
	done, errs := c.runJobs(ctx, ts, head, batch, r)
	p := &pending{c: c, ts: ts, id: snapshot.NewID(), done: done, report: r}
	affected := map[string]bool{}
	for _, d := range done {
		for _, f := range d.inputs {
			affected[f.Manifest] = true
		}
	}
	p.merges = c.mergesOf(ts, affected)
	if len(done) > 0 || len(p.merges) > 0 {
		crash.At(ctx, crash.CompactStored)
		if err := p.commit(ctx, head); err != nil {
			errs = append(errs, c.failed("commit", err))
		}
	}
	return errors.Join(errs...)
}

func (c *Compactor) failedIf(work string, err error) error {
	if err == nil {
		return nil
	}
	return c.failed(work, err)
}

// batch is the first of the jobs, up to what one commit may move.
func (c *Compactor) batch(jobs []plan.Rewrite) []plan.Rewrite {
	var bytes int64
	for i, j := range jobs {
		if bytes += j.Bytes; bytes > int64(c.cfg.MaxJobBytes) {
			return jobs[:max(i, 1)]
		}
	}
	return jobs
}

// mergesOf plans which manifests are merged besides those that are rewritten anyway.
func (c *Compactor) mergesOf(ts *tableState, affected map[string]bool) [][]string {
	return locations(plan.Merges(c.cfg.manifestPolicy(), ts.sortedManifests(affected)))
}

func locations(groups [][]plan.Manifest) (out [][]string) {
	for _, g := range groups {
		var one []string
		for _, m := range g {
			one = append(one, m.Path)
		}
		out = append(out, one)
	}
	return out
}

func (r *Report) describe(jobs []plan.Rewrite) {
	for _, j := range jobs {
		r.Jobs = append(r.Jobs, Job{Spec: j.Spec, Partition: j.Partition, Files: len(j.Files), Tier: j.Tier, Cold: j.Cold, Rows: j.Rows, BytesIn: j.Bytes})
	}
}

// runJobs does the jobs one after the other. A job that fails does not keep the others from being committed.
func (c *Compactor) runJobs(ctx context.Context, ts *tableState, head snapshot.Head, jobs []plan.Rewrite, r *Report) (done []*rewritten, errs []error) {
	for i, j := range jobs {
		began := c.now()
		d, err := c.rewrite(ctx, ts, head, j)
		if err != nil {
			r.Jobs[i].Error = err.Error()
			errs = append(errs, c.failed("rewrite", err))
			c.setAside(ts, j, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		d.at = i
		r.Jobs[i].BytesOut, r.Jobs[i].Output = d.output.FileSizeBytes(), d.output.FilePath()
		c.m.jobSeconds.Observe(c.now().Sub(began).Seconds())
		done = append(done, d)
	}
	return done, errs
}

// setAside leaves out for a while what made a job fail, so that the rest of its partition goes on.
func (c *Compactor) setAside(ts *tableState, j plan.Rewrite, err error) {
	var bad *fileError
	until := c.now().Add(quarantineTime)
	switch {
	case len(ts.quarantine)+len(j.Files) > maxQuarantine:
	case errors.Is(err, ErrRowsDiffer):
		for _, f := range j.Files {
			ts.quarantine[f.Path] = until
		}
	case errors.As(err, &bad) && quarantines(err):
		ts.quarantine[bad.location] = until
	}
}

// rewrite writes the rows of a job's files into one and stores it.
func (c *Compactor) rewrite(ctx context.Context, ts *tableState, head snapshot.Head, j plan.Rewrite) (*rewritten, error) {
	inputs, err := c.inputs(ctx, ts, head, j)
	if err != nil {
		return nil, err
	}
	spec := head.Meta.PartitionSpecByID(j.Spec)
	if spec == nil {
		return nil, fmt.Errorf("partition spec %d is not in the table's metadata", j.Spec)
	}
	schema := head.Meta.CurrentSchema()
	props := head.Meta.Properties()
	opt := layout.OptionsOf(props, schema, datafile.DefaultWriteOptions())
	group := int64(rowGroupBytes)
	if props[table.ParquetRowGroupSizeBytesKey] != "" {
		group = min(opt.RowGroupBytes, maxRowGroupBytes)
	}
	opt.RowGroupRows = min(rowsIn(group, j, min(16<<10, opt.RowGroupRows), 1<<20), opt.RowGroupRows)
	batchRows := rowsIn(batchBytes, j, 256, 64<<10)
	inOrder := func(w *datafile.Writer) error { return c.copyRows(ctx, inputs, schema, batchRows, w) }
	keys, order := orderOf(head.Meta, schema, inputs, group)
	byKeys := func(w *datafile.Writer) error { return c.mergeRows(ctx, inputs, schema, batchRows, keys, w) }
	var out *spool
	var st datafile.Stats
	if keys != nil {
		out, st, err = c.build(schema, opt, byKeys)
		st.SortOrderID = order
	}
	if keys == nil || errors.Is(err, layout.ErrUnsorted) { // another engine's file, which says an order that it has not
		out, st, err = c.build(schema, opt, inOrder)
	}
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := sameRows(schema, inputs, st); err != nil {
		return nil, err
	}
	location := snapshot.DataLocation(head.Meta, uuid.NewString()+".parquet")
	if err := c.store(ctx, location, out.Reader()); err != nil {
		return nil, err
	}
	df, err := snapshot.DataFile(*spec, location, st, inputs[0].Partition(), nil)
	if err != nil {
		return nil, err
	}
	return &rewritten{inputs: inputs, output: df, rows: st.Rows, bytes: j.Bytes}, nil
}

// build makes a file of what rows writes. The caller closes it.
func (c *Compactor) build(schema *iceberg.Schema, opt datafile.WriteOptions, rows func(*datafile.Writer) error) (*spool, datafile.Stats, error) {
	out := &spool{dir: c.cfg.TempDir}
	w, err := datafile.NewWriter(out, schema, opt)
	if err != nil {
		return nil, datafile.Stats{}, err
	}
	err = rows(w)
	st, closed := w.Close() // also after an error: it gives its buffers back
	if err == nil {
		err = closed
	}
	if err != nil {
		return nil, datafile.Stats{}, errors.Join(err, out.Close())
	}
	return out, st, nil
}

// rowsIn is how many rows of the job's files lie in n stored bytes, within bounds.
func rowsIn(n int64, j plan.Rewrite, least, most int64) int64 {
	return min(max(n*max(j.Rows, 1)/max(j.Bytes, 1), least), most)
}

// inputs finds the files of a job in the head's manifests, in the job's order.
func (c *Compactor) inputs(ctx context.Context, ts *tableState, head snapshot.Head, j plan.Rewrite) ([]snapshot.File, error) {
	want := make(map[string]int, len(j.Files))
	for i, f := range j.Files {
		want[f.Path] = i
	}
	out := make([]snapshot.File, len(j.Files))
	for _, m := range head.Manifests {
		info := ts.manifests[m.FilePath()]
		if info == nil || !info.holds(want) {
			continue
		}
		files, err := c.read.FilesOf(ctx, []iceberg.ManifestFile{m}, func(f iceberg.DataFile) bool { _, ok := want[f.FilePath()]; return ok })
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			i := want[f.FilePath()]
			if out[i].DataFile != nil {
				return nil, fmt.Errorf("%w: %s is listed twice in the table: see firn audit", snapshot.ErrCorrupt, f.FilePath())
			}
			out[i] = f
		}
	}
	for i, f := range out {
		if f.DataFile == nil {
			return nil, fmt.Errorf("%w: %s", snapshot.ErrMoved, j.Files[i].Path)
		}
	}
	return out, nil
}

func (info *manifestInfo) holds(want map[string]int) bool {
	for _, f := range info.small {
		if _, ok := want[f.Path]; ok {
			return true
		}
	}
	return false
}

// opened is an input that was opened ahead.
type opened struct {
	r   *datafile.Reader
	err error
}

// copyRows writes all rows of the inputs, in order. The next inputs are opened while one is read.
func (c *Compactor) copyRows(ctx context.Context, inputs []snapshot.File, schema *iceberg.Schema, batchRows int64, w *datafile.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	ahead := make([]chan opened, 0, len(inputs))
	open := func(i int) {
		ch := make(chan opened, 1)
		ahead = append(ahead, ch)
		go func() {
			r, err := c.open(ctx, inputs[i], batchRows)
			ch <- opened{r, err}
		}()
	}
	at := 0
	defer func() { // the ones that were opened and not used
		cancel()
		for ; at < len(ahead); at++ {
			if o := <-ahead[at]; o.r != nil {
				err = errors.Join(err, o.r.Close())
			}
		}
	}()
	for i := range inputs {
		for len(ahead) < min(i+1+readAhead, len(inputs)) {
			open(len(ahead))
		}
		o := <-ahead[i]
		at = i + 1
		if o.err != nil {
			return &fileError{inputs[i].FilePath(), o.err}
		}
		err := o.r.Scan(ctx, schema, func(b arrow.RecordBatch) error {
			if err := w.Write(b); err != nil {
				return &writeError{err}
			}
			return nil
		})
		if err = errors.Join(err, o.r.Close()); err != nil {
			var we *writeError
			if errors.As(err, &we) {
				return we.err
			}
			return &fileError{inputs[i].FilePath(), err}
		}
	}
	return nil
}

// writeError tells a failure of the output from one of the input that is being read.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

func (c *Compactor) open(ctx context.Context, f snapshot.File, batchRows int64) (*datafile.Reader, error) {
	k, err := c.wh.Key(f.FilePath())
	if err != nil {
		return nil, err
	}
	r, err := datafile.Open(ctx, c.wh, k, datafile.ReadOptions{BatchRows: batchRows, Size: f.FileSizeBytes()})
	if err != nil {
		return nil, err
	}
	if r.Rows() != f.Count() {
		return nil, errors.Join(fmt.Errorf("%w: its footer says %d rows, its manifest %d", datafile.ErrCorrupt, r.Rows(), f.Count()), r.Close())
	}
	return r, nil
}

// sameRows holds an output against its inputs: the number of rows, of every column the nulls, of the ledger columns the
// bounds. A column that was lost on the way, or taken for another, shows in its nulls.
func sameRows(schema *iceberg.Schema, inputs []snapshot.File, st datafile.Stats) error {
	var rows int64
	for _, f := range inputs {
		rows += f.Count()
	}
	if st.Rows != rows {
		return fmt.Errorf("%w: %d of %d rows", ErrRowsDiffer, st.Rows, rows)
	}
	if err := sameNulls(schema.Fields(), inputs, st); err != nil {
		return err
	}
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset} {
		f, ok := schema.FindFieldByName(name)
		if !ok {
			continue
		}
		lower, upper, ok := bounds(f, inputs)
		if ok && (!bytes.Equal(lower, st.Lower[f.ID]) || !bytes.Equal(upper, st.Upper[f.ID])) {
			return fmt.Errorf("%w: the bounds of %s are %x to %x, the inputs' %x to %x", ErrRowsDiffer, name, st.Lower[f.ID], st.Upper[f.ID], lower, upper)
		}
	}
	return nil
}

// sameNulls compares the null counts of the columns that every input has one for. Columns in lists and maps are left out:
// writers do not agree what they count there.
func sameNulls(fields []iceberg.NestedField, inputs []snapshot.File, st datafile.Stats) error {
	for _, f := range fields {
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			if err := sameNulls(t.FieldList, inputs, st); err != nil {
				return err
			}
			continue
		case *iceberg.ListType, *iceberg.MapType:
			continue
		}
		var nulls int64
		known := true
		for _, file := range inputs {
			n, ok := file.NullValueCounts()[f.ID]
			nulls, known = nulls+n, known && ok
		}
		if have, ok := st.NullCounts[f.ID]; known && ok && have != nulls {
			return fmt.Errorf("%w: %d nulls in column %s, the inputs have %d", ErrRowsDiffer, have, f.Name, nulls)
		}
	}
	return nil
}

// bounds are the least lower and the greatest upper bound of a column over files; ok only when each file tells.
func bounds(f iceberg.NestedField, files []snapshot.File) (lower, upper []byte, ok bool) {
	var lo, up iceberg.Literal
	for _, file := range files {
		l, errL := iceberg.LiteralFromBytes(f.Type, file.LowerBoundValues()[f.ID])
		u, errU := iceberg.LiteralFromBytes(f.Type, file.UpperBoundValues()[f.ID])
		if errL != nil || errU != nil || file.Count() == 0 {
			return nil, nil, false
		}
		if lo == nil || less(l, lo) {
			lo = l
		}
		if up == nil || less(up, u) {
			up = u
		}
	}
	if lo == nil {
		return nil, nil, false
	}
	lower, errL := lo.MarshalBinary()
	upper, errU := up.MarshalBinary()
	return lower, upper, errL == nil && errU == nil
}

func less(a, b iceberg.Literal) bool {
	switch x := a.(type) {
	case iceberg.Int32Literal:
		y, ok := b.(iceberg.Int32Literal)
		return ok && x < y
	case iceberg.Int64Literal:
		y, ok := b.(iceberg.Int64Literal)
		return ok && x < y
	}
	return false
}

// store puts an output under its location, which is new, so that putting it again does no harm.
func (c *Compactor) store(ctx context.Context, location string, body io.ReadSeeker) error {
	k, err := c.wh.Key(location)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		if _, err = c.wh.Put(ctx, k, body, objstore.Overwrite); err == nil {
			return nil
		}
		transient := errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrUnknownResult)
		if !transient || try == maxPuts || c.pause(ctx, time.Duration(try)*100*time.Millisecond) != nil {
			return fmt.Errorf("store %s: %w", location, err)
		}
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}
