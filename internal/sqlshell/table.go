package sqlshell

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/text/width"
)

const (
	// sampleRows decide the widths of a table's columns and are held in memory; later rows keep to those widths.
	sampleRows = 1000
	minColumn  = 8 // columns of the terminal that a cell keeps when the table is too wide
	nullText   = "NULL"
)

// table prints rows once the widths are known.
type table struct {
	w       *bufio.Writer
	names   []string
	right   []bool // numbers
	limit   int
	sample  [][]string
	widths  []int
	started bool
}

func writeTable(ctx context.Context, w *bufio.Writer, rows Rows, o WriteOptions) (n int64, err error) {
	t := &table{w: w, limit: o.Width}
	for _, f := range rows.Schema().Fields() {
		t.names = append(t.names, visible(f.Name))
		id := f.Type.ID()
		t.right = append(t.right, arrow.IsInteger(id) || arrow.IsFloating(id) || arrow.IsDecimal(id))
	}
	var cell []byte
	err = eachRow(ctx, rows, func(b arrow.RecordBatch, i int) error {
		n++
		line := make([]string, b.NumCols())
		for j, c := range b.Columns() {
			if line[j] = nullText; !isNull(c, i) {
				cell = appendText(cell[:0], c, i)
				line[j] = visible(string(cell))
			}
		}
		if t.started {
			return t.line(line)
		}
		if t.sample = append(t.sample, line); len(t.sample) == sampleRows {
			return t.start()
		}
		return nil
	})
	if serr := t.start(); err == nil {
		err = serr
	}
	if err != nil {
		return n, err
	}
	footer := fmt.Sprintf("(%d rows", n)
	if n == 1 {
		footer = "(1 row"
	}
	if !o.Began.IsZero() {
		footer += fmt.Sprintf(", %.3f s", o.Now().Sub(o.Began).Seconds())
	}
	_, err = w.WriteString(footer + ")\n")
	return n, err
}

// start prints the head and what was held back.
func (t *table) start() error {
	if t.started {
		return nil
	}
	t.started = true
	t.widths = make([]int, len(t.names))
	for i, n := range t.names {
		t.widths[i] = displayWidth(n)
	}
	for _, line := range t.sample {
		for i, c := range line {
			t.widths[i] = max(t.widths[i], displayWidth(c))
		}
	}
	fit(t.widths, t.limit)
	if err := t.line(t.names); err != nil {
		return err
	}
	rule := make([]string, len(t.widths))
	for i, n := range t.widths {
		rule[i] = strings.Repeat("-", n+2)
	}
	if _, err := t.w.WriteString(strings.Join(rule, "+") + "\n"); err != nil {
		return err
	}
	for _, line := range t.sample {
		if err := t.line(line); err != nil {
			return err
		}
	}
	t.sample = nil
	return nil
}

func (t *table) line(cells []string) error {
	var b strings.Builder
	for i, c := range cells {
		if i > 0 {
			b.WriteByte('|')
		}
		c = cut(c, t.widths[i])
		pad := strings.Repeat(" ", t.widths[i]-displayWidth(c))
		b.WriteByte(' ')
		switch {
		case t.right[i]:
			b.WriteString(pad + c + " ")
		case i == len(cells)-1:
			b.WriteString(c) // no blanks at the end of a line
		default:
			b.WriteString(c + pad + " ")
		}
	}
	b.WriteByte('\n')
	_, err := t.w.WriteString(b.String())
	return err
}

// fit lowers the widest columns together until the table fits into limit, but none below minColumn.
func fit(widths []int, limit int) {
	if limit <= 0 {
		return
	}
	for {
		total, widest, second := 3*len(widths)-1, 0, 0
		for _, w := range widths {
			total += w
			switch {
			case w > widest:
				widest, second = w, widest
			case w > second && w < widest:
				second = w
			}
		}
		if total <= limit || widest <= minColumn {
			return
		}
		same := 0
		for _, w := range widths {
			if w == widest {
				same++
			}
		}
		// All of the widest go down at once: to the next width, or as far as the excess asks for.
		to := max(second, minColumn, widest-(total-limit+same-1)/same)
		for i, w := range widths {
			if w == widest {
				widths[i] = min(widest-1, to)
			}
		}
	}
}

// cut shortens s to n columns, the last being the mark of a cut.
func cut(s string, n int) string {
	if displayWidth(s) <= n {
		return s
	}
	w := 0
	for i, r := range s {
		if w += runeWidth(r); w > n-1 {
			return s[:i] + "…"
		}
	}
	return s
}

func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 { // Latin, without what combines
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// visible escapes what would act on a terminal instead of being read: control characters, and those that turn the
// direction of text. Rows come from strangers.
func visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

func hidden(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}
