package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/firnlake/firn/catalog"
)

// grouped opens a database with a table of numbers, and runs the writes at one time: they gather while the turn is taken.
// It returns their errors, the numbers that are there afterwards, and how many statements it took.
func grouped(t *testing.T, writes ...func(*tx) error) (errs []error, rows string, statements int64) {
	t.Helper()
	s, err := openSQLite(t.Context(), "sqlite://"+filepath.ToSlash(filepath.Join(t.TempDir(), "g.db")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.write(t.Context(), "make", func(t *tx) error {
		_, err := t.exec("CREATE TABLE n (v INTEGER PRIMARY KEY, of INTEGER REFERENCES n (v) DEFERRABLE INITIALLY DEFERRED)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := <-s.turn
	before := s.Statements()
	errs = make([]error, len(writes))
	var wg sync.WaitGroup
	for i, fn := range writes {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("panic: %v", r)
				}
			}()
			errs[i] = s.write(ctx, "write", fn)
		})
		for waits := 0; waits <= i; runtime.Gosched() { // in the order of writes
			s.queue.mu.Lock()
			waits = len(s.queue.waiting)
			s.queue.mu.Unlock()
		}
	}
	s.turn <- c
	wg.Wait()
	statements = s.Statements() - before
	err = s.read(t.Context(), "read", func(t *tx) error {
		return t.row("SELECT coalesce(group_concat(v, ' '), '') FROM (SELECT v FROM n ORDER BY v)", nil, &rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.write(t.Context(), "after", func(t *tx) error { _, err := t.exec("INSERT INTO n (v) VALUES (99)"); return err }); err != nil {
		t.Errorf("the next write: %v", err)
	}
	return errs, rows, statements
}

func insert(v int) func(*tx) error {
	return func(t *tx) error { _, err := t.exec("INSERT INTO n (v) VALUES (?)", v); return err }
}

func TestWritesThatWaitShareATransaction(t *testing.T) {
	var many []func(*tx) error
	for i := range 10 {
		many = append(many, insert(i))
	}
	errs, rows, statements := grouped(t, many...)
	if err := errors.Join(errs...); err != nil || rows != "0 1 2 3 4 5 6 7 8 9" || statements != 2+3*10 {
		t.Errorf("%v, rows %q, %d statements", err, rows, statements)
	}
	for i := 10; i < maxGroup+5; i++ {
		many = append(many, insert(i+1000))
	}
	errs, _, statements = grouped(t, many...)
	if err := errors.Join(errs...); err != nil || statements != 2*2+3*(maxGroup+5) {
		t.Errorf("more than a group: %v, %d statements", err, statements)
	}
}

// TestAWriteOfAGroupFailsAlone: what is refused leaves nothing, and takes nobody with it; one after another sees what is before it.
func TestAWriteOfAGroupFailsAlone(t *testing.T) {
	boom := errors.New("no")
	errs, rows, _ := grouped(t, insert(1), func(t *tx) error { return errors.Join(insert(2)(t), boom) }, insert(1), insert(3))
	if errs[0] != nil || !errors.Is(errs[1], boom) || errs[2] == nil || errs[3] != nil || rows != "1 3" {
		t.Errorf("%v, rows %q", errs, rows)
	}
	errs, rows, _ = grouped(t, func(*tx) error { return boom }, func(*tx) error { return boom })
	if !errors.Is(errs[0], boom) || !errors.Is(errs[1], boom) || rows != "" {
		t.Errorf("all are refused: %v, rows %q", errs, rows)
	}
}

// TestAGroupThatCannotGoOnKeepsNothing: each of its writes is told so, in words that let it try again.
func TestAGroupThatCannotGoOnKeepsNothing(t *testing.T) {
	boom := errors.New("no")
	for name, c := range map[string]struct {
		fn   func(*tx) error
		want string
	}{
		"sqlite rolls back":              {func(t *tx) error { _, err := t.exec("ROLLBACK"); return err }, "no such savepoint"},
		"sqlite rolls back and it fails": {func(t *tx) error { _, err := t.exec("ROLLBACK"); return errors.Join(err, boom) }, "no"},
		"the commit fails":               {func(t *tx) error { _, err := t.exec("INSERT INTO n VALUES (5, 6)"); return err }, "FOREIGN KEY"},
		"a panic":                        {func(*tx) error { panic("here") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			errs, rows, _ := grouped(t, insert(1), insert(1), c.fn, insert(3))
			if rows != "" {
				t.Errorf("rows %q are there", rows)
			}
			for i, err := range errs {
				if err == nil || i == 2 && !strings.Contains(err.Error(), c.want) || errors.Is(err, catalog.ErrUnknownOutcome) {
					t.Errorf("write %d: %v", i, err)
				}
			}
			if i := 3; name != "the commit fails" && name != "a panic" && !errors.Is(errs[i], catalog.ErrUnavailable) {
				t.Errorf("write %d: %v", i, errs[i])
			}
			if name == "the commit fails" && !errors.Is(errs[1], catalog.ErrUnavailable) {
				t.Errorf("it was refused for what is not there: %v", errs[1])
			}
		})
	}
}

func TestAWriteThatNobodyWaitsForIsNotRun(t *testing.T) {
	s, err := openSQLite(t.Context(), "sqlite://"+filepath.ToSlash(filepath.Join(t.TempDir(), "g.db")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := <-s.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.write(ctx, "write", func(*tx) error { t.Error("it was run"); return nil }); !errors.Is(err, catalog.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.turn <- c
	if len(s.queue.waiting) != 0 {
		t.Error("it waits on")
	}
}
