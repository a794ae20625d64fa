package app

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/dedup"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/evolve"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/registry"
)

// State is the one word for how a pipeline is. Firn never says ok while rows wait and nothing is committed.
type State string

// The states, from best to worst.
const (
	StateOK       State = "ok"
	StateCatching State = "catching-up" // commits go on, but the log's end is further away than freshOffsets of time
	StateWaiting  State = "waiting"     // for something outside: broker, topic, storage, catalog
	StateDegraded State = "degraded"    // rows wait and commits fail or are late
	StateFenced   State = "fenced"      // another writer of this name is live
	StateStopped  State = "stopped"     // only a person can decide
	StateUnknown  State = "unknown"     // nobody could be asked; a client's word alone
)

// states lists all words of a running pipeline, for what must name each (metrics).
var states = []State{StateOK, StateCatching, StateWaiting, StateDegraded, StateFenced, StateStopped}

const (
	// lateCommits is how many commit intervals pending rows may wait before the pipeline is degraded.
	lateCommits = 10
	// lateFloor keeps short intervals from calling a slow fsync trouble.
	lateFloor = 5 * time.Second
	// behindAfter is the lag, in time, from which a pipeline is catching up.
	behindAfter = 10 * time.Second
)

// Verdict is a pipeline's state with the one cause and the next thing to do.
type Verdict struct {
	State State  `json:"state"`
	Cause string `json:"cause,omitempty"`
	Next  string `json:"next,omitempty"`
}

// facts is what a verdict rests on.
type facts struct {
	now      time.Time
	interval time.Duration // between two commits
	catchUp  time.Duration // between two while it is behind
	table    string
	prepare  error // why the pipeline has not begun yet
	engine   engine.Status
	source   error // present trouble with the broker
	registry error // present trouble with the schema registry
	lag      int64 // records between the consumed position and the log's end; -1 unknown
	lagTime  time.Duration
}

const nextIncompatible = "docs/runbook.md, An incompatible schema: mend the schema, or set on_incompatible_schema"

// forPerson tells that a pipeline cannot begin with the configuration and the schema that it has. A file's schema is checked
// before the process starts; the registry's is seen now.
func forPerson(err error) bool {
	return slices.ContainsFunc([]error{decode.ErrContract, transform.ErrConfig, dedup.ErrConfig, commit.ErrPartition, commit.ErrTable, layout.ErrSortBy}, func(of error) bool {
		return errors.Is(err, of)
	})
}

// judge is the one place that turns what is known of a pipeline into a word.
func judge(f facts) Verdict {
	s := f.engine
	late := max(lateCommits*f.interval, 2*f.catchUp, lateFloor)
	pending := time.Duration(0)
	if !s.PendingSince.IsZero() {
		pending = f.now.Sub(s.PendingSince)
	}
	problem := ""
	if s.Problem != nil {
		problem = s.Problem.Error()
	}
	var held *source.HeldError
	switch {
	case s.ProblemKind == engine.KindStopped && errors.Is(s.Problem, engine.ErrIncompatibleSchema):
		return Verdict{StateStopped, problem, nextIncompatible}
	case s.ProblemKind == engine.KindStopped && errors.Is(s.Problem, engine.ErrUnreadable):
		return Verdict{StateStopped, problem, "change what the cause names and start again: nothing is lost, the records wait in kafka"}
	case s.ProblemKind == engine.KindStopped:
		return Verdict{StateStopped, problem, "firn offsets " + f.table + " --explain   then see docs/exactly-once.md"}
	case s.ProblemKind == engine.KindFenced:
		return Verdict{StateFenced, problem, "stop the other process of this pipeline; this one takes over when the table stands still"}
	case errors.Is(f.prepare, evolve.ErrIncompatible):
		return Verdict{StateStopped, f.prepare.Error(), nextIncompatible}
	case errors.Is(f.prepare, registry.ErrNotFound):
		return Verdict{StateWaiting, f.prepare.Error(), "register a schema under the subject, or name another in subject; what is registered it finds by itself"}
	case forPerson(f.prepare):
		return Verdict{StateStopped, f.prepare.Error(), "mend what the cause names: the configuration, which needs a new start, or the table or registered schema, which do not"}
	case f.prepare != nil:
		return Verdict{StateWaiting, f.prepare.Error(), "nothing: it goes on by itself when the cause is gone"}
	case f.registry != nil:
		return Verdict{StateDegraded, f.registry.Error(), "nothing: events wait in kafka and it goes on by itself when the registry answers"}
	case errors.As(f.source, &held) && held.All:
		return Verdict{StateStopped, held.Error(), "firn offsets " + f.table + " --explain   then see docs/exactly-once.md"}
	case s.CommitError != "" && !s.PendingSince.IsZero():
		return Verdict{StateDegraded, "commit fails: " + s.CommitError, "firn why " + f.table}
	case pending > late:
		return Verdict{StateDegraded, fmt.Sprintf("rows wait for a commit since %s", pending.Round(time.Second)), "firn why " + f.table}
	case held != nil:
		return Verdict{StateDegraded, held.Error(), "firn offsets " + f.table + " --explain   then see docs/exactly-once.md"}
	case f.source != nil:
		return Verdict{StateWaiting, f.source.Error(), "nothing: it goes on by itself when the broker answers"}
	case s.Problem != nil && pending > 0:
		return Verdict{StateDegraded, problem, "firn why " + f.table}
	case s.Problem != nil:
		return Verdict{StateWaiting, problem, "nothing: it goes on by itself when the cause is gone"}
	case !s.Running:
		return Verdict{StateWaiting, "reading where the table stands", "nothing: this takes a moment"}
	case f.lag > 0 && f.lagTime > behindAfter:
		return Verdict{StateCatching, fmt.Sprintf("%d records behind the log's end, the oldest %s old", f.lag, f.lagTime.Round(time.Second)), "nothing: it reads as fast as it can"}
	}
	return Verdict{State: StateOK}
}
