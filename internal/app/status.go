package app

import (
	"time"

	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/publish"
)

// Addresses are where a process listens; empty where it does not.
type Addresses struct {
	Broker  string `json:"broker,omitempty"`
	Catalog string `json:"catalog,omitempty"`
	Flight  string `json:"flight,omitempty"`
	HTTP    string `json:"http,omitempty"`
}

// Status is what GET /api/v1/status and firn status show.
type Status struct {
	Version   string                   `json:"version"`
	Roles     []string                 `json:"roles"`
	Started   time.Time                `json:"started"`
	Now       time.Time                `json:"now"`
	Warehouse string                   `json:"warehouse"`
	Addresses Addresses                `json:"addresses"`
	Waiting   string                   `json:"waiting,omitempty"` // what the process waits for before it can begin
	Pipelines []PipelineStatus         `json:"pipelines"`
	Tables    []compaction.TableStatus `json:"tables,omitempty"` // as the compactor sees them
}

// PipelineStatus is one pipeline in figures. Durations are seconds.
type PipelineStatus struct {
	Name    string  `json:"name"`
	Topic   string  `json:"topic"`
	Table   string  `json:"table"`
	Verdict Verdict `json:"verdict"`

	EventsPerSecond float64 `json:"events_per_second"`
	Rows            int64   `json:"rows"`
	DeadLetters     int64   `json:"dead_letters"`
	Events          int64   `json:"events"`               // decoded: rows and dead letters, before a transform
	CompleteEvents  int64   `json:"complete_events"`      // of them those with nothing missing of what the contract wants
	Filtered        int64   `json:"filtered,omitempty"`   // records that the transform's filter kept out
	Unrouted        int64   `json:"unrouted,omitempty"`   // of them those that no route takes, where this pipeline counts them
	Duplicates      int64   `json:"duplicates,omitempty"` // records that deduplication dropped
	Snapshots       int64   `json:"snapshots"`
	PendingRows     int64   `json:"pending_rows"`
	PendingSeconds  float64 `json:"pending_seconds"`
	TailBytes       int64   `json:"tail_bytes"`
	LagRecords      int64   `json:"lag_records"` // -1: the broker has not said
	LagSeconds      float64 `json:"lag_seconds"`
	Backpressure    bool    `json:"backpressure"`

	SnapshotID    int64   `json:"snapshot_id"`
	Epoch         int64   `json:"epoch"`
	RecoveredBy   string  `json:"recovered_by,omitempty"`
	CommitSeconds float64 `json:"commit_seconds"`
	FreshP50      float64 `json:"committed_freshness_p50_seconds"`
	FreshP95      float64 `json:"committed_freshness_p95_seconds"`

	Gaps       int64  `json:"gaps,omitempty"` // stretches that Kafka no longer held, jumped over since it started
	GapOffsets int64  `json:"gap_offsets,omitempty"`
	LastGap    string `json:"last_gap,omitempty"`

	DeadTopic *publish.Status `json:"dead_letter_topic,omitempty"`

	SchemaIDs        []uint32 `json:"schema_ids,omitempty"` // of the registry's schemas that events were written with lately
	TableSchema      int      `json:"table_schema"`         // the Iceberg schema id of the last commit's rows
	SchemaChanges    int64    `json:"schema_changes,omitempty"`
	LastSchemaChange string   `json:"last_schema_change,omitempty"`

	LastFetch  time.Time `json:"last_fetch"`
	LastDecode time.Time `json:"last_decode"`
	LastCommit time.Time `json:"last_commit"`
	Consumed   string    `json:"consumed"`
	Committed  string    `json:"committed"`

	Stages []Stage `json:"stages"`
}

// Stage is one step of the way of the data, for firn why.
type Stage struct {
	Name  string `json:"name"`
	Moves bool   `json:"moves"`
	Says  string `json:"says"`
}

// Ready tells whether every pipeline does what it is there for, and the first that does not.
func (s *Status) Ready() (bool, string) {
	if s.Waiting != "" {
		return false, s.Waiting
	}
	for _, p := range s.Pipelines {
		if p.Verdict.State != StateOK && p.Verdict.State != StateCatching {
			return false, "pipeline " + p.Name + " is " + string(p.Verdict.State) + ": " + p.Verdict.Cause
		}
	}
	return true, ""
}

// stages walks the way of the data and says of each step whether it moves, and by which fact.
func stages(f facts, v Verdict, lastPhases string) []Stage {
	s := f.engine
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "never in this process"
		}
		return f.now.Sub(t).Round(10*time.Millisecond).String() + " ago"
	}
	idle := f.lag == 0 && s.PendingRows == 0
	recent := func(t time.Time) bool { return !t.IsZero() && f.now.Sub(t) < max(lateCommits*f.interval, lateFloor) }
	reading := f.prepare == nil && f.source == nil && s.Running
	source := Stage{Name: "source", Moves: reading && (idle || recent(s.LastFetch) || s.Backpressure)}
	switch {
	case f.prepare != nil:
		source.Says = f.prepare.Error()
	case f.source != nil:
		source.Says = f.source.Error()
	case f.lag < 0:
		source.Says = "the broker has not told the log's end yet"
	default:
		source.Says = plural(f.lag, "record") + " behind the log's end; last fetch " + ago(s.LastFetch)
	}
	decode := Stage{Name: "decode", Moves: idle || s.LastFetch.IsZero() || recent(s.LastDecode) || s.Backpressure,
		Says: plural(s.Rows, "row") + ", " + plural(s.DeadLetters, "dead letter") + "; last " + ago(s.LastDecode)}
	if s.Filtered > 0 {
		decode.Says = plural(s.Filtered, "record") + " filtered, " + decode.Says
	}
	if s.Unrouted > 0 {
		decode.Says = plural(s.Unrouted, "record") + " taken by no route, " + decode.Says
	}
	if s.Duplicates > 0 {
		decode.Says = plural(s.Duplicates, "duplicate") + " dropped, " + decode.Says
	}
	batch := Stage{Name: "batch", Moves: !s.Backpressure || s.CommitError == "",
		Says: plural(s.PendingRows, "row") + " wait for the next commit"}
	if s.Backpressure {
		batch.Says += "; the memory bound is reached and reading waits"
	}
	commit := Stage{Name: "commit", Moves: v.State != StateDegraded && v.State != StateFenced && v.State != StateStopped,
		Says: plural(s.Snapshots, "snapshot") + "; last " + ago(s.LastCommit) + lastPhases}
	if s.CommitError != "" {
		commit.Says = s.CommitError
	} else if !commit.Moves {
		commit.Says = v.Cause
	}
	return []Stage{source, decode, batch, commit}
}

// lagOf is how many records lie between what was consumed and the log's stable end; -1 when the broker has not said.
func lagOf(s engine.Status, positions map[int32]engine.Position) int64 {
	if len(positions) == 0 {
		return -1
	}
	var lag int64
	for p, pos := range positions {
		at, ok := s.Consumed[p]
		if !ok {
			at = pos.LogStart
		}
		lag += max(pos.LastStable-at, 0)
	}
	return lag
}
