package commit

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
)

// sweep removes every file under a table's folders that no snapshot names, as compaction does with strays of age.
func (l *lake) sweep(id catalog.Identifier) (gone int) {
	l.Helper()
	ctx := context.Background()
	meta := l.meta(id)
	keep := map[string]bool{}
	for _, s := range meta.Snapshots() {
		keep[s.ManifestList] = true
		ms, err := l.reader.Manifests(ctx, &s)
		l.must(err)
		for _, m := range ms {
			keep[m.FilePath()] = true
		}
		files, err := l.reader.Files(ctx, &s, nil)
		l.must(err)
		for _, f := range files {
			keep[f.FilePath()] = true
		}
	}
	prefix, err := l.wh.Key(meta.Location())
	l.must(err)
	var keys []string
	l.must(l.wh.List(ctx, prefix, func(i objstore.Info) error {
		location := l.wh.URI + "/" + i.Key
		if !keep[location] && (strings.HasSuffix(i.Key, ".parquet") || strings.HasSuffix(i.Key, ".avro")) {
			keys = append(keys, i.Key)
		}
		return nil
	}))
	l.must(l.wh.Delete(ctx, keys...))
	return len(keys)
}

// TestFilesOfALongCommitAreStoredAgain: a writer that could not reach the catalog for a day commits, and what it commits
// is there, although a sweep has taken the files that it had stored before.
func TestFilesOfALongCommitAreStoredAgain(t *testing.T) {
	for what, first := range map[string]fault{"refused": refused, "lost before": lostBefore, "lost after": lostAfter, "delayed": delayed} {
		for _, noTx := range []bool{false, true} {
			l := newLake(t, "hour(meta.at)")
			f := &flaky{Catalog: l.cat, noTx: noTx}
			c := l.committer(f)
			l.recover(c)
			l.commit(c, rng(0, 0, 5))
			b := l.batchOf(mixed, rng(0, 5, 60))
			defer release(b)
			away := true
			f.loadsUnless(&away)
			n := 0
			f.next = func() fault {
				if n++; n == 1 {
					return first
				}
				return refused
			}
			if noTx {
				away = false // the fence is looked at before the first commit
			}
			_, err := c.Commit(t.Context(), b)
			if err == nil && first != lostAfter {
				t.Fatalf("%s: committed", what)
			}
			away = true
			l.now = l.now.Add(time.Minute)
			if err != nil {
				stored := c.try.stored
				if _, err := c.Commit(t.Context(), b); err == nil || !c.try.stored.Equal(stored) {
					t.Fatalf("%s: stored again after a minute, or committed: %v", what, err)
				}
			}
			l.now = l.now.Add(30 * time.Hour)
			if gone := l.sweep(l.rows) + l.sweep(l.dead); gone == 0 && first != lostAfter {
				t.Fatalf("%s: the sweep found nothing", what)
			}
			away, f.next = false, nil
			if first == delayed {
				n = 0
				f.next = func() fault {
					if n++; n == 1 {
						return lostBefore
					}
					return works
				}
			}
			if err != nil {
				_, err = c.Commit(t.Context(), b)
				l.must(err)
			}
			f.next = nil
			f.deliver()
			v := offset.Vector{0: 60}
			kind := func(_ int32, o int64) byte {
				if o < 5 {
					return 'r'
				}
				return mixed(0, o)
			}
			l.wantRows(l.rows, v, is(kind, 'r'))
			l.wantRows(l.dead, v, is(kind, 'd'))
			l.commit(c, rng(0, 60, 70))
			l.wantRows(l.rows, offset.Vector{0: 70}, func(p int32, o int64) bool { return o >= 60 || kind(p, o) == 'r' })
			if st := l.recover(l.committer(l.cat)); !st.Offsets.Equal(offset.Vector{0: 70}) {
				t.Errorf("%s: recovered %+v", what, st)
			}
		}
	}
	if _, err := New(Config{Pipeline: "p", StoreAgainAfter: -1, Table: catalog.Identifier{"a", "b"}, DeadTable: catalog.Identifier{"a", "c"},
		Topic: func(context.Context) (engine.Topic, error) { return engine.Topic{}, nil }}, nil, nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "stored again") {
		t.Errorf("a negative age: %v", err)
	}
}
