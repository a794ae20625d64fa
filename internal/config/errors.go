package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ErrInvalid is what every error about the content of a configuration wraps.
var ErrInvalid = errors.New("invalid configuration")

// Error is one thing wrong with a configuration.
type Error struct {
	// File is the file's name, or the environment variable that gave the value.
	File string
	// Line and Column count from 1; 0 when the thing has no place, such as a key that is missing.
	Line, Column int
	// Path is the key, such as pipelines[0].topic.
	Path string
	// Msg says what is wrong and what would be right.
	Msg string
	// Snippet is the line with a caret under the place, secrets masked.
	Snippet string
	cause   error
}

// Error gives place, key and message in the first line and the snippet below it.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	if e.Snippet != "" {
		b.WriteString("\n" + e.Snippet)
	}
	return b.String()
}

// Is makes every Error an ErrInvalid.
func (e *Error) Is(target error) bool { return target == ErrInvalid }

// Unwrap gives the error of a Validate or of a value's own reader.
func (e *Error) Unwrap() error { return e.cause }

// maxErrors bounds how many errors are told at once; a file of another kind would give hundreds.
const maxErrors = 10

// join makes one error of many, in order.
func join(errs []*Error) error {
	if len(errs) == 0 {
		return nil
	}
	out := make([]error, 0, min(len(errs), maxErrors)+1)
	for _, e := range errs[:min(len(errs), maxErrors)] {
		out = append(out, e)
	}
	if more := len(errs) - maxErrors; more > 0 {
		out = append(out, fmt.Errorf("%w: and %d more", ErrInvalid, more))
	}
	return errors.Join(out...)
}

// maxSnippet bounds the width of a line that is shown, in runes.
const maxSnippet = 120

// secretLike tells lines of a file that could not be parsed, and so not masked, that are better not shown.
var secretLike = regexp.MustCompile(`(?i)key|secret|token|passw|header|credential|auth`)

// source is a text that errors point into.
type source struct {
	name  string
	lines []string
	// masked are the texts of secrets, and of values under unknown keys, which may be secrets with a typing error.
	masked map[string]bool
}

func newSource(name string, data []byte) *source {
	return &source{name: name, lines: strings.Split(string(data), "\n"), masked: map[string]bool{}}
}

func (s *source) mask(texts ...string) {
	for _, t := range texts {
		if t = strings.Trim(strings.TrimSpace(t), `"'`); t != "" {
			s.masked[t] = true
		}
	}
}

// snippet shows the line with a caret under the column (in runes, from 1).
func (s *source) snippet(line, column int) string {
	if line < 1 || line > len(s.lines) || column < 1 {
		return ""
	}
	text := strings.ReplaceAll(strings.TrimRight(s.lines[line-1], "\r"), "\t", " ")
	runes := []rune(text)
	before, after := string(runes[:min(column-1, len(runes))]), string(runes[min(column-1, len(runes)):])
	before, after = s.hide(before), s.hide(after)
	if n := utf8.RuneCountInString(before); n > maxSnippet/2 {
		before = "…" + string([]rune(before)[n-maxSnippet/2:])
	}
	if utf8.RuneCountInString(after) > maxSnippet {
		after = string([]rune(after)[:maxSnippet]) + "…"
	}
	gutter := fmt.Sprintf("%5d | ", line)
	return gutter + before + after + "\n" + strings.Repeat(" ", len(gutter)-2) + "| " + strings.Repeat(" ", utf8.RuneCountInString(before)) + "^"
}

func (s *source) hide(text string) string {
	for t := range s.masked {
		text = strings.ReplaceAll(text, t, "***")
	}
	return text
}
