package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/past"
)

// bound is a statement whose names are bound to pinned tables.
type bound struct {
	statement Statement
	tables    []*pinned // one per relation
	result    Stream    // not nil: the answer itself, no engine is needed
}

func (b *bound) release() {
	for _, p := range b.tables {
		p.Release()
	}
	b.tables = nil
	if b.result != nil {
		b.result.Release()
		b.result = nil
	}
}

// bind cuts out the time travel, asks the engine which names the statement has, and pins a table for each.
func (s *Service) bind(ctx context.Context, sql string, o Options) (*bound, error) {
	if len(sql) > int(s.cfg.MaxStatement) {
		return nil, fmt.Errorf("%w: a statement of %d bytes; query.sql.max_statement is %s", ErrLimit, len(sql), s.cfg.MaxStatement)
	}
	// What the engine parses and what it runs must be the same text: it ends at a NUL, and takes UTF-8 only.
	if at := strings.IndexByte(sql, 0); at >= 0 || !utf8.ValidString(sql) {
		return nil, fmt.Errorf("%w: it is not text in UTF-8", ErrInvalidSQL)
	}
	text, cuts, err := cutTravel(sql, s.now())
	if err != nil {
		return nil, err
	}
	seen, err := s.sql.Inspect(ctx, text)
	if err != nil {
		return nil, err
	}
	if seen.ShowTables {
		rows, err := s.showTables(ctx)
		return &bound{result: rows}, err
	}
	b := &bound{}
	b.statement.SQL, err = s.bindNames(ctx, b, text, cuts, seen, o)
	if errors.Is(err, catalog.ErrNoSuchTable) && !errors.Is(err, ErrInvalidSQL) { // perhaps dropped since it was listed, and there is another of the name
		b.release()
		s.names.forget()
		b = &bound{}
		b.statement.SQL, err = s.bindNames(ctx, b, text, cuts, seen, o)
	}
	if err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// bindNames adds a relation for each distinct name and returns the text in which they stand.
func (s *Service) bindNames(ctx context.Context, b *bound, text string, cuts []travel, seen Inspection, o Options) (string, error) {
	type spelled struct {
		at   int
		name []string
	}
	var long []spelled
	byName := map[string]catalog.Identifier{}
	for _, ref := range seen.Tables {
		key := strings.ToLower(strings.Join(ref.Parts, "\x00"))
		want, parts, name := asOf{}, ref.Parts, ref.Parts
		if c := travelOf(cuts, ref); c != nil {
			want, parts = c.asOf, c.table
		} else if len(ref.Parts) > 2 { // the engine would take the first part for a database
			name = []string{"table " + strings.Join(ref.Parts[:len(ref.Parts)-1], "."), ref.Parts[len(ref.Parts)-1]}
			long = append(long, spelled{ref.At, name})
		}
		id, found, err := s.table(ctx, parts)
		isCTE := len(parts) == 1 && seen.CTEs[strings.ToLower(parts[0])] && want.newest()
		switch {
		case isCTE && (errors.Is(err, errAmbiguous) || err == nil && !found):
			continue // the statement's own
		case err != nil:
			return "", err
		case !found:
			return "", s.unknown(parts)
		}
		if before, ok := byName[key]; ok {
			if !slices.Equal(before, id) { // names of the engine ignore case
				return "", fmt.Errorf("%w: %s and %s differ by case alone: one statement cannot read both", ErrInvalidSQL, before, id)
			}
			continue
		}
		byName[key] = id
		p, err := s.pin(ctx, id, want, o)
		if err != nil {
			return "", err
		}
		b.tables = append(b.tables, p)
		b.statement.Relations = append(b.statement.Relations, Relation{Name: name, Schema: p.schema, Hot: p.hot, Below: p.below})
	}
	for _, c := range cuts {
		if !slices.ContainsFunc(seen.Tables, func(r TableRef) bool { return travelOf(cuts, r) != nil && r.Parts[0] == c.schema }) {
			return "", fmt.Errorf("%w: the time travel of %s does not follow the name of a table", ErrInvalidSQL, c.table)
		}
	}
	slices.SortFunc(long, func(a, b spelled) int { return b.at - a.at }) // from the end: earlier places stay where they are
	for _, l := range long {
		var err error
		if text, err = respell(text, l.at, l.name); err != nil {
			return "", err
		}
	}
	return text, nil
}

func travelOf(cuts []travel, ref TableRef) *travel {
	for i := range cuts {
		if len(ref.Parts) == 2 && ref.Parts[0] == cuts[i].schema {
			return &cuts[i]
		}
	}
	return nil
}

// respell writes another name in the place of the dotted one at a byte of the text.
func respell(text string, at int, name []string) (string, error) {
	tokens := lex(text)
	i := slices.IndexFunc(tokens, func(t token) bool { return t.start == at && t.name() })
	if i < 0 {
		return "", fmt.Errorf("%w: the place of %s cannot be told: quote its namespace as one name", ErrInvalidSQL, strings.Join(name, "."))
	}
	last := i
	for last+2 < len(tokens) && tokens[last+1].text == "." && tokens[last+2].name() {
		last += 2
	}
	return text[:at] + quoteName(name[0]) + "." + quoteName(name[1]) + text[tokens[last].end:], nil
}

// showTables is the answer to SHOW TABLES.
func (s *Service) showTables(ctx context.Context) (Stream, error) {
	ids, err := s.listTables(ctx)
	if err != nil {
		return nil, err
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: "namespace", Type: arrow.BinaryTypes.String}, {Name: "name", Type: arrow.BinaryTypes.String}}, nil)
	b := array.NewRecordBuilder(s.mem, schema)
	defer b.Release()
	for _, id := range ids {
		b.Field(0).(*array.StringBuilder).Append(id.Namespace().String())
		b.Field(1).(*array.StringBuilder).Append(id.Name())
	}
	return &oneBatch{batch: b.NewRecordBatch()}, nil
}

// oneBatch is a stream of a batch that is there already.
type oneBatch struct {
	batch arrow.RecordBatch
	given bool
	err   error
}

func (o *oneBatch) Schema() *arrow.Schema { return o.batch.Schema() }

func (o *oneBatch) Next(ctx context.Context) bool {
	o.err = ctx.Err()
	first := !o.given && o.err == nil
	o.given = true
	return first
}

func (o *oneBatch) RecordBatch() arrow.RecordBatch { return o.batch }
func (o *oneBatch) Err() error                     { return o.err }

func (o *oneBatch) Release() {
	if o.batch != nil {
		o.batch.Release()
		o.batch = nil
	}
}

// Describe implements Engine.
func (s *Service) Describe(ctx context.Context, sql string, o Options) (result, params *arrow.Schema, err error) {
	_, end := s.begin("describe")
	defer func() { end(err) }()
	if s.sql == nil {
		return nil, nil, ErrNotBuiltIn
	}
	// Slots of their own: a client describes a statement while it reads another.
	if err := s.describes.acquire(ctx, s.cfg.QueueTimeout.D(), "statements are described"); err != nil {
		return nil, nil, err
	}
	defer s.describes.release()
	o.Level, o.MinOffsets = LevelCommitted, nil // schemas need no rows
	b, err := s.bind(ctx, sql, o)
	if err != nil {
		return nil, nil, err
	}
	defer b.release()
	if b.result != nil {
		return b.result.Schema(), arrow.NewSchema(nil, nil), nil
	}
	return s.sql.Describe(ctx, b.statement)
}

// maxVanished bounds how often a statement is planned again because a file was removed after its snapshot was pinned.
const maxVanished = 3

// Query implements Engine.
func (s *Service) Query(ctx context.Context, sql string, params arrow.RecordBatch, o Options) (res Result, err error) {
	started, end := s.begin("sql")
	finish := started.Add(s.cfg.Timeout.D())
	ctx, cancel := until(ctx, finish)
	defer cancel()
	defer func() {
		if err != nil {
			err = outOfTime(ctx, err)
			end(err)
		}
	}()
	if s.sql == nil {
		return nil, ErrNotBuiltIn
	}
	if err := s.runs.acquire(ctx, s.cfg.QueueTimeout.D(), "statements run"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.runs.release()
		}
	}()
	for attempt := 1; ; attempt++ {
		res, err = s.start(ctx, sql, params, o, finish, end)
		if err == nil {
			s.metrics.planSeconds.WithLabelValues("sql").Observe(time.Since(started).Seconds())
			return res, nil
		}
		if !errors.Is(err, objstore.ErrNotFound) || attempt == maxVanished {
			return nil, err
		}
	}
}

func (s *Service) start(ctx context.Context, sql string, params arrow.RecordBatch, o Options, finish time.Time, end func(error)) (_ Result, err error) {
	b, err := s.bind(ctx, sql, o)
	if err != nil {
		return nil, err
	}
	var releases []func()
	release := func() {
		for _, f := range releases {
			f()
		}
		b.release()
	}
	r := &sqlResult{service: s, max: s.cfg.MaxResultRows, finish: finish, end: end, release: release}
	if b.result != nil {
		r.Stream, b.result = b.result, nil
		return r, nil
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	for i, p := range b.tables {
		rng := past.Rows{}.Below(p.below)
		files, err := s.filesOf(ctx, p, rng)
		if err != nil {
			return nil, err
		}
		local, free, err := s.localFiles(ctx, p, files, rng)
		if err != nil {
			return nil, err
		}
		releases = append(releases, free)
		b.statement.Relations[i].Files = local
		r.pins = append(r.pins, p.Pin)
	}
	b.statement.Params = params
	if r.Stream, err = s.sql.Run(ctx, b.statement); err != nil {
		return nil, err
	}
	return r, nil
}

// sqlResult adds to a stream what holds it up, counts, and ends it in time.
type sqlResult struct {
	Stream
	service   *Service
	pins      []Pin
	rows, max int64
	finish    time.Time
	end       func(error)
	release   func()
	err       error
	released  bool
}

func (r *sqlResult) Pins() []Pin { return r.pins }

func (r *sqlResult) Next(ctx context.Context) bool {
	if r.err != nil || r.released {
		return false
	}
	ctx, cancel := until(ctx, r.finish)
	defer cancel()
	if !r.Stream.Next(ctx) {
		r.err = outOfTime(ctx, r.Stream.Err())
		r.end(r.err)
		return false
	}
	r.rows += r.RecordBatch().NumRows()
	r.service.metrics.rows.WithLabelValues("sql").Add(float64(r.RecordBatch().NumRows()))
	if r.max > 0 && r.rows > r.max {
		r.err = fmt.Errorf("%w: more than %d rows (query.sql.max_result_rows): add a LIMIT", ErrLimit, r.max)
		r.end(r.err)
		return false
	}
	return true
}

func (r *sqlResult) Err() error { return r.err }

func (r *sqlResult) Release() {
	if r.released {
		return
	}
	r.released = true
	r.Stream.Release()
	r.release()
	r.service.runs.release()
	r.end(r.err)
}
