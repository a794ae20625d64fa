package query_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// asked is a way to read a table.
type asked func(ctx context.Context, q *query.Service, o query.Options) (query.Result, error)

func asks(s *stream) map[string]asked {
	out := map[string]asked{"scan": func(ctx context.Context, q *query.Service, o query.Options) (query.Result, error) {
		return q.Scan(ctx, query.ScanRequest{Table: s.id}, o)
	}}
	if withSQL {
		out["sql"] = func(ctx context.Context, q *query.Service, o query.Options) (query.Result, error) {
			return q.Query(ctx, "SELECT * FROM "+s.id.String(), nil, o)
		}
	}
	return out
}

// TestConcurrentLimit: one more than may run waits for its turn, and is told when none comes.
func TestConcurrentLimit(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	s.add(3)
	s.ingest(0, 2)
	for name, ask := range asks(s) {
		t.Run(name, func(t *testing.T) {
			q := l.service(func(p *parts) {
				p.cfg.MaxConcurrent, p.cfg.MaxScans, p.cfg.QueueTimeout = 2, 2, units.Duration(250*time.Millisecond)
			})
			var held []query.Result
			for range 2 {
				r, err := ask(t.Context(), q, query.Options{})
				l.must(err)
				defer r.Release()
				held = append(held, r)
			}
			_, err := ask(t.Context(), q, query.Options{})
			fails(t, err, query.ErrLimit, "2 ", "250ms")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = ask(ctx, q, query.Options{})
			fails(t, err, context.Canceled)
			time.AfterFunc(10*time.Millisecond, held[0].Release)
			got, _, err := read(t, q, ask)
			l.must(err)
			if len(got) != 5 {
				t.Errorf("%d rows", len(got))
			}
			// Failures give their turn back, too.
			for range 3 {
				if _, err := ask(t.Context(), q, query.Options{AsOf: time.Unix(1, 0)}); !errors.Is(err, query.ErrInvalidSQL) {
					t.Fatal(err)
				}
			}
			held[1].Release()
			held[1].Release() // twice is once
			for range 2 {
				r, err := ask(t.Context(), q, query.Options{})
				l.must(err)
				defer r.Release()
			}
			_, err = ask(t.Context(), q, query.Options{})
			fails(t, err, query.ErrLimit)
		})
	}
}

func read(t *testing.T, q *query.Service, ask asked) ([]string, []query.Pin, error) {
	t.Helper()
	r, err := ask(t.Context(), q, query.Options{})
	return rows(t.Context(), r, err)
}

func TestResultLimits(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	s.add(6)
	s.ingest(0, 4)
	for name, ask := range asks(s) {
		t.Run(name, func(t *testing.T) {
			_, _, err := read(t, l.service(func(p *parts) { p.cfg.MaxResultRows = 9 }), ask)
			fails(t, err, query.ErrLimit, "9 rows", "query.sql.max_result_rows")
			got, _, err := read(t, l.service(func(p *parts) { p.cfg.MaxResultRows = 10 }), ask)
			l.must(err)
			if len(got) != 10 {
				t.Errorf("%d rows", len(got))
			}

			r, err := ask(t.Context(), l.service(func(p *parts) { p.cfg.Timeout = units.Duration(500 * time.Millisecond) }), query.Options{})
			l.must(err)
			defer r.Release()
			time.Sleep(510 * time.Millisecond)
			if r.Next(t.Context()) {
				t.Error("rows after the timeout")
			}
			fails(t, r.Err(), query.ErrLimit, "query.sql.timeout")

			// The caller's own end is told as what it is.
			r, err = ask(t.Context(), l.service(), query.Options{})
			l.must(err)
			defer r.Release()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if r.Next(ctx) {
				t.Error("rows after the caller went")
			}
			fails(t, r.Err(), context.Canceled)
			if r.Next(t.Context()) {
				t.Error("rows after an error")
			}
		})
	}
}

// TestEarlyRelease: the rest of a result that nobody reads is given back: hot rows, batches, readers.
func TestEarlyRelease(t *testing.T) {
	t.Parallel()
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	for range 8 { // more files than are read ahead
		s.add(50)
	}
	s.ingest(0, 4)
	q := l.service()
	for name, ask := range asks(s) {
		for batches := range 3 {
			r, err := ask(t.Context(), q, query.Options{})
			l.must(err)
			if l.tails.open() != 1 {
				t.Fatalf("%s: %d cuts are held", name, l.tails.open())
			}
			for range batches {
				if more := r.Next(t.Context()); !more && name == "scan" {
					t.Fatal(r.Err())
				}
			}
			r.Release()
			if n := l.tails.open(); n != 0 || r.Next(t.Context()) {
				t.Fatalf("%s: %d cuts are held after the release", name, n)
			}
		}
	}
	// The tail lets go: what it still holds is all there is, which the lake checks at its end.
	res, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id}, query.Options{})
	l.must(err)
	s.tail.Reset(0, s.end)
	got, _, err := rows(t.Context(), res, err)
	l.must(err)
	if len(got) != 404 {
		t.Errorf("%d rows of a scan whose tail went: its cut keeps them", len(got))
	}
}
