package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/internal/audit"
	"github.com/firnlake/firn/internal/ledger"
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
		if c.feedOf(t, ledger.Record{}).String() == "" {
			return nil, fmt.Errorf("%w: --kafka: the topic of %s is not known: name the configuration with -c", ErrUsage, name)
		}
		opt.Kafka = &kafkaLog{c: c, table: t}
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
