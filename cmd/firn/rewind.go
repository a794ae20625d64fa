package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/units"
)

// newRewind sets a table back.
func newRewind(g *globals) *cobra.Command {
	t, out, o := &target{}, &output{}, app.RewindOptions{Keep: app.DefaultKeepHead}
	to, yes := "", false
	c := &cobra.Command{Use: "rewind TABLE", Short: "Set a table and its offsets back together, and read on from there", Args: cobra.ExactArgs(1),
		Long: `Sets a table back to an earlier snapshot, and with it the offsets that its pipeline reads on from: one commit, a new
epoch, the old head kept under a tag to which the same verb goes back. A pipeline that runs drops what it holds and reads
again from there. Dead letters stay where they are (docs/exactly-once.md).

Says first what will be read again and whether Kafka still holds it, and acts only with --yes. --to-time and --to-offsets
take the nearest snapshot of the table's present line that is not later.`,
		Example: `  firn rewind analytics.user_events --to-time -10m
  firn rewind analytics.user_events --to-snapshot 2949629320383026233 --yes
  firn rewind analytics.user_events --to-tag rewound-1-20261125T120007Z --yes`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			if o.Time, err = moment("--to-time", to); err != nil {
				return err
			}
			if o.Time.After(time.Now()) {
				return fmt.Errorf("%w: --to-time %s lies ahead", app.ErrUsage, to)
			}
			o.DryRun = o.DryRun || !yes
			r, err := cl.Rewind(c.Context(), args[0], o)
			if r == nil {
				return err
			}
			if perr := out.print(c, r, func(w io.Writer) { printRewind(w, r) }); perr != nil {
				return perr
			}
			return err
		}}
	f := c.Flags()
	f.Int64Var(&o.Snapshot, "to-snapshot", 0, "this snapshot `id`, of any line")
	f.StringVar(&o.Tag, "to-tag", "", "the snapshot that a tag or branch `name`s")
	f.StringVar(&to, "to-time", "", "the last snapshot at or before this `time`: RFC 3339, or a duration ago such as -10m")
	f.StringVar(&o.Offsets, "to-offsets", "", `the last snapshot that holds nothing at or beyond these, as "0:123 1:456"`)
	f.DurationVar(&o.Keep, "keep", o.Keep, "how long the old head stays under its tag; 0: for ever")
	f.BoolVar(&o.AcceptMissing, "accept-missing", false, "act although Kafka does not hold all that would be read again, or cannot be asked")
	f.BoolVar(&o.DryRun, "dry-run", false, "print the plan and write nothing")
	f.BoolVar(&yes, "yes", false, "do it")
	t.register(c)
	out.register(c)
	return c
}

func printRewind(w io.Writer, r *app.RewindReport) {
	row(w, "back to", fmt.Sprintf("%d of %s", r.Target, clock(r.TargetAt)))
	row(w, "from", r.Head)
	row(w, "epoch", r.Epoch)
	row(w, "rows", count(r.RowsNow)+" now, "+count(r.RowsThen)+" then")
	if r.Stopped != "" {
		row(w, "recovery stops now", r.Stopped)
	}
	row(w, "read again", fmt.Sprintf("%d offsets of %s", r.Again, r.Topic))
	if r.KafkaError != "" {
		row(w, "kafka", r.KafkaError)
	} else {
		row(w, "no longer in kafka", r.Missing)
	}
	row(w)
	row(w, "PARTITION", "NOW", "THEN", "AGAIN", "LOG START", "MISSING")
	for _, p := range r.Partitions {
		row(w, p.Label(p.Partition), count(p.Now), p.Then, p.Again, count(p.LogStart), count(p.Missing))
	}
	row(w)
	if r.SnapshotID == 0 {
		fmt.Fprintln(w, "nothing was written: add --yes to do it")
		return
	}
	row(w, "snapshot", r.SnapshotID)
	kept := "for ever"
	if r.OldHeadKept > 0 {
		kept = "for " + r.OldHeadKept.String()
	}
	row(w, "the old head is kept", kept+" as "+r.OldHeadTag)
	fmt.Fprintf(w, "to undo: firn rewind %s --to-tag %s\n", r.Table, r.OldHeadTag)
}

// moment reads a time: RFC 3339, or a duration ago. Empty gives the zero time.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := units.ParseDuration(text); err == nil && d < 0 {
		return time.Now().Add(d.D()), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %s %q: write 2026-06-04T11:01:23Z, or -10m for ten minutes ago", app.ErrUsage, flag, text)
	}
	return at, nil
}
