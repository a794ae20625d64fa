package app

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/query"
)

// TestDeadLettersAreRedriven: a contract that is too narrow makes dead letters; mended, they become rows beside the pipeline
// that writes on, once, however often it is asked.
func TestDeadLettersAreRedriven(t *testing.T) {
	dir := t.TempDir()
	mended, narrow := demoPipeline(), demoPipeline()
	narrow.contract = bytes.Replace(mended.contract, []byte(`"purchase", `), nil, 1)
	if bytes.Equal(narrow.contract, mended.contract) {
		t.Fatal("the contract has no purchase in it")
	}
	roles := []Role{RoleCatalog, RoleIngest, RoleQuery}
	p := upWith(t, dir, Demo{Rate: 2000, Broken: 0.01, Seed: 5}, slog.New(slog.DiscardHandler), roles, func(c *Config) { c.Pipelines = []Pipeline{narrow} })
	c := clientOf(t, dir)
	eventually(t, "dead letters", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && s.Pipelines[0].Snapshots >= 2 && s.Pipelines[0].DeadLetters > 50, "too few"
	})
	down(t, p)

	p = upWith(t, dir, Demo{Rate: 500, Seed: 6}, slog.New(slog.DiscardHandler), roles, func(c *Config) { c.Pipelines = []Pipeline{mended} })
	defer down(t, p)
	c = clientOf(t, dir)
	c.cfg.Pipelines = []Pipeline{mended}
	eventually(t, "the pipeline writes", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && s.Pipelines[0].Snapshots >= 1, "not yet"
	})
	stats, err := c.DeadLetterStats(t.Context(), demoTable, deadletter.Filter{})
	if err != nil || len(stats) < 2 || stats[0].Reason != "not_in_enum" || stats[0].Place != "/event_type" || stats[0].Redriven != 0 {
		t.Fatalf("stats %+v, %v", stats, err)
	}
	list, err := c.DeadLetters(t.Context(), demoTable, DeadLetterOptions{Filter: deadletter.Filter{Reasons: []string{"not_in_enum"}}, Limit: 3})
	if err != nil || len(list) != 3 {
		t.Fatalf("list %+v, %v", list, err)
	}
	one, err := c.DeadLetter(t.Context(), demoTable, list[0].Partition, list[0].Offset, 0)
	if err != nil || !(bytes.Contains(one.Value, []byte(`"purchase"`)) || bytes.Contains(one.Value, []byte(`"hover"`))) || one.Message == "" {
		t.Errorf("show %+v, %v", one, err)
	}
	if _, err := c.DeadLetter(t.Context(), demoTable, 0, 1<<40, 0); !errors.Is(err, ErrUsage) {
		t.Errorf("a letter that is not there: %v", err)
	}
	dry, err := c.Redrive(t.Context(), demoTable, RedriveOptions{DryRun: true})
	if err != nil || int64(dry.Rows) > stats[0].Letters || int64(dry.Rows) < stats[0].Letters*8/10 || len(dry.Still) == 0 || len(dry.Snapshots) != 0 {
		t.Errorf("dry %+v of %+v, %v", dry, stats, err)
	}
	done, err := c.Redrive(t.Context(), demoTable, RedriveOptions{})
	if err != nil || done.Rows != dry.Rows || len(done.Snapshots) != 1 {
		t.Errorf("redrive %+v, %v", done, err)
	}
	again, err := c.Redrive(t.Context(), demoTable, RedriveOptions{})
	if err != nil || again.Rows != 0 || again.Chosen != dry.Chosen-dry.Rows {
		t.Errorf("again %+v, %v", again, err)
	}
	check := func() {
		t.Helper()
		r, err := c.Audit(t.Context(), demoTable, AuditOptions{Kafka: true})
		if err != nil {
			t.Fatal(err)
		}
		var redriven int64
		for _, p := range r.Partitions {
			redriven += p.Redriven
		}
		if !r.Clean() || redriven != int64(dry.Rows) {
			t.Errorf("%d redriven; %s", redriven, r)
		}
	}
	check()
	// The pipeline reads on by itself.
	before := scanRows(t, c, query.LevelCommitted)
	eventually(t, "the pipeline goes on", func() (bool, string) {
		s, err := c.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		ready, why := s.Ready()
		return ready && scanRows(t, c, query.LevelCommitted) > before, why
	})
	check()
	if stats, err = c.DeadLetterStats(t.Context(), demoTable, deadletter.Filter{Reasons: []string{"not_in_enum"}}); err != nil || stats[0].Redriven != int64(dry.Rows) {
		t.Errorf("stats after it %+v, %v", stats, err)
	}
}
