package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/firnlake/firn/catalog"
)

// ExportReport is what the warehouse holds after an export: enough to make the catalog anew without its database.
type ExportReport struct {
	Inventory string          `json:"inventory"`       // location of the names; empty where there are none
	Wrote     bool            `json:"wrote_inventory"` // false: the warehouse had these names already
	Tables    []ExportedTable `json:"tables"`
	Views     int             `json:"views"` // each commit to a view writes its file
}

// ExportedTable is a table and its newest metadata file.
type ExportedTable struct {
	Table            string `json:"table"`
	Version          int64  `json:"version"`
	MetadataLocation string `json:"metadata_location"`
	Wrote            bool   `json:"wrote"` // false: the file was there already
	Error            string `json:"error,omitempty"`
}

// Export writes the metadata file of every table that has none of its newest version, and the inventory. It goes on
// after a failure; the error joins what failed.
func (s *Service) Export(ctx context.Context) (*ExportReport, error) {
	inv, err := s.store.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	r := &ExportReport{Tables: make([]ExportedTable, 0, len(inv.Tables)), Views: len(inv.Views)}
	var errs []error
	for _, t := range inv.Tables {
		e := ExportedTable{Table: t.Name.String()}
		head, err := s.store.Head(ctx, t.Name)
		if errors.Is(err, catalog.ErrNoSuchTable) {
			continue // dropped or renamed since
		}
		var d *document
		if err == nil {
			d, err = s.expose(ctx, head.ID, head.Version)
		}
		if err != nil {
			e.Error = err.Error()
			errs = append(errs, fmt.Errorf("export table %s: %w", t.Name, err))
		} else {
			e.Version, e.MetadataLocation, e.Wrote = d.version, d.location, head.MaterializedVersion < d.version
		}
		r.Tables = append(r.Tables, e)
	}
	// Last, so that it knows where the files lie.
	if r.Inventory, r.Wrote, err = s.writeInventory(ctx); err != nil {
		errs = append(errs, fmt.Errorf("export: %w", err))
	}
	return r, errors.Join(errs...)
}
