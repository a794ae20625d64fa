package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Formats of a log line.
const (
	FormatAuto = "auto"
	FormatText = "text"
	FormatJSON = "json"
)

// Config says what is logged and how.
type Config struct {
	// Level is the least severe level that is written; default info.
	Level string `yaml:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" jsonschema_description:"Least severe level that is written."`
	// Format is text, json, or auto: text on a terminal and json otherwise; default auto.
	Format string `yaml:"format" jsonschema:"enum=auto,enum=text,enum=json" jsonschema_description:"Form of a line; auto is text on a terminal and json otherwise."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.Level == "" {
		c.Level = "info"
	}
	if c.Format == "" {
		c.Format = FormatAuto
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if _, err := parseLevel(c.Level); err != nil {
		return err
	}
	switch c.Format {
	case FormatAuto, FormatText, FormatJSON:
		return nil
	}
	return fmt.Errorf("format: %q is not one of auto, text, json", c.Format)
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("level: %q is not one of debug, info, warn, error", s)
}

// New makes a logger that writes to w. The level can be changed later through the returned LevelVar.
func New(cfg Config, w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	parsed, err := parseLevel(cfg.Level)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	level := new(slog.LevelVar)
	level.Set(parsed)
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if cfg.Format == FormatText || cfg.Format == FormatAuto && IsTerminal(w) {
		return slog.New(slog.NewTextHandler(w, opts)), level, nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), level, nil
}

// IsTerminal tells whether w is a terminal that a person looks at.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// readable prints durations as "1.5s" in both formats (JSON would give nanoseconds) and times in UTC, so that lines of
// several machines sort.
func readable(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindTime:
		a.Value = slog.StringValue(a.Value.Time().UTC().Format(time.RFC3339Nano))
	}
	return a
}
