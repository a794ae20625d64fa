package catalogtest

import (
	"errors"
	"sync"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

func (x *suite) transaction() {
	a, b := x.create("a"), x.create("b")
	err := x.c.CommitTransaction(x.Context(), []catalog.TableCommit{Append(a, 1, nil), Append(b, 2, nil)})
	if !x.f.Transactions {
		x.is(err, catalog.ErrUnsupported)
		return
	}
	x.ok(err)
	x.wantHead(x.load(a, catalog.LoadAll).Metadata, 1)
	x.wantHead(x.load(b, catalog.LoadAll).Metadata, 2)
	x.is(x.c.CommitTransaction(x.Context(), nil), catalog.ErrInvalid)
	again := Append(x.load(a, catalog.LoadRefs), 3, nil)
	x.is(x.c.CommitTransaction(x.Context(), []catalog.TableCommit{again, again}), catalog.ErrInvalid)
}

// transactionAtomic: whichever part fails, and however, no part takes effect.
func (x *suite) transactionAtomic() {
	if !x.f.Transactions {
		x.Skip("the catalog commits one table at a time")
	}
	a, b := x.append(x.create("a"), 1), x.append(x.create("b"), 2)
	stale := Append(b, 4, nil)
	x.append(b, 3)
	missing := Append(b, 5, nil)
	missing.Identifier = x.id("missing")
	invalid := Append(x.load(b, catalog.LoadRefs), 6, nil)
	invalid.Updates = append(invalid.Updates, table.NewSetSnapshotRefUpdate("x", 404, table.TagRef, 0, 0, 0))
	taken := Append(x.load(b, catalog.LoadRefs), 3, nil) // refused by the database at the earliest
	for _, bad := range []struct {
		name   string
		commit catalog.TableCommit
		want   error
	}{
		{"stale", stale, catalog.ErrConflict},
		{"missing", missing, catalog.ErrNoSuchTable},
		{"invalid", invalid, catalog.ErrInvalid},
		{"snapshot id taken", taken, catalog.ErrInvalid},
	} {
		good := Append(a, 10, nil)
		for _, commits := range [][]catalog.TableCommit{{good, bad.commit}, {bad.commit, good}} {
			if err := x.c.CommitTransaction(x.Context(), commits); !errors.Is(err, bad.want) {
				x.Errorf("%s: %v", bad.name, err)
			}
			got := x.load(a, catalog.LoadAll)
			x.wantHead(got.Metadata, 1)
			x.wantSnapshots(got.Metadata, 1)
			x.wantSnapshots(x.load(b, catalog.LoadAll).Metadata, 2, 3)
		}
	}
	x.ok(x.c.CommitTransaction(x.Context(), []catalog.TableCommit{Append(x.load(b, catalog.LoadRefs), 11, nil), Append(a, 10, nil)}))
}

// transactionIsolated moves two tables together from many sides, in both orders. They always hold the same
// snapshots, and nobody waits for ever.
func (x *suite) transactionIsolated() {
	if !x.f.Transactions {
		x.Skip("the catalog commits one table at a time")
	}
	a, b := x.create("a"), x.create("b")
	const writers, each = 4, 6
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; i < each; {
				ta, err := x.c.LoadTable(x.Context(), a.Identifier, catalog.LoadRefs)
				if err != nil {
					x.Error(err)
					return
				}
				tb, err := x.c.LoadTable(x.Context(), b.Identifier, catalog.LoadRefs)
				if err != nil {
					x.Error(err)
					return
				}
				id := int64(w*each + i + 1)
				commits := []catalog.TableCommit{Append(ta, id, nil), Append(tb, id, nil)}
				if w%2 == 1 {
					commits[0], commits[1] = commits[1], commits[0]
				}
				switch err := x.c.CommitTransaction(x.Context(), commits); {
				case err == nil:
					i++
				case !errors.Is(err, catalog.ErrConflict):
					x.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	ids := snapshotIDs(x.load(a, catalog.LoadAll).Metadata)
	if len(ids) != writers*each {
		x.Errorf("%d snapshots, want %d", len(ids), writers*each)
	}
	x.wantSnapshots(x.load(b, catalog.LoadAll).Metadata, ids...)
}
