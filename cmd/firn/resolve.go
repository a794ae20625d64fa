package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// newResolve is the way out of a stop.
func newResolve(g *globals) *cobra.Command {
	t, out, o, yes := &target{}, &output{}, app.ResolveOptions{}, false
	c := &cobra.Command{Use: "resolve TABLE", Short: "State where a stopped pipeline reads on", Args: cobra.ExactArgs(1),
		Long: `Commits a snapshot without rows that says where the table's pipeline reads on, for when recovery cannot tell
(docs/exactly-once.md). Without --to this is just after the last row of each partition, by the ledger columns. A position
below rows that are in the table is refused. Prints the plan; acts only with --yes.`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			o.DryRun = o.DryRun || !yes
			r, err := cl.Resolve(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			return out.print(c, r, func(w io.Writer) {
				row(w, "before", r.Before)
				row(w, "reads on at", r.Offsets)
				row(w, "last rows", r.LastRow)
				row(w, "epoch", r.Epoch)
				if r.SnapshotID != 0 {
					row(w, "snapshot", r.SnapshotID)
				} else {
					fmt.Fprintln(w, "nothing was written: add --yes to do it")
				}
			})
		}}
	f := c.Flags()
	f.StringVar(&o.To, "to", "", `where to read on, as "0:123 1:456"`)
	f.BoolVar(&o.Rebind, "this-topic", false, "the offsets belong to the topic as it is now, for one that was made again")
	f.BoolVar(&o.DryRun, "dry-run", false, "print the plan and write nothing")
	f.BoolVar(&yes, "yes", false, "do it")
	t.register(c)
	out.register(c)
	return c
}
