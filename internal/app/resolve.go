package app

import (
	"context"
	"fmt"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
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
		if err := c.rebind(ctx, t, &r); err != nil {
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

// rebind has the offsets belong to the topics as they are now.
func (c *Client) rebind(ctx context.Context, t *fed, r *commit.Resolution) error {
	e, err := commit.Explain(ctx, t.cat, t.wh, t.Identifier, t.pipeline)
	if err != nil {
		return err
	}
	f := c.feedOf(t.Table, e.Record)
	now, err := c.describe(ctx, f)
	if err != nil {
		return err
	}
	if len(f.several) > 0 {
		r.Topics = now
	}
	r.Topic = engine.Topic{ClusterID: clusterOf(now), TopicID: now[0].TopicID}
	return nil
}

// clusterOf is the cluster of the topics that are there.
func clusterOf(all []engine.Topic) string {
	for _, t := range all {
		if t.ClusterID != "" {
			return t.ClusterID
		}
	}
	return ""
}
