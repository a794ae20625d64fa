package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

const linedContract = `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":"integer"}}}`

// spots are the offsets and indexes of rows.
func spots(rows arrow.RecordBatch) []string {
	if rows == nil {
		return nil
	}
	col := func(name string) arrow.Array { return rows.Column(rows.Schema().FieldIndices(name)[0]) }
	var out []string
	for i := range int(rows.NumRows()) {
		out = append(out, col(ledger.ColOffset).ValueStr(i)+":"+col(ledger.ColIndex).ValueStr(i))
	}
	return out
}

func letterSpots(dead []engine.DeadLetter) []string {
	var out []string
	for _, d := range dead {
		out = append(out, fmt.Sprintf("%d:%d %s %s %q", d.Offset, d.Line, d.Reason, d.Place, d.Value))
	}
	return out
}

func TestLinesGiveRowsOfTheirOwn(t *testing.T) {
	d := decoderOf(t, contractOf(t, linedContract).WithLines(), Options{Mem: checked(t), MaxValueBytes: 100})
	f := fetchOf("{\"id\":\"a\"}\n{\"id\":1}\r\n\n \t\r\n  {\"id\":\"b\",\"n\":2}  \n{\"id\":\"c\"", "", "\n \n", `{"id":"d"}`, strings.Repeat(" ", 101), "{\"id\":\"e\"}\x00")
	f.Records[0].Key = []byte("k")
	out, err := d.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	if got := rowsJSON(t, out.Rows); !slices.Equal(got, []string{`id="a" n=null`, `id="b" n=2`, `id="d" n=null`}) {
		t.Errorf("rows %q", got)
	}
	if got := spots(out.Rows); !slices.Equal(got, []string{"100:0", "100:2", "103:0"}) {
		t.Errorf("rows stand at %v", got)
	}
	want := []string{`100:2 wrong_type /id "{\"id\":1}\r"`, `100:4 invalid_json  "{\"id\":\"c\""`, `101:0 empty_value  ""`, `102:0 empty_value  "\n \n"`,
		fmt.Sprintf("104:0 too_large  %q", f.Records[4].Value), `105:1 invalid_json  "{\"id\":\"e\"}\x00"`}
	if got := letterSpots(out.Dead); !slices.Equal(got, want) {
		t.Errorf("dead letters\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if string(out.Dead[0].Key) != "k" || out.LastRow != 103 || out.Events != 9 || out.Complete != 3 {
		t.Errorf("key %q, last row %d, %d of %d complete", out.Dead[0].Key, out.LastRow, out.Complete, out.Events)
	}
}

// TestLinesThatAreTooMany: what is refused as a whole leaves nothing of itself behind.
func TestLinesThatAreTooMany(t *testing.T) {
	d := decoderOf(t, ruled(t, linedContract, Rules{Rules: []Rule{{Column: "n", Min: "0", OnViolation: ActionFlag}}}).WithLines(), Options{Mem: checked(t)})
	many := strings.Repeat("{\"id\":\"x\",\"n\":-1}\n", maxLines)
	bad := strings.Repeat("{\"id\":\"x\",\"n\":-1}\n", 3) + strings.Repeat("{}\n", maxBadLines+1)
	out := mustDecode(t, d, `{"id":"a"}`, many+"{}", bad, strings.Repeat("{}\n", maxBadLines)+`{"id":"z"}`, `{"id":"b"}`)
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	if got := spots(out.Rows); !slices.Equal(got, []string{"100:0", "103:1000", "104:0"}) {
		t.Errorf("rows stand at %v", got)
	}
	if out.Dead[0].Reason != ReasonTooLarge || out.Dead[0].Line != 0 || out.Dead[1].Reason != ReasonMissingField || out.Dead[1].Line != 0 || string(out.Dead[1].Value) != bad || len(out.Dead) != 2+maxBadLines {
		t.Errorf("%d dead letters, the first %d %s, %d %s", len(out.Dead), out.Dead[0].Line, out.Dead[0].Reason, out.Dead[1].Line, out.Dead[1].Reason)
	}
}

// TestLinesOfDeadLettersAreReadAlone: a redriven line comes back with its number, beside others of its record.
func TestLinesOfDeadLettersAreReadAlone(t *testing.T) {
	d := decoderOf(t, contractOf(t, linedContract).WithLines(), Options{Mem: checked(t)})
	f := fetchOf(`{"id":"a"}`, "{\"id\":\"b\"}\n{\"id\":\"c\"}", `{"id":2}`)
	f.Records[0].Line, f.Records[1].Line, f.Records[2].Line = 3, 7, 8
	f.Records[1].Offset, f.Records[2].Offset = 100, 100
	out, err := d.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Rows.Release()
	if got := append(spots(out.Rows), letterSpots(out.Dead)...); !slices.Equal(got, []string{"100:2", `100:7 invalid_json  "{\"id\":\"b\"}\n{\"id\":\"c\"}"`, `100:8 wrong_type /id "{\"id\":2}"`}) {
		t.Errorf("%q", got)
	}
	for name, change := range map[string]func(*engine.Fetch){
		"twice":      func(f *engine.Fetch) { f.Records[1].Line = 3 },
		"whole":      func(f *engine.Fetch) { f.Records[1].Line = 0 },
		"descending": func(f *engine.Fetch) { f.Records[2].Line = 4 },
	} {
		g := *f
		g.Records = slices.Clone(f.Records)
		change(&g)
		if _, err := d.Decode(&g); !errors.Is(err, ErrFetch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinesNeedTheirColumn(t *testing.T) {
	c := contractOf(t, linedContract)
	if _, err := NewJSON(c.WithLines(), c.IcebergSchema(), Options{}); !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), "no column _kafka_index int") {
		t.Errorf("without the column: %v", err)
	}
	d, err := NewJSON(c, c.WithLines().IcebergSchema(), Options{Mem: checked(t)})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, `{"id":"a"}`)
	defer out.Rows.Release()
	if got := spots(out.Rows); !slices.Equal(got, []string{"100:(null)"}) {
		t.Errorf("a record that gives one row stands at %v", got)
	}
	rows, err := DeadRows(checked(t), DeadLetterSchema(true), func(int32) string { return "t" }, []engine.Dead{{DeadLetter: engine.DeadLetter{Offset: 5, Line: 3}}, {DeadLetter: engine.DeadLetter{Offset: 6}}}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Release()
	if got := spots(rows); !slices.Equal(got, []string{"5:2", "6:(null)"}) {
		t.Errorf("dead letters stand at %v", got)
	}
}

// FuzzLines holds the lines against encoding/json, line by line: the same rows, at the same indexes, the others dead.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "\n", "{\"id\":\"a\"}\n{}", "{\"id\":\"a\"}\r\n\r\n{\"id\":\"b\",\"n\":1}", "{\"id\":\n\"a\"}", "[1]\n{\"id\":\"x\\n\"}", "\xff\n{\"id\":\"\xff\"}", "{\"id\":\"a\"}{\"id\":\"b\"}"} {
		f.Add([]byte(s))
	}
	d := decoderOf(f, contractOf(f, linedContract).WithLines(), Options{})
	plain := decoderOf(f, contractOf(f, linedContract), Options{})
	f.Fuzz(func(t *testing.T, value []byte) {
		out := mustDecode(t, d, string(value))
		var rows, dead []string
		line := 0
		for one := range bytes.SplitSeq(value, []byte("\n")) {
			if len(bytes.Trim(one, " \t\r")) == 0 {
				continue
			}
			line++
			alone := mustDecode(t, plain, string(one))
			if alone.Rows != nil {
				if !json.Valid(one) {
					t.Errorf("line %d %q is not JSON and gives a row", line, one)
				}
				rows = append(rows, fmt.Sprintf("100:%d %s", line-1, rowsJSON(t, alone.Rows)[0]))
				alone.Rows.Release()
			}
			for _, l := range alone.Dead {
				l.Line = int32(line)
				dead = append(dead, letterSpots([]engine.DeadLetter{l})...)
			}
		}
		if line == 0 {
			dead = []string{fmt.Sprintf("100:0 empty_value  %q", value)}
		}
		var got []string
		for i, s := range spots(out.Rows) {
			got = append(got, s+" "+rowsJSON(t, out.Rows)[i])
		}
		if out.Rows != nil {
			if n := out.Rows.Column(0).(*array.String).Len(); n != len(rows) {
				t.Errorf("%d rows, want %d", n, len(rows))
			}
			out.Rows.Release()
		}
		if len(dead) <= maxBadLines && (!slices.Equal(got, rows) || !slices.Equal(letterSpots(out.Dead), dead)) {
			t.Errorf("rows %q\nwant %q\ndead %q\nwant %q", got, rows, letterSpots(out.Dead), dead)
		}
	})
}
