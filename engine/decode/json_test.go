package decode

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

func TestDecodeGivesRowsOfTheTable(t *testing.T) {
	c := demoContract(t)
	d := decoderOf(t, c, Options{Mem: checked(t)})
	want, err := table.SchemaToArrowSchema(c.IcebergSchema(), nil, true, false)
	if err != nil {
		t.Fatal(err)
	}
	if !d.ArrowSchema().Equal(want) || !d.ArrowSchema().Metadata().Equal(want.Metadata()) {
		t.Fatalf("schema\n%s\nwant\n%s", d.ArrowSchema(), want)
	}
	later := strings.Replace(event, "11:01:23", "11:59:59", 1)
	out := mustDecode(t, d, event, `{"broken"`, later, event)
	defer out.Rows.Release()
	if !out.Rows.Schema().Equal(want) {
		t.Error("the batch has another schema")
	}
	rows := rowsJSON(t, out.Rows)
	const first = `schema_version=3 event_id="e-1" event_type="page_view" key={"session_id":"s456","user_id":"u123"} ` +
		`payload={"amount":0,"currency":"USD","page":"/home","referrer":"google"} ` +
		`metadata={"event_timestamp":"2026-06-04T11:01:23.456Z","source":"web-frontend","trace_id":"abcd-1234"}`
	if len(rows) != 3 || rows[0] != first || rows[2] != first {
		t.Errorf("rows:\n%s\nwant\n%s", strings.Join(rows, "\n"), first)
	}
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	if out.LastRow != 103 || out.Skipped != 0 || out.Range.Start != 100 || out.Range.End != 104 || out.Range.Partition != 2 || out.Range.LeaderEpoch != 7 {
		t.Errorf("out = %+v", out)
	}
	if want := time.Date(2026, 6, 4, 11, 59, 59, 456e6, time.UTC); !out.MaxEvent.Equal(want) {
		t.Errorf("MaxEvent = %v", out.MaxEvent)
	}
	if !out.MinKafka.Equal(time.UnixMilli(1_780_000_000_000)) {
		t.Errorf("MinKafka = %v", out.MinKafka)
	}
	if len(out.Dead) != 1 || out.Dead[0].Offset != 101 || string(out.Dead[0].Value) != `{"broken"` {
		t.Errorf("dead = %+v", out.Dead)
	}
	checkLedger(t, out.Rows, []int64{100, 102, 103})
}

func checkLedger(t *testing.T, rows arrow.RecordBatch, offsets []int64) {
	t.Helper()
	col := func(name string) arrow.Array { return rows.Column(rows.Schema().FieldIndices(name)[0]) }
	for i, want := range offsets {
		if p := col(ledger.ColPartition).(*array.Int32).Value(i); p != 2 {
			t.Errorf("row %d: partition %d", i, p)
		}
		if o := col(ledger.ColOffset).(*array.Int64).Value(i); o != want {
			t.Errorf("row %d: offset %d, want %d", i, o, want)
		}
		if ts := int64(col(ledger.ColTimestamp).(*array.Timestamp).Value(i)); ts != (1_780_000_000_000+(want-100)*1000)*1000 {
			t.Errorf("row %d: timestamp %d", i, ts)
		}
		if ts := int64(col(ledger.ColIngestedAt).(*array.Timestamp).Value(i)); ts != testNow.UnixMicro() {
			t.Errorf("row %d: ingested at %d", i, ts)
		}
	}
}

// validate holds every array of a batch to the Arrow format: full lengths, offsets that never fall, null counts.
func validate(b arrow.RecordBatch) error {
	for i, c := range b.Columns() {
		if c.Len() != int(b.NumRows()) {
			return fmt.Errorf("column %s has %d values, the batch %d rows", b.ColumnName(i), c.Len(), b.NumRows())
		}
		if err := validateData(c.Data()); err != nil {
			return fmt.Errorf("column %s: %w", b.ColumnName(i), err)
		}
	}
	return nil
}

func validateData(d arrow.ArrayData) error {
	a := array.MakeFromData(d)
	defer a.Release()
	nulls := 0
	for i := range a.Len() {
		if a.IsNull(i) {
			nulls++
		}
	}
	if nulls != a.NullN() {
		return fmt.Errorf("%s counts %d nulls and has %d", a.DataType(), a.NullN(), nulls)
	}
	if v, ok := a.(interface{ ValidateFull() error }); ok {
		if err := v.ValidateFull(); err != nil {
			return err
		}
	}
	for _, k := range d.Children() {
		if err := validateData(k); err != nil {
			return err
		}
	}
	return nil
}

func TestDecodeWithoutRowsGivesNoBatch(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	for _, payloads := range [][]string{{}, {"{}", "", "[]"}} {
		f := fetchOf(payloads...)
		f.End += 5 // control records
		out, err := d.Decode(f)
		if err != nil || out.Rows != nil || out.LastRow != -1 || len(out.Dead) != len(payloads) || out.Skipped != 5 || !out.MaxEvent.IsZero() {
			t.Errorf("%v: %+v, %v", payloads, out, err)
		}
		if out.MinKafka.IsZero() != (len(payloads) == 0) {
			t.Errorf("MinKafka = %v", out.MinKafka)
		}
	}
}

func TestDecodeRefusesABrokenFetch(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	for name, change := range map[string]func(*engine.Fetch){
		"before the start": func(f *engine.Fetch) { f.Records[0].Offset = 99 },
		"at the end":       func(f *engine.Fetch) { f.Records[1].Offset = 102 },
		"twice":            func(f *engine.Fetch) { f.Records[1].Offset = 100 },
		"no stretch":       func(f *engine.Fetch) { f.End = f.Start - 1; f.Records = nil },
	} {
		f := fetchOf(event, event)
		change(f)
		if _, err := d.Decode(f); !errors.Is(err, ErrFetch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	out := mustDecode(t, d, event)
	out.Rows.Release()
}

func TestKafkaTimestampsOfAnyValueAreStored(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	f := fetchOf(event, event, event)
	f.Records[0].TimestampMs, f.Records[1].TimestampMs, f.Records[2].TimestampMs = -1, math.MaxInt64, math.MinInt64
	out, err := d.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Rows.Release()
	col := out.Rows.Column(out.Rows.Schema().FieldIndices(ledger.ColTimestamp)[0]).(*array.Timestamp)
	for i, want := range []int64{-1000, maxMicros / 1000 * 1000, minMicros} {
		if int64(col.Value(i)) != want {
			t.Errorf("record %d: %d, want %d", i, col.Value(i), want)
		}
	}
	if out.MinKafka.UnixMicro() != maxMicros/1000*1000 {
		t.Errorf("MinKafka = %v", out.MinKafka)
	}
}

// evolved is a table of the demo's events after another engine worked on it: other ids, other order, a column more, the
// ledger in the middle.
func TestDecodeFollowsTheTableNotTheContract(t *testing.T) {
	c := oneField(t, `{"type":"integer","format":"int32"}`)
	extra := &iceberg.StructType{FieldList: []iceberg.NestedField{
		{ID: 31, Name: "l", Type: &iceberg.ListType{ElementID: 32, Element: iceberg.PrimitiveTypes.String}},
		{ID: 33, Name: "u", Type: iceberg.PrimitiveTypes.UUID},
	}}
	sc := iceberg.NewSchema(4,
		iceberg.NestedField{ID: 17, Name: ledger.ColOffset, Type: iceberg.PrimitiveTypes.Int64, Required: true},
		iceberg.NestedField{ID: 30, Name: "extra", Type: extra},
		iceberg.NestedField{ID: 18, Name: ledger.ColTimestamp, Type: iceberg.PrimitiveTypes.TimestampTz},
		iceberg.NestedField{ID: 19, Name: "v", Type: iceberg.PrimitiveTypes.Int64},
		iceberg.NestedField{ID: 20, Name: ledger.ColIngestedAt, Type: iceberg.PrimitiveTypes.TimestampTz},
		iceberg.NestedField{ID: 21, Name: ledger.ColPartition, Type: iceberg.PrimitiveTypes.Int32},
		iceberg.NestedField{ID: 40, Name: "m", Type: &iceberg.MapType{KeyID: 41, KeyType: iceberg.PrimitiveTypes.String, ValueID: 42, ValueType: iceberg.PrimitiveTypes.Int32}},
		iceberg.NestedField{ID: 43, Name: "d", Type: iceberg.DecimalTypeOf(10, 2)})
	d, err := NewJSON(c, sc, Options{Mem: checked(t), Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, `{"v":5}`, `{"v":"x"}`, `{"extra":{"l":["ignored"]}}`)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	want := []string{"extra=null v=5 m=null d=null", "extra=null v=null m=null d=null"}
	if got := rowsJSON(t, out.Rows); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("rows %q, want %q", got, want)
	}
	checkLedger(t, out.Rows, []int64{100, 102})
	if id, _ := out.Rows.Schema().Field(3).Metadata.GetValue("PARQUET:field_id"); id != "19" {
		t.Errorf("field id of v is %q", id)
	}
	if d.IgnoredFields() != 1 {
		t.Errorf("%d ignored fields", d.IgnoredFields())
	}
}

func TestBatchesHandedOutAreNeverWrittenAgain(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	type kept struct {
		rows arrow.RecordBatch
		text string
	}
	var all []kept
	for i := range 20 {
		payloads := make([]string, 1+i*7%40)
		for j := range payloads {
			payloads[j] = strings.Replace(event, "e-1", fmt.Sprintf("e-%d-%s", i*1000+j, strings.Repeat("x", j%50)), 1)
			if j%5 == 4 {
				payloads[j] = strings.Replace(payloads[j], `"source"`, `"source":1,"x"`, 1)
			}
		}
		out := mustDecode(t, d, payloads...)
		all = append(all, kept{out.Rows, strings.Join(rowsJSON(t, out.Rows), "\n")})
	}
	for i, k := range all {
		if got := strings.Join(rowsJSON(t, k.rows), "\n"); got != k.text {
			t.Errorf("batch %d changed after it was handed out", i)
		}
		k.rows.Release()
	}
}

func TestPayloadsAreCopied(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	f := fetchOf(event, strings.Replace(event, "page_view", "nothing", 1))
	f.Records[1].Key = []byte("key")
	f.Records[1].HeaderBytes, f.Records[1].HeaderCount = []byte("\x02h\x02v"), 1
	out, err := d.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Rows.Release()
	before := strings.Join(rowsJSON(t, out.Rows), "\n") + fmt.Sprint(out.Dead)
	for i := range f.Records { // the buffers go back to the source
		for _, b := range [][]byte{f.Records[i].Key, f.Records[i].Value, f.Records[i].HeaderBytes} {
			for j := range b {
				b[j] = '#'
			}
		}
	}
	if after := strings.Join(rowsJSON(t, out.Rows), "\n") + fmt.Sprint(out.Dead); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}

func TestSteadyStateAllocatesNothingPerEvent(t *testing.T) {
	allocatesNothing(t, decoderOf(t, demoContract(t), Options{}), 10_000, 0.005, event)
}

// allocatesNothing holds the allocations of a fetch of many of these payloads, in turn, against those of one of 100: what an event
// takes beside what its fetch takes anyway is at most most.
func allocatesNothing(t *testing.T, d engine.Decoder, many int, most float64, payloads ...string) {
	t.Helper()
	const few = 100
	allocs := func(n int) float64 {
		f := fetchOf(slices.Repeat(payloads, n/len(payloads))...)
		return testing.AllocsPerRun(20, func() {
			out, err := d.Decode(f)
			if err != nil {
				t.Fatal(err)
			}
			out.Rows.Release()
		})
	}
	a, b := allocs(few), allocs(many)
	if perEvent := (b - a) / float64(many-few); perEvent > most {
		t.Errorf("%v allocations for %d events, %v for %d", a, few, b, many)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	c := demoContract(t)
	for name, o := range map[string]Options{
		"negative depth":  {MaxDepth: -1},
		"negative size":   {MaxValueBytes: -1},
		"size of a batch": {MaxValueBytes: math.MaxInt32},
		"shallow":         {MaxDepth: 1},
		"event time":      {EventTime: "metadata.event_timestam"},
		"no timestamp":    {EventTime: "key.user_id"},
	} {
		if _, err := NewJSON(c, c.IcebergSchema(), o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	d := decoderOf(t, c, Options{EventTime: "metadata.event_timestamp", Mem: memory.DefaultAllocator})
	out := mustDecode(t, d, event)
	out.Rows.Release()
	if out.MaxEvent.IsZero() {
		t.Error("no event time")
	}
}

// A batch holds hardly more memory than its values take, whatever the fetch's size: at low rates fetches are small, and
// the tail keeps their batches for seconds.
func TestBatchesAreAsLargeAsTheirRows(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{})
	for _, n := range []int{1, 5, 20, 300, 2000} {
		payloads := make([]string, n)
		for i := range payloads {
			payloads[i] = event
		}
		for round := range 3 {
			out := mustDecode(t, d, payloads...)
			var buffers, size, room int
			for _, c := range out.Rows.Columns() {
				eachBuffer(c.Data(), func(b *memory.Buffer) { buffers++; size += b.Len(); room += b.Cap() })
			}
			out.Rows.Release()
			if most := size + size/2 + buffers*64; room > most && round > 0 {
				t.Errorf("%d events: %d buffers hold %d bytes for values of %d", n, buffers, room, size)
			}
		}
	}
}

func eachBuffer(d arrow.ArrayData, f func(*memory.Buffer)) {
	for _, b := range d.Buffers() {
		if b != nil {
			f(b)
		}
	}
	for _, k := range d.Children() {
		eachBuffer(k, f)
	}
}

// One huge value must not make the decoder reserve as much for each record of the next stretch.
func TestLargeValuesDoNotSizeTheNextBatch(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	d := decoderOf(t, oneField(t, `{"type":"string"}`), Options{Mem: mem})
	out := mustDecode(t, d, `{"v":"`+strings.Repeat("x", 1<<20)+`"}`)
	out.Rows.Release()
	out = mustDecode(t, d, strings.Split(strings.Repeat("{}\n", 1000), "\n")[:1000]...)
	defer out.Rows.Release()
	if held := mem.CurrentAlloc(); held > 100_000 {
		t.Errorf("%d bytes held for 1,000 empty events", held)
	}
}

// go test -bench JSON -count 6 ./engine/decode, for benchstat; bench/decode holds it against its peers.
func BenchmarkJSON(b *testing.B) {
	d := decoderOf(b, demoContract(b), Options{})
	for _, n := range []int{20, 2000} {
		payloads := make([]string, n)
		for i := range payloads {
			payloads[i] = event
		}
		f := fetchOf(payloads...)
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			b.SetBytes(int64(n * len(event)))
			b.ReportAllocs()
			for b.Loop() {
				out, err := d.Decode(f)
				if err != nil {
					b.Fatal(err)
				}
				out.Rows.Release()
			}
		})
	}
}

func BenchmarkDeadLetters(b *testing.B) {
	d := decoderOf(b, demoContract(b), Options{})
	f := fetchOf(strings.Split(strings.Repeat(event[:200]+"\n", 999)+event[:200], "\n")...)
	b.SetBytes(1000 * 200)
	b.ReportAllocs()
	for b.Loop() {
		out, err := d.Decode(f)
		if err != nil || len(out.Dead) != 1000 {
			b.Fatal(err)
		}
	}
}
