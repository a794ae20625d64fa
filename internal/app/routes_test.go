package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/units"
)

// routedConfig reads a configuration whose one pipeline is completed by what is said, and the contract beside it.
func routedConfig(t *testing.T, said string) (*Config, error) {
	t.Helper()
	return pipelineConfig(t, "topic: people, schema: people.json, "+said)
}

// pipelineConfig reads a configuration with one pipeline, and the contract people.json beside it.
func pipelineConfig(t *testing.T, said string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "people.json"), []byte(peopleContract), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "firn.yaml")
	if err := os.WriteFile(path, []byte("pipelines:\n  - {name: p, "+said+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := LoadConfig(path)
	if err == nil {
		_, err = ValidateConfig(path)
	}
	return c, err
}

func TestRoutesBecomePipelines(t *testing.T) {
	c, err := routedConfig(t, `match: first, commit_interval: 2s, sort_by: [id], max_memory: 32MiB, transform: {drop: [n], filter: "id > 0"}, routes: [
		{table: crm.bots, where: "kind = 'bot'", commit_interval: 10s, max_memory: 64MiB, transform: {drop: [user]}, sort_by: []},
		{table: crm.old, name: ancient, where: "id < 100", dead_letter_table: crm.lost, dedup: {column: kind}},
		{table: crm.rest, otherwise: true, partition_by: ["bucket(4, id)"]}]`)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.Pipelines {
		r := p.Transform.Route
		got = append(got, fmt.Sprint(p.Name, " ", p.Table, " ", p.DeadLetter, " ", p.Gaps, " ", p.CommitInterval, " ", p.CatchUp, " ", p.MaxMemory, " ", p.SortBy, p.Partition,
			p.Transform.Drop, p.Dedup.Column, " ", r.Where, r.Not, r.Unrouted))
	}
	want := []string{
		"p.bots crm.bots crm.bots_dead crm.bots_gaps 10s 40s 64MiB [] [] [n user] kind = 'bot'[] []",
		"p.ancient crm.old crm.lost crm.old_gaps 2s 10s 32MiB [id] [] [n]kind id < 100[kind = 'bot'] []",
		"p.rest crm.rest crm.rest_dead crm.rest_gaps 2s 10s 32MiB [id] [bucket(4, id)] [n] [kind = 'bot' id < 100] []",
	}
	if !slices.Equal(got, want) {
		t.Errorf("routes:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	c, err = routedConfig(t, `unrouted: dead_letter, route_by: {column: user.city, values: [oslo, bonn], table: "crm.in_{value}"}`)
	if err != nil {
		t.Fatal(err)
	}
	got = got[:0]
	for _, p := range c.Pipelines {
		r := p.Transform.Route
		got = append(got, fmt.Sprint(p.Name, " ", p.Table, " ", r.Where, r.Not, r.Unrouted, r.Letters))
	}
	want = []string{`p.oslo crm.in_oslo cast("user"."city" as string) = 'oslo'[] [cast("user"."city" as string) in ('oslo', 'bonn')] true`,
		`p.bonn crm.in_bonn cast("user"."city" as string) = 'bonn'[] [] false`}
	if !slices.Equal(got, want) {
		t.Errorf("route_by:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWrongRoutesNamePlaceAndRemedy(t *testing.T) {
	const two = `routes: [{table: a.b, where: "id > 1"}, {table: a.c, where: "id < 1"}]`
	for said, want := range map[string]string{
		`match: first`:                   "take them out",
		`unrouted: drop, ` + two:         "match: say to which",
		`match: first, ` + two:           "unrouted: say what becomes",
		`match: any, ` + two:             "not one of the values",
		`match: all, table: a.x, ` + two: "each route names tables of its own",
		`match: all, format: json_lines, unrouted: drop, ` + two:                                                                              "send an event a record",
		`match: all, routes: [{table: a.b, where: "id > 1", otherwise: true}]`:                                                                "routes[0].where: a route has either",
		`match: all, routes: [{table: a.b, otherwise: true}, {table: a.c, otherwise: true}]`:                                                  "left over already",
		`match: all, unrouted: drop, routes: [{table: a.b, otherwise: true}]`:                                                                 "takes what is left over",
		`match: all, routes: [{table: a.b, where: "id >"}, {table: a.c, otherwise: true}]`:                                                    "routes[0].where: character 5",
		`match: all, routes: [{table: a.b, where: "idd > 1"}, {table: a.c, otherwise: true}]`:                                                 "did you mean id?",
		`match: all, routes: [{table: a.b, where: "id > 1"}, {table: a.b, otherwise: true}]`:                                                  "name of route 0 too",
		`match: all, routes: [{table: a.b, where: "id > 1"}, {table: a.b, name: c, otherwise: true}]`:                                         "written by two of them",
		`match: all, routes: [{table: a.b, where: "id > 1"}, {table: c, otherwise: true}]`:                                                    "namespace.table",
		`match: all, routes: [{table: a.b, where: "id > 1", max_memory: 1KiB}, {table: a.c, otherwise: true}]`:                                "routes[0].max_memory is 1024 bytes",
		`match: all, transform: {drop: [n]}, routes: [{table: a.b, where: "id > 1", transform: {keep: [id]}}, {table: a.c, otherwise: true}]`: "routes[0].transform.drop: keep and drop together",
		`match: all, routes: [{table: a.b, where: "id > 1", transform: {filter: "id > 2"}}, {table: a.c, otherwise: true}]`:                   "say it in where",
		`match: all, routes: [{table: a.b, where: "id > 1", sort_by: [idd]}, {table: a.c, otherwise: true}]`:                                  "idd",
		`route_by: {column: kind, values: [x], table: a.b}, unrouted: drop`:                                                                   "{value}",
		`route_by: {column: kind, values: [], table: "a.{value}"}, unrouted: drop`:                                                            "list the values",
		`route_by: {column: kind, values: ["a.b"], table: "a.{value}"}, unrouted: drop`:                                                       "cannot stand in the name of a table",
		`route_by: {column: kindd, values: [a], table: "a.{value}"}, unrouted: drop`:                                                          "did you mean kind?",
		`route_by: {column: user, values: [a], table: "a.{value}"}, unrouted: drop`:                                                           "struct",
		`route_by: {column: kind, values: [a], table: "a.{value}"}`:                                                                           "unrouted: say what becomes",
		`match: all, route_by: {column: kind, values: [a], table: "a.{value}"}, unrouted: drop`:                                               "take match out",
		`table: a.b, topics: [x, y]`: "keep one of them",
		`unrouted: drop, table: a.b`: "take them out",
		`format: json`:               "table is missing",
	} {
		_, err := routedConfig(t, said)
		if err == nil || !strings.Contains(err.Error(), want) || ExitCode(err) != ExitConfig {
			t.Errorf("%s: %v, want something about %q", said, err, want)
		}
	}
	p := Pipeline{Name: "a", Topic: "x", Table: "n.t"}.WithDefaults()
	q := p
	q.Name, q.Topic = "b", "y"
	if err := (Config{Pipelines: []Pipeline{p, q}}).WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "a table has one pipeline") {
		t.Errorf("two topics into one table: %v", err)
	}
}

// stuckTable is a catalog in which commits to one table wait until they are let go, and fail then.
type stuckTable struct {
	catalog.Catalog
	table string

	mu    sync.Mutex
	free  chan struct{}
	tried int
}

func (s *stuckTable) pass(ctx context.Context, commits ...catalog.TableCommit) error {
	if !slices.ContainsFunc(commits, func(c catalog.TableCommit) bool { return c.Identifier.String() == s.table && snapshotIn(c) }) {
		return nil
	}
	s.mu.Lock()
	free := s.free
	s.tried++
	s.mu.Unlock()
	if free == nil {
		return nil
	}
	select {
	case <-free:
		return fmt.Errorf("%w: it is away", catalog.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func snapshotIn(c catalog.TableCommit) bool {
	return slices.ContainsFunc(c.Updates, func(u table.Update) bool { return u.Action() == table.UpdateAddSnapshot })
}

func (s *stuckTable) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried
}

func (s *stuckTable) letGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.free)
	s.free = nil
}

func (s *stuckTable) CommitTable(ctx context.Context, c catalog.TableCommit) (*catalog.Table, error) {
	if err := s.pass(ctx, c); err != nil {
		return nil, err
	}
	return s.Catalog.CommitTable(ctx, c)
}

func (s *stuckTable) CommitTransaction(ctx context.Context, commits []catalog.TableCommit) error {
	if err := s.pass(ctx, commits...); err != nil {
		return err
	}
	return s.Catalog.CommitTransaction(ctx, commits)
}

// TestOneTablesTroubleIsItsOwn: of three tables that a topic goes to, the catalog does not answer for one, and another has a
// schema that its events do not fit. The third takes each event as it comes, and the others do once their trouble is gone.
// Each table is proved by itself.
func TestOneTablesTroubleIsItsOwn(t *testing.T) {
	dir := t.TempDir()
	pl := Pipeline{Name: "people", Topic: "people", contract: []byte(peopleContract), CommitInterval: units.Duration(100 * time.Millisecond),
		Match: matchFirst, Unrouted: unroutedDrop, OnIncompatible: decode.Stop, Routes: []Route{
			{Table: "crm.bots", Where: "kind = 'bot'"}, {Table: "crm.stuck", Where: "kind = 'stuck'"},
			{Table: "crm.odd", Where: "kind in ('odd', 'bot')", Transform: transform.Config{Drop: []string{"user"}}}}}.WithDefaults()
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	// Pipelines start below, on a catalog that can be made to hang.
	p := upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleQuery}, func(c *Config) {
		c.Pipelines = []Pipeline{pl}
		c.followRoutes()
	})
	defer down(t, p)
	if err := p.startBroker(t.Context()); err != nil {
		t.Fatal(err)
	}
	oddTable(t, p.catalog, catalog.Identifier{"crm", "odd"})
	stuck := &stuckTable{Catalog: p.catalog, table: "crm.stuck", free: make(chan struct{})}
	p.catalog = stuck
	if err := p.startPipelines(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, dir)
	c.cfg.Pipelines, c.cfg.Kafka = p.cfg.Pipelines, p.cfg.Kafka

	const rounds = 5
	produce(t, p, "people", `{"id":"undecodable"}`, `{"id":1000,"kind":"nobody's"}`, `{"id":1001}`)
	for i := range rounds {
		produce(t, p, "people", fmt.Sprintf(`{"id":%d,"kind":"bot"}`, i), fmt.Sprintf(`{"id":%d,"kind":"stuck"}`, 100+i), fmt.Sprintf(`{"id":%d,"kind":"odd"}`, 200+i))
		eventually(t, "a commit beside the others' trouble", func() (bool, string) {
			s := p.Status().Pipelines[0]
			return s.Rows == int64(i+1) && s.PendingRows == 0, fmt.Sprintf("%+v", s)
		})
	}
	eventually(t, "the trouble of the others", func() (bool, string) {
		s := p.Status().Pipelines
		return stuck.attempts() > 0 && s[2].Verdict.State == StateStopped, s[2].Verdict.Cause
	})
	for i, want := range []int{rounds, 0, 0} {
		if s := p.Status().Pipelines[i]; want == 0 != (s.Snapshots == 0) {
			t.Errorf("%s: %d snapshots", s.Name, s.Snapshots)
		}
	}
	eventually(t, "the account of the first route", func() (bool, string) {
		s := p.Status().Pipelines[0]
		return s.Unrouted == 2 && s.DeadLetters == 1 && s.Rows == rounds && s.Filtered == 2+2*rounds, fmt.Sprintf("%+v", s)
	})

	stuck.letGo()
	if err := stuck.DropTable(t.Context(), catalog.Identifier{"crm", "odd"}, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bots", "stuck", "odd"} {
		id := catalog.Identifier{"crm", name}
		eventually(t, name, func() (bool, string) {
			r, err := c.Audit(t.Context(), id.String(), AuditOptions{Kafka: true})
			if err != nil {
				return false, err.Error()
			}
			return r.Verdict == audit.Clean && r.Rows == rounds && r.Partitions[0].DeadLetters == 1, fmt.Sprintf("%+v", r)
		})
		if got := rowsOf(t, c, id, "id"); len(got) != rounds {
			t.Errorf("%s has %v", name, got)
		}
	}
}

// oddTable makes a table that peopleContract does not fit.
func oddTable(t *testing.T, cat catalog.Catalog, id catalog.Identifier) {
	t.Helper()
	con, err := decode.LoadContract([]byte(peopleContract), "people.json")
	if err != nil {
		t.Fatal(err)
	}
	fields := slices.Clone(con.IcebergSchema().Fields())
	for i := range fields {
		if fields[i].Name == "n" {
			fields[i].Type = iceberg.PrimitiveTypes.String
		}
	}
	if _, err := commit.EnsureTable(t.Context(), cat, id, iceberg.NewSchema(0, fields...), nil, nil); err != nil {
		t.Fatal(err)
	}
}

// TestATableHasOneTopic: of two pipelines that were told to write two topics into one table, which no configuration can say but two
// can, one writes and the other stops. Its rows and the table's own word of who writes it are the first's.
func TestATableHasOneTopic(t *testing.T) {
	dir := t.TempDir()
	both := []Pipeline{}
	for _, name := range []string{"x", "y"} {
		both = append(both, Pipeline{Name: "of-" + name, Topic: name, Table: "crm.both", contract: []byte(peopleContract), CommitInterval: units.Duration(100 * time.Millisecond)}.WithDefaults())
	}
	p := upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleQuery, RoleIngest}, func(c *Config) { c.Pipelines = both })
	c := clientOf(t, dir)
	c.cfg.Kafka = p.cfg.Kafka
	produce(t, p, "x", `{"id":1}`, `{"id":2}`)
	eventually(t, "rows of x", func() (bool, string) { s := p.Status().Pipelines[0]; return s.Snapshots > 0, s.Verdict.Cause })
	produce(t, p, "y", `{"id":3}`)
	stopped := func() (bool, string) {
		v := p.Status().Pipelines[1].Verdict
		return v.State == StateStopped && strings.Contains(v.Cause, "is of the pipeline of-x: a table has one pipeline"), v.Cause
	}
	eventually(t, "the stop of y", stopped)
	down(t, p)
	p = upWith(t, dir, Demo{}, slog.New(slog.DiscardHandler), []Role{RoleCatalog, RoleQuery, RoleIngest}, func(c *Config) { c.Pipelines = both })
	defer down(t, p)
	c = clientOf(t, dir)
	c.cfg.Kafka = p.cfg.Kafka
	eventually(t, "the stop of y after a restart", stopped)
	produce(t, p, "x", `{"id":4}`)
	id := catalog.Identifier{"crm", "both"}
	eventually(t, "a clean table of x", func() (bool, string) {
		r, err := c.Audit(t.Context(), id.String(), AuditOptions{Kafka: true})
		return err == nil && r.Verdict == audit.Clean && r.Rows == 3, fmt.Sprintf("%+v, %v", r, err)
	})
	tab, err := p.catalog.LoadTable(t.Context(), id, catalog.LoadRefs)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := c.pipelineOf(tab); err != nil || who != "of-x" || c.feedOf(tab, ledger.Record{}).String() != "x" {
		t.Errorf("the table is said to be written by %q from %q, %v", who, c.feedOf(tab, ledger.Record{}).String(), err)
	}
}
