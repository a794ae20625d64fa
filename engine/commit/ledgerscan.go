package commit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/past"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	// maxLedgerReads bounds the data files that one question to the ledger may open.
	maxLedgerReads = 5_000
	// maxSticky bounds the dead letters ahead of the rows that are held in memory.
	maxSticky = 5_000_000
)

// errTooMany reports a ledger that cannot be read within bounds.
var errTooMany = errors.New("too many files to read")

// ledgerScan answers questions about the rows of a table from their ledger columns: by file statistics, and by the
// columns themselves where those do not settle it.
type ledgerScan struct {
	wh        *objstore.Warehouse
	want      *iceberg.Schema // the two columns, and the index where the table has it
	partition int             // field ids
	offset    int
	reads     int
}

func newLedgerScan(wh *objstore.Warehouse, meta table.Metadata) (*ledgerScan, error) {
	s := &ledgerScan{wh: wh}
	p, ok := topLevel(meta.CurrentSchema().Fields(), ledger.ColPartition)
	o, ok2 := topLevel(meta.CurrentSchema().Fields(), ledger.ColOffset)
	if !ok || !ok2 {
		return nil, fmt.Errorf("%w: the columns %s and %s are not in the table's schema", ErrTable, ledger.ColPartition, ledger.ColOffset)
	}
	p.Required, o.Required = false, false
	s.partition, s.offset = p.ID, o.ID
	s.want = iceberg.NewSchema(0, p, o)
	if i, ok := topLevel(meta.CurrentSchema().Fields(), ledger.ColIndex); ok && i.Type.Equals(iceberg.PrimitiveTypes.Int32) {
		i.Required = false
		s.want = iceberg.NewSchema(0, p, o, i)
	}
	return s, nil
}

// boundsOf is what a manifest tells of a file's ledger.
func (s *ledgerScan) boundsOf(f iceberg.DataFile) past.Bounds {
	return past.BoundsOf(f, s.partition, s.offset)
}

// last returns per partition the greatest offset among the rows. A file is opened only while its statistics leave
// open that it holds a greater one: statistics are bounds, and a greatest offset is believed only when it was seen.
func (s *ledgerScan) last(ctx context.Context, files []snapshot.File) (offset.Vector, error) {
	type candidate struct {
		f snapshot.File
		b past.Bounds
	}
	cs := make([]candidate, len(files))
	for i, f := range files {
		cs[i] = candidate{f, s.boundsOf(f)}
	}
	slices.SortStableFunc(cs, func(a, b candidate) int { // the unknown first, then by what they may add
		return cmp.Compare(b.b.Last(), a.b.Last())
	})
	greater := past.Rows{From: offset.Vector{}} // than those that were seen
	for _, c := range cs {
		if !greater.MayHold(c.b) {
			continue
		}
		err := s.read(ctx, c.f, func(p int32, o int64) error {
			greater.From[p] = max(greater.From[p], o+1)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	v := offset.Vector{}
	for p, next := range greater.From {
		v[p] = next - 1
	}
	return v, nil
}

// from returns the rows at or beyond v, offsets by partition; a partition that v does not know is taken whole.
func (s *ledgerScan) from(ctx context.Context, files []snapshot.File, v offset.Vector) (sticky, error) {
	out := sticky{}
	n := 0
	rows := past.Rows{From: v.Clone()} // never nil: that would be rows without a place as well
	for _, f := range files {
		if !rows.MayHold(s.boundsOf(f)) {
			continue
		}
		err := s.readLines(ctx, f, func(p int32, o int64, line int32) error {
			if !rows.Holds(p, o) {
				return nil
			}
			if n++; n > maxSticky {
				return fmt.Errorf("%w: more than %d dead letters stand ahead of the rows", errTooMany, maxSticky)
			}
			out.add(p, o, line)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// read calls fn with where each row of the file came from.
func (s *ledgerScan) read(ctx context.Context, f snapshot.File, fn func(int32, int64) error) error {
	return s.readLines(ctx, f, func(p int32, o int64, _ int32) error { return fn(p, o) })
}

// readLines is read with the line, 0 for a record as a whole.
func (s *ledgerScan) readLines(ctx context.Context, f snapshot.File, fn func(int32, int64, int32) error) error {
	if s.reads++; s.reads > maxLedgerReads {
		return fmt.Errorf("%w: more than %d, because their statistics do not settle it", errTooMany, maxLedgerReads)
	}
	return scanFile(ctx, s.wh, f, s.want, func(b arrow.RecordBatch) error {
		p, pok := b.Column(0).(*array.Int32)
		o, ook := b.Column(1).(*array.Int64)
		if !pok || !ook {
			return fmt.Errorf("%w: %s: ledger columns are %s and %s", ErrTable, f.FilePath(), b.Column(0).DataType(), b.Column(1).DataType())
		}
		lines := engine.LinesOf(b)
		for i := range int(b.NumRows()) {
			if p.IsNull(i) || o.IsNull(i) {
				continue
			}
			if err := fn(p.Value(i), o.Value(i), lines.At(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// scanFile calls fn with the wanted columns of a data file, batch by batch.
func scanFile(ctx context.Context, wh *objstore.Warehouse, f snapshot.File, want *iceberg.Schema, fn func(arrow.RecordBatch) error) error {
	return scanWithin(ctx, wh, f, want, nil, fn)
}

// scanWithin is scanFile without row groups that lie outside of a range; nil: all.
func scanWithin(ctx context.Context, wh *objstore.Warehouse, f snapshot.File, want *iceberg.Schema, in *datafile.Within, fn func(arrow.RecordBatch) error) error {
	key, err := wh.Key(f.FilePath())
	if err != nil {
		return err
	}
	r, err := datafile.Open(ctx, wh.Store, key, datafile.ReadOptions{Mem: memory.DefaultAllocator, Within: in, Size: f.FileSizeBytes()})
	if err != nil {
		return err
	}
	return errors.Join(r.Scan(ctx, want, fn), r.Close())
}

// sticky is what of each partition is in the dead-letter table already, although the rows' vector does not cover it yet:
// records, and lines of records. Where it landed first, there it stays.
type sticky map[int32]map[spot]bool

// spot is a place in a partition: a record (line 0), or a line of it, from 1 on.
type spot struct {
	offset int64
	line   int32
}

func (s sticky) add(p int32, o int64, line int32) {
	if s[p] == nil {
		s[p] = map[spot]bool{}
	}
	s[p][spot{o, line}] = true
}

// has tells whether the line is there, by itself or with its whole record.
func (s sticky) has(p int32, o int64, line int32) bool {
	return s[p][spot{o, line}] || (line > 0 && s[p][spot{o, 0}])
}

// isDead is has for whole records, as of now; nil when there are none. It does not change when s does.
func (s sticky) isDead() func(int32, int64) bool {
	if len(s) == 0 {
		return nil
	}
	held := sticky{}
	for p, at := range s {
		held[p] = maps.Clone(at)
	}
	return func(p int32, o int64) bool { return held.has(p, o, 0) }
}

// forget drops what lies below v: it cannot come again but after a rewind, which reads the table anew.
func (s sticky) forget(v offset.Vector) {
	for p, at := range v {
		maps.DeleteFunc(s[p], func(x spot, _ bool) bool { return x.offset < at })
		if len(s[p]) == 0 {
			delete(s, p)
		}
	}
}
