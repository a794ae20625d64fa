package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/internal/app"
)

// newExport writes what a catalog can be made of anew.
func newExport(g *globals) *cobra.Command {
	out := &output{}
	c := &cobra.Command{Use: "export", Short: "Write all tables' newest metadata files and names into the warehouse", Args: cobra.NoArgs,
		Long: `Writes into the warehouse the newest metadata file of every table that has none yet, and the inventory of names:
all that firn catalog restore needs. A running catalog does the same every materialize_interval and when it stops. Works on
the database itself, also while a catalog serves it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := g.load("error", c.ErrOrStderr())
			if err != nil {
				return err
			}
			r, err := app.ExportCatalog(c.Context(), cfg, log)
			if r == nil {
				return err
			}
			if perr := out.print(c, r, func(w io.Writer) { printExport(w, r) }); perr != nil {
				return perr
			}
			return err
		}}
	out.register(c)
	return c
}

func printExport(w io.Writer, r *server.ExportReport) {
	word := map[bool]string{true: "written", false: "was there"}
	row(w, "TABLE", "VERSION", "FILE", "METADATA")
	for _, t := range r.Tables {
		if t.Error != "" {
			row(w, t.Table, "-", "failed", t.Error)
			continue
		}
		row(w, t.Table, t.Version, word[t.Wrote], t.MetadataLocation)
	}
	row(w)
	row(w, "views", r.Views)
	if r.Inventory != "" {
		row(w, "inventory", word[r.Wrote], r.Inventory)
	}
}

// newRestore makes a catalog of a warehouse.
func newRestore(g *globals) *cobra.Command {
	out, o := &output{}, server.RestoreOptions{}
	var named []string
	c := &cobra.Command{Use: "restore", Short: "Make the catalog anew of what the warehouse holds", Args: cobra.NoArgs,
		Long: `Makes the namespaces, tables and views that the warehouse's inventory names, each table from its newest valid
metadata file, in the database of the configuration. What is there already stays as it is, unless --overwrite says
otherwise. What is ambiguous or broken is reported and left out.

Ingest then reads again from the offsets in the files: nothing is lost or doubled as far as Kafka has the records. Stop
ingest and catalog first, so that neither makes tables of the same names.`,
		Example: `  firn catalog restore --dry-run
  firn catalog restore
  firn catalog restore --table analytics.user_events=s3://lake/warehouse/3f0e6c2a-.../metadata/00123-....metadata.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := g.load("error", c.ErrOrStderr())
			if err != nil {
				return err
			}
			for _, text := range named {
				t, err := app.ParseNamedTable(text)
				if err != nil {
					return err
				}
				o.Tables = append(o.Tables, t)
			}
			r, err := app.RestoreCatalog(c.Context(), cfg, o, log)
			if r == nil {
				return err
			}
			if perr := out.print(c, r, func(w io.Writer) { printRestore(w, r) }); perr != nil {
				return perr
			}
			return err
		}}
	f := c.Flags()
	f.BoolVar(&o.DryRun, "dry-run", false, "print what would be restored and write nothing")
	f.BoolVar(&o.Overwrite, "overwrite", false, "put what the warehouse has in the place of tables that are there; their history goes")
	f.Int64Var(&o.Inventory, "inventory", 0, "the `number` of the inventory that counts; 0: the newest")
	f.StringArrayVar(&named, "table", nil, "restore `NAME=LOCATION`, the location of a table or of one metadata file, whatever the inventory says; may be repeated")
	out.register(c)
	return c
}

func printRestore(w io.Writer, r *server.RestoreReport) {
	if r.Inventory != "" {
		row(w, "inventory", r.Inventory)
		row(w)
	}
	row(w, "KIND", "NAME", "OUTCOME", "UPDATED", "METADATA")
	for _, e := range r.Entries {
		what := e.MetadataLocation
		if e.Reason != "" {
			what = e.Reason
		}
		row(w, e.Kind, e.Name, e.Outcome, clock(e.UpdatedAt), what)
		for _, n := range e.Notes {
			row(w, "", "", "", "", n)
		}
	}
	if len(r.Unnamed) > 0 {
		row(w)
		row(w, "WITHOUT A NAME", "FILES", "NEWEST")
		for _, u := range r.Unnamed {
			row(w, u.Directory, u.Files, u.Newest)
		}
	}
	if r.DryRun {
		row(w)
		fmt.Fprintln(w, "nothing was written")
	}
}
