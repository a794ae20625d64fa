package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/probe"
)

func newProbe(g *globals) *cobra.Command {
	t, o, cfg := &target{}, &output{}, probe.Config{}
	c := &cobra.Command{Use: "probe [TABLE]", Short: "Measure how long an event takes to be readable", Args: cobra.MaximumNArgs(1),
		Long: `Writes marked events (of the demo's contract) into the table's topic and reads them back over Flight, at both levels:
hot, rows not committed yet too, and committed, what every engine sees. Exits 5 when a mark was lost.`,
		ValidArgsFunction: completeTable(g, t), RunE: func(c *cobra.Command, args []string) error {
			table := "analytics.user_events"
			if len(args) == 1 {
				table = args[0]
			}
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			began := time.Now()
			stop := progress(c.ErrOrStderr(), func() string {
				return fmt.Sprintf("probing, %s of %s", time.Since(began).Round(time.Second), cfg.Duration)
			})
			res, err := cl.Probe(c.Context(), table, cfg)
			stop()
			if err != nil {
				return err
			}
			if err := o.print(c, res, func(w io.Writer) { fmt.Fprint(w, res.String()) }); err != nil {
				return err
			}
			if !res.OK() {
				return fmt.Errorf("%w: marks were lost or could not be written", app.ErrFailing)
			}
			return nil
		}}
	f := c.Flags()
	f.DurationVar(&cfg.Duration, "duration", 60*time.Second, "how long marks are written")
	// Not a multiple of the commit interval: marks must meet every phase of a commit.
	f.DurationVar(&cfg.Interval, "interval", 870*time.Millisecond, "time between marks")
	f.DurationVar(&cfg.Timeout, "timeout", 30*time.Second, "a mark that is not readable by then is lost")
	t.register(c)
	o.register(c)
	return c
}
