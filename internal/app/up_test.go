package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/query"
)

// up starts the whole system under dir on free ports, with generated events.
func up(t *testing.T, dir string, d Demo) *Process {
	t.Helper()
	return upLogged(t, dir, d, slog.New(slog.DiscardHandler))
}

func upLogged(t *testing.T, dir string, d Demo, log *slog.Logger) *Process {
	t.Helper()
	return upWith(t, dir, d, log, []Role{RoleCatalog, RoleIngest, RoleCompact, RoleQuery}, func(*Config) {})
}

func upWith(t *testing.T, dir string, d Demo, log *slog.Logger, roles []Role, change func(*Config)) *Process {
	t.Helper()
	cfg, _, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = dir
	for _, l := range []*string{&cfg.Broker.Listen, &cfg.Catalog.Listen, &cfg.Query.Listen, &cfg.HTTP.Listen} {
		*l = "127.0.0.1:0"
	}
	change(cfg)
	embedded, err := Up(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(t.Context(), cfg, Options{Roles: roles, Version: "test", Log: log, Broker: embedded && slices.Contains(roles, RoleIngest)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Announce(); err != nil {
		t.Fatal(err)
	}
	if d.Rate > 0 {
		if err := p.Demo(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// down stops p, which must not take longer than Ctrl-C may.
func down(t *testing.T, p *Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	began := time.Now()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
}

func clientOf(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := NewClient(Target{Data: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually asks until ok or half a minute has gone.
func eventually(t *testing.T, what string, ok func() (bool, string)) {
	t.Helper()
	var last string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var done bool
		if done, last = ok(); done {
			return
		}
	}
	t.Fatalf("%s: %s", what, last)
}

func scanRows(t *testing.T, c *Client, level query.Level) int64 {
	t.Helper()
	fc, err := c.Flight(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer fc.Close()
	res, err := fc.Scan(t.Context(), query.ScanRequest{Table: catalog.Identifier{"analytics", "user_events"}, Columns: []string{ledger.ColOffset}}, query.Options{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	var n int64
	for res.Next(t.Context()) {
		n += res.RecordBatch().NumRows()
	}
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// The main job on embedded parts, twice on one directory: rows are committed and readable, and the audit is clean.
func TestUpGoesOnWhereItStood(t *testing.T) {
	dir := t.TempDir()
	var before int64
	for round := range 2 {
		p := up(t, dir, Demo{Rate: 2000, Broken: 0.01, Seed: uint64(round)})
		c := clientOf(t, dir)
		eventually(t, "two commits", func() (bool, string) {
			s, err := c.Status(t.Context())
			if err != nil {
				return false, err.Error()
			}
			ready, why := s.Ready()
			return ready && s.Pipelines[0].Snapshots >= 2, why
		})
		hot, committed := scanRows(t, c, query.LevelHot), scanRows(t, c, query.LevelCommitted)
		if hot <= before || committed <= before {
			t.Errorf("round %d: %d rows hot, %d committed, %d before", round, hot, committed, before)
		}
		down(t, p)
		before = hot
	}

	p := up(t, dir, Demo{})
	defer down(t, p)
	c := clientOf(t, dir)
	eventually(t, "no lag", func() (bool, string) {
		s, err := c.Status(t.Context())
		return err == nil && s.Pipelines[0].LagRecords == 0 && s.Pipelines[0].PendingRows == 0, ""
	})
	r, err := c.Audit(t.Context(), "analytics.user_events", AuditOptions{Kafka: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != audit.Clean || r.Rows < before || r.Rows != r.Distinct {
		t.Errorf("%s", r)
	}
	checkVerbs(t, c)
}

// checkVerbs asks what the client verbs ask.
func checkVerbs(t *testing.T, c *Client) {
	t.Helper()
	tables, err := c.Tables(t.Context())
	if err != nil || len(tables) != 2 || tables[0].Table != "analytics.user_events" || tables[0].Rows == 0 {
		t.Errorf("tables %+v, %v", tables, err)
	}
	snaps, err := c.Snapshots(t.Context(), "analytics.user_events", 3)
	if err != nil || len(snaps) != 3 || snaps[0].Kind == "foreign" || snaps[0].Rows < snaps[2].Rows {
		t.Errorf("snapshots %+v, %v", snaps, err)
	}
	o, err := c.Offsets(t.Context(), "analytics.user_events")
	if err != nil || o.Lag != 0 || len(o.Partitions) != demoPartitions || o.Pipeline != "user-events" {
		t.Errorf("offsets %+v, %v", o, err)
	}
	x, err := c.Explain(t.Context(), "analytics.user_events")
	if err != nil || len(x.Steps) != 5 || !x.Steps[1].Answered || x.Stopped != "" || x.Epoch != o.Epoch || len(x.Partitions) != demoPartitions {
		t.Errorf("explain %+v, %v", x, err)
	}
	hist, err := c.History(t.Context(), "analytics.user_events", HistoryOptions{})
	if err != nil || len(hist) < 3 || len(hist[0].Offsets) != demoPartitions || hist[0].At.Before(hist[2].At) {
		t.Errorf("history %+v, %v", hist, err)
	}
	if two, err := c.History(t.Context(), "analytics.user_events", HistoryOptions{Since: hist[2].At, Until: hist[1].At, Limit: 2}); err != nil || len(two) != 2 || two[0].Version != hist[1].Version {
		t.Errorf("history between two commits: %+v, %v", two, err)
	}
	if p, err := c.PruneHistory(t.Context(), "analytics.user_events", time.Now().Add(-2*time.Hour), true); err != nil || p.Entries != 0 {
		t.Errorf("prune: %+v, %v", p, err)
	}
	enough := errors.New("enough")
	var seen []int64
	err = c.Watch(t.Context(), "analytics.user_events", hist[2].Version, func(r WatchRow) error {
		if seen = append(seen, r.Version); r.Version >= hist[0].Version {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(seen) < 2 {
		t.Errorf("watch: %v, %v", seen, err)
	}
	w, err := c.Why(t.Context(), "analytics.user_events")
	if err != nil || w.Stands != "" || len(w.Stages) != 6 {
		t.Errorf("why %+v, %v", w, err)
	}
	r, err := c.Resolve(t.Context(), "analytics.user_events", ResolveOptions{DryRun: true})
	if err != nil || r.SnapshotID != 0 || r.Offsets == "" {
		t.Errorf("resolve, dry: %+v, %v", r, err)
	}
	if _, err := c.Resolve(t.Context(), "analytics.user_events", ResolveOptions{To: "0:0 1:0 2:0 3:0", DryRun: true}); err == nil {
		t.Error("resolve to the beginning of a table with rows was not refused")
	}
	if _, err := c.Snapshots(t.Context(), "analytics.nothing", 1); err == nil || !strings.Contains(err.Error(), "firn tables") {
		t.Errorf("a table that is not there: %v", err)
	}
}

// page asks the process's HTTP address for a path.
func page(t *testing.T, p *Process, path string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addresses().HTTP+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestPageMetricsAndHealth(t *testing.T) {
	p := upWith(t, t.TempDir(), Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleIngest, RoleCompact, RoleQuery},
		func(c *Config) { c.HTTP.Profiles = true })
	defer down(t, p)
	get := func(path string) (int, string) { return page(t, p, path) }
	eventually(t, "ready", func() (bool, string) { code, body := get("/readyz"); return code == http.StatusOK, body })
	for path, want := range map[string]string{"/healthz": "ok", "/": "user-events", "/metrics": "firn_pipeline_state", StatusPath: `"state": "ok"`,
		"/debug/pprof/": "goroutine", "/debug/pprof/heap?debug=1": "heap profile"} {
		if code, body := get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, %q is not in it", path, code, want)
		}
	}
	if code, _ := get("/nothing"); code != http.StatusNotFound {
		t.Errorf("/nothing: %d", code)
	}
}

func TestABusyPortIsSaidWithTheWayOut(t *testing.T) {
	p := up(t, t.TempDir(), Demo{})
	defer down(t, p)
	if code, _ := page(t, p, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles without http.profiles: %d", code)
	}
	cfg, _, err := LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data, cfg.HTTP.Listen = t.TempDir(), p.Addresses().HTTP
	if _, err := Up(cfg); err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), cfg, Options{Roles: []Role{RoleQuery}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "--http-port") || !strings.Contains(err.Error(), cfg.HTTP.Listen) {
		t.Errorf("a busy port: %v", err)
	}
}
