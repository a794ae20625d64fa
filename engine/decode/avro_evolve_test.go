package decode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/twmb/avro"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/registry"
)

// record is an Avro record of the given fields.
func record(fields string) string { return `{"type":"record","name":"e","fields":[` + fields + `]}` }

// schemasOf is a registry of Avro schemas, whose ids are their places.
func schemasOf(texts ...string) schemaList {
	var out schemaList
	for i, text := range texts {
		out = append(out, registry.Schema{ID: i, Type: registry.TypeAvro, Text: text})
	}
	return out
}

// follower follows the schemas of a list, beginning with one of them and a table; nil is one made of it.
func follower(t *testing.T, reg schemaList, begin int, sc *iceberg.Schema, policy string) *Avro {
	t.Helper()
	c := avroContractOf(t, reg[begin].Text)
	if sc == nil {
		sc = c.IcebergSchema()
	}
	d, err := NewAvro(c, sc, AvroOptions{Options: Options{Mem: checked(t), Now: func() time.Time { return testNow }, OnIncompatible: policy}, Schemas: reg, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func avroContractOf(t *testing.T, text string) *Contract {
	t.Helper()
	c, err := LoadAvro([]byte(text), nil, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func written(t *testing.T, reg schemaList, id int, v map[string]any) string {
	t.Helper()
	body, err := avro.MustParse(reg[id].Text).Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return confluent(uint32(id), body)
}

// Events of five schemas in one stretch and in any order: what each has is there, what it has not is null or its default,
// and the rows are all in one schema that has it all.
func TestAvroFollowsItsWriters(t *testing.T) {
	reg := schemasOf(
		record(`{"name":"id","type":"string"},{"name":"n","type":"int"},{"name":"f","type":"float"},{"name":"kind","type":{"type":"enum","name":"kind","symbols":["a","b"]}}`),
		record(`{"name":"id","type":"string"},{"name":"n","type":"long"},{"name":"f","type":"double"},{"name":"kind","type":{"type":"enum","name":"kind","symbols":["b","c"]}},
			{"name":"note","type":["null","string"],"default":null}`),
		record(`{"name":"n","type":"int"},{"name":"f","type":"float"},{"name":"kind","type":{"type":"enum","name":"kind","symbols":["a"]}},
			{"name":"at","type":["null",{"type":"record","name":"place","fields":[{"name":"lat","type":"double"}]}]}`),
		record(`{"name":"id","type":"string"},{"name":"n","type":"long"},{"name":"f","type":"float"},{"name":"kind","type":{"type":"enum","name":"kind","symbols":["a"]}},
			{"name":"at","type":["null",{"type":"record","name":"place","fields":[{"name":"lat","type":"double"},{"name":"lon","type":["double","null"]}]}]},{"name":"count","type":"int","default":7}`),
		record(`{"name":"id","type":["null","string"]},{"name":"n","type":"int"},{"name":"f","type":"float"},{"name":"kind","type":{"type":"enum","name":"kind","symbols":["a"]}},
			{"name":"tags","type":{"type":"array","items":{"type":"map","values":["null","int"]}},"default":[]}`))
	d := follower(t, reg, 0, nil, Stop)
	first := d.ArrowSchema()
	zero := written(t, reg, 0, map[string]any{"id": "zero", "n": 1, "f": float32(0.5), "kind": "b"})
	out := mustDecode(t, d,
		written(t, reg, 3, map[string]any{"id": "three", "n": int64(1) << 40, "f": float32(0.5), "kind": "a", "at": map[string]any{"lat": 1.5, "lon": 2.5}, "count": 3}),
		zero,
		written(t, reg, 1, map[string]any{"id": "one", "n": int64(2), "f": 0.25, "kind": "c", "note": "x"}),
		written(t, reg, 4, map[string]any{"id": nil, "n": 4, "f": float32(4), "kind": "a", "tags": []any{map[string]any{"k": 1}}}),
		written(t, reg, 2, map[string]any{"n": 5, "f": float32(5), "kind": "a", "at": map[string]any{"lat": 5.5}}))
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`id="three" n=1099511627776 f=0.5 kind="a" at={"lat":1.5,"lon":2.5} count=3 note=null tags=[]`,
		`id="zero" n=1 f=0.5 kind="b" at=null count=7 note=null tags=[]`,
		`id="one" n=2 f=0.25 kind="c" at=null count=7 note="x" tags=[]`,
		`id=null n=4 f=4 kind="a" at=null count=7 note=null tags=[[{"key":"k","value":1}]]`,
		`id=null n=5 f=5 kind="a" at={"lat":5.5,"lon":null} count=7 note=null tags=[]`,
	}
	if got := rowsJSON(t, out.Rows); strings.Join(got, "\n") != strings.Join(want, "\n") || len(out.Dead) > 0 {
		t.Errorf("rows\n%s\nwant\n%s\ndead %v", strings.Join(got, "\n"), strings.Join(want, "\n"), out.Dead)
	}
	if !out.Rows.Schema().Equal(d.ArrowSchema()) || d.ArrowSchema().Equal(first) {
		t.Error("the decoder's schema is not that of its rows, or did not grow")
	}
	if got := out.SchemaIDs; len(got) != 5 || got[0] != 3 || got[4] != 2 {
		t.Errorf("schema ids %v", got)
	}
	sc := avroContractOf(t, reg[0].Text).IcebergSchema()
	for _, f := range d.table.Fields() {
		was, known := sc.FindFieldByName(f.Name)
		if known && was.ID != f.ID || !known && f.ID < evolve.FirstNew || f.Required {
			t.Errorf("column %s has the id %d, required %v; it had %d", f.Name, f.ID, f.Required, was.ID)
		}
	}
	again := mustDecode(t, d, zero)
	defer again.Rows.Release()
	if got := rowsJSON(t, again.Rows); got[0] != want[1] {
		t.Errorf("later: %s", got)
	}
}

// What cannot be followed, by each policy. The first schema is the table's.
func TestAvroIncompatibleSchemas(t *testing.T) {
	const id = `{"name":"id","type":"string"}`
	for name, c := range map[string]struct {
		field, next string
		value       any
		says        string // part of the reason
		row         string // of new_column; empty for a dead letter even so
	}{
		"string to int":    {`{"name":"v","type":"string"}`, `{"name":"v","type":"int"}`, 5, "written as int, wanted as string", `id="x" v=null v_v2=5`},
		"decimal to text":  {`{"name":"v","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}`, `{"name":"v","type":"string"}`, "5", "", `id="x" v=null v_v2="5"`},
		"long to double":   {`{"name":"v","type":"long"}`, `{"name":"v","type":"double"}`, 2.5, "a column cannot be widened so", `id="x" v=null v_v2=2.5`},
		"to an instant":    {`{"name":"v","type":"int"}`, `{"name":"v","type":{"type":"long","logicalType":"timestamp-millis"}}`, time.UnixMilli(1000), "a column cannot be widened so", `id="x" v=null v_v2="1970-01-01T00:00:01Z"`},
		"struct to string": {`{"name":"v","type":{"type":"record","name":"s","fields":[{"name":"a","type":"int"}]}}`, `{"name":"v","type":"string"}`, "5", "", `id="x" v=null v_v2="5"`},
		"inside a struct": {`{"name":"v","type":{"type":"record","name":"s","fields":[{"name":"a","type":"int"}]}}`,
			`{"name":"v","type":{"type":"record","name":"s","fields":[{"name":"a","type":"string"}]}}`, map[string]any{"a": "5"}, "written as string, wanted as int", `id="x" v={"a":null,"a_v2":"5"}`},
		"required and new": {`{"name":"v","type":"int"}`, `{"name":"v","type":"int"},{"name":"w","type":"int"}`, 5, `the field "w" is new`, `id="x" v=5 w=6`},
		"a union of two":   {`{"name":"v","type":"int"}`, `{"name":"v","type":"int"},{"name":"w","type":["null","int","string"],"default":null}`, 5, "a column has one type", ""},
		"a name twice":     {`{"name":"v","type":"int"}`, `{"name":"v","type":"int"},{"name":"V","type":["null","int"],"default":null}`, 5, "upper and lower case only", ""},
	} {
		reg := schemasOf(record(id+","+c.field), record(id+","+c.next))
		event := written(t, reg, 1, map[string]any{"id": "x", "v": c.value, "w": 6, "V": 6})
		d := follower(t, reg, 0, nil, Stop)
		for range 2 { // it stays so
			_, err := d.Decode(fetchOf(event))
			if !errors.Is(err, engine.ErrIncompatibleSchema) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "schema id 1") {
				t.Errorf("%s: stop: %v, want %q", name, err, c.says)
			}
		}
		out := mustDecode(t, follower(t, reg, 0, nil, DeadLetter), event)
		if out.Rows != nil || len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible || !strings.Contains(out.Dead[0].Message, c.says) {
			t.Errorf("%s: dead letter: %+v", name, out)
		}
		got := ""
		out = mustDecode(t, follower(t, reg, 0, nil, NewColumn), event)
		if out.Rows != nil {
			got = rowsJSON(t, out.Rows)[0]
			out.Rows.Release()
		} else if out.Dead[0].Reason != ReasonIncompatible {
			t.Errorf("%s: new column: %+v", name, out.Dead)
		}
		if got != c.row {
			t.Errorf("%s: new column: %s, want %s; dead %v", name, got, c.row, out.Dead)
		}
	}
}

// A schema of another record is not one of these events', however the policy: nobody stops for a stray.
func TestAvroOfAnotherRecordIsADeadLetter(t *testing.T) {
	reg := schemasOf(record(`{"name":"id","type":"string"}`), `{"type":"record","name":"other","fields":[{"name":"id","type":"string"}]}`)
	for _, policy := range []string{Stop, NewColumn} {
		out := mustDecode(t, follower(t, reg, 0, nil, policy), written(t, reg, 1, map[string]any{"id": "x"}))
		if len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible {
			t.Errorf("%s: %+v", policy, out)
		}
	}
}

// The columns of a field's types are found again by whoever comes next, with whichever schema it begins.
func TestNewColumnsAreFoundAgain(t *testing.T) {
	reg := schemasOf(record(`{"name":"id","type":"string"},{"name":"v","type":"int"}`), record(`{"name":"id","type":"string"},{"name":"v","type":"string"}`),
		record(`{"name":"id","type":"string"},{"name":"v","type":"boolean"},{"name":"v_v3","type":["null","int"],"default":null}`))
	events := []string{written(t, reg, 0, map[string]any{"id": "a", "v": 1}), written(t, reg, 1, map[string]any{"id": "b", "v": "two"}),
		written(t, reg, 2, map[string]any{"id": "c", "v": true, "v_v3": 3})}
	d := follower(t, reg, 0, nil, NewColumn)
	first := mustDecode(t, d, events...)
	defer first.Rows.Release()
	want := "id=\"a\" v=1 v_v2=null v_v4=null v_v3=null\nid=\"b\" v=null v_v2=\"two\" v_v4=null v_v3=null\nid=\"c\" v=null v_v2=null v_v4=true v_v3=3"
	if got := strings.Join(rowsJSON(t, first.Rows), "\n"); got != want {
		t.Fatalf("%s\nwant\n%s", got, want)
	}
	grown, err := evolve.Grow(avroContractOf(t, reg[0].Text).IcebergSchema(), d.table.Fields(), 50)
	if err != nil {
		t.Fatal(err)
	}
	for begin := range reg {
		later := follower(t, reg, begin, grown.Schema, NewColumn)
		out := mustDecode(t, later, events...)
		if got := strings.Join(rowsJSON(t, out.Rows), "\n"); got != want || later.table != grown.Schema {
			t.Errorf("begun with schema %d:\n%s\nwant\n%s", begin, got, want)
		}
		out.Rows.Release()
	}
}
