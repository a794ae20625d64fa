package sqlshell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/chzyer/readline"
)

// fakeSession answers every statement with the same two rows; one that holds "bad" fails, one that holds "sleep"
// waits for its context.
type fakeSession struct {
	t    *testing.T
	mem  memory.Allocator
	ran  []string
	open int
	// sleeping is told when a statement has begun to wait.
	sleeping chan struct{}
}

func newFakeSession(t *testing.T) *fakeSession {
	return &fakeSession{t: t, mem: checked(t), sleeping: make(chan struct{}, 1)}
}

func (s *fakeSession) Query(ctx context.Context, sql string) (Rows, error) {
	s.ran = append(s.ran, sql)
	switch {
	case strings.Contains(sql, "bad"):
		return nil, errors.New("no such column")
	case strings.Contains(sql, "sleep"):
		s.sleeping <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.open++
	return &trackedRows{everything(s.t, s.mem), s}, nil
}

type trackedRows struct {
	*fakeRows
	s *fakeSession
}

func (r *trackedRows) Release() {
	r.s.open--
	r.fakeRows.Release()
}

func (s *fakeSession) Tables(_ context.Context, withSchema bool) ([]Table, error) {
	t := []Table{{Name: "analytics.user_events"}, {Name: "analytics.dead"}}
	if withSchema {
		t[0].Schema, t[1].Schema = everySchema, arrow.NewSchema(nil, nil)
	}
	return t, nil
}

func TestPipeRunsStatementsInOrder(t *testing.T) {
	s := newFakeSession(t)
	var out, errs bytes.Buffer
	in := "select 1;\n\\format json\nselect\n 2 ; select 3\n"
	if err := Run(context.Background(), strings.NewReader(in), &out, &errs, s, Options{Format: FormatCSV}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(s.ran) != "[select 1 select\n 2 select 3]" || s.open != 0 {
		t.Errorf("ran %q, %d open", s.ran, s.open)
	}
	if !strings.HasPrefix(out.String(), "i,f,s") || strings.Count(out.String(), `{"i":-1`) != 2 {
		t.Errorf("out = %s", out.String())
	}
}

func TestPipeStopsAtTheFirstError(t *testing.T) {
	s := newFakeSession(t)
	var out, errs bytes.Buffer
	err := Run(context.Background(), strings.NewReader("select 1;\n\nselect\n bad;\nselect 3;"), &out, &errs, s, Options{})
	if err == nil || err.Error() != "line 3: no such column" {
		t.Errorf("err = %v", err)
	}
	if len(s.ran) != 2 {
		t.Errorf("ran %q", s.ran)
	}
	if err := Run(context.Background(), strings.NewReader(`\nonsense`), &out, &errs, s, Options{}); err == nil || !strings.Contains(err.Error(), `no command \nonsense`) {
		t.Errorf("err = %v", err)
	}
}

func TestCommands(t *testing.T) {
	s := newFakeSession(t)
	var out, errs bytes.Buffer
	in := "\\dt\n\\d Analytics.User_Events\n\\timing off\n\\help\nselect 1;\n\\q\nselect 2;\n"
	if err := Run(context.Background(), strings.NewReader(in), &out, &errs, s, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"analytics.user_events\nanalytics.dead\n", "day     date32", "struct(tags string[], m map(string, int32))", "timestamptz[us]",
		"i       int64", "not null", "(2 rows)\n", `\q             end`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if len(s.ran) != 1 || !strings.Contains(errs.String(), "timing is off") {
		t.Errorf("ran %q, told %q", s.ran, errs.String())
	}
	err := Run(context.Background(), strings.NewReader(`\d nowhere`), &out, &errs, s, Options{})
	if err == nil || !strings.Contains(err.Error(), "no table nowhere") {
		t.Errorf("err = %v", err)
	}
}

// script is a person whose lines are known.
type script struct {
	lines      []any // string, or error
	prompts    []string
	remembered []string
}

func (s *script) Line(prompt string) (string, error) {
	s.prompts = append(s.prompts, prompt)
	if len(s.lines) == 0 {
		return "", io.EOF
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	if err, ok := l.(error); ok {
		return "", err
	}
	return l.(string), nil
}

func (s *script) Remember(text string) { s.remembered = append(s.remembered, text) }
func (s *script) Close() error         { return nil }

func TestConversationGoesOnAfterErrors(t *testing.T) {
	s := newFakeSession(t)
	var out, errs bytes.Buffer
	sh := newShell(&out, &errs, s, Options{Welcome: "hello"})
	p := &script{lines: []any{"select", "  1;", "select bad;", "select 'open", errInterrupt, errInterrupt, `\wrong`, "", "select 2;"}}
	if err := sh.converse(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%q", s.ran) != `["select\n  1" "select bad" "select 2"]` {
		t.Errorf("ran %q", s.ran)
	}
	if got := fmt.Sprintf("%q", p.remembered); got != `["select   1;" "select bad;" "\\wrong" "select 2;"]` {
		t.Errorf("remembered %s", got)
	}
	want := []string{prompt, promptMore, prompt, prompt, promptMore, prompt, prompt, prompt, prompt, prompt}
	if fmt.Sprint(p.prompts) != fmt.Sprint(want) {
		t.Errorf("prompts %q", p.prompts)
	}
	if got := errs.String(); got != "error: no such column\n\\q ends the shell\nerror: no command \\wrong: \\help lists them\n" {
		t.Errorf("told %q", got)
	}
}

func TestAnInterruptEndsTheStatementOnly(t *testing.T) {
	s := newFakeSession(t)
	var out, errs bytes.Buffer
	sh := newShell(&out, &errs, s, Options{})
	sh.interruptible = func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			select {
			case <-s.sleeping:
				cancel()
			case <-ctx.Done():
			}
		}()
		return ctx, cancel
	}
	if err := sh.converse(context.Background(), &script{lines: []any{"select sleep();", "select 1;"}}); err != nil {
		t.Fatal(err)
	}
	if len(s.ran) != 2 || errs.String() != "the statement was ended\n" || !strings.Contains(out.String(), "(2 rows") {
		t.Errorf("ran %q, told %q, printed %q", s.ran, errs.String(), out.String())
	}
}

// The real line editor, on a pipe that stands for the keyboard.
func TestTerminalReadsAndRemembers(t *testing.T) {
	history := filepath.Join(t.TempDir(), "history")
	keys, typed := io.Pipe()
	var screen bytes.Buffer
	term, err := openTerminal(&readline.Config{
		Stdin: keys, Stdout: &screen, Stderr: &screen, HistoryFile: history,
		FuncIsTerminal: func() bool { return true }, FuncMakeRaw: func() error { return nil }, FuncExitRaw: func() error { return nil },
		FuncGetWidth: func() int { return 80 }, FuncOnWidthChanged: func(func()) {}, ForceUseInteractive: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		io.WriteString(typed, "select 1;\r")
		io.WriteString(typed, "abandoned\x03")
		typed.Close()
	}()
	if line, err := term.Line(prompt); line != "select 1;" || err != nil {
		t.Errorf("line %q, %v", line, err)
	}
	term.Remember("select 1;")
	if _, err := term.Line(prompt); !errors.Is(err, errInterrupt) {
		t.Errorf("err = %v, want an interrupt", err)
	}
	if _, err := term.Line(prompt); !errors.Is(err, io.EOF) {
		t.Errorf("err = %v, want the end", err)
	}
	if err := term.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(history); err != nil || string(b) != "select 1;\n" {
		t.Errorf("history %q, %v", b, err)
	}
}

func TestTheShellEndsWithItsContext(t *testing.T) {
	s := newFakeSession(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	var out, errs bytes.Buffer
	err := Run(ctx, strings.NewReader("select sleep();"), &out, &errs, s, Options{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}
