package sqlshell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/term"
)

// Session is what statements run on.
type Session interface {
	// Query runs one statement; the shell releases the rows.
	Query(ctx context.Context, sql string) (Rows, error)
	// Tables lists the tables, with their schemas when asked.
	Tables(ctx context.Context, withSchema bool) ([]Table, error)
}

// Table is one line of \dt.
type Table struct {
	Name   string        // as it stands in a statement: namespace.table
	Schema *arrow.Schema // nil unless asked for
}

// Options of a shell.
type Options struct {
	Format Format // default table
	// Quiet leaves the seconds out of the table's last line; \timing turns them on and off.
	Quiet bool
	// Width is the columns of the terminal; 0 asks the terminal for each statement, and cuts nothing in a pipe.
	Width int
	// HistoryFile keeps the statements of a person between shells; empty keeps none.
	HistoryFile string
	// Welcome is printed before a person's first prompt.
	Welcome string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// shell is one run.
type shell struct {
	session Session
	out     io.Writer
	errOut  io.Writer
	o       Options
	timing  bool
	width   func() int
	// interruptible derives the context of one statement; an interrupt ends it.
	interruptible func(context.Context) (context.Context, context.CancelFunc)
}

// Run reads statements from in until its end, \q, or ctx ends. When in is a terminal, a person gets prompts, history
// and errors on errOut, and an interrupt ends the statement that runs; the process' own handling of SIGINT must not
// end ctx then. Otherwise the first error ends the run and is returned, with the place of its statement.
func Run(ctx context.Context, in io.Reader, out, errOut io.Writer, session Session, o Options) error {
	sh := newShell(out, errOut, session, o)
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return sh.pipe(ctx, in)
	}
	if sh.o.Width == 0 {
		sh.width = terminalWidth(out)
	}
	lines, err := newTerminal(f, out, errOut, o.HistoryFile)
	if err != nil {
		return err
	}
	return errors.Join(sh.converse(ctx, lines), lines.Close())
}

func newShell(out, errOut io.Writer, session Session, o Options) *shell {
	if o.Format == "" {
		o.Format = FormatTable
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &shell{
		session: session, out: out, errOut: errOut, o: o, timing: !o.Quiet, width: func() int { return o.Width },
		interruptible: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return signal.NotifyContext(ctx, os.Interrupt)
		},
	}
}

// terminalWidth asks for the width of w each time, for windows change.
func terminalWidth(w io.Writer) func() int {
	f, ok := w.(*os.File)
	return func() int {
		if !ok {
			return 0
		}
		cols, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0
		}
		return cols
	}
}

// pipe runs what in holds and stops at the first error.
func (sh *shell) pipe(ctx context.Context, in io.Reader) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var s splitter
	for number, began := 1, 1; ; number++ {
		line, err := r.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read statements: %w", err)
		}
		end := err != nil
		if !s.pending() {
			began = number
		}
		done, rerr := sh.take(ctx, &s, strings.TrimRight(line, "\r\n"))
		if rerr == nil && end && !done {
			if text, ok := s.rest(); ok {
				rerr = sh.statement(ctx, text)
			}
		}
		if rerr != nil {
			return fmt.Errorf("line %d: %w", began, rerr)
		}
		if end || done {
			return nil
		}
	}
}

// take is one line of input: a command when no statement has begun, a part of a statement otherwise.
func (sh *shell) take(ctx context.Context, s *splitter, line string) (done bool, err error) {
	if trimmed := strings.TrimSpace(line); !s.pending() && strings.HasPrefix(trimmed, `\`) {
		return sh.command(ctx, strings.TrimSuffix(trimmed, ";"))
	}
	if err := s.feed(line); err != nil {
		return false, err
	}
	for {
		text, ok := s.next()
		if !ok {
			return false, nil
		}
		if err := sh.statement(ctx, text); err != nil {
			s.reset()
			return false, err
		}
	}
}

// lines is a person's terminal.
type lines interface {
	// Line gives the next line; errInterrupt when it was abandoned, io.EOF at the end.
	Line(prompt string) (string, error)
	// Remember adds a whole statement to the history.
	Remember(text string)
	Close() error
}

var errInterrupt = errors.New("interrupted")

const (
	prompt     = "firn> "
	promptMore = "   -> "
)

// converse is the loop with a person: errors are told and forgotten.
func (sh *shell) converse(ctx context.Context, in lines) error {
	if sh.o.Welcome != "" {
		fmt.Fprintln(sh.out, sh.o.Welcome)
	}
	var (
		s     splitter
		typed []string
	)
	for ctx.Err() == nil {
		p := prompt
		if s.pending() {
			p = promptMore
		}
		line, err := in.Line(p)
		switch {
		case errors.Is(err, errInterrupt):
			if !s.pending() && line == "" {
				fmt.Fprintln(sh.errOut, `\q ends the shell`)
			}
			s.reset()
			typed = nil
			continue
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a line: %w", err)
		}
		if typed = append(typed, line); strings.TrimSpace(line) == "" && !s.pending() {
			typed = nil
		}
		done, err := sh.take(ctx, &s, line)
		if !s.pending() && len(typed) > 0 {
			in.Remember(strings.Join(typed, " "))
			typed = nil
		}
		if err != nil {
			sh.tell(err)
		}
		if done {
			return nil
		}
	}
	return ctx.Err()
}

func (sh *shell) tell(err error) {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(sh.errOut, "the statement was ended")
		return
	}
	fmt.Fprintln(sh.errOut, "error:", visible(err.Error()))
}

// statement runs one and prints its rows.
func (sh *shell) statement(ctx context.Context, text string) error {
	ctx, stop := sh.interruptible(ctx)
	defer stop()
	o := WriteOptions{Width: sh.width(), Now: sh.o.Now}
	if began := sh.o.Now(); sh.timing {
		o.Began = began
	}
	rows, err := sh.session.Query(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Release()
	_, err = Write(ctx, sh.out, sh.o.Format, rows, o)
	return err
}

const help = `statements end with a semicolon and may go over several lines
  \dt            tables
  \d [TABLE]     columns of a table, or the tables
  \format [NAME] how rows are printed: table, csv, json, arrow
  \timing        turn the seconds of a statement on or off
  \help          this text
  \q             end, as Ctrl-D does; Ctrl-C ends the statement that runs`

// command runs a line that starts with a backslash; true ends the shell.
func (sh *shell) command(ctx context.Context, line string) (done bool, err error) {
	name, arg, _ := strings.Cut(line, " ")
	arg = strings.TrimSpace(arg)
	switch name {
	case `\q`, `\quit`, `\exit`:
		return true, nil
	case `\?`, `\h`, `\help`:
		fmt.Fprintln(sh.out, help)
	case `\dt`:
		return false, sh.listTables(ctx)
	case `\d`:
		if arg == "" {
			return false, sh.listTables(ctx)
		}
		return false, sh.listColumns(ctx, arg)
	case `\timing`:
		switch arg {
		case "":
			sh.timing = !sh.timing
		case "on", "off":
			sh.timing = arg == "on"
		default:
			return false, fmt.Errorf(`\timing %s: want on or off`, arg)
		}
		fmt.Fprintf(sh.errOut, "timing is %s\n", map[bool]string{true: "on", false: "off"}[sh.timing])
	case `\format`:
		if arg != "" {
			f, err := ParseFormat(arg)
			if err != nil {
				return false, err
			}
			sh.o.Format = f
		}
		fmt.Fprintf(sh.errOut, "format is %s\n", sh.o.Format)
	default:
		return false, fmt.Errorf(`no command %s: \help lists them`, name)
	}
	return false, nil
}

func (sh *shell) listTables(ctx context.Context) error {
	ctx, stop := sh.interruptible(ctx)
	defer stop()
	tables, err := sh.session.Tables(ctx, false)
	if err != nil {
		return err
	}
	for _, t := range tables {
		fmt.Fprintln(sh.out, visible(t.Name))
	}
	return nil
}

func (sh *shell) listColumns(ctx context.Context, name string) error {
	ctx, stop := sh.interruptible(ctx)
	defer stop()
	tables, err := sh.session.Tables(ctx, true)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if !strings.EqualFold(t.Name, name) || t.Schema == nil {
			continue
		}
		w := tabwriter.NewWriter(sh.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "column\ttype\tnullable")
		for _, f := range t.Schema.Fields() {
			nullable := "not null"
			if f.Nullable {
				nullable = ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", visible(f.Name), visible(typeName(f.Type)), nullable)
		}
		return w.Flush()
	}
	return fmt.Errorf(`no table %s: \dt lists them`, name)
}
