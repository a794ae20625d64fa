package source

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// TroubleError is what keeps a source from reading at present; it is retried until it passes.
type TroubleError struct {
	Cause    error
	Since    time.Time
	Attempts int
}

// Error implements error.
func (t *TroubleError) Error() string {
	return fmt.Sprintf("%v (since %s, attempt %d)", t.Cause, t.Since.UTC().Format(time.RFC3339), t.Attempts)
}

// Unwrap gives the cause.
func (t *TroubleError) Unwrap() error { return t.Cause }

// health holds the present troubles by what they concern: the topic's layout, a broker, a partition. Success with one
// says nothing about another.
type health struct {
	now func() time.Time
	log *slog.Logger

	mu       sync.Mutex
	troubles map[string]*TroubleError
}

// note records a failure and returns how many there were in a row.
func (h *health) note(what string, cause error) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.troubles[what]
	if t == nil {
		t = &TroubleError{Since: h.now()}
		h.troubles[what] = t
		h.log.Warn("kafka trouble, retrying", "part", what, "error", cause)
	}
	t.Cause = cause
	t.Attempts++
	return t.Attempts
}

func (h *health) clear(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.troubles[what]; t != nil {
		delete(h.troubles, what)
		h.log.Info("kafka trouble is over", "part", what, "attempts", t.Attempts, "seconds", h.now().Sub(t.Since).Seconds())
	}
}

func (h *health) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.troubles)
}

// breadth orders troubles by how much they explain: without a layout nothing can be read, without a broker none of its
// partitions.
func breadth(what string) int {
	switch {
	case what == layout:
		return 0
	case strings.HasPrefix(what, brokerPrefix):
		return 1
	}
	return 2
}

// err is a copy of the trouble that explains most, among those the oldest; nil when there is none.
func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var most *TroubleError
	at := 0
	for what, t := range h.troubles {
		if b := breadth(what); most == nil || b < at || b == at && t.Since.Before(most.Since) {
			most, at = t, b
		}
	}
	if most == nil {
		return nil
	}
	c := *most
	return &c
}
