package decode

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/twmb/avro"

	"github.com/firnlake/firn/engine"
)

// avroEnvelope is the schema that Debezium's connector for PostgreSQL registers for a table, for rows of the given fields.
func avroEnvelope(fields string) string {
	return `{"type":"record","name":"Envelope","namespace":"pg.public.customers","fields":[
	{"name":"before","type":["null",{"type":"record","name":"Value","fields":[` + fields + `],"connect.name":"pg.public.customers.Value"}],"default":null},
	{"name":"after","type":["null","Value"],"default":null},
	{"name":"source","type":{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[
		{"name":"version","type":"string"},{"name":"ts_ms","type":"long"},{"name":"snapshot","type":[{"type":"string","connect.default":"false"},"null"],"default":"false"},
		{"name":"lsn","type":["null","long"],"default":null},{"name":"xmin","type":["null","long"],"default":null}]}},
	{"name":"transaction","type":["null",{"type":"record","name":"block","namespace":"event","fields":[{"name":"id","type":"string"},{"name":"total_order","type":"long"}]}],"default":null},
	{"name":"op","type":"string"},{"name":"ts_ms","type":["null","long"],"default":null},{"name":"ts_us","type":["null","long"],"default":null}],
	"connect.version":2,"connect.name":"pg.public.customers.Envelope"}`
}

const avroCustomer = `{"name":"id","type":"int"},{"name":"email","type":"string"},
	{"name":"balance","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null},
	{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}`

func avroChangesOf(t testing.TB, o AvroOptions, begin string, more ...string) *Avro {
	t.Helper()
	c, err := LoadAvro([]byte(begin), nil, "test.avsc")
	if err == nil {
		c, err = c.WithEnvelope(Envelope{Type: EnvelopeDebezium})
	}
	if err != nil {
		t.Fatal(err)
	}
	if o.Schemas == nil {
		o.Schemas = schemasOf(append([]string{begin}, more...)...)
	}
	d, err := NewAvro(c, c.IcebergSchema(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func avroChanged(t testing.TB, id int, schema string, v map[string]any) string {
	t.Helper()
	body, err := avro.MustParse(schema).Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return confluent(uint32(id), body)
}

var avroSource = map[string]any{"version": "3.3.1.\"Final\"\n", "ts_ms": int64(1559033904863), "snapshot": "last", "lsn": int64(24023128), "xmin": nil}

const avroSourceText = `{"version":"3.3.1.\"Final\"\n","ts_ms":1559033904863,"snapshot":"last","lsn":24023128,"xmin":null}`

// rowOrLetter is what one event gives.
func rowOrLetter(t testing.TB, d engine.Decoder, event string) string {
	t.Helper()
	out := mustDecode(t, d, event)
	if out.Rows == nil {
		return out.Dead[0].Reason + " " + out.Dead[0].Place
	}
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		t.Error(err)
	}
	return rowsJSON(t, out.Rows)[0]
}

func TestAvroChangesAreRows(t *testing.T) {
	schema := avroEnvelope(avroCustomer)
	// Other orders, types and members of the envelope than Debezium's own are read too, where they say what they must.
	odd := `{"type":"record","name":"E","fields":[{"name":"op","type":["null","string"]},{"name":"ts_ms","type":{"type":"long","logicalType":"timestamp-micros"}},
		{"name":"source","type":["null",{"type":"record","name":"S","fields":[{"name":"x","type":["null","double",{"type":"map","values":"bytes"},{"type":"array","items":"boolean"},{"type":"enum","name":"N","symbols":["A","B"]},{"type":"fixed","name":"F","size":2}]}]}]},
		{"name":"payload","type":"string"},{"name":"after","type":{"type":"record","name":"Value","fields":[` + avroCustomer + `]}}]}`
	bare := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[{"name":"email","type":"string"},{"name":"id","type":"int"}]}]}]}`
	lacking := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[` + avroCustomer + `]}]},
		{"name":"before","type":["null",{"type":"record","name":"key.Value","fields":[{"name":"id","type":"int"}]}]}]}`
	stray := `{"type":"record","name":"other","fields":[{"name":"id","type":"int"}]}`
	wrong := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"string"},{"name":"email","type":"string"}]}]}]}`
	number := `{"type":"record","name":"E","fields":[{"name":"op","type":"int"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[` + avroCustomer + `]}]}]}`
	rowless := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"}]}`
	named := strings.ReplaceAll(schema, `"Value"`, `"Order"`)
	d := avroChangesOf(t, AvroOptions{Options: Options{Mem: checked(t)}}, schema, odd, bare, lacking, stray, wrong, number, named, rowless)
	anne := map[string]any{"id": 1, "email": "annek@noanswer.org", "balance": []byte{0x17, 0x8c}, "seen": int64(1780570883456)}
	const row = `id=1 email="annek@noanswer.org" balance="60.28" seen="2026-06-04T11:01:23.456Z" `
	none := map[string]any{"id": 1, "email": "", "balance": nil, "seen": nil}
	event := func(op string, before, after any) string {
		return avroChanged(t, 0, schema, map[string]any{"before": before, "after": after, "source": avroSource, "transaction": map[string]any{"id": "7", "total_order": int64(1)},
			"op": op, "ts_ms": int64(1559033904863), "ts_us": nil})
	}
	told := ` _ts_ms="2019-05-28T08:58:24.863Z" _source=` + quotedJSON(t, avroSourceText)
	oddly := func(op any, x any) string {
		var source any
		if x != nil {
			source = map[string]any{"x": x}
		}
		return avroChanged(t, 1, odd, map[string]any{"op": op, "ts_ms": int64(1000), "source": source, "payload": "", "after": none})
	}
	const oddRow = `id=1 email="" balance=null seen=null _op="u" _ts_ms="1970-01-01T00:00:00.001Z" _source=`
	for _, c := range []struct{ name, event, want string }{
		{"create", event("c", nil, anne), row + `_op="c"` + told},
		{"snapshot", event("r", nil, anne), row + `_op="r"` + told},
		{"update", event("u", none, anne), row + `_op="u"` + told},
		{"delete", event("d", anne, nil), row + `_op="d"` + told},
		{"truncate", event("t", nil, nil), `id=null email=null balance=null seen=null _op="t"` + told},
		{"another order", oddly("u", nil), oddRow + "null"},
		{"source of a double", oddly("u", 1.5), oddRow + `"{\"x\":1.5}"`},
		{"source of a map", oddly("u", map[string]any{"k": []byte{1, 2}}), oddRow + `"{\"x\":{\"k\":\"AQI=\"}}"`},
		{"source of a list", oddly("u", []any{true, false}), oddRow + `"{\"x\":[true,false]}"`},
		{"source of a symbol", confluent(1, []byte("\x02\x02u\xd0\x0f\x02\x08\x02\x00\x02\x00\x00\x00")), oddRow + `"{\"x\":\"B\"}"`},
		{"delete of a key", avroChanged(t, 3, lacking, map[string]any{"op": "d", "before": map[string]any{"id": 3}, "after": nil}), `id=3 email=null balance=null seen=null _op="d" _ts_ms=null _source=null`},
		{"a writer without some fields", avroChanged(t, 2, bare, map[string]any{"op": "c", "after": map[string]any{"id": 4, "email": "e"}}), `id=4 email="e" balance=null seen=null _op="c" _ts_ms=null _source=null`},

		{"op null", oddly(nil, nil), "wrong_type /op"},
		{"a message of PostgreSQL's log", event("m", nil, nil), "not_in_enum /op"},
		{"op of two letters", event("cc", nil, anne), "not_in_enum /op"},
		{"op empty", event("", nil, anne), "not_in_enum /op"},
		{"create without a row", event("c", anne, nil), "missing_field /after"},
		{"update without a row", event("u", anne, nil), "missing_field /after"},
		{"delete without a row", event("d", nil, anne), "missing_field /before"},
		{"delete where nothing has before", avroChanged(t, 2, bare, map[string]any{"op": "d", "after": nil}), "missing_field /before"},
		{"create where nothing has after", confluent(8, []byte("\x02c")), "missing_field /after"},
		{"truncate where nothing has after", confluent(8, []byte("\x02t")), `id=null email=null balance=null seen=null _op="t" _ts_ms=null _source=null`},
		{"no envelope", avroChanged(t, 4, stray, map[string]any{"id": 1}), "missing_field /op"},
		{"another type in the row", avroChanged(t, 5, wrong, map[string]any{"op": "c", "after": map[string]any{"id": "1", "email": ""}}), "incompatible_schema "},
		{"op of another type", avroChanged(t, 6, number, map[string]any{"op": 1, "after": none}), "incompatible_schema "},
		{"a row of another record", "\x00\x00\x00\x00\x07", "incompatible_schema "},
		{"bad UTF-8 in the row", strings.Replace(event("c", nil, anne), "annek", "an\xffek", 1), "invalid_utf8 /after/email"},
		{"bad UTF-8 in the source", strings.Replace(event("c", nil, anne), "Final", "F\xffnal", 1), "invalid_utf8 /source/version"},
		{"bad UTF-8 in what is not read", strings.Replace(event("u", map[string]any{"id": 1, "email": "old", "balance": nil, "seen": nil}, anne), "old", "o\xffd", 1), row + `_op="u"` + told},
		{"more behind it", event("c", nil, anne) + "\x00", "invalid_avro "},
		{"no schema", event("c", nil, anne)[:4], "wrong_magic "},
		{"no id of a registry's", "\x00\x00\x00\x00\x4d" + event("c", nil, anne)[5:], "unknown_schema "},
		{"no bytes", "", "empty_value "},
	} {
		if got := rowOrLetter(t, d, c.event); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	whole := event("c", anne, anne)
	for end := confluentHeader; end < len(whole); end++ {
		if got := rowOrLetter(t, d, whole[:end]); !strings.HasPrefix(got, "invalid_avro /") {
			t.Errorf("cut at byte %d: %s", end, got)
		}
	}
	f := fetchOf(whole, "")
	f.Records[1].Value = nil
	out, err := d.Decode(f)
	if err != nil || out.Rows.NumRows() != 1 || len(out.Dead) > 0 || !slices.Equal(out.Filtered, []int64{101}) {
		t.Errorf("a tombstone: %+v, %v", out, err)
	}
	out.Rows.Release()
	if out := mustDecode(t, d, event("x", nil, nil)); !out.Dead[0].HasSchema || out.Dead[0].SchemaID != 0 {
		t.Errorf("the dead letter does not name its schema: %+v", out.Dead[0])
	}
}

// The table follows what after is written as: a new field gets its column in the batch that first has it.
func TestAvroChangesFollowTheirWriters(t *testing.T) {
	first, second := avroEnvelope(avroCustomer), avroEnvelope(strings.Replace(avroCustomer, `"type":"int"`, `"type":"long"`, 1)+`,{"name":"vip","type":["null","boolean"],"default":null}`)
	clash := avroEnvelope(strings.Replace(avroCustomer, `"type":"int"`, `"type":"string"`, 1))
	reg := schemasOf(first, second, clash)
	d := avroChangesOf(t, AvroOptions{Options: Options{Mem: checked(t), OnIncompatible: DeadLetter}, Schemas: reg, Follow: true}, first)
	change := func(id int, row map[string]any) string {
		return avroChanged(t, id, reg[id].Text, map[string]any{"before": nil, "after": row, "source": avroSource, "transaction": nil, "op": "c", "ts_ms": nil, "ts_us": nil})
	}
	old := change(0, map[string]any{"id": 1, "email": "a", "balance": nil, "seen": nil})
	out := mustDecode(t, d, old, change(1, map[string]any{"id": int64(1) << 40, "email": "b", "balance": nil, "seen": nil, "vip": true}),
		change(2, map[string]any{"id": "x", "email": "c", "balance": nil, "seen": nil}))
	defer out.Rows.Release()
	end := ` _op="c" _ts_ms=null _source=` + quotedJSON(t, avroSourceText)
	want := []string{`id=1 email="a" balance=null seen=null vip=null` + end, `id=1099511627776 email="b" balance=null seen=null vip=true` + end}
	got := rowsJSON(t, out.Rows)
	for i := range got { // the new column stands where evolution puts it
		parts, w := strings.Fields(got[i]), strings.Fields(want[i])
		if slices.Sort(parts); !slices.Equal(parts, slices.Sorted(slices.Values(w))) {
			t.Errorf("row %s\nwant %s", got[i], want[i])
		}
	}
	if len(got) != 2 || len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible || !slices.Equal(out.SchemaIDs, []uint32{0, 1, 2}) {
		t.Errorf("%d rows, dead %+v, schemas %v", len(got), out.Dead, out.SchemaIDs)
	}
	stops := avroChangesOf(t, AvroOptions{Options: Options{Mem: checked(t), OnIncompatible: Stop}, Schemas: reg, Follow: true}, first)
	if _, err := stops.Decode(fetchOf(change(2, map[string]any{"id": "x", "email": "c", "balance": nil, "seen": nil}))); !errors.Is(err, engine.ErrIncompatibleSchema) {
		t.Errorf("with stop: %v", err)
	}
	stray := `{"type":"record","name":"other","fields":[{"name":"id","type":"int"}]}`
	stops = avroChangesOf(t, AvroOptions{Options: Options{Mem: checked(t), OnIncompatible: Stop}, Schemas: schemasOf(first, stray), Follow: true}, first)
	if got := rowOrLetter(t, stops, avroChanged(t, 1, stray, map[string]any{"id": 1})); got != "missing_field /op" {
		t.Errorf("a stray stops the pipeline, or is taken: %s", got)
	}
}

func TestRulesOfAvroChanges(t *testing.T) {
	schema := avroEnvelope(avroCustomer)
	c := avroContractOf(t, schema)
	c, err := c.WithEnvelope(Envelope{Type: EnvelopeDebezium, Op: "change", Time: "at", Source: "origin"})
	if err == nil {
		c, err = c.WithRules(Rules{Rules: []Rule{{Column: "seen", Required: true}, {Column: "email", MaxLength: new(int), OnViolation: ActionFlag}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.Clone(c.IcebergSchema().Fields())
	fields[0].Required = true // id
	d, err := NewAvro(c, iceberg.NewSchema(0, fields...), AvroOptions{Options: Options{Mem: checked(t)}, Schemas: schemasOf(schema)})
	if err != nil {
		t.Fatal(err)
	}
	change := func(op string, before, after any) string {
		return avroChanged(t, 0, schema, map[string]any{"before": before, "after": after, "source": avroSource, "transaction": nil, "op": op, "ts_ms": int64(1), "ts_us": nil})
	}
	row := func(email string, seen any) map[string]any {
		return map[string]any{"id": 1, "email": email, "balance": nil, "seen": seen}
	}
	for _, x := range []struct{ event, want string }{
		{change("c", nil, row("", int64(0))), `id=1 email="" balance=null seen="1970-01-01T00:00:00Z" change="c" at="1970-01-01T00:00:00.001Z" origin=` + quotedJSON(t, avroSourceText) + ` _contract_violations=null`},
		{change("c", nil, row("", nil)), `missing_field /after/seen`},
		{change("d", row("", nil), nil), `id=1 email="" balance=null seen=null change="d" at="1970-01-01T00:00:00.001Z" origin=` + quotedJSON(t, avroSourceText) + ` _contract_violations=null`},
		{change("d", row("a", nil), nil), `id=1 email="a" balance=null seen=null change="d" at="1970-01-01T00:00:00.001Z" origin=` + quotedJSON(t, avroSourceText) + ` _contract_violations=["email:out_of_range"]`},
		{change("t", nil, nil), `missing_field /id`},
	} {
		if got := rowOrLetter(t, d, x.event); got != x.want {
			t.Errorf("%s\nwant\n%s", got, x.want)
		}
	}
}

func TestAvroChangesInSingleObjectEncoding(t *testing.T) {
	schema, other := avroEnvelope(avroCustomer), strings.Replace(avroEnvelope(avroCustomer), `"type":"int"`, `"type":["int","null"]`, 1)
	d := avroChangesOf(t, AvroOptions{Schemas: schemaList{}, Writers: []string{other}}, schema)
	for i, s := range []string{schema, other} {
		body := avroChanged(t, 0, s, map[string]any{"before": nil, "after": map[string]any{"id": i, "email": "", "balance": nil, "seen": nil}, "source": avroSource, "transaction": nil, "op": "c", "ts_ms": nil, "ts_us": nil})
		if got := rowOrLetter(t, d, single(s, []byte(body[confluentHeader:]))); !strings.HasPrefix(got, "id="+itoa(i)+" ") {
			t.Errorf("schema %d: %s", i, got)
		}
	}
}

// What the events' source may make of its bytes is bounded.
func TestAvroSourcesAreBounded(t *testing.T) {
	name := strings.Repeat("n", 2000)
	schema := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}]},
		{"name":"source","type":{"type":"record","name":"S","fields":[{"name":"l","type":{"type":"array","items":{"type":"record","name":"I","fields":[{"name":"` + name + `","type":"null"}]}}},
		{"name":"s","type":["null","S"]}]}}]}`
	plain := `{"type":"record","name":"E","fields":[{"name":"op","type":"string"},{"name":"after","type":["null",{"type":"record","name":"Value","fields":[{"name":"id","type":"int"}]}]}]}`
	d := avroChangesOf(t, AvroOptions{Options: Options{Mem: checked(t)}, Schemas: schemasOf(schema)}, plain)
	if got := rowOrLetter(t, d, confluent(0, []byte("\x02t\x00\x84\x07\x00\x00"))); got != "too_large /source/l" {
		t.Errorf("450 items without a byte: %.100s", got)
	}
	if got := rowOrLetter(t, d, confluent(0, []byte("\x02t\x00\x02\x00\x00"))); !strings.HasPrefix(got, `id=null _op="t" _ts_ms=null _source="{\"l\":[{\"nnn`) {
		t.Errorf("one item: %.100s", got)
	}
	deep := strings.Repeat("\x00\x02", 100) + "\x00\x00"
	if got := rowOrLetter(t, d, confluent(0, []byte("\x02t\x00"+deep))); !strings.HasPrefix(got, "too_deep /source/s/s") {
		t.Errorf("100 levels: %.100s", got)
	}
}

func TestAvroChangesAllocateNothingPerEvent(t *testing.T) {
	schema := avroEnvelope(avroCustomer)
	row := map[string]any{"id": 1, "email": "annek@noanswer.org", "balance": []byte{0x17, 0x8c}, "seen": int64(1780570883456)}
	event := func(op string, before, after any) string {
		return avroChanged(t, 0, schema, map[string]any{"before": before, "after": after, "source": avroSource, "transaction": nil, "op": op, "ts_ms": int64(1), "ts_us": nil})
	}
	allocatesNothing(t, avroChangesOf(t, AvroOptions{}, schema), 2_000, 0.01, event("u", row, row), event("d", row, nil))
}

// go test -fuzz FuzzAvroChange ./engine/decode. Whatever the bytes: one row or one dead letter, whole arrays, JSON in _source,
// and what is taken is what the oracle reads.
func FuzzAvroChange(f *testing.F) {
	schema := avroEnvelope(avroCustomer)
	row := map[string]any{"id": 1, "email": "a", "balance": []byte{1}, "seen": int64(5)}
	for _, op := range []string{"c", "r", "u", "d", "t", "m"} {
		raw, err := avro.MustParse(schema).Encode(map[string]any{"before": row, "after": row, "source": avroSource, "transaction": nil, "op": op, "ts_ms": int64(1), "ts_us": nil})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	d, oracle := avroChangesOf(f, AvroOptions{}, schema), avro.MustParse(schema)
	f.Fuzz(func(t *testing.T, body []byte) {
		out := mustDecode(t, d, confluent(0, body))
		if !soundRow(t, out) {
			return
		}
		defer out.Rows.Release()
		var v map[string]any
		if rest, err := oracle.Decode(body, &v); err != nil || len(rest) > 0 {
			t.Fatalf("% x was taken; the oracle says %v, %d bytes are left", body, err, len(rest))
		}
		var got struct {
			Op, Source, Email *string
			ID                *int64
		}
		raw, err := out.Rows.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var rows []map[string]json.RawMessage
		if err := json.Unmarshal(raw, &rows); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]any{"_op": &got.Op, "_source": &got.Source, "email": &got.Email, "id": &got.ID} {
			if err := json.Unmarshal(rows[0][name], to); err != nil {
				t.Fatal(name, err)
			}
		}
		if !json.Valid([]byte(*got.Source)) || *got.Op != v["op"] {
			t.Fatalf("source %s, op %s of %v", *got.Source, *got.Op, v)
		}
		image := map[string]string{"d": "before", "t": ""}[*got.Op]
		if image == "" && *got.Op != "t" {
			image = "after"
		}
		if want, ok := v[image].(map[string]any); ok != (got.ID != nil) || ok && (*got.ID != int64(want["id"].(int32)) || *got.Email != want["email"]) {
			t.Fatalf("row %s of %v", raw, v)
		}
	})
}
