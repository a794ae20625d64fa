package catalogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
)

func (x *suite) createAndLoad() {
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "at_day", Transform: iceberg.DayTransform{}})
	made, err := x.c.CreateTable(x.Context(), x.id("t"), catalog.CreateTable{Schema: Schema(), Partition: &spec, Properties: map[string]string{"owner": "suite"}})
	x.ok(err)
	for _, how := range []catalog.Load{catalog.LoadAll, catalog.LoadRefs} {
		got := x.load(made, how)
		m := got.Metadata
		if m.TableUUID() != made.Metadata.TableUUID() || m.Location() != made.Metadata.Location() {
			x.Errorf("created %s at %s, loaded %s at %s", made.Metadata.TableUUID(), made.Metadata.Location(), m.TableUUID(), m.Location())
		}
		if !m.CurrentSchema().Equals(Schema()) {
			x.Errorf("schema %s", m.CurrentSchema())
		}
		ps := m.PartitionSpec()
		if ps.NumFields() != 1 || ps.Field(0).Name != "at_day" || ps.Field(0).Transform.String() != "day" {
			x.Errorf("partition spec %s", ps)
		}
		if m.Properties()["owner"] != "suite" || m.Version() != 2 || m.CurrentSnapshot() != nil || len(m.Snapshots()) != 0 {
			x.Errorf("properties %v, format %d, snapshots %v", m.Properties(), m.Version(), m.Snapshots())
		}
		if x.f.Versions && got.Version != made.Version {
			x.Errorf("version %d, created %d", got.Version, made.Version)
		}
	}
	v3, err := x.c.CreateTable(x.Context(), x.id("v3"), catalog.CreateTable{Schema: Schema(), Properties: map[string]string{"format-version": "3"}})
	x.ok(err)
	if v := x.load(v3, catalog.LoadAll).Metadata.Version(); v != 3 {
		x.Errorf("format version %d, asked for 3", v)
	}
	x.wantHead(x.append(v3, 7).Metadata, 7)
}

func (x *suite) createRefused() {
	x.create("t")
	_, err := x.c.CreateTable(x.Context(), x.id("t"), catalog.CreateTable{Schema: Schema()})
	x.is(err, catalog.ErrExists)
	_, err = x.c.CreateTable(x.Context(), x.id("nothing"), catalog.CreateTable{})
	x.is(err, catalog.ErrInvalid)
	for _, loc := range []string{"file:///etc", "s3://someone-elses/bucket", "relative/path", "http://127.0.0.1/x"} {
		_, err := x.c.CreateTable(x.Context(), x.id("elsewhere"), catalog.CreateTable{Schema: Schema(), Location: loc})
		x.is(err, catalog.ErrInvalid)
	}
	tables, err := x.c.ListTables(x.Context(), x.ns)
	x.ok(err)
	if len(tables) != 1 {
		x.Errorf("tables %v after refused creations", tables)
	}
}

func (x *suite) drop() {
	first := x.append(x.create("t"), 1)
	x.ok(x.c.DropTable(x.Context(), first.Identifier, false))
	x.is(x.c.DropTable(x.Context(), first.Identifier, false), catalog.ErrNoSuchTable)
	_, err := x.c.LoadTable(x.Context(), first.Identifier, catalog.LoadAll)
	x.is(err, catalog.ErrNoSuchTable)
	second := x.create("t")
	if second.Metadata.TableUUID() == first.Metadata.TableUUID() || second.Metadata.Location() == first.Metadata.Location() {
		x.Errorf("the table made again shares %s, %s with the one dropped", second.Metadata.TableUUID(), second.Metadata.Location())
	}
	// A writer of the old table does not write into the new one.
	_, err = x.commit(first, nil, table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"}))
	x.is(err, catalog.ErrConflict)
	x.ok(x.c.DropTable(x.Context(), second.Identifier, true))
}

func (x *suite) unknownTables() {
	ctx, t := x.Context(), x.create("t")
	for _, id := range []catalog.Identifier{x.id("other"), {"nowhere", "t"}} {
		_, err := x.c.LoadTable(ctx, id, catalog.LoadRefs)
		x.is(err, catalog.ErrNoSuchTable)
		_, err = x.c.LoadTable(ctx, id, catalog.LoadAll)
		x.is(err, catalog.ErrNoSuchTable)
		c := Append(t, 1, nil)
		c.Identifier = id
		_, err = x.c.CommitTable(ctx, c)
		x.is(err, catalog.ErrNoSuchTable)
		x.is(x.c.DropTable(ctx, id, true), catalog.ErrNoSuchTable)
	}
	_, err := x.c.LoadTable(ctx, catalog.Identifier{"t"}, catalog.LoadAll)
	x.is(err, catalog.ErrInvalid)
}

func (x *suite) appends() {
	t := x.create("t")
	want := []int64{}
	for i := int64(1); i <= 50; i++ {
		before := t.Version
		t = x.append(t, i*1_000_000_007)
		want = append(want, i*1_000_000_007)
		x.wantHead(t.Metadata, i*1_000_000_007)
		if x.f.Versions && t.Version <= before {
			x.Fatalf("version %d after %d", t.Version, before)
		}
	}
	got := x.load(t, catalog.LoadAll)
	x.wantSnapshots(got.Metadata, want...)
	if log := logIDs(got.Metadata); !slices.Equal(log, want) {
		x.Errorf("snapshot log %v", log)
	}
	if n := got.Metadata.LastSequenceNumber(); n != 50 {
		x.Errorf("last sequence number %d", n)
	}
	for i, s := range got.Metadata.Snapshots() {
		if i > 0 && (s.ParentSnapshotID == nil || *s.ParentSnapshotID != want[i-1]) {
			x.Errorf("parent of snapshot %d is %v", s.SnapshotID, deref(s.ParentSnapshotID))
		}
		if s.Summary == nil || s.Summary.Operation != table.OpAppend || s.Summary.Properties["added-records"] != "1" {
			x.Errorf("summary %v", s.Summary)
		}
	}
}

func (x *suite) lean() {
	t := x.create("t")
	const n = 60 // more than the server prunes by
	for i := int64(1); i <= n; i++ {
		t = x.append(t, i)
	}
	_, err := x.commit(t, nil, table.NewSetSnapshotRefUpdate("keep", 5, table.TagRef, 0, 0, 0))
	x.ok(err)
	full := x.load(t, catalog.LoadAll)
	if got := len(full.Metadata.Snapshots()); got != n {
		x.Errorf("%d snapshots in the full answer, want %d", got, n)
	}
	refs := x.load(t, catalog.LoadRefs)
	if x.f.Lean {
		x.wantSnapshots(refs.Metadata, 5, n)
	}
	if full.Version != refs.Version {
		x.Errorf("versions %d and %d of one table", full.Version, refs.Version)
	}
	for _, m := range []table.Metadata{full.Metadata, refs.Metadata} {
		x.wantHead(m, n)
		if tag := ref(m, "keep"); tag == nil || *tag != 5 || m.SnapshotByID(5) == nil {
			x.Errorf("tag at %v", deref(tag))
		}
	}
	// A commit on the lean answer is as good as one on the full one.
	x.wantHead(x.append(refs, n+1).Metadata, n+1)
	if got := len(x.load(t, catalog.LoadAll).Metadata.Snapshots()); got != n+1 {
		x.Errorf("%d snapshots after a commit on the lean answer, want %d", got, n+1)
	}
}

func (x *suite) history() {
	h, ok := x.c.(catalog.Historian)
	t := x.create("t")
	if !x.f.History {
		if ok {
			_, err := h.HistoryAt(x.Context(), t.Identifier, time.Now())
			x.is(err, catalog.ErrUnsupported)
		}
		return
	}
	if !ok {
		x.Fatal("the catalog has history and does not implement catalog.Historian")
	}
	start := time.Now()
	_, err := h.HistoryAt(x.Context(), t.Identifier, start)
	x.is(err, catalog.ErrNoHistory)
	var at []time.Time
	for i := int64(1); i <= 3; i++ {
		got, err := x.c.CommitTable(x.Context(), Append(t, i, map[string]string{"firn.offsets": strings.Repeat("o", int(i))}))
		x.ok(err)
		t = got
		time.Sleep(5 * time.Millisecond)
		at = append(at, time.Now())
		time.Sleep(5 * time.Millisecond)
	}
	// A commit without a new head leaves no row, an expired snapshot leaves its row.
	_, err = x.commit(t, nil, table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"}), table.NewRemoveSnapshotsUpdate([]int64{1}, false))
	x.ok(err)
	var last int64
	for i, when := range at {
		e, err := h.HistoryAt(x.Context(), t.Identifier, when)
		x.ok(err)
		if e.SnapshotID != int64(i+1) || e.Offsets != strings.Repeat("o", i+1) || e.At.After(when) || e.At.Before(start.Add(-time.Millisecond)) || e.Version <= last {
			x.Errorf("at %s: %+v, want snapshot %d", when, e, i+1)
		}
		last = e.Version
	}
	e, err := h.HistoryAt(x.Context(), t.Identifier, time.Now().Add(time.Hour))
	x.ok(err)
	if e.SnapshotID != 3 {
		x.Errorf("the newest is %+v", e)
	}
	_, err = h.HistoryAt(x.Context(), t.Identifier, start.Add(-time.Hour))
	x.is(err, catalog.ErrNoHistory)
	_, err = h.HistoryAt(x.Context(), x.id("none"), time.Now())
	x.is(err, catalog.ErrNoSuchTable)
	x.historyList(t, at)
}

// historyList holds the listing of a history of three commits, after each of which at has a time.
func (x *suite) historyList(t *catalog.Table, at []time.Time) {
	if !x.f.Kept {
		return
	}
	h, ok := x.c.(catalog.HistoryKeeper)
	if !ok {
		x.Fatal("the catalog does not implement catalog.HistoryKeeper")
	}
	for _, c := range []struct {
		r    catalog.HistoryRange
		want string
	}{
		{catalog.HistoryRange{}, "[3 2 1]"},
		{catalog.HistoryRange{Limit: 2}, "[3 2]"},
		{catalog.HistoryRange{Since: at[0]}, "[3 2]"},
		{catalog.HistoryRange{Until: at[1]}, "[2 1]"},
		{catalog.HistoryRange{Since: at[0], Until: at[1]}, "[2]"},
		{catalog.HistoryRange{Since: at[2]}, "[]"},
	} {
		got, err := h.ListHistory(x.Context(), t.Identifier, c.r)
		x.ok(err)
		ids := []int64{}
		for _, e := range got {
			ids = append(ids, e.SnapshotID)
			if one, err := h.HistoryAt(x.Context(), t.Identifier, e.At); err != nil || one != e {
				x.Errorf("listed as %+v, at its time it is %+v, %v", e, one, err)
			}
		}
		if fmt.Sprint(ids) != c.want {
			x.Errorf("%+v lists %v, want %s", c.r, ids, c.want)
		}
	}
	first, err := h.ListHistory(x.Context(), t.Identifier, catalog.HistoryRange{Limit: 2})
	x.ok(err)
	next, err := h.ListHistory(x.Context(), t.Identifier, catalog.HistoryRange{Before: first[1].Version, Limit: 2})
	x.ok(err)
	if len(next) != 1 || next[0].SnapshotID != 1 {
		x.Errorf("the second page is %+v", next)
	}
	_, err = h.ListHistory(x.Context(), x.id("none"), catalog.HistoryRange{})
	x.is(err, catalog.ErrNoSuchTable)

	n, err := h.PruneHistory(x.Context(), t.Identifier, time.Now().Add(-2*time.Hour), false)
	x.ok(err)
	if n != 0 {
		x.Errorf("%d entries from two hours ago", n)
	}
	_, err = h.PruneHistory(x.Context(), t.Identifier, time.Now(), true)
	x.is(err, catalog.ErrInvalid) // recovery asks for what is newer than an hour
	_, err = h.PruneHistory(x.Context(), x.id("none"), time.Now().Add(-2*time.Hour), false)
	x.is(err, catalog.ErrNoSuchTable)
}

// cancelled: a caller that has gone before the call changes nothing and is told why.
func (x *suite) cancelled() {
	t := x.create("t")
	ctx, cancel := context.WithCancel(x.Context())
	cancel()
	_, err := x.c.CommitTable(ctx, Append(t, 1, nil))
	if !errors.Is(err, catalog.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		x.Errorf("commit: %v", err)
	}
	if _, err := x.c.LoadTable(ctx, t.Identifier, catalog.LoadAll); !errors.Is(err, context.Canceled) {
		x.Errorf("load: %v", err)
	}
	if got := x.load(t, catalog.LoadAll); Head(got.Metadata) != nil {
		x.Error("a cancelled commit took effect")
	}
}
