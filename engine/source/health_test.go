package source

import (
	"errors"
	"log/slog"
	"testing"
	"time"
)

// TestHealthNamesTheCause: a broker that went away first fences its partitions; what is said is that it is away.
func TestHealthNamesTheCause(t *testing.T) {
	now := time.Date(2026, 6, 4, 11, 0, 0, 0, time.UTC)
	h := &health{now: func() time.Time { now = now.Add(time.Second); return now }, log: slog.New(slog.DiscardHandler), troubles: map[string]*TroubleError{}}
	says := func(want error) {
		t.Helper()
		if err := h.err(); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("health says %v, want %v", err, want)
		}
	}
	moved, late, away, unknown := errors.New("moved"), errors.New("moved later"), errors.New("away"), errors.New("no layout")
	says(nil)
	h.note(partName(7), moved)
	h.note(partName(1), late)
	says(moved)
	h.note(brokerName(1), away)
	says(away)
	h.note(layout, unknown)
	says(unknown)
	h.clear(layout)
	h.clear(brokerName(1))
	h.clear(partName(7))
	says(late)
	h.clear(partName(1))
	says(nil)
}
