package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// newHistory lists what was committed when.
func newHistory(g *globals) *cobra.Command {
	t, o, h, limit := &target{}, &output{}, app.HistoryOptions{}, atMost(0)
	since, until, prune, yes := "", "", "", false
	c := &cobra.Command{Use: "history TABLE", Short: "List a table's commits and the offsets after each, also those whose snapshots have expired", Args: cobra.ExactArgs(1),
		Long: `Lists the commits that moved the table's head, the newest first: when, which snapshot, and where Kafka stood after it.
Firn's catalog keeps them for ever, unless catalog.history_retention or the table property firn.history.retention says
otherwise. Queries as of any of these times, or of any of these offsets, are exact to the commit (docs/sql.md).

--prune forgets the commits before a time, but for the last of them: the table at that time and later stays known.`,
		Example: `  firn history analytics.user_events --since -1h
  firn history analytics.user_events --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z -n 0 -o json
  firn history analytics.user_events --prune -365d --yes`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) (err error) {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			if prune != "" {
				before, err := moment("--prune", prune)
				if err != nil {
					return err
				}
				r, err := cl.PruneHistory(c.Context(), args[0], before, !yes)
				if err != nil {
					return err
				}
				return o.print(c, r, func(w io.Writer) {
					row(w, "before", clock(r.Before))
					row(w, "commits", r.Entries)
					if r.DryRun {
						fmt.Fprintln(w, "nothing was forgotten: add --yes to do it")
					}
				})
			}
			if h.Since, err = moment("--since", since); err != nil {
				return err
			}
			if h.Until, err = moment("--until", until); err != nil {
				return err
			}
			h.Limit = int(limit)
			rows, err := cl.History(c.Context(), args[0], h)
			if err != nil {
				return err
			}
			return o.print(c, rows, func(w io.Writer) {
				row(w, "COMMITTED", "VERSION", "SNAPSHOT", "OFFSETS")
				for _, r := range rows {
					offsets := "-"
					if r.Offsets != nil {
						offsets = r.Offsets.String()
					}
					row(w, clock(r.At), r.Version, r.Snapshot, offsets)
				}
			})
		}}
	f := c.Flags()
	f.StringVar(&since, "since", "", "committed at or after this `time`: RFC 3339, or a duration ago such as -10m")
	f.StringVar(&until, "until", "", "committed at or before this `time`")
	limit.register(c, 20, "at most so `many`; 0 for all")
	f.StringVar(&prune, "prune", "", "forget the commits before this `time`, with --yes")
	f.BoolVar(&yes, "yes", false, "with --prune: do it")
	t.register(c)
	o.register(c)
	return c
}
