package app

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSeveralTargets: lists of addresses may have blanks after their commas.
func TestSeveralTargets(t *testing.T) {
	c, err := NewClient(Target{Data: t.TempDir(), Catalog: "a:1, b:2 ,https://c"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.cfg.catalogClient().URI; got != "http://a:1,http://b:2,https://c" {
		t.Errorf("the catalog is asked at %q", got)
	}
	if c.UseBrokers("a:1, b:2"); !slices.Equal(c.cfg.Kafka.Brokers, []string{"a:1", "b:2"}) {
		t.Errorf("Kafka is at %q", c.cfg.Kafka.Brokers)
	}
}

// TestClientOfUp: a configuration without a warehouse is one of firn up. What it embeds, and where its flags put its ports, is
// known of the process that runs on the data directory.
func TestClientOfUp(t *testing.T) {
	dir := t.TempDir()
	running, err := json.Marshal(Running{PID: os.Getpid(), Warehouse: "file:///wh", Addresses: Addresses{Broker: "127.0.0.1:1", Catalog: "127.0.0.1:2", Flight: "127.0.0.1:3", HTTP: "127.0.0.1:4"}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(runningFile, string(running))
	for text, want := range map[string]string{
		"log: {level: info}": "file:///wh http://127.0.0.1:2 127.0.0.1:3 127.0.0.1:4 [127.0.0.1:1]",
		"warehouse: file:///other\nkafka: {brokers: [\"k:9092\"]}": "file:///other http://127.0.0.1:8181 127.0.0.1:31337 127.0.0.1:8080 [k:9092]",
		"kafka: {brokers: [\"k:9092\"]}":                           "file:///wh http://127.0.0.1:2 127.0.0.1:3 127.0.0.1:4 [k:9092]",
	} {
		c, err := NewClient(Target{Config: write("firn.yaml", text), Data: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.cfg.Warehouse, " ", c.cfg.catalogClient().URI, " ", c.flight, " ", c.http, " ", c.cfg.Kafka.Brokers); got != want {
			t.Errorf("%s\n  speaks to %s\n  not       %s", text, got, want)
		}
	}
}
