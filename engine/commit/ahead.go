package commit

import (
	"context"
	"maps"

	"github.com/apache/arrow-go/v18/arrow"
)

// maxAheadFiles bounds the files that are open while a batch fills. Rows of more partitions wait for the end of the batch, where one
// file is written after the other.
const maxAheadFiles = 16

// ahead is the files of a batch that is still being filled, as far as its rows have come. They are taken into the commit when what
// they were begun for still holds; else the batch is encoded from its rows, which it keeps until it is committed.
type ahead struct {
	rows []arrow.RecordBatch // taken, in the order in which they came; retained, so that no other rows can be taken for them
	evo  evolution
	enc  *encoder
	void bool // the batch cannot be encoded ahead
}

// EncodeAhead implements engine.Ahead.
func (c *Committer) EncodeAhead(ctx context.Context, rows []arrow.RecordBatch) {
	if !c.ready || c.try != nil || len(rows) == 0 {
		return
	}
	a := c.ahead
	if a == nil {
		a = &ahead{}
		c.ahead = a
	}
	if a.void {
		return
	}
	for _, r := range rows {
		r.Retain()
	}
	a.rows = append(a.rows, rows...)
	taken, err := c.encodeSome(ctx, a, rows)
	if err != nil {
		c.log.Debug("a batch is not encoded ahead", "error", err) // the commit meets it again, and tells
	}
	if !taken || err != nil {
		a.release()
		a.void = true
	}
}

// encodeSome is false where the batch's files cannot be begun yet: dead letters of old are still to be left out of it, the table has to change for it,
// its files are sorted, or there would be too many of them.
func (c *Committer) encodeSome(ctx context.Context, a *ahead, rows []arrow.RecordBatch) (bool, error) {
	if a.enc == nil {
		meta := c.main.head.Meta
		evo, err := c.evolve(meta, shapesOf(rows))
		if err != nil || len(c.sticky) > 0 || evo.unmade() {
			return false, err
		}
		if a.enc, err = newEncoder(meta, evo.schema, c.rowLayout(meta, evo)); err != nil {
			return false, err
		}
		a.evo = evo
	} else if len(shapesOf(append(rows[:len(rows):len(rows)], a.rows[0]))) > 1 {
		return false, nil // the decoder has grown, and the table may have to
	}
	ready, release, err := a.evo.ready(ctx, rows)
	if err != nil {
		return false, err
	}
	defer release()
	return a.enc.add(ctx, ready, maxAheadFiles)
}

// unmade tells that the table has to change before it is what the rows need.
func (e evolution) unmade() bool { return len(e.updates) > 0 || len(e.changes) > 0 }

// takeAhead returns the encoder that has the first n of these rows already, where it may be gone on with. The caller drops it.
func (c *Committer) takeAhead(l *leg, rows []arrow.RecordBatch) (e *encoder, n int) {
	a := c.ahead
	if c.ahead = nil; a == nil {
		return nil, 0
	}
	enc, n := a.enc, len(a.rows)
	a.enc = nil
	ok := !a.void && n <= len(rows) && !l.lay.unmade() && a.evo.same(l.lay) &&
		enc.meta.TableUUID() == l.p.head.Meta.TableUUID() && maps.Equal(enc.meta.Properties(), l.p.head.Meta.Properties())
	for i := 0; ok && i < n; i++ {
		ok = a.rows[i] == rows[i]
	}
	a.release()
	if ok {
		return enc, n
	}
	if enc != nil {
		enc.drop()
	}
	return nil, 0
}

// dropAhead forgets a batch that will not be committed.
func (c *Committer) dropAhead() {
	if c.ahead != nil {
		c.ahead.release()
		c.ahead = nil
	}
}

func (a *ahead) release() {
	for _, r := range a.rows {
		r.Release()
	}
	a.rows = nil
	if a.enc != nil {
		a.enc.drop()
		a.enc = nil
	}
}
