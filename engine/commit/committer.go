package commit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// DeadEncoder turns dead letters into rows of the dead-letter table's schema; the committer releases them.
type DeadEncoder func(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error)

// rules are broken by tests, to see that the simulation notices. The zero value breaks none.
type rules struct {
	blindRebase bool // a moved head is followed without asking whether V still stands: what an append retry does
	noSticky    bool // dead letters that are there already are written again
	wholeSticky bool // a line that is a dead letter makes one of its whole record
	onUnknown   func(context.Context, *Committer, *try, []*leg) error
	find        func(context.Context, *finder) (position, error)
}

// Committer makes the batches of one pipeline durable. It implements engine.Committer; its methods are called by one
// goroutine at a time.
type Committer struct {
	cfg    Config
	cat    catalog.Catalog
	wh     *objstore.Warehouse
	encode DeadEncoder
	log    *slog.Logger
	m      *Metrics
	reader *snapshot.Reader
	broken rules

	ready  bool          // a Recover succeeded, and nothing since asks for another
	source source        // what is read
	topics ledger.Topics // of a table that several go to, in their places; empty: there is one
	pos    position      // V on storage and the record it came from
	main   pinned
	dead   pinned
	sticky sticky // dead letters at or beyond V

	deadRec ledger.Record // the last record of the dead-letter table, and the snapshot that carries it
	deadAt  int64
	noTx    bool // the catalog cannot commit two tables at once

	carried    []offset.Range // offsets that gave neither row nor dead letter, dealt with since the last snapshot
	carriedOut leftOut        // those of them with a record
	since      time.Time      // of the last snapshot
	try        *try           // the batch that is being committed
	ahead      *ahead         // the batch that is being filled; nil before its first rows came
}

// pinned is the state of a table that the next snapshot is built on.
type pinned struct {
	id    catalog.Identifier
	head  snapshot.Head
	tag   *int64
	stale bool // the catalog's answer did not show our own snapshot as the head: load it before building on it
}

func (p *pinned) uuid() uuid.UUID { return p.head.Meta.TableUUID() }

// New returns a committer; Recover comes first.
func New(cfg Config, cat catalog.Catalog, wh *objstore.Warehouse, dead DeadEncoder, log *slog.Logger, m *Metrics) (*Committer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("committer of %s: %w", cfg.Pipeline, err)
	}
	if cat == nil || wh == nil || dead == nil {
		return nil, fmt.Errorf("committer of %s: catalog, warehouse and the encoder of dead letters are needed", cfg.Pipeline)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if m == nil {
		m = NewMetrics(nil)
	}
	return &Committer{cfg: cfg, cat: cat, wh: wh, encode: dead, log: log.With("pipeline", cfg.Pipeline, "table", cfg.Table.String()), m: m,
		reader: snapshot.NewReader(wh, manifestCacheBytes)}, nil
}

var _ engine.Committer = (*Committer)(nil)

// Recover implements engine.Committer: it reads V from the table by the steps of docs/exactly-once.md. It changes
// nothing in the table.
func (c *Committer) Recover(ctx context.Context) (engine.State, error) {
	c.ready, c.try, c.carried, c.carriedOut = false, nil, nil, leftOut{}
	c.dropAhead()
	st, err := c.recover(ctx)
	if err != nil {
		if errors.Is(err, engine.ErrNeedsDecision) {
			c.m.recovered.WithLabelValues(c.cfg.Pipeline, "stopped").Inc()
		}
		return engine.State{}, err
	}
	c.m.recovered.WithLabelValues(c.cfg.Pipeline, c.pos.step).Inc()
	c.ready, c.since = true, c.cfg.Now()
	return st, nil
}

func (c *Committer) recover(ctx context.Context) (engine.State, error) {
	now, err := c.describe(ctx)
	if err != nil {
		return engine.State{}, err
	}
	meta, err := c.load(ctx, c.cfg.Table)
	if err != nil {
		return engine.State{}, err
	}
	if err := c.main.same(c.cfg.Table, meta); err != nil {
		return engine.State{}, err
	}
	pos, err := c.position(ctx, meta, nil)
	if err != nil {
		return engine.State{}, err
	}
	if err := c.sameTopic(now, pos.record); err != nil {
		return engine.State{}, err
	}
	c.source, c.pos = now, pos
	if c.main, err = c.pin(ctx, c.cfg.Table, meta); err != nil {
		return engine.State{}, err
	}
	if err := c.recoverDead(ctx); err != nil {
		return engine.State{}, err
	}
	if c.topics, err = c.number(now, meta, pos); err != nil {
		return engine.State{}, err
	}
	st := pos.state(meta)
	st.Topics = c.topics
	st.IsDead = c.sticky.isDead()
	st.Unpublished = c.recoveredUnpublished()
	return st, nil
}

// load returns a table's metadata with the snapshots that refs name.
func (c *Committer) load(ctx context.Context, id catalog.Identifier) (table.Metadata, error) {
	t, err := c.cat.LoadTable(ctx, id, catalog.LoadRefs)
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		return nil, fmt.Errorf("%w: table %s is not there: it was dropped or renamed; restore it, or create it anew by starting the pipeline again: %w", engine.ErrNeedsDecision, id, err)
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", id, err)
	}
	return t.Metadata, nil
}

// position finds V in main's metadata. known are snapshots that the catalog need not be asked for.
func (c *Committer) position(ctx context.Context, meta table.Metadata, known map[int64]*table.Snapshot) (position, error) {
	line := &lineage{cat: c.cat, id: c.cfg.Table, meta: meta, at: known}
	f := newFinder(c.wh, c.reader, line, c.cfg.Pipeline)
	f.broken = c.broken
	return f.find(ctx)
}

func (c *Committer) pin(ctx context.Context, id catalog.Identifier, meta table.Metadata) (pinned, error) {
	head, err := snapshot.LoadHead(ctx, c.reader, meta, table.MainBranch)
	if err != nil {
		return pinned{}, fmt.Errorf("table %s: %w", id, err)
	}
	return pinned{id: id, head: head, tag: refID(meta, ledger.TagName(c.cfg.Pipeline))}, nil
}

// noID is what brokers without ids for topics or clusters are noted as.
const noID = "n/a"

// KnownID tells whether a cluster's or topic's id says anything: brokers without ids are noted as "n/a".
func KnownID(id string) bool { return id != "" && id != noID }

// sameTopic holds the topic as it is now against the one that the record was read from. Of several topics one that was made again is
// for the source to hold, so that the others are read on.
func (c *Committer) sameTopic(s source, r ledger.Record) error {
	const remedy = "its offsets mean other records now; write this topic into another table, or state where to read on: firn offsets resolve"
	switch {
	case KnownID(s.clusterID) && KnownID(r.ClusterID) && s.clusterID != r.ClusterID:
		return fmt.Errorf("%w: table %s was filled from Kafka cluster %s, the brokers are cluster %s: %s %s", engine.ErrTopicRecreated, c.cfg.Table, r.ClusterID, s.clusterID, remedy, c.cfg.Table)
	case len(s.topics) == 0 && KnownID(s.topic.TopicID) && KnownID(r.TopicID) && s.topic.TopicID != r.TopicID:
		return fmt.Errorf("%w: table %s was filled from topic id %s, topic %s has the id %s: %s %s", engine.ErrTopicRecreated, c.cfg.Table, r.TopicID, s.topic.Name, s.topic.TopicID, remedy, c.cfg.Table)
	}
	return nil
}

// recoverDead pins the dead-letter table and finds the dead letters that it holds at or beyond V. There are some after
// a crash between two tables' commits, on catalogs that cannot commit both at once, and after a rewind of the rows.
func (c *Committer) recoverDead(ctx context.Context) error {
	meta, err := c.load(ctx, c.cfg.DeadTable)
	if err != nil {
		return err
	}
	if err := c.dead.same(c.cfg.DeadTable, meta); err != nil {
		return err
	}
	if c.dead, err = c.pin(ctx, c.cfg.DeadTable, meta); err != nil {
		return err
	}
	c.sticky, c.deadRec, c.deadAt = sticky{}, ledger.Record{}, 0
	if c.dead.head.Snapshot == nil {
		return nil
	}
	line := &lineage{cat: c.cat, id: c.cfg.DeadTable, meta: meta}
	w, err := line.walk(ctx, c.dead.head.Snapshot)
	if err != nil && !errors.Is(err, engine.ErrNeedsDecision) {
		return err
	}
	if err == nil && w.found != nil {
		c.deadRec, c.deadAt = w.record, w.found.SnapshotID
		if reaches(c.pos.offsets(), w.record.Offsets) {
			return nil // nothing in it lies beyond V, as its own record says
		}
	}
	files, err := c.reader.FilesOf(ctx, snapshot.DataManifests(c.dead.head.Manifests), nil)
	if err != nil {
		return fmt.Errorf("table %s: %w", c.cfg.DeadTable, err)
	}
	scan, err := newLedgerScan(c.wh, meta)
	if err != nil {
		return err
	}
	if c.sticky, err = scan.from(ctx, files, c.pos.offsets()); err != nil {
		return fmt.Errorf("table %s: dead letters beyond %s: %w", c.cfg.DeadTable, orNone(c.pos.offsets()), err)
	}
	// The record of what is written next must not say less than what is there, or the next recovery would not look.
	c.deadRec.Offsets = c.deadRec.Offsets.Clone()
	for p, held := range c.sticky {
		for at := range held {
			c.deadRec.Offsets[p] = max(c.deadRec.Offsets[p], at.offset+1)
		}
	}
	if c.broken.wholeSticky {
		for p, held := range c.sticky {
			for at := range held {
				c.sticky.add(p, at.offset, 0)
			}
		}
	}
	if c.broken.noSticky {
		c.sticky = sticky{}
	}
	return nil
}
