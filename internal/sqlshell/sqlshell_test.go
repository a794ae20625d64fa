package sqlshell

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRows gives batches, then an error.
type fakeRows struct {
	schema   *arrow.Schema
	batches  []arrow.RecordBatch
	err      error
	at       int
	released bool
}

func (r *fakeRows) Schema() *arrow.Schema { return r.schema }
func (r *fakeRows) Next(ctx context.Context) bool {
	if r.at == len(r.batches) || ctx.Err() != nil {
		return false
	}
	r.at++
	return true
}
func (r *fakeRows) RecordBatch() arrow.RecordBatch { return r.batches[r.at-1] }
func (r *fakeRows) Err() error                     { return r.err }
func (r *fakeRows) Release() {
	r.released = true
	for _, b := range r.batches {
		b.Release()
	}
}

var everySchema = arrow.NewSchema([]arrow.Field{
	{Name: "i", Type: arrow.PrimitiveTypes.Int64},
	{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "b", Type: arrow.BinaryTypes.Binary, Nullable: true},
	{Name: "d", Type: &arrow.Decimal128Type{Precision: 20, Scale: 2}, Nullable: true},
	{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "n", Type: arrow.StructOf(
		arrow.Field{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		arrow.Field{Name: "m", Type: arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), Nullable: true},
	), Nullable: true},
	{Name: "e", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "z", Type: arrow.Null, Nullable: true},
}, nil)

// everything is two rows: one with a value of each type, one of NULLs, with an escape sequence in the text.
func everything(t *testing.T, mem memory.Allocator) *fakeRows {
	t.Helper()
	b := array.NewRecordBuilder(mem, everySchema)
	defer b.Release()
	b.Field(0).(*array.Int64Builder).AppendValues([]int64{math.MaxInt64, -1}, nil)
	b.Field(1).(*array.Float64Builder).Append(math.NaN())
	b.Field(2).(*array.StringBuilder).Append("a\x1b[2J\"q\",é\n")
	b.Field(3).(*array.BinaryBuilder).Append([]byte{0, 255})
	b.Field(4).(*array.Decimal128Builder).Append(decimal128.FromI64(-12345))
	b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Date(2026, 6, 4, 11, 1, 23, 456e6, time.UTC).UnixMicro()))
	b.Field(6).(*array.Date32Builder).Append(arrow.Date32FromTime(time.Date(2026, 6, 4, 0, 0, 0, 0, time.UTC)))
	st := b.Field(7).(*array.StructBuilder)
	st.Append(true)
	l := st.FieldBuilder(0).(*array.ListBuilder)
	l.Append(true)
	l.ValueBuilder().(*array.StringBuilder).Append("x")
	l.ValueBuilder().AppendNull()
	m := st.FieldBuilder(1).(*array.MapBuilder)
	m.Append(true)
	m.KeyBuilder().(*array.StringBuilder).Append("k")
	m.ItemBuilder().(*array.Int32Builder).Append(5)
	if err := b.Field(8).(*array.BinaryDictionaryBuilder).AppendString("red"); err != nil {
		t.Fatal(err)
	}
	b.Field(9).AppendNull()
	for _, f := range b.Fields()[1:] {
		f.AppendNull()
	}
	return &fakeRows{schema: everySchema, batches: []arrow.RecordBatch{b.NewRecordBatch()}}
}

func write(t *testing.T, f Format, rows *fakeRows, o WriteOptions) string {
	t.Helper()
	defer rows.Release()
	var out bytes.Buffer
	if _, err := Write(context.Background(), &out, f, rows, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func checked(t *testing.T) memory.Allocator {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	return mem
}

func TestTable(t *testing.T) {
	clock := time.Unix(100, 0)
	got := write(t, FormatTable, everything(t, checked(t)), WriteOptions{Began: clock, Now: func() time.Time { return clock.Add(1234 * time.Millisecond) }})
	want := strings.Join([]string{
		`                   i |    f | s               | b      |       d | t                        | day        | n                               | e    | z`,
		`---------------------+------+-----------------+--------+---------+--------------------------+------------+---------------------------------+------+------`,
		` 9223372036854775807 |  NaN | a\x1b[2J"q",é\n | \x00ff | -123.45 | 2026-06-04T11:01:23.456Z | 2026-06-04 | {"tags":["x",null],"m":{"k":5}} | red  | NULL`,
		`                  -1 | NULL | NULL            | NULL   |    NULL | NULL                     | NULL       | NULL                            | NULL | NULL`,
		`(2 rows, 1.234 s)`, ``,
	}, "\n")
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestTableKeepsToItsWidth(t *testing.T) {
	for _, limit := range []int{100, 130} {
		got := write(t, FormatTable, everything(t, checked(t)), WriteOptions{Width: limit})
		for _, line := range strings.Split(got, "\n") {
			if w := displayWidth(line); w > limit+2 { // the last column has no blank, its rule has
				t.Errorf("limit %d: a line of %d: %s", limit, w, line)
			}
		}
		if !strings.Contains(got, "…") {
			t.Errorf("limit %d: nothing was cut:\n%s", limit, got)
		}
	}
}

func TestCSVReadsBack(t *testing.T) {
	got := write(t, FormatCSV, everything(t, checked(t)), WriteOptions{})
	lines, err := csv.NewReader(strings.NewReader(got)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"i", "f", "s", "b", "d", "t", "day", "n", "e", "z"},
		{"9223372036854775807", "NaN", "a\x1b[2J\"q\",é\n", `\x00ff`, "-123.45", "2026-06-04T11:01:23.456Z", "2026-06-04", `{"tags":["x",null],"m":{"k":5}}`, "red", ""},
		{"-1", "", "", "", "", "", "", "", "", ""},
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
}

func TestCSVTellsEmptyFromNull(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(checked(t), schema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append("")
	b.Field(1).AppendNull()
	if got := write(t, FormatCSV, &fakeRows{schema: schema, batches: []arrow.RecordBatch{b.NewRecordBatch()}}, WriteOptions{}); got != "a,b\n\"\",\n" {
		t.Errorf("%q", got)
	}
}

func TestJSONIsJSON(t *testing.T) {
	got := write(t, FormatJSON, everything(t, checked(t)), WriteOptions{})
	want := `{"i":9223372036854775807,"f":"NaN","s":"a\u001b[2J\"q\",é\n","b":"AP8=","d":-123.45,"t":"2026-06-04T11:01:23.456Z","day":"2026-06-04","n":{"tags":["x",null],"m":{"k":5}},"e":"red","z":null}` + "\n" +
		`{"i":-1,"f":null,"s":null,"b":null,"d":null,"t":null,"day":null,"n":null,"e":null,"z":null}` + "\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

// Every string survives JSON, as encoding/json reads it.
func TestJSONStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		var back string
		if err := json.Unmarshal(appendJSONString(nil, s), &back); err != nil || back != s {
			t.Fatalf("%q came back as %q, %v", s, back, err)
		}
	})
}

func TestArrowReadsBack(t *testing.T) {
	mem := checked(t)
	rows := everything(t, mem)
	var out bytes.Buffer
	if _, err := Write(context.Background(), &out, FormatArrow, rows, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := ipc.NewReader(&out, ipc.WithAllocator(mem))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Next() || r.RecordBatch().NumRows() != 2 || !r.Schema().Equal(everySchema) {
		t.Errorf("came back as %v", r.Schema())
	}
	if r.Next() {
		t.Error("a second batch")
	}
	r.Release()
	rows.Release()
}

func TestAnErrorFollowsTheRows(t *testing.T) {
	for _, f := range Formats() {
		rows := everything(t, checked(t))
		rows.err = errors.New("the server went away")
		var out bytes.Buffer
		n, err := Write(context.Background(), &out, f, rows, WriteOptions{})
		if !errors.Is(err, rows.err) || n != 2 {
			t.Errorf("%s: %d rows, %v", f, n, err)
		}
		if out.Len() == 0 || strings.Contains(out.String(), "(2 rows") {
			t.Errorf("%s: wrote %q", f, out.String())
		}
		rows.Release()
	}
}

// A writer that fails ends the reading of rows.
func TestAClosedPipeEndsTheOutput(t *testing.T) {
	for _, f := range Formats() {
		rows := everything(t, checked(t))
		if _, err := Write(context.Background(), failingWriter{}, f, rows, WriteOptions{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: %v", f, err)
		}
		rows.Release()
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLaterRowsKeepTheWidths(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String}, {Name: "b", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(checked(t), schema)
	defer b.Release()
	for i := range sampleRows {
		b.Field(0).(*array.StringBuilder).Append("日本")
		b.Field(1).(*array.Int64Builder).Append(int64(i))
	}
	first := b.NewRecordBatch()
	b.Field(0).(*array.StringBuilder).Append("日本語です")
	b.Field(1).(*array.Int64Builder).Append(1)
	lines := strings.Split(write(t, FormatTable, &fakeRows{schema: schema, batches: []arrow.RecordBatch{first, b.NewRecordBatch()}}, WriteOptions{}), "\n")
	if got := lines[len(lines)-3]; got != " 日…  |   1 " {
		t.Errorf("%q", got)
	}
	if got := lines[len(lines)-2]; got != "(1001 rows)" {
		t.Errorf("%q", got)
	}
}

func TestFitNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		widths := rapid.SliceOfN(rapid.IntRange(0, 300), 1, 12).Draw(t, "widths")
		limit := rapid.IntRange(1, 400).Draw(t, "limit")
		got := append([]int(nil), widths...)
		fit(got, limit)
		total, untouched := 3*len(got)-1, true
		for i := range got {
			total += got[i]
			untouched = untouched && got[i] == widths[i]
			if got[i] > widths[i] || got[i] < min(widths[i], minColumn) {
				t.Fatalf("column %d went from %d to %d", i, widths[i], got[i])
			}
		}
		if total > limit {
			for i := range got {
				if got[i] > minColumn {
					t.Fatalf("%d > %d with a column of %d", total, limit, got[i])
				}
			}
		}
		before := 3*len(widths) - 1
		for _, w := range widths {
			before += w
		}
		if before <= limit && !untouched {
			t.Fatalf("%v fitted into %d and became %v", widths, limit, got)
		}
	})
}

func TestVisibleLeavesNothingThatActs(t *testing.T) {
	for in, want := range map[string]string{
		"plain é日":         "plain é日",
		"\x1b]0;title\x07": `\x1b]0;title\x07`,
		"a\u202eb":         `a\u202eb`,
		"\x9b31m":          `\x9b31m`, // not UTF-8
		"\u009b31m":        `\x9b31m`, // the C1 control
		"a\tb\r\n":         `a\tb\r\n`,
	} {
		if got := visible(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

// TestFloats: numbers of usual sizes have no exponent, and every text reads back as the number.
func TestFloats(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 180111.24: "180111.24", 1850769.5: "1850769.5", 1e20: "100000000000000000000", 1e21: "1e+21",
		-1e-6: "-0.000001", 9e-7: "9e-07", math.Inf(-1): "-Inf"} {
		got := string(appendFloat(nil, f, 64))
		if back, err := strconv.ParseFloat(got, 64); got != want || err != nil || back != f {
			t.Errorf("%v is printed as %s, want %s", f, got, want)
		}
	}
}
