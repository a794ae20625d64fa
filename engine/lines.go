package engine

import (
	"bytes"
	"iter"
)

var newline = []byte{'\n'}

// Lines yields the events of a record that holds one a line: the lines of its value that are not blank. The n-th of them, from 1
// on, is line n of the record, wherever blank lines stand.
func (r *Record) Lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := r.Value; len(rest) > 0; {
			var one []byte
			one, rest, _ = bytes.Cut(rest, newline)
			if !blank(one) && !yield(one) {
				return
			}
		}
	}
}

// blank tells whether a line is whitespace alone.
func blank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
