package commit

import (
	"context"
	"fmt"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
)

// Check implements engine.Committer: a look at the table for a pipeline that has nothing to commit and would not notice
// otherwise that it was fenced or that the table was set back.
func (c *Committer) Check(ctx context.Context) error {
	if !c.ready || c.try != nil {
		return nil
	}
	err := c.check(ctx)
	if classify(err) == fenced {
		c.ready = false
	}
	return err
}

func (c *Committer) check(ctx context.Context) error {
	meta, err := c.load(ctx, c.main.id)
	if err != nil {
		return err
	}
	if err := c.main.same(c.main.id, meta); err != nil {
		return err
	}
	l := &leg{p: &c.main}
	if !sameID(refID(meta, c.tagName()), c.main.tag) {
		return c.fenced(ctx, &try{}, l, meta)
	}
	if sameID(refID(meta, table.MainBranch), c.main.head.ID()) {
		return nil
	}
	return c.rebase(ctx, l, meta)
}

// same holds a table against the one of its name that was pinned first. A table that was created again is
// empty or somebody else's; filling it from the topic's start is for a person to decide, by a start of the pipeline.
func (p *pinned) same(id catalog.Identifier, now table.Metadata) error {
	if p.head.Meta == nil || p.uuid() == now.TableUUID() {
		return nil
	}
	return fmt.Errorf("%w: table %s was dropped and created again: its uuid is another; start the pipeline again to fill the new one", engine.ErrNeedsDecision, id)
}
