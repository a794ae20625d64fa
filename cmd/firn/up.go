package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// upFlags are the ports and the demo of firn up.
type upFlags struct {
	demo                          bool
	rate, broken                  float64
	seed                          uint64
	limit                         time.Duration
	broker, catalog, flight, http int
}

func newUp(g *globals) *cobra.Command {
	u := &upFlags{}
	c := &cobra.Command{
		Use:   "up",
		Short: "Run the whole system in one process",
		Long: `Runs broker, catalog, ingest, compaction, Flight SQL and the status page in one process. What the configuration does
not name is embedded under the data directory: a Kafka-protocol broker, a warehouse on disk, a catalog on SQLite.
Stopped and started again it goes on where it stood.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return u.run(c, g) },
	}
	f := c.Flags()
	f.BoolVar(&u.demo, "demo", false, "generate events")
	f.Float64Var(&u.rate, "rate", app.DemoRate, "events a second of the demo")
	f.Float64Var(&u.broken, "broken", 0.001, "share of the demo's events that are broken, 0 to 1")
	f.Uint64Var(&u.seed, "seed", 1, "seed of the demo's events")
	f.DurationVar(&u.limit, "for", 0, "end by itself after this `time`, such as 30s")
	f.IntVar(&u.broker, "broker-port", 9092, "port of the embedded broker; 0 picks a free one")
	f.IntVar(&u.catalog, "catalog-port", 8181, "port of the catalog; 0 picks a free one")
	f.IntVar(&u.flight, "flight-port", 31337, "port of Flight SQL; 0 picks a free one")
	f.IntVar(&u.http, "http-port", 8080, "port of the status page; 0 picks a free one")
	return c
}

func (u *upFlags) run(c *cobra.Command, g *globals) error {
	cfg, log, err := g.load("warn", c.ErrOrStderr())
	if err != nil {
		return err
	}
	embedded, err := app.Up(cfg)
	if err != nil {
		return err
	}
	for name, p := range map[string]struct {
		addr *string
		port int
	}{"broker-port": {&cfg.Broker.Listen, u.broker}, "catalog-port": {&cfg.Catalog.Listen, u.catalog},
		"flight-port": {&cfg.Query.Listen, u.flight}, "http-port": {&cfg.HTTP.Listen, u.http}} {
		if c.Flags().Changed(name) {
			if *p.addr, err = withPort(*p.addr, p.port); err != nil {
				return fmt.Errorf("%w: --%s: %w", app.ErrUsage, name, err)
			}
		}
	}
	opt := app.Options{Roles: []app.Role{app.RoleCatalog, app.RoleIngest, app.RoleCompact, app.RoleQuery}, Version: version(), Log: log, Broker: embedded}
	return serve(c.Context(), u.limit, cfg, opt, func(ctx context.Context, p *app.Process) error {
		if u.demo {
			if err := p.Demo(ctx, app.Demo{Rate: u.rate, Broken: u.broken, Seed: u.seed}); err != nil {
				return err
			}
		}
		p.Welcome(c.OutOrStdout())
		p.Live(c.OutOrStdout())
		return nil
	})
}

func withPort(addr string, port int) (string, error) {
	if port < 0 || port > 65535 {
		return "", fmt.Errorf("%d is no port: take 0 to 65535", port)
	}
	host := "127.0.0.1"
	if h, _, err := net.SplitHostPort(addr); err == nil && h != "" {
		host = h
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}
