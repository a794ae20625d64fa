package examples_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/generate"
	"github.com/firnlake/firn/internal/sqlshell"
	"github.com/firnlake/firn/query"
)

// demo is a Firn of the test's own, with generated events.
func demo(t *testing.T) (*app.Process, *app.SQLSession) {
	t.Helper()
	cfg, _, err := app.LoadConfig("")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Data = t.TempDir()
	for _, l := range []*string{&cfg.Broker.Listen, &cfg.Catalog.Listen, &cfg.Query.Listen, &cfg.HTTP.Listen} {
		*l = "127.0.0.1:0"
	}
	if _, err := app.Up(cfg); err != nil {
		t.Fatal(err)
	}
	p, err := app.Start(t.Context(), cfg, app.Options{Roles: []app.Role{app.RoleCatalog, app.RoleIngest, app.RoleCompact, app.RoleQuery},
		Version: "test", Log: slog.New(slog.DiscardHandler), Broker: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := p.Demo(t.Context(), app.Demo{Rate: 2000, Broken: 0.02, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	c, err := app.NewClient(app.Target{Data: cfg.Data, URI: p.Addresses().Flight}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.SQL(t.Context(), query.Options{Level: query.LevelHot})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the connection goes with the process
	return p, s
}

// rowsOf runs a file of the examples as `firn sql < FILE` does and counts the rows.
func rowsOf(t *testing.T, s *app.SQLSession, file string) int {
	t.Helper()
	text, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var out bytes.Buffer
	if err := sqlshell.Run(t.Context(), text, &out, &out, s, sqlshell.Options{Format: sqlshell.FormatJSON}); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return strings.Count(out.String(), "\n")
}

func TestQueriesAndFreshQuery(t *testing.T) {
	p, s := demo(t)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if ready, _ := ready(p); ready {
			break
		}
		if time.Now().After(deadline) {
			_, why := ready(p)
			t.Fatal(why)
		}
		time.Sleep(100 * time.Millisecond)
	}
	files, err := filepath.Glob("user-events/queries/*.sql")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d queries, %v", len(files), err)
	}
	for _, f := range files {
		if n := rowsOf(t, s, f); n == 0 {
			t.Errorf("%s gives no row", f)
		}
	}
	out, err := exec.CommandContext(t.Context(), "go", "run", "./freshquery", "--uri", p.Addresses().Flight, "--rounds", "1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "purchases") {
		t.Errorf("freshquery: %v: %s", err, out)
	}
}

// ready tells that rows and dead letters are committed.
func ready(p *app.Process) (bool, string) {
	s := p.Status()
	ok, why := s.Ready()
	return ok && s.Pipelines[0].Snapshots >= 2 && s.Pipelines[0].DeadLetters > 0, why
}

// The contract that the example and docker-compose use is the one that the demo and the generator follow.
func TestContractIsTheDemos(t *testing.T) {
	raw, err := os.ReadFile("user-events/schemas/user_event.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, generate.Contract) {
		t.Error("examples/user-events/schemas/user_event.json differs from internal/generate/user_event.json")
	}
}
