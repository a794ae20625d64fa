package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// newRoles are the roles of Firn as processes of their own.
func newRoles(g *globals) []*cobra.Command {
	role := func(r app.Role, short, long string) *cobra.Command {
		var http string
		var limit time.Duration
		c := &cobra.Command{Use: string(r), Short: short, Long: long, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			cfg, log, err := g.load("info", c.ErrOrStderr())
			if err != nil {
				return err
			}
			if http != "" {
				cfg.HTTP.Listen = http
			}
			if err := app.Local(cfg); err != nil {
				return err
			}
			if cfg.Warehouse == "" {
				return fmt.Errorf("%w: warehouse is not set: firn %s needs a configuration, name it with -c", app.ErrConfig, r)
			}
			return serve(c.Context(), limit, cfg, app.Options{Roles: []app.Role{r}, Version: version(), Log: log}, func(context.Context, *app.Process) error {
				log.Info("firn "+string(r)+" is up", "version", version())
				return nil
			})
		}}
		c.Flags().StringVar(&http, "http", "", "`address` of metrics, health and status instead of http.listen")
		c.Flags().DurationVar(&limit, "for", 0, "end by itself after this `time`")
		return c
	}
	cat := role(app.RoleCatalog, "Serve the Iceberg REST catalog", "Serves the Iceberg REST catalog over the tables of the warehouse.")
	cat.AddCommand(newExport(g), newRestore(g))
	return []*cobra.Command{
		role(app.RoleIngest, "Read Kafka topics into tables", "Reads the topics of all pipelines into their tables, a snapshot each commit interval, and serves the newest rows to firn query."),
		cat,
		role(app.RoleCompact, "Merge small files and expire snapshots", "Merges small data files and manifests, expires snapshots, and removes files that no snapshot names."),
		role(app.RoleQuery, "Serve Flight SQL", "Answers SQL and scans over Arrow Flight: committed rows, and the newest ones from firn ingest."),
	}
}

// serve runs a process until ctx ends, the limit is reached or a part of it dies.
func serve(ctx context.Context, limit time.Duration, cfg *app.Config, opt app.Options, up func(context.Context, *app.Process) error) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return app.Run(ctx, cfg, opt, up)
}
