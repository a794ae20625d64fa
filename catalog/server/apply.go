package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/ledger"
)

// offsetsKey is the summary key under which Firn's snapshots carry the vector after them.
const offsetsKey = "firn.offsets"

// maxOffsets bounds what a commit puts into the history for good, in bytes: 8 for each partition that a vector may have.
const maxOffsets = 1 << 20

// offsetsOf is the vector of a snapshot as the history keeps it; empty where there is none, or something that is none.
func offsetsOf(sn *table.Snapshot) string {
	if sn == nil || sn.Summary == nil {
		return ""
	}
	if v := sn.Summary.Properties[offsetsKey]; len(v) <= maxOffsets && !strings.Contains(v, "\x00") {
		return v
	}
	return ""
}

// checkRef refuses names of refs that not every database keeps.
func checkRef(name string) error {
	if name == "" || len(name) > maxNameBytes || !utf8.ValidString(name) || strings.Contains(name, "\x00") {
		return fmt.Errorf("%w: the name of a branch or tag has 1 to %d bytes of UTF-8 without NUL, this one %d: %.100q", catalog.ErrInvalid, maxNameBytes, len(name), name)
	}
	return nil
}

// reqAssertRef is the type of the requirement that names a ref.
const reqAssertRef = "assert-ref-snapshot-id"

// pruneAbove is how many unreferenced snapshots lean metadata may hold before they are dropped from it.
// Dropping costs a second pass over the refs, so it is not done at every commit.
const pruneAbove = 32

// touched is what a list of updates names, read before they are applied.
type touched struct {
	added    []int64
	named    []int64 // snapshots that must be at hand for the updates to apply
	removed  []int64
	refsOnly bool // nothing but snapshots and refs changes: the skeleton stays
	marks    bool // marks are named, or snapshots removed that they may name
	location bool // a location in the metadata changes
	places   []place
	format   int          // of upgrade-format-version; 0 when there is none
	views    []updateView // of each update; those that the catalog has no look at are empty
}

// updateView has every member of every update that the catalog itself looks at.
type updateView struct {
	SnapshotID    int64        `json:"snapshot-id"`
	SnapshotIDs   []int64      `json:"snapshot-ids"`
	FormatVersion int          `json:"format-version"`
	RefName       string       `json:"ref-name"`
	Snapshot      snapshotView `json:"snapshot"`
	Statistics    struct {
		SnapshotID int64  `json:"snapshot-id"`
		Path       string `json:"statistics-path"`
	} `json:"statistics"`
	Partition struct {
		SnapshotID int64  `json:"snapshot-id"`
		Path       string `json:"statistics-path"`
	} `json:"partition-statistics"`
}

// snapshotView is a snapshot without what makes it large, its summary.
type snapshotView struct {
	SnapshotID       int64    `json:"snapshot-id"`
	TimestampMS      int64    `json:"timestamp-ms"`
	ParentSnapshotID *int64   `json:"parent-snapshot-id"`
	SequenceNumber   int64    `json:"sequence-number"`
	ManifestList     string   `json:"manifest-list"`
	Manifests        []string `json:"manifests"`
	FirstRowID       *int64   `json:"first-row-id"`
	AddedRows        int64    `json:"added-rows"`
}

// maxAhead is how far a snapshot may be ahead of the catalog's clock: the Iceberg libraries refuse whatever comes more than a
// minute before the last snapshot, so one of next week would keep everybody from committing until then.
const maxAhead = time.Minute

// What a commit takes of the numbers that only ever grow is not there for those that come after it, and nothing gives it back: a
// table whose last sequence number is 2^63-1, or whose row ids are used up, takes no append for ever. Writers count one for
// each snapshot, so the bounds are far from what any of them needs and from what it would take to use the numbers up.
const (
	// maxSequenceStep is how far a snapshot's sequence number may be beyond the table's last.
	maxSequenceStep = 1_000_000
	// maxAddedRows is how many row ids one snapshot may take.
	maxAddedRows = 1 << 44
	// maxNumber bounds both in a metadata file that is registered, which tells of years: half of what there is.
	maxNumber = 1 << 62
)

// checkNumbers refuses metadata of a table that would soon take no commit any more.
func checkNumbers(m table.Metadata) error {
	for name, n := range map[string]int64{"last-sequence-number": m.LastSequenceNumber(), "next-row-id": m.NextRowID()} {
		if n < 0 || n > maxNumber {
			return fmt.Errorf("%w: %s is %d, not within 0 to 2^62: nobody could append for long; use an earlier metadata file of the table", catalog.ErrInvalid, name, n)
		}
	}
	return nil
}

// checkSnapshot refuses a snapshot after which nobody could commit to the table, or read it, and one with manifests that nothing looks at.
// seq is the last sequence number before it.
func checkSnapshot(sn snapshotView, seq int64, now time.Time) error {
	switch {
	case len(sn.Manifests) > 0:
		return errEmbedded(sn.SnapshotID)
	case sn.SequenceNumber < 0:
		return fmt.Errorf("%w: snapshot %d has sequence number %d, less than 0", catalog.ErrInvalid, sn.SnapshotID, sn.SequenceNumber)
	case sn.SequenceNumber-maxSequenceStep > seq:
		return fmt.Errorf("%w: snapshot %d has sequence number %d, more than %d beyond %d, the last before it: the numbers between would be lost to all other writers; use the next one, or register the metadata file of a table that has it",
			catalog.ErrInvalid, sn.SnapshotID, sn.SequenceNumber, maxSequenceStep, seq)
	case sn.AddedRows > maxAddedRows:
		return fmt.Errorf("%w: snapshot %d has added-rows %d, more than %d: row ids would run out for all other writers; give the number of rows that it adds",
			catalog.ErrInvalid, sn.SnapshotID, sn.AddedRows, maxAddedRows)
	case sn.TimestampMS < 0:
		return fmt.Errorf("%w: snapshot %d has timestamp-ms %d, less than 0", catalog.ErrInvalid, sn.SnapshotID, sn.TimestampMS)
	case sn.TimestampMS > now.Add(maxAhead).UnixMilli():
		return fmt.Errorf("%w: snapshot %d has timestamp-ms %d, more than %s after %d, which is now: nobody else could commit until then; compare the clocks of the writer and the catalog",
			catalog.ErrInvalid, sn.SnapshotID, sn.TimestampMS, maxAhead, now.UnixMilli())
	}
	return nil
}

// readUpdate reads an update by its JSON form: iceberg-go keeps the types to itself.
func readUpdate(u table.Update, into any) error {
	raw, err := json.Marshal(u)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("%w: update %s: %w", catalog.ErrInvalid, u.Action(), err)
	}
	return nil
}

// survey looks through the updates. seq is the table's last sequence number, row its next row id: a snapshot
// that was built on an older head is a conflict, not a bad request.
func (s *Service) survey(updates table.Updates, meta table.Metadata) (t touched, err error) {
	t.refsOnly, t.views = true, make([]updateView, len(updates))
	format, seq, row := 2, int64(0), int64(0)
	if meta != nil {
		format, seq, row = meta.Version(), meta.LastSequenceNumber(), meta.NextRowID()
	}
	for i, u := range updates {
		if u == nil {
			return t, fmt.Errorf("%w: an update is null", catalog.ErrInvalid)
		}
		switch u.Action() {
		case table.UpdateAddSnapshot, table.UpdateSetSnapshotRef, table.UpdateRemoveSnapshots, table.UpdateRemoveSnapshotRef:
		case table.UpdateSetStatistics, table.UpdateSetPartitionStatistics, table.UpdateUpgradeFormatVersion:
			t.refsOnly = false
		case table.UpdateSetLocation, table.UpdateSetProperties, table.UpdateAssignUUID:
			t.refsOnly, t.location = false, true
			continue
		default:
			t.refsOnly = false
			continue
		}
		v := &t.views[i]
		if err := readUpdate(u, v); err != nil {
			return t, err
		}
		switch u.Action() {
		case table.UpdateAddSnapshot:
			sn := v.Snapshot
			if err := checkSnapshot(sn, seq, time.Now()); err != nil {
				return t, err
			}
			if format >= 2 && sn.ParentSnapshotID != nil && sn.SequenceNumber <= seq {
				return t, fmt.Errorf("%w: snapshot %d has sequence number %d, the table's last is %d", catalog.ErrConflict, sn.SnapshotID, sn.SequenceNumber, seq)
			}
			if format >= 3 && sn.FirstRowID != nil && *sn.FirstRowID < row {
				return t, fmt.Errorf("%w: snapshot %d has first-row-id %d, the table's next is %d", catalog.ErrConflict, sn.SnapshotID, *sn.FirstRowID, row)
			}
			if sn.ManifestList != "" {
				t.places = append(t.places, place{fmt.Sprintf("snapshot %d: manifest list", sn.SnapshotID), sn.ManifestList})
			}
			seq = max(seq, sn.SequenceNumber)
			t.added = append(t.added, sn.SnapshotID)
		case table.UpdateSetSnapshotRef:
			if err := checkRef(v.RefName); err != nil {
				return t, err
			}
			t.named = append(t.named, v.SnapshotID)
			t.marks = t.marks || ledger.IsMark(v.RefName)
		case table.UpdateRemoveSnapshotRef:
			t.marks = t.marks || ledger.IsMark(v.RefName)
		case table.UpdateRemoveSnapshots:
			t.marks = true
			t.named = append(t.named, v.SnapshotIDs...)
			t.removed = append(t.removed, v.SnapshotIDs...)
		case table.UpdateSetStatistics:
			t.named = append(t.named, v.SnapshotID, v.Statistics.SnapshotID)
			t.places = append(t.places, place{"statistics", v.Statistics.Path})
		case table.UpdateSetPartitionStatistics:
			t.named = append(t.named, v.Partition.SnapshotID)
			t.places = append(t.places, place{"partition statistics", v.Partition.Path})
		case table.UpdateUpgradeFormatVersion:
			t.format = v.FormatVersion
			format = max(format, v.FormatVersion)
		}
	}
	return t, nil
}

// withSnapshots returns the base with those named snapshots that exist as rows but not in lean metadata.
func (s *Service) withSnapshots(ctx context.Context, base *lean, t touched) (*lean, error) {
	var missing []int64
	for _, id := range t.named {
		if !slices.Contains(t.added, id) && base.meta.SnapshotByID(id) == nil {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return base, nil
	}
	rows, err := s.store.SnapshotsByID(ctx, base.head.ID, missing)
	if err != nil || len(rows) == 0 {
		return base, err
	}
	st, err := base.state()
	if err != nil {
		return nil, err
	}
	st.Snapshots = nil
	for _, sn := range base.meta.Snapshots() { // all that are at hand, not only the referenced
		r, err := snapshotRow(&sn)
		if err != nil {
			return nil, err
		}
		st.Snapshots = append(st.Snapshots, r)
	}
	st.Snapshots = append(rows, st.Snapshots...)
	l, err := newLean(st)
	if err == nil {
		l.loose = base.loose + len(rows) // otherwise commits that expire one snapshot each would never prune
	}
	return l, err
}

// assertsMarks tells whether a requirement names a mark. iceberg-go keeps the names to itself, so they are read in JSON.
func assertsMarks(reqs table.Requirements) (bool, error) {
	for _, r := range reqs {
		if r == nil || r.GetType() != reqAssertRef {
			continue
		}
		var v struct {
			Ref string `json:"ref"`
		}
		raw, err := json.Marshal(r)
		if err == nil {
			err = json.Unmarshal(raw, &v)
		}
		if err != nil {
			return false, fmt.Errorf("%w: requirement %s: %w", catalog.ErrInvalid, r.GetType(), err)
		}
		if ledger.IsMark(v.Ref) {
			return true, nil
		}
	}
	return false, nil
}

// validate checks requirements; meta is nil for a table that does not exist.
func validate(reqs table.Requirements, meta table.Metadata) error {
	for _, r := range reqs {
		if r == nil {
			return fmt.Errorf("%w: a requirement is null", catalog.ErrInvalid)
		}
		if err := r.Validate(meta); err != nil {
			return fmt.Errorf("%w: %w", catalog.ErrConflict, err)
		}
	}
	return nil
}

// build applies updates to a builder; a panic of the library is a bad request.
func build(b *table.MetadataBuilder, updates table.Updates, skip func(i int) bool) (m table.Metadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("%w: the updates cannot be applied: %v", catalog.ErrInvalid, p)
		}
	}()
	for i, u := range updates {
		if skip != nil && skip(i) {
			continue
		}
		if err := u.Apply(b); err != nil {
			return nil, fmt.Errorf("%w: update %d (%s): %w", catalog.ErrInvalid, i, u.Action(), err)
		}
	}
	if m, err = b.Build(); err != nil {
		return nil, fmt.Errorf("%w: the updates give no valid table: %w", catalog.ErrInvalid, err)
	}
	return m, nil
}

// applyTo evaluates one table's commit against its newest state and returns what to write and the state after it.
func (s *Service) applyTo(ctx context.Context, base *lean, c catalog.TableCommit) (sqlstore.Change, *lean, error) {
	var change sqlstore.Change
	marks, err := assertsMarks(c.Requirements)
	if err != nil {
		return change, nil, err
	}
	was := base
	t, err := s.survey(c.Updates, base.meta)
	if t.marks = t.marks || marks; t.marks {
		var loadErr error
		if base, loadErr = s.withMarks(ctx, base); loadErr != nil {
			return change, nil, loadErr
		}
	}
	// A requirement that does not hold comes before updates that cannot be applied.
	if err := validate(c.Requirements, base.meta); err != nil {
		return change, nil, err
	}
	if err != nil {
		return change, nil, err
	}
	if len(c.Updates) == 0 { // a version and a metadata file of it would say nothing
		same := *was
		return sqlstore.Change{Head: was.head, Name: c.Identifier, From: was.head.Version, Same: true}, &same, nil
	}
	if base, err = s.withSnapshots(ctx, base, t); err != nil {
		return change, nil, err
	}
	b, err := table.MetadataBuilderFromBase(base.meta, "")
	if err != nil {
		return change, nil, fmt.Errorf("table %s: %w", c.Identifier, err)
	}
	refs := map[string]bool{}
	for name := range base.meta.Refs() {
		refs[name] = true
	}
	after, err := build(b, c.Updates, func(i int) bool { return absentRef(c.Updates[i].Action(), t.views[i].RefName, refs) })
	if err != nil {
		return change, nil, err
	}
	if change, err = diff(base, after, t); err != nil {
		return change, nil, err
	}
	change.Name = c.Identifier
	next := &lean{head: change.Head, skeleton: base.skeleton, meta: after, stats: base.stats}
	if change.Skeleton != nil {
		next.skeleton = change.Skeleton
		ids, err := statisticsSnapshots(change.Skeleton)
		if err != nil {
			return change, nil, err
		}
		next.stats = len(ids) > 0
		if err := next.readable(); err != nil {
			return change, nil, err
		}
	}
	if t.location {
		root, err := s.checkMetadataLocations(ctx, after, base.head.ID)
		if err != nil {
			return change, nil, err
		}
		change.Location, change.Moved, next.head.Location = root, true, root
	}
	if err := s.checkPlaces(ctx, after, next.head.Location, base.head.ID, t.places); err != nil {
		return change, nil, err
	}
	if next.loose = base.loose + len(t.added); next.loose > pruneAbove || t.marks {
		next.meta, err = prune(next)
		next.loose = 0
	}
	next.keepBodies(base.bodies, change.AddSnapshots)
	return change, next, err
}

// absentRef reports a removal of a ref that is not there: the protocol takes it as done, the library as an
// error. refs is kept up to date as the updates pass.
func absentRef(action, name string, refs map[string]bool) bool {
	if action != table.UpdateRemoveSnapshotRef && action != table.UpdateSetSnapshotRef {
		return false
	}
	there := refs[name]
	refs[name] = action == table.UpdateSetSnapshotRef
	return !there && action == table.UpdateRemoveSnapshotRef
}

// diff compares metadata before and after and gives the rows that changed.
func diff(base *lean, after table.Metadata, t touched) (c sqlstore.Change, err error) {
	c.Head, c.From = headOf(base.head, after), base.head.Version
	c.Version = c.From + 1
	for _, id := range t.added {
		if sn := after.SnapshotByID(id); sn != nil {
			row, err := snapshotRow(sn)
			if err != nil {
				return c, err
			}
			c.AddSnapshots = append(c.AddSnapshots, row)
		}
	}
	for _, id := range t.removed {
		if base.meta.SnapshotByID(id) != nil && after.SnapshotByID(id) == nil {
			c.RemoveSnapshots = append(c.RemoveSnapshots, id)
		}
	}
	if err := diffRefs(&c, base.meta, after); err != nil {
		return c, err
	}
	before, now := currentID(base.meta), currentID(after)
	switch {
	case now == nil:
		c.ClearLog = before != nil
	case before == nil || *before != *now:
		c.Log = lastLog(after)
		c.History = &sqlstore.History{SnapshotID: *now, Offsets: offsetsOf(after.SnapshotByID(*now))}
	}
	if !t.refsOnly || base.stats && len(c.RemoveSnapshots) > 0 {
		c.Skeleton, err = skeletonOf(after)
	}
	return c, err
}

func diffRefs(c *sqlstore.Change, before, after table.Metadata) error {
	old := map[string]table.SnapshotRef{}
	for name, ref := range before.Refs() {
		old[name] = ref
	}
	for name, ref := range after.Refs() {
		was, ok := old[name]
		delete(old, name)
		if ok && was.Equals(ref) {
			continue
		}
		r, err := refRow(name, ref)
		if err != nil {
			return err
		}
		c.SetRefs = append(c.SetRefs, r)
	}
	for name := range old {
		c.RemoveRefs = append(c.RemoveRefs, name)
	}
	return nil
}

// prune drops unreferenced snapshots from lean metadata, and the marks with what only they name.
func prune(l *lean) (table.Metadata, error) {
	keep := map[int64]bool{}
	for name, ref := range l.meta.Refs() {
		if !ledger.IsMark(name) {
			keep[ref.SnapshotID] = true
		}
	}
	if l.stats {
		ids, err := statisticsSnapshots(l.skeleton)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			keep[id] = true
		}
	}
	// A decoded copy, not the library's RemoveSnapshots: that one stamps the time of the call on the table.
	st, err := l.state()
	if err != nil {
		return nil, err
	}
	st.Snapshots = l.rows(keep)
	st.Refs = slices.DeleteFunc(st.Refs, func(r sqlstore.Ref) bool { return ledger.IsMark(r.Name) })
	p, err := newLean(st)
	if err != nil {
		return nil, err
	}
	return p.meta, nil
}

func (l *lean) rows(keep map[int64]bool) []sqlstore.Snapshot {
	var out []sqlstore.Snapshot
	for _, sn := range l.meta.Snapshots() {
		if keep[sn.SnapshotID] {
			r, _ := snapshotRow(&sn) // it was decoded or encoded before
			out = append(out, r)
		}
	}
	return out
}
