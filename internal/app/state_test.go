package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/registry"
)

func TestJudge(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	running := engine.Status{Running: true}
	with := func(change func(*facts)) facts {
		f := facts{now: now, interval: time.Second, table: "a.b", engine: running}
		change(&f)
		return f
	}
	for err, next := range map[error]string{engine.ErrIncompatibleSchema: "An incompatible schema", source.ErrBatchTooLarge: "start again", engine.ErrNeedsDecision: "firn offsets a.b"} {
		v := judge(with(func(f *facts) {
			f.engine.ProblemKind, f.engine.Problem = engine.KindStopped, fmt.Errorf("partition 0: %w", err)
		}))
		if v.State != StateStopped || !strings.Contains(v.Next, next) {
			t.Errorf("after %v it is said: %+v", err, v)
		}
	}
	for name, c := range map[string]struct {
		f     facts
		want  State
		cause string
	}{
		"idle":                    {with(func(*facts) {}), StateOK, ""},
		"a batch is being filled": {with(func(f *facts) { f.engine.PendingSince = now.Add(-900 * time.Millisecond) }), StateOK, ""},
		"rows wait too long":      {with(func(f *facts) { f.engine.PendingSince = now.Add(-11 * time.Second) }), StateDegraded, "wait for a commit"},
		"commits fail":            {with(func(f *facts) { f.engine.PendingSince, f.engine.CommitError = now, "503" }), StateDegraded, "503"},
		"no topic":                {with(func(f *facts) { f.engine, f.prepare = engine.Status{}, errors.New("topic x") }), StateWaiting, "topic x"},
		"no such column": {with(func(f *facts) {
			f.engine, f.prepare = engine.Status{}, fmt.Errorf("%w: mask: there is no column x", transform.ErrConfig)
		}), StateStopped, "no column x"},
		"no such subject": {with(func(f *facts) {
			f.engine, f.prepare = engine.Status{}, fmt.Errorf("subject x: %w", registry.ErrNotFound)
		}), StateWaiting, "subject x"},
		"broker away":             {with(func(f *facts) { f.source = errors.New("refused") }), StateWaiting, "refused"},
		"broker away, rows wait":  {with(func(f *facts) { f.source = errors.New("refused"); f.engine.PendingSince = now.Add(-time.Hour) }), StateDegraded, "wait"},
		"a topic of several held": {with(func(f *facts) { f.source = &source.HeldError{Topics: map[string]error{"x": errors.New("made again")}} }), StateDegraded, "topic x is not read: made again; the other topics are"},
		"all topics held": {with(func(f *facts) {
			f.source = &source.HeldError{Topics: map[string]error{"x": errors.New("made again")}, All: true}
		}), StateStopped, "made again"},
		"behind":          {with(func(f *facts) { f.lag, f.lagTime = 5000, time.Minute }), StateCatching, "5000 records"},
		"a little behind": {with(func(f *facts) { f.lag, f.lagTime = 5000, time.Second }), StateOK, ""},
		"recovery fails": {with(func(f *facts) {
			f.engine = engine.Status{Problem: errors.New("no topic"), ProblemKind: engine.KindTransient}
		}), StateWaiting, "no topic"},
		"fenced":                   {with(func(f *facts) { f.engine.ProblemKind, f.engine.Problem = engine.KindFenced, errors.New("fenced") }), StateFenced, "fenced"},
		"stopped beats everything": {with(func(f *facts) { f.engine.ProblemKind, f.source = engine.KindStopped, errors.New("x") }), StateStopped, ""},
		"not begun":                {with(func(f *facts) { f.engine = engine.Status{} }), StateWaiting, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(c.f)
			if v.State != c.want || !strings.Contains(v.Cause, c.cause) {
				t.Errorf("judged %+v, want %s because of %q", v, c.want, c.cause)
			}
			if v.State != StateOK && v.Next == "" {
				t.Errorf("%s says nothing about what to do", v.State)
			}
		})
	}
}

func TestLag(t *testing.T) {
	s := engine.Status{Consumed: offset.Vector{0: 10}}
	if lag := lagOf(s, nil); lag != -1 {
		t.Errorf("lag %d before the broker has said anything", lag)
	}
	// Partition 1 is not read yet: all that Kafka still holds of it is behind.
	if lag := lagOf(s, map[int32]engine.Position{0: {LastStable: 15}, 1: {LogStart: 100, LastStable: 107}}); lag != 12 {
		t.Errorf("lag %d, want 12", lag)
	}
}
