package dedup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
)

// event is a record of the log, or a row of the table. An empty id is null.
type event struct {
	p  int32
	o  int64
	id string
	ms int64
}

func schemaOf(id iceberg.Type) *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "id", Type: id},
		iceberg.NestedField{ID: 2, Name: "n", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 3, Name: "list", Type: &iceberg.ListType{ElementID: 4, Element: p.Int64}}}}},
		iceberg.NestedField{ID: 5, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 6, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 7, Name: ledger.ColTimestamp, Type: p.TimestampTz})
}

// plain decodes each record to a row: its key is the id.
type plain struct {
	mem memory.Allocator
	as  *arrow.Schema
}

func newPlain(t rapid.TB, mem memory.Allocator) *plain {
	t.Helper()
	as, err := datafile.ArrowSchema(schemaOf(iceberg.PrimitiveTypes.String))
	if err != nil {
		t.Fatal(err)
	}
	return &plain{mem, as}
}

func (d *plain) ArrowSchema() *arrow.Schema { return d.as }

func (d *plain) rows(es []event) arrow.RecordBatch {
	b := array.NewRecordBuilder(d.mem, d.as)
	defer b.Release()
	for _, e := range es {
		if e.id == "" {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.StringBuilder).Append(e.id)
		}
		st := b.Field(1).(*array.StructBuilder)
		st.Append(true)
		list := st.FieldBuilder(0).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.Int64Builder).Append(e.o)
		b.Field(2).(*array.Int32Builder).Append(e.p)
		b.Field(3).(*array.Int64Builder).Append(e.o)
		b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(e.ms * 1000))
	}
	return b.NewRecordBatch()
}

func (d *plain) Decode(f *engine.Fetch) (engine.Decoded, error) {
	o := engine.Decoded{Range: offset.Range{Partition: f.Partition, Start: f.Start, End: f.End}, LastRow: -1}
	var es []event
	for _, r := range f.Records {
		es = append(es, event{f.Partition, r.Offset, string(r.Key), r.TimestampMs})
		o.LastRow = r.Offset
	}
	if len(es) > 0 {
		o.Rows = d.rows(es)
	}
	return o, nil
}

// lake is a table and the pipeline's place in it, as History sees it.
type lake struct {
	dec    *plain
	rows   []event
	reads  int
	broken error
}

func (l *lake) Resume(context.Context, engine.State) error { return nil }

func (l *lake) Read(_ context.Context, from, to int64, fn func(arrow.RecordBatch) error) (int64, error) {
	if l.reads++; l.broken != nil {
		return 0, l.broken
	}
	top := int64(math.MinInt64)
	var some []event
	for i, e := range l.rows {
		top = max(top, e.ms*1000)
		if e.ms*1000 >= from && e.ms*1000 <= to || i%7 == 0 { // and some that nobody asked for
			some = append(some, e)
		}
	}
	for part := range slices.Chunk(some, 5) {
		b := l.dec.rows(part)
		err := fn(b)
		b.Release()
		if err != nil {
			return 0, err
		}
	}
	return top, nil
}

func (l *lake) vector() offset.Vector {
	v := offset.Vector{}
	for _, e := range l.rows {
		v[e.p] = max(v[e.p], e.o+1)
	}
	return v
}

const testWindow = 40 * time.Second // ten seconds a slice

func newDecoder(t rapid.TB, dec *plain, hist History, maxIDs int, now *time.Time) *Decoder {
	t.Helper()
	d, err := New(Config{Column: "id", Window: units.Duration(testWindow), MaxIDs: maxIDs}, dec, hist, Options{Mem: dec.mem, Seed: 1, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fetchOf(p int32, from, to int64, es []event) *engine.Fetch {
	f := &engine.Fetch{Partition: p, Start: from, End: to}
	for _, e := range es {
		if e.o >= from && e.o < to {
			r := engine.Record{Offset: e.o, TimestampMs: e.ms}
			if e.id != "" {
				r.Key = []byte(e.id)
			}
			f.Records = append(f.Records, r)
		}
	}
	return f
}

func eventsOf(r arrow.RecordBatch) (out []event) {
	if r == nil {
		return nil
	}
	ids, p, o, at := r.Column(0).(*array.String), r.Column(2).(*array.Int32), r.Column(3).(*array.Int64), r.Column(4).(*array.Timestamp)
	for i := range int(r.NumRows()) {
		e := event{p: p.Value(i), o: o.Value(i), ms: int64(at.Value(i)) / 1000}
		if !ids.IsNull(i) {
			e.id = ids.Value(i)
		}
		out = append(out, e)
	}
	return out
}

// slice10 is the slice of a time by another way than the decoder's.
func slice10(ms int64) int64 { return int64(math.Floor(float64(ms) / 10_000)) }

// seenIn is the rule, by looking at every row.
func seenIn(rows []event, e event) bool {
	return e.id != "" && slices.ContainsFunc(rows, func(r event) bool {
		return r.id == e.id && slice10(r.ms)-slice10(e.ms) <= 4 && slice10(e.ms)-slice10(r.ms) <= 4
	})
}

// TestFirstOccurrences runs random streams over partitions of which some lag far behind, with commits, crashes, set-backs and long pauses,
// and holds each row that stays, and each that is dropped, against the rule over committed rows and those to be committed.
func TestFirstOccurrences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
		defer mem.AssertSize(fatal{t}, 0)
		dec := newPlain(t, mem)
		log := logs(t)
		l := &lake{dec: dec}
		now := time.Unix(0, 0)
		d := newDecoder(t, dec, l, 1_000_000, &now)
		var pending []event
		next := offset.Vector{}
		recover := func() {
			pending, next = nil, l.vector()
			if err := d.Resume(context.Background(), engine.State{Offsets: next.Clone()}); err != nil {
				t.Fatal(err)
			}
		}
		commit := func() {
			l.rows, pending = append(l.rows, pending...), nil
			d.Committed(next.Clone())
		}
		read := func(p int32, n int64) {
			to := min(next[p]+n, int64(len(log[p])))
			f := fetchOf(p, next[p], to, log[p])
			o, err := d.Decode(f)
			if err != nil {
				t.Fatal(err)
			}
			next[p] = to
			got := eventsOf(o.Rows)
			if o.Rows != nil {
				o.Rows.Release()
			}
			var want []event
			var dropped []int64
			all := slices.Concat(l.rows, pending)
			for _, e := range log[p][f.Start:to] {
				if seenIn(all, e) {
					dropped = append(dropped, e.o)
					continue
				}
				want, all = append(want, e), append(all, e)
			}
			last := int64(-1)
			if len(want) > 0 {
				last = want[len(want)-1].o
			}
			if !slices.Equal(got, want) || !slices.Equal(o.Duplicates, dropped) || o.LastRow != last {
				t.Fatalf("partition %d [%d,%d): %v without %v up to %d, want %v without %v up to %d", p, f.Start, to, got, o.Duplicates, o.LastRow, want, dropped, last)
			}
			pending = append(pending, got...)
		}
		recover()
		for range rapid.IntRange(5, 60).Draw(t, "acts") {
			switch rapid.IntRange(0, 11).Draw(t, "act") {
			case 0, 1:
				commit()
			case 2:
				recover() // a crash, or a fence
			case 3:
				l.rows = l.rows[:rapid.IntRange(0, len(l.rows)).Draw(t, "set back to")]
				// V is the end of what is left in each partition, for none is in between.
				recover()
			case 4:
				now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute}).Draw(t, "pause"))
			default:
				read(int32(rapid.IntRange(0, len(log)-1).Draw(t, "partition")), rapid.Int64Range(1, 12).Draw(t, "records"))
			}
		}
		for p := range log {
			for next[p] < int64(len(log[p])) {
				read(p, 7)
			}
		}
	})
}

type fatal struct{ *rapid.T }

// logs are partitions whose times rise, each from its own beginning, with producers' clocks apart by less than a window.
func logs(t *rapid.T) map[int32][]event {
	out := map[int32][]event{}
	for p := range int32(rapid.IntRange(1, 3).Draw(t, "partitions")) {
		at := rapid.Int64Range(-100_000, 400_000).Draw(t, "begins")
		for o := range int64(rapid.IntRange(1, 60).Draw(t, "records")) {
			at += rapid.SampledFrom([]int64{0, 0, 1, 500, 3_000, 30_000}).Draw(t, "step")
			e := event{p: p, o: o, ms: at - rapid.Int64Range(0, 20_000).Draw(t, "late")}
			if n := rapid.IntRange(0, 12).Draw(t, "id"); n > 0 {
				e.id = fmt.Sprint("id-", n)
			}
			out[p] = append(out[p], e)
		}
	}
	return out
}

// TestBounded: whatever the timestamps are, and however few ids are held, nothing is dropped that is not a row, and the bound is kept.
func TestBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dec := newPlain(t, memory.DefaultAllocator)
		l := &lake{dec: dec}
		now := time.Unix(0, 0)
		const most = 1000
		d := newDecoder(t, dec, l, most, &now)
		if err := d.Resume(context.Background(), engine.State{}); err != nil {
			t.Fatal(err)
		}
		at := rapid.OneOf(rapid.Int64Range(0, 200_000), rapid.Int64Range(math.MinInt64/1000, math.MaxInt64/1000))
		next, ids := int64(0), 0
		for range rapid.IntRange(1, 6).Draw(t, "stretches") {
			var es []event
			spread := rapid.IntRange(50, 5000).Draw(t, "ids")
			for range rapid.IntRange(1, 1500).Draw(t, "records") {
				ids++
				es = append(es, event{o: next, id: fmt.Sprint("id-", ids*7919%spread)})
				next++
			}
			few := rapid.SliceOfN(at, 1, 20).Draw(t, "times")
			for i := range es {
				es[i].ms = few[i%len(few)]
			}
			f := fetchOf(0, es[0].o, next, es)
			o, err := d.Decode(f)
			if err != nil {
				t.Fatal(err)
			}
			l.rows = append(l.rows, eventsOf(o.Rows)...)
			if o.Rows != nil {
				o.Rows.Release()
			}
			for _, at := range o.Duplicates {
				e := es[at-es[0].o]
				if !slices.ContainsFunc(l.rows, func(r event) bool { return r.id == e.id && r.o < e.o }) {
					t.Fatalf("%v is dropped, and no row before it has its id", e)
				}
			}
			d.Committed(offset.Vector{0: next})
			held := 0
			for _, s := range d.window.slices {
				held += s.ids.n
			}
			if d.window.n != held || held > most || len(d.window.slices) > maxSlices {
				t.Fatalf("%d ids in %d slices are held, %d are counted", held, len(d.window.slices), d.window.n)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
		}
	})
}

// A rows that another writer has put where this one reads next is no reason to drop the record that it came from, and a record that is a
// dead letter already is no row.
func TestWhatIsNoRow(t *testing.T) {
	dec := newPlain(t, memory.DefaultAllocator)
	now := time.Unix(0, 0)
	l := &lake{dec: dec, rows: []event{{0, 4, "a", 1000}, {0, 5, "b", 1000}, {1, 0, "c", 1000}}}
	d := newDecoder(t, dec, l, 1000, &now)
	st := engine.State{Offsets: offset.Vector{0: 5}, IsDead: func(p int32, o int64) bool { return p == 0 && o == 6 }}
	if err := d.Resume(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	es := []event{{0, 5, "b", 2000}, {0, 6, "d", 2000}, {0, 7, "d", 2000}, {0, 8, "c", 2000}, {0, 9, "a", 2000}, {0, 10, "d", 2000}}
	o, err := d.Decode(fetchOf(0, 5, 11, es))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Rows.Release()
	if !slices.Equal(o.Duplicates, []int64{9, 10}) || o.LastRow != 8 || o.Rows.NumRows() != 4 {
		t.Errorf("%v are dropped, the last row is %d of %d", o.Duplicates, o.LastRow, o.Rows.NumRows())
	}
}

// A table that cannot be read ends the generation: nothing is judged without what it has.
func TestTableThatCannotBeRead(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	dec := newPlain(t, mem)
	now := time.Unix(0, 0)
	l := &lake{dec: dec, broken: errors.New("away")}
	d := newDecoder(t, dec, l, 1000, &now)
	es := []event{{0, 0, "a", 1}}
	if _, err := d.Decode(fetchOf(0, 0, 1, es)); err == nil {
		t.Error("rows were judged before a position was recovered")
	}
	if err := d.Resume(t.Context(), engine.State{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Decode(fetchOf(0, 0, 1, es)); !errors.Is(err, l.broken) {
		t.Errorf("%v", err)
	}
}

// A pipeline that keeps up reads the table once: what it decodes itself is not read back.
func TestReadsOnce(t *testing.T) {
	dec := newPlain(t, memory.DefaultAllocator)
	now := time.Unix(0, 0)
	l := &lake{dec: dec, rows: []event{{0, 0, "first", 0}}}
	d := newDecoder(t, dec, l, 100_000, &now)
	if err := d.Resume(t.Context(), engine.State{Offsets: offset.Vector{0: 1}}); err != nil {
		t.Fatal(err)
	}
	for o := int64(1); o < 600; o++ {
		e := event{0, o, fmt.Sprint(o), o * 1000}
		r, err := d.Decode(fetchOf(0, o, o+1, []event{e}))
		if err != nil {
			t.Fatal(err)
		}
		l.rows = append(l.rows, eventsOf(r.Rows)...)
		r.Rows.Release()
		d.Committed(offset.Vector{0: o + 1})
		now = now.Add(time.Second)
	}
	if l.reads != 1 {
		t.Errorf("the table was read %d times", l.reads)
	}
	if n := d.window.n; n > 180 {
		t.Errorf("%d ids are held of 600 seconds: what nobody comes near should have left", n)
	}
}

// TestReadsAreBounded: what lies beyond the bound is not read, counted, and no event is lost by it.
func TestReadsAreBounded(t *testing.T) {
	const hours = maxReads + 4
	now := time.Unix(0, 0)
	l := &lake{dec: newPlain(t, memory.DefaultAllocator)}
	var again []event
	for i := range int64(hours) {
		l.rows = append(l.rows, event{1, i, fmt.Sprint(i), i * 3_600_000})
		again = append(again, event{0, i, fmt.Sprint(i), i * 3_600_000})
	}
	d := newDecoder(t, l.dec, l, 100_000, &now)
	reg := prometheus.NewRegistry()
	d.opt.Metrics = NewMetrics(reg)
	if err := d.Resume(t.Context(), engine.State{Offsets: offset.Vector{0: 0, 1: hours}}); err != nil {
		t.Fatal(err)
	}
	r, err := d.Decode(fetchOf(0, 0, hours, again))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Rows.Release()
	if l.reads != maxReads || len(r.Duplicates) != maxReads || r.Rows.NumRows() != hours-maxReads {
		t.Errorf("%d reads, %d duplicates, %d rows", l.reads, len(r.Duplicates), r.Rows.NumRows())
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	unread := -1.0
	for _, f := range families {
		if f.GetName() == "firn_dedup_unread_stretches_total" {
			unread = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if unread != hours-maxReads {
		t.Errorf("%v stretches are counted as unread", unread)
	}
}

// TestIDs: values of every type are told apart, equal ones are not, null is none, and a column that becomes wider keeps its ids.
func TestIDs(t *testing.T) {
	build := func(typ iceberg.Type, values ...any) []id {
		as, err := datafile.ArrowSchema(schemaOf(typ))
		if err != nil {
			t.Fatal(err)
		}
		b := array.NewBuilder(memory.DefaultAllocator, as.Field(0).Type)
		defer b.Release()
		for _, v := range values {
			if v == nil {
				b.AppendNull()
			} else if err := b.AppendValueFromString(fmt.Sprint(v)); err != nil {
				t.Fatal(err)
			}
		}
		a := b.NewArray()
		defer a.Release()
		hs, err := hashes(nil, a, 7)
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		return hs
	}
	p := iceberg.PrimitiveTypes
	for _, c := range []struct {
		typ    iceberg.Type
		values []any
	}{
		{p.String, []any{"a", nil, "b", "", "a"}}, {p.Int32, []any{1, nil, -1, 0, 1}}, {p.Int64, []any{1, nil, int64(1) << 40, 0, 1}},
		{p.Binary, []any{"YQ==", nil, "Yg==", "", "YQ=="}}, {iceberg.FixedTypeOf(2), []any{"YWE=", nil, "YmI=", "Y2M=", "YWE="}},
		{p.UUID, []any{"00000000-0000-0000-0000-000000000001", nil, "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"}},
	} {
		hs := build(c.typ, c.values...)
		if hs[1] != (id{}) || hs[0] != hs[4] || hs[0] == hs[2] || hs[0] == hs[3] || hs[2] == hs[3] || hs[3] == (id{}) {
			t.Errorf("%s: %v", c.typ, hs)
		}
		if err := (Config{Column: "id"}).Check(schemaOf(c.typ)); err != nil {
			t.Error(err)
		}
	}
	if a, b := build(p.Int32, -7), build(p.Int64, -7); a[0] != b[0] {
		t.Error("a column that becomes wider loses its ids")
	}
	if err := (Config{Column: "id"}).Check(schemaOf(p.Float64)); !errors.Is(err, ErrConfig) {
		t.Errorf("%v", err)
	}
	if err := (Config{Column: "other"}).Check(schemaOf(p.String)); !errors.Is(err, ErrConfig) {
		t.Errorf("%v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{Window: units.Duration(time.Minute)}, {MaxIDs: 5}, {Column: "a.b"}, {Column: ledger.ColOffset}, {Column: "id", Window: 1}, {Column: "id", Window: units.Duration(maxWindow) + 1}, {Column: "id", MaxIDs: 1}} {
		if err := bad.WithDefaults().Validate(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	for _, good := range []Config{{}, {Column: "id"}} {
		if err := good.WithDefaults().Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s set
		ref := map[id]bool{}
		g := rapid.Custom(func(t *rapid.T) id {
			return id{Hi: rapid.SampledFrom([]uint64{0, 1, math.MaxUint64, 1 << 63, rapid.Uint64().Draw(t, "hi")}).Draw(t, "of"), Lo: rapid.Uint64Range(1, 300).Draw(t, "lo")}
		})
		for range rapid.IntRange(0, 500).Draw(t, "n") {
			h := g.Draw(t, "id")
			if s.has(h) != ref[h] || s.add(h) == ref[h] {
				t.Fatalf("%v is told wrong", h)
			}
			ref[h] = true
		}
		if s.n != len(ref) || 4*s.n > 3*max(1, len(s.slots)) {
			t.Fatalf("%d ids in %d slots, want %d", s.n, len(s.slots), len(ref))
		}
		for h := range maps.Keys(ref) {
			if !s.has(h) {
				t.Fatalf("%v is gone", h)
			}
		}
	})
}

// Ids of rows that are not committed stay, however long nobody comes near them: the table could not give them back.
func TestNotCommittedStays(t *testing.T) {
	dec := newPlain(t, memory.DefaultAllocator)
	now := time.Unix(0, 0)
	l := &lake{dec: dec}
	d := newDecoder(t, dec, l, 1000, &now)
	if err := d.Resume(t.Context(), engine.State{}); err != nil {
		t.Fatal(err)
	}
	dups := func(e event) int {
		o, err := d.Decode(fetchOf(e.p, e.o, e.o+1, []event{e}))
		if err != nil {
			t.Fatal(err)
		}
		if o.Rows != nil {
			o.Rows.Release()
		}
		return len(o.Duplicates)
	}
	first := event{0, 0, "a", 1000}
	n := dups(first)
	now = now.Add(2 * idleAfter)
	n += dups(event{0, 1, "b", 9_000_000})
	if n += dups(event{1, 0, "a", 2000}); n != 1 {
		t.Errorf("%d duplicates, want that of a", n)
	}
	now = now.Add(2 * idleAfter)
	l.rows = append(l.rows, first)
	d.Committed(offset.Vector{0: 2, 1: 1})
	dups(event{0, 2, "c", 9_000_000})
	if held := d.window.n; held != 2 {
		t.Errorf("%d ids are held, want b and c: a is committed", held)
	}
	if n := dups(event{1, 1, "a", 3000}); n != 1 {
		t.Error("what the table has was not read back")
	}
}
