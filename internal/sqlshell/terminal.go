package sqlshell

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/chzyer/readline"
)

// maxHistory bounds the statements that the history keeps.
const maxHistory = 1000

// terminal is lines on readline.
type terminal struct{ rl *readline.Instance }

// newTerminal takes over f until Close; while no line is read, f is in its usual mode and Ctrl-C is a signal.
func newTerminal(f *os.File, out, errOut io.Writer, history string) (*terminal, error) {
	return openTerminal(&readline.Config{
		Stdin: readline.NewCancelableStdin(f), Stdout: out, Stderr: errOut,
		HistoryFile: history,
	})
}

func openTerminal(c *readline.Config) (*terminal, error) {
	c.Prompt = prompt
	c.HistoryLimit = maxHistory
	c.DisableAutoSaveHistory = true // whole statements are kept, not their lines
	c.HistorySearchFold = true
	c.InterruptPrompt, c.EOFPrompt = "^C", ""
	rl, err := readline.NewEx(c)
	if err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	return &terminal{rl}, nil
}

func (t *terminal) Line(prompt string) (string, error) {
	t.rl.SetPrompt(prompt)
	line, err := t.rl.Readline()
	if errors.Is(err, readline.ErrInterrupt) {
		err = errInterrupt
	}
	return line, err
}

// Remember: a history that cannot be written is no reason to disturb the person.
func (t *terminal) Remember(text string) { _ = t.rl.SaveHistory(text) }

func (t *terminal) Close() error { return t.rl.Close() }
