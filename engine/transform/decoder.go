package transform

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

// ReasonFailed is the reason of dead letters whose expression failed. It is stored: never rename it.
const ReasonFailed = "transform_failed"

// Letter makes the dead letter of a record, or of the line that it is (engine.Record.Line), with copies of its own.
type Letter func(r *engine.Record, reason, place, message string) engine.DeadLetter

// Decoder gives the rows of a decoder as a transform makes them. It implements engine.Decoder.
type Decoder struct {
	dec    engine.Decoder
	letter Letter

	split   [][]byte // the lines of a record of the present Fetch, at splitOf
	splitOf int64
	mem     memory.Allocator
	ctx     context.Context // of the kernels of Arrow: it carries the allocator
	schema  *arrow.Schema
	prog    *program
	nodes   []node // of the columns that are computed, each once
	used    []int  // columns of the decoder's that something reads after the filter
	outs    []out
	seal    *sealer
	before  exec // of the filter and the route
	chosen  choice
	after   exec // of masks and computed columns, on the rows that are left
}

var _ engine.Decoder = (*Decoder)(nil)

// Wrap makes the decoder of the table's rows. dec was made for DecoderSchema. mem may be nil.
func (b *Bound) Wrap(dec engine.Decoder, letter Letter, mem memory.Allocator) (*Decoder, error) {
	prog, err := b.plan.compile()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	d := &Decoder{dec: dec, letter: letter, mem: mem, ctx: compute.WithAllocator(context.Background(), mem), prog: prog, seal: b.plan.sealer}
	if d.outs, d.schema, err = b.outs(prog); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(b.plan.cfg.Columns) {
		d.nodes = append(d.nodes, prog.columns[name])
	}
	for _, path := range sortedKeys(b.plan.cfg.Mask) {
		d.nodes = append(d.nodes, prog.masks[path])
	}
	d.used = d.reads(dec.ArrowSchema())
	return d, nil
}

// reads finds the columns that something reads after the filter. The others are not copied.
func (d *Decoder) reads(sc *arrow.Schema) []int {
	names := slices.Clone(d.prog.reads)
	for _, o := range d.outs {
		if o.how == pass || o.how == inside {
			names = append(names, o.name)
		}
	}
	var used []int
	for i, f := range sc.Fields() {
		if ledger.IsOwn(f.Name) || slices.Contains(names, f.Name) {
			used = append(used, i)
		}
	}
	return used
}

// narrow leaves out the columns that nothing reads any more. It does not take rows over.
func (d *Decoder) narrow(rows arrow.RecordBatch) arrow.RecordBatch {
	cols, fields := make([]arrow.Array, len(d.used)), make([]arrow.Field, len(d.used))
	for i, at := range d.used {
		cols[i], fields[i] = rows.Column(at), rows.Schema().Field(at)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), cols, rows.NumRows())
}

// ArrowSchema implements engine.Decoder.
func (d *Decoder) ArrowSchema() *arrow.Schema { return d.schema }

// Decode implements engine.Decoder.
func (d *Decoder) Decode(f *engine.Fetch) (engine.Decoded, error) {
	d.split = nil
	o, err := d.dec.Decode(f)
	if err != nil {
		return o, err
	}
	if o.Rows != nil {
		err = d.rows(f, &o)
	}
	if err == nil && d.seal != nil {
		for i := range o.Dead {
			if err = d.seal.seal(f.Partition, &o.Dead[i]); err != nil {
				break
			}
		}
	}
	if err != nil {
		if o.Rows != nil {
			o.Rows.Release()
		}
		return engine.Decoded{}, fmt.Errorf("transform partition %d [%d,%d): %w", f.Partition, f.Start, f.End, err)
	}
	return o, nil
}

// rows replaces the decoder's rows by the table's; what fails becomes dead letters.
func (d *Decoder) rows(f *engine.Fetch, o *engine.Decoded) error {
	dead := len(o.Dead)
	rows := o.Rows
	o.Rows, o.LastRow = nil, -1
	rows, err := d.filter(f, o, rows)
	if err != nil {
		return err
	}
	if rows != nil {
		defer rows.Release()
		if o.Rows, err = d.change(f, o, rows); err != nil {
			return err
		}
	}
	if len(o.Dead) > dead {
		slices.SortFunc(o.Dead, func(a, b engine.DeadLetter) int {
			return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Line, b.Line))
		})
	}
	if o.Rows != nil {
		offsets := offsetsOf(o.Rows)
		o.LastRow = offsets[len(offsets)-1]
	}
	return nil
}

// filter keeps the rows that filter and route choose; nil when they choose none. It takes rows over.
func (d *Decoder) filter(f *engine.Fetch, o *engine.Decoded, rows arrow.RecordBatch) (arrow.RecordBatch, error) {
	if d.prog.filter == nil && d.prog.route == nil {
		return rows, nil
	}
	defer rows.Release()
	x := &d.before
	x.begin(rows)
	defer x.end()
	d.prog.choose(x, &d.chosen)
	offsets, lines := offsetsOf(rows), engine.LinesOf(rows)
	keep := x.rows()
	for i := 0; i < x.n; {
		end, why := d.record(x, offsets, lines, i)
		had := len(keep)
		for r := i; r < end && why == nil; r++ {
			if d.chosen.mine[r] {
				keep = append(keep, int32(r))
			}
		}
		switch lost := d.chosen.lost != nil && d.chosen.lost[i]; {
		case why != nil:
			o.Dead = append(o.Dead, d.failed(f, offsets[i], lines.At(i), why))
		case lost && d.prog.route.letters:
			o.Dead = append(o.Dead, d.letterAt(f, offsets[i], lines.At(i), ReasonNoRoute, "", "the condition of no route is true of it"))
		case len(keep) == had:
			o.Filtered = append(o.Filtered, offsets[i])
			if lost {
				o.Unrouted++
			}
		}
		i = end
	}
	slices.Sort(o.Filtered) // the decoder may have left records out, too
	defer func() { x.give(keep) }()
	if len(keep) == x.n {
		rows.Retain()
		return rows, nil
	}
	narrow := d.narrow(rows)
	defer narrow.Release()
	return d.take(narrow, keep)
}

// change makes the table's rows, without those whose expression failed; nil when there is none left.
func (d *Decoder) change(f *engine.Fetch, o *engine.Decoded, rows arrow.RecordBatch) (arrow.RecordBatch, error) {
	x := &d.after
	x.begin(rows)
	defer x.end()
	for _, n := range d.nodes {
		n.eval(x, x.all[:x.n])
	}
	cols := make([]arrow.Array, 0, len(d.outs))
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i := range d.outs {
		var src arrow.Array
		if at := rows.Schema().FieldIndices(d.outs[i].name); len(at) == 1 {
			src = rows.Column(at[0])
		}
		c, err := d.column(&d.outs[i], src)
		if err != nil {
			return nil, err
		}
		cols = append(cols, c)
	}
	next := array.NewRecordBatch(d.schema, cols, rows.NumRows())
	if x.nFail == 0 {
		return next, nil
	}
	defer next.Release()
	offsets, lines := offsetsOf(rows), engine.LinesOf(rows)
	keep := x.rows()
	defer func() { x.give(keep) }()
	for i := 0; i < x.n; {
		end, why := d.record(x, offsets, lines, i)
		if why != nil {
			o.Dead = append(o.Dead, d.failed(f, offsets[i], lines.At(i), why))
		} else {
			keep = append(keep, x.all[i:end]...)
		}
		i = end
	}
	return d.take(next, keep)
}

// record ends the rows of the record that row i is the first of, and tells why one of them failed: then none of them stays,
// for a record is rows or a dead letter. Of a record with many events each is one by itself.
func (d *Decoder) record(x *exec, offsets []int64, lines engine.RowLines, i int) (end int, why *fault) {
	if lines.At(i) > 0 {
		return i + 1, x.failed[i]
	}
	for end = i; end < x.n && offsets[end] == offsets[i]; end++ {
		if why == nil {
			why = x.failed[end]
		}
	}
	return end, why
}

// failed is the dead letter of the record at an offset, which is one of the Fetch's.
func (d *Decoder) failed(f *engine.Fetch, offset int64, line int32, why *fault) engine.DeadLetter {
	place := ""
	if why.column != "" {
		place = "/" + why.column
	}
	return d.letterAt(f, offset, line, ReasonFailed, place, why.msg)
}

func (d *Decoder) letterAt(f *engine.Fetch, offset int64, line int32, reason, place, message string) engine.DeadLetter {
	at, _ := slices.BinarySearchFunc(f.Records, offset, func(r engine.Record, o int64) int { return cmp.Compare(r.Offset, o) })
	for line > 0 && f.Records[at].Line > 0 && f.Records[at].Line != line { // lines of one record that are read alone
		at++
	}
	r := f.Records[at]
	if line > 0 && r.Line == 0 {
		if d.split == nil || d.splitOf != offset { // once for each record, however many of its lines fail
			d.split, d.splitOf = slices.AppendSeq(d.split[:0], r.Lines()), offset
		}
		r.Line, r.Value = line, d.split[line-1]
	}
	return d.letter(&r, reason, place, message)
}

// column makes one column of the table; src is what the decoder has under its name.
func (d *Decoder) column(o *out, src arrow.Array) (arrow.Array, error) {
	n := d.after.n
	switch o.how {
	case drop:
		return array.MakeArrayOfNull(d.mem, o.dt, n), nil
	case masked, computed:
		if o.how == masked && o.node.typ().kind == kindOther {
			return array.MakeArrayOfNull(d.mem, o.dt, n), nil
		}
		c, whole := o.node.(*columnNode)
		if !whole || o.node.typ().kind != kindOther {
			return arrayOf(d.mem, o.dt, o.node.eval(&d.after, d.after.all[:n]), n)
		}
		src = column(d.after.batch, c.path, nil)
	case inside:
		return d.structOf(o, src)
	}
	if src == nil {
		return nil, fmt.Errorf("the decoder gave no column %s; this is a fault of firn, please report it", o.name)
	}
	src.Retain()
	return src, nil
}

// structOf makes a struct of which a part is changed.
func (d *Decoder) structOf(o *out, src arrow.Array) (arrow.Array, error) {
	st, ok := src.(*array.Struct)
	if !ok || src.Data().Offset() != 0 {
		return nil, fmt.Errorf("the decoder gave no struct %s; this is a fault of firn, please report it", o.name)
	}
	kids := make([]arrow.ArrayData, 0, len(o.kids))
	defer func() {
		for _, k := range kids {
			k.Release()
		}
	}()
	for i := range o.kids {
		var kid arrow.Array
		if at, ok := st.DataType().(*arrow.StructType).FieldIdx(o.kids[i].name); ok {
			kid = st.Field(at)
		}
		c, err := d.column(&o.kids[i], kid)
		if err != nil {
			return nil, err
		}
		c.Data().Retain()
		kids = append(kids, c.Data())
		c.Release()
	}
	data := array.NewData(o.dt, src.Len(), src.Data().Buffers()[:1], kids, src.NullN(), 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// take gives the rows of keep, ascending; nil when there are none. It does not take rows over.
func (d *Decoder) take(rows arrow.RecordBatch, keep []int32) (arrow.RecordBatch, error) {
	switch len(keep) {
	case 0:
		return nil, nil
	case int(rows.NumRows()):
		rows.Retain()
		return rows, nil
	}
	if at := int(keep[0]); int(keep[len(keep)-1])-at == len(keep)-1 { // one stretch
		return d.whole(rows, at, len(keep))
	}
	b := array.NewInt32Builder(d.mem)
	defer b.Release()
	b.AppendValues(keep, nil)
	index := b.NewInt32Array()
	defer index.Release()
	cols := make([]arrow.Array, 0, rows.NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for _, c := range rows.Columns() {
		t, err := compute.TakeArray(d.ctx, c, index)
		if err != nil {
			return nil, fmt.Errorf("take %d of %d rows: %w", len(keep), rows.NumRows(), err)
		}
		cols = append(cols, t)
	}
	return array.NewRecordBatch(rows.Schema(), cols, int64(len(keep))), nil
}

// whole copies a stretch of rows: columns have to begin at their buffers' start.
func (d *Decoder) whole(rows arrow.RecordBatch, from, n int) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, 0, rows.NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for _, c := range rows.Columns() {
		s := array.NewSlice(c, int64(from), int64(from+n))
		t, err := array.Concatenate([]arrow.Array{s}, d.mem)
		s.Release()
		if err != nil {
			return nil, err
		}
		cols = append(cols, t)
	}
	return array.NewRecordBatch(rows.Schema(), cols, int64(n)), nil
}

func offsetsOf(rows arrow.RecordBatch) []int64 {
	at := rows.Schema().FieldIndices(ledger.ColOffset)
	return rows.Column(at[0]).(*array.Int64).Int64Values()
}
