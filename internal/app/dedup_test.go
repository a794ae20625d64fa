package app

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/dedup"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/units"
)

// TestDeduplicatedPipeline: an event that comes again is dropped, also after a restart, which has nothing but the table to go by, and under a
// mask. Rows without an id stay, and so does the row of an event that was a dead letter before. The audit accounts for all offsets.
func TestDeduplicatedPipeline(t *testing.T) {
	dir := t.TempDir()
	pl := Pipeline{Name: "orders", Topic: "orders", Table: "shop.orders", CommitInterval: units.Duration(200 * time.Millisecond),
		contract: []byte(`{"type":"object","properties":{"id":{"type":["string","null"]},"n":{"type":"integer"}},"required":["n"]}`),
		Dedup:    dedup.Config{Column: "id"},
		Transform: transform.Config{Mask: map[string]transform.Mask{"id": {Method: transform.MethodTokenise, Key: secretOf(t, "0123456789abcdef"), Length: 16}},
			DeadLetters: transform.LettersKeep}}.WithDefaults()
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	up := func() *Process {
		return upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleQuery}, func(c *Config) { c.Pipelines = []Pipeline{pl} })
	}
	table := catalog.Identifier{"shop", "orders"}
	var c *Client
	want := func(rows, dead, dup int64) {
		t.Helper()
		eventually(t, "rows, letters and duplicates", func() (bool, string) {
			s, why := onlyPipeline(t, c)
			return s.Rows == rows && s.DeadLetters == dead && s.Duplicates == dup && s.PendingRows == 0, why
		})
	}
	p := up()
	c = clientOf(t, dir)
	produce(t, p, "orders", `{"id":"a","n":1}`, `{"id":"b","n":"x"}`, `{"id":"a","n":2}`, `{"n":3}`, `{"n":4}`, `{"id":"b","n":5}`)
	want(4, 1, 1)
	down(t, p)

	p = up()
	defer down(t, p)
	c = clientOf(t, dir)
	c.cfg.Pipelines, c.cfg.Kafka = []Pipeline{pl}, p.cfg.Kafka
	produce(t, p, "orders", `{"id":"b","n":6}`, `{"id":"c","n":7}`, `{"id":"a","n":8}`)
	want(1, 0, 2)
	rows := rowsOf(t, c, table, "n")
	if slices.Sort(rows); !slices.Equal(rows, []string{"1", "3", "4", "5", "7"}) {
		t.Errorf("rows %q", rows)
	}
	eventually(t, "a clean audit", func() (bool, string) { // duplicates behind the last row go with the next snapshot
		r, err := c.Audit(t.Context(), table.String(), AuditOptions{Kafka: true})
		if err != nil {
			return false, err.Error()
		}
		return r.Verdict == audit.Clean && r.Partitions[0].Duplicates == 3, r.String()
	})
}

// TestDedupConfig: what would lose events, or could not be accounted for, is refused before anything runs.
func TestDedupConfig(t *testing.T) {
	for want, p := range map[string]Pipeline{
		"json_lines":            {Format: formatLines, Dedup: dedup.Config{Column: "id"}},
		"masked with truncate":  {Dedup: dedup.Config{Column: "id"}, Transform: transform.Config{Mask: map[string]transform.Mask{"id": {Method: transform.MethodTruncate, Length: 3}}}},
		"masked with redact":    {Dedup: dedup.Config{Column: "id"}, Transform: transform.Config{Mask: map[string]transform.Mask{"id": {Method: transform.MethodRedact}}}},
		"dedup.column":          {Dedup: dedup.Config{MaxIDs: 7}},
		"dedup.window":          {Dedup: dedup.Config{Column: "id", Window: 1}},
		"dedup.column: \"a.b\"": {Dedup: dedup.Config{Column: "a.b"}},
	} {
		p.Name, p.Topic, p.Table, p.contract = "p", "t", "a.b", []byte(`{}`)
		if err := p.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
