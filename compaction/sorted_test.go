package compaction

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// order makes "user descending, then the time" the order of the table and of the files that are written from here on.
func (l *lake) order() {
	l.Helper()
	fields, err := layout.SortFields(eventSchema(), []string{"user desc", "at nulls last"})
	l.ok(err)
	order, err := table.NewSortOrder(1, fields)
	l.ok(err)
	_, err = l.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: tableID,
		Updates: table.Updates{table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(1)}})
	l.ok(err)
	l.sortBy, _ = layout.SortKeys(order, eventSchema())
}

// users are the values of the first key in a file, as its rows come.
func (l *lake) users(f snapshot.File) (out []string) {
	l.Helper()
	k, err := l.wh.Key(f.FilePath())
	l.ok(err)
	r, err := datafile.Open(context.Background(), l.wh, k, datafile.ReadOptions{})
	l.ok(err)
	l.ok(r.Scan(context.Background(), eventSchema(), func(b arrow.RecordBatch) error {
		for i := range int(b.NumRows()) {
			out = append(out, b.Column(0).(*array.String).Value(i))
		}
		return nil
	}))
	l.ok(r.Close())
	return out
}

// TestMergesInOrder: what is made of sorted files is sorted and says so, tier by tier; a file that says an order without having
// it makes its job's output one in no order, and nothing of it is lost.
func TestMergesInOrder(t *testing.T) {
	l := newLake(t)
	l.order()
	c := l.compactor(Config{MinInputFiles: 4}, nil)
	for i := range 16 {
		l.append(700+i%4/3*20_000, "eu") // some of more than a batch
	}
	if l.rounds(c) == 0 {
		t.Fatal("nothing was merged")
	}
	l.sound()
	for _, f := range l.files() {
		us := l.users(f)
		slices.Reverse(us)
		if !slices.IsSorted(us) || *f.SortOrderID() != 1 {
			t.Errorf("%d rows of order %d, sorted: %t", len(us), *f.SortOrderID(), slices.IsSorted(us))
		}
	}

	inOrder := l.sortBy
	other := slices.Clone(inOrder)
	other[0].Desc = false
	for _, keys := range [][]layout.SortKey{inOrder, inOrder, other, inOrder} { // all of them say order 1
		l.sortBy = keys
		l.append(700, "eu")
	}
	if l.rounds(c) == 0 {
		t.Fatal("the file in another order held its job up")
	}
	l.sound()
	if !slices.ContainsFunc(l.files(), func(f snapshot.File) bool { return *f.SortOrderID() == 0 }) {
		t.Error("a file in no order says that it has one")
	}
}

// far is a store whose every answer takes a time; what is said to be broken fails.
type far struct {
	objstore.Store
	trip   time.Duration
	broken string
}

func (f far) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	time.Sleep(f.trip)
	if key == f.broken {
		return nil, objstore.ErrAccessDenied
	}
	return f.Store.Get(ctx, key, limit)
}

// TestInputsOfAMergeAreOpenedTogether: what a store that is far away takes for all inputs is a fraction of what it takes one by
// one; and where one cannot be opened none stays open.
func TestInputsOfAMergeAreOpenedTogether(t *testing.T) {
	const n, trip = 2*maxOpening + 1, 20 * time.Millisecond
	l := newLake(t)
	for range n {
		l.append(10, "eu")
	}
	files := l.files()
	synctest.Test(t, func(t *testing.T) {
		c := &Compactor{wh: &objstore.Warehouse{Store: far{Store: l.wh, trip: trip}, URI: l.wh.URI}}
		began := time.Now()
		readers, err := c.openAll(t.Context(), files, minSortedRows)
		if took := time.Since(began); err != nil || took != 3*trip {
			t.Errorf("%d inputs were opened after %s, want %s: %v", n, took, 3*trip, err)
		}
		for i, r := range readers {
			if r.Rows() != files[i].Count() {
				t.Errorf("reader %d is of another file", i)
			}
			l.ok(r.Close())
		}
		key, err := l.wh.Key(files[n/2].FilePath())
		l.ok(err)
		c.wh = &objstore.Warehouse{Store: far{Store: l.wh, trip: trip, broken: key}, URI: l.wh.URI}
		var bad *fileError
		if readers, err = c.openAll(t.Context(), files, minSortedRows); readers != nil || !errors.Is(err, objstore.ErrAccessDenied) || !errors.As(err, &bad) || bad.location != files[n/2].FilePath() {
			t.Errorf("%d readers, %v", len(readers), err)
		}
	})
}
