package app

import (
	"context"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
)

// HistoryRow is a line of firn history: a commit, and where Kafka stood after it.
type HistoryRow struct {
	At       time.Time     `json:"committed_at"`
	Version  int64         `json:"version"`
	Snapshot int64         `json:"snapshot_id"`       // perhaps expired since
	Offsets  offset.Vector `json:"offsets,omitempty"` // partition to next offset; absent for other engines' commits
}

// HistoryOptions select commits.
type HistoryOptions struct {
	Since, Until time.Time // zero: no bound
	Limit        int       // 0: all
}

// History lists a table's commits, the newest first, also those whose snapshots have expired.
func (c *Client) History(ctx context.Context, name string, o HistoryOptions) ([]HistoryRow, error) {
	cat, id, err := c.historyOf(ctx, name)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	out := []HistoryRow{}
	r := catalog.HistoryRange{Since: o.Since, Until: o.Until}
	for o.Limit == 0 || len(out) < o.Limit {
		if o.Limit > 0 {
			r.Limit = o.Limit - len(out)
		}
		page, err := cat.ListHistory(ctx, id, r)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			row := HistoryRow{At: e.At, Version: e.Version, Snapshot: e.SnapshotID}
			if e.Offsets != "" {
				if row.Offsets, err = offset.DecodeVector(e.Offsets); err != nil {
					return nil, fmt.Errorf("history of %s: version %d: %w", name, e.Version, err)
				}
			}
			out = append(out, row)
		}
		r.Before = page[len(page)-1].Version
	}
	return out, nil
}

// PruneReport says what was, or would be, forgotten.
type PruneReport struct {
	Table   string    `json:"table"`
	Before  time.Time `json:"before"`
	Entries int64     `json:"entries"`
	DryRun  bool      `json:"dry_run"`
}

// PruneHistory forgets a table's commits before a time, but for the last of them.
func (c *Client) PruneHistory(ctx context.Context, name string, before time.Time, dryRun bool) (*PruneReport, error) {
	cat, id, err := c.historyOf(ctx, name)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	n, err := cat.PruneHistory(ctx, id, before, dryRun)
	if err != nil {
		return nil, err
	}
	return &PruneReport{Table: id.String(), Before: before.UTC(), Entries: n, DryRun: dryRun}, nil
}

// closing is a catalog client as the history needs it.
type closing interface {
	catalog.HistoryKeeper
	Close()
}

func (c *Client) historyOf(ctx context.Context, name string) (closing, catalog.Identifier, error) {
	id, err := tableName(name)
	if err != nil {
		return nil, nil, err
	}
	cat, err := c.Catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	return cat, id, nil
}
