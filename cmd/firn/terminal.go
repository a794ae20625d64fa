package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"github.com/firnlake/firn/internal/logging"
)

func isTerminal(w io.Writer) bool { return logging.IsTerminal(w) }

// terminalWidth is the columns of w; 0 when it is no terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
