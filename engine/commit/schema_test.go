package commit

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

var prim = iceberg.PrimitiveTypes

func field(name string, t iceberg.Type) iceberg.NestedField {
	return iceberg.NestedField{Name: name, Type: t}
}

// version is a schema that events are written in.
type version []iceberg.NestedField

func (v version) with(fs ...iceberg.NestedField) version {
	out := slices.Clone(v)
	for _, f := range fs {
		if i := slices.IndexFunc(out, func(o iceberg.NestedField) bool { return o.Name == f.Name }); i >= 0 {
			out[i] = f
			continue
		}
		out = append(out, f)
	}
	return out
}

func firstVersion() version { return version(testSchema().Fields()) }

// decoder is what a decoder does to its schema: it begins with the table's, and grows with what it sees.
type decoder struct{ schema *iceberg.Schema }

func (d *decoder) sees(l *lake, v version) {
	l.Helper()
	g, err := evolve.Grow(d.schema, evolve.Unnumbered(v), evolve.Next(d.schema))
	l.must(err)
	d.schema = g.Schema
}

// rows are events of one partition, each in the version it was written in, in the schema that the decoder has.
func (d *decoder) rows(l *lake, p int32, written map[int64]version, offsets ...int64) arrow.RecordBatch {
	l.Helper()
	as, err := datafile.ArrowSchema(d.schema)
	l.must(err)
	b := array.NewRecordBuilder(l.mem, as)
	defer b.Release()
	for _, o := range offsets {
		for i, f := range d.schema.Fields() {
			at := slices.IndexFunc(written[o], func(w iceberg.NestedField) bool { return w.Name == f.Name })
			switch {
			case f.Name == ledger.ColPartition:
				b.Field(i).(*array.Int32Builder).Append(p)
			case f.Name == ledger.ColOffset:
				b.Field(i).(*array.Int64Builder).Append(o)
			case at < 0:
				b.Field(i).AppendNull()
			default:
				appendValue(b.Field(i), f.Type, written[o][at].Type, o)
			}
		}
	}
	return b.NewRecordBatch()
}

// appendValue writes the value of offset o into a column of type have as an event with a field of type w has it.
func appendValue(to array.Builder, have, w iceberg.Type, o int64) {
	switch b := to.(type) {
	case *array.StringBuilder:
		b.Append(valueOf(w, o))
	case *array.Int32Builder:
		b.Append(int32(o))
	case *array.Int64Builder:
		n, _ := strconv.ParseInt(valueOf(w, o), 10, 64)
		b.Append(n)
	case *array.Float32Builder:
		b.Append(float32(o) + 0.5)
	case *array.Float64Builder:
		b.Append(float64(o) + 0.5)
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(o))
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(100*o + 25))
	case *array.StructBuilder:
		b.Append(true)
		for i, f := range have.(*iceberg.StructType).FieldList {
			ws := w.(*iceberg.StructType).FieldList
			at := slices.IndexFunc(ws, func(x iceberg.NestedField) bool { return x.Name == f.Name })
			if at < 0 {
				b.FieldBuilder(i).AppendNull()
				continue
			}
			appendValue(b.FieldBuilder(i), f.Type, ws[at].Type, o)
		}
	default:
		panic(fmt.Sprintf("no value for %T", to))
	}
}

// valueOf is how the value of offset o in a field of type t reads.
func valueOf(t iceberg.Type, o int64) string {
	switch t.(type) {
	case iceberg.Int64Type:
		return strconv.FormatInt(o+1<<40, 10) // it does not fit the narrower type
	case iceberg.Float32Type, iceberg.Float64Type:
		return fmt.Sprintf("%d.5", o)
	case iceberg.DecimalType:
		return fmt.Sprintf("%d.25", o)
	case iceberg.StringType:
		return fmt.Sprintf("s%d", o)
	}
	return strconv.FormatInt(o, 10)
}

// read is all rows of the head by offset: what each column says that is not null, by its dotted path.
func (l *lake) read(meta table.Metadata) map[int64]map[string]string {
	l.Helper()
	out := map[int64]map[string]string{}
	for _, f := range l.files(meta) {
		l.scan(meta, f, func(r arrow.RecordBatch) {
			_, offsets, ok := ledgerColumns(r)
			if !ok {
				l.Fatal("no ledger columns")
			}
			for i := range int(r.NumRows()) {
				o := offsets.Value(i)
				if out[o] != nil {
					l.Errorf("offset %d is there twice", o)
				}
				out[o] = map[string]string{}
				for c, f := range r.Schema().Fields() {
					readValue(out[o], f.Name, r.Column(c), i)
				}
			}
		})
	}
	return out
}

func readValue(to map[string]string, path string, col arrow.Array, i int) {
	if col.IsNull(i) {
		return
	}
	switch c := col.(type) {
	case *array.Struct:
		for n, f := range c.DataType().(*arrow.StructType).Fields() {
			readValue(to, path+"."+f.Name, c.Field(n), i)
		}
	case *array.Timestamp:
		to[path] = strconv.FormatInt(int64(c.Value(i)), 10)
	default:
		to[path] = c.ValueStr(i)
	}
}

// wantOf is what read has to say of an event.
func wantOf(to map[string]string, v []iceberg.NestedField, path string, o int64) {
	for _, f := range v {
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			wantOf(to, t.FieldList, path+f.Name+".", o)
		default:
			to[path+f.Name] = valueOf(f.Type, o)
		}
		switch f.Name {
		case ledger.ColPartition:
			to[f.Name] = "0"
		case ledger.ColOffset:
			to[f.Name] = strconv.FormatInt(o, 10)
		}
	}
}

// holds compares the head with what was written.
func (l *lake) holds(written map[int64]version, to int64) {
	l.Helper()
	got := l.read(l.load(l.rows, catalog.LoadRefs))
	for o := range to {
		want := map[string]string{}
		wantOf(want, written[o], "", o)
		if !maps.Equal(got[o], want) {
			l.Fatalf("offset %d reads as %v, it was written as %v", o, got[o], want)
		}
	}
	if len(got) != int(to) {
		l.Fatalf("%d rows, want %d", len(got), to)
	}
}

// wrote says that the offsets are of a version.
func wrote(written map[int64]version, v version, from, to int64) {
	for o := from; o < to; o++ {
		written[o] = v
	}
}

// batch is the events [from, to) of partition 0, cut where their versions change: rows before a change are in the schema
// before it, as the decoder hands them out.
func (d *decoder) batch(l *lake, written map[int64]version, from, to int64) *engine.Batch {
	l.Helper()
	b := &engine.Batch{ID: uuid.Must(uuid.NewV7()).String(), Ranges: []offset.Range{rng(0, from, to)}, LastRow: offset.Vector{0: to - 1}, RowCount: to - from, Opened: l.now}
	for at := from; at < to; {
		end := at + 1
		for end < to && slices.Equal(names(written[end]), names(written[at])) {
			end++
		}
		d.sees(l, written[at])
		var offsets []int64
		for o := at; o < end; o++ {
			offsets = append(offsets, o)
		}
		b.Rows = append(b.Rows, d.rows(l, 0, written, offsets...))
		at = end
	}
	return b
}

func names(v version) []string {
	var out []string
	for _, f := range v {
		out = append(out, f.Name+f.Type.String())
	}
	return out
}

func (l *lake) decoder() *decoder {
	l.Helper()
	return &decoder{l.load(l.rows, catalog.LoadRefs).CurrentSchema()}
}

var (
	secondVersion = firstVersion().with(field("n", prim.Int32), field("d", iceberg.DecimalTypeOf(9, 2)))
	thirdVersion  = secondVersion.with(field("n", prim.Int64), field("d", iceberg.DecimalTypeOf(18, 2)), field("note", prim.String),
		field("meta", &iceberg.StructType{FieldList: []iceberg.NestedField{field("at", prim.TimestampTz), field("by", &iceberg.StructType{FieldList: []iceberg.NestedField{field("who", prim.String)}})}}))
)

// The commit whose rows first need it changes the schema, and nothing before it does. Snapshots before it keep the schema
// that they had; events of older schemas that come later are null where they have nothing.
func TestSchemaGrowsInTheCommit(t *testing.T) {
	l := newLake(t)
	written := map[int64]version{}
	wrote(written, firstVersion(), 0, 5)
	wrote(written, secondVersion, 5, 8)
	wrote(written, thirdVersion, 8, 12)
	wrote(written, firstVersion(), 12, 14)
	wrote(written, secondVersion, 14, 16)
	c, d := l.committer(l.cat), l.decoder()
	l.recover(c)
	var heads []int64
	for i, to := range []int64{5, 7, 12, 16} {
		from := []int64{0, 5, 7, 12}[i]
		b := d.batch(l, written, from, to)
		if got, want := l.load(l.rows, catalog.LoadRefs).CurrentSchema().ID, []int{0, 0, 1, 2}[i]; got != want {
			t.Errorf("before commit %d the schema is %d, want %d", i, got, want)
		}
		done, err := c.Commit(t.Context(), b)
		l.must(err)
		release(b)
		heads = append(heads, done.SnapshotID)
		want := []string{"", "add n int, add d decimal(9, 2)",
			"add meta.by struct<11: who: optional string>, widen n from int to long, widen d from decimal(9, 2) to decimal(18, 2), add note string", ""}[i]
		if got := strings.Join(done.SchemaChanges, ", "); got != want {
			t.Errorf("commit %d changed %q, want %q", i, got, want)
		}
	}
	l.holds(written, 16)
	meta := l.meta(l.rows)
	for i, want := range []int{0, 1, 2, 2} {
		if s := meta.SnapshotByID(heads[i]); s.SchemaID == nil || *s.SchemaID != want {
			t.Errorf("snapshot %d has schema %v, want %d", i, s.SchemaID, want)
		}
	}
	for _, f := range flatten(meta.Schemas()[0].Fields()) {
		if now, ok := meta.CurrentSchema().FindFieldByID(f.ID); !ok || now.Name != f.Name {
			t.Errorf("column %d was %s and is %v", f.ID, f.Name, now)
		}
	}
	// Back before both changes: the schema stays, and the same events read the same once more.
	l.rollback(l.rows, heads[0])
	b := d.batch(l, written, 5, 16)
	_, err := c.Commit(t.Context(), b)
	isErr(t, err, engine.ErrRewound)
	release(b)
	if st := l.recover(c); st.Offsets[0] != 5 || st.Epoch != 1 {
		t.Fatalf("%+v", st)
	}
	b = d.batch(l, written, 5, 16)
	defer release(b)
	_, err = c.Commit(t.Context(), b)
	l.must(err)
	l.holds(written, 16)
	if n := len(l.meta(l.rows).Schemas()); n != 3 {
		t.Errorf("%d schemas", n)
	}
}

func flatten(fields []iceberg.NestedField) []iceberg.NestedField {
	out := slices.Clone(fields)
	for _, f := range fields {
		if st, ok := f.Type.(*iceberg.StructType); ok {
			out = append(out, flatten(st.FieldList)...)
		}
	}
	return out
}

// A partitioning by a column that comes with the same commit.
func TestSchemaAndLayoutChangeTogether(t *testing.T) {
	l := newLake(t)
	written := map[int64]version{}
	wrote(written, secondVersion, 0, 9)
	c := l.laid(l.cat, []string{"bucket(4, n)"}, []string{"d desc"})
	b := l.decoder().batch(l, written, 0, 9)
	defer release(b)
	_, err := c.Commit(t.Context(), b)
	l.must(err)
	l.holds(written, 9)
	for _, s := range l.specsOf(l.rows) {
		if !strings.HasPrefix(s, "1 n_bucket_4 ") {
			t.Errorf("a file lies under %s", s)
		}
	}
}

// Whatever happens to the request that changes the schema, the change and the rows are there once, together.
func TestSchemaFaults(t *testing.T) {
	for _, tx := range []bool{true, false} {
		for what := works; what < faults; what++ {
			l := newLake(t)
			written := map[int64]version{}
			wrote(written, firstVersion(), 0, 2)
			wrote(written, thirdVersion, 2, 6)
			wrote(written, firstVersion(), 6, 8)
			f := &flaky{Catalog: l.cat, noTx: !tx, next: only(1, what)}
			c, d := l.committer(f), l.decoder()
			l.recover(c)
			for from := int64(0); from < 8; from += 2 {
				b := d.batch(l, written, from, from+2)
				l.untilCommitted(c, f, b)
				release(b)
				if from == 4 {
					f.deliver()
				}
			}
			f.deliver()
			l.holds(written, 8)
			if n := len(l.meta(l.rows).Schemas()); n != 2 {
				t.Errorf("%s: %d schemas", what, n)
			}
		}
	}
}

// Another engine changes the schema between the files and the commit: ids that it was given are not used for ours.
func TestSchemaChangedByTwo(t *testing.T) {
	for name, c := range map[string]struct {
		column iceberg.NestedField
		fails  bool
	}{
		"another column":             {field("theirs", prim.Date), false},
		"the same column":            {field("n", prim.Int32), false},
		"the same column, wider":     {field("n", prim.Int64), false},
		"the same column, otherwise": {field("n", prim.String), true},
	} {
		for _, lost := range []bool{false, true} {
			l := newLake(t)
			f := &faulty{Catalog: l.cat, loseOne: lost}
			f.before = func() {
				meta := l.meta(l.rows)
				c.column.ID = meta.LastColumnID() + 1
				sc := iceberg.NewSchema(1, append(slices.Clone(meta.CurrentSchema().Fields()), c.column)...)
				l.update(l.rows, table.NewAddSchemaUpdate(sc), table.NewSetCurrentSchemaUpdate(-1))
			}
			written := map[int64]version{}
			wrote(written, secondVersion, 0, 5)
			com := l.committer(f)
			l.recover(com)
			b := l.decoder().batch(l, written, 0, 5)
			var err error
			for range 3 {
				if _, err = com.Commit(t.Context(), b); err == nil || errors.Is(err, engine.ErrIncompatibleSchema) {
					break
				}
			}
			release(b)
			if c.fails {
				isErr(t, err, engine.ErrIncompatibleSchema)
				continue
			}
			if err != nil {
				t.Fatalf("%s, lost %v: %v", name, lost, err)
			}
			l.holds(written, 5)
			if got, _ := l.meta(l.rows).CurrentSchema().FindFieldByID(c.column.ID); got.Name != c.column.Name {
				t.Errorf("%s: their id %d is of %q now", name, c.column.ID, got.Name)
			}
		}
	}
}

// grows is one compatible change of a version.
func grows(t *rapid.T, v version, n int) version {
	widen := map[string]iceberg.Type{"int": prim.Int64, "float": prim.Float64, "decimal(9, 2)": iceberg.DecimalTypeOf(18, 2)}
	at := rapid.IntRange(0, len(v)).Draw(t, "column")
	if at < len(v) && !strings.HasPrefix(v[at].Name, "_kafka") {
		if wider, ok := widen[v[at].Type.String()]; ok {
			return v.with(field(v[at].Name, wider))
		}
		if st, ok := v[at].Type.(*iceberg.StructType); ok {
			return v.with(field(v[at].Name, &iceberg.StructType{FieldList: version(st.FieldList).with(field(fmt.Sprint("in", n), prim.Int32))}))
		}
	}
	types := []iceberg.Type{prim.Int32, prim.Float32, iceberg.DecimalTypeOf(9, 2), prim.String,
		&iceberg.StructType{FieldList: []iceberg.NestedField{field("a", prim.Int32)}}}
	next := v.with(field(fmt.Sprint("c", n), rapid.SampledFrom(types).Draw(t, "type")))
	if gone := rapid.IntRange(0, len(next)).Draw(t, "gone"); gone < len(next) && strings.HasPrefix(next[gone].Name, "c") {
		next = slices.Delete(slices.Clone(next), gone, gone+1)
	}
	return next
}

// Random schemas in random order, with crashes, faults, columns of another engine, rollbacks and rewrites of what is there:
// every event reads as it was written, by name, and no column ever changes its id.
func TestEvolutionAndCrashes(t *testing.T) {
	l0 := newLake(t)
	rapid.Check(t, func(rt *rapid.T) {
		l := lakeIn(rapidTB{t, rt}, l0.cat, l0.wh)
		versions := []version{firstVersion()}
		written := map[int64]version{}
		var next int64
		f := &flaky{Catalog: l.cat}
		c, d := l.committer(f), l.decoder()
		l.recover(c)
		ids := map[int]string{}
		var heads []int64
		for n := range rapid.IntRange(3, 7).Draw(rt, "acts") {
			switch rapid.SampledFrom([]string{"new schema", "new schema", "crash", "their column", "rollback", "rewrite", "nothing"}).Draw(rt, "act") {
			case "new schema":
				versions = append(versions, grows(rt, versions[len(versions)-1], n))
			case "crash":
				c, d = l.committer(f), l.decoder()
				l.recover(c)
			case "their column":
				meta := l.load(l.rows, catalog.LoadRefs)
				sc := iceberg.NewSchema(1, append(slices.Clone(meta.CurrentSchema().Fields()),
					iceberg.NestedField{ID: meta.LastColumnID() + 1, Name: fmt.Sprint("theirs", n), Type: prim.String})...)
				l.update(l.rows, table.NewAddSchemaUpdate(sc), table.NewSetCurrentSchemaUpdate(-1))
			case "rollback":
				if len(heads) > 0 {
					l.rollback(l.rows, rapid.SampledFrom(heads).Draw(rt, "to"))
					next = l.recover(c).Offsets[0]
				}
			case "rewrite":
				l.rewrite(l.rows, rapid.Bool().Draw(rt, "carried"))
			}
			to := next + rapid.Int64Range(1, 4).Draw(rt, "events")
			for o := next; o < to; o++ {
				if written[o] == nil {
					written[o] = rapid.SampledFrom(versions).Draw(rt, "version")
				}
			}
			f.next = only(0, fault(max(0, rapid.IntRange(-3*int(faults), int(faults)-1).Draw(rt, "fault"))))
			b := d.batch(l, written, next, to)
			l.untilCommitted(c, f, b)
			f.deliver()
			release(b)
			next = to
			meta := l.load(l.rows, catalog.LoadRefs)
			heads = append(heads, meta.CurrentSnapshot().SnapshotID)
			for _, col := range flatten(meta.CurrentSchema().Fields()) {
				if was, ok := ids[col.ID]; ok && was != col.Name {
					rt.Fatalf("column %d was %s and is %s", col.ID, was, col.Name)
				}
				ids[col.ID] = col.Name
			}
		}
		l.holds(written, next)
	})
}

// rapidTB fails the check, and cleans up with the test.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (t rapidTB) Helper()                           {}
func (t rapidTB) Fatal(args ...any)                 { t.rt.Fatal(args...) }
func (t rapidTB) Fatalf(format string, args ...any) { t.rt.Fatalf(format, args...) }
func (t rapidTB) Errorf(format string, args ...any) { t.rt.Errorf(format, args...) }

// Dead letters that are redriven may bring a column, too.
func TestRedriveGrowsTheSchema(t *testing.T) {
	l := newLake(t)
	c := l.committer(l.cat)
	l.recover(c)
	b := l.batchOf(func(_ int32, o int64) byte { return map[bool]byte{true: 'd', false: 'r'}[o == 3] }, rng(0, 0, 6))
	_, err := c.Commit(t.Context(), b)
	release(b)
	l.must(err)
	written := map[int64]version{}
	wrote(written, thirdVersion, 3, 4)
	d := l.decoder()
	got, err := Redrive(t.Context(), l.cat, l.wh, l.rows, l.dead, "events", RedriveOptions{}, func(*iceberg.Schema, []deadletter.Letter) ([]arrow.RecordBatch, []engine.Dead, error) {
		d.sees(l, thirdVersion)
		return []arrow.RecordBatch{d.rows(l, 0, written, 3)}, nil, nil
	})
	l.must(err)
	meta := l.load(l.rows, catalog.LoadRefs)
	want := map[string]string{}
	wantOf(want, thirdVersion, "", 3)
	if row := l.read(meta)[3]; got.Rows != 1 || !maps.Equal(row, want) {
		t.Errorf("%d rows, %v", got.Rows, row)
	}
	if s := meta.CurrentSnapshot(); s.SchemaID == nil || *s.SchemaID != 1 {
		t.Errorf("schema %v", s.SchemaID)
	}
}
