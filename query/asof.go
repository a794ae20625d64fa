package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
)

// asOf says which state of a table is wanted; the zero value is the newest.
type asOf struct {
	snapshot int64     // a snapshot id
	ref      string    // a tag or branch
	at       time.Time // as of that time
	offsets  string    // below these offsets, as offset.Vector prints them
}

func (a asOf) newest() bool { return a == asOf{} }

// travel is one time-travel clause that was cut out of a statement.
type travel struct {
	table  catalog.Identifier // as written
	schema string             // the schema that its relation got in the rewritten statement
	asOf   asOf
}

// travelSchema is the schema of the n-th relation that was rewritten. Users see it in error messages.
func travelSchema(n int) string { return "as of " + strconv.Itoa(n+1) }

// cutTravel finds the time-travel clauses of a statement and rewrites the names that they follow:
//
//	ns.t FOR VERSION AS OF 123 | 'tag'      ns.t FOR TIMESTAMP AS OF TIMESTAMP '2026-06-04 11:01:23 UTC'    (Trino)
//	ns.t AT (VERSION => 123 | 'tag')        ns.t AT (TIMESTAMP => TIMESTAMP '2026-06-04 11:01:23')          (DuckDB)
//	ns.t FOR OFFSETS AS OF '0:123 1:456'    ns.t AT (OFFSETS => '0:123 1:456')                              (Firn)
//
// The rewritten name keeps its last part, so that columns may still be qualified by it. The rest of the statement
// stays byte for byte as it was.
func cutTravel(sql string, now time.Time) (string, []travel, error) {
	tokens := lex(sql)
	var (
		out  strings.Builder
		done int // bytes of sql that out has
		cuts []travel
	)
	for i := 0; i < len(tokens); i++ {
		spec, bracket, ok := clauseStart(tokens, i)
		if !ok {
			continue
		}
		line, col := position(sql, tokens[i].start)
		id, first := nameBefore(tokens, i, done)
		if len(id) == 0 {
			return "", nil, fmt.Errorf("%w: line %d, column %d: a time-travel clause follows the name of a table", ErrInvalidSQL, line, col)
		}
		if isAlias(tokens, first) {
			return "", nil, fmt.Errorf("%w: line %d, column %d: a time-travel clause follows the name of a table and comes before its alias; %s is none", ErrInvalidSQL, line, col, id)
		}
		p := travelParser{tokens: tokens, at: spec, now: now}
		what, err := p.clause(bracket)
		if err != nil {
			return "", nil, fmt.Errorf("%w: line %d, column %d: time travel of %s: %w", ErrInvalidSQL, line, col, id, err)
		}
		c := travel{table: id, schema: travelSchema(len(cuts)), asOf: what}
		out.WriteString(sql[done:tokens[first].start])
		out.WriteString(quoteName(c.schema) + "." + quoteName(id.Name()) + " ")
		cuts = append(cuts, c)
		done = tokens[p.at-1].end
		i = p.at - 1
	}
	out.WriteString(sql[done:])
	return out.String(), cuts, nil
}

// clauseStart tells whether a time-travel clause starts at token i, and at which token its kind stands.
func clauseStart(t []token, i int) (kind int, bracket, ok bool) {
	has := func(n int) bool { return i+n < len(t) }
	if t[i].is("for") && has(3) && isKind(t[i+1]) && t[i+2].is("as") && t[i+3].is("of") {
		return i + 1, false, true
	}
	if t[i].is("at") && has(3) && t[i+1].text == "(" && t[i+1].kind == tokenOther && isKind(t[i+2]) && (t[i+3].text == "=>" || t[i+3].text == ":=") {
		return i + 2, true, true
	}
	return 0, false, false
}

func isKind(t token) bool {
	return t.is("offsets") || t.is("version") || t.is("timestamp") || t.is("system_version") || t.is("system_time")
}

// nameBefore reads the dotted name that ends before token i; nothing before byte from belongs to it.
func nameBefore(t []token, i, from int) (id catalog.Identifier, first int) {
	for n := i - 1; n >= 0 && t[n].name() && t[n].start >= from; n -= 2 {
		id, first = append(catalog.Identifier{t[n].text}, id...), n
		if n == 0 || t[n-1].text != "." || t[n-1].kind != tokenOther {
			break
		}
	}
	return id, first
}

// beforeTable are the keywords that the name of a table may follow.
var beforeTable = []string{"from", "join", "table", "only", "pivot", "pivot_wider", "unpivot", "pivot_longer"}

// isAlias reports whether the name at token i stands where an alias does: after another name, AS or a bracket.
func isAlias(t []token, i int) bool {
	if i == 0 {
		return false
	}
	before := t[i-1]
	if before.kind == tokenOther {
		return before.text == ")"
	}
	return !slices.ContainsFunc(beforeTable, before.is)
}

// position gives line and column, both from 1, of a byte.
func position(sql string, at int) (line, col int) {
	before := sql[:min(max(at, 0), len(sql))]
	line = 1 + strings.Count(before, "\n")
	return line, 1 + len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))
}

// travelParser reads what follows a name. at ends after the last token of the clause.
type travelParser struct {
	tokens []token
	at     int
	now    time.Time
}

func (p *travelParser) peek() token {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return token{kind: tokenOther}
}

func (p *travelParser) next() token {
	t := p.peek()
	p.at++
	return t
}

func (p *travelParser) take(keyword string) bool {
	if p.peek().is(keyword) || p.peek().kind == tokenOther && p.peek().text == keyword {
		p.at++
		return true
	}
	return false
}

// clause reads from VERSION or TIMESTAMP on.
func (p *travelParser) clause(bracket bool) (a asOf, err error) {
	kind := p.next()
	p.at++ // AS or =>
	if !bracket {
		p.at++ // OF
	}
	switch {
	case kind.is("version"), kind.is("system_version"):
		a, err = p.version()
	case kind.is("offsets"):
		a.offsets, err = p.offsets()
	default:
		a.at, err = p.time()
	}
	if err != nil {
		return asOf{}, err
	}
	if bracket && !p.take(")") {
		return asOf{}, fmt.Errorf("expected ) after it")
	}
	return a, nil
}

func (p *travelParser) version() (asOf, error) {
	t := p.next()
	switch t.kind {
	case tokenString:
		if t.text == "" {
			return asOf{}, fmt.Errorf("the tag is empty")
		}
		return asOf{ref: t.text}, nil
	case tokenNumber:
		id, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil || id <= 0 {
			return asOf{}, fmt.Errorf("%s is no snapshot id", t.text)
		}
		return asOf{snapshot: id}, nil
	}
	return asOf{}, fmt.Errorf("expected a snapshot id or a 'tag'")
}

// offsets reads '0:123 1:456': for each partition the first offset that is not wanted.
func (p *travelParser) offsets() (string, error) {
	t := p.next()
	v, err := offset.ParseVector(t.text)
	if t.kind != tokenString || err == nil && len(v) == 0 {
		return "", fmt.Errorf("expected offsets such as '0:123 1:456'")
	}
	return v.String(), err
}

// time reads a literal, with or without a type before it, or now() and an interval before it.
func (p *travelParser) time() (time.Time, error) {
	t := p.next()
	if t.is("timestamp") || t.is("timestamptz") || t.is("date") {
		if p.take("with") && (!p.take("time") || !p.take("zone")) {
			return time.Time{}, fmt.Errorf("expected TIMESTAMP WITH TIME ZONE")
		}
		t = p.next()
	}
	switch {
	case t.kind == tokenString:
		return parseTime(t.text)
	case t.is("now") && p.take("(") && p.take(")"), t.is("current_timestamp"):
		if !p.take("-") {
			return p.now, nil
		}
		d, err := p.interval()
		return p.now.Add(-d), err
	}
	return time.Time{}, fmt.Errorf("expected a time such as TIMESTAMP '2026-06-04 11:01:23 UTC', or now() - INTERVAL '5 minutes'")
}

// interval reads INTERVAL '5 minutes', INTERVAL '5' MINUTE or INTERVAL 5 MINUTE.
func (p *travelParser) interval() (time.Duration, error) {
	bad := fmt.Errorf("expected an interval such as INTERVAL '5 minutes'")
	if !p.take("interval") {
		return 0, bad
	}
	t := p.next()
	if t.kind != tokenString && t.kind != tokenNumber {
		return 0, bad
	}
	words := strings.Fields(t.text)
	if len(words) == 1 && p.peek().kind == tokenWord {
		words = append(words, p.next().text)
	}
	if len(words) != 2 {
		return 0, bad
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	unit, ok := intervalUnits[strings.TrimSuffix(strings.ToLower(words[1]), "s")]
	const longest = 100 * 366 * 24 * time.Hour
	if err != nil || !ok || n < 0 || n > int64(longest/unit) {
		return 0, bad
	}
	return time.Duration(n) * unit, nil
}

var intervalUnits = map[string]time.Duration{
	"millisecond": time.Millisecond, "second": time.Second, "minute": time.Minute,
	"hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// parseTime reads a date, or a date and a time with an optional zone: Z, UTC, an offset or a name of the IANA data
// base. Without a zone it is UTC.
func parseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	loc := time.UTC
	if n := strings.LastIndexByte(s, ' '); n > 0 && isWordStart(s[n+1]) {
		l, err := time.LoadLocation(s[n+1:])
		if err != nil || l == time.Local {
			return time.Time{}, fmt.Errorf("unknown time zone %q", s[n+1:])
		}
		s, loc = strings.TrimSpace(s[:n]), l
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write it as 2026-06-04 11:01:23, with a zone after it unless it is UTC", s)
}
