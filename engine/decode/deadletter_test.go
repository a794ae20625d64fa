package decode

import (
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

func TestDeadLettersSayWhatAndWhere(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t), MaxValueBytes: 4000})
	change := func(old, now string) string {
		if !strings.Contains(event, old) {
			t.Fatalf("no %s in the event", old)
		}
		return strings.Replace(event, old, now, 1)
	}
	long := strings.Repeat("ü", 100)
	for _, c := range []struct{ payload, reason, place, message string }{
		{"", ReasonEmptyValue, "", "the record has no value (byte 0)"},
		{strings.Repeat(" ", 4001), ReasonTooLarge, "", "the value has 4001 bytes, at most 4000 are read (byte 0)"},
		{"not JSON", ReasonInvalidJSON, "", `found 'n' where a value was expected (byte 0)`},
		{event[:40], ReasonInvalidJSON, "", "the payload ends inside a string (byte 40)"},
		{event[:14], ReasonInvalidJSON, "", "the payload ends inside a string (byte 14)"},
		{event + "{", ReasonInvalidJSON, "", `found '{' after the end of the event (byte 287)`},
		{change(`"e-1",`, `"e-1" `), ReasonInvalidJSON, "", `found '"' where ',' or '}' was expected (byte 37)`},
		{change(`3`, `03`), ReasonInvalidJSON, "/schema_version", `found '3' where a number as JSON writes it was expected (byte 19)`},
		{change(`3`, `"3"`), ReasonWrongType, "/schema_version", "string where the contract wants integer (byte 18)"},
		{change(`3`, `3000000000`), ReasonOutOfRange, "/schema_version", "the number does not fit 32 bits (byte 18)"},
		{change(`3`, `0`), ReasonOutOfRange, "/schema_version", "the contract wants at least 1 (byte 18)"},
		{change(`"e-1"`, `""`), ReasonOutOfRange, "/event_id", "the string has 0 characters, the contract allows at least 1 (byte 31)"},
		{change(`page_view`, `view`), ReasonNotInEnum, "/event_type", "the value is none of: page_view, click, purchase, signup (byte 50)"},
		{change(`"user_id":"u123",`, ``), ReasonMissingField, "/key/user_id", "a required field is missing: user_id (byte 88)"},
		{change(`"u123"`, `null`), ReasonWrongType, "/key/user_id", "null where the contract wants string; a type of [string, null] takes both (byte 79)"},
		{change(`{"user_id":"u123","session_id":"s456"}`, `[]`), ReasonWrongType, "/key", "array where the contract wants object (byte 68)"},
		{change(`"amount":0`, `"amount":-1`), ReasonOutOfRange, "/payload/amount", "the contract wants at least 0 (byte 179)"},
		{change(`"amount":0`, `"amount":1,"amount":0`), ReasonDuplicateKey, "/payload/amount", "the key is there twice (byte 190)"},
		{change(`2026-06-04T`, `2026-06-31T`), ReasonInvalidFormat, "/metadata/event_timestamp", "the string is not an RFC 3339 date-time with an offset, such as 2026-06-04T11:01:23.456Z (byte 212)"},
		{change(`"google"`, "\"\xfe\""), ReasonInvalidUTF8, "/payload/referrer", "byte 0xfe is not UTF-8 here (byte 145)"},
		{change(`"google"`, `"\ud800"`), ReasonInvalidUTF8, "/payload/referrer", "the string holds half a surrogate pair, which has no UTF-8 form (byte 144)"},
		{change(`"google"`, `"\q"`), ReasonInvalidJSON, "/payload/referrer", `\ followed by 'q' is no escape of JSON (byte 145)`},
		{change(`"google"`, "\"\x1f\""), ReasonInvalidJSON, "/payload/referrer", "control character 0x1f inside a string must be escaped (byte 145)"},
		{change(`"source"`, `"x~/y":[[}],"source"`), ReasonInvalidJSON, "/metadata/x~0~1y", `found '}' where a value was expected (byte 271)`},
		{change(`"source"`, `"`+long+`":!,"source"`), ReasonInvalidJSON, "/metadata/" + long[:128] + "…", `found '!' where a value was expected (byte 465)`},
		{change(`"source"`, `"x`+long+`":!,"source"`), ReasonInvalidJSON, "/metadata/x" + long[:126] + "…", `found '!' where a value was expected (byte 466)`},
	} {
		f := fetchOf(c.payload)
		f.Records[0].Key = []byte("k")
		out, err := d.Decode(f)
		if err != nil || out.Rows != nil || len(out.Dead) != 1 {
			t.Fatalf("%.60q: %+v, %v", c.payload, out, err)
		}
		l := out.Dead[0]
		if l.Reason != c.reason || l.Place != c.place || l.Message != c.message {
			t.Errorf("%.60q\n  is  %s %s %s\nwant %s %s %s", c.payload, l.Reason, l.Place, l.Message, c.reason, c.place, c.message)
		}
		if string(l.Value) != c.payload || string(l.Key) != "k" || l.Offset != 100 || l.TimestampMs != f.Records[0].TimestampMs {
			t.Errorf("%.60q: %+v", c.payload, l)
		}
		if !utf8.ValidString(l.Place) || !utf8.ValidString(l.Message) {
			t.Errorf("%.60q: not UTF-8", c.payload)
		}
	}
}

func TestReasonsAreCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		if seen[r] || r == "" || strings.Trim(r, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("reason %q", r)
		}
		seen[r] = true
	}
}

func TestTombstonesKeepTheirNull(t *testing.T) {
	d := decoderOf(t, demoContract(t), Options{Mem: checked(t)})
	f := fetchOf("", "")
	f.Records[0].Value = nil
	out, err := d.Decode(f)
	if err != nil || out.Dead[0].Value != nil || out.Dead[1].Value == nil || out.Dead[0].Key != nil {
		t.Errorf("%+v, %v", out.Dead, err)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	d := decoderOf(t, oneField(t, `{"type":"string","pattern":"^(`+strings.Repeat("ü|", 1000)+`x)$"}`), Options{Mem: checked(t)})
	out := mustDecode(t, d, `{"v":"no"}`)
	if m := out.Dead[0].Message; len(m) > maxMessage+40 || !utf8.ValidString(m) {
		t.Errorf("%d bytes: %s", len(m), m)
	}
}

func TestDeadRowsKeepEveryByte(t *testing.T) {
	sc := DeadLetterSchema(false)
	mem := checked(t)
	dead := []engine.Dead{
		{Partition: 3, DeadLetter: engine.DeadLetter{Reason: ReasonWrongType, Place: "/a", Message: "m", Offset: 7, TimestampMs: 1_780_000_000_000,
			Key: []byte("k\xff"), Value: []byte("v\x00\xfe"), Headers: []engine.Header{{Key: "h", Value: []byte{1}}, {Key: "h", Value: []byte{2}}, {Key: "n"}},
			SchemaID: math.MaxUint32, HasSchema: true, TraceID: [16]byte{0x4b, 15: 1}}},
		{Partition: 0, DeadLetter: engine.DeadLetter{Reason: "r\xff", Place: "/\xff", Message: "\xffm", Offset: 8, TimestampMs: math.MinInt64, Value: []byte{},
			Headers: []engine.Header{{Key: "\xff", Value: nil}}}},
	}
	rows, err := DeadRows(mem, sc, func(int32) string { return "topic" }, dead, testNow)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Release()
	want, err := table.SchemaToArrowSchema(sc, nil, true, false)
	if err != nil || !rows.Schema().Equal(want) {
		t.Fatalf("schema %s, %v", rows.Schema(), err)
	}
	if err := validate(rows); err != nil {
		t.Error(err)
	}
	col := func(i int) []any {
		out := make([]any, sc.NumFields())
		for j := range out {
			out[j] = stored(rows.Column(j), i)
		}
		return out
	}
	first := []any{"wrong_type", "/a", "m", "topic", []byte("k\xff"), []byte("v\x00\xfe"), []any{[]any{"h", []byte{2}}, []any{"n", nil}},
		int64(math.MaxUint32), "4b000000000000000000000000000001", int64(3), int64(7), int64(1_780_000_000_000_000), testNow.UnixMicro()}
	second := []any{"r\ufffd", "/\ufffd", "\ufffdm", "topic", nil, []byte{}, []any{[]any{"\ufffd", nil}}, nil, nil, int64(0), int64(8), int64(minMicros), testNow.UnixMicro()}
	for i, want := range [][]any{first, second} {
		for j, got := range col(i) {
			if !equalPlain(got, want[j]) {
				t.Errorf("row %d %s: %v, want %v", i, rows.ColumnName(j), got, want[j])
			}
		}
	}
	for i := range rows.NumCols() {
		if s, ok := rows.Column(int(i)).(*array.String); ok {
			for j := range s.Len() {
				if !utf8.ValidString(s.Value(j)) {
					t.Errorf("%s of row %d is not UTF-8", rows.ColumnName(int(i)), j)
				}
			}
		}
	}
}

func TestDeadRowsFollowTheTable(t *testing.T) {
	prim := iceberg.PrimitiveTypes
	mem := checked(t)
	sc := iceberg.NewSchema(3, iceberg.NestedField{ID: 5, Name: ledger.ColOffset, Type: prim.Int64},
		iceberg.NestedField{ID: 6, Name: "ticket", Type: prim.String}, iceberg.NestedField{ID: 7, Name: "reason", Type: prim.String})
	rows, err := DeadRows(mem, sc, func(int32) string { return "t" }, []engine.Dead{{DeadLetter: engine.DeadLetter{Reason: "r", Offset: 9}}}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if got := rowsJSON(t, rows); got[0] != `ticket=null reason="r"` {
		t.Error(got)
	}
	rows.Release()
	for _, f := range []iceberg.NestedField{{ID: 1, Name: "reason", Type: prim.Int32}, {ID: 1, Name: "headers", Type: prim.String},
		{ID: 1, Name: "headers", Type: &iceberg.MapType{KeyID: 2, KeyType: prim.String, ValueID: 3, ValueType: prim.Int32}}} {
		if _, err := DeadRows(mem, iceberg.NewSchema(0, f), func(int32) string { return "t" }, make([]engine.Dead, 1), testNow); !errors.Is(err, ErrContract) {
			t.Errorf("%s: %v", f, err)
		}
	}
	rows, err = DeadRows(mem, DeadLetterSchema(false), func(int32) string { return "t" }, nil, testNow)
	if err != nil || rows.NumRows() != 0 {
		t.Errorf("no dead letters: %v, %v", rows, err)
	}
	rows.Release()
}
