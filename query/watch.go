package query

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/snapshot"
)

// maxWatchBack is how far back in the history a watch looks for the snapshot that it shall begin behind, in commits: the
// catalog tells of no more than that.
const maxWatchBack = 10_000

// WatchRequest says of which table's commits to tell, and from where on.
type WatchRequest struct {
	Table catalog.Identifier
	// After is the version that was seen last. AfterSnapshot is the snapshot that was, for those who know no version.
	// Without either the watch begins now.
	After, AfterSnapshot int64
}

// Commit is a commit to a table as a watcher hears of it.
type Commit struct {
	catalog.Event
	// Operation, AddedRows and TotalRows are the snapshot's own; empty and -1 where it is not in the metadata any more, or
	// does not say.
	Operation            string
	AddedRows, TotalRows int64
}

// Watch implements Engine.
func (s *Service) Watch(ctx context.Context, r WatchRequest, each func(Commit) error) error {
	w, ok := s.catalog.(catalog.Watcher)
	if !ok {
		return fmt.Errorf("watch %s: %w: the catalog tells of no commits", r.Table, catalog.ErrUnsupported)
	}
	after, err := s.watchAfter(ctx, r)
	if err != nil {
		return fmt.Errorf("watch %s: %w", r.Table, err)
	}
	known := &summaries{s: s, id: r.Table}
	return w.Watch(ctx, r.Table, after, func(e catalog.Event) error { return each(known.commit(ctx, e)) })
}

// watchAfter finds the version of the snapshot that was seen last.
func (s *Service) watchAfter(ctx context.Context, r WatchRequest) (int64, error) {
	if r.After != 0 || r.AfterSnapshot == 0 {
		return r.After, nil
	}
	h, ok := s.catalog.(catalog.HistoryKeeper)
	if !ok {
		return 0, fmt.Errorf("%w: the catalog keeps no history, in which snapshot %d could be found", catalog.ErrUnsupported, r.AfterSnapshot)
	}
	page := catalog.HistoryRange{}
	for seen := 0; seen < maxWatchBack; {
		entries, err := h.ListHistory(ctx, r.Table, page)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			if e.SnapshotID == r.AfterSnapshot {
				return e.Version, nil
			}
		}
		if len(entries) == 0 || entries[len(entries)-1].Version <= 1 {
			break
		}
		seen += len(entries)
		page.Before = entries[len(entries)-1].Version
	}
	return 0, fmt.Errorf("%w: snapshot %d is not among the newest %d commits that moved the table", catalog.ErrWatchEnded, r.AfterSnapshot, maxWatchBack)
}

// summaries knows what the newest snapshots of a table say of themselves. A watcher that keeps up costs one load for each
// commit; one that catches up learns of the newest ones alone, for the others are not in what a load of refs brings.
type summaries struct {
	s       *Service
	id      catalog.Identifier
	meta    table.Metadata
	version int64 // of meta
}

func (k *summaries) commit(ctx context.Context, e catalog.Event) Commit {
	c := Commit{Event: e, AddedRows: -1, TotalRows: -1}
	if !e.Head {
		return c
	}
	if k.meta == nil || e.Version > k.version {
		t, err := k.s.catalog.LoadTable(ctx, k.id, catalog.LoadRefs)
		if err != nil { // the event is true without it; if the table is gone the watch says so next
			if ctx.Err() == nil && !errors.Is(err, catalog.ErrNoSuchTable) {
				k.s.log.Debug("a commit is told of without its rows", "table", k.id.String(), "error", err)
			}
			return c
		}
		k.meta, k.version = t.Metadata, max(t.Version, e.Version)
	}
	sn := k.meta.SnapshotByID(e.SnapshotID)
	if sn == nil || sn.Summary == nil {
		return c
	}
	c.Operation = string(sn.Summary.Operation)
	c.AddedRows, c.TotalRows = max(snapshot.Count(sn, "added-records"), -1), max(snapshot.Count(sn, "total-records"), -1)
	return c
}
