package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/config"
)

func newConfig(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, print and describe the configuration", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var sources bool
	show := &cobra.Command{Use: "show", Short: "Print the configuration with every default, secrets hidden", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, from, err := app.ReadConfig(g.config)
			if err != nil {
				return err
			}
			if !sources {
				from = nil
			}
			text, err := config.ShowWith(cfg, from)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		}}
	show.Flags().BoolVar(&sources, "sources", false, "say behind each value where it came from")
	c.AddCommand(show,
		&cobra.Command{Use: "validate [FILE]", Short: "Check a configuration file, its environment and its contracts", Args: cobra.MaximumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				path := g.config
				if len(args) == 1 {
					path = args[0]
				}
				n, err := app.ValidateConfig(path)
				if err != nil {
					return err
				}
				if path == "" {
					path = "no file is named (-c); the defaults and the environment"
				}
				_, err = fmt.Fprintf(c.OutOrStdout(), "configuration is fine: %s: %d pipelines\n", path, n)
				return err
			}},
		&cobra.Command{Use: "schema", Short: "Print the JSON Schema of the configuration, for editors", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				text, err := app.ConfigSchema()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), string(text))
				return err
			}})
	return c
}
