package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// fault is what happens to one request to commit.
type fault int

const (
	works       fault = iota
	refused           // unavailable, before the effect
	spurious          // a conflict although every requirement held
	lostBefore        // no answer, and no effect
	lostAfter         // no answer, after the effect
	brokenAfter       // an error that nobody has heard of, after the effect
	cutAfter          // the caller's context ends, after the effect
	twice             // the request arrives twice and the second answer comes back
	delayed           // no answer; the request arrives later
	faults
)

func (f fault) String() string {
	return [...]string{"works", "refused", "spurious conflict", "lost before", "lost after", "broken after", "cut after", "twice", "delayed"}[f]
}

// flaky is a catalog whose commits go wrong as told. Requests that are delayed wait in late.
type flaky struct {
	catalog.Catalog
	next  func() fault // of each commit; nil: works
	loads func() error // of each load; nil: works
	noTx  bool
	late  []func()
	cut   context.CancelFunc
}

// loadsUnless has loads fail while away says so.
func (f *flaky) loadsUnless(away *bool) {
	f.loads = func() error {
		if *away {
			return catalog.ErrUnavailable
		}
		return nil
	}
}

// ListHistory implements catalog.HistoryKeeper if the catalog does.
func (f *flaky) ListHistory(ctx context.Context, id catalog.Identifier, r catalog.HistoryRange) ([]catalog.HistoryEntry, error) {
	h, ok := f.Catalog.(catalog.HistoryKeeper)
	if !ok {
		return nil, catalog.ErrUnsupported
	}
	return h.ListHistory(ctx, id, r)
}

// PruneHistory implements catalog.HistoryKeeper; nothing here prunes.
func (f *flaky) PruneHistory(context.Context, catalog.Identifier, time.Time, bool) (int64, error) {
	return 0, catalog.ErrUnsupported
}

// HistoryAt implements catalog.Historian if the catalog does.
func (f *flaky) HistoryAt(ctx context.Context, id catalog.Identifier, at time.Time) (catalog.HistoryEntry, error) {
	h, ok := f.Catalog.(catalog.Historian)
	if !ok {
		return catalog.HistoryEntry{}, catalog.ErrUnsupported
	}
	return h.HistoryAt(ctx, id, at)
}

func (f *flaky) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	if f.loads != nil {
		if err := f.loads(); err != nil {
			return nil, err
		}
	}
	return f.Catalog.LoadTable(ctx, id, how)
}

func (f *flaky) CommitTable(ctx context.Context, c catalog.TableCommit) (t *catalog.Table, err error) {
	err = f.do(func() error {
		t, err = f.Catalog.CommitTable(context.WithoutCancel(ctx), c)
		return err
	})
	return t, err
}

func (f *flaky) CommitTransaction(ctx context.Context, cs []catalog.TableCommit) error {
	if f.noTx {
		return fmt.Errorf("commit transaction: %w", catalog.ErrUnsupported)
	}
	return f.do(func() error { return f.Catalog.CommitTransaction(context.WithoutCancel(ctx), cs) })
}

func (f *flaky) do(commit func() error) error {
	what := works
	if f.next != nil {
		what = f.next()
	}
	lost := fmt.Errorf("commit table: %w: the connection was cut", catalog.ErrUnknownOutcome)
	switch what {
	case refused:
		return fmt.Errorf("commit table: %w", catalog.ErrUnavailable)
	case spurious:
		return fmt.Errorf("commit table: %w", catalog.ErrConflict)
	case lostBefore:
		return lost
	case lostAfter:
		_ = commit()
		return lost
	case brokenAfter:
		_ = commit()
		return errors.New("something is odd")
	case cutAfter:
		_ = commit()
		if f.cut != nil {
			f.cut()
		}
		return context.Canceled
	case twice:
		_ = commit()
		return commit()
	case delayed:
		f.late = append(f.late, func() { _ = commit() })
		return lost
	}
	return commit()
}

// deliver lets the delayed requests arrive.
func (f *flaky) deliver() {
	for _, late := range f.late {
		late()
	}
	f.late = nil
}

// only gives the fault once, for commit number n (from 0).
func only(n int, what fault) func() fault {
	i := -1
	return func() fault {
		if i++; i == n {
			return what
		}
		return works
	}
}

func TestClassify(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("commit table ns.t: %w: HTTP 500", err) }
	for _, c := range []struct {
		err  error
		want outcome
	}{
		{nil, committed},
		{wrap(catalog.ErrConflict), conflict},
		{wrap(catalog.ErrUnknownOutcome), unknown},
		{wrap(catalog.ErrUnavailable), unavailable},
		{wrap(catalog.ErrNoSuchTable), gone},
		{wrap(catalog.ErrNoSuchNamespace), gone},
		{wrap(catalog.ErrInvalid), fatal},
		{wrap(catalog.ErrDenied), fatal},
		{wrap(catalog.ErrUnsupported), fatal},
		{wrap(catalog.ErrExists), fatal},
		{wrap(engine.ErrFenced), fenced},
		{wrap(engine.ErrRewound), fenced},
		{wrap(engine.ErrNeedsDecision), fenced},
		{context.Canceled, unknown},
		{wrap(context.DeadlineExceeded), unknown},
		{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, unknown},
		{errors.New("anything else"), unknown},
		// An unknown outcome stays unknown whatever else is known of it.
		{fmt.Errorf("%w: %w", catalog.ErrUnknownOutcome, catalog.ErrConflict), unknown},
		{fmt.Errorf("%w: %w", catalog.ErrUnavailable, context.Canceled), unavailable},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
	for o := committed; o <= fatal; o++ {
		if o.String() == "" {
			t.Errorf("outcome %d has no name", o)
		}
	}
}

// TestFaults: whatever happens to a request, the batch is in the table once, by retries of the same batch.
func TestFaults(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	for _, tx := range []bool{true, false} {
		for what := works; what < faults; what++ {
			for n := range 4 {
				t.Run(fmt.Sprintf("%s/request%d/tx=%t", what, n, tx), func(t *testing.T) {
					l := lakeIn(t, cat, wh)
					f := &flaky{Catalog: l.cat, noTx: !tx}
					c := l.committer(f)
					l.recover(c)
					kind := func(_ int32, o int64) byte {
						if o%4 == 3 {
							return 'd'
						}
						return 'r'
					}
					f.next = only(n, what)
					for i := range int64(3) {
						b := l.batchOf(kind, rng(0, i*5, i*5+5))
						l.untilCommitted(c, f, b)
						release(b)
						if i == 1 {
							f.deliver()
						}
					}
					f.deliver()
					v := offset.Vector{0: 15}
					if st := l.recover(l.committer(l.cat)); !st.Offsets.Equal(v) || st.Epoch != 0 {
						t.Fatalf("recovered %+v", st)
					}
					l.wantRows(l.rows, v, func(p int32, o int64) bool { return kind(p, o) == 'r' })
					l.wantRows(l.dead, v, func(p int32, o int64) bool { return kind(p, o) == 'd' })
				})
			}
		}
	}
}

// untilCommitted commits as the engine does: the same batch again after each failure; from the table after a fence.
func (l *lake) untilCommitted(c *Committer, f *flaky, b *engine.Batch) {
	l.Helper()
	for range 10 {
		ctx, cancel := context.WithCancel(context.Background())
		f.cut = cancel
		_, err := c.Commit(ctx, b)
		cancel()
		if err == nil {
			return
		}
		if errors.Is(err, engine.ErrFenced) || errors.Is(err, engine.ErrRewound) || errors.Is(err, engine.ErrNeedsDecision) {
			st := l.recover(c)
			next, _ := offset.Vector{}.Advance(b.Ranges)
			if reaches(st.Offsets, next) {
				return // a delayed request of ours came through
			}
		}
	}
	l.Fatal("a batch is not committed after ten tries")
}

// TestFindsOutFirst: a batch whose answer was lost, and which comes again, is not written again.
func TestFindsOutFirst(t *testing.T) {
	l := newLake(t)
	f := &flaky{Catalog: l.cat}
	c := l.committer(f)
	l.recover(c)
	b := l.batchOf(allRows, rng(0, 0, 5))
	defer release(b)
	f.next = only(0, lostAfter)
	down := true
	f.loadsUnless(&down)
	_, err := c.Commit(t.Context(), b)
	isErr(t, err, catalog.ErrUnavailable)
	down = false
	f.next = func() fault { t.Error("the batch was sent again"); return works }
	got, err := c.Commit(t.Context(), b)
	l.must(err)
	if got.SnapshotID != l.meta(l.rows).CurrentSnapshot().SnapshotID || got.Attempts != 1 {
		t.Errorf("committed %+v", got)
	}
	l.wantRows(l.rows, offset.Vector{0: 5}, func(int32, int64) bool { return true })
}

// TestLooksBeforeItAsksAgain: after a conflict the tables are looked at before the batch is sent again, also when they could not
// be for so long that the batch was given up meanwhile.
func TestLooksBeforeItAsksAgain(t *testing.T) {
	l := newLake(t)
	f := &flaky{Catalog: l.cat}
	c := l.committer(f)
	l.recover(c)
	l.commit(c, rng(0, 0, 5))
	b := l.batchOf(allRows, rng(0, 5, 8))
	defer release(b)
	down := false
	f.next = func() fault {
		l.rewrite(l.rows, true)
		down = true
		return works
	}
	f.loadsUnless(&down)
	_, err := c.Commit(t.Context(), b)
	isErr(t, err, catalog.ErrUnavailable)
	f.next = func() fault { t.Error("sent again, and the table was not looked at"); return works }
	_, err = c.Commit(t.Context(), b)
	isErr(t, err, catalog.ErrUnavailable)
	f.next, down = nil, false
	got, err := c.Commit(t.Context(), b)
	l.must(err)
	if got.Attempts != 2 {
		t.Errorf("%d attempts: the second was to be the last", got.Attempts)
	}
	l.wantRows(l.rows, offset.Vector{0: 8}, func(int32, int64) bool { return true })
}

// TestCrowded: foreign commits between every load and every commit cost attempts, and files are written once.
func TestCrowded(t *testing.T) {
	l := newLake(t)
	f := &flaky{Catalog: l.cat}
	c := l.committer(f)
	l.recover(c)
	l.commit(c, rng(0, 0, 5))
	left := 12
	f.next = func() fault {
		if left--; left > 0 {
			l.rewrite(l.rows, left%2 == 0)
		}
		return works
	}
	before := l.count("data/")
	got := l.commit(c, rng(0, 5, 8))
	if got.Attempts != 12 || l.count("data/") != before+1 {
		t.Errorf("%d attempts, %d data files written", got.Attempts, l.count("data/")-before)
	}
	left = maxAttempts + 100
	b := l.batchOf(allRows, rng(0, 8, 9))
	defer release(b)
	_, err := c.Commit(t.Context(), b)
	isErr(t, err, catalog.ErrConflict)
	left = 0
	got, err = c.Commit(t.Context(), b)
	l.must(err)
	if !got.Offsets.Equal(offset.Vector{0: 9}) || l.count("data/") != before+2 {
		t.Errorf("committed %+v with %d data files", got, l.count("data/"))
	}
	l.wantRows(l.rows, offset.Vector{0: 9}, func(int32, int64) bool { return true })
}

// count counts the objects of the warehouse with part in their key.
func (l *lake) count(part string) (n int) {
	l.Helper()
	l.must(l.wh.List(context.Background(), "", func(i objstore.Info) error {
		if slices.Contains(splitKey(i.Key), part[:len(part)-1]) {
			n++
		}
		return nil
	}))
	return n
}

func splitKey(key string) (out []string) {
	for from, i := 0, 0; i <= len(key); i++ {
		if i == len(key) || key[i] == '/' {
			out = append(out, key[from:i])
			from = i + 1
		}
	}
	return out
}

// badStore is a store whose writes fail.
type badStore struct {
	*objstore.Memory
	err   error
	after atomic.Int64 // writes that still work
	keep  bool
}

func (s *badStore) Put(ctx context.Context, key string, body io.ReadSeeker, mode objstore.PutMode) (objstore.Info, error) {
	if s.err == nil {
		return s.Memory.Put(ctx, key, body, mode)
	}
	if s.after.Add(-1) >= 0 {
		return s.Memory.Put(ctx, key, body, mode)
	}
	if s.keep {
		if _, err := s.Memory.Put(ctx, key, body, mode); err != nil {
			return objstore.Info{}, err
		}
	}
	return objstore.Info{}, fmt.Errorf("put %s: %w", key, s.err)
}

// TestStorageTrouble: the error says what is wrong with the storage, and the same batch goes through once it is not.
func TestStorageTrouble(t *testing.T) {
	for _, trouble := range []error{objstore.ErrFull, objstore.ErrAccessDenied, objstore.ErrNoBucket, objstore.ErrUnavailable, objstore.ErrUnknownResult} {
		for after := range 4 {
			t.Run(fmt.Sprintf("%v/%d", trouble, after), func(t *testing.T) {
				store := &badStore{Memory: objstore.NewMemory()}
				wh := &objstore.Warehouse{Store: store, URI: "mem://lake"}
				l := lakeIn(t, openCatalog(t, wh), wh, "hour(meta.at)")
				c := l.committer(l.cat)
				l.recover(c)
				store.err, store.keep = trouble, errors.Is(trouble, objstore.ErrUnknownResult)
				store.after.Store(int64(after))
				b := l.batchOf(allRows, rng(0, 0, 15)) // two hours, two files, a manifest and a list
				defer release(b)
				_, err := c.Commit(t.Context(), b)
				isErr(t, err, trouble)
				store.err = nil
				_, err = c.Commit(t.Context(), b)
				l.must(err)
				l.wantRows(l.rows, offset.Vector{0: 15}, func(int32, int64) bool { return true })
			})
		}
	}
}
