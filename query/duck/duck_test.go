//go:build cgo

package duck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func events() *iceberg.Schema {
	p := iceberg.PrimitiveTypes
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "kind", Type: p.String},
		iceberg.NestedField{ID: 2, Name: "payload", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
			{ID: 3, Name: "page", Type: p.String}, {ID: 4, Name: "amount", Type: p.Float64}}}},
		iceberg.NestedField{ID: 5, Name: "happened", Type: p.TimestampTz},
		iceberg.NestedField{ID: 6, Name: "tags", Type: &iceberg.ListType{ElementID: 7, Element: p.String}},
		iceberg.NestedField{ID: 8, Name: "_kafka_partition", Type: p.Int32},
		iceberg.NestedField{ID: 9, Name: "_kafka_offset", Type: p.Int64})
}

func rows(t testing.TB, sc *iceberg.Schema, js string) arrow.RecordBatch {
	t.Helper()
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := array.RecordFromJSON(memory.DefaultAllocator, as, strings.NewReader(js))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func eventRows(t testing.TB, from, to int) arrow.RecordBatch {
	var parts []string
	for i := from; i < to; i++ {
		parts = append(parts, fmt.Sprintf(`{"kind":"%s","payload":{"page":"/page/of/a/longer/name/%d","amount":%d.5},"happened":"2026-06-04T11:00:%02d.5Z","tags":["a","t%d",null],"_kafka_partition":%d,"_kafka_offset":%d}`,
			[]string{"view", "purchase"}[i%2], i%3, i, i%60, i, i%2, i/2))
	}
	return rows(t, events(), "["+strings.Join(parts, ",")+"]")
}

func file(t testing.TB, sc *iceberg.Schema, whole bool, r arrow.RecordBatch) query.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a'b.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := datafile.Write(f, sc, []arrow.RecordBatch{r}, datafile.DefaultWriteOptions()); err != nil {
		t.Fatal(err)
	}
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	return query.File{Path: path, Schema: as, Whole: whole}
}

func engine(t testing.TB) query.SQLEngine {
	t.Helper()
	e, err := Open(query.Config{CacheDir: t.TempDir(), Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.(*Engine).Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// ask runs a statement and returns its rows as JSON, one a line.
func ask(t testing.TB, e query.SQLEngine, st query.Statement) (string, error) {
	t.Helper()
	s, err := e.Run(t.Context(), st)
	if err != nil {
		return "", err
	}
	defer s.Release()
	var out []string
	for s.Next(t.Context()) {
		b := s.RecordBatch()
		for i := range int(b.NumRows()) {
			var cells []string
			for c := range int(b.NumCols()) {
				cells = append(cells, b.Column(c).ValueStr(i))
			}
			out = append(out, strings.Join(cells, "|"))
		}
	}
	return strings.Join(out, "\n"), s.Err()
}

func relation(t testing.TB) query.Relation {
	return query.Relation{Name: []string{"analytics", "events"}, Schema: events(),
		Files: []query.File{file(t, events(), false, eventRows(t, 0, 60)), file(t, events(), true, eventRows(t, 60, 80))},
		Hot:   []arrow.RecordBatch{eventRows(t, 80, 90), eventRows(t, 90, 100)}}
}

func TestColdAndHotRowsAreOneTable(t *testing.T) {
	e := engine(t)
	for sql, want := range map[string]string{
		"select count(*), count(distinct (_kafka_partition, _kafka_offset)), sum(payload.amount) from analytics.events": "100|100|5000",
		"select kind, count(*) from analytics.events group by all order by 1":                                           "purchase|50\nview|50",
		"select payload.page, tags from analytics.events where _kafka_partition = 1 and _kafka_offset = 45":             `/page/of/a/longer/name/1|["a","t91",null]`,
		"select max(happened), date_trunc('hour', min(happened)) from analytics.events":                                 "2026-06-04T11:00:59.5Z|2026-06-04T11:00:00Z",
		"with x as (select * from analytics.events limit 5) select count(*) from x":                                     "5",
		"select count(*) from (select unnest(tags) as tag from analytics.events) where tag = 'a'":                       "100",
	} {
		got, err := ask(t, e, query.Statement{SQL: sql, Relations: []query.Relation{relation(t)}})
		if err != nil || got != want {
			t.Errorf("%s\n got %q, %v\nwant %q", sql, got, err, want)
		}
	}
}

func TestBelowCutsCommittedFiles(t *testing.T) {
	rel := relation(t)
	rel.Hot, rel.Below = nil, offset.Vector{0: 10, 1: 20}
	rel.Files = rel.Files[:1]
	got, err := ask(t, engine(t), query.Statement{SQL: "select _kafka_partition, count(*), max(_kafka_offset) from analytics.events group by 1 order by 1", Relations: []query.Relation{rel}})
	if want := "0|10|9\n1|20|19"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	rel.Below = offset.Vector{0: 10}
	if got, err = ask(t, engine(t), query.Statement{SQL: "select count(*) from analytics.events", Relations: []query.Relation{rel}}); err != nil || got != "10" {
		t.Errorf("a partition that the vector does not know: %q, %v, want 10 rows", got, err)
	}
}

// Columns are found by field id: renamed, widened, reordered, added, inside structs too.
func TestEvolvedSchemas(t *testing.T) {
	p := iceberg.PrimitiveTypes
	now := iceberg.NewSchema(1,
		iceberg.NestedField{ID: 9, Name: "_kafka_offset", Type: p.Int64},
		iceberg.NestedField{ID: 8, Name: "_kafka_partition", Type: p.Int64},
		iceberg.NestedField{ID: 2, Name: "body", Type: &iceberg.StructType{FieldList: []iceberg.NestedField{
			{ID: 4, Name: "price", Type: p.Float64}, {ID: 20, Name: "country", Type: p.String}, {ID: 3, Name: "page", Type: p.String}}}},
		iceberg.NestedField{ID: 1, Name: "event_type", Type: p.String},
		iceberg.NestedField{ID: 21, Name: "new", Type: p.Date})
	rel := query.Relation{Name: []string{"t"}, Schema: now, Files: []query.File{file(t, events(), true, eventRows(t, 0, 4)),
		file(t, now, true, rows(t, now, `[{"_kafka_offset":7,"_kafka_partition":0,"body":{"price":1,"country":"de","page":"/x"},"event_type":"click","new":"2026-01-02"}]`))}}
	got, err := ask(t, engine(t), query.Statement{SQL: `select event_type, body.price, body.country, body.page, "new" from t where _kafka_partition = 0 order by _kafka_offset desc limit 2`, Relations: []query.Relation{rel}})
	want := "click|1|de|/x|2026-01-02\nview|2.5|(null)|/page/of/a/longer/name/2|(null)"
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestEveryType(t *testing.T) {
	for expr, want := range map[string]string{
		"true": "true", "1::tinyint": "1", "2::smallint": "2", "3::int": "3", "4::bigint": "4", "5::utinyint": "5", "6::usmallint": "6", "7::uinteger": "7",
		"18446744073709551615::ubigint": "18446744073709551615", "1.5::float": "1.5", "2.5::double": "2.5", "'short'": "short",
		"'a text that is longer than twelve bytes'": "a text that is longer than twelve bytes", "'\\xAA\\x01'::blob": "qgE=",
		"date '2026-06-04'": "2026-06-04", "time '11:01:02.5'": "11:01:02.500000", "timestamp '2026-06-04 11:01:02.000001'": "2026-06-04T11:01:02.000001",
		"timestamptz '2026-06-04 11:01:02+02'": "2026-06-04T09:01:02Z", "1.23::decimal(4,2)": "1.23", "-1.23::decimal(9,2)": "-1.23",
		"1234567890.12::decimal(18,2)": "1234567890.12", "-123456789012345678901234.5::decimal(38,1)": "-123456789012345678901234.5",
		"170141183460469231731687303715::hugeint": "170141183460469231731687303715", "uuid '01234567-89ab-cdef-fedc-ba9876543210'": "01234567-89ab-cdef-fedc-ba9876543210",
		"'b'::enum('a','b')": "b", "[1,null,3]": "[1,null,3]", "[]::int[]": "[]", "{'a': 1, 'b': {'c': 'x'}}": `{"a":1,"b":{"c":"x"}}`,
		"map {'k': 1, 'l': 2}": `[{"key":"k","value":1},{"key":"l","value":2}]`, "[1,2]::int[2]": "[1,2]", "null": "(null)", "null::int[]": "(null)",
		"interval '1 month 2 days 3 seconds'": `{"months":1,"days":2,"nanoseconds":3000000000}`, "[{'a': [1]}, null]": `[{"a":[1]},null]`,
	} {
		got, err := ask(t, engine(t), query.Statement{SQL: "select " + expr + " as v"})
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", expr, got, err, want)
		}
	}
}

func TestOnlySelectsOverNamedTables(t *testing.T) {
	e := engine(t)
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := file(t, events(), true, eventRows(t, 0, 4)).Path
	for _, sql := range []string{"select * from read_csv('" + secret + "')", "select * from read_text('/etc/passwd')", "select * from glob('/etc/*')",
		"select getenv('HOME')", "select * from duckdb_settings()", "copy (select 1) to '/tmp/x'", "attach '/tmp/x.db'", "load httpfs", "install httpfs",
		"set threads = 1", "pragma version", "create table x (a int)", "insert into x values (1)", "select 1; select 2", "call pragma_version()", "export database '/tmp/y'",
		"select * from query('select 1')", "explain select 1", "describe analytics.events", "select * from read_parquet('" + strings.ReplaceAll(other, "'", "''") + "')",
		"select current_setting('memory_limit')", "with x as (select * from read_blob('/etc/passwd')) select * from x", "select (select content from read_text('/etc/passwd'))",
		"selec 1", "", "select * from pragma_version()", "vacuum", "prepare x as select 1", "execute x"} {
		if _, err := e.Inspect(t.Context(), sql); !errors.Is(err, query.ErrNotSelect) && !errors.Is(err, query.ErrInvalidSQL) {
			t.Errorf("inspect %q: %v", sql, err)
		}
	}
	// Past the inspection the session itself holds: a file that is no relation's cannot be read.
	for _, sql := range []string{"select * from read_parquet('" + strings.ReplaceAll(other, "'", "''") + "')", "select * from '" + secret + "'",
		"copy (select 1) to '" + filepath.Join(t.TempDir(), "x") + "'", "set enable_external_access = true", "select * from read_text('/etc/passwd')"} {
		if got, err := ask(t, e, query.Statement{SQL: sql, Relations: []query.Relation{relation(t)}}); err == nil {
			t.Errorf("%q gave %q", sql, got)
		}
	}
}

func TestInspectNamesTables(t *testing.T) {
	in, err := engine(t).Inspect(t.Context(), `with c as (select 1) select * from analytics.events a join "We.ird"."T" on true, c, (select * from e3 where x in (select y from e4)), range(3)`)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range in.Tables {
		names[strings.Join(r.Parts, "/")] = true
	}
	for _, want := range []string{"analytics/events", "We.ird/T", "e3", "e4", "c"} {
		if !names[want] {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	if !in.CTEs["c"] {
		t.Errorf("CTEs %v", in.CTEs)
	}
}

func TestParametersAndDescribe(t *testing.T) {
	e := engine(t)
	st := query.Statement{SQL: "select count(*) as n, ?::varchar as s from analytics.events where payload.amount > ?", Relations: []query.Relation{relation(t)}}
	res, params, err := e.Describe(t.Context(), st)
	if err != nil || res.NumFields() != 2 || res.Field(0).Name != "n" || params.NumFields() != 2 || params.Field(1).Type.ID() != arrow.FLOAT64 {
		t.Fatalf("%v %v %v", res, params, err)
	}
	sc := arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.BinaryTypes.String}, {Name: "2", Type: arrow.PrimitiveTypes.Int64}}, nil)
	st.Params, _, err = array.RecordFromJSON(memory.DefaultAllocator, sc, strings.NewReader(`[{"1":"x","2":90}]`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, e, st); err != nil || got != "10|x" {
		t.Errorf("%q, %v", got, err)
	}
	st.Params = nil
	if _, err := ask(t, e, st); !errors.Is(err, query.ErrInvalidSQL) {
		t.Errorf("missing parameters: %v", err)
	}
}

// TestTypesThatParametersDecide: where the result's type is that of what is bound, Describe leaves it open and Run knows.
func TestTypesThatParametersDecide(t *testing.T) {
	e := engine(t)
	for _, c := range []struct{ sql, bound, is, row string }{
		{"select ? as x", `[{"1":7}]`, "int64", "7"},
		{"select ? as x", `[{"1":"seven"}]`, "utf8", "seven"},
		{"select payload.amount + ? as x from analytics.events order by 1 limit 1", `[{"1":1000}]`, "float64", "1000.5"},
		{"select coalesce(?, 'none') as x", `[{"1":null}]`, "utf8", "none"},
	} {
		st := query.Statement{SQL: c.sql, Relations: []query.Relation{relation(t)}}
		res, params, err := e.Describe(t.Context(), st)
		if err != nil || params.NumFields() != 1 || res != nil && res.Field(0).Type.Name() != c.is {
			t.Errorf("%s: described as %v, %v, %v", c.sql, res, params, err)
		}
		dt := arrow.PrimitiveTypes.Int64
		if strings.Contains(c.bound, `:"`) {
			dt = arrow.BinaryTypes.String
		}
		st.Params, _, err = array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "1", Type: dt, Nullable: true}}, nil), strings.NewReader(c.bound))
		if err != nil {
			t.Fatal(err)
		}
		s, err := e.Run(t.Context(), st)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if got := s.Schema().Field(0); got.Type.Name() != c.is || got.Name != "x" {
			t.Errorf("%s of %s: %v, want %s", c.sql, c.bound, got, c.is)
		}
		if !s.Next(t.Context()) || s.RecordBatch().Column(0).ValueStr(0) != c.row {
			t.Errorf("%s of %s: %v, %v", c.sql, c.bound, s.RecordBatch(), s.Err())
		}
		s.Release()
		st.Params.Release()
	}
}

func TestCancelEndsAStatement(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	s, err := engine(t).Run(ctx, query.Statement{SQL: "select count(*) from range(100000000) a, range(100000000) b where a.range * b.range % 7 = 3"})
	if err == nil {
		for s.Next(ctx) {
		}
		err = s.Err()
		s.Release()
	}
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	e, err := Open(query.Config{CacheDir: t.TempDir(), MemoryLimit: 64 << 20, MaxConcurrent: 1, SpillLimit: 1 << 20, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.(*Engine).Close()
	_, err = ask(t, e, query.Statement{SQL: "select count(*) from (select distinct range::varchar || 'padding padding padding' from range(20000000))"})
	if !errors.Is(err, query.ErrLimit) {
		t.Errorf("%v, want ErrLimit", err)
	}
}

func TestManyRowsStream(t *testing.T) {
	s, err := engine(t).Run(t.Context(), query.Statement{SQL: "select range as n, 'row number ' || range as s from range(100000)"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var n int64
	for s.Next(t.Context()) {
		col := s.RecordBatch().Column(0).(*array.Int64)
		for i := range col.Len() {
			if col.Value(i) != n {
				t.Fatalf("row %d is %d", n, col.Value(i))
			}
			n++
		}
	}
	if s.Err() != nil || n != 100_000 {
		t.Errorf("%d rows, %v", n, s.Err())
	}
}
