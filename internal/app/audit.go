package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/objstore"
)

// AuditOptions are the choices of firn audit.
type AuditOptions struct {
	Kafka      bool // compare with the log itself
	AllColumns bool // verify the checksums of every column
	Progress   func(done, total int)
}

// Audit proves, or disproves, that a table holds every record once. A table that is not clean is no error of Audit.
func (c *Client) Audit(ctx context.Context, name string, o AuditOptions) (*audit.Report, error) {
	cat, err := c.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	t, err := c.Table(ctx, cat, name, catalog.LoadRefs)
	if err != nil {
		return nil, err
	}
	wh, err := c.Warehouse(ctx)
	if err != nil {
		return nil, err
	}
	defer wh.Close()
	opt := audit.Options{AllColumns: o.AllColumns, Progress: o.Progress, DeadLetters: c.deadLettersOf(t.Identifier)}
	if o.Kafka {
		topic := c.topicOf(t)
		if topic == "" {
			return nil, fmt.Errorf("%w: --kafka: the topic of %s is not known: name the configuration with -c", ErrUsage, name)
		}
		src, err := source.New(c.cfg.Kafka, source.Options{Topic: topic}, c.log, source.NewMetrics(nil))
		if err != nil {
			return nil, err
		}
		defer src.Close()
		opt.Kafka = &kafkaLog{cfg: c.cfg.Kafka, topic: topic, src: src}
	}
	if opt.Gaps, err = c.gapsOf(ctx, cat, wh, t.Identifier); err != nil {
		return nil, err
	}
	return audit.Table(ctx, cat, wh, t.Identifier, opt)
}

// gapsOf reads the gaps table of a table; nil when there is none.
func (c *Client) gapsOf(ctx context.Context, cat catalog.Catalog, wh *objstore.Warehouse, id catalog.Identifier) ([]audit.Gap, error) {
	name := append(slices.Clone(id.Namespace()), id.Name()+"_gaps")
	for _, p := range c.cfg.Pipelines {
		if rows, _ := p.tables(); rows.String() == id.String() {
			name = p.gapsTable()
		}
	}
	t, err := cat.LoadTable(ctx, name, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("gaps table %s: %w", name, err)
	}
	var gaps []audit.Gap
	err = commit.ReadGaps(ctx, t, wh, func(p int32, first, next int64) error {
		gaps = append(gaps, audit.Gap{Partition: p, First: first, Next: next})
		return nil
	})
	return gaps, err
}

// deadLettersOf is the dead-letter table that the configuration gives a table; nil lets the table itself say.
func (c *Client) deadLettersOf(id catalog.Identifier) catalog.Identifier {
	for _, p := range c.cfg.Pipelines {
		if rows, dead := p.tables(); rows.String() == id.String() {
			return dead
		}
	}
	return nil
}

// kafkaLog is a topic as an audit reads it. It implements audit.Log.
type kafkaLog struct {
	cfg   source.Config
	topic string
	src   *source.Source // for Describe alone
}

func (k *kafkaLog) Describe(ctx context.Context) (clusterID, topicID string, err error) {
	t, err := k.src.Describe(ctx)
	return t.ClusterID, t.TopicID, err
}

func (k *kafkaLog) Bounds(ctx context.Context) (map[int32]audit.LogBounds, error) {
	b, err := source.Bounds(ctx, k.cfg, k.topic)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]audit.LogBounds, len(b))
	for p, pos := range b {
		out[p] = audit.LogBounds{Start: pos.LogStart, End: pos.LastStable}
	}
	return out, nil
}

func (k *kafkaLog) ReadRange(ctx context.Context, partition int32, from, to int64, fn func(audit.Stretch) error) error {
	var offsets []int64
	return source.ReadRange(ctx, k.cfg, k.topic, partition, from, to, func(f *engine.Fetch) error {
		offsets = offsets[:0]
		for i := range f.Records {
			offsets = append(offsets, f.Records[i].Offset)
		}
		return fn(audit.Stretch{Start: f.Start, End: f.End, Offsets: offsets, Control: f.Control, Aborted: f.Aborted})
	})
}
