package query

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
)

var travelNow = time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)

// TestCutTravel holds the clauses of Trino and DuckDB, and what only looks like one.
func TestCutTravel(t *testing.T) {
	at := func(s string) asOf {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return asOf{at: v}
	}
	type cut = travel
	for _, c := range []struct {
		sql, want string
		cuts      []cut
	}{
		{"SELECT 1", "", nil},
		{"SELECT 'FOR TIMESTAMP AS OF', \"FOR VERSION AS OF 1\" FROM t -- t FOR VERSION AS OF 1\n WHERE a /* t FOR VERSION AS OF 1 */ = $$ t FOR VERSION AS OF 1 $$", "", nil},
		{"SELECT E'it\\' FOR VERSION AS OF 1' FROM t", "", nil},
		{"SELECT a AS version, b AS timestamp FROM t AS of", "", nil},
		{"SELECT ts AT TIME ZONE 'UTC' FROM t", "", nil},
		{"SELECT at (version) FROM t", "", nil},
		{"SELECT [x for x in l] FROM t", "", nil},
		{"SELECT * FROM t FOR VERSION AS OF 12", `SELECT * FROM "as of 1"."t" `, []cut{{catalog.Identifier{"t"}, "as of 1", asOf{snapshot: 12}}}},
		{"SELECT * FROM a.b.t for\n version /* the */ as -- first\nof 'v1' x WHERE x.y", `SELECT * FROM "as of 1"."t"  x WHERE x.y`, []cut{{catalog.Identifier{"a", "b", "t"}, "as of 1", asOf{ref: "v1"}}}},
		{`SELECT * FROM "a.b" . "T""x" AT (VERSION => 'it''s')`, `SELECT * FROM "as of 1"."T""x" `, []cut{{catalog.Identifier{"a.b", `T"x`}, "as of 1", asOf{ref: "it's"}}}},
		{"SELECT * FROM t AT (TIMESTAMP => TIMESTAMP '2026-06-04 11:01:23'), u FOR TIMESTAMP AS OF '2026-06-04'", `SELECT * FROM "as of 1"."t" , "as of 2"."u" `,
			[]cut{{catalog.Identifier{"t"}, "as of 1", at("2026-06-04T11:01:23Z")}, {catalog.Identifier{"u"}, "as of 2", at("2026-06-04T00:00:00Z")}}},
		{"SELECT * FROM t FOR SYSTEM_TIME AS OF now() - INTERVAL '90' SECOND", `SELECT * FROM "as of 1"."t" `, []cut{{catalog.Identifier{"t"}, "as of 1", at("2026-06-04T11:58:30Z")}}},
		{"SELECT * FROM t AT (TIMESTAMP := current_timestamp - INTERVAL 2 DAYS) ü", `SELECT * FROM "as of 1"."t"  ü`, []cut{{catalog.Identifier{"t"}, "as of 1", at("2026-06-02T12:00:00Z")}}},
		{"FROM t FOR TIMESTAMP AS OF TIMESTAMP WITH TIME ZONE '2026-06-04 11:01:23.5 Europe/Berlin'", `FROM "as of 1"."t" `, []cut{{catalog.Identifier{"t"}, "as of 1", at("2026-06-04T09:01:23.5Z")}}},
		{"FROM t FOR TIMESTAMP AS OF now()JOIN t AT(VERSION=>1)USING(a)", `FROM "as of 1"."t" JOIN "as of 2"."t" USING(a)`,
			[]cut{{catalog.Identifier{"t"}, "as of 1", asOf{at: travelNow}}, {catalog.Identifier{"t"}, "as of 2", asOf{snapshot: 1}}}},
		{"SELECT * FROM t FOR OFFSETS AS OF '1:5, 0:3' x, t AT (OFFSETS => '0:0')", `SELECT * FROM "as of 1"."t"  x, "as of 2"."t" `,
			[]cut{{catalog.Identifier{"t"}, "as of 1", asOf{offsets: "0:3 1:5"}}, {catalog.Identifier{"t"}, "as of 2", asOf{offsets: "0:0"}}}},
		{"SELECT offsets FROM t AS offsets", "", nil},
	} {
		got, cuts, err := cutTravel(c.sql, travelNow)
		if c.want == "" {
			c.want = c.sql
		}
		if err != nil || got != c.want || len(cuts) != len(c.cuts) {
			t.Errorf("%s\ngives %s\nwant  %s\n%+v, %v", c.sql, got, c.want, cuts, err)
			continue
		}
		for i, w := range c.cuts {
			g := cuts[i]
			if !g.asOf.at.Equal(w.asOf.at) || g.asOf.snapshot != w.asOf.snapshot || g.asOf.ref != w.asOf.ref || g.asOf.offsets != w.asOf.offsets || !reflect.DeepEqual(g.table, w.table) || g.schema != w.schema {
				t.Errorf("%s: cut %+v, want %+v", c.sql, g, w)
			}
		}
	}
}

func TestCutTravelErrors(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT *\nFROM t FOR VERSION AS OF":                            "line 2, column 8: time travel of t: expected a snapshot id or a 'tag'",
		"SELECT * FROM t FOR VERSION AS OF -1":                          "expected a snapshot id",
		"SELECT * FROM t FOR VERSION AS OF 1.5":                         "1.5 is no snapshot id",
		"SELECT * FROM t FOR VERSION AS OF 99999999999999999999":        "99999999999999999999 is no snapshot id",
		"SELECT * FROM t FOR VERSION AS OF ''":                          "the tag is empty",
		"SELECT * FROM (SELECT 1) FOR VERSION AS OF 1":                  "follows the name of a table",
		"SELECT * FROM t AT (VERSION => 1":                              "expected )",
		"SELECT * FROM t AT (VERSION => 1, 2)":                          "expected )",
		"SELECT * FROM ns.t FOR TIMESTAMP AS OF TIMESTAMP 'yesterday'":  `time travel of ns.t: "yesterday" is no time`,
		"SELECT * FROM t FOR TIMESTAMP AS OF '2026-06-04 11:00 Nowhere": `unknown time zone "Nowhere"`,
		"SELECT * FROM t FOR TIMESTAMP AS OF '2026-06-04 11:00 Local'":  `unknown time zone "Local"`,
		"SELECT * FROM t FOR TIMESTAMP AS OF '2026-02-30'":              "is no time",
		"SELECT * FROM t FOR TIMESTAMP AS OF now() - 5":                 "expected an interval",
		"SELECT * FROM t FOR TIMESTAMP AS OF now() - INTERVAL '5 eons'": "expected an interval",
		"SELECT * FROM t FOR TIMESTAMP AS OF now() - INTERVAL '-5 min'": "expected an interval",
		"SELECT * FROM t FOR TIMESTAMP AS OF ?":                         "expected a time",
		"SELECT * FROM t FOR TIMESTAMP AS OF TIMESTAMP WITH '2026'":     "WITH TIME ZONE",
		"SELECT * FROM t FOR OFFSETS AS OF 5":                           "expected offsets such as",
		"SELECT * FROM t FOR OFFSETS AS OF ' '":                         "expected offsets such as",
		"SELECT * FROM t FOR OFFSETS AS OF '0:1 0:2'":                   "partition 0 is named twice",
		"SELECT * FROM t AT (OFFSETS => '0-5')":                         "is not partition:offset",
		"FOR VERSION AS OF 1":                                           "line 1, column 1",
	} {
		_, _, err := cutTravel(sql, travelNow)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ErrInvalidSQL.Error()) {
			t.Errorf("%s\ngives %v\nwant  %s", sql, err, want)
		}
	}
}

// FuzzCutTravel: no text panics; one without travel comes back as it was; tokens lie in order within the text; what
// was rewritten has no clause left.
func FuzzCutTravel(f *testing.F) {
	for _, s := range []string{
		"SELECT * FROM ns.t FOR VERSION AS OF 12 a JOIN t AT (TIMESTAMP => TIMESTAMP '2026-06-04 11:01:23 UTC') b USING (x)",
		"SELECT $1, $a$ x $a$, E'\\'', \"q\"\"q\", 1e-5, 0x1f -- c\n /* /* */ */ FROM \"ä\".t FOR TIMESTAMP AS OF now() - INTERVAL '5 minutes'",
		"FOR VERSION AS OF", "t AT (VERSION =>", "'", "\"", "$", "$$", "$a$", "/*", "E'\\", "t FOR TIMESTAMP AS OF ' '", "t FOR TIMESTAMP AS OF '2026-01-01 a'", "\xff.\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		end := 0
		for _, k := range lex(sql) {
			if k.start < end || k.end <= k.start || k.end > len(sql) {
				t.Fatalf("token %d to %d after %d in %q", k.start, k.end, end, sql)
			}
			end = k.end
		}
		out, cuts, err := cutTravel(sql, travelNow)
		if err != nil {
			return
		}
		if len(cuts) == 0 && out != sql {
			t.Fatalf("%q without travel became %q", sql, out)
		}
		for _, c := range cuts {
			if len(c.table) == 0 || c.asOf.newest() || !strings.Contains(out, quoteName(c.schema)+"."+quoteName(c.table.Name())) {
				t.Fatalf("%q: cut %+v in %q", sql, c, out)
			}
		}
	})
}
