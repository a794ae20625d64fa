package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// repeatInterval is how long a message of the same kind is counted instead of logged: a full disk fails every append.
const repeatInterval = 5 * time.Second

// maxLogKinds bounds the kinds of messages that are told apart; kfake has some 200.
const maxLogKinds = 512

// klog is kfake's logger: to slog, repetitions counted, and what goes wrong while saving kept for Close.
type klog struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	seen   map[string]repeated
	saving bool
	failed []error
}

type repeated struct {
	at    time.Time
	count int
}

func newKlog(log *slog.Logger, now func() time.Time) *klog {
	return &klog{log: log, now: now, seen: map[string]repeated{}}
}

// Logf implements kfake.Logger.
func (k *klog) Logf(level kfake.LogLevel, msg string, args ...any) {
	lv := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		lv = slog.LevelError
	case kfake.LogLevelWarn:
		lv = slog.LevelWarn
	}
	ctx := context.Background()
	if lv == slog.LevelDebug {
		if k.log.Enabled(ctx, lv) {
			k.log.LogAttrs(ctx, lv, "kfake", slog.String("detail", fmt.Sprintf(msg, args...)))
		}
		return
	}
	repeats, wanted := k.count(lv, msg, args)
	if wanted {
		k.log.LogAttrs(ctx, lv, "kfake", slog.String("detail", fmt.Sprintf(msg, args...)), slog.Int("repeated", repeats))
	}
}

// count tells whether a message is logged, and how often it came since it last was.
func (k *klog) count(lv slog.Level, msg string, args []any) (repeats int, wanted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.saving && lv == slog.LevelError {
		k.failed = append(k.failed, fmt.Errorf(msg, args...))
	}
	now := k.now()
	r, known := k.seen[msg]
	if known && now.Sub(r.at) < repeatInterval {
		r.count++
		k.seen[msg] = r
		return 0, false
	}
	if len(k.seen) >= maxLogKinds {
		clear(k.seen)
	}
	k.seen[msg] = repeated{at: now}
	return r.count, true
}

// collect begins to keep errors; collected returns them.
func (k *klog) collect() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saving = true
}

func (k *klog) collected() []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed
}
