package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/units"
)

func writeContract(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "event.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// settled waits until so many events are committed.
func settled(t *testing.T, c *Client, rows, dead int64) {
	t.Helper()
	eventually(t, "all is committed", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.Rows == rows && s.DeadLetters == dead && s.LagRecords == 0 && s.PendingRows == 0 && s.Snapshots > 0, string(s.Verdict.State) + " " + why
	})
}

// TestJSONLinesPipeline: records with many events give a row each; what cannot be read of them is a dead letter of its own,
// and is taken in alone when the contract allows.
func TestJSONLinesPipeline(t *testing.T) {
	dir := t.TempDir()
	pl := Pipeline{Name: "events", Topic: "events", Format: "json_lines", Table: "a.events", DeadTopic: "events.dead", CommitInterval: units.Duration(200 * time.Millisecond),
		Schema: writeContract(t, dir, `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":"integer","maximum":5}}}`)}
	p, c := upPipeline(t, pl)
	defer down(t, p)
	eventually(t, "it runs", func() (bool, string) { s, why := onlyPipeline(t, c); return s.Verdict.State == StateOK, why })
	produce(t, p, "events", "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":9}\n\n{\"id\":\"c\",\"n\":3}\n", " \n", `{"id":"d"}`, "{\"id\":\"e\"\n{\"id\":\"f\",\"n\":8}")
	settled(t, c, 3, 4)

	events, letters := catalog.Identifier{"a", "events"}, catalog.Identifier{"a", "events_dead"}
	check := func(rows, dead string, redriven int64) {
		t.Helper()
		got := rowsOf(t, c, events, "_kafka_offset", "_kafka_index", "id")
		slices.Sort(got)
		if strings.Join(got, "|") != rows {
			t.Errorf("rows %q, want %s", got, rows)
		}
		if got := strings.Join(rowsOf(t, c, letters, "_kafka_offset", "_kafka_index", "reason"), "|"); got != dead {
			t.Errorf("dead letters %q, want %s", got, dead)
		}
		r, err := c.Audit(t.Context(), "a.events", AuditOptions{Kafka: true})
		if err != nil || r.Verdict != audit.Clean || r.Rows != int64(len(got)) || r.Distinct != r.Rows || r.Partitions[0].Redriven != redriven {
			t.Errorf("%v, %v", r, err)
		}
	}
	const dead = "0 1 out_of_range|1 (null) empty_value|3 0 invalid_json|3 1 out_of_range"
	check("0 0 a|0 2 c|2 0 d", dead, 0)
	if l, err := c.DeadLetter(t.Context(), "a.events", 0, 3, 2); err != nil || l.Line != 2 || string(l.Value) != `{"id":"f","n":8}` {
		t.Errorf("%+v, %v", l, err)
	}

	var keys []string
	for _, r := range letterTopicOf(t, p, "events.dead", 4) {
		keys = append(keys, string(r.Key)+" "+string(r.Value))
	}
	slices.Sort(keys)
	if got := strings.Join(keys, "|"); got != `events/0/0/2 {"id":"b","n":9}|events/0/1  `+"\n"+`|events/0/3/1 {"id":"e"|events/0/3/2 {"id":"f","n":8}` {
		t.Errorf("the topic has %q", got)
	}

	pl.Schema = writeContract(t, t.TempDir(), `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":"integer"}}}`)
	c.cfg.Pipelines = []Pipeline{pl.WithDefaults()}
	for i, rows := range []int{2, 0} {
		got, err := c.Redrive(t.Context(), "a.events", RedriveOptions{})
		if err != nil || got.Rows != rows || got.Still["invalid_json"] != 1 || got.Still["empty_value"] != 1 {
			t.Errorf("redrive %d: %+v, %v", i+1, got, err)
		}
		check("0 0 a|0 1 b|0 2 c|2 0 d|3 1 f", dead, 2)
	}
	produce(t, p, "events", "{\"id\":\"g\"}\n{\"id\":\"h\"}")
	eventually(t, "the pipeline goes on", func() (bool, string) {
		s, why := onlyPipeline(t, c)
		return s.LagRecords == 0 && s.PendingRows == 0 && len(rowsOf(t, c, events, "id")) == 7, why
	})
	check("0 0 a|0 1 b|0 2 c|2 0 d|3 1 f|4 0 g|4 1 h", dead, 2)
}
