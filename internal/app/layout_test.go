package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"log/slog"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

// TestLayoutChangesWithTheConfiguration: a table is filled under one layout, then under another; files of both are there,
// both are queried, and each record is there once.
func TestLayoutChangesWithTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	first := demoPipeline()
	first.Codec, first.SortBy = "snappy", []string{"key.user_id"}
	second := demoPipeline()
	second.Partition, second.SortBy = []string{"bucket(4, key.user_id)"}, []string{"metadata.event_timestamp desc"}
	second.Layout = layout.Config{BloomFilters: []string{"key.user_id"}, Statistics: "counts", RowGroupRows: 500}
	for round, pl := range []Pipeline{first, second} {
		p := upWith(t, dir, Demo{Rate: 2000, Seed: uint64(round)}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleQuery},
			func(c *Config) { c.Pipelines = []Pipeline{pl} })
		c := clientOf(t, dir)
		eventually(t, "two commits", func() (bool, string) {
			s, err := c.Status(t.Context())
			if err != nil {
				return false, err.Error()
			}
			ready, why := s.Ready()
			return ready && s.Pipelines[0].Snapshots >= 2, why
		})
		down(t, p)
	}
	p := upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleQuery}, func(c *Config) { c.Pipelines = []Pipeline{second} })
	defer down(t, p)
	c := clientOf(t, dir)
	eventually(t, "no lag", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && s.Pipelines[0].LagRecords == 0 && s.Pipelines[0].PendingRows == 0, ""
	})
	tb, err := p.catalog.LoadTable(t.Context(), catalog.Identifier{"analytics", "user_events"}, catalog.LoadRefs)
	if err != nil {
		t.Fatal(err)
	}
	meta := tb.Metadata
	if meta.DefaultPartitionSpec() != 1 || meta.DefaultSortOrder() != 2 || meta.Properties()["write.parquet.compression-codec"] != "zstd" {
		t.Errorf("spec %d, order %d, properties %v", meta.DefaultPartitionSpec(), meta.DefaultSortOrder(), meta.Properties())
	}
	files, err := snapshot.Files(t.Context(), p.warehouse, meta.CurrentSnapshot(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	kinds := map[[2]int]int{}
	user, _ := meta.CurrentSchema().FindFieldByName("key.user_id")
	for _, f := range files {
		rows += f.Count()
		kinds[[2]int{int(f.SpecID()), *f.SortOrderID()}]++
		if has := f.LowerBoundValues()[user.ID] != nil; has != (f.SpecID() == 0) {
			t.Errorf("a file of spec %d has bounds of user_id: %v", f.SpecID(), has)
		}
	}
	if len(kinds) != 2 || kinds[[2]int{0, 1}] == 0 || kinds[[2]int{1, 2}] < 4 {
		t.Errorf("files by spec and order: %v", kinds)
	}
	if got := scanRows(t, c, query.LevelHot); got != rows {
		t.Errorf("a scan gives %d rows, the files have %d", got, rows)
	}
	r, err := c.Audit(t.Context(), demoTable, AuditOptions{Kafka: true, AllColumns: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Clean() || r.Rows != rows {
		t.Errorf("%d rows in files; %s", rows, r)
	}
}

func TestLayoutIsCheckedWithTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	contract := demoPipeline().contract
	if err := os.WriteFile(filepath.Join(dir, "c.json"), contract, 0o600); err != nil {
		t.Fatal(err)
	}
	const head = "pipelines:\n  - name: p\n    topic: t\n    table: a.b\n    schema: c.json\n"
	for lines, want := range map[string]string{
		"    sort_by: [key.usr_id]\n":                              "did you mean key.user_id?",
		"    layout:\n      bloom_filters: [nothing.here]\n":       `no column "nothing.here"`,
		"    layout:\n      statistics: most\n":                    "7:19", // line and column
		"    layout:\n      file_size: 10B\n":                      "file_size: 10B is too little",
		"    layout:\n      bloom_filter: [key.user_id]\n":         "did you mean bloom_filters?",
		"    layout:\n      column_statistics: {key.user_id: 1}\n": "statistics \"1\"",
	} {
		path := filepath.Join(dir, "firn.yaml")
		if err := os.WriteFile(path, []byte(head+lines), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ValidateConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", lines, want, err)
		}
	}
	path := filepath.Join(dir, "firn.yaml")
	good := head + "    sort_by: [key.user_id, metadata.event_timestamp desc nulls last]\n    layout: {file_size: 64MiB, statistics: truncate(8), column_statistics: {key.user_id: full}, bloom_filters: [key.user_id], bloom_filter_fpp: 0.02}\n"
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ValidateConfig(path); err != nil {
		t.Error(err)
	}
}
