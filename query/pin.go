package query

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/sleep"
)

// Kinds of a pin.
const (
	KindNewest  = "newest"
	KindStood   = "as it stood then"    // a snapshot or a tag
	KindReadNow = "as we read it today" // today's files cut by the offsets of that time
)

const (
	// maxPinAttempts bounds how often a table is pinned again because the tail had moved past the snapshot.
	maxPinAttempts = 8
	// pinBackoff is the first wait between two attempts; it doubles.
	pinBackoff = 2 * time.Millisecond
	// visiblePoll is how often a query that waits for offsets looks again.
	visiblePoll = 10 * time.Millisecond
)

// pinned is a table at one state, with the hot rows that belong to it. Release gives them back.
type pinned struct {
	Pin
	meta   table.Metadata
	schema *iceberg.Schema
	snap   *table.Snapshot // nil: no snapshot
	below  offset.Vector   // not nil: only rows of files below it
	hot    []arrow.RecordBatch
	cut    *hot.Cut
}

// Release gives the hot rows back.
func (p *pinned) Release() {
	for _, r := range p.hot {
		r.Release()
	}
	p.hot = nil
	if p.cut != nil {
		p.cut.Release()
		p.cut = nil
	}
}

// pin fixes the state of a table that a query reads, and waits until it holds what Options.MinOffsets asks for.
func (s *Service) pin(ctx context.Context, id catalog.Identifier, want asOf, o Options) (*pinned, error) {
	if want.newest() && !o.AsOf.IsZero() {
		want.at = o.AsOf
	}
	if !want.newest() {
		return s.pinPast(ctx, id, want)
	}
	min := o.MinOffsets[id.String()]
	var missing string
	var level Level // of the last look
	var look *visible
	defer func() {
		if look != nil {
			look.end()
		}
	}()
	for {
		p, err := s.pinNewest(ctx, id, o.Level)
		if err == nil {
			if missing, level = lacking(p.End, min), p.Level; missing == "" {
				return p, nil
			}
			p.Release()
			s.metrics.waits.Inc()
			if look == nil {
				look = s.visible(ctx, id, o.Level)
			}
			err = look.wait(ctx)
		}
		if err != nil && missing != "" && ctx.Err() != nil { // wherever the wait ended
			return nil, fmt.Errorf("wait until %s shows offsets %s at level %s: it lacks %s: %w", id, min, level, missing, ctx.Err())
		}
		if err != nil {
			return nil, err
		}
	}
}

// lacking names the partitions of want that have does not reach; "" when there is none.
func lacking(have, want offset.Vector) string {
	var b strings.Builder
	for _, p := range want.Partitions() {
		at, known := have[p]
		switch {
		case known && at >= want[p]:
		case known:
			fmt.Fprintf(&b, " partition %d (at %d)", p, at)
		default:
			fmt.Fprintf(&b, " partition %d (no row yet)", p)
		}
	}
	return strings.TrimSpace(b.String())
}

// pinNewest pins the head of the table and, at level hot, the tail from the head's vector on. The head is read before
// the tail is asked, and the tail answers for exactly the vector of that head: what a commit in between moves from
// the tail into a newer snapshot is still in the tail (its grace time) or makes it answer ErrExpired, in which case
// both are read again. So no row is in both parts and none is in neither.
func (s *Service) pinNewest(ctx context.Context, id catalog.Identifier, level Level) (*pinned, error) {
	backoff := pinBackoff
	for attempt := 1; ; attempt++ {
		t, err := s.catalog.LoadTable(ctx, id, catalog.LoadRefs)
		if err != nil {
			return nil, fmt.Errorf("pin %s: %w", id, err)
		}
		snap := t.Metadata.CurrentSnapshot()
		p := &pinned{Pin: Pin{Table: id, Level: LevelCommitted, Kind: KindNewest}, meta: t.Metadata, schema: t.Metadata.CurrentSchema(), snap: snap}
		if snap != nil {
			p.SnapshotID = snap.SnapshotID
		}
		c, err := s.vector(ctx, t, snap)
		if err != nil {
			return nil, fmt.Errorf("pin %s: %w", id, err)
		}
		if c.known {
			p.Committed, p.End = c.offsets, c.offsets
		}
		if level == LevelCommitted || s.tail == nil || !c.known {
			return p, nil
		}
		cut, err := s.tail.Cut(ctx, id, c.offsets, c.epoch)
		switch {
		case err == nil:
			return s.addHot(ctx, p, cut)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("pin %s: tail: %w", id, ctx.Err())
		case errors.Is(err, hot.ErrExpired) && attempt < maxPinAttempts:
			s.metrics.repins.Inc()
			if err := sleep.For(ctx, backoff); err != nil {
				return nil, fmt.Errorf("pin %s: tail: %w", id, err)
			}
			backoff *= 2
		default:
			// The committed rows are a whole answer too, and Pin.Level says that it is this one.
			reason := tailReason(err)
			s.metrics.committedOnly.WithLabelValues(reason).Inc()
			if reason != "no_tail" {
				s.log.Warn("hot rows left out", "table", id.String(), "reason", reason, "err", err)
			}
			return p, nil
		}
	}
}

func tailReason(err error) string {
	switch {
	case errors.Is(err, hot.ErrNoTail):
		return "no_tail"
	case errors.Is(err, hot.ErrFenced):
		return "fenced"
	case errors.Is(err, hot.ErrExpired):
		return "expired"
	}
	return "unreachable"
}

// addHot takes over the cut.
func (s *Service) addHot(ctx context.Context, p *pinned, cut *hot.Cut) (*pinned, error) {
	p.cut, p.Level, p.End = cut, LevelHot, cut.End
	if len(cut.Rows) == 0 {
		return p, nil
	}
	proj, err := datafile.NewProjection(p.schema)
	if err != nil {
		p.Release()
		return nil, fmt.Errorf("pin %s: hot rows: %w", p.Table, err)
	}
	for _, r := range cut.Rows {
		out, err := proj.Apply(ctx, r)
		if err != nil {
			p.Release()
			return nil, fmt.Errorf("pin %s: hot rows: %w", p.Table, err)
		}
		p.hot = append(p.hot, out)
	}
	return p, nil
}

// headVector is where Kafka stands in a snapshot.
type headVector struct {
	offsets offset.Vector
	epoch   int64
	known   bool // false: the rows of the snapshot have no known end, so no hot row can be added to them
}

// vector finds the offsets of a head: in its own record, else in that of its nearest ancestor that carries one,
// because a commit of another engine leaves the offsets where they were, else in the catalog's history. An ancestor
// walk that meets a missing snapshot proves nothing.
func (s *Service) vector(ctx context.Context, t *catalog.Table, snap *table.Snapshot) (headVector, error) {
	if snap == nil {
		return headVector{offsets: offset.Vector{}, known: true}, nil
	}
	if v, found, err := recordOf(snap); found || err != nil {
		if err != nil {
			s.log.Warn("offsets of the head cannot be read", "table", t.Identifier.String(), "snapshot", snap.SnapshotID, "err", err)
		}
		return v, nil
	}
	if v, ok := s.foreign.Get(snap.SnapshotID); ok {
		return v, nil
	}
	all, err := s.catalog.LoadTable(ctx, t.Identifier, catalog.LoadAll)
	if err != nil {
		return headVector{}, err
	}
	v, err := s.ancestorVector(ctx, t.Identifier, all.Metadata, snap)
	if err != nil {
		return headVector{}, err
	}
	if v.known { // what is not known may be so only now: the history follows the head
		s.foreign.Put(snap.SnapshotID, 1, v)
	}
	return v, nil
}

func (s *Service) ancestorVector(ctx context.Context, id catalog.Identifier, meta table.Metadata, snap *table.Snapshot) (headVector, error) {
	seen := map[int64]bool{}
	for at := snap; at != nil && !seen[at.SnapshotID]; {
		seen[at.SnapshotID] = true
		if v, found, err := recordOf(at); found || err != nil {
			return v, nil
		}
		if at.ParentSnapshotID == nil {
			return headVector{offsets: offset.Vector{}, known: true}, nil // Firn never wrote this table
		}
		at = meta.SnapshotByID(*at.ParentSnapshotID)
	}
	h, ok := s.catalog.(catalog.Historian)
	if !ok {
		return headVector{}, nil
	}
	e, err := h.HistoryAt(ctx, id, s.now())
	if err != nil && !errors.Is(err, catalog.ErrNoHistory) && !errors.Is(err, catalog.ErrUnsupported) {
		return headVector{}, err
	}
	if err != nil || e.SnapshotID != snap.SnapshotID || e.Offsets == "" {
		return headVector{}, nil
	}
	offsets, err := offset.DecodeVector(e.Offsets)
	if err != nil {
		return headVector{}, nil
	}
	// The history has no epoch; the tail's owner refuses a wrong one.
	return headVector{offsets: offsets, known: true}, nil
}

// recordOf reads Firn's record of a snapshot. A record that is there and cannot be read is an error with unknown
// offsets, never an empty vector.
func recordOf(snap *table.Snapshot) (v headVector, found bool, err error) {
	if snap.Summary == nil {
		return headVector{}, false, nil
	}
	r, err := ledger.ParseSummary(snap.Summary.Properties)
	switch {
	case errors.Is(err, ledger.ErrNoRecord):
		return headVector{}, false, nil
	case err != nil:
		return headVector{}, false, err
	}
	return headVector{offsets: r.Offsets, epoch: r.Epoch, known: true}, true, nil
}
