package query_test

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

func TestScanColumnsRangeLimit(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(0, "ns", "events")
	s.ingest(1, 4)
	s.add(4)
	s.add(4)
	s.ingest(0, 4) // offsets 8 to 11 are hot
	q := l.service()
	for _, c := range []struct {
		name string
		r    query.ScanRequest
		want string // rows in the order of lines
	}{
		{"columns in the order asked for", query.ScanRequest{Columns: []string{"amount", "kind"}, From: offset.Vector{0: 2, 1: 4}, To: offset.Vector{0: 4, 1: 4}}, "2|k2 3|k0"},
		{"from over files and hot rows", query.ScanRequest{Columns: ledgerOnly, From: offset.Vector{0: 7, 1: 3}}, "0|10 0|11 0|7 0|8 0|9 1|3"},
		{"a partition that from does not name is whole", query.ScanRequest{Columns: ledgerOnly, From: offset.Vector{0: 12}}, "1|0 1|1 1|2 1|3"},
		{"a partition that to does not name is left out", query.ScanRequest{Columns: ledgerOnly, To: offset.Vector{1: 2}}, "1|0 1|1"},
		{"to cuts hot rows", query.ScanRequest{Columns: []string{"amount"}, From: offset.Vector{0: 8}, To: offset.Vector{0: 10}}, "8 9"},
		{"nothing", query.ScanRequest{Columns: ledgerOnly, From: offset.Vector{0: 5}, To: offset.Vector{0: 5}}, ""},
		{"an empty to", query.ScanRequest{Columns: ledgerOnly, To: offset.Vector{}}, ""},
		{"no columns but the ledger's in part", query.ScanRequest{Columns: []string{ledger.ColOffset}, To: offset.Vector{0: 1}}, "0"},
	} {
		c.r.Table = s.id
		res, err := q.Scan(t.Context(), c.r, query.Options{})
		got, _, err := rows(t.Context(), res, err)
		l.must(err)
		same(t, c.name, got, strings.Fields(c.want))
	}
	for limit := int64(1); limit <= 17; limit++ {
		res, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id, Limit: limit}, query.Options{})
		got, _, err := rows(t.Context(), res, err)
		l.must(err)
		if int64(len(got)) != min(limit, 16) {
			t.Errorf("limit %d gives %d rows", limit, len(got))
		}
	}
	res, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id}, query.Options{})
	l.must(err)
	as, err := datafile.ArrowSchema(s.meta().CurrentSchema())
	l.must(err)
	if !res.Schema().Equal(as) {
		t.Errorf("schema %s, want %s", res.Schema(), as)
	}
	res.Release()
	for name, c := range map[string]struct {
		r     query.ScanRequest
		words []string
	}{
		"unknown column":   {query.ScanRequest{Columns: []string{"kind", "amonut"}}, []string{`"amonut"`, "did you mean amount?"}},
		"column twice":     {query.ScanRequest{Columns: []string{"kind", "kind"}}, []string{`"kind"`, "twice"}},
		"negative limit":   {query.ScanRequest{Limit: -1}, []string{"-1"}},
		"unknown snapshot": {query.ScanRequest{SnapshotID: 5}, []string{"no snapshot 5"}},
	} {
		c.r.Table = s.id
		_, err := q.Scan(t.Context(), c.r, query.Options{})
		fails(t, err, query.ErrInvalidSQL, c.words...)
		if n := l.tails.open(); n != 0 {
			t.Fatalf("%s: %d cuts are held", name, n)
		}
	}
}

// counting counts the objects that are opened.
type counting struct {
	objstore.Store
	mu     sync.Mutex
	opened map[string]int
	open   func(ctx context.Context, key string) // before each
}

func (c *counting) Open(ctx context.Context, key string) (objstore.Object, error) {
	c.count(ctx, key)
	return c.Store.Open(ctx, key)
}

func (c *counting) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if strings.HasSuffix(key, ".parquet") {
		c.count(ctx, key)
	}
	return c.Store.Get(ctx, key, limit)
}

func (c *counting) count(ctx context.Context, key string) {
	c.mu.Lock()
	if strings.HasSuffix(key, ".parquet") {
		c.opened[key]++
	}
	c.mu.Unlock()
	if c.open != nil {
		c.open(ctx, key)
	}
}

func (c *counting) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.opened {
		n += k
	}
	return n
}

// TestPruning: files whose statistics exclude a range are not opened.
func TestPruning(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(0, "ns", "events")
	for range 10 {
		s.ingest(1, 10)
		s.add(10)
	}
	for name, c := range map[string]struct {
		r     query.ScanRequest
		files int
		rows  int
	}{
		"all":                    {query.ScanRequest{}, 20, 200},
		"the last":               {query.ScanRequest{From: offset.Vector{0: 95, 1: 100}}, 1, 5},
		"a middle":               {query.ScanRequest{From: offset.Vector{0: 30, 1: 100}, To: offset.Vector{0: 40}}, 1, 10},
		"over an edge":           {query.ScanRequest{From: offset.Vector{0: 39, 1: 100}, To: offset.Vector{0: 41}}, 2, 2},
		"one partition, to":      {query.ScanRequest{To: offset.Vector{1: 20}}, 2, 20},
		"one partition, from":    {query.ScanRequest{From: offset.Vector{1: 100}}, 10, 100},
		"nothing":                {query.ScanRequest{From: offset.Vector{0: 1000, 1: 1000}}, 0, 0},
		"nothing before nothing": {query.ScanRequest{To: offset.Vector{}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := &counting{Store: l.wh.Store, opened: map[string]int{}}
			q := l.service(func(p *parts) { p.wh, p.noSQL = &objstore.Warehouse{Store: store, URI: l.wh.URI}, true })
			c.r.Table = s.id
			res, err := q.Scan(t.Context(), c.r, query.Options{})
			got, _, err := rows(t.Context(), res, err)
			l.must(err)
			if len(got) != c.rows || store.total() != c.files {
				t.Errorf("%d rows of %d files, want %d of %d", len(got), store.total(), c.rows, c.files)
			}
		})
	}
}

// TestEvolvedSchema: columns are found by field id, in files and in hot rows.
func TestEvolvedSchema(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(0, "ns", "events")
	first := s.add(2)
	s.ingest(0, 1) // hot, decoded by the old schema
	old := s.meta().CurrentSchema()
	var fields []iceberg.NestedField
	for _, f := range old.Fields() {
		if f.Name == "kind" {
			f.Name = "sort"
		}
		fields = append(fields, f)
	}
	fields = append(fields, iceberg.NestedField{ID: 100, Name: "kind", Type: iceberg.PrimitiveTypes.String})
	s.update(table.NewAddSchemaUpdate(iceberg.NewSchema(1, fields...)), table.NewSetCurrentSchemaUpdate(-1))
	q := l.service()
	read := func(columns ...string) []string {
		t.Helper()
		res, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id, Columns: columns}, query.Options{})
		got, _, err := rows(t.Context(), res, err)
		l.must(err)
		return got
	}
	want := []string{"k0|(null)|0", "k1|(null)|1", "k2|(null)|2"}
	same(t, "renamed and added", read("sort", "kind", "amount"), want)
	if withSQL {
		res, err := q.Query(t.Context(), "SELECT sort, kind, amount FROM ns.events", nil, query.Options{})
		got, _, err := rows(t.Context(), res, err)
		l.must(err)
		same(t, "renamed and added, SQL", got, want)
	}
	// The earlier snapshot has the schema that it was written with.
	res, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id, Columns: []string{"kind"}, SnapshotID: first}, query.Options{})
	got, _, err := rows(t.Context(), res, err)
	l.must(err)
	same(t, "as it stood then", got, []string{"k0", "k1"})
}

// TestDamagedFile names the file and leaves nothing behind.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)-9] },
		"empty":   func([]byte) []byte { return nil },
		"page":    func(b []byte) []byte { b[40] ^= 0xff; return b },
		"footer":  func(b []byte) []byte { b[len(b)-20] ^= 0xff; return b },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLake(t)
			s := l.table(time.Hour, "ns", "events")
			s.add(500)
			s.add(5)
			bad := slices.MaxFunc(s.files(), func(a, b snapshot.File) int { return int(a.FileSizeBytes() - b.FileSizeBytes()) })
			key, err := l.wh.Key(bad.FilePath())
			l.must(err)
			path, ok := l.wh.LocalPath(key)
			if !ok {
				t.Fatal("not on disk")
			}
			data, err := os.ReadFile(path)
			l.must(err)
			l.must(os.WriteFile(path, damage(bytes.Clone(data)), 0o600))
			q := l.service()
			for how, ask := range asks(s) {
				if how == "sql" && name == "page" {
					continue // DuckDB reads the pages; that it finds the damage is its own affair
				}
				_, _, err := read(t, q, ask)
				fails(t, err, query.ErrCorrupt, "ns.events", bad.FilePath()[strings.LastIndexByte(bad.FilePath(), '/')+1:])
			}
			if n := l.tails.open(); n != 0 {
				t.Errorf("%d cuts are held", n)
			}
		})
	}
}
