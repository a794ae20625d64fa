package app

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/query"
)

const demoTable = "analytics.user_events"

// TestRewind: a table that is being filled is set back and filled again; nothing is lost or doubled, hot rows follow,
// and the old head can be gone back to.
func TestRewind(t *testing.T) {
	dir := t.TempDir()
	p := up(t, dir, Demo{Rate: 2000, Broken: 0.01, Seed: 3})
	defer down(t, p)
	c := clientOf(t, dir)
	eventually(t, "three commits", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && len(s.Pipelines) == 1 && s.Pipelines[0].Snapshots >= 3, "too few"
	})
	snaps, err := c.Snapshots(t.Context(), demoTable, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := snaps[len(snaps)-1]
	for name, o := range map[string]RewindOptions{"no target": {}, "two": {Snapshot: 1, Tag: "x"}, "bad offsets": {Offsets: "0;1"}, "bad time": {Snapshot: 1, Keep: -1}} {
		if _, err := c.Rewind(t.Context(), demoTable, o); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dry, err := c.Rewind(t.Context(), demoTable, RewindOptions{Time: first.At, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if dry.Target != first.ID || dry.SnapshotID != 0 || dry.Again <= 0 || dry.Missing != 0 || dry.KafkaError != "" || dry.RowsThen != first.Rows {
		t.Errorf("dry run: %+v", dry)
	}
	done, err := c.Rewind(t.Context(), demoTable, RewindOptions{Snapshot: first.ID, Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	readAgain := func(epoch int64, rows int64) {
		t.Helper()
		eventually(t, "read again", func() (bool, string) {
			s, err := c.Status(t.Context())
			if err != nil {
				return false, err.Error()
			}
			ready, why := s.Ready()
			return ready && s.Pipelines[0].Epoch == epoch && scanRows(t, c, query.LevelCommitted) >= rows, why
		})
		report, err := c.Audit(t.Context(), demoTable, AuditOptions{Kafka: true})
		if err != nil {
			t.Fatal(err)
		}
		if !report.Clean() {
			t.Errorf("audit: %+v", report)
		}
		if hot := scanRows(t, c, query.LevelHot); hot < rows {
			t.Errorf("%d hot rows", hot)
		}
	}
	readAgain(1, done.RowsNow)
	if _, err := c.Rewind(t.Context(), demoTable, RewindOptions{Tag: done.OldHeadTag}); err != nil {
		t.Fatal(err)
	}
	readAgain(2, done.RowsNow)
	if _, err := c.Rewind(t.Context(), demoTable, RewindOptions{Tag: "v1"}); err == nil || !strings.Contains(err.Error(), "no tag v1") {
		t.Errorf("unknown tag: %v", err)
	}
}
