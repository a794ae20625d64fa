package sqlstore

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/firnlake/firn/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// old makes a database as the first version of the program did.
func old(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	first, err := os.ReadFile("migrations/sqlite/0001_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"CREATE TABLE schema_version (version INTEGER NOT NULL)", string(first), "INSERT INTO schema_version VALUES (1)",
		"INSERT INTO namespaces (parent_id, name, properties) VALUES (0, 'ns', '{\"a\":\"b\"}')"} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestUpgrade: a database of the first version is brought up to date once, and keeps what is in it.
func TestUpgrade(t *testing.T) {
	path := old(t)
	id := catalog.Identifier{"ns", "v"}
	for range 2 {
		s, err := Open(t.Context(), path, Options{}, PostgresOptions{})
		if err != nil {
			t.Fatal(err)
		}
		props, err := s.LoadNamespace(t.Context(), id[:1])
		if err != nil || props["a"] != "b" {
			t.Errorf("properties %v, %v", props, err)
		}
		if v, err := s.LoadView(t.Context(), id); err == nil {
			if string(v.Body) != "{}" || v.Version != 1 {
				t.Errorf("the view is %+v", v)
			}
		} else if _, err := s.CreateView(t.Context(), id, View{UUID: "u", MetadataDir: "s3://a/b", MetadataLocation: "s3://a/b/c", Body: []byte("{}")}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNewerDatabase: a program that is older than its database says so and touches nothing.
func TestNewerDatabase(t *testing.T) {
	path := old(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO schema_version VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}, PostgresOptions{}); err == nil || !strings.Contains(err.Error(), "use a newer one") {
		t.Errorf("opened a database of the future: %v", err)
	}
}
