package app

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/registry"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// orderV3 is what no table of orders can follow.
const orderV3 = `{"type":"record","name":"order","fields":[{"name":"id","type":"string"},{"name":"count","type":"string"}]}`

// Schemas that change while three pipelines read, one of each policy: the tables grow in the commits that need it, hot rows
// and committed ones agree, and at the first event that cannot be followed each does what it was told.
func TestSchemasChangeWhileItRuns(t *testing.T) {
	reg := &schemaServer{answers: map[string]string{}}
	for i, text := range []string{orderV1, orderV2, orderV3} {
		reg.answers[fmt.Sprintf("/schemas/ids/%d", i+1)] = `{"schema":` + quoted(text) + `}`
	}
	policies := []string{decode.Stop, decode.DeadLetter, decode.NewColumn}
	srv := httptest.NewServer(reg)
	defer srv.Close()
	var pipelines []Pipeline
	for _, policy := range policies {
		reg.answers["/subjects/"+policy+"-value/versions/latest"] = `{"id":1,"schema":` + quoted(orderV1) + `}`
		pl := Pipeline{Name: policy, Topic: policy, Format: "avro", Table: "shop." + policy, OnIncompatible: policy, CommitInterval: units.Duration(200 * time.Millisecond),
			Registry: registry.Config{URL: srv.URL}.WithDefaults()}.WithDefaults()
		if err := pl.Validate(); err != nil {
			t.Fatal(err)
		}
		pipelines = append(pipelines, pl)
	}
	dir := t.TempDir()
	p := upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleCompact, RoleQuery}, func(c *Config) {
		c.Pipelines, c.Compaction.Interval, c.Compaction.MinInputFiles = pipelines, units.Duration(100*time.Millisecond), 2
	})
	defer down(t, p)
	c := clientOf(t, dir)
	status := func(policy string) PipelineStatus {
		s, err := c.Status(t.Context())
		if err != nil {
			return PipelineStatus{}
		}
		return s.Pipelines[slices.IndexFunc(s.Pipelines, func(p PipelineStatus) bool { return p.Name == policy })]
	}
	v1 := func(id string) string {
		return framed(1, encodeOrder(t, orderV1, map[string]any{"id": id, "count": 1}))
	}
	v2 := framed(2, encodeOrder(t, orderV2, map[string]any{"id": "b", "count": int64(1) << 40, "note": "n", "at": nil}))
	v3 := framed(3, encodeOrder(t, orderV3, map[string]any{"id": "d", "count": "three"}))
	settled := func(policy string, rows, dead int64) {
		t.Helper()
		eventually(t, policy, func() (bool, string) {
			s := status(policy)
			return s.Rows == rows && s.DeadLetters == dead && s.PendingRows == 0 && s.Snapshots > 0, fmt.Sprintf("%+v", s.Verdict)
		})
	}
	for _, policy := range policies {
		produce(t, p, policy, v1("a"))
	}
	first := map[string]int64{}
	for _, policy := range policies {
		settled(policy, 1, 0)
		first[policy] = status(policy).SnapshotID
		produce(t, p, policy, v2, v1("c"), v1("c2")) // four rows: they are merged in however many commits they come
	}
	for _, policy := range policies {
		settled(policy, 4, 0)
		id := catalog.Identifier{"shop", policy}
		want := []string{"a 1 (null)", "b 1099511627776 n", "c 1 (null)", "c2 1 (null)"}
		got := rowsOf(t, c, id, "id", "count", "note")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", policy, got, want)
		}
		// SQL sees the newest schema, and at a snapshot from before it the one of then; so it is when files of both were merged.
		now := "select id, count, note from shop." + policy + " order by id"
		eventually(t, "files of both schemas are one", func() (bool, string) {
			s, err := c.Status(t.Context())
			if err != nil {
				return false, err.Error()
			}
			i := slices.IndexFunc(s.Tables, func(s compaction.TableStatus) bool { return s.Table == id.String() })
			return i >= 0 && s.Tables[i].Rows == 4 && s.Tables[i].LiveFiles == 1, fmt.Sprintf("%+v", s.Tables)
		})
		if got := sqlRows(t, c, now); !slices.Equal(got, want) {
			t.Errorf("%s: SQL has %q, want %q", policy, got, want)
		}
		then := sqlRows(t, c, fmt.Sprintf("select * exclude (_kafka_partition, _kafka_offset, _kafka_timestamp, _ingested_at), typeof(count) from shop.%s for version as of %d", policy, first[policy]))
		if !slices.Equal(then, []string{"a 1 INTEGER"}) {
			t.Errorf("%s: SQL has %q at the first snapshot", policy, then)
		}
		s := status(policy)
		if !slices.Contains(s.SchemaIDs, 2) || s.TableSchema != 1 || s.SchemaChanges != 3 || !strings.HasPrefix(s.LastSchemaChange, "widen count from int to long, add note string, add at timestamptz at ") {
			t.Errorf("%s: ids %v, schema %d, %d changes: %s", policy, s.SchemaIDs, s.TableSchema, s.SchemaChanges, s.LastSchemaChange)
		}
		produce(t, p, policy, v3, v1("e"))
	}

	eventually(t, "it stops", func() (bool, string) {
		s := status(decode.Stop)
		return s.Verdict.State == StateStopped && strings.Contains(s.Verdict.Cause, "schema id 3") && strings.Contains(s.Verdict.Cause, "on_incompatible_schema") && s.Verdict.Next == nextIncompatible, fmt.Sprintf("%+v", s.Verdict)
	})
	settled(decode.DeadLetter, 5, 1)
	settled(decode.NewColumn, 6, 0)
	for policy, want := range map[string][]string{decode.Stop: {"a", "b", "c", "c2"}, decode.DeadLetter: {"a", "b", "c", "c2", "e"}, decode.NewColumn: {"a", "b", "c", "c2", "d", "e"}} {
		for _, level := range []query.Level{query.LevelCommitted, query.LevelHot} {
			got := rowsAt(t, c, level, catalog.Identifier{"shop", policy}, "id")
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", policy, got, want)
			}
		}
	}
	if got := rowsOf(t, c, catalog.Identifier{"shop", "new_column"}, "id", "count", "count_v2"); !slices.Contains(got, "d (null) three") || !slices.Contains(got, "e 1 (null)") {
		t.Error(got)
	}
	if got := rowsOf(t, c, catalog.Identifier{"shop", "dead_letter_dead"}, "reason"); !slices.Equal(got, []string{decode.ReasonIncompatible}) {
		t.Error(got)
	}
	for _, policy := range policies[1:] {
		if r, err := c.Audit(t.Context(), "shop."+policy, AuditOptions{Kafka: true}); err != nil || r.Verdict != audit.Clean {
			t.Errorf("%s: %v, %v", policy, r, err)
		}
	}
}
