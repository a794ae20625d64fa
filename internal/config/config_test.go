package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

// root has the shape of Firn's own file.
type root struct {
	Warehouse string            `yaml:"warehouse" jsonschema_description:"Where tables live."`
	Storage   storage           `yaml:"storage"`
	Kafka     kafka             `yaml:"kafka"`
	Pipelines []pipeline        `yaml:"pipelines"`
	Query     *query            `yaml:"query"`
	Labels    map[string]string `yaml:"labels"`
	Port      int               `yaml:"port"`
	Ratio     float64           `yaml:"ratio"`
	Debug     bool              `yaml:"debug"`
	Internal  string            `yaml:"-"`
	Untagged  string
}

type storage struct {
	Endpoint  string       `yaml:"endpoint"`
	AccessKey units.Secret `yaml:"access_key"`
	SecretKey units.Secret `yaml:"secret_key"`
}

type kafka struct {
	Brokers []string `yaml:"brokers"`
	pace    `yaml:",inline"`
}

type pace struct {
	MaxWait units.Duration `yaml:"max_wait"`
}

type query struct {
	Listen string      `yaml:"listen"`
	Cache  units.Bytes `yaml:"cache"`
}

type pipeline struct {
	Name           string         `yaml:"name" jsonschema:"required"`
	Format         string         `yaml:"format" jsonschema:"enum=json,enum=avro,enum=protobuf"`
	CommitInterval units.Duration `yaml:"commit_interval"`
	MaxMemory      units.Bytes    `yaml:"max_memory"`
	PartitionBy    []string       `yaml:"partition_by"`
}

func (p *pipeline) SetDefaults() { p.CommitInterval = units.Duration(time.Second) }

func (p pipeline) WithDefaults() pipeline {
	if p.MaxMemory == 0 {
		p.MaxMemory = 256 << 20
	}
	return p
}

func (p pipeline) Validate() error {
	if p.CommitInterval.D() < 50*time.Millisecond {
		return fmt.Errorf("commit_interval is %s: take at least 50ms", p.CommitInterval)
	}
	return nil
}

func read(t *testing.T, text string, env ...string) (*root, *Sources, error) {
	t.Helper()
	r := &root{Port: 8080}
	s, err := Read("firn.yaml", []byte(text), r, Options{Environ: append([]string{"PATH=/bin"}, env...)})
	return r, s, err
}

const good = `
warehouse: s3://lake/warehouse   # a comment
storage: {endpoint: "http://127.0.0.1:9000", access_key: AKIA, secret_key: "canary-5"}
kafka:
  brokers: ["127.0.0.1:9092"]
  max_wait: 250ms
query:
labels: {a: b}
ratio: 0.5
debug: true
pipelines:
  - &p
    name: one
    format: json
    partition_by: ["day(metadata.event_timestamp)"]
  - <<: *p
    name: two
    commit_interval: 5s
`

func TestReadsTheWholeShape(t *testing.T) {
	r, s, err := read(t, good)
	if err != nil {
		t.Fatal(err)
	}
	want := &root{
		Warehouse: "s3://lake/warehouse",
		Storage:   storage{"http://127.0.0.1:9000", units.NewSecret("AKIA"), units.NewSecret("canary-5")},
		Kafka:     kafka{Brokers: []string{"127.0.0.1:9092"}, pace: pace{units.Duration(250 * time.Millisecond)}},
		Labels:    map[string]string{"a": "b"}, Port: 8080, Ratio: 0.5, Debug: true,
		Pipelines: []pipeline{
			{"one", "json", units.Duration(time.Second), 256 << 20, []string{"day(metadata.event_timestamp)"}},
			{"two", "json", units.Duration(5 * time.Second), 256 << 20, []string{"day(metadata.event_timestamp)"}},
		},
	}
	if !reflect.DeepEqual(r, want) {
		t.Fatalf("read\n%+v\nwant\n%+v", r, want)
	}
	for path, from := range map[string]string{"port": "default", "ratio": "firn.yaml:9", "pipelines[1].commit_interval": "firn.yaml:18"} {
		if got := s.Of(path); got != from {
			t.Errorf("%s comes from %s, want %s", path, got, from)
		}
	}
}

// TestWrongFilesAreExplained holds the texts that people see: place, caret, and what would be right.
func TestWrongFilesAreExplained(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "pipelines:\n  - name: a\n    comit_interval: 1s\n", `firn.yaml:3:5: pipelines[0]: unknown key "comit_interval"; did you mean commit_interval?
    3 |     comit_interval: ***
      |     ^`},
		{"other spelling", "pipelines: [{name: a, commitInterval: 1s}]\n", "did you mean commit_interval?"},
		{"wrong block", "commit_interval: 1s\n", "it belongs at pipelines[].commit_interval"},
		{"far off", "query: {zzzzzzzz: 1}\n", "known here: cache, listen"},
		{"unit", "kafka:\n  max_wait: 5\n", "firn.yaml:2:13: kafka.max_wait: duration \"5\" has no unit: write 5s"},
		{"byte unit", "query: {cache: 64M}\n", "write 64MiB (1024) or 64MB (1000)"},
		{"enum", "pipelines: [{name: a, format: jsno}]\n", `"jsno" is not one of the values that this key takes: avro, json, protobuf; did you mean json?`},
		{"validate", "pipelines:\n  - name: a\n    commit_interval: 1ms\n", `firn.yaml:3:22: pipelines[0]: commit_interval is 1ms: take at least 50ms
    3 |     commit_interval: 1ms
      |                      ^`},
		{"required", "pipelines:\n  - format: json\n", "firn.yaml:2:5: pipelines[0]: the key name is missing"},
		{"list wanted", "kafka: {brokers: 127.0.0.1}\n", "kafka.brokers: this is one value, and a list is wanted"},
		{"block wanted", "kafka: [a]\n", "this is a list, and a block of keys is wanted"},
		{"one wanted", "port: [1]\n", "this is a list, and a whole number is wanted"},
		{"number", "port: many\n", `"many" is not a whole number`},
		{"range", "port: 99999999999999999999\n", "out of range"},
		{"bool", "debug: yes\n", `"yes" is not true or false`},
		{"hidden field", "internal: x\n", "unknown key"},
		{"untagged field", "untagged: x\n", "unknown key"},
		{"duplicate", "port: 1\nport: 2\n", "firn.yaml:2:1: "},
		{"no mapping", "just words\n", "a block of keys is wanted"},
		{"two documents", "port: 1\n---\nport: 2\n", "more than one document"},
		{"no such alias", "port: *p\n", "firn.yaml:1:"},
		{"tag", "port: !secret 1\n", "leave it out"},
		{"secret file", "storage: {secret_key: file:/nowhere/at/all}\n", "storage.secret_key: secret is not there"},
		{"secret env", "storage: {secret_key: env:CONFIG_TEST_UNSET}\n", "CONFIG_TEST_UNSET is not set"},
		{"tabs", "kafka:\n\tbrokers: []\n", "firn.yaml:2:"},
		{"brackets", strings.Repeat("[", 100_000), "nested more than 64 deep"},
		{"dashes", "pipelines:\n" + strings.Repeat("- ", 100_000) + "a\n", "firn.yaml:2:129: lists or blocks are nested more than 64 deep"},
		{"indentation", deep(300), "firn.yaml:"},
		{"huge", strings.Repeat("# filler\n", 200_000), "that is no configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := read(t, c.text)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func deep(n int) string {
	var b strings.Builder
	b.WriteString("labels:\n")
	for i := 1; i < n; i++ {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestAllErrorsComeAtOnce(t *testing.T) {
	_, _, err := read(t, "port: x\nratio: y\nnothing: 1\n", "FIRN_NOTHING=1")
	if n := strings.Count(err.Error(), "firn.yaml:"); n != 3 || !strings.Contains(err.Error(), "FIRN_NOTHING") {
		t.Fatalf("%d errors of the file:\n%v", n, err)
	}
}

func TestAliasBombEnds(t *testing.T) {
	text := "labels: &a0 {x: y}\npipelines:\n"
	for i := 1; i < 30; i++ {
		text += fmt.Sprintf("  - partition_by: &a%d [*a%d, *a%d, *a%d]\n", i, i-1, i-1, i-1)
	}
	began := time.Now()
	if _, _, err := read(t, text); err == nil {
		t.Error("taken")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestSecretsStandInNoError(t *testing.T) {
	for _, text := range []string{
		"storage: {secret_key: canary-5, endpont: x}\n",
		"storage: {secret_kye: canary-5}\n",
		"storage:\n  secret_key: [canary-5]\n",
		"storage:\n  secret_key: {a: \"canary-5\"}\n",
		"storage: {secret_key: \"canary-5\", endpoint: [1]}\n",
		"storage: {secret_key: canary-5\n",
		"storage:\n  secret_key: canary-5: x: y\n",
		"storage:\n  secret_key: \"canary-5\n",
		"storage:\n  secret_key: |\n    canary-5\n  port: 1\n",
		"secret_key: canary-5\n",
	} {
		_, _, err := read(t, text)
		if err == nil {
			t.Errorf("%q was taken", text)
		} else if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary-5") {
			t.Errorf("%q: the secret shows in\n%v", text, err)
		}
	}
	_, _, err := read(t, "", "FIRN_STORAGE={secret_key: canary-5, x: 1}", "FIRN_STORAGE_SECRET_KYE=canary-5", "FIRN_STORAGE_ACCESS_KEY=env:CONFIG_TEST_UNSET")
	if err == nil || strings.Contains(err.Error(), "canary-5") {
		t.Errorf("the environment: %v", err)
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	t.Setenv("CONFIG_TEST_KEY", "from-env")
	r, s, err := read(t, good,
		"FIRN_KAFKA_BROKERS=a:1, b:2", "FIRN_PIPELINES_0_NAME=uno", "FIRN_PIPELINES_2_NAME=three", "FIRN_PIPELINES_2_COMMIT_INTERVAL=2s",
		"FIRN_QUERY_CACHE=1GiB", "FIRN_STORAGE_SECRET_KEY=env:CONFIG_TEST_KEY", "FIRN_KAFKA_MAX_WAIT=1s", "FIRN_LABELS={c: d}",
		"FIRN_PIPELINES_1_PARTITION_BY=[\"bucket(4, key.user_id)\"]", "FIRN_PORT=9",
		"FIRN_TEST_S3_ENDPOINT=x", "FIRN_CATALOG_SERVICE_HOST=10.0.0.1", "FIRN_CATALOG_PORT_8181_TCP_ADDR=10.0.0.1", "FIRN_QUERY_PORT=tcp://10.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.Kafka.Brokers, []string{"a:1", "b:2"}) || r.Kafka.MaxWait.D() != time.Second || r.Port != 9 {
		t.Errorf("kafka %+v, port %d", r.Kafka, r.Port)
	}
	if len(r.Pipelines) != 3 || r.Pipelines[0].Name != "uno" || r.Pipelines[0].Format != "json" || r.Pipelines[2].CommitInterval.D() != 2*time.Second {
		t.Errorf("pipelines %+v", r.Pipelines)
	}
	if r.Query == nil || r.Query.Cache != 1<<30 || r.Storage.SecretKey.Reveal() != "from-env" || r.Labels["c"] != "d" {
		t.Errorf("query %+v, labels %v", r.Query, r.Labels)
	}
	if got := r.Pipelines[1].PartitionBy; len(got) != 1 || got[0] != "bucket(4, key.user_id)" {
		t.Errorf("partition_by %q", got)
	}
	if got := s.Of("kafka.brokers"); got != "FIRN_KAFKA_BROKERS" {
		t.Errorf("brokers come from %s", got)
	}
}

func TestWrongVariablesAreExplained(t *testing.T) {
	for entry, want := range map[string]string{
		"FIRN_KAFKA_BROKER=a:1":                "FIRN_KAFKA_BROKER: no key has this name; did you mean FIRN_KAFKA_BROKERS?",
		"FIRN_PIPELINES_5_NAME=x":              "pipelines has 0 elements, so the next index is 0, not 5",
		"FIRN_PORT=many":                       `FIRN_PORT: port: "many" is not a whole number`,
		"FIRN_KAFKA_MAX_WAIT=9":                "has no unit",
		"FIRN_PIPELINES=[{nme: x}]":            `unknown key "nme"; did you mean name?`,
		"FIRN_PIPELINES_0_COMMIT_INTERVAL=1ms": "pipelines[0]",
		"FIRN_ZZZZZZZZZZZZZZZZZZ=1":            "unset it",
		"FIRN_KAFKA=[":                         "FIRN_KAFKA",
	} {
		_, _, err := read(t, "", entry)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", entry, err, want)
		}
	}
}

func TestShowReadsBack(t *testing.T) {
	t.Setenv("CONFIG_TEST_KEY", "canary-6")
	r, s, err := read(t, strings.Replace(good, `"canary-5"`, "env:CONFIG_TEST_KEY", 1), "FIRN_PORT=9", `FIRN_LABELS={odd: "a: #b", "k y": "1", n: "", l: "x\ny"}`)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ShowWith(r, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# FIRN_PORT", "# firn.yaml:9", "access_key: <redacted>", "secret_key: env:CONFIG_TEST_KEY", "max_memory: 256MiB"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "canary") || strings.Contains(string(out), "AKIA") {
		t.Errorf("a secret shows in\n%s", out)
	}
	back := &root{}
	if _, err := Read("shown.yaml", out, back, Options{Environ: []string{}}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	back.Storage.AccessKey = r.Storage.AccessKey
	if !reflect.DeepEqual(r, back) {
		t.Errorf("read back\n%+v\nwant\n%+v\nfrom\n%s", back, r, out)
	}
}

func TestSchemaDescribesTheKeys(t *testing.T) {
	out, err := Schema(&root{Port: 8080, Kafka: kafka{Brokers: []string{"127.0.0.1:9092"}}, Query: &query{Cache: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	got := string(out)
	for _, want := range []string{`"additionalProperties": false`, `"commit_interval"`, `"default": 8080`, `"default": "1MiB"`, `"avro"`, `"Where tables live."`, `"max_wait"`, `"$schema"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, not := range []string{"Untagged", "Internal", "config.root", `"CommitInterval"`} {
		if strings.Contains(got, not) {
			t.Errorf("%s in\n%s", not, got)
		}
	}
}

func TestLoadNamesTheFileThatIsMissing(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{filepath.Join(dir, "none.yaml"): "no such file", dir: "is a directory"} {
		if err := Load(path, &root{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	p := filepath.Join(dir, "firn.yaml")
	if err := os.WriteFile(p, []byte("port: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &root{}
	if err := Load(p, r); err != nil || r.Port != 7 {
		t.Errorf("port %d, %v", r.Port, err)
	}
	if err := Load(p, root{}); err == nil {
		t.Error("a struct that cannot be set was taken")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(good), "FIRN_PORT=1")
	f.Add([]byte("a: &a [*a]"), "FIRN_PIPELINES_0_NAME=x")
	f.Add([]byte("<<: {port: 1}\n? x\n: y"), "FIRN_LABELS={a: b}")
	f.Fuzz(func(t *testing.T, data []byte, env string) {
		r := &root{}
		s, err := Read("f", data, r, Options{Environ: []string{env}})
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("an error that is not ErrInvalid: %v", err)
			}
			return
		}
		if _, err := ShowWith(r, s); err != nil {
			t.Fatal(err)
		}
	})
}
