package engine

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/firnlake/firn/internal/offset"
)

// Kinds of problem that end a generation.
const (
	KindTransient = "transient" // retried by itself
	KindFenced    = "fenced"    // another writer of the same name is live
	KindRewound   = "rewound"   // somebody set the table back; reading again from there
	KindStopped   = "stopped"   // only a person can decide
)

// problemKind is the one place that maps an error which ended a generation to its kind.
func problemKind(err error) string {
	switch {
	case errors.Is(err, ErrFenced):
		return KindFenced
	case errors.Is(err, ErrRewound):
		return KindRewound
	case errors.Is(err, ErrNeedsDecision), errors.Is(err, ErrTopicRecreated), errors.Is(err, ErrLogTruncated), errors.Is(err, ErrRetentionGap),
		errors.Is(err, ErrIncompatibleSchema), errors.Is(err, ErrUnreadable):
		return KindStopped
	}
	return KindTransient
}

// Status is what a pipeline knows of itself at one moment. Counters count since the process started.
type Status struct {
	Pipeline string
	Started  time.Time
	Running  bool // a position was recovered and the source reads
	StandsBy bool // another writer of this name is live: nothing is read, and the tail shows nothing

	Rows, DeadLetters, Snapshots int64
	Events, Complete             int64     // decoded, and of them those with nothing missing of what the contract wants
	Filtered                     int64     // records that the filter kept out
	Unrouted                     int64     // of them those that no route takes, where this pipeline counts them
	Duplicates                   int64     // records that deduplication dropped
	PendingRows                  int64     // decoded, not committed
	PendingSince                 time.Time // zero when nothing is pending
	Backpressure                 bool      // the fetch waits for memory
	TailBytes                    int64

	LastFetch, LastDecode, LastCommit time.Time
	DecodedKafka                      time.Time                // Kafka time of the oldest record of the last stretch decoded
	CommitSeconds                     float64                  // of the last commit
	Phases                            map[string]time.Duration // of the last commit; not changed once set
	SnapshotID, Epoch                 int64
	RecoveredBy                       string
	Consumed, Committed               offset.Vector

	Gaps, GapOffsets int64  // jumped over, because Kafka no longer held them
	LastGap          string // what and where

	SchemaIDs        []uint32 // of the registry's schemas that events were written with lately; not changed once set
	SchemaID         int      // of the table's schema, as of the last commit
	SchemaChanges    int64    // that commits made because events needed them
	LastSchemaChange string   // what, and when

	CommitError   string // of the attempt under way; empty after a success
	CommitErrorAt time.Time
	Problem       error // why the last generation ended; nil once a commit succeeded after it
	ProblemKind   string
	ProblemAt     time.Time

	CommittedFreshness Window // Kafka time to committed, oldest row of each batch
}

// windowSize is how many batches the live freshness figures look back on.
const windowSize = 120

// Window is the last durations of something.
type Window struct{ d []time.Duration }

func (w *Window) add(d time.Duration) {
	if len(w.d) == windowSize {
		w.d = slices.Delete(w.d, 0, 1)
	}
	w.d = append(w.d, d)
}

// Quantile returns the q-quantile (0..1) of the window; 0 when it is empty.
func (w Window) Quantile(q float64) time.Duration {
	if len(w.d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(w.d))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

// statusBoard is a Status behind a lock.
type statusBoard struct {
	mu sync.Mutex
	s  Status
}

// maxSchemaIDs bounds the ids that a status names.
const maxSchemaIDs = 8

// sawSchemas takes in the ids of a stretch, the latest behind.
func (s *Status) sawSchemas(ids []uint32) {
	if len(ids) == 0 || slices.Equal(ids, s.SchemaIDs) {
		return
	}
	all := slices.DeleteFunc(slices.Clone(s.SchemaIDs), func(id uint32) bool { return slices.Contains(ids, id) })
	all = append(all, ids...)
	s.SchemaIDs = all[max(0, len(all)-maxSchemaIDs):]
}

// schemaChanged notes what a commit changed of the table's schema.
func (s *Status) schemaChanged(c Committed, now time.Time) {
	s.SchemaID = c.SchemaID
	if len(c.SchemaChanges) > 0 {
		s.SchemaChanges += int64(len(c.SchemaChanges))
		s.LastSchemaChange = strings.Join(c.SchemaChanges, ", ") + " at " + now.UTC().Format(time.RFC3339)
	}
}

func (b *statusBoard) set(f func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.s.Consumed == nil {
		b.s.Consumed = offset.Vector{}
	}
	f(&b.s)
}

func (b *statusBoard) recovered(st State, now time.Time) {
	b.set(func(s *Status) {
		s.Running, s.Epoch, s.SnapshotID, s.RecoveredBy = true, st.Epoch, st.SnapshotID, st.Source
		s.Consumed, s.Committed = st.Offsets.Clone(), st.Offsets.Clone()
		s.PendingRows, s.PendingSince = 0, time.Time{}
		if s.ProblemKind == KindRewound || s.ProblemKind == KindTransient {
			s.Problem, s.ProblemKind = nil, ""
		}
	})
}

// Status returns a copy of the pipeline's present status.
func (p *Pipeline) Status() Status {
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	s := p.status.s
	s.Consumed, s.Committed = s.Consumed.Clone(), s.Committed.Clone()
	s.CommittedFreshness.d = slices.Clone(s.CommittedFreshness.d)
	return s
}

// Name returns the pipeline's name.
func (p *Pipeline) Name() string { return p.name }
