//go:build cgo

package query_test

import (
	"strings"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/query"
)

// TestNames: what a name in a statement means.
func TestNames(t *testing.T) {
	t.Parallel()
	l := lakeIn(t, &objstore.Warehouse{Store: objstore.NewMemory(), URI: "s3://lake/warehouse"})
	n := int64(0)
	for _, name := range [][]string{
		{"a", "events"}, {"b", "events"}, {"a", "users"}, {"a", "deep", "nest", "leaf"}, {"with.dot", "t.able"}, {"a", "Mixed"},
		{"a", "same"}, {"a", "SAME"}, {"ünï", "täble"}, {"a", "select"},
	} {
		n++
		l.table(0, name...).add(n) // the count of rows tells the table
	}
	q := l.service()
	for sql, want := range map[string]string{
		"SELECT count(*) FROM a.events":                                            "1",
		"SELECT count(*) FROM b.events":                                            "2",
		"SELECT count(*) FROM users":                                               "3",
		"SELECT count(*) FROM USERS u":                                             "3",
		"SELECT count(users.kind) FROM users":                                      "3",
		"SELECT count(users.kind) FROM a.users":                                    "3",
		"SELECT count(*) FROM leaf":                                                "4",
		"SELECT count(*) FROM nest.leaf":                                           "4",
		"SELECT count(*) FROM deep.nest.leaf":                                      "4",
		`SELECT count(*) FROM "a.deep.nest".leaf`:                                  "4",
		`SELECT count(leaf.kind) FROM "a"."deep.nest"."leaf"`:                      "4",
		`SELECT 'ä', count(leaf.kind) FROM deep /* ö */ . "nest".leaf`:             "ä|4",
		"SELECT count(*) FROM deep.nest.leaf x, deep.nest.leaf AS y":               "16",
		`SELECT count(*) FROM "with.dot"."t.able"`:                                 "5",
		`SELECT count(*) FROM "t.able"`:                                            "5",
		"SELECT count(*) FROM mixed":                                               "6",
		`SELECT count(*) FROM a."same"`:                                            "7",
		`SELECT count(*) FROM a."SAME"`:                                            "8",
		"SELECT count(*) FROM ünï.täble":                                           "9",
		"SELECT count(*) FROM tÄble":                                               "9",
		`SELECT count(*) FROM a."select"`:                                          "10",
		"WITH events AS (SELECT * FROM a.events) SELECT count(*) FROM events":      "1",
		"WITH users AS (SELECT 1 AS one) SELECT count(*) FROM users":               "1",
		"WITH users AS (SELECT * FROM users) SELECT count(*) FROM users":           "3",
		"SELECT (SELECT count(*) FROM a.events) + (SELECT count(*) FROM b.events)": "3",
		"SELECT count(*) FROM a.events JOIN b.events USING (_kafka_offset)":        "1",
	} {
		got, _, err := l.ask(q, query.Options{}, "%s", sql)
		if err != nil {
			t.Errorf("%s\n%v", sql, err)
		} else if strings.Join(got, ",") != want {
			t.Errorf("%s\ngives %v, want %s", sql, got, want)
		}
	}
	for sql, words := range map[string][]string{
		"SELECT * FROM events":                 {"events can be a.events or b.events", "in full"},
		"SELECT * FROM evetns":                 {"evetns", "did you mean"},
		"SELECT * FROM a.user":                 {"a.user", "did you mean a.users?"},
		"SELECT * FROM nothing_like_it":        {"nothing_like_it", "a.deep.nest.leaf"},
		`SELECT * FROM a."Same"`:               {"a.Same can be a.SAME or a.same"},
		`SELECT * FROM a."same" x, a."SAME" y`: {"a.same", "a.SAME"},
		"SELECT * FROM leaf.events":            {"leaf.events"},
		"SELECT usr FROM a.users":              {"usr"},
		"SELECT * FROM":                        nil,
	} {
		_, _, err := l.ask(q, query.Options{}, "%s", sql)
		if err == nil {
			t.Errorf("%s gives no error", sql)
			continue
		}
		fails(t, err, query.ErrInvalidSQL, words...)
	}
	_, _, err := l.ask(q, query.Options{}, "SELECT * FROM nowhere.at_all")
	fails(t, err, catalog.ErrNoSuchTable)

	got, pins, err := l.ask(q, query.Options{}, "SHOW TABLES")
	l.must(err)
	if len(got) != 10 || len(pins) != 0 || got[0] != "a.deep.nest|leaf" {
		t.Errorf("SHOW TABLES gives %q and pins %v", got, pins)
	}
	infos, err := q.Tables(t.Context(), true)
	l.must(err)
	if len(infos) != 10 || infos[0].Schema.NumFields() != 6 {
		t.Errorf("Tables gives %+v", infos)
	}

	// A table that is made or dropped between two statements.
	l.table(0, "c", "late").add(3)
	if got, _, err = l.ask(q, query.Options{}, "SELECT count(*) FROM late"); err != nil || got[0] != "3" {
		t.Errorf("a new table: %v, %v", got, err)
	}
	l.must(l.cat.DropTable(t.Context(), catalog.Identifier{"c", "late"}, false))
	_, _, err = l.ask(q, query.Options{}, "SELECT count(*) FROM late")
	fails(t, err, catalog.ErrNoSuchTable, "late")
	l.table(0, "d", "late").add(4)
	if got, _, err = l.ask(q, query.Options{}, "SELECT count(*) FROM late"); err != nil || got[0] != "4" {
		t.Errorf("a table of that name elsewhere: %v, %v", got, err)
	}
}

// TestDescribe gives schemas without pinning hot rows.
func TestDescribe(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(0, "ns", "events")
	s.add(3)
	s.ingest(0, 1)
	q := l.service()
	result, params, err := q.Describe(t.Context(), "SELECT kind, amount + ?::BIGINT AS more FROM events FOR TIMESTAMP AS OF now()", query.Options{})
	l.must(err)
	if result.NumFields() != 2 || result.Field(1).Name != "more" || params.NumFields() != 1 {
		t.Errorf("result %s, parameters %s", result, params)
	}
	for _, sql := range []string{"DELETE FROM events", "SELECT 1; SELECT 2", "COPY events TO '/tmp/x'", "SELECT * FROM read_csv('/etc/passwd')"} {
		_, _, err := q.Describe(t.Context(), sql, query.Options{})
		fails(t, err, query.ErrNotSelect)
		_, _, err = l.ask(q, query.Options{}, "%s", sql)
		fails(t, err, query.ErrNotSelect)
	}
	for sql, is := range map[string]error{"SELECT 1 \x00": query.ErrInvalidSQL, "SELECT '\xff'": query.ErrInvalidSQL, "SELECT 1" + strings.Repeat(" ", 1<<20): query.ErrLimit} {
		_, _, err := l.ask(q, query.Options{}, "%s", sql)
		fails(t, err, is)
	}
}
