package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/firnlake/firn/internal/app"
)

// output is the form that a listing is printed in.
type output struct{ format string }

func (o *output) register(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "table", "output `form`: table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// print writes v as JSON, or calls table for people.
func (o *output) print(c *cobra.Command, v any, table func(io.Writer)) error {
	switch o.format {
	case "json":
		enc := json.NewEncoder(c.OutOrStdout())
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "table":
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	return fmt.Errorf("%w: --output %q: take table or json", app.ErrUsage, o.format)
}

// atMost is the flag of a listing that bounds its lines.
type atMost int

func (n *atMost) register(c *cobra.Command, most int, usage string) {
	*n = atMost(most)
	c.Flags().VarP(n, "limit", "n", usage)
}

func (n *atMost) String() string { return strconv.Itoa(int(*n)) }

func (n *atMost) Type() string { return "count" }

// Set reads a number that is not negative: one that is would mean all in one place and none in another.
func (n *atMost) Set(text string) error {
	v, err := strconv.ParseUint(text, 10, 31)
	*n = atMost(v)
	return err
}

// oneLine keeps what came in messages, and names that others gave, from breaking a table or a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\u00b7'
		}
		return r
	}, s)
}

// row writes cells as one line of a table.
func row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = oneLine(fmt.Sprint(c))
	}
	fmt.Fprintln(w, strings.Join(text, "\t"))
}

// count prints a number that may be unknown.
func count(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// clock prints a time that may be unset.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}
