package main

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/audit"
)

func newAudit(g *globals) *cobra.Command {
	t, out, o := &target{}, &output{}, app.AuditOptions{}
	c := &cobra.Command{Use: "audit TABLE", Short: "Prove that a table holds every record exactly once", Args: cobra.ExactArgs(1),
		Long: `Reads the ledger columns of every file and the record of every snapshot, and accounts for each offset: row, dead letter,
control record, aborted. With --kafka it also compares with the log itself. Exits 0 only if the table is proved clean.`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			var done, total atomic.Int64
			o.Progress = func(d, n int) { done.Store(int64(d)); total.Store(int64(n)) }
			stop := progress(c.ErrOrStderr(), func() string { return fmt.Sprintf("%d of %d files and partitions read", done.Load(), total.Load()) })
			r, err := cl.Audit(c.Context(), args[0], o)
			stop()
			if err != nil {
				return err
			}
			if err := out.print(c, r, func(w io.Writer) { fmt.Fprint(w, r.String()) }); err != nil {
				return err
			}
			if r.Verdict != audit.Clean {
				return fmt.Errorf("%w: %s is %s", app.ErrFailing, args[0], r.Verdict)
			}
			return nil
		}}
	c.Flags().BoolVar(&o.Kafka, "kafka", false, "compare with the topic itself")
	c.Flags().BoolVar(&o.AllColumns, "all-columns", false, "verify the page checksums of every column, not of the ledger alone")
	t.register(c)
	out.register(c)
	return c
}
