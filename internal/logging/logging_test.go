package logging

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
)

func TestNotATerminalGetsJSON(t *testing.T) {
	var out bytes.Buffer
	log, level, err := New(Config{}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("committed", "pipeline", "user-events", "took", 1500*time.Millisecond, "key", units.NewSecret("canary"))
	level.Set(slog.LevelDebug)
	log.Debug("shown")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got["took"] != "1.5s" || got["pipeline"] != "user-events" || got["key"] != "<redacted>" {
		t.Errorf("line %v", got)
	}
	if at, _ := got["time"].(string); !strings.HasSuffix(at, "Z") {
		t.Errorf("time %q is not in UTC", at)
	}
}

func TestTextWhenAskedFor(t *testing.T) {
	var out bytes.Buffer
	log, _, err := New(Config{Format: FormatText, Level: "WARN"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.Warn("fenced", "epoch", 2)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN msg=fenced epoch=2") {
		t.Errorf("printed %q", got)
	}
}

func TestWrongValuesNameTheRightOnes(t *testing.T) {
	for cfg, want := range map[Config]string{
		{Level: "loud"}:   `level: "loud" is not one of debug`,
		{Format: "fancy"}: `format: "fancy" is not one of auto`,
	} {
		if _, _, err := New(cfg, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
