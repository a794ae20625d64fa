package sqlshell

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// Rows is a result as the shell reads it. Next makes a batch current until the next call of Next or Release.
type Rows interface {
	Schema() *arrow.Schema
	Next(ctx context.Context) bool
	RecordBatch() arrow.RecordBatch
	Err() error
	Release()
}

// Format says how rows are printed.
type Format string

const (
	FormatTable Format = "table" // aligned columns for people, with a count
	FormatCSV   Format = "csv"   // RFC 4180 with a header line and LF; NULL is empty, an empty string is ""
	FormatJSON  Format = "json"  // one object a line
	FormatArrow Format = "arrow" // an Arrow IPC stream
)

// Formats are all of them, in the order of the help.
func Formats() []Format { return []Format{FormatTable, FormatCSV, FormatJSON, FormatArrow} }

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	if f := Format(strings.ToLower(s)); slices.Contains(Formats(), f) {
		return f, nil
	}
	return "", fmt.Errorf("output format %q: want table, csv, json or arrow", s)
}

// WriteOptions tune the table; the other formats have no choices.
type WriteOptions struct {
	// Width is the columns of the terminal, to which wide cells are cut; 0 cuts nothing.
	Width int
	// Began is when the statement was sent; when set, the table's last line tells the seconds since.
	Began time.Time
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Write prints all rows and returns their number. The caller releases rows.
func Write(ctx context.Context, w io.Writer, f Format, rows Rows, o WriteOptions) (int64, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if f == FormatArrow {
		return writeArrow(ctx, w, rows)
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	var (
		n   int64
		err error
	)
	switch f {
	case FormatTable:
		n, err = writeTable(ctx, buf, rows, o)
	case FormatCSV:
		n, err = writeCSV(ctx, buf, rows)
	case FormatJSON:
		n, err = writeJSON(ctx, buf, rows)
	default:
		return 0, fmt.Errorf("output format %q: want table, csv, json or arrow", f)
	}
	// What was read before an error is printed too: the error then tells that it is not all.
	if ferr := buf.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write the rows: %w", ferr)
	}
	return n, err
}

func writeArrow(ctx context.Context, w io.Writer, rows Rows) (n int64, err error) {
	to := &untilCut{w: w}
	out := ipc.NewWriter(to, ipc.WithSchema(rows.Schema()))
	defer func() {
		to.cut = err != nil // no end mark: the reader sees that rows are missing
		if cerr := out.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("write the rows: %w", cerr)
		}
	}()
	for rows.Next(ctx) {
		if err := out.Write(rows.RecordBatch()); err != nil {
			return n, fmt.Errorf("write the rows: %w", err)
		}
		n += rows.RecordBatch().NumRows()
	}
	return n, rows.Err()
}

// untilCut hands on what is written until cut is set. An IPC writer must be closed to free its dictionaries, and
// writes its end mark then.
type untilCut struct {
	w   io.Writer
	cut bool
}

func (u *untilCut) Write(b []byte) (int, error) {
	if u.cut {
		return len(b), nil
	}
	return u.w.Write(b)
}

func writeCSV(ctx context.Context, w *bufio.Writer, rows Rows) (n int64, err error) {
	var line []byte
	for i, f := range rows.Schema().Fields() {
		if i > 0 {
			line = append(line, ',')
		}
		line = appendCSV(line, f.Name)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return 0, fmt.Errorf("write the rows: %w", err)
	}
	var cell []byte
	err = eachRow(ctx, rows, func(b arrow.RecordBatch, i int) error {
		line = line[:0]
		for j, c := range b.Columns() {
			if j > 0 {
				line = append(line, ',')
			}
			if !isNull(c, i) {
				cell = appendText(cell[:0], c, i)
				line = appendCSV(line, string(cell))
			}
		}
		n++
		_, err := w.Write(append(line, '\n'))
		return err
	})
	return n, err
}

// appendCSV quotes what RFC 4180 wants quoted, and the empty string, which would read as NULL.
func appendCSV(dst []byte, s string) []byte {
	if s != "" && !strings.ContainsAny(s, "\",\r\n") {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}

func writeJSON(ctx context.Context, w *bufio.Writer, rows Rows) (n int64, err error) {
	keys := make([][]byte, rows.Schema().NumFields())
	for i, f := range rows.Schema().Fields() {
		keys[i] = append(appendJSONString(nil, f.Name), ':')
	}
	var line []byte
	err = eachRow(ctx, rows, func(b arrow.RecordBatch, i int) error {
		line = append(line[:0], '{')
		for j, c := range b.Columns() {
			if j > 0 {
				line = append(line, ',')
			}
			line = appendJSON(append(line, keys[j]...), c, i)
		}
		n++
		_, err := w.Write(append(line, '}', '\n'))
		return err
	})
	return n, err
}

func eachRow(ctx context.Context, rows Rows, do func(b arrow.RecordBatch, i int) error) error {
	for rows.Next(ctx) {
		b := rows.RecordBatch()
		for i := range int(b.NumRows()) {
			if err := do(b, i); err != nil {
				return fmt.Errorf("write the rows: %w", err)
			}
		}
	}
	return rows.Err()
}
