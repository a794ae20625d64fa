package catalogtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
)

// requirements checks each kind, met and not met.
func (x *suite) requirements() {
	t := x.append(x.create("t"), 1)
	m := t.Metadata
	field, spec := m.LastColumnID(), *m.LastPartitionSpecID()
	for _, r := range []struct {
		name     string
		met, not table.Requirement
	}{
		{"assert-table-uuid", table.AssertTableUUID(m.TableUUID()), table.AssertTableUUID(uuid.New())},
		{"assert-ref-snapshot-id", table.AssertRefSnapshotID("main", ptr(int64(1))), table.AssertRefSnapshotID("main", ptr(int64(2)))},
		{"assert-ref-snapshot-id, no such ref", table.AssertRefSnapshotID("none", nil), table.AssertRefSnapshotID("main", nil)},
		{"assert-ref-snapshot-id, ref is gone", table.AssertRefSnapshotID("none", nil), table.AssertRefSnapshotID("none", ptr(int64(1)))},
		{"assert-last-assigned-field-id", table.AssertLastAssignedFieldID(field), table.AssertLastAssignedFieldID(field + 1)},
		{"assert-current-schema-id", table.AssertCurrentSchemaID(0), table.AssertCurrentSchemaID(1)},
		{"assert-last-assigned-partition-id", table.AssertLastAssignedPartitionID(spec), table.AssertLastAssignedPartitionID(spec + 1)},
		{"assert-default-spec-id", table.AssertDefaultSpecID(0), table.AssertDefaultSpecID(1)},
		{"assert-default-sort-order-id", table.AssertDefaultSortOrderID(0), table.AssertDefaultSortOrderID(1)},
	} {
		if _, err := x.commit(t, table.Requirements{r.met}, table.NewSetPropertiesUpdate(iceberg.Properties{"met": r.name})); err != nil {
			x.Errorf("%s is met: %v", r.name, err)
		}
		_, err := x.commit(t, table.Requirements{r.not}, table.NewSetPropertiesUpdate(iceberg.Properties{"not": r.name}))
		if !errors.Is(err, catalog.ErrConflict) {
			x.Errorf("%s is not met: %v", r.name, err)
		}
	}
	_, err := x.c.CommitTable(x.Context(), catalog.TableCommit{Identifier: t.Identifier, Requirements: table.Requirements{table.AssertCreate()}})
	x.is(err, catalog.ErrConflict)
	if p := x.load(t, catalog.LoadAll).Metadata.Properties(); p["not"] != "" || p["met"] == "" {
		x.Errorf("properties %v: a refused commit left something", p)
	}
}

// allOrNothing: one requirement of many, or one update of many, refuses the whole commit.
func (x *suite) allOrNothing() {
	t := x.append(x.create("t"), 1)
	good := table.NewSetPropertiesUpdate(iceberg.Properties{"left": "behind"})
	_, err := x.commit(t, table.Requirements{table.AssertRefSnapshotID("main", ptr(int64(1))), table.AssertRefSnapshotID("tag", ptr(int64(1)))}, good)
	x.is(err, catalog.ErrConflict)
	for _, bad := range []table.Update{
		table.NewSetSnapshotRefUpdate("main", 404, table.BranchRef, 0, 0, 0),
		table.NewSetDefaultSpecUpdate(7),
		table.NewRemoveSnapshotsUpdate([]int64{1}, false), // main's own
		table.NewSetLocationUpdate("file:///etc"),
	} {
		_, err = x.commit(t, nil, good, bad)
		x.is(err, catalog.ErrInvalid)
	}
	_, err = x.c.CommitTable(x.Context(), catalog.TableCommit{Identifier: t.Identifier, Updates: table.Updates{table.NewAddSnapshotUpdate(Snapshot(t.Metadata, 1, nil))}})
	x.is(err, catalog.ErrInvalid) // the id is taken
	got := x.load(t, catalog.LoadAll)
	x.wantHead(got.Metadata, 1)
	x.wantSnapshots(got.Metadata, 1)
	if got.Metadata.Properties()["left"] != "" {
		x.Error("a refused commit set a property")
	}
	if x.f.Versions && got.Version != t.Version {
		x.Errorf("version %d after refused commits, before %d", got.Version, t.Version)
	}
}

// oneWins: of many commits on one head exactly one takes effect, and every other is told that it did not.
func (x *suite) oneWins() {
	t := x.create("t")
	const rounds, rivals = 10, 8
	for round := range int64(rounds) {
		errs := make([]error, rivals)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = x.c.CommitTable(x.Context(), Append(t, round*rivals+int64(i)+1, nil))
			})
		}
		wg.Wait()
		winner := int64(0)
		for i, err := range errs {
			switch {
			case err == nil && winner == 0:
				winner = round*rivals + int64(i) + 1
			case err == nil:
				x.Fatalf("round %d: two commits on one head took effect", round)
			case !errors.Is(err, catalog.ErrConflict):
				x.Fatalf("round %d: %v", round, err)
			}
		}
		if winner == 0 {
			x.Fatalf("round %d: no commit took effect: %v", round, errs)
		}
		t = x.load(t, catalog.LoadRefs)
		x.wantHead(t.Metadata, winner)
	}
	if n := len(x.load(t, catalog.LoadAll).Metadata.Snapshots()); n != rounds {
		x.Errorf("%d snapshots after %d rounds", n, rounds)
	}
}

// writersLoseNothing: writers that load and try again after each conflict all get through.
func (x *suite) writersLoseNothing() {
	const writers, each = 4, 8
	t := x.create("t")
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			have := t
			for i := 0; i < each; {
				got, err := x.c.CommitTable(x.Context(), Append(have, int64(w*each+i+1), map[string]string{"writer": fmt.Sprint(w)}))
				switch {
				case err == nil:
					have = got
					i++
				case errors.Is(err, catalog.ErrConflict):
					if have, err = x.c.LoadTable(x.Context(), t.Identifier, catalog.LoadRefs); err != nil {
						x.Error(err)
						return
					}
				default:
					x.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	m := x.load(t, catalog.LoadAll).Metadata
	if n := len(m.Snapshots()); n != writers*each || m.LastSequenceNumber() != int64(n) {
		x.Fatalf("%d snapshots, last sequence number %d", n, m.LastSequenceNumber())
	}
	for i, s := range m.Snapshots() {
		if i > 0 && *s.ParentSnapshotID != m.Snapshots()[i-1].SnapshotID {
			x.Errorf("snapshot %d does not follow the one before it", s.SnapshotID)
		}
	}
}

func (x *suite) refs() {
	t := x.append(x.append(x.create("t"), 1), 2)
	_, err := x.commit(t, table.Requirements{table.AssertRefSnapshotID("tag", nil)},
		table.NewSetSnapshotRefUpdate("tag", 1, table.TagRef, 1000, 0, 0),
		table.NewSetSnapshotRefUpdate("branch", 2, table.BranchRef, 0, 2000, 3))
	x.ok(err)
	got := x.load(t, catalog.LoadRefs).Metadata
	kept := map[string]table.SnapshotRef{}
	for name, r := range got.Refs() {
		kept[name] = r
	}
	if r := kept["tag"]; len(kept) != 3 || r.SnapshotID != 1 || r.SnapshotRefType != table.TagRef || r.MaxRefAgeMs == nil || *r.MaxRefAgeMs != 1000 {
		x.Errorf("refs %+v", kept)
	}
	if r := kept["branch"]; r.SnapshotID != 2 || r.MaxSnapshotAgeMs == nil || *r.MaxSnapshotAgeMs != 2000 || r.MinSnapshotsToKeep == nil || *r.MinSnapshotsToKeep != 3 {
		x.Errorf("branch %+v", r)
	}
	// A tag moves like any ref, main stays.
	_, err = x.commit(t, table.Requirements{table.AssertRefSnapshotID("tag", ptr(int64(1)))}, table.NewSetSnapshotRefUpdate("tag", 2, table.TagRef, 0, 0, 0))
	x.ok(err)
	_, err = x.commit(t, table.Requirements{table.AssertRefSnapshotID("tag", ptr(int64(1)))}, table.NewSetSnapshotRefUpdate("tag", 1, table.TagRef, 0, 0, 0))
	x.is(err, catalog.ErrConflict)
	for range 2 { // removing what is not there is done already
		_, err = x.commit(t, nil, table.NewRemoveSnapshotRefUpdate("branch"))
		x.ok(err)
	}
	got = x.load(t, catalog.LoadAll).Metadata
	x.wantHead(got, 2)
	if tag, branch := ref(got, "tag"), ref(got, "branch"); tag == nil || *tag != 2 || branch != nil {
		x.Errorf("tag at %v, branch at %v", deref(tag), deref(branch))
	}
	// A snapshot on a branch moves main nowhere.
	s := Snapshot(got, 3, nil)
	_, err = x.commit(t, nil, table.NewAddSnapshotUpdate(s), table.NewSetSnapshotRefUpdate("replay", 3, table.BranchRef, 0, 0, 0))
	x.ok(err)
	got = x.load(t, catalog.LoadAll).Metadata
	x.wantHead(got, 2)
	if log := logIDs(got); !slices.Equal(log, []int64{1, 2}) {
		x.Errorf("snapshot log %v", log)
	}
}

func (x *suite) rollback() {
	t := x.create("t")
	for i := int64(1); i <= 40; i++ { // more than a lean table keeps at hand
		t = x.append(t, i)
	}
	back, err := x.commit(t, table.Requirements{table.AssertRefSnapshotID("main", ptr(int64(40)))}, table.NewSetSnapshotRefUpdate("main", 2, table.BranchRef, 0, 0, 0))
	x.ok(err)
	x.wantHead(back.Metadata, 2)
	got := x.load(t, catalog.LoadAll)
	x.wantHead(got.Metadata, 2)
	if n := len(got.Metadata.Snapshots()); n != 40 {
		x.Errorf("%d snapshots after a rollback", n)
	}
	if log := logIDs(got.Metadata); len(log) != 41 || log[40] != 2 {
		x.Errorf("snapshot log %v", log)
	}
	again := x.append(x.load(t, catalog.LoadRefs), 41)
	x.wantHead(again.Metadata, 41)
	s := again.Metadata.SnapshotByID(41)
	if *s.ParentSnapshotID != 2 || s.SequenceNumber != 41 {
		x.Errorf("after the rollback: parent %d, sequence number %d", *s.ParentSnapshotID, s.SequenceNumber)
	}
}

func (x *suite) expire() {
	t := x.create("t")
	for i := int64(1); i <= 10; i++ {
		t = x.append(t, i)
	}
	_, err := x.commit(t, nil, table.NewSetSnapshotRefUpdate("keep", 3, table.TagRef, 0, 0, 0))
	x.ok(err)
	_, err = x.commit(t, nil, table.NewRemoveSnapshotsUpdate([]int64{1, 2, 4, 5, 6}, false))
	x.ok(err)
	got := x.load(t, catalog.LoadAll).Metadata
	x.wantSnapshots(got, 3, 7, 8, 9, 10)
	x.wantHead(got, 10)
	if log := logIDs(got); !slices.Equal(log, []int64{7, 8, 9, 10}) {
		x.Errorf("snapshot log %v: nothing before a removed entry may stay", log)
	}
	// Removing what a ref names removes the ref.
	_, err = x.commit(t, nil, table.NewRemoveSnapshotsUpdate([]int64{3}, false))
	x.ok(err)
	got = x.load(t, catalog.LoadAll).Metadata
	x.wantSnapshots(got, 7, 8, 9, 10)
	if tag := ref(got, "keep"); tag != nil {
		x.Errorf("tag at %d, whose snapshot is gone", *tag)
	}
	// Add and expire in one commit, as a committer that keeps a window does.
	c := Append(x.load(t, catalog.LoadRefs), 11, nil)
	c.Updates = append(c.Updates, table.NewRemoveSnapshotsUpdate([]int64{7}, false))
	_, err = x.c.CommitTable(x.Context(), c)
	x.ok(err)
	got = x.load(t, catalog.LoadAll).Metadata
	x.wantSnapshots(got, 8, 9, 10, 11)
	if log := logIDs(got); !slices.Equal(log, []int64{8, 9, 10, 11}) {
		x.Errorf("snapshot log %v", log)
	}
}

func (x *suite) evolve() {
	t := x.append(x.create("t"), 1)
	wider := iceberg.NewSchema(1, append(slices.Clone(Schema().Fields()),
		iceberg.NestedField{ID: 6, Name: "more", Type: iceberg.PrimitiveTypes.String})...)
	_, err := x.commit(t, table.Requirements{table.AssertCurrentSchemaID(0), table.AssertLastAssignedFieldID(5)},
		table.NewAddSchemaUpdate(wider), table.NewSetCurrentSchemaUpdate(-1),
		table.NewSetPropertiesUpdate(iceberg.Properties{"a": "1", "b": "2"}))
	x.ok(err)
	_, err = x.commit(t, nil, table.NewRemovePropertiesUpdate([]string{"a", "never"}))
	x.ok(err)
	got := x.load(t, catalog.LoadAll).Metadata
	if !got.CurrentSchema().Equals(wider) || got.LastColumnID() != 6 || len(got.Schemas()) != 2 {
		x.Errorf("schema %s, last column %d, %d schemas", got.CurrentSchema(), got.LastColumnID(), len(got.Schemas()))
	}
	if p := got.Properties(); p["a"] != "" || p["b"] != "2" {
		x.Errorf("properties %v", p)
	}
	x.wantHead(x.append(x.load(t, catalog.LoadRefs), 2).Metadata, 2)
	x.wantSnapshots(x.load(t, catalog.LoadAll).Metadata, 1, 2)
}

// commitCreates makes a table by a commit, as the second half of a staged creation does.
func (x *suite) commitCreates() {
	like := x.create("like").Metadata
	order := like.SortOrder()
	spec := like.PartitionSpec()
	location := like.Location() + "-made" // beside it, in the same warehouse
	c := catalog.TableCommit{Identifier: x.id("made"), Requirements: table.Requirements{table.AssertCreate()}, Updates: table.Updates{
		table.NewAssignUUIDUpdate(uuid.New()), table.NewUpgradeFormatVersionUpdate(2), table.NewAddSchemaUpdate(Schema()),
		table.NewSetCurrentSchemaUpdate(-1), table.NewAddPartitionSpecUpdate(&spec, true), table.NewSetDefaultSpecUpdate(-1),
		table.NewAddSortOrderUpdate(&order), table.NewSetDefaultSortOrderUpdate(-1), table.NewSetLocationUpdate(location)}}
	made, err := x.c.CommitTable(x.Context(), c)
	x.ok(err)
	if made.Metadata.Location() != location || !made.Metadata.CurrentSchema().Equals(Schema()) {
		x.Errorf("made %s with %s", made.Metadata.Location(), made.Metadata.CurrentSchema())
	}
	_, err = x.c.CommitTable(x.Context(), c)
	x.is(err, catalog.ErrConflict)
	x.wantHead(x.append(made, 1).Metadata, 1)
}
