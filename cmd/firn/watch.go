package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// newWatch prints commits as they happen.
func newWatch(g *globals) *cobra.Command {
	t, o, after, limit := &target{}, &output{}, int64(0), atMost(0)
	c := &cobra.Command{Use: "watch TABLE", Short: "Print a table's commits as they happen", Args: cobra.ExactArgs(1),
		Long: `Prints a line for every commit to a table, as soon as the catalog has it, until it is interrupted: when, which version and
snapshot, and where Kafka stands after it. It connects again by itself and leaves none out. -o json prints an object a line.`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			if o.format != "table" && o.format != "json" {
				return fmt.Errorf("%w: --output %q: take table or json", app.ErrUsage, o.format)
			}
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			enough, n := errors.New("enough"), 0
			err = cl.Watch(c.Context(), args[0], after, func(r app.WatchRow) error {
				if err := o.line(c, r); err != nil {
					return err
				}
				if n++; n == int(limit) {
					return enough
				}
				return nil
			})
			if errors.Is(err, enough) {
				return nil
			}
			return err
		}}
	f := c.Flags()
	f.Int64Var(&after, "after", 0, "begin after this `version`, as firn history lists them; 0: now")
	limit.register(c, 0, "end after so `many` lines; 0: never")
	t.register(c)
	o.register(c)
	return c
}

// line prints one event.
func (o *output) line(c *cobra.Command, r app.WatchRow) error {
	if o.format == "json" {
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	if !r.Head {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%-24s  version %d\n", "-", r.Version)
		return err
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s  version %d  snapshot %d  %s\n", clock(r.At), r.Version, r.Snapshot, r.Offsets)
	return err
}
