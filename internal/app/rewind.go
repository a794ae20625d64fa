package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// DefaultKeepHead is how long the head that a rewind left stays under its tag.
const DefaultKeepHead = 7 * 24 * time.Hour

// ErrMissing: Kafka does not hold all that a rewind would have to read again.
var ErrMissing = errors.New("kafka does not hold all records that would have to be read again")

// RewindOptions are the choices of firn rewind. One of the first four says where to.
type RewindOptions struct {
	Snapshot int64
	Tag      string
	Time     time.Time
	Offsets  string // "0:123 1:456"

	Keep          time.Duration // of the old head's tag; 0: for ever
	DryRun        bool
	AcceptMissing bool // act although Kafka does not hold all, or cannot be asked
}

// RewindReport is what a rewind did, or would do.
type RewindReport struct {
	Table       string            `json:"table"`
	Pipeline    string            `json:"pipeline"`
	Topic       string            `json:"topic"`
	Target      int64             `json:"target_snapshot_id"`
	TargetAt    time.Time         `json:"target_committed_at"`
	Head        int64             `json:"old_head_snapshot_id"`
	Epoch       int64             `json:"epoch"`
	RowsNow     int64             `json:"rows_now"` // -1 when not known
	RowsThen    int64             `json:"rows_then"`
	Stopped     string            `json:"stopped,omitempty"`
	Again       int64             `json:"offsets_read_again"`
	Missing     int64             `json:"offsets_missing"` // from there on, no longer in Kafka
	KafkaError  string            `json:"kafka_error,omitempty"`
	Partitions  []RewindPartition `json:"partitions"`
	SnapshotID  int64             `json:"snapshot_id,omitempty"` // 0 after a dry run
	OldHeadTag  string            `json:"old_head_tag,omitempty"`
	OldHeadKept time.Duration     `json:"old_head_kept_ns,omitempty"`
}

// RewindPartition is one partition's part. What is not known is -1.
type RewindPartition struct {
	Partition int32 `json:"partition"`
	Spot
	Now      int64 `json:"now"`
	Then     int64 `json:"then"`
	Again    int64 `json:"again"`
	LogStart int64 `json:"log_start"`
	Missing  int64 `json:"missing"`
}

// Rewind sets a table and its offsets back, or says what that would do.
func (c *Client) Rewind(ctx context.Context, name string, o RewindOptions) (*RewindReport, error) {
	to, err := o.target()
	if err != nil {
		return nil, err
	}
	t, err := c.fedTable(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	plan, err := commit.PlanRewind(ctx, t.cat, t.wh, t.Identifier, t.pipeline, to)
	if err != nil {
		return nil, err
	}
	r := &RewindReport{Table: t.Identifier.String(), Pipeline: t.pipeline}
	f := c.feedOf(t.Table, plan.Record)
	r.Topic = f.String()
	held, err := c.heldByKafka(ctx, f, plan.Record)
	if err != nil {
		r.KafkaError = err.Error()
	}
	r.fill(f, plan, held)
	if o.DryRun {
		return r, nil
	}
	if !o.AcceptMissing && r.KafkaError != "" {
		return r, fmt.Errorf("rewind of %s: whether Kafka still holds what would be read again is not known (%s): mend that, or add --accept-missing", r.Table, r.KafkaError)
	}
	if !o.AcceptMissing && r.Missing > 0 {
		return r, fmt.Errorf("rewind of %s: %w: %d offsets are gone, and their rows would be taken out for good: choose a later target, or add --accept-missing", r.Table, ErrMissing, r.Missing)
	}
	done, err := commit.Rewind(ctx, t.cat, t.wh, t.Identifier, t.pipeline, plan, o.Keep)
	if err != nil {
		return r, err
	}
	r.fill(f, done.RewindPlan, held) // the writer may have gone on since
	r.SnapshotID, r.OldHeadTag, r.OldHeadKept = done.SnapshotID, done.Tag, o.Keep
	return r, nil
}

func (o RewindOptions) target() (commit.RewindTarget, error) {
	to := commit.RewindTarget{Snapshot: o.Snapshot, Tag: o.Tag, Time: o.Time}
	var err error
	if to.Offsets, err = offset.ParseVector(o.Offsets); err != nil {
		return to, fmt.Errorf("%w: --to-offsets: %w", ErrUsage, err)
	}
	n := 0
	for _, given := range []bool{to.Snapshot != 0, to.Tag != "", !to.Time.IsZero(), to.Offsets != nil} {
		if given {
			n++
		}
	}
	if n != 1 {
		return to, fmt.Errorf("%w: say where to by one of --to-snapshot, --to-time, --to-offsets, --to-tag", ErrUsage)
	}
	if o.Keep < 0 {
		return to, fmt.Errorf("%w: --keep %s: take a time from 0 (for ever) on", ErrUsage, o.Keep)
	}
	return to, nil
}

// heldByKafka asks for the topics' bounds, and whether its offsets still mean what they did when rec was written; nil
// bounds come with the reason.
func (c *Client) heldByKafka(ctx context.Context, f feed, rec ledger.Record) (map[int32]engine.Position, error) {
	bounds, err := f.bounds(ctx)
	if err != nil {
		return nil, err
	}
	now, err := c.describe(ctx, f)
	if err != nil {
		return nil, err
	}
	for i, t := range now {
		was := rec.TopicID
		if len(rec.Topics) > 0 {
			was = rec.Topics[i].ID
		}
		if commit.KnownID(t.TopicID) && commit.KnownID(was) && t.TopicID != was {
			return nil, fmt.Errorf("topic %s has the id %s, the target was read from id %s: it was made again, and what was read then is gone", t.Name, t.TopicID, was)
		}
	}
	return bounds, nil
}

// fill tells a plan, held against what Kafka has; nil bounds are not known.
func (r *RewindReport) fill(f feed, plan commit.RewindPlan, held map[int32]engine.Position) {
	r.Target, r.TargetAt, r.Head, r.Epoch, r.RowsNow, r.RowsThen, r.Stopped = plan.Snapshot, plan.At, plan.Head, plan.Epoch, plan.RowsNow, plan.RowsThen, plan.Stopped
	r.Again, r.Missing, r.Partitions = 0, 0, nil
	ids := plan.Offsets.Partitions()
	for _, p := range plan.Now.Partitions() {
		if _, then := plan.Offsets[p]; !then { // it came after the target, and is read from its start
			ids = append(ids, p)
		}
	}
	slices.Sort(ids)
	again := plan.Again()
	for _, p := range ids {
		line := RewindPartition{Partition: p, Now: -1, Then: plan.Offsets[p], Again: again[p], LogStart: -1, Missing: -1, Spot: f.spot(p)}
		if now, ok := plan.Now[p]; ok {
			line.Now = now
		}
		if b, ok := held[p]; ok {
			line.LogStart = b.LogStart
			line.Missing = max(b.LogStart-line.Then, 0)
			r.Missing += line.Missing
		}
		r.Again += line.Again
		r.Partitions = append(r.Partitions, line)
	}
}
