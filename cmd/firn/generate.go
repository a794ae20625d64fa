package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/generate"
)

func newGenerate(g *globals) *cobra.Command {
	t := &target{}
	cfg := generate.Config{}.WithDefaults()
	cfg.Rate, cfg.BrokenShare, cfg.LateShare = app.DemoRate, generate.DefaultBrokenShare, generate.DefaultLateShare
	var duration time.Duration
	var topic, format, brokers string
	c := &cobra.Command{Use: "generate", Short: "Write generated events into a topic", Args: cobra.NoArgs,
		Long: "Writes events of the demo's contract, with realistic skew, into a topic of the Kafka that the configuration names or that runs locally.",
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "json" {
				return fmt.Errorf("%w: --format %q: take json", app.ErrUsage, format)
			}
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			if brokers != "" {
				cl.UseBrokers(brokers)
			}
			cfg.Duration = duration
			stop := progress(c.ErrOrStderr(), func() string { return cfg.Progress.String() })
			st, err := cl.Generate(c.Context(), topic, cfg)
			stop()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), st.String())
			return err
		}}
	f := c.Flags()
	f.StringVar(&topic, "topic", "user_events", "topic; it is made when missing")
	f.StringVar(&brokers, "brokers", "", "Kafka `host:port,…` instead of the configuration's")
	f.Float64Var(&cfg.Rate, "rate", cfg.Rate, "events a second; 0 for as fast as it goes")
	f.Int64Var(&cfg.Count, "count", cfg.Count, "stop after so many events; 0 for no limit")
	f.DurationVar(&duration, "duration", 0, "stop after this `time`; 0 for no limit")
	f.Uint64Var(&cfg.Seed, "seed", 1, "the same seed gives the same events")
	f.IntVar(&cfg.Partitions, "partitions", cfg.Partitions, "partitions of a topic that is made")
	f.Float64Var(&cfg.BrokenShare, "broken", cfg.BrokenShare, "share of broken events, 0 to 1")
	f.Float64Var(&cfg.LateShare, "late", cfg.LateShare, "share of late events, 0 to 1")
	f.StringVar(&format, "format", "json", "form of the events: json")
	t.register(c)
	return c
}

// progressInterval is how often long work says how far it is.
const progressInterval = 500 * time.Millisecond

// progress rewrites one line on a terminal until the returned function is called; elsewhere it prints nothing.
func progress(w io.Writer, line func() string) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
				fmt.Fprint(w, "\r\x1b[K"+line())
			}
		}
	}()
	return func() { close(done); <-ended }
}
