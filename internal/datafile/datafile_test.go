package datafile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/objstore"
)

// everything has each type that Firn writes, nested ones included.
func everything() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(3,
		iceberg.NestedField{ID: 1, Name: "b", Type: p.Bool},
		iceberg.NestedField{ID: 2, Name: "i", Type: p.Int32},
		iceberg.NestedField{ID: 3, Name: "l", Type: p.Int64},
		iceberg.NestedField{ID: 4, Name: "d", Type: p.Float64},
		iceberg.NestedField{ID: 5, Name: "s", Type: p.String},
		iceberg.NestedField{ID: 6, Name: "bin", Type: p.Binary},
		iceberg.NestedField{ID: 7, Name: "date", Type: p.Date},
		iceberg.NestedField{ID: 8, Name: "time", Type: p.Time},
		iceberg.NestedField{ID: 9, Name: "ts", Type: p.TimestampTz},
		iceberg.NestedField{ID: 10, Name: "uuid", Type: p.UUID},
		iceberg.NestedField{ID: 11, Name: "dec", Type: iceberg.DecimalTypeOf(10, 2)},
		iceberg.NestedField{ID: 12, Name: "bigdec", Type: iceberg.DecimalTypeOf(30, 3)},
		iceberg.NestedField{ID: 13, Name: "st", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
			{ID: 14, Name: "x", Type: p.Int32}, {ID: 15, Name: "y", Type: p.String}}}},
		iceberg.NestedField{ID: 16, Name: "list", Type: &iceberg.ListType{ElementID: 17, Element: p.Int64}},
		iceberg.NestedField{ID: 18, Name: "map", Type: &iceberg.MapType{KeyID: 19, KeyType: p.String, ValueID: 20, ValueType: p.Float64}},
		iceberg.NestedField{ID: 21, Name: "_kafka_offset", Type: p.Int64},
	)
}

func rowsJSON(n, from int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := from; i < from+n; i++ {
		if i > from {
			b.WriteByte(',')
		}
		if i%7 == 3 {
			fmt.Fprintf(&b, `{"_kafka_offset":%d}`, i)
			continue
		}
		fmt.Fprintf(&b, `{"b":%t,"i":%d,"l":%d,"d":%g,"s":"value number %06d","bin":"AAEC","date":"2026-06-%02d","time":"11:01:23.%06d","ts":"2026-06-04T11:01:23.%06dZ",
			"uuid":"01234567-89ab-cdef-0123-4567%08d","dec":"%d.25","bigdec":"-%d.125","st":{"x":%d,"y":"é%d"},"list":[%d,null],"map":[{"key":"k","value":%d}],"_kafka_offset":%d}`,
			i%2 == 0, i-5, int64(i)<<33, float64(i)/4-3, i, i%28+1, i, i, i, i-50, i, i, i, i, i, i)
	}
	b.WriteByte(']')
	return b.String()
}

func batch(t testing.TB, mem memory.Allocator, sc *iceberg.Schema, js string) arrow.RecordBatch {
	t.Helper()
	as, err := ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := array.RecordFromJSON(mem, as, strings.NewReader(js))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func encode(t testing.TB, o WriteOptions, rows ...arrow.RecordBatch) ([]byte, Stats) {
	t.Helper()
	var buf bytes.Buffer
	st, err := Write(&buf, everything(), rows, o)
	if err != nil {
		t.Fatal(err)
	}
	if st.Bytes != int64(buf.Len()) {
		t.Fatalf("stats say %d bytes, %d were written", st.Bytes, buf.Len())
	}
	return buf.Bytes(), st
}

func TestRoundTrip(t *testing.T) {
	for codec := range Codecs {
		t.Run(codec, func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			a, b := batch(t, mem, everything(), rowsJSON(60, 0)), batch(t, mem, everything(), rowsJSON(45, 60))
			defer a.Release()
			defer b.Release()
			o := DefaultWriteOptions()
			o.Codec, o.RowGroupRows = codec, 50
			data, st := encode(t, o, a, b)
			if st.Rows != 105 || len(st.SplitOffsets) != 3 {
				t.Fatalf("%d rows in %d row groups", st.Rows, len(st.SplitOffsets))
			}
			r, err := NewReader(bytes.NewReader(data), int64(len(data)), "f", ReadOptions{BatchRows: 17})
			if err != nil {
				t.Fatal(err)
			}
			var at int64
			err = r.Scan(t.Context(), everything(), func(got arrow.RecordBatch) error {
				for i := range got.NumRows() {
					src, k := a, at+i
					if k >= 60 {
						src, k = b, k-60
					}
					want := src.NewSlice(k, k+1)
					one := got.NewSlice(i, i+1)
					if !array.RecordEqual(want, one) {
						t.Fatalf("row %d: %v, want %v", at+i, one, want)
					}
					want.Release()
					one.Release()
				}
				at += got.NumRows()
				return nil
			})
			if err != nil || at != 105 {
				t.Fatalf("%d rows, %v", at, err)
			}
		})
	}
}

func TestStats(t *testing.T) {
	r := batch(t, memory.DefaultAllocator, everything(), rowsJSON(100, 0))
	defer r.Release()
	o := DefaultWriteOptions()
	o.RowGroupRows = 30
	_, st := encode(t, o, r)
	if st.ValueCounts[2] != 100 || st.NullCounts[2] != 14 || st.NullCounts[21] != 0 || st.ValueCounts[17] != 200-14 {
		t.Errorf("counts: values %v, nulls %v", st.ValueCounts, st.NullCounts)
	}
	literal := func(id int, b []byte) string {
		f, _ := everything().FindFieldByID(id)
		l, err := iceberg.LiteralFromBytes(f.Type, b)
		if err != nil {
			t.Fatalf("bound of %s: %v", f.Name, err)
		}
		return l.String()
	}
	for id, want := range map[int][2]string{
		1: {"false", "true"}, 2: {"-5", "94"}, 3: {"0", fmt.Sprint(int64(99) << 33)}, 4: {"-3", "21.75"},
		5: {"value number 000", "value number 001"}, 7: {"2026-06-01", "2026-06-28"}, 11: {"-50.25", "49.25"}, 12: {"-99.125", "-0.125"},
		14: {"0", "99"}, 15: {"é0", "é99"}, 21: {"0", "99"},
	} {
		if lo, up := literal(id, st.Lower[id]), literal(id, st.Upper[id]); lo != want[0] || up != want[1] {
			t.Errorf("field %d: bounds %s and %s, want %s and %s", id, lo, up, want[0], want[1])
		}
	}
	for _, id := range []int{17, 19, 20} {
		if _, ok := st.Lower[id]; ok {
			t.Errorf("field %d lies in a list or map and has a bound", id)
		}
	}
}

func TestBoundsOfEdges(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"}, {strings.Repeat("a", 17), strings.Repeat("a", 15) + "b"},
		{strings.Repeat("a", 15) + "\U0010FFFF" + "z", strings.Repeat("a", 14) + "b"},
		{strings.Repeat("é", 20), strings.Repeat("é", 15) + "ê"},
		{strings.Repeat("a", 15) + "\uD7FF" + "z", strings.Repeat("a", 15) + "\uE000"},
	} {
		if got := string(raiseString([]byte(c.in), 16)); got != c.want || got < c.in {
			t.Errorf("%q is raised to %q, want %q", c.in, got, c.want)
		}
	}
	if raiseString([]byte(strings.Repeat("\U0010FFFF", 17)), 16) != nil || raiseBytes(bytes.Repeat([]byte{0xff}, 17), 16) != nil {
		t.Error("a value without a greater neighbour has no upper bound")
	}
	if math.Signbit(math.Float64frombits(le64(signedZero(make([]byte, 8), true)))) != true {
		t.Error("the least zero is -0")
	}
	r := batch(t, memory.DefaultAllocator, everything(), `[{"d":0,"_kafka_offset":1}]`)
	nan := array.NewFloat64Builder(memory.DefaultAllocator)
	nan.AppendValues([]float64{math.NaN()}, nil)
	cols := append([]arrow.Array(nil), r.Columns()...)
	cols[3] = nan.NewArray()
	_, st := encode(t, DefaultWriteOptions(), array.NewRecordBatch(r.Schema(), cols, 1))
	if st.NaNCounts[4] != 1 || st.Lower[4] != nil {
		t.Errorf("a file of NaN: count %v, bound %v", st.NaNCounts, st.Lower[4])
	}
}

func TestProjection(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	src := batch(t, mem, everything(), rowsJSON(20, 0))
	defer src.Release()
	data, _ := encode(t, DefaultWriteOptions(), src)
	p := iceberg.PrimitiveTypes
	for name, c := range map[string]struct {
		want *iceberg.Schema
		row  string // of row 1
	}{
		"reordered and renamed": {iceberg.NewSchema(4, iceberg.NestedField{ID: 5, Name: "text", Type: p.String}, iceberg.NestedField{ID: 2, Name: "i", Type: p.Int32}),
			`{"text":"value number 000001","i":-4}`},
		"new columns are null": {iceberg.NewSchema(4, iceberg.NestedField{ID: 99, Name: "new", Type: p.String}, iceberg.NestedField{ID: 2, Name: "i", Type: p.Int32}),
			`{"new":null,"i":-4}`},
		"nothing of it": {iceberg.NewSchema(4, iceberg.NestedField{ID: 99, Name: "new", Type: p.String}), `{"new":null}`},
		"widened":       {iceberg.NewSchema(4, iceberg.NestedField{ID: 2, Name: "i", Type: p.Int64}), `{"i":-4}`},
		"nested evolved": {iceberg.NewSchema(4, iceberg.NestedField{ID: 13, Name: "st", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
			{ID: 15, Name: "y", Type: p.String}, {ID: 77, Name: "z", Type: p.Int32}}}}), `{"st":{"y":"é1","z":null}}`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(data), int64(len(data)), "f", ReadOptions{Mem: mem})
			if err != nil {
				t.Fatal(err)
			}
			want := batch(t, mem, c.want, "["+c.row+"]")
			defer want.Release()
			var rows int64
			if err := r.Scan(t.Context(), c.want, func(b arrow.RecordBatch) error {
				rows += b.NumRows()
				one := b.NewSlice(1, 2)
				defer one.Release()
				if !array.RecordEqual(one, want) {
					t.Errorf("got %v, want %v", one, want)
				}
				return nil
			}); err != nil || rows != 20 {
				t.Fatalf("%d rows, %v", rows, err)
			}
		})
	}
}

func TestOpenFromStore(t *testing.T) {
	store := objstore.NewMemory()
	src := batch(t, memory.DefaultAllocator, everything(), rowsJSON(20, 0))
	data, _ := encode(t, DefaultWriteOptions(), src)
	if _, err := store.Put(t.Context(), "t/data/a.parquet", bytes.NewReader(data), objstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), store, "t/data/a.parquet", ReadOptions{})
	if err != nil || r.Rows() != 20 {
		t.Fatalf("%v", err)
	}
	defer r.Close()
	if _, err := Open(t.Context(), store, "t/data/none.parquet", ReadOptions{}); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := store.Put(t.Context(), "text", strings.NewReader("this is no Parquet file at all"), objstore.IfAbsent); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), store, "text", ReadOptions{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "text") {
		t.Errorf("not Parquet: %v", err)
	}
}

// TestMutants changes bytes of a file: each mutant gives rows or an error, in bounded time, and never a panic.
func TestMutants(t *testing.T) {
	src := batch(t, memory.DefaultAllocator, everything(), rowsJSON(40, 0))
	data, _ := encode(t, DefaultWriteOptions(), src)
	n := 3000
	if testing.Short() {
		n = 300
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range n {
		m := bytes.Clone(data)
		for range 1 + rnd.IntN(4) {
			m[rnd.IntN(len(m))] = byte(rnd.Uint32())
		}
		readAll(t, m)
	}
}

func readAll(t testing.TB, data []byte) {
	r, err := NewReader(bytes.NewReader(data), int64(len(data)), "mutant", ReadOptions{})
	if err == nil {
		err = r.Scan(t.Context(), everything(), func(arrow.RecordBatch) error { return nil })
	}
	if err != nil && !strings.Contains(err.Error(), "mutant") {
		t.Errorf("the error does not name the file: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	src := batch(f, memory.DefaultAllocator, everything(), rowsJSON(10, 0))
	data, _ := encode(f, DefaultWriteOptions(), src)
	f.Add(data)
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) { readAll(t, data) })
}
