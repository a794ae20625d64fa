package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
	"github.com/firnlake/firn/internal/logging"
	"github.com/firnlake/firn/internal/sqlshell"
	"github.com/firnlake/firn/query"
)

func newSQL(g *globals) *cobra.Command {
	t := &target{}
	var format, level, asOf string
	c := &cobra.Command{Use: "sql [QUERY]", Short: "Run SQL over Flight SQL; without QUERY a shell, or the statements of a pipe", Args: cobra.MaximumNArgs(1),
		Long: `Runs a SELECT on the newest rows, committed or not (--level committed: what every other engine sees).
Time travel: SELECT … FROM t FOR TIMESTAMP AS OF TIMESTAMP '2026-06-04 11:01:23 UTC', FOR VERSION AS OF 123,
AT (TIMESTAMP => …), AT (VERSION => …), or --as-of for every table of the statement.`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := sqlshell.ParseFormat(format)
			if err != nil {
				return fmt.Errorf("%w: --format: %w", app.ErrUsage, err)
			}
			o, err := queryOptions(level, asOf)
			if err != nil {
				return err
			}
			cl, err := t.client(g)
			if err != nil {
				return err
			}
			s, err := cl.SQL(c.Context(), o)
			if err != nil {
				return err
			}
			defer s.Close()
			if len(args) == 1 {
				return one(c, s, args[0], f)
			}
			return shell(c, s, f)
		}}
	fl := c.Flags()
	fl.StringVarP(&format, "format", "o", "table", "output `form`: table, csv, json or arrow")
	fl.StringVar(&level, "level", "hot", "hot: rows not yet committed too; committed: what every engine sees")
	fl.StringVar(&asOf, "as-of", "", "read every table as of this `time`: RFC 3339, or a duration ago such as -10m")
	t.register(c)
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "csv", "json", "arrow"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("level", cobra.FixedCompletions([]string{"hot", "committed"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func queryOptions(level, asOf string) (query.Options, error) {
	o := query.Options{Level: query.Level(level)}
	if o.Level != query.LevelHot && o.Level != query.LevelCommitted {
		return o, fmt.Errorf("%w: --level %q: take hot or committed", app.ErrUsage, level)
	}
	var err error
	o.AsOf, err = moment("--as-of", asOf)
	return o, err
}

// one runs one statement.
func one(c *cobra.Command, s *app.SQLSession, sql string, f sqlshell.Format) error {
	began := time.Now()
	rows, err := s.Query(c.Context(), sql)
	if err != nil {
		return err
	}
	defer rows.Release()
	_, err = sqlshell.Write(c.Context(), c.OutOrStdout(), f, rows, sqlshell.WriteOptions{Width: terminalWidth(c.OutOrStdout()), Began: began})
	return err
}

// shell reads statements. An interrupt ends the statement that runs, so the process's own handling must not end the shell.
func shell(c *cobra.Command, s *app.SQLSession, f sqlshell.Format) error {
	o := sqlshell.Options{Format: f, Welcome: `firn ` + version() + `: statements end with ; and \? shows the commands.`}
	ctx := c.Context()
	if logging.IsTerminal(os.Stdin) {
		ctx = context.WithoutCancel(ctx)
		if home, err := os.UserHomeDir(); err == nil {
			o.HistoryFile = filepath.Join(home, ".firn_history")
		}
	}
	err := sqlshell.Run(ctx, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr(), s, o)
	if err != nil && errors.Is(err, context.Canceled) && strings.TrimSpace(err.Error()) == context.Canceled.Error() {
		return nil
	}
	return err
}
