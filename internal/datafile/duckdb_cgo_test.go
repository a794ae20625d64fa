//go:build cgo

package datafile

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	_ "github.com/duckdb/duckdb-go/v2"
)

// DuckDB reads what was written, in each compression, and leaves row groups out by their Bloom filters.
func TestDuckDBReads(t *testing.T) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sc, r := wide(t, 30_000)
	defer r.Release()
	for codec := range Codecs {
		o := DefaultWriteOptions()
		o.Codec, o.RowGroupRows = codec, 10_000
		o.Columns = map[int]ColumnOptions{2: {Bloom: 0.001}}
		path := filepath.Join(t.TempDir(), codec+".parquet")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Write(f, sc, []arrow.RecordBatch{r}, o); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		var rows, sum, found int64
		name := r.Column(1).ValueStr(12_345)
		query := fmt.Sprintf(`select count(*), sum(id), (select id from '%[1]s' where name = '%[2]s') from '%[1]s'`, path, name)
		if err := db.QueryRow(query).Scan(&rows, &sum, &found); err != nil {
			t.Fatalf("%s: %v", codec, err)
		}
		if rows != 30_000 || sum != 30_000*29_999 || found != 24_690 {
			t.Errorf("%s: %d rows, sum %d, %s has the id %d", codec, rows, sum, name, found)
		}
		for value, want := range map[string]int{name: 2, "absent": 3} {
			var excluded int
			probe := fmt.Sprintf(`select count(*) filter (bloom_filter_excludes) from parquet_bloom_probe('%s', 'name', '%s')`, path, value)
			if err := db.QueryRow(probe).Scan(&excluded); err != nil {
				t.Fatalf("%s: %v", codec, err)
			}
			if excluded != want {
				t.Errorf("%s: %q is ruled out in %d of 3 row groups, want %d", codec, value, excluded, want)
			}
		}
	}
}
