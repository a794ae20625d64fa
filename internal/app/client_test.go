package app

import (
	"log/slog"
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
