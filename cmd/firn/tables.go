package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newTables(g *globals) *cobra.Command {
	t, o := &target{}, &output{}
	c := &cobra.Command{Use: "tables", Short: "List the tables of the catalog", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		cl, err := t.client(g)
		if err != nil {
			return err
		}
		rows, err := cl.Tables(c.Context())
		if err != nil {
			return err
		}
		return o.print(c, rows, func(w io.Writer) {
			row(w, "TABLE", "ROWS", "FILES", "BYTES", "SNAPSHOT", "COMMITTED")
			for _, r := range rows {
				row(w, r.Table, count(r.Rows), count(r.Files), count(r.Bytes), r.Snapshot, clock(r.At))
			}
		})
	}}
	t.register(c)
	o.register(c)
	return c
}

func newSnapshots(g *globals) *cobra.Command {
	t, o, limit := &target{}, &output{}, atMost(0)
	c := &cobra.Command{Use: "snapshots TABLE", Short: "List a table's snapshots, the newest first", Args: cobra.ExactArgs(1),
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			rows, err := cl.Snapshots(c.Context(), args[0], int(limit))
			if err != nil {
				return err
			}
			return o.print(c, rows, func(w io.Writer) {
				row(w, "SNAPSHOT", "COMMITTED", "KIND", "OPERATION", "ADDED", "ROWS", "FILES", "REFS", "OFFSETS")
				for _, r := range rows {
					row(w, r.ID, clock(r.At), r.Kind, r.Operation, count(r.Added), count(r.Rows), count(r.Files), strings.Join(r.Refs, ","), r.Offsets)
				}
			})
		}}
	limit.register(c, 20, "at most so `many`; 0 for all")
	t.register(c)
	o.register(c)
	return c
}

func newOffsets(g *globals) *cobra.Command {
	t, o, explain := &target{}, &output{}, false
	c := &cobra.Command{Use: "offsets TABLE", Short: "Show where a table's pipeline stands in its topic, as the table says", Args: cobra.ExactArgs(1),
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			read := cl.Offsets
			if explain {
				read = cl.Explain
			}
			r, err := read(c.Context(), args[0])
			if err != nil {
				return err
			}
			return o.print(c, r, func(w io.Writer) {
				for _, s := range r.Steps {
					word := ""
					if s.Answered {
						word = "ANSWERS"
					}
					row(w, s.Name, word, s.Saw)
				}
				if r.Stopped != "" {
					row(w, "STOPPED", "", r.Stopped)
				}
				if v := r.Running; v != nil {
					row(w, "running pipeline", string(v.State), v.Cause)
				}
				if r.Stopped != "" {
					return
				}
				if len(r.Steps) > 0 {
					row(w)
				}
				row(w, "pipeline", r.Pipeline)
				if len(r.Topics) == 0 {
					row(w, "topic", r.Topic+" (id "+r.TopicID+", cluster "+r.Cluster+")")
				}
				for _, t := range r.Topics {
					row(w, "topic", t.Name+" (id "+t.ID+", cluster "+r.Cluster+")")
				}
				row(w, "snapshot", r.SnapshotID)
				row(w, "epoch", r.Epoch)
				row(w, "recovered by", r.RecoveredBy)
				row(w, "last batch", r.BatchID)
				row(w, "watermark", clock(r.Watermark))
				if r.KafkaError != "" {
					row(w, "kafka", r.KafkaError)
				} else {
					row(w, "lag", count(r.Lag))
				}
				row(w)
				row(w, "PARTITION", "NEXT", "LAST ROW", "LOG START", "LOG END")
				for _, p := range r.Partitions {
					row(w, p.Label(p.Partition), p.Next, count(p.LastRow), count(p.LogStart), count(p.LogEnd))
				}
			})
		}}
	c.Flags().BoolVar(&explain, "explain", false, "show what each step of recovery saw, and which answered, also where recovery stops")
	t.register(c)
	o.register(c)
	c.AddCommand(newResolve(g))
	return c
}

// completeTable asks the catalog for table names.
func completeTable(g *globals, t *target) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cl, err := t.client(g)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		rows, err := cl.Tables(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names := make([]string, len(rows))
		for i, r := range rows {
			names[i] = r.Table
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
