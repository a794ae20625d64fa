package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/config"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

const example = "../../examples/user-events/firn.yaml"

func setKeys(t *testing.T) {
	t.Helper()
	t.Setenv("S3_KEY", "canary-key")
	t.Setenv("S3_SECRET", "canary-secret")
}

func TestTheExampleIsValid(t *testing.T) {
	setKeys(t)
	n, err := ValidateConfig(example)
	if err != nil || n != 1 {
		t.Fatalf("%d pipelines, %v", n, err)
	}
	cfg, _, err := LoadConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Pipelines[0]
	if p.DeadLetter != "analytics.user_events_dead" || p.TailGrace != defaultTailGrace || cfg.Ingest.Listen != defaultTail || cfg.Query.Tails[0] != defaultTail {
		t.Errorf("defaults are not filled in: %+v", p)
	}
	if s3 := cfg.Catalog.S3; s3.Endpoint != "http://127.0.0.1:9000" || !s3.PathStyle || !s3.AccessKey.IsZero() {
		t.Errorf("what clients of the catalog are told: %+v", s3)
	}
	text, err := config.Show(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "canary") {
		t.Error("a secret stands in what config show prints")
	}
}

func TestWrongConfigurationsNamePlaceAndRemedy(t *testing.T) {
	setKeys(t)
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := filepath.Abs("../../examples/user-events/schemas/user_event.json")
	if err != nil {
		t.Fatal(err)
	}
	good := strings.ReplaceAll(string(raw), "schemas/user_event.json", filepath.ToSlash(schema))
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":        {"warehouse:", "warehuose:", "did you mean warehouse"},
		"wrong unit":         {"commit_interval: 1s", "commit_interval: 1sec", "firn.yaml:"},
		"too short":          {"commit_interval: 1s", "commit_interval: 1ms", "commit_interval is 1ms"},
		"unknown format":     {"format: json", "format: jsonl", "json"},
		"no namespace":       {"table: analytics.user_events", "table: user_events", "namespace.table"},
		"open to the world":  {`listen: "127.0.0.1:8181"`, `listen: "0.0.0.0:8181"`, "token"},
		"no such contract":   {filepath.ToSlash(schema), "nothing.json", "nothing.json"},
		"partition column":   {"metadata.event_timestamp", "metadata.event_timestmp", "event_timestamp"},
		"a gap ignored":      {"commit_interval: 1s", "on_gap: ignore", "record"},
		"a new generation":   {"commit_interval: 1s", "on_topic_recreated: new_generation", "firn offsets resolve"},
		"missing name":       {"name: user-events", "", "name"},
		"rest of no name":    {"commit_interval: 1s", "rest: Event_Type", `pipeline user-events: contract cannot be used: rest: `},
		"rest of avro":       {"format: json", "format: avro\n    rest: _rest", "only JSON events"},
		"no topic":           {"topic: user_events", "topic: user events", `topic: topic "user events": a name has`},
		"no dead topic":      {"commit_interval: 1s", "dead_letter_topic: dead/letters", `dead_letter_topic: topic "dead/letters"`},
		"no warehouse":       {"warehouse: s3://lake/warehouse", "warehouse: lake/warehouse", "s3://bucket/prefix"},
		"no such port":       {`listen: "127.0.0.1:31337"`, `listen: "127.0.0.1:313370"`, "65535"},
		"page open to world": {`listen: "127.0.0.1:8080"`, `listen: "0.0.0.0:8080"`, "allow_anonymous"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("the example has no %q", c.old)
			}
			path := filepath.Join(t.TempDir(), "firn.yaml")
			if err := os.WriteFile(path, []byte(strings.Replace(good, c.old, c.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ValidateConfig(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want something about %q", err, c.want)
			}
			if code := ExitCode(err); code != ExitConfig {
				t.Errorf("exit code %d, want %d", code, ExitConfig)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Error("a secret stands in the error")
			}
		})
	}
}

func TestDeadLettersGoInNoCircle(t *testing.T) {
	circle := []Pipeline{{Name: "a", Topic: "1", DeadTopic: "2", Table: "n.a"}, {Name: "b", Topic: "2", DeadTopic: "3", Table: "n.b"}, {Name: "c", Topic: "3", Table: "n.c"}}
	for i := range circle {
		circle[i] = circle[i].WithDefaults()
	}
	if err := (Config{Pipelines: circle}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	circle[2].DeadTopic = "1"
	if err := (Config{Pipelines: circle}).WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "dead letters of 1 come back to it through 3") {
		t.Errorf("a circle of topics: %v", err)
	}
}

func TestTwoPipelinesNeedTablesAndNamesOfTheirOwn(t *testing.T) {
	p := demoPipeline()
	q := p
	q.Table, q.DeadLetter = "a.b", "a.c"
	if err := (Config{Pipelines: []Pipeline{p, q}}).WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "names must differ") {
		t.Errorf("one name twice: %v", err)
	}
	q = p
	q.Name = "other"
	if err := (Config{Pipelines: []Pipeline{p, q}}).WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "tables of its own") {
		t.Errorf("one table twice: %v", err)
	}
}

func TestSchemaDescribesTheFile(t *testing.T) {
	text, err := ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Properties map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	for _, path := range [][2]string{{"catalog", "listen"}, {"catalog", "uri"}, {"query", "token"}, {"query", "tails"}, {"kafka", "brokers"}, {"storage", "endpoint"}, {"http", "listen"}} {
		if _, ok := s.Properties[path[0]].Properties[path[1]]; !ok {
			t.Errorf("%s.%s is not in the schema", path[0], path[1])
		}
	}
}

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{nil: 0, fmt.Errorf("x"): 1, fmt.Errorf("%w: x", ErrUsage): 2, fmt.Errorf("%w: x", ErrConfig): 3,
		&config.Error{}: 3, fmt.Errorf("%w: x", engine.ErrFenced): 4, fmt.Errorf("%w: x", catalog.ErrConflict): 4, fmt.Errorf("%w: x", ErrFailing): 5} {
		if got := ExitCode(err); got != want {
			t.Errorf("%v exits %d, want %d", err, got, want)
		}
	}
}

func TestTheBrokerKeepsWhatTheSlowerPipelineNeeds(t *testing.T) {
	got := least(map[int32]int64{0: 5, 1: 9, 2: 1}, map[int32]int64{0: 7, 1: 3})
	if len(got) != 2 || got[0] != 5 || got[1] != 3 {
		t.Errorf("%v", got)
	}
}

func TestParseVector(t *testing.T) {
	v, err := offset.ParseVector("0:123, 7:0")
	if err != nil || v.String() != "0:123 7:0" {
		t.Errorf("%v, %v", v, err)
	}
	if v, err := offset.ParseVector(" "); v != nil || err != nil {
		t.Errorf("nothing: %v, %v", v, err)
	}
	for _, bad := range []string{"0", "0:", ":1", "a:1", "0:-1", "-1:0", "0:1 0:2", "0:1:2"} {
		if v, err := offset.ParseVector(bad); err == nil {
			t.Errorf("%q gave %v", bad, v)
		}
	}
}

// TestRulesOfAContract: rules stand in the pipeline, and null is a word there.
func TestRulesOfAContract(t *testing.T) {
	dir := t.TempDir()
	write := func(rules string) string {
		t.Helper()
		path := filepath.Join(dir, "firn.yaml")
		text := "warehouse: file://" + dir + "/wh\nkafka: {brokers: ['127.0.0.1:9092']}\npipelines:\n  - {name: p, topic: t, table: a.b, schema: event.json, contract: " + rules + "}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.WriteFile(filepath.Join(dir, "event.json"), []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"n":{"type":"integer"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	path := write(`{on_violation: keep_and_flag, rules: [{column: n, min: -1, max: 10, on_violation: null}, {column: id, pattern: "^x"}], complete: [n]}`)
	if _, err := ValidateConfig(path); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if r := cfg.Pipelines[0].Rules; r.Rules[0].OnViolation != decode.ActionNull || r.Rules[0].Min != "-1" || r.Rules[1].OnViolation != "" {
		t.Errorf("rules were read as %+v", r)
	}
	f, err := cfg.newFormat(cfg.Pipelines[0], slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.contract.IcebergSchema().FindFieldByName(ledger.ColViolations); !ok {
		t.Error("the table has no column for rows that are kept and flagged")
	}
	for rules, want := range map[string]string{
		`{rules: [{column: id, pattern: x, on_violation: null}]}`:    "null needs an optional column",
		`{rules: [{column: idd, required: true}]}`:                   "the nearest is id",
		`{rules: [{column: n, min: 1, on_violation: drop}]}`:         "on_violation",
		`{rules: [{column: n}]}`:                                     "has no demand",
		`{rules: [{column: n, minimum: 1}]}`:                         "unknown key",
		`{complete: [nn]}`:                                           "contract.complete[0]",
		`{on_violation: keep, rules: [{column: n, required: true}]}`: "on_violation",
	} {
		if _, err := ValidateConfig(write(rules)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", rules, err, want)
		}
	}
}
