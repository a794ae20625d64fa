package app

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// TestRestOfEvents: fields that the contract does not name are rows of a column, committed and hot, of json_lines and under
// a transform; what is masked or dropped is known and never among them. A contract that names one of them takes it out.
func TestRestOfEvents(t *testing.T) {
	const canary = "canary-4712"
	dir, logs := t.TempDir(), &locked{}
	contract := `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"email":{"type":"string"},"phone":{"type":"string"}}}`
	pl := Pipeline{Name: "people", Topic: "people", Format: "json_lines", Rest: "_rest", Table: "crm.people", contract: []byte(contract), CommitInterval: units.Duration(200 * time.Millisecond),
		Transform: transform.Config{Drop: []string{"phone"}, Columns: map[string]string{"rest_bytes": "length(_rest)"},
			Mask: map[string]transform.Mask{"email": {Method: transform.MethodRedact}}, DeadLetterKey: secretOf(t, "fedcba9876543210")}}.WithDefaults()
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	p := upWith(t, dir, Demo{}, slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})), []Role{RoleCatalog, RoleIngest, RoleQuery},
		func(c *Config) { c.Pipelines = []Pipeline{pl} })
	defer down(t, p)
	c := clientOf(t, dir)
	c.cfg.Pipelines, c.cfg.Kafka = []Pipeline{pl}, p.cfg.Kafka
	hidden := `"email":"` + canary + `","\u0070hone":"` + canary + `"`
	produce(t, p, "people", "{\"arm\":\"b\","+hidden+",\"id\":1}\n{\"id\":2,"+hidden+"}", `{"id":"x","arm":"c",`+hidden+`}`)
	settled(t, c, 2, 1)
	table := catalog.Identifier{"crm", "people"}
	for _, level := range []query.Level{query.LevelCommitted, query.LevelHot} {
		got := rowsAt(t, c, level, table, "id", "email", "_rest", "rest_bytes")
		if slices.Sort(got); strings.Join(got, "|") != `1 [redacted] {"arm":"b"} 11|2 [redacted] (null) (null)` {
			t.Errorf("level %v: rows %q", level, got)
		}
	}
	holdsNowhere(t, dir, canary, logs)

	wider := pl
	wider.contract = []byte(`{"type":"object","properties":{"arm":{"type":"string"},"email":{"type":"string"},"phone":{"type":"string"}}}`)
	c.cfg.Pipelines = []Pipeline{wider}
	if got, err := c.Redrive(t.Context(), table.String(), RedriveOptions{}); err != nil || got.Rows != 1 {
		t.Errorf("redrive: %+v, %v", got, err)
	}
	got := rowsOf(t, c, table, "_rest", "arm")
	if slices.Sort(got); strings.Join(got, "|") != `(null) (null)|{"arm":"b"} (null)|{"id":"x"} c` {
		t.Errorf("rows %q", got)
	}
	holdsNowhere(t, dir, canary, logs)
}
