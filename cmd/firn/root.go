package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/logging"
	"github.com/firnlake/firn/internal/units"
)

// globals are the flags that every verb has.
type globals struct {
	config   string
	data     string
	logLevel string
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:   "firn",
		Short: "Kafka events as Iceberg tables, a snapshot a second, queried fresh over Arrow Flight SQL",
		Long: `Firn turns Kafka topics into Iceberg tables one second at a time, exactly once, and lets people query them,
as they are now or as they were, over Arrow Flight SQL.

    firn up --demo      the whole system in one process, with generated events
    firn sql            a shell on it
    firn status         how it is`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.Args = cobra.ArbitraryArgs // explainArgs looks at them: cobra's own error is no usage error
	root.SetVersionTemplate("firn {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVarP(&g.config, "config", "c", "", "configuration `file` (firn.yaml)")
	f.StringVar(&g.data, "data", "", "data `directory` (default ./firn-data)")
	f.StringVar(&g.logLevel, "log-level", "", "least severe `level` that is logged: debug, info, warn, error")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w: see %s --help", app.ErrUsage, explainFlag(err), c.CommandPath())
	})
	root.AddCommand(newUp(g))
	root.AddCommand(newRoles(g)...)
	root.AddCommand(newGenerate(g), newProbe(g), newSQL(g), newStatus(g), newWhy(g), newTables(g), newSnapshots(g), newHistory(g), newWatch(g), newOffsets(g), newRewind(g), newDeadLetters(g), newAudit(g), newConfig(g), newVersion())
	explainArgs(root)
	return root
}

// explainArgs makes a wrong number of arguments a usage error that names what is missing or too many, and a wrong word
// where a command is wanted one that names the nearest. The verbs' Use lines are what it goes by: NAME is wanted, [NAME]
// may be left out.
func explainArgs(c *cobra.Command) {
	form := strings.Fields(c.Use)[1:]
	c.SuggestionsMinimumDistance = 2
	if c.Args != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			switch {
			case len(args) > len(form) && len(form) == 0 && c.HasSubCommands():
				near := ""
				if s := c.SuggestionsFor(args[0]); len(s) > 0 {
					near = "; did you mean " + strings.Join(s, " or ") + "?"
				}
				return fmt.Errorf("%w: unknown command %q%s: see %s --help", app.ErrUsage, args[0], near, c.CommandPath())
			case len(args) > len(form):
				return fmt.Errorf("%w: %q is an argument too many (text with spaces wants quotes): the form is %s", app.ErrUsage, args[len(form)], c.UseLine())
			case len(args) < len(form) && !strings.HasPrefix(form[len(args)], "["):
				return fmt.Errorf("%w: %s is missing: the form is %s", app.ErrUsage, form[len(args)], c.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		explainArgs(sub)
	}
}

// explainFlag says what a flag takes, instead of which function of Go could not read its value.
func explainFlag(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	f := bad.GetFlag()
	want := map[string]string{"int": "a whole number", "int64": "a whole number", "count": "a whole number, 0 or more", "int32Slice": "whole numbers, separated by commas",
		"int64Slice": "whole numbers, separated by commas", "float64": "a number", "duration": "a duration such as 250ms, 30s or 1h30m", "bool": "true or false"}[f.Value.Type()]
	if want == "" {
		return err
	}
	return fmt.Errorf("--%s %q: take %s", f.Name, bad.GetValue(), want)
}

// load reads the configuration and makes the logger. fallback is the level when nobody set one.
func (g *globals) load(fallback string, w io.Writer) (*app.Config, *slog.Logger, error) {
	cfg, sources, err := app.LoadConfig(g.config)
	if err != nil {
		return nil, nil, err
	}
	if g.data != "" {
		cfg.Data = g.data
	}
	if sources.Of("log.level") == "default" {
		cfg.Log.Level = fallback
	}
	if g.logLevel != "" {
		cfg.Log.Level = g.logLevel
	}
	log, _, err := logging.New(cfg.Log, w)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: --log-level: %w", app.ErrUsage, err)
	}
	return cfg, log, nil
}

// target are the flags of the client verbs.
type target struct {
	app.Target
	token string
}

func (t *target) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&t.URI, "uri", "", "Flight SQL `address`, such as grpc://127.0.0.1:31337")
	f.StringVar(&t.Catalog, "catalog", "", "catalog `address`, such as http://127.0.0.1:8181")
	f.StringVar(&t.HTTP, "http", "", "status `address`, such as 127.0.0.1:8080")
	f.StringVar(&t.token, "token", "", "bearer token as env:NAME or file:PATH")
}

func (t *target) client(g *globals) (*app.Client, error) {
	t.Config, t.Data = g.config, g.data
	if t.token != "" {
		if !strings.HasPrefix(t.token, "env:") && !strings.HasPrefix(t.token, "file:") {
			return nil, fmt.Errorf("%w: --token takes env:NAME or file:PATH, so that the token stands in no process list", app.ErrUsage)
		}
		var err error
		if t.Token, err = units.ResolveSecret(t.token); err != nil {
			return nil, fmt.Errorf("%w: --token: %w", app.ErrUsage, err)
		}
	}
	level := g.logLevel
	if level == "" {
		level = "error"
	}
	log, _, err := logging.New(logging.Config{Level: level}, os.Stderr)
	if err != nil {
		return nil, errors.Join(app.ErrUsage, err)
	}
	return app.NewClient(t.Target, log)
}
