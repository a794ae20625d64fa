package engine

import (
	"bytes"
	"iter"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/internal/ledger"
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

// RowLines tells which event of its record each of some rows is.
type RowLines struct{ index *array.Int32 }

// LinesOf reads where rows stand in their records.
func LinesOf(rows arrow.RecordBatch) RowLines {
	if at := rows.Schema().FieldIndices(ledger.ColIndex); len(at) == 1 {
		index, _ := rows.Column(at[0]).(*array.Int32)
		return RowLines{index}
	}
	return RowLines{} // a record gives one row
}

// At is the line of row i, from 1 on; 0 for a record as a whole.
func (l RowLines) At(i int) int32 {
	if l.index == nil || l.index.IsNull(i) {
		return 0
	}
	return l.index.Value(i) + 1
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
