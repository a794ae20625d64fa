package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/units"
)

const (
	// propHistory is the table property that says how long a table's history is kept: a duration, or "forever".
	propHistory = "firn.history.retention"
	// minHistory is the shortest retention: recovery asks the history for what expired from the metadata.
	minHistory = time.Hour
	// historyPruneEvery is how often the retention of all tables is looked at.
	historyPruneEvery = time.Hour
)

// HistoryAt implements catalog.Historian.
func (s *Service) HistoryAt(ctx context.Context, id catalog.Identifier, at time.Time) (catalog.HistoryEntry, error) {
	if err := checkTableName(id); err != nil {
		return catalog.HistoryEntry{}, fmt.Errorf("history: %w", err)
	}
	r, err := s.store.HistoryAt(ctx, id, at.UnixMilli())
	return catalog.HistoryEntry{Version: r.Version, At: time.UnixMilli(r.AtMS).UTC(), SnapshotID: r.SnapshotID, Offsets: r.Offsets}, err
}

// ListHistory implements catalog.HistoryKeeper.
func (s *Service) ListHistory(ctx context.Context, id catalog.Identifier, r catalog.HistoryRange) ([]catalog.HistoryEntry, error) {
	if err := checkTableName(id); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	q := sqlstore.HistoryRange{SinceMS: math.MinInt64, UntilMS: math.MaxInt64, Before: math.MaxInt64, Limit: s.cfg.MaxPage}
	if !r.Since.IsZero() {
		q.SinceMS = r.Since.Add(time.Millisecond - 1).UnixMilli() // commits have whole milliseconds
	}
	if !r.Until.IsZero() {
		q.UntilMS = r.Until.UnixMilli()
	}
	if r.Before != 0 {
		q.Before = r.Before
	}
	if r.Limit > 0 {
		q.Limit = min(q.Limit, r.Limit)
	}
	rows, err := s.store.ListHistory(ctx, id, q)
	if err != nil {
		return nil, err
	}
	out := make([]catalog.HistoryEntry, len(rows))
	for i, row := range rows {
		out[i] = catalog.HistoryEntry{Version: row.Version, At: time.UnixMilli(row.AtMS).UTC(), SnapshotID: row.SnapshotID, Offsets: row.Offsets}
	}
	return out, nil
}

// PruneHistory implements catalog.HistoryKeeper.
func (s *Service) PruneHistory(ctx context.Context, id catalog.Identifier, before time.Time, dryRun bool) (int64, error) {
	if err := checkTableName(id); err != nil {
		return 0, fmt.Errorf("prune history: %w", err)
	}
	if time.Since(before) < minHistory {
		return 0, fmt.Errorf("%w: prune history: %s is less than %s ago: recovery of a pipeline asks for what is newer", catalog.ErrInvalid, before.UTC().Format(time.RFC3339), minHistory)
	}
	return s.store.PruneHistory(ctx, id, before.UnixMilli(), dryRun)
}

// pruneHistories cuts the history of each table by its own retention, or else by the configured one.
func (s *Service) pruneHistories(ctx context.Context) error {
	inv, err := s.store.Inventory(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range inv.Tables {
		l, err := s.current(ctx, t.Name)
		if err != nil {
			if !errors.Is(err, catalog.ErrNoSuchTable) {
				errs = append(errs, err)
			}
			continue
		}
		keep := historyRetention(l.meta.Properties()[propHistory], s.cfg.HistoryRetention.D())
		if keep == 0 {
			continue
		}
		if _, err := s.PruneHistory(ctx, t.Name, time.Now().Add(-keep), false); err != nil && !errors.Is(err, catalog.ErrNoSuchTable) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// historyRetention reads a table's own retention; 0 is for ever. What cannot be read keeps everything: a slip of the
// pen must not delete.
func historyRetention(own string, otherwise time.Duration) time.Duration {
	if own == "" {
		return otherwise
	}
	d, err := units.ParseDuration(own)
	if err != nil || d <= 0 {
		return 0
	}
	return max(d.D(), minHistory)
}

// history answers what was committed by a time, or with a page of the history.
func (h *handler) history(r *request) (reply, error) {
	q := r.URL.Query()
	if q.Has("at") {
		at, err := millis(r, "at")
		if err != nil {
			return reply{}, err
		}
		e, err := h.s.HistoryAt(r.Context(), r.id(), at)
		return ok(historyBody(e)), err
	}
	var want catalog.HistoryRange
	var err error
	for key, into := range map[string]*time.Time{"since": &want.Since, "until": &want.Until} {
		if q.Has(key) {
			if *into, err = millis(r, key); err != nil {
				return reply{}, err
			}
		}
	}
	if v := q.Get("before"); v != "" {
		if want.Before, err = strconv.ParseInt(v, 10, 64); err != nil {
			return reply{}, fmt.Errorf("%w: before=%q is not a version", catalog.ErrInvalid, v)
		}
	}
	if v := q.Get("limit"); v != "" {
		if want.Limit, err = strconv.Atoi(v); err != nil || want.Limit < 1 {
			return reply{}, fmt.Errorf("%w: limit=%q is not a positive number", catalog.ErrInvalid, v)
		}
	}
	entries, err := h.s.ListHistory(r.Context(), r.id(), want)
	out := wire.Histories{Entries: make([]wire.History, len(entries))}
	for i, e := range entries {
		out.Entries[i] = historyBody(e)
	}
	return ok(out), err
}

func historyBody(e catalog.HistoryEntry) wire.History {
	return wire.History{Version: e.Version, AtMS: e.At.UnixMilli(), SnapshotID: e.SnapshotID, Offsets: e.Offsets}
}

func millis(r *request, key string) (time.Time, error) {
	v := r.URL.Query().Get(key)
	ms, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s=%q is not a time in milliseconds since 1970", catalog.ErrInvalid, key, v)
	}
	return time.UnixMilli(ms), nil
}

// pruneHistory forgets the history from before a time.
func (h *handler) pruneHistory(r *request) (reply, error) {
	before, err := millis(r, "before")
	if err != nil {
		return reply{}, err
	}
	dry := r.URL.Query().Get("dry-run")
	if dry != "" && dry != "true" && dry != "false" {
		return reply{}, fmt.Errorf("%w: dry-run=%q is neither true nor false", catalog.ErrInvalid, dry)
	}
	n, err := h.s.PruneHistory(r.Context(), r.id(), before, dry == "true")
	return reply{http.StatusOK, wire.Pruned{Entries: n, DryRun: dry == "true"}}, err
}
