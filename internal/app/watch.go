package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
)

// WatchRow is a line of firn watch.
type WatchRow struct {
	HistoryRow
	Head bool `json:"head"` // false: a schema, a property, a tag or another branch changed; only the version is set
}

// Watch calls each for every commit to a table from now on, or after a version, until ctx ends or each gives an error.
func (c *Client) Watch(ctx context.Context, name string, after int64, each func(WatchRow) error) error {
	id, err := tableName(name)
	if err != nil {
		return err
	}
	cat, err := c.Catalog(ctx)
	if err != nil {
		return err
	}
	defer cat.Close()
	err = cat.Watch(ctx, id, after, func(e catalog.Event) error {
		r := WatchRow{Head: e.Head, HistoryRow: HistoryRow{At: e.At, Version: e.Version, Snapshot: e.SnapshotID}}
		if e.Offsets != "" {
			v, err := offset.DecodeVector(e.Offsets)
			if err != nil {
				return fmt.Errorf("version %d of %s: %w", e.Version, name, err)
			}
			r.Offsets = v
		}
		return each(r)
	})
	switch {
	case errors.Is(err, catalog.ErrNoSuchTable):
		return fmt.Errorf("%w: firn tables lists what there is", err)
	case errors.Is(err, catalog.ErrWatchEnded):
		return fmt.Errorf("%w: leave --after out to begin now", err)
	}
	return err
}
