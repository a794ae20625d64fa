package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// scanAhead is how many files are read at the same time, the one being given out included.
	scanAhead = 3
	// batchesAhead is how many batches of each of them wait.
	batchesAhead = 2
)

// Scan implements Engine. It plans and pins; no row is read before the first Next.
func (s *Service) Scan(ctx context.Context, r ScanRequest, o Options) (_ Result, err error) {
	started, end := s.begin("scan")
	finish := started.Add(s.cfg.Timeout.D())
	ctx, cancel := until(ctx, finish)
	defer cancel()
	defer func() {
		if err != nil {
			err = outOfTime(ctx, err)
			end(err)
		}
	}()
	if r.Limit < 0 {
		return nil, fmt.Errorf("%w: a limit of %d rows", ErrInvalidSQL, r.Limit)
	}
	if err := s.scans.acquire(ctx, s.cfg.QueueTimeout.D(), "scans run"); err != nil {
		return nil, err
	}
	res, err := s.planScan(ctx, r, o)
	if err != nil {
		s.scans.release()
		return nil, err
	}
	res.finish, res.end, res.left = finish, end, r.Limit
	if r.Limit == 0 {
		res.left = -1
	}
	s.metrics.planSeconds.WithLabelValues("scan").Observe(time.Since(started).Seconds())
	return res, nil
}

func (s *Service) planScan(ctx context.Context, r ScanRequest, o Options) (*scanResult, error) {
	p, err := s.pin(ctx, r.Table, asOf{snapshot: r.SnapshotID}, o)
	if err != nil {
		return nil, err
	}
	res := &scanResult{service: s, pinned: p, pins: []Pin{p.Pin}, rows: past.Rows{From: r.From, To: r.To}}
	fail := func(err error) (*scanResult, error) {
		p.Release()
		return nil, fmt.Errorf("scan %s: %w", r.Table, err)
	}
	out, err := selectColumns(p.schema, r.Columns)
	if err != nil {
		return fail(err)
	}
	if res.schema, err = datafile.ArrowSchema(out); err != nil {
		return fail(err)
	}
	if res.read, err = withLedger(p.schema, out, !res.rows.All() || p.below != nil); err != nil {
		return fail(err)
	}
	if res.files, err = s.filesOf(ctx, p, p.inFiles(res.rows)); err != nil {
		return fail(err)
	}
	return res, nil
}

// withLedger adds the ledger columns behind the wanted ones when rows are to be told by them.
func withLedger(all, want *iceberg.Schema, needed bool) (*iceberg.Schema, error) {
	if !needed {
		return want, nil
	}
	fields := slices.Clone(want.Fields())
	for _, name := range []string{ledger.ColPartition, ledger.ColOffset} {
		f, ok := all.FindFieldByName(name)
		if !ok {
			return nil, fmt.Errorf("%w: a range of offsets needs the column %s, which the table does not have", ErrInvalidSQL, name)
		}
		if !slices.ContainsFunc(fields, func(g iceberg.NestedField) bool { return g.ID == f.ID }) {
			fields = append(fields, f)
		}
	}
	return iceberg.NewSchema(want.ID, fields...), nil
}

// scanResult gives the rows of the files in the order of the manifests, then the hot ones.
type scanResult struct {
	service *Service
	pinned  *pinned
	pins    []Pin
	schema  *arrow.Schema
	read    *iceberg.Schema // schema, perhaps with ledger columns behind
	rows    past.Rows
	files   []snapshot.File
	finish  time.Time
	end     func(error)
	left    int64 // rows to give yet; -1: all
	given   int64

	batch arrow.RecordBatch
	err   error

	ctx      context.Context // of the readers, which outlive a Next
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	running  []*fileScan // files being read, in order
	next     int         // index of the next file to be started
	hot      int         // index of the next hot batch
	released bool
}

// fileScan is one file being read on its own goroutine.
type fileScan struct {
	batches chan arrow.RecordBatch
	err     error // set before batches is closed
}

func (r *scanResult) Schema() *arrow.Schema          { return r.schema }
func (r *scanResult) RecordBatch() arrow.RecordBatch { return r.batch }
func (r *scanResult) Err() error                     { return r.err }
func (r *scanResult) Pins() []Pin                    { return r.pins }

// Next implements Result.
func (r *scanResult) Next(ctx context.Context) bool {
	r.drop()
	if r.err != nil || r.released || r.left == 0 {
		return false
	}
	ctx, cancel := until(ctx, r.finish)
	defer cancel()
	b, err := r.following(ctx)
	if err != nil {
		r.err = outOfTime(ctx, fmt.Errorf("scan %s: %w", r.pinned.Table, classify(err)))
		return false
	}
	if b == nil {
		return false
	}
	if r.left > 0 && b.NumRows() > r.left {
		cut := b.NewSlice(0, r.left)
		b.Release()
		b = cut
	}
	if r.left > 0 {
		r.left -= b.NumRows()
	}
	r.given += b.NumRows()
	if most := r.service.cfg.MaxResultRows; most > 0 && r.given > most {
		b.Release()
		r.err = fmt.Errorf("%w: more than %d rows (query.sql.max_result_rows): give a limit", ErrLimit, most)
		return false
	}
	r.service.metrics.rows.WithLabelValues("scan").Add(float64(b.NumRows()))
	r.batch = b
	return true
}

func (r *scanResult) drop() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// following returns the next batch with rows, the caller's; nil at the end. Nothing is given after the end of ctx, also
// not what is at hand.
func (r *scanResult) following(ctx context.Context) (arrow.RecordBatch, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.start()
	for len(r.running) > 0 {
		f := r.running[0]
		select {
		case b, ok := <-f.batches:
			if ok {
				return b, nil
			}
			if f.err != nil {
				return nil, f.err
			}
			r.running = r.running[1:]
			r.start()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for r.hot < len(r.pinned.hot) {
		b := r.pinned.hot[r.hot]
		r.hot++
		out, err := r.shape(b)
		if out != nil || err != nil {
			return out, err
		}
	}
	return nil, ctx.Err()
}

// start keeps scanAhead files being read. The first read of a scan is what starts it.
func (r *scanResult) start() {
	if r.next == len(r.files) {
		return
	}
	if r.cancel == nil {
		r.ctx, r.cancel = context.WithCancel(context.Background())
	}
	for len(r.running) < scanAhead && r.next < len(r.files) {
		f := &fileScan{batches: make(chan arrow.RecordBatch, batchesAhead)}
		file := r.files[r.next]
		r.next++
		r.running = append(r.running, f)
		r.workers.Go(func() {
			f.err = r.readFile(r.ctx, file, f.batches)
			close(f.batches)
		})
	}
}

var errReleased = errors.New("the scan was released")

func (r *scanResult) readFile(ctx context.Context, f snapshot.File, out chan<- arrow.RecordBatch) (err error) {
	s := r.service
	key, err := s.warehouse.Key(f.FilePath())
	if err != nil {
		return fmt.Errorf("data file: %w", err)
	}
	reader, err := datafile.Open(ctx, s.warehouse, key, datafile.ReadOptions{Mem: s.mem, Deleted: f.Deleted, Size: f.FileSizeBytes()})
	if errors.Is(err, objstore.ErrNotFound) {
		return fmt.Errorf("snapshot %d has expired while it was read: ask again: %w", r.pinned.SnapshotID, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	rng := r.rows.Below(r.pinned.below)
	whole := rng.All()
	return reader.Scan(ctx, r.read, func(b arrow.RecordBatch) error {
		b, err := r.pick(b, rng, whole)
		if err != nil || b == nil {
			return err
		}
		select {
		case out <- b:
			return nil
		case <-ctx.Done():
			b.Release()
			return errReleased
		}
	})
}

// pick keeps the rows of the range and the columns asked for, of a batch in the read schema. The result is the caller's.
func (r *scanResult) pick(b arrow.RecordBatch, rng past.Rows, whole bool) (arrow.RecordBatch, error) {
	rows := b
	if !whole {
		cut, err := rng.Cut(r.service.mem, b, columnOf(b, ledger.ColPartition), columnOf(b, ledger.ColOffset))
		if err != nil || cut == nil {
			return nil, err
		}
		defer cut.Release()
		rows = cut
	}
	return array.NewRecordBatch(r.schema, rows.Columns()[:r.schema.NumFields()], rows.NumRows()), nil
}

// shape gives a hot batch, which has all columns of the table, the columns asked for.
func (r *scanResult) shape(b arrow.RecordBatch) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, 0, r.read.NumFields())
	all := r.pinned.schema.Fields()
	for _, f := range r.read.Fields() {
		at := slices.IndexFunc(all, func(g iceberg.NestedField) bool { return g.ID == f.ID })
		cols = append(cols, b.Column(at))
	}
	as, err := datafile.ArrowSchema(r.read)
	if err != nil {
		return nil, err
	}
	read := array.NewRecordBatch(as, cols, b.NumRows())
	defer read.Release()
	return r.pick(read, r.rows, r.rows.All())
}

func columnOf(b arrow.RecordBatch, name string) int {
	return slices.IndexFunc(b.Schema().Fields(), func(f arrow.Field) bool { return f.Name == name })
}

// Release implements Result.
func (r *scanResult) Release() {
	if r.released {
		return
	}
	r.released = true
	r.drop()
	if r.cancel != nil {
		r.cancel()
	}
	r.workers.Wait()
	for _, f := range r.running {
		for b := range f.batches {
			b.Release()
		}
	}
	r.pinned.Release()
	r.service.scans.release()
	r.end(r.err)
}
