package commit

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/google/uuid"

	"github.com/firnlake/firn/internal/ledger"
)

// group is the rows of one partition value, in batches that the group owns.
type group struct {
	key    string      // of the values
	values map[int]any // by partition field id, as manifests want them
	rows   []arrow.RecordBatch
}

func (g *group) release() {
	for _, r := range g.rows {
		r.Release()
	}
	g.rows = nil
}

func releaseGroups(gs []*group) {
	for _, g := range gs {
		g.release()
	}
}

// splitter deals rows out by the values of a partition spec.
type splitter struct {
	mem    memory.Allocator
	fields []splitField
}

type splitField struct {
	id        int
	path      []int // of the source column in a batch; nil where the value is always null
	source    iceberg.Type
	transform iceberg.Transform
}

func newSplitter(mem memory.Allocator, spec iceberg.PartitionSpec, sc *iceberg.Schema, as *arrow.Schema) (*splitter, error) {
	s := &splitter{mem: mem}
	for _, f := range spec.Fields() {
		sf := splitField{id: f.FieldID, transform: f.Transform}
		switch f.Transform.(type) {
		case iceberg.VoidTransform:
			s.fields = append(s.fields, sf)
			continue
		case iceberg.UnknownTransform:
			return nil, fmt.Errorf("%w: the table is partitioned by %s, a transform that this firn does not know", ErrTable, f.Transform)
		}
		var ok bool
		if sf.source, ok = sc.FindTypeByID(f.SourceID()); !ok {
			return nil, fmt.Errorf("%w: partition field %s: its source column %d is not in the schema of the rows: restart the pipeline", ErrTable, f.Name, f.SourceID())
		}
		if sf.path = pathOf(sc.Fields(), as.Fields(), f.SourceID()); sf.path == nil {
			return nil, fmt.Errorf("%w: partition field %s: column %d lies in a list or a map", ErrTable, f.Name, f.SourceID())
		}
		s.fields = append(s.fields, sf)
	}
	return s, nil
}

// pathOf finds a column by id; Arrow's fields stand in the order of Iceberg's.
func pathOf(fields []iceberg.NestedField, as []arrow.Field, id int) []int {
	for i, f := range fields {
		if f.ID == id {
			return []int{i}
		}
		st, ok := f.Type.(*iceberg.StructType)
		ast, aok := as[i].Type.(*arrow.StructType)
		if !ok || !aok {
			continue
		}
		if sub := pathOf(st.FieldList, ast.Fields(), id); sub != nil {
			return append([]int{i}, sub...)
		}
	}
	return nil
}

// split returns the rows by partition value, each group's batches in the order of (Kafka partition, offset). The
// groups own what they hold; rows stay the caller's.
func (s *splitter) split(ctx context.Context, rows []arrow.RecordBatch) (out []*group, err error) {
	defer func() {
		if err != nil {
			releaseGroups(out)
			out = nil
		}
	}()
	byKey := map[string]*group{}
	at := func(key string, values map[int]any) (*group, error) {
		g := byKey[key]
		if g == nil {
			if len(out) == maxFiles {
				return nil, fmt.Errorf("%w: one batch has rows of more than %d partitions: choose a coarser partition_by, or bound the values in the contract", ErrTable, maxFiles)
			}
			g = &group{key: key, values: values}
			byKey[key] = g
			out = append(out, g)
		}
		return g, nil
	}
	for _, r := range inOrder(rows) {
		if len(s.fields) == 0 {
			g, err := at("", nil)
			if err != nil {
				return out, err
			}
			r.Retain()
			g.rows = append(g.rows, r)
			continue
		}
		if err := s.deal(ctx, r, at); err != nil {
			return out, err
		}
	}
	return out, nil
}

// inOrder sorts batches by their first row's Kafka partition and offset; each holds rows of one partition.
func inOrder(rows []arrow.RecordBatch) []arrow.RecordBatch {
	type keyed struct {
		r arrow.RecordBatch
		p int32
		o int64
	}
	ks := make([]keyed, 0, len(rows))
	for _, r := range rows {
		if r.NumRows() == 0 {
			continue
		}
		k := keyed{r: r}
		if p, o, ok := ledgerColumns(r); ok {
			k.p, k.o = p.Value(0), o.Value(0)
		}
		ks = append(ks, k)
	}
	slices.SortStableFunc(ks, func(a, b keyed) int { return cmp.Or(cmp.Compare(a.p, b.p), cmp.Compare(a.o, b.o)) })
	out := make([]arrow.RecordBatch, len(ks))
	for i, k := range ks {
		out[i] = k.r
	}
	return out
}

// ledgerColumns finds where the rows of a batch come from.
func ledgerColumns(r arrow.RecordBatch) (p *array.Int32, o *array.Int64, ok bool) {
	for i, f := range r.Schema().Fields() {
		switch f.Name {
		case ledger.ColPartition:
			p, _ = r.Column(i).(*array.Int32)
		case ledger.ColOffset:
			o, _ = r.Column(i).(*array.Int64)
		}
	}
	return p, o, p != nil && o != nil
}

// deal puts the rows of one batch into the groups. Neighbours mostly share a partition (events arrive in about the order
// of their times), so a row is held against the one before it first.
func (s *splitter) deal(ctx context.Context, r arrow.RecordBatch, at func(string, map[int]any) (*group, error)) error {
	type share struct {
		g    *group
		rows []int64
	}
	var shares []*share
	index := map[*group]*share{}
	var last *share
	lastKey := ""
	values := make([]any, len(s.fields))
	var key []byte
	for row := range int(r.NumRows()) {
		key = key[:0]
		for i, f := range s.fields {
			v, err := f.value(r, row)
			if err != nil {
				return err
			}
			values[i] = v
			key = appendKey(key, v)
		}
		if last == nil || string(key) != lastKey {
			lastKey = string(key)
			byID := make(map[int]any, len(s.fields))
			for i, f := range s.fields {
				byID[f.id] = values[i]
			}
			g, err := at(lastKey, byID)
			if err != nil {
				return err
			}
			if last = index[g]; last == nil {
				last = &share{g: g}
				index[g] = last
				shares = append(shares, last)
			}
		}
		last.rows = append(last.rows, int64(row))
	}
	for _, sh := range shares {
		part, err := s.take(ctx, r, sh.rows)
		if err != nil {
			return err
		}
		sh.g.rows = append(sh.g.rows, part)
	}
	return nil
}

// take returns the rows of r with these indices, ascending: a slice where they are neighbours.
func (s *splitter) take(ctx context.Context, r arrow.RecordBatch, rows []int64) (arrow.RecordBatch, error) {
	first, n := rows[0], int64(len(rows))
	if rows[n-1]-first+1 == n {
		return r.NewSlice(first, first+n), nil
	}
	b := array.NewInt64Builder(s.mem)
	defer b.Release()
	b.AppendValues(rows, nil)
	idx := b.NewInt64Array()
	defer idx.Release()
	d, err := compute.Take(compute.WithAllocator(ctx, s.mem), *compute.DefaultTakeOptions(), compute.NewDatumWithoutOwning(r), compute.NewDatumWithoutOwning(idx))
	if err != nil {
		return nil, fmt.Errorf("split rows by partition: %w", err)
	}
	return d.(*compute.RecordDatum).Value, nil
}

// value is the partition value of a row; nil for null.
func (f *splitField) value(r arrow.RecordBatch, row int) (any, error) {
	if f.path == nil {
		return nil, nil
	}
	a := r.Column(f.path[0])
	for _, i := range f.path[1:] {
		if a.IsNull(row) {
			return nil, nil
		}
		st, ok := a.(*array.Struct)
		if !ok {
			return nil, fmt.Errorf("partition column: a %s where a struct was expected", a.DataType())
		}
		a = st.Field(i)
	}
	if a.IsNull(row) {
		return nil, nil
	}
	lit, err := literal(a, row, f.source)
	if err != nil {
		return nil, err
	}
	out := f.transform.Apply(iceberg.Optional[iceberg.Literal]{Valid: true, Val: lit})
	if !out.Valid {
		return nil, nil
	}
	v := out.Val.Any()
	if _, day := f.transform.(iceberg.DayTransform); day {
		if n, ok := v.(int32); ok { // manifests hold days as dates
			v = iceberg.Date(n)
		}
	}
	return v, nil
}

// literal is one Arrow value as Iceberg's transforms take it.
func literal(a arrow.Array, row int, t iceberg.Type) (iceberg.Literal, error) {
	switch a := a.(type) {
	case *array.Int32:
		return iceberg.NewLiteral(a.Value(row)), nil
	case *array.Int64:
		return iceberg.NewLiteral(a.Value(row)), nil
	case *array.Float32:
		return iceberg.NewLiteral(a.Value(row)), nil
	case *array.Float64:
		return iceberg.NewLiteral(a.Value(row)), nil
	case *array.Boolean:
		return iceberg.NewLiteral(a.Value(row)), nil
	case *array.String:
		return iceberg.NewLiteral(strings.Clone(a.Value(row))), nil
	case *array.Date32:
		return iceberg.NewLiteral(iceberg.Date(a.Value(row))), nil
	case *array.Time64:
		return iceberg.NewLiteral(iceberg.Time(a.Value(row))), nil
	case *array.Timestamp:
		switch t.(type) {
		case iceberg.TimestampNsType, iceberg.TimestampTzNsType:
			return iceberg.NewLiteral(iceberg.TimestampNano(a.Value(row))), nil
		}
		return iceberg.NewLiteral(iceberg.Timestamp(a.Value(row))), nil
	case *array.Decimal128:
		return iceberg.NewLiteral(iceberg.Decimal{Val: a.Value(row), Scale: int(a.DataType().(*arrow.Decimal128Type).Scale)}), nil
	case *array.Binary:
		return iceberg.NewLiteral(slices.Clone(a.Value(row))), nil
	case *array.FixedSizeBinary:
		return iceberg.NewLiteral(slices.Clone(a.Value(row))).To(t)
	}
	if u, ok := a.(interface{ Value(int) uuid.UUID }); ok {
		return iceberg.NewLiteral(u.Value(row)), nil
	}
	return nil, fmt.Errorf("%w: a column of Arrow type %s cannot partition a table", ErrTable, a.DataType())
}

// appendKey appends a form of v that no other value of its column has.
func appendKey(key []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(key, 0)
	case int32:
		return binary.LittleEndian.AppendUint32(append(key, 1), uint32(v))
	case iceberg.Date:
		return binary.LittleEndian.AppendUint32(append(key, 1), uint32(v))
	case int64:
		return binary.LittleEndian.AppendUint64(append(key, 2), uint64(v))
	case iceberg.Timestamp:
		return binary.LittleEndian.AppendUint64(append(key, 2), uint64(v))
	case iceberg.TimestampNano:
		return binary.LittleEndian.AppendUint64(append(key, 2), uint64(v))
	case iceberg.Time:
		return binary.LittleEndian.AppendUint64(append(key, 2), uint64(v))
	case float32:
		return binary.LittleEndian.AppendUint32(append(key, 3), math.Float32bits(v))
	case float64:
		return binary.LittleEndian.AppendUint64(append(key, 4), math.Float64bits(v))
	case string:
		return append(binary.AppendUvarint(append(key, 5), uint64(len(v))), v...)
	case []byte:
		return append(binary.AppendUvarint(append(key, 6), uint64(len(v))), v...)
	}
	text := fmt.Sprint(v)
	return append(binary.AppendUvarint(append(key, 7), uint64(len(text))), text...)
}
