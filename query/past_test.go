//go:build cgo

package query_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

// ask runs a statement and gives its rows, sorted, and its pins.
func (l *lake) ask(q *query.Service, o query.Options, sql string, args ...any) ([]string, []query.Pin, error) {
	l.Helper()
	res, err := q.Query(l.Context(), fmt.Sprintf(sql, args...), nil, o)
	got, pins, err := rows(l.Context(), res, err)
	if n := l.tails.open(); n != 0 {
		l.Errorf("%d cuts are held after %s", n, sql)
	}
	return got, pins, err
}

// settle lets the clock of the catalog, which counts milliseconds, move on.
func settle() time.Time {
	time.Sleep(3 * time.Millisecond)
	defer time.Sleep(3 * time.Millisecond)
	return time.Now()
}

// past is a table with three snapshots and what lies between them.
type past struct {
	*stream
	beforeTable, created, t1, t2, t3 time.Time // t1: between the first and the second snapshot
	s1, s2, s3                       int64
}

func newPast(l *lake, name ...string) *past {
	l.Helper()
	p := &past{beforeTable: settle()}
	p.stream = l.table(0, name...)
	p.created = settle()
	p.s1 = p.add(2)
	p.update(snapshot.SetTag("first", p.s1, 0))
	p.t1 = settle()
	p.s2 = p.add(3)
	p.t2 = settle()
	p.s3 = p.add(4)
	p.t3 = settle()
	p.ingest(0, 1)
	return p
}

// stampOf is when the metadata says that a snapshot was made.
func (p *past) stampOf(id int64) time.Time {
	p.Helper()
	for e := range p.meta().SnapshotLogs() {
		if e.SnapshotID == id {
			return time.UnixMilli(e.TimestampMs).UTC()
		}
	}
	p.Fatalf("no snapshot %d in the log", id)
	return time.Time{}
}

func sqlTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

func TestTimeTravel(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	p := newPast(l, "ns", "events")
	other := newPast(l, "ns", "other")
	q := l.service()
	exact := p.stampOf(p.s2)
	for _, c := range []struct {
		sql  string
		want string // count and greatest offset
		pins string // snapshot:kind:level of each
	}{
		{"FROM ns.events", "10|9", "3:newest:hot"},
		{fmt.Sprintf("FROM ns.events FOR VERSION AS OF %d", p.s2), "5|4", "2:stood:committed"},
		{"FROM ns.events FOR VERSION AS OF 'first' e", "2|1", "1:stood:committed"},
		{fmt.Sprintf("FROM events AT (VERSION => %d) AS e", p.s1), "2|1", "1:stood:committed"},
		{"FROM events AT (VERSION => 'main')", "9|8", "3:stood:committed"},
		{"FROM events FOR TIMESTAMP AS OF TIMESTAMP '" + sqlTime(p.t1) + " UTC'", "2|1", "1:stood:committed"},
		{"FROM events FOR TIMESTAMP AS OF TIMESTAMP '" + sqlTime(p.t2) + "'", "5|4", "2:stood:committed"},
		{"FROM events AT (TIMESTAMP => TIMESTAMP '" + sqlTime(p.t3) + "')", "9|8", "3:stood:committed"},
		{"FROM events FOR TIMESTAMP AS OF '" + sqlTime(exact) + "'", "5|4", "2:stood:committed"},
		{"FROM events FOR TIMESTAMP AS OF '" + sqlTime(exact.Add(-time.Millisecond)) + "'", "2|1", "1:stood:committed"},
		{"FROM events FOR TIMESTAMP AS OF now()", "9|8", "3:stood:committed"},
		{`FROM "ns"."events" FOR VERSION AS OF 'first' WHERE "events".kind <> 'FOR TIMESTAMP AS OF' -- x FOR VERSION AS OF 1`, "2|1", "1:stood:committed"},
		{"FROM (SELECT * FROM ns.events /* FOR VERSION AS OF 1 */ FOR VERSION /* of */ AS OF 'first')", "2|1", "1:stood:committed"},
		{"FROM NS.Events FOR VERSION AS OF 'first'", "2|1", "1:stood:committed"},
		{fmt.Sprintf("FROM events b ANTI JOIN events FOR VERSION AS OF %d a USING (_kafka_offset)", p.s2), "5|9", "2:stood:committed 3:newest:hot"},
		{fmt.Sprintf("FROM (SELECT * FROM events FOR VERSION AS OF %d UNION ALL SELECT * FROM events FOR VERSION AS OF 'first')", p.s2), "7|4", "2:stood:committed 1:stood:committed"},
		{fmt.Sprintf("FROM (SELECT * FROM events FOR VERSION AS OF 'first' UNION ALL SELECT * FROM ns.other FOR VERSION AS OF %d)", other.s3), "11|8", "1:stood:committed 3:stood:committed"},
		{"FROM (WITH t AS (SELECT * FROM events FOR VERSION AS OF 'first') SELECT a._kafka_offset FROM t a, t b)", "4|1", "1:stood:committed"},
		{"FROM (WITH other AS (SELECT * FROM ns.events FOR VERSION AS OF 'first') SELECT * FROM other)", "2|1", ""},
	} {
		got, pins, err := l.ask(q, query.Options{}, "SELECT count(*), max(_kafka_offset) %s", c.sql)
		if err != nil {
			t.Errorf("%s\n%v", c.sql, err)
			continue
		}
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s\ngives %v, want %s", c.sql, got, c.want)
		}
		if have := describe(pins, p, other); c.pins != "" && !sameWords(have, c.pins) {
			t.Errorf("%s\nis pinned at %s, want %s", c.sql, have, c.pins)
		}
	}

	// Options.AsOf is for the tables that the statement says nothing of.
	got, pins, err := l.ask(q, query.Options{AsOf: p.t2}, "SELECT count(*) FROM events UNION ALL SELECT count(*) FROM events FOR VERSION AS OF 'first'")
	l.must(err)
	same(t, "Options.AsOf", got, []string{"2", "5"})
	if have := describe(pins, p, other); !sameWords(have, "2:stood:committed 1:stood:committed") {
		t.Errorf("Options.AsOf is pinned at %s", have)
	}
	for _, pin := range pins {
		if pin.SnapshotID == p.s2 && !pin.AsOf.Equal(p.t2) {
			t.Errorf("pin %+v does not say %s", pin, p.t2)
		}
	}
	lines, pin := p.scan(q, query.Options{AsOf: p.t1})
	same(t, "scan as of", lines, upTo(offset.Vector{0: 2}))
	if pin.SnapshotID != p.s1 || pin.Kind != query.KindStood || !pin.AsOf.Equal(p.t1) || !pin.End.Equal(offset.Vector{0: 2}) {
		t.Errorf("pin %+v", pin)
	}

	for sql, words := range map[string][]string{
		"FROM events FOR VERSION AS OF 77":                                         {"no snapshot 77", "ns.events"},
		"FROM events FOR VERSION AS OF 'gone'":                                     {`no tag or branch "gone"`},
		"FROM events FOR TIMESTAMP AS OF '" + sqlTime(p.beforeTable) + "'":         {"ns.events had no commit yet at", sqlTime(p.beforeTable)},
		"FROM events FOR TIMESTAMP AS OF '" + sqlTime(p.created) + "'":             {"ns.events had no commit yet at"},
		"FROM evnts FOR VERSION AS OF 1":                                           {"evnts", "did you mean ns.events?"},
		"FROM events e FOR VERSION AS OF 'first'":                                  {"before its alias", "column 31"},
		"FROM range(3) FOR VERSION AS OF 'first'":                                  {"follows the name of a table"},
		"FROM (WITH t AS (SELECT 1 AS _kafka_offset) FROM t FOR VERSION AS OF 1)":  {"t"},
		"FROM events WHERE kind FOR VERSION AS OF 1":                               {"kind"},
		"FROM events, (SELECT 'a' AS kind FOR VERSION AS OF 'first') ORDER BY ALL": {"kind"},
	} {
		_, _, err := l.ask(q, query.Options{}, "SELECT count(*) %s", sql)
		fails(t, err, query.ErrInvalidSQL, words...)
	}
}

// describe is the pins with short names for the snapshots.
func describe(pins []query.Pin, of ...*past) string {
	var out []string
	for _, pin := range pins {
		n := -1
		if pin.SnapshotID == 0 {
			n = 0
		}
		for _, p := range of {
			for i, id := range []int64{p.s1, p.s2, p.s3} {
				if id == pin.SnapshotID {
					n = i + 1
				}
			}
		}
		kind := map[string]string{query.KindNewest: "newest", query.KindStood: "stood", query.KindReadNow: "now"}[pin.Kind]
		out = append(out, fmt.Sprintf("%d:%s:%s", n, kind, pin.Level))
	}
	return strings.Join(out, " ")
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for _, w := range x {
		if !strings.Contains(" "+b+" ", " "+w+" ") {
			return false
		}
	}
	return true
}

// TestTravelPastExpiry: without the snapshot of a time, its offsets cut what the table holds today.
func TestTravelPastExpiry(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	p := newPast(l, "ns", "events")
	// One file over an edge: the cut goes through it.
	f, err := p.write(p.meta(), 3, 0, 6)
	l.must(err)
	p.foreign(f)
	p.end[3] = 6
	p.vec[3] = 6
	p.add(1)
	p.expire()
	q := l.service()
	for name, c := range map[string]struct {
		at    time.Time
		below offset.Vector
		kind  string
		snap  int64
	}{
		"at the first, which a tag keeps": {p.t1, offset.Vector{0: 2}, query.KindStood, p.s1},
		"at the second":                   {p.t2, offset.Vector{0: 5}, query.KindReadNow, p.meta().CurrentSnapshot().SnapshotID},
		"at the third":                    {p.t3, offset.Vector{0: 9}, query.KindReadNow, p.meta().CurrentSnapshot().SnapshotID},
	} {
		for range 2 {
			got, pin := p.scan(q, query.Options{AsOf: c.at})
			same(t, name, got, upTo(c.below))
			if pin.Kind != c.kind || pin.SnapshotID != c.snap || !pin.AsOf.Equal(c.at) || pin.Level != query.LevelCommitted || !pin.End.Equal(c.below) {
				t.Errorf("%s: pin %+v", name, pin)
			}
			got, pins, err := l.ask(q, query.Options{}, "SELECT _kafka_partition, _kafka_offset FROM events FOR TIMESTAMP AS OF '%s'", sqlTime(c.at))
			l.must(err)
			same(t, name+", SQL", got, upTo(c.below))
			if pins[0].Kind != c.kind || pins[0].SnapshotID != c.snap {
				t.Errorf("%s, SQL: pin %+v", name, pins[0])
			}
		}
	}
	// A range within the cut.
	res, err := q.Scan(t.Context(), query.ScanRequest{Table: p.id, Columns: ledgerOnly, From: offset.Vector{0: 4, 3: 1}}, query.Options{AsOf: p.t3})
	got, _, err := rows(t.Context(), res, err)
	l.must(err)
	same(t, "a range", got, []string{"0|4", "0|5", "0|6", "0|7", "0|8"})
	_, _, err = l.ask(q, query.Options{}, "SELECT 1 FROM events FOR VERSION AS OF %d", p.s2)
	fails(t, err, query.ErrInvalidSQL, fmt.Sprint(p.s2), "ask for a time")

	// By offsets, at the edge of a commit or between two.
	for text, below := range map[string]offset.Vector{"0:5": {0: 5}, "0:7 3:4": {0: 7, 3: 4}, "0:0 3:6": {3: 6}} {
		for _, form := range []string{"FOR OFFSETS AS OF '%s'", "AT (OFFSETS => '%s')"} {
			got, pins, err := l.ask(q, query.Options{}, "SELECT _kafka_partition, _kafka_offset FROM events "+form, text)
			l.must(err)
			same(t, "offsets "+text, got, upTo(below))
			if pins[0].Kind != query.KindReadNow || pins[0].Level != query.LevelCommitted {
				t.Errorf("offsets %s: pin %+v", text, pins[0])
			}
		}
	}
	_, _, err = l.ask(q, query.Options{}, "SELECT 1 FROM events FOR OFFSETS AS OF '0:10 1:1'")
	fails(t, err, query.ErrInvalidSQL, "not all of that is committed yet", "partition 1")

	// A catalog that keeps no history says how far back it goes.
	poor := l.service(func(parts *parts) { parts.cat = struct{ catalog.Catalog }{l.cat} })
	_, _, err = l.ask(poor, query.Options{}, "SELECT 1 FROM events FOR TIMESTAMP AS OF '%s'", sqlTime(p.t2))
	fails(t, err, query.ErrInvalidSQL, "ns.events", "keeps no further history")
}

// TestTravelThroughFile: a file that holds rows of before and after the time gives those of before.
func TestTravelThroughFile(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(0, "ns", "events")
	s.add(3)
	at := settle()
	s.add(4)
	// As compaction would: one file instead of two, the old ones gone with their snapshots.
	f, err := s.write(s.meta(), 0, 0, 7)
	l.must(err)
	s.swap(f)
	s.expire()
	q := l.service()
	got, pin := s.scan(q, query.Options{AsOf: at})
	same(t, "cut through a file", got, upTo(offset.Vector{0: 3}))
	if pin.Kind != query.KindReadNow {
		t.Errorf("pin %+v", pin)
	}
	got, _, err = l.ask(q, query.Options{AsOf: at}, "SELECT kind, amount FROM events")
	l.must(err)
	same(t, "cut through a file, SQL", got, []string{"k0|0", "k1|1", "k2|2"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = q.Scan(ctx, query.ScanRequest{Table: s.id}, query.Options{AsOf: at})
	fails(t, err, context.Canceled)
}
