//go:build cgo

package duck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/query"
)

func nest(n int, before, inside, after string) string {
	return "select " + strings.Repeat(before, n) + inside + strings.Repeat(after, n)
}

// doubling is CTEs each of which reads the one before twice.
func doubling(n int) string {
	var b strings.Builder
	b.WriteString("with a0 as (select 1 x)")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, ", a%d as (select 1 x from a%d, a%d z)", i, i-1, i-1)
	}
	return b.String() + fmt.Sprintf(" select 1 from a%d", n)
}

// Parsing and planning heed no interrupt, so what would take them minutes must not reach them.
func TestStatementsThatWouldTakeForEver(t *testing.T) {
	e := engine(t)
	for name, sql := range map[string]string{
		"and":       "select true" + strings.Repeat(" and true", 100_000),
		"union":     "select 1" + strings.Repeat(" union select 1", 50_000),
		"values":    "select 1 in (" + strings.Repeat("1,", 200_000) + "1)",
		"brackets":  nest(100_000, "(", "1", ")"),
		"subquery":  nest(30, "(select count(*) from (select ", "1", ") t)"),
		"between":   nest(30, "(", "1", " between 0 and 3)::int"),
		"nullif":    nest(30, "nullif(", "1", ", 2)"),
		"fmod":      nest(30, "fmod(", "1", ", 2)"),
		"lambda":    nest(30, "list_transform([1,2], lambda x: ", "1", ")"),
		"arrow":     nest(30, "apply([1,2], x -> ", "1", ")"),
		"doubling":  doubling(30),
		"recursive": "with recursive a as (select 1 x union all select a.x from a, a b) " + doubling(30)[5:],
	} {
		began := time.Now()
		if _, err := e.Inspect(t.Context(), sql); !errors.Is(err, query.ErrLimit) && !errors.Is(err, query.ErrInvalidSQL) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: refused after %s", name, took)
		}
	}
	// And what people write is let through, and planned at once.
	for name, sql := range map[string]string{
		"and":      "select true" + strings.Repeat(" and true", 1000),
		"union":    "select 1" + strings.Repeat(" union all select 1", 200),
		"values":   "select 1 in (" + strings.Repeat("1,", 5000) + "1)",
		"subquery": nest(5, "(select count(*) from (select ", "1", ") t)"),
		"from":     "select * from " + strings.Repeat("(select * from ", 20) + "range(2)" + strings.Repeat(")", 20),
		"doubling": doubling(8),
		"quoted":   "select '" + strings.Repeat("a b ", 50_000) + "'",
	} {
		began := time.Now()
		if _, err := e.Inspect(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := e.Describe(t.Context(), query.Statement{SQL: sql}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: described after %s", name, took)
		}
	}
}

// raw asks DuckDB without the inspection.
func raw(t *testing.T, e query.SQLEngine, sql string) []string {
	t.Helper()
	got, err := ask(t, e, query.Statement{SQL: sql})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(got, "\n")
}

func TestMacrosAreKnown(t *testing.T) {
	e := engine(t)
	// Those that look up names of DuckDB's catalog use an argument once.
	once := regexp.MustCompile(`^(pg_|has_|format_|get_block_size$|current_schemas$)|_description$`)
	for _, m := range raw(t, e, "select distinct function_name from duckdb_functions() where function_type = 'macro' and len(parameters) > 0") {
		if !macros[m] && !deniedFunctions[m] && !once.MatchString(m) {
			t.Errorf("%s may repeat its arguments and is not among the macros", m)
		}
	}
}

// A view of DuckDB's own must stay closed even where a common table expression elsewhere has its name.
func TestSystemViewsStayClosed(t *testing.T) {
	e := engine(t)
	views := raw(t, e, "select distinct view_name from duckdb_views() where internal and schema_name = 'main'")
	if len(views) < 5 {
		t.Fatalf("views %v", views)
	}
	for _, v := range views {
		sql := fmt.Sprintf("select * from %s, (with %s as (select 1) select * from %s)", v, v, v)
		if _, err := e.Inspect(t.Context(), sql); !errors.Is(err, query.ErrNotSelect) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestDamagedPagesNameTheirFile(t *testing.T) {
	e := engine(t)
	var buf bytes.Buffer
	if _, err := datafile.Write(&buf, events(), []arrow.RecordBatch{eventRows(t, 0, 2000)}, datafile.DefaultWriteOptions()); err != nil {
		t.Fatal(err)
	}
	as, err := datafile.ArrowSchema(events())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	const location = "s3://lake/warehouse/t/data/x.parquet"
	st := query.Statement{SQL: "select count(kind), sum(payload.amount), max(happened), count(tags), sum(_kafka_offset), max(payload.page) from analytics.events",
		Relations: []query.Relation{{Name: []string{"analytics", "events"}, Schema: events(), Files: []query.File{{Path: path, Location: location, Schema: as, Whole: true}}}}}
	failed := 0
	for i := range 40 {
		data := bytes.Clone(buf.Bytes())
		at := 10 + i*(len(data)-1000)/40
		for k := range 4 {
			data[at+k] ^= 0x5a
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ask(t, e, st)
		if err == nil {
			continue // DuckDB holds no page against its checksum; query does that before
		}
		failed++
		if !errors.Is(err, query.ErrCorrupt) || !strings.Contains(err.Error(), location) || strings.Contains(err.Error(), path) {
			t.Errorf("bytes from %d: %v", at, err)
		}
	}
	if failed == 0 {
		t.Error("no damage was noticed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, e, st); !errors.Is(err, objstore.ErrNotFound) || strings.Contains(err.Error(), path) {
		t.Errorf("a file that is gone: %v", err)
	}
	// The error of a statement is not blamed on its files.
	st.SQL = "select error('no ' || kind) from analytics.events"
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, e, st); !errors.Is(err, query.ErrInvalidSQL) || errors.Is(err, query.ErrCorrupt) {
		t.Errorf("error(): %v", err)
	}
}

// An interrupt ends the statement that it is for, however early it comes, and no other.
func TestInterruptsMeetNobodyElse(t *testing.T) {
	e := engine(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(40_000))*time.Microsecond)
		if i%2 == 0 {
			_, _ = e.Inspect(ctx, "select "+strconv.Itoa(i)+strings.Repeat(" + 1", 500)) // either outcome is right
		} else {
			s, err := e.Run(ctx, query.Statement{SQL: "select count(*) from range(100000000) a, range(100000000) b where a.range * b.range % 7 = 3"})
			if err == nil {
				for s.Next(ctx) {
				}
				err = s.Err()
				s.Release()
			}
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				t.Errorf("run %d: %v", i, err)
			}
		}
		cancel()
		if _, err := e.Inspect(t.Context(), "select 1"); err != nil {
			t.Fatalf("after interrupt %d: %v", i, err)
		}
	}
}

func TestBrokenSessionIsReplaced(t *testing.T) {
	h := newShared()
	defer h.close()
	var first *session
	err := h.use(t.Context(), func(s *session) error {
		first = s
		return fmt.Errorf("%w: INTERNAL Error", errBroken)
	})
	if !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if err := h.use(t.Context(), func(s *session) error {
		if s == first {
			t.Error("the broken one")
		}
		return s.exec("SELECT 1")
	}); err != nil {
		t.Fatal(err)
	}
	h.close()
	if err := h.use(t.Context(), func(*session) error { return nil }); !errors.Is(err, errClosed) {
		t.Errorf("after close: %v", err)
	}
}
