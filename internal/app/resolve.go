package app

import (
	"context"
	"fmt"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/offset"
)

// ResolveOptions are the choices of firn offsets resolve.
type ResolveOptions struct {
	To     string // "0:123 1:456"; empty: just after the last row of each partition
	Rebind bool   // the offsets belong to the topic as it is now, for one that was made again
	DryRun bool
}

// ResolveReport is what a decision did, or would do.
type ResolveReport struct {
	Table      string `json:"table"`
	Before     string `json:"before"`
	Offsets    string `json:"offsets"`
	LastRow    string `json:"last_row"`
	Epoch      int64  `json:"epoch"`
	SnapshotID int64  `json:"snapshot_id,omitempty"` // 0 after a dry run
}

// Resolve states where a pipeline reads on, where recovery cannot.
func (c *Client) Resolve(ctx context.Context, name string, o ResolveOptions) (*ResolveReport, error) {
	to, err := offset.ParseVector(o.To)
	if err != nil {
		return nil, fmt.Errorf("%w: --to: %w", ErrUsage, err)
	}
	t, err := c.fedTable(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	r := commit.Resolution{To: to, DryRun: o.DryRun}
	if o.Rebind {
		if r.Topic, err = c.describe(ctx, c.topicOf(t.Table)); err != nil {
			return nil, err
		}
	}
	got, err := commit.Resolve(ctx, t.cat, t.wh, t.Identifier, t.pipeline, r)
	if err != nil {
		return nil, err
	}
	return &ResolveReport{Table: t.Identifier.String(), Before: got.Before, Offsets: got.Offsets.String(), LastRow: got.LastRow.String(),
		Epoch: got.Epoch, SnapshotID: got.SnapshotID}, nil
}

// describe asks Kafka which topic goes by that name now.
func (c *Client) describe(ctx context.Context, topic string) (engine.Topic, error) {
	src, err := source.New(c.cfg.Kafka, source.Options{Topic: topic}, c.log, source.NewMetrics(nil))
	if err != nil {
		return engine.Topic{}, err
	}
	defer src.Close()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return src.Describe(ctx)
}
