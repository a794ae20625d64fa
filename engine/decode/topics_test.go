package decode

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
)

// TestRowsSayTheirTopic: the column is the fetch's topic in each row, whatever was decoded before; a table that was made without it
// gets it, and where there is one topic a table that has it keeps it null.
func TestRowsSayTheirTopic(t *testing.T) {
	one := contractOf(t, linedContract)
	several := one.WithTopics()
	d := decoderOf(t, several, Options{Mem: checked(t)})
	long := strings.Repeat("long.", 40)
	for _, f := range []struct {
		topic  string
		values []string
	}{{"a", []string{`{"id":"1"}`, `bad`, `{"id":"2"}`}}, {long, []string{`{"id":"3"}`}}, {"b", []string{`bad`}}, {"b", []string{`{"id":"4"}`, `{"id":"5"}`, `{"id":"6"}`}}} {
		in := fetchOf(f.values...)
		in.Topic = f.topic
		out, err := d.Decode(in)
		if err != nil {
			t.Fatal(err)
		}
		if out.Rows == nil {
			continue
		}
		if err := validate(out.Rows); err != nil {
			t.Error(err)
		}
		col := out.Rows.Column(out.Rows.Schema().FieldIndices(ledger.ColTopic)[0])
		for i := range col.Len() {
			if col.IsNull(i) || col.ValueStr(i) != f.topic {
				t.Errorf("row %d of topic %.10s says %.10s", i, f.topic, col.ValueStr(i))
			}
		}
		out.Rows.Release()
	}

	for _, c := range []struct {
		what     string
		contract *Contract
		table    *iceberg.Schema
		want     string
	}{{"a table of one topic", several, one.IcebergSchema(), `["t"]`}, {"a table of several, read as one", one, several.IcebergSchema(), "[(null)]"}} {
		d, err := NewJSON(c.contract, c.table, Options{Mem: checked(t)})
		if err != nil {
			t.Fatal(err)
		}
		in := fetchOf(`{"id":"1"}`)
		in.Topic = "t"
		out, err := d.Decode(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(out.Rows.Column(out.Rows.Schema().FieldIndices(ledger.ColTopic)[0])); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		out.Rows.Release()
	}
}

func TestDeadLettersNameTheirTopics(t *testing.T) {
	of := func(p int32) string { return fmt.Sprint("topic", p) }
	rows, err := DeadRows(checked(t), DeadLetterSchema(false), of, []engine.Dead{{Partition: 3}, {Partition: 1 << 20}}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Release()
	if got := fmt.Sprint(rows.Column(rows.Schema().FieldIndices(colTopic)[0])); got != `["topic3" "topic1048576"]` {
		t.Errorf("topics %s", got)
	}
}
