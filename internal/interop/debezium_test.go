//go:build interop

package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// capture is Debezium over one database: its tables, and what Firn's rows of their changes must read like.
type capture struct {
	t       *testing.T
	db      *pgx.Conn
	connect *service
	config  columns   // of every connector
	want    []columns // the changes of things, each in every rendering
	notes   []columns
}

// The renderings of a row of things. Debezium's own types of time are columns of time by a contract of JSON, numbers by an Avro
// schema; Connect's, which are of milliseconds, are logical types there.
var renderings = map[string]string{
	"json": `'stamps', (SELECT json_agg(to_char(x, :stamp)) FROM unnest(stamps) x), 'at', to_char(at, :stamp), 'at3', to_char(at3, :stamp), 'day', day::text, 'clock', to_char(clock::interval, :clock), 'clock3', to_char(clock3::interval, :clock),
		'atz', to_char(atz AT TIME ZONE 'UTC', :stamp), 'clocktz', to_char((clocktz AT TIME ZONE 'UTC')::time::interval, :clock)`,
	"avro": `'stamps', (SELECT json_agg((extract(epoch FROM x) * 1000000)::bigint::text) FROM unnest(stamps) x), 'at', (extract(epoch FROM at) * 1000000)::bigint::text, 'at3', (extract(epoch FROM at3) * 1000)::bigint::text, 'day', (day - date '1970-01-01')::text,
		'clock', (extract(epoch FROM clock) * 1000000)::bigint::text, 'clock3', (extract(epoch FROM clock3) * 1000)::bigint::text,
		'atz', to_char(atz AT TIME ZONE 'UTC', :z), 'clocktz', to_char((clocktz AT TIME ZONE 'UTC')::time::interval, 'HH24:MI:SS"Z"')`,
	"logical": `'stamps', (SELECT json_agg(to_char(date_trunc('milliseconds', x), :stamp)) FROM unnest(stamps) x), 'at', to_char(date_trunc('milliseconds', at), :stamp), 'at3', to_char(at3, :stamp), 'day', day::text,
		'clock', to_char(date_trunc('milliseconds', clock::interval), :clock), 'clock3', to_char(clock3::interval, :clock),
		'atz', to_char(atz AT TIME ZONE 'UTC', :z), 'clocktz', to_char((clocktz AT TIME ZONE 'UTC')::time::interval, 'HH24:MI:SS"Z"')`,
}

// rendered is the expression for a row in a rendering, made by Postgres itself.
func rendered(how string) string {
	return strings.NewReplacer(":stamp", `'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'`, ":clock", `'HH24:MI:SS.US'`, ":z", `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`).Replace(
		`json_build_object('id', id::text, 'small', small::text, 'n', n::text, 'ratio', ratio::float8::text, 'amount', amount::text, 'free', free::text,
		'd', d::text, 'ok', ok, 'name', name, 'ch', rpad(ch::text, 5), 'key', key, 'doc', doc::text, 'raw', '0x' || encode(raw, 'hex'), 'tags', to_json(tags),
		'nums', to_json(nums::text[]), 'span', (extract(epoch FROM span) * 1000000)::bigint::text, 'bits', '0x' || lpad(to_hex(bits::int), 2, '0'), 'flag', flag = B'1',
		'mood', mood, 'addr', addr::text, 'money', money::numeric::text,
		'sums', (SELECT json_agg(x::text) FROM unnest(sums) x), 'keys', (SELECT json_agg(x::text) FROM unnest(keys) x), ` + renderings[how] + `)`)
}

const thingsTable = `CREATE TYPE mood AS ENUM ('sad', 'glad');
	CREATE TABLE things (id bigint PRIMARY KEY, small smallint, n int NOT NULL DEFAULT 7, ratio real, amount numeric(20,4), free numeric, d double precision, ok boolean,
		name varchar(40), ch char(5), at timestamp, at3 timestamp(3), atz timestamptz, day date, clock time, clock3 time(3), clocktz timetz, key uuid, doc jsonb,
		raw bytea, tags text[], nums int[], span interval, bits bit(5), flag bit(1), mood mood, addr inet, money money, stamps timestamp[], sums numeric(10,2)[], keys uuid[]);
	ALTER TABLE things REPLICA IDENTITY FULL;
	CREATE TABLE notes (id int PRIMARY KEY, title text, body text NOT NULL);
	ALTER TABLE notes ALTER body SET STORAGE EXTERNAL`

// thing is an INSERT of a row with a value in every column.
func thing(id int) string {
	return fmt.Sprintf(`INSERT INTO things VALUES (%[1]d, -%[1]d, %[1]d, %[1]d.5, -12345678901234.567%[1]d, %[1]de20, 0.%[1]d, %[1]d %% 2 = 0, 'Ähre %[1]d', 'ab',
		'1969-12-31 23:59:5%[1]d.123456', '2024-02-29 23:59:5%[1]d.123', '2024-02-29 23:59:5%[1]d.123456+05', '1969-12-2%[1]d', '23:59:5%[1]d.999999', '01:02:0%[1]d.004', '12:00:0%[1]d+02',
		'00000000-0000-0001-0000-00000000000%[1]d', '{"a": [%[1]d, null], "b": "ü"}', '\x00%[1]d1ff', '{a,NULL,"c d"}', '{%[1]d,NULL,-1}', '%[1]d days 03:00:00.5', B'10101', B'1', 'glad', '10.0.0.%[1]d/8', '-12.5%[1]d',
		'{2024-02-29 23:59:5%[1]d.123456,NULL}', '{1.50,NULL,-%[1]d}', '{00000000-0000-0001-0000-00000000000%[1]d}')`, id)
}

// do runs statements.
func (c *capture) do(statements string) {
	c.t.Helper()
	if _, err := c.db.Exec(c.t.Context(), statements); err != nil {
		c.t.Fatalf("%s: %v", statements, err)
	}
}

// changed notes that a row of things was changed, as the database has it now.
func (c *capture) changed(op string, id int) {
	c.t.Helper()
	change := columns{}
	for how := range renderings {
		var text string
		if err := c.db.QueryRow(c.t.Context(), "SELECT "+rendered(how)+"::text FROM things WHERE id = $1", id).Scan(&text); err != nil {
			c.t.Fatal(err)
		}
		row := columns{}
		if err := json.Unmarshal([]byte(text), &row); err != nil {
			c.t.Fatal(err)
		}
		row["_op"] = op
		change[how] = row
	}
	c.want = append(c.want, change)
}

// connector makes one for both tables, under a prefix of its own.
func (c *capture) connector(prefix string, more columns) {
	c.t.Helper()
	config := columns{"topic.prefix": prefix, "slot.name": prefix, "publication.name": prefix}
	maps.Copy(config, c.config)
	maps.Copy(config, more)
	body, err := json.Marshal(columns{"name": prefix, "config": config})
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := http.Post("http://"+c.connect.addr()+"/connectors", "application/json", bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	if said, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusCreated {
		c.t.Fatalf("Connect answers %s: %s", res.Status, said)
	}
}

// newCapture starts Postgres and Connect.
func newCapture(t *testing.T, kafka *service) *capture {
	t.Helper()
	postgres := serve(t, "postgres", "wal_level=logical")
	text, err := os.ReadFile(filepath.Join(postgres.dir, "credentials"))
	if err != nil {
		t.Fatal(err)
	}
	_, password, _ := strings.Cut(strings.TrimSpace(string(text)), "=")
	db, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://firn:%s@%s/firn", password, postgres.addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(t.Context()) })
	c := &capture{t: t, db: db, connect: serve(t, "connect", kafka.addr())}
	c.config = columns{"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "plugin.name": "pgoutput",
		"publication.autocreate.mode": "filtered", "table.include.list": "public.things,public.notes", "skipped.operations": "none",
		"database.hostname": "127.0.0.1", "database.port": fmt.Sprint(postgres.port), "database.user": "firn", "database.password": password, "database.dbname": "firn",
		"topic.creation.default.replication.factor": "1", "topic.creation.default.partitions": "1"}
	c.do(thingsTable)
	return c
}

// TestDebezium is Debezium's connector for Postgres in Kafka Connect, which reads a snapshot and then what is done to two tables:
// as JSON with and without schemas, and as Avro at a registry. Firn's rows of the changes are held against what Postgres said of
// its rows at each.
func TestDebezium(t *testing.T) {
	kafka, registry := serve(t, "kafka"), serve(t, "registry")
	c := newCapture(t, kafka)
	avro := columns{"value.converter": "io.apicurio.registry.utils.converter.AvroConverter", "value.converter.apicurio.registry.url": "http://" + registry.addr() + "/apis/registry/v2",
		"value.converter.apicurio.registry.auto-register": "true", "value.converter.apicurio.registry.as-confluent": "true", "value.converter.apicurio.registry.use-id": "contentId",
		"value.converter.apicurio.registry.headers.enabled": "false"}
	variants := map[string]columns{
		"plain":   {"value.converter.schemas.enable": "false", "value.converter": "org.apache.kafka.connect.json.JsonConverter"},
		"wrapped": {"value.converter.schemas.enable": "true", "value.converter": "org.apache.kafka.connect.json.JsonConverter"},
		"text": {"value.converter.schemas.enable": "true", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
			"time.precision.mode": "isostring", "decimal.handling.mode": "string"},
		"avro":    avro,
		"logical": maps.Clone(avro),
	}
	variants["logical"]["time.precision.mode"] = "connect"
	how := map[string]string{"plain": "json", "wrapped": "json", "text": "json", "avro": "avro", "logical": "logical"}

	c.do(thing(1) + "; INSERT INTO things (id) VALUES (2)")
	c.changed("r", 1)
	c.changed("r", 2)
	var pipelines strings.Builder
	for name, config := range variants {
		for _, of := range []string{"things", "notes"} {
			format := fmt.Sprintf("format: avro, registry: {url: %q, wait: 1s}", "http://"+registry.addr()+"/apis/ccompat/v7")
			if how[name] == "json" {
				format = "format: json, schema: " + of + ".json"
				if name == "text" {
					format = "format: json, schema: text_" + of + ".json"
				}
			}
			kafka.topics(name + ".public." + of)
			fmt.Fprintf(&pipelines, "  - {name: %[1]s_%[2]s, topic: %[1]s.public.%[2]s, table: shop.%[1]s_%[2]s, envelope: {type: debezium}, commit_interval: 200ms, %[3]s}\n", name, of, format)
		}
		c.connector(name, config)
	}
	fmt.Fprintf(&pipelines, "  - {name: mistaken, topic: wrapped.public.things, table: shop.mistaken, envelope: {type: debezium}, commit_interval: 200ms, format: json, schema: mistaken.json}\n")
	things, notes := read(t, "things.json"), read(t, "notes.json")
	l := newSite(t, kafka, pipelines.String(), map[string]string{"things.json": things, "notes.json": notes, "text_things.json": asText(things), "text_notes.json": notes,
		"mistaken.json": strings.Replace(things, "epoch-us", "epoch-ms", 1)})
	l.ingest()
	check := func(what string) {
		t.Helper()
		for name := range variants {
			c.compare(l, name, how[name], what)
		}
	}
	check("the snapshot")

	c.do(thing(3))
	c.changed("c", 3)
	c.do("UPDATE things SET name = 'other', amount = 0.0001, tags = '{}', doc = NULL WHERE id = 3")
	c.changed("u", 3)
	c.changed("d", 1)
	c.do("DELETE FROM things WHERE id = 1")
	c.changed("d", 2)
	c.do("UPDATE things SET id = 4 WHERE id = 2") // another key: a deletion, its tombstone, and an insertion
	c.changed("c", 4)
	c.noted()
	check("changes")

	c.do("TRUNCATE things")
	gone := columns{}
	for how := range renderings {
		gone[how] = columns{"_op": "t"}
	}
	c.want = append(c.want, gone)
	c.do(thing(5))
	c.changed("c", 5)
	for _, d := range []string{"NaN", "Infinity", "-Infinity"} {
		c.do("UPDATE things SET d = '" + d + "', ratio = NULL WHERE id = 5")
		c.changed("u", 5)
	}
	check("a truncation")

	c.do("ALTER TABLE things ADD COLUMN extra int; INSERT INTO things (id, extra) VALUES (6, 66)")
	c.changed("c", 6)
	for _, change := range c.want {
		for how, row := range change {
			if how != "json" { // whose schema is a file
				row.(columns)["extra"] = nil
			}
		}
	}
	for _, how := range []string{"avro", "logical"} {
		c.want[len(c.want)-1][how].(columns)["extra"] = "66"
	}
	check("a new column")
	for _, d := range l.holds("mistaken", "shop.mistaken_dead", len(c.want)-1).Rows { // the truncation has no value
		if said := fmt.Sprint(d["message"]); d["reason"] != "incompatible_schema" || !strings.Contains(said, "epoch-ms") || !strings.Contains(said, "MicroTimestamp") {
			t.Fatalf("microseconds by a contract of milliseconds: %v", d)
		}
	}
	body, _, err := l.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for name := range variants { // of the two deletions
		if line := fmt.Sprintf("firn_engine_filtered_total{pipeline=%q} 2", name+"_things"); !strings.Contains(body, line) {
			t.Errorf("tombstones are not counted: there is no %s", line)
		}
	}
}

// asText is the contract of things where Debezium writes times and decimals as text.
func asText(contract string) string {
	return strings.NewReplacer(`"integer", "null"], "format": "epoch-us"`, `"string", "null"], "format": "date-time"`, `"integer", "null"], "format": "epoch-ms"`, `"string", "null"], "format": "date-time"`,
		`"integer", "null"], "format": "epoch-days"`, `"string", "null"], "format": "date"`, `"integer", "null"], "format": "time-us"`, `"string", "null"], "format": "time"`,
		`"integer", "null"], "format": "time-ms"`, `"string", "null"], "format": "time"`, ` "contentEncoding": "base64",`, "",
		`"object", "null"], "properties": {"scale": {"type": "integer"}, "value": {"type": "string", "format": "byte"}}`, `"string", "null"]`).Replace(contract)
}

// noted changes a table whose log has the key alone of what was: a deleted row, and a large value that an update leaves as it was.
func (c *capture) noted() {
	c.do("INSERT INTO notes VALUES (1, 'a', repeat('x', 10000)); UPDATE notes SET title = 'b' WHERE id = 1; DELETE FROM notes WHERE id = 1")
	c.notes = append(c.notes, columns{"_op": "c", "id": "1", "title": "a", "body": strings.Repeat("x", 10000)},
		columns{"_op": "u", "id": "1", "title": "b", "body": "__debezium_unavailable_value"}, columns{"_op": "d", "id": "1", "title": nil, "body": ""}) // it is NOT NULL
}

// compare holds the tables of a variant against the database.
func (c *capture) compare(l *lake, name, how, what string) {
	c.t.Helper()
	var want []columns
	for _, change := range c.want {
		want = append(want, change[how].(columns))
	}
	for of, want := range map[string][]columns{"things": want, "notes": c.notes} {
		table, want := "shop."+name+"_"+of, slices.Clone(want)
		got := l.holds(name+"_"+of, table, len(want))
		var rows []columns
		for i, row := range got.Rows {
			source := columns{}
			if err := json.Unmarshal([]byte(row["_source"].(string)), &source); err != nil || source["table"] != of || source["connector"] != "postgresql" || source["name"] != name {
				c.t.Errorf("%s, row %d: source is %v, %v", table, i, row["_source"], err)
			}
			if at, err := time.Parse(time.RFC3339, fmt.Sprint(row["_ts_ms"])); err != nil || time.Since(at) > time.Hour {
				c.t.Errorf("%s, row %d: _ts_ms is %v, %v", table, i, row["_ts_ms"], err)
			}
			if row["_op"] != want[i]["_op"] {
				c.t.Errorf("%s, row %d: op is %v, not %v", table, i, row["_op"], want[i]["_op"])
			}
			if free, ok := row["free"].(columns); ok {
				row["free"] = variable(c.t, free)
			}
			rows = append(rows, row)
			want[i] = maps.Clone(want[i])
			delete(want[i], "_op")
		}
		same(c.t, table+", "+what, rows, want)
		if dead := l.content(table + "_dead").Rows; len(dead) > 0 {
			c.t.Errorf("%s, %s: %d dead letters, the first: %v", table, what, len(dead), dead[0])
		}
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// variable is the number that a VariableScaleDecimal stands for.
func variable(t *testing.T, v columns) string {
	t.Helper()
	raw, err := hex.DecodeString(strings.TrimPrefix(v["value"].(string), "0x"))
	if err != nil || v["scale"] != "0" {
		t.Fatalf("a number of variable scale: %v, %v", v, err)
	}
	return new(big.Int).SetBytes(raw).String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
