package app

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/logging/logtest"
)

// TestAStopIsLoudAndResolveEndsIt: a table that lost its head stops the pipeline; log, /readyz, metric and --explain say
// so with the way out, and after firn offsets resolve it goes on.
func TestAStopIsLoudAndResolveEndsIt(t *testing.T) {
	dir, logs := t.TempDir(), &logtest.Buffer{}
	p := upLogged(t, dir, Demo{Rate: 500, Seed: 5}, slog.New(slog.NewTextHandler(logs, nil)))
	defer down(t, p)
	c := clientOf(t, dir)
	eventually(t, "a commit", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && len(s.Pipelines) == 1 && s.Pipelines[0].Snapshots >= 1, "none"
	})
	cat, err := c.Catalog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	if _, err := cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: catalog.Identifier{"analytics", "user_events"},
		Updates: table.Updates{table.NewRemoveSnapshotRefUpdate(table.MainBranch)}}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) { return page(t, p, path) }
	const remedy = "firn offsets resolve"
	eventually(t, "stopped", func() (bool, string) {
		code, body := get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "stopped") && strings.Contains(body, remedy), body
	})
	if _, body := get("/metrics"); !strings.Contains(body, `firn_pipeline_state{pipeline="user-events",state="stopped"} 1`) {
		t.Error("no metric says stopped")
	}
	if text := logs.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "state=stopped") || !strings.Contains(text, remedy) {
		t.Errorf("the log does not say it:\n%s", text)
	}
	x, err := c.Explain(t.Context(), demoTable)
	if err != nil || !strings.Contains(x.Stopped, remedy) || len(x.Steps) != 5 {
		t.Errorf("explain %+v, %v", x, err)
	}
	if _, err := c.Offsets(t.Context(), demoTable); err == nil {
		t.Error("firn offsets gave a position")
	}
	dry, err := c.Resolve(t.Context(), demoTable, ResolveOptions{DryRun: true})
	if err != nil || dry.SnapshotID != 0 {
		t.Fatalf("dry run %+v, %v", dry, err)
	}
	if _, err := c.Resolve(t.Context(), demoTable, ResolveOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() (bool, string) {
		code, body := get("/readyz")
		if code != http.StatusOK {
			return false, body
		}
		r, err := c.Audit(t.Context(), demoTable, AuditOptions{Kafka: true})
		return err == nil && r.Clean() && r.Rows > 0, "not clean yet"
	})
}
