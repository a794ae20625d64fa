package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/deadletter"
	"github.com/firnlake/firn/internal/ledger"
)

// letterFilter are the flags that choose dead letters.
type letterFilter struct {
	deadletter.Filter
	since, until string
}

func (f *letterFilter) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringSliceVar(&f.Reasons, "reason", nil, "letters with one of these `reasons`, such as missing_field")
	fl.Int32SliceVar(&f.Partitions, "partition", nil, "of these Kafka `partitions`")
	fl.Int64SliceVar(&f.Offsets, "offset", nil, "at these `offsets`")
	fl.StringVar(&f.since, "since", "", "whose record is of this `time` or later: RFC 3339, or a duration ago such as -1h")
	fl.StringVar(&f.until, "until", "", "whose record is of before this `time`")
}

func (f *letterFilter) filter() (_ deadletter.Filter, err error) {
	if f.Since, err = moment("--since", f.since); err != nil {
		return f.Filter, err
	}
	f.Until, err = moment("--until", f.until)
	return f.Filter, err
}

// listing is output with csv beside the other forms.
type listing struct{ output }

func (o *listing) register(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "table", "output `form`: table, json or csv")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "csv"}, cobra.ShellCompDirectiveNoFileComp))
}

// printLines writes v as JSON, or lines under a head as a table or as CSV.
func (o *listing) printLines(c *cobra.Command, v any, head []string, lines [][]string) error {
	switch o.format {
	case "csv":
		w := csv.NewWriter(c.OutOrStdout())
		return w.WriteAll(append([][]string{head}, lines...))
	case "json", "table":
		return o.print(c, v, func(w io.Writer) {
			for _, l := range append([][]string{head}, lines...) {
				cells := make([]any, len(l))
				for i := range l {
					cells[i] = l[i]
				}
				row(w, cells...)
			}
		})
	}
	return fmt.Errorf("%w: --output %q: take table, json or csv", app.ErrUsage, o.format)
}

func newDeadLetters(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "deadletters", Short: "See the records that gave no row, and send them through again", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(newLettersList(g), newLettersShow(g), newLettersStats(g), newRedrive(g))
	return c
}

func newLettersList(g *globals) *cobra.Command {
	t, out, f, o, limit := &target{}, &listing{}, &letterFilter{}, app.DeadLetterOptions{}, atMost(0)
	c := &cobra.Command{Use: "list TABLE", Short: "List a table's dead letters, the newest first", Args: cobra.ExactArgs(1),
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			if o.Filter, err = f.filter(); err != nil {
				return err
			}
			o.Limit = int(limit)
			letters, err := cl.DeadLetters(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			var lines [][]string
			for _, l := range letters {
				state := ""
				if l.Redriven != 0 {
					state = strconv.FormatInt(l.Redriven, 10)
				}
				lines = append(lines, []string{strconv.Itoa(int(l.Partition)), spot(l.Offset, l.Line), clock(l.Timestamp), l.Reason, l.Place, l.Message, state})
			}
			return out.printLines(c, letters, []string{"PARTITION", "OFFSET", "TIMESTAMP", "REASON", "PLACE", "MESSAGE", "REDRIVEN"}, lines)
		}}
	limit.register(c, 50, "at most so `many`; 0 for all")
	c.Flags().BoolVar(&o.All, "all", false, "those that were redriven as well")
	f.register(c)
	t.register(c)
	out.register(c)
	return c
}

func newLettersShow(g *globals) *cobra.Command {
	t, out := &target{}, &output{}
	c := &cobra.Command{Use: "show TABLE PARTITION:OFFSET[:LINE]", Short: "Show one dead letter with its payload", Args: cobra.ExactArgs(2),
		Example:           "  firn deadletters show analytics.user_events 3:1042",
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			p, at, ok := strings.Cut(args[1], ":")
			at, n, lined := strings.Cut(at, ":")
			partition, err1 := strconv.ParseInt(p, 10, 32)
			offset, err2 := strconv.ParseInt(at, 10, 64)
			line, err3 := strconv.ParseInt(n, 10, 32)
			if !ok || err1 != nil || err2 != nil || lined && (err3 != nil || line < 1) {
				return fmt.Errorf("%w: %q is not PARTITION:OFFSET, as in 3:1042, nor with the line of a record, as in 3:1042:7", app.ErrUsage, args[1])
			}
			l, err := cl.DeadLetter(c.Context(), args[0], int32(partition), offset, int32(line))
			if err != nil {
				return err
			}
			return out.print(c, l, func(w io.Writer) {
				row(w, "topic", l.Topic)
				row(w, "partition", partitionOf(l.Partition))
				row(w, "offset", l.Offset)
				if l.Line > 0 {
					row(w, "line", l.Line)
				}
				row(w, "timestamp", clock(l.Timestamp))
				row(w, "ingested at", clock(l.Ingested))
				row(w, "reason", l.Reason)
				row(w, "place", l.Place)
				row(w, "message", l.Message)
				if l.SchemaID != nil {
					row(w, "schema id", *l.SchemaID)
				}
				if l.TraceID != "" {
					row(w, "trace id", l.TraceID)
				}
				if l.Redriven != 0 {
					row(w, "redriven by snapshot", l.Redriven)
				}
				for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
					row(w, "header "+name, payload(l.Headers[name]))
				}
				row(w, "key", payload(l.Key))
				row(w, "value", payload(l.Value))
			})
		}}
	t.register(c)
	out.register(c)
	return c
}

// partitionOf is a partition with the table's number, and with Kafka's where that is another: several topics go to the table.
func partitionOf(number int32) string {
	if place, p := ledger.Place(number); place > 0 {
		return fmt.Sprintf("%d (%d of the topic)", number, p)
	}
	return strconv.Itoa(int(number))
}

// spot is an offset, and the line of its record where that has several events.
func spot(offset int64, line int32) string {
	if line == 0 {
		return strconv.FormatInt(offset, 10)
	}
	return fmt.Sprintf("%d line %d", offset, line)
}

// payload shows bytes as text where they are text.
func payload(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case utf8.Valid(b):
		return string(b)
	}
	return fmt.Sprintf("%d bytes: %x", len(b), b)
}

func newLettersStats(g *globals) *cobra.Command {
	t, out, f := &target{}, &listing{}, &letterFilter{}
	c := &cobra.Command{Use: "stats TABLE", Short: "Count a table's dead letters by reason and place", Args: cobra.ExactArgs(1),
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			filter, err := f.filter()
			if err != nil {
				return err
			}
			stats, err := cl.DeadLetterStats(c.Context(), args[0], filter)
			if err != nil {
				return err
			}
			var lines [][]string
			for _, s := range stats {
				lines = append(lines, []string{s.Reason, s.Place, strconv.FormatInt(s.Letters, 10), strconv.FormatInt(s.Redriven, 10), clock(s.First), clock(s.Last), s.Example})
			}
			return out.printLines(c, stats, []string{"REASON", "PLACE", "LETTERS", "REDRIVEN", "FIRST", "LAST", "EXAMPLE"}, lines)
		}}
	f.register(c)
	t.register(c)
	out.register(c)
	return c
}

func newRedrive(g *globals) *cobra.Command {
	t, out, f, o := &target{}, &output{}, &letterFilter{}, app.RedriveOptions{}
	all, yes := false, false
	c := &cobra.Command{Use: "redrive TABLE", Short: "Send chosen dead letters through the decoder again, exactly once", Args: cobra.ExactArgs(1),
		Long: `Decodes chosen dead letters with the contract as the configuration has it now, and takes those that are valid into the
table, each at the partition and offset of its record. Rows and marks in the dead-letter table are one commit, which a
pipeline that runs notices within seconds and reads on. Redriving twice adds nothing; letters stay in their table, marked.

Choose by the flags, or all with --all. Says first what will happen, and acts only with --yes.`,
		Example: `  firn deadletters redrive analytics.user_events -c firn.yaml --reason not_in_enum
  firn deadletters redrive analytics.user_events -c firn.yaml --all --yes`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			if o.Filter, err = f.filter(); err != nil {
				return err
			}
			if chosen := len(o.Reasons)+len(o.Partitions)+len(o.Offsets) > 0 || f.since != "" || f.until != ""; chosen == all {
				return fmt.Errorf("%w: choose letters by --reason, --partition, --offset, --since, --until, or take --all", app.ErrUsage)
			}
			o.DryRun = o.DryRun || !yes
			r, err := cl.Redrive(c.Context(), args[0], o)
			if r == nil {
				return err
			}
			if perr := out.print(c, r, func(w io.Writer) { printRedrive(w, r, o.DryRun) }); perr != nil {
				return perr
			}
			return err
		}}
	c.Flags().BoolVar(&all, "all", false, "every dead letter")
	c.Flags().BoolVar(&o.Again, "again", false, "also letters that were redriven before and whose row is gone: set back since, or deleted")
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print what would happen and write nothing")
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	f.register(c)
	t.register(c)
	out.register(c)
	return c
}

func printRedrive(w io.Writer, r *app.RedriveReport, dry bool) {
	row(w, "chosen", r.Chosen)
	row(w, "rows", r.Rows)
	row(w, "were rows before", r.Present)
	for _, reason := range slices.Sorted(maps.Keys(r.Still)) {
		row(w, "still "+reason, r.Still[reason])
	}
	if r.Sealed != "" {
		row(w, "because", r.Sealed)
	}
	if r.Ahead > 0 {
		row(w, "left out", fmt.Sprintf("%d that the pipeline comes to again", r.Ahead))
	}
	if dry {
		if r.More {
			row(w, "there are more", "these were looked at as an example")
		}
		fmt.Fprintln(w, "nothing was written: add --yes to do it")
		return
	}
	for _, id := range r.Snapshots {
		row(w, "snapshot", id)
	}
	if r.More {
		fmt.Fprintln(w, "more letters are there, of which none in the last part gave a row: narrow the choice")
	}
}
