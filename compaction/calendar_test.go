package compaction

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

func (l *lake) refs() map[string]int64 {
	l.Helper()
	out := map[string]int64{}
	for name, ref := range l.load().Refs() {
		out[name] = ref.SnapshotID
	}
	return out
}

// expire looks at the snapshots alone.
func (l *lake) expire(c *Compactor) error {
	l.Helper()
	ts, release, err := c.state(l.Context(), tableID)
	l.ok(err)
	defer release()
	ts.reset(l.load().TableUUID())
	return c.expire(l.Context(), ts, &Report{})
}

func (l *lake) update(updates ...table.Update) {
	l.Helper()
	_, err := l.cat.CommitTable(l.Context(), catalog.TableCommit{Identifier: tableID, Updates: updates})
	l.ok(err)
}

// TestCalendarKeepsMarks: what main stood at at the marks stays when it leaves the window, readable under the mark's name,
// until its time is over; the window stays contiguous.
func TestCalendarKeepsMarks(t *testing.T) {
	l := newLake(t)
	l.now = time.Date(2027, 3, 1, 9, 58, 30, 0, time.UTC)
	c := l.compactor(Config{SnapshotWindow: units.Duration(4 * time.Minute), MinSnapshots: 1, SnapshotTags: "5m/1h,1h/7d", MinInputFiles: 500, MaxManifests: 1000}, nil)
	heads := map[time.Time]int64{} // minute → main's head at it
	for range 24 {
		id := l.append(1, "eu")
		l.advance(time.Minute)
		heads[l.clock().Truncate(time.Minute)] = id
		l.once(c)
	}
	for _, mark := range []time.Time{time.Date(2027, 3, 1, 10, 0, 0, 0, time.UTC), time.Date(2027, 3, 1, 10, 5, 0, 0, time.UTC), time.Date(2027, 3, 1, 10, 10, 0, 0, time.UTC)} {
		s := l.load().SnapshotByName(ledger.MarkName(mark))
		if s == nil || s.SnapshotID != heads[mark] {
			t.Fatalf("%s names %v, main stood at %d: %v", ledger.MarkName(mark), s, heads[mark], l.refs())
		}
		if rows := l.rowsOf(s); len(rows) == 0 {
			t.Errorf("%s holds no rows", ledger.MarkName(mark))
		}
	}
	if n := len(l.load().Snapshots()); n > 4+2+5 {
		t.Errorf("%d snapshots are left of 24", n)
	}
	l.advance(2 * time.Hour)
	l.append(1, "eu")
	l.once(c)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(l.refs())) {
		if ledger.IsMark(name) {
			names = append(names, name)
		}
	}
	// The last of the minute's commits was the head for two hours: it has the tag of the last full one.
	if want := []string{"at-20270301T1000Z", "at-20270301T1200Z"}; !slices.Equal(names, want) {
		t.Errorf("after two hours there are %v, want %v", names, want)
	}
	l.sound()
}

// TestPolicyOfATable: its properties come first; one that cannot be read stops its expiry, and says so.
func TestPolicyOfATable(t *testing.T) {
	l := newLake(t)
	c := l.compactor(Config{MinSnapshots: 1}, nil)
	for range 10 {
		l.append(1, "eu")
		l.advance(10 * time.Minute)
	}
	l.update(table.NewSetPropertiesUpdate(iceberg.Properties{propertyWindow: "a while"}))
	if err := l.expire(c); err == nil || !strings.Contains(err.Error(), propertyWindow) || len(l.load().Snapshots()) != 10 {
		t.Errorf("%v, %d snapshots", err, len(l.load().Snapshots()))
	}
	l.update(table.NewSetPropertiesUpdate(iceberg.Properties{propertyWindow: "1d", propertyTags: "5m"}))
	if err := l.expire(c); err == nil || !strings.Contains(err.Error(), propertyTags) || len(l.load().Snapshots()) != 10 {
		t.Errorf("%v, %d snapshots", err, len(l.load().Snapshots()))
	}
	l.update(table.NewSetPropertiesUpdate(iceberg.Properties{propertyTags: "off"}))
	if l.ok(l.expire(c)); len(l.load().Snapshots()) != 10 {
		t.Errorf("%d snapshots within a day", len(l.load().Snapshots()))
	}
	l.update(table.NewSetPropertiesUpdate(iceberg.Properties{propertyWindow: "25m"}))
	if l.ok(l.expire(c)); len(l.load().Snapshots()) != 3 || len(l.refs()) != 2 {
		t.Errorf("%d snapshots of 25 minutes, refs %v", len(l.load().Snapshots()), l.refs())
	}
}

// TestOthersRetentionCounts: main's own retention and the properties that Iceberg has for it, where they ask for more, and
// the retention of a branch of others. What Firn itself writes there is no wish.
func TestOthersRetentionCounts(t *testing.T) {
	keep := func(age time.Duration, least int) func(*lake, []int64) {
		return func(l *lake, ids []int64) {
			l.update(table.NewSetSnapshotRefUpdate(table.MainBranch, ids[9], table.BranchRef, 0, age.Milliseconds(), least))
		}
	}
	for name, c := range map[string]struct {
		prepare func(*lake, []int64)
		left    int
	}{
		"nothing":    {func(*lake, []int64) {}, 2},
		"Firn's own": {keep(snapshot.MainSnapshotAge, snapshot.MainMinSnapshots), 2},
		"an age":     {keep(45*time.Minute, 0), 6},
		"a number":   {keep(0, 7), 7},
		"age as a property": {func(l *lake, _ []int64) {
			l.update(table.NewSetPropertiesUpdate(iceberg.Properties{table.MaxSnapshotAgeMsKey: "2700000"}))
		}, 6},
		"a branch's age": {func(l *lake, ids []int64) {
			l.update(table.NewSetSnapshotRefUpdate("audit", ids[4], table.BranchRef, 0, (75 * time.Minute).Milliseconds(), 0))
		}, 2 + 4},
		"a branch's number": {func(l *lake, ids []int64) {
			l.update(table.NewSetSnapshotRefUpdate("audit", ids[4], table.BranchRef, 0, 0, 4))
		}, 2 + 4},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLake(t)
			var ids []int64
			for range 10 {
				ids = append(ids, l.append(1, "eu"))
				l.advance(10 * time.Minute)
			}
			l.now = l.now.Add(-9 * time.Minute)
			c.prepare(l, ids)
			l.ok(l.expire(l.compactor(Config{MinSnapshots: 1, SnapshotTags: "off", SnapshotWindow: units.Duration(10 * time.Minute)}, nil)))
			if got := len(l.load().Snapshots()); got != c.left {
				t.Errorf("%d snapshots are left, want %d", got, c.left)
			}
		})
	}
}
