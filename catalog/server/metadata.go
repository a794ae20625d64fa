package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/sqlstore"
)

// lean is a table's newest state in memory: its row, its skeleton, and metadata with at least every snapshot
// that a ref or a statistics file names. It is never changed once it is shared.
type lean struct {
	head     sqlstore.Head
	skeleton []byte
	meta     table.Metadata
	stats    bool // statistics files name snapshots
	loose    int  // at most this many snapshots in meta are unreferenced
	// bodies are the JSON of those snapshots that a ref names, as the rows have it; one that is missing is encoded anew.
	bodies map[int64]json.RawMessage
}

// keepBodies takes over the bodies of snapshots that a ref names.
func (l *lean) keepBodies(before map[int64]json.RawMessage, rows []sqlstore.Snapshot) {
	l.bodies = map[int64]json.RawMessage{}
	for _, ref := range l.meta.Refs() {
		if b, ok := before[ref.SnapshotID]; ok {
			l.bodies[ref.SnapshotID] = b
		}
		for i := range rows {
			if rows[i].ID == ref.SnapshotID {
				l.bodies[ref.SnapshotID] = rows[i].Body
			}
		}
	}
}

// volatileKeys are the members of a metadata document that are kept as rows or columns, not in the skeleton.
var volatileKeys = []string{"snapshots", "refs", "snapshot-log", "metadata-log", "last-updated-ms",
	"last-sequence-number", "next-row-id", "current-snapshot-id"}

// skeletonOf is metadata without volatileKeys, keys sorted.
func skeletonOf(m table.Metadata) ([]byte, error) {
	doc, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	for _, k := range volatileKeys {
		delete(members, k)
	}
	if _, ok := members["properties"]; !ok {
		members["properties"] = json.RawMessage("{}")
	}
	return json.Marshal(members)
}

// statisticsSnapshots lists the snapshots that statistics files of a skeleton name.
func statisticsSnapshots(skeleton []byte) ([]int64, error) {
	if !bytes.Contains(skeleton, []byte(`statistics"`)) {
		return nil, nil
	}
	type named struct {
		ID int64 `json:"snapshot-id"`
	}
	var doc struct {
		Statistics []named `json:"statistics"`
		Partition  []named `json:"partition-statistics"`
	}
	if err := json.Unmarshal(skeleton, &doc); err != nil {
		return nil, err
	}
	var ids []int64
	for _, n := range slices.Concat(doc.Statistics, doc.Partition) {
		ids = append(ids, n.ID)
	}
	return ids, nil
}

// compose writes the metadata document of a state. The same state gives the same bytes.
func compose(st *sqlstore.State) []byte {
	size := len(st.Skeleton) + 512 + 64*len(st.Log)
	for _, s := range st.Snapshots {
		size += len(s.Body) + 1
	}
	for _, r := range st.Refs {
		size += len(r.Body) + len(r.Name) + 8
	}
	b := make([]byte, 0, size)
	b = append(b, bytes.TrimSuffix(st.Skeleton, []byte("}"))...)
	num := func(key string, n int64) {
		b = append(append(append(b, `,"`...), key...), `":`...)
		b = strconv.AppendInt(b, n, 10)
	}
	num("last-updated-ms", st.LastUpdatedMS)
	if st.FormatVersion >= 2 {
		num("last-sequence-number", st.LastSequenceNumber)
	}
	if st.FormatVersion >= 3 {
		num("next-row-id", st.NextRowID)
	}
	b = append(b, `,"snapshots":[`...)
	for i, s := range st.Snapshots {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, s.Body...)
	}
	b = append(b, `],"refs":{`...)
	current := int64(-1)
	for i, r := range st.Refs {
		if i > 0 {
			b = append(b, ',')
		}
		if r.Name == table.MainBranch {
			current = r.SnapshotID
		}
		name, _ := json.Marshal(r.Name) // a string always encodes
		b = append(append(append(b, name...), ':'), r.Body...)
	}
	b = append(b, '}')
	if current != -1 {
		num("current-snapshot-id", current)
	}
	b = append(b, `,"snapshot-log":[`...)
	for i, e := range st.Log {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"snapshot-id":%d,"timestamp-ms":%d}`, e.SnapshotID, e.AtMS)
	}
	b = append(b, `],"metadata-log":[`...)
	for i, f := range st.MetadataFiles {
		if i > 0 {
			b = append(b, ',')
		}
		loc, _ := json.Marshal(f.Location)
		b = fmt.Appendf(b, `{"metadata-file":%s,"timestamp-ms":%d}`, loc, f.AtMS)
	}
	return append(b, `]}`...)
}

// parse decodes a metadata document; what the decoder cannot stand becomes an error.
func parse(doc []byte) (m table.Metadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: table metadata cannot be decoded: %v", catalog.ErrInvalid, p)
		}
	}()
	if m, err = table.ParseMetadataBytes(doc); err != nil {
		return nil, fmt.Errorf("%w: table metadata: %w", catalog.ErrInvalid, err)
	}
	return m, nil
}

// newLean decodes a state that was read from rows. The rows of a table that Firn accepted always decode.
func newLean(st *sqlstore.State) (*lean, error) {
	m, err := parse(compose(st))
	if err != nil {
		return nil, fmt.Errorf("table %s version %d in the catalog's database: %w", st.UUID, st.Version, err)
	}
	ids, err := statisticsSnapshots(st.Skeleton)
	if err != nil {
		return nil, err
	}
	l := &lean{head: st.Head, skeleton: st.Skeleton, meta: m, stats: len(ids) > 0, bodies: make(map[int64]json.RawMessage, len(st.Refs))}
	for _, r := range st.Refs {
		l.bodies[r.SnapshotID] = nil
	}
	for _, sn := range st.Snapshots {
		if _, named := l.bodies[sn.ID]; named {
			l.bodies[sn.ID] = sn.Body
		}
	}
	return l, nil
}

// readable makes sure that what is about to be written can be read again: the library's builder takes what its decoder then
// refuses, such as a statistics blob without a type, and the table would be lost at the next look into the database.
func (l *lean) readable() error {
	st, err := l.state()
	if err != nil {
		return err
	}
	if _, err := parse(compose(st)); err != nil {
		return fmt.Errorf("it could not be read again: %w", err)
	}
	return nil
}

// state turns a lean table back into rows: refs, exactly the referenced snapshots, and the log's last entry.
func (l *lean) state() (*sqlstore.State, error) {
	st := &sqlstore.State{Head: l.head, Skeleton: l.skeleton}
	want := map[int64]bool{}
	for name, ref := range l.meta.Refs() {
		r, err := refRow(name, ref)
		if err != nil {
			return nil, err
		}
		st.Refs = append(st.Refs, r)
		want[ref.SnapshotID] = true
	}
	slices.SortFunc(st.Refs, func(a, b sqlstore.Ref) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	for _, s := range l.meta.Snapshots() {
		if !want[s.SnapshotID] {
			continue
		}
		row := sqlstore.Snapshot{ID: s.SnapshotID, Body: l.bodies[s.SnapshotID]}
		if row.Body == nil {
			var err error
			if row, err = snapshotRow(&s); err != nil {
				return nil, err
			}
		}
		st.Snapshots = append(st.Snapshots, row)
	}
	if e := lastLog(l.meta); e != nil {
		st.Log = []sqlstore.LogEntry{*e}
	}
	return st, nil
}

func refRow(name string, ref table.SnapshotRef) (sqlstore.Ref, error) {
	body, err := json.Marshal(ref)
	return sqlstore.Ref{Name: name, SnapshotID: ref.SnapshotID, Body: body}, err
}

func snapshotRow(s *table.Snapshot) (sqlstore.Snapshot, error) {
	body, err := json.Marshal(s)
	return sqlstore.Snapshot{ID: s.SnapshotID, Body: body}, err
}

// lastLog returns the snapshot log's last entry when it is the current snapshot.
func lastLog(m table.Metadata) *sqlstore.LogEntry {
	cur := currentID(m)
	if cur == nil {
		return nil
	}
	var last *sqlstore.LogEntry
	for e := range m.SnapshotLogs() {
		last = &sqlstore.LogEntry{AtMS: e.TimestampMs, SnapshotID: e.SnapshotID}
	}
	if last == nil || last.SnapshotID != *cur {
		return nil
	}
	return last
}

func currentID(m table.Metadata) *int64 {
	if m == nil {
		return nil
	}
	for name, ref := range m.Refs() {
		if name == table.MainBranch {
			return &ref.SnapshotID
		}
	}
	return nil
}

// headOf takes from metadata what the table's row holds. The row's location is the clean one, which is the caller's
// to set.
func headOf(h sqlstore.Head, m table.Metadata) sqlstore.Head {
	h.UUID = m.TableUUID().String()
	h.FormatVersion = m.Version()
	h.LastUpdatedMS = m.LastUpdatedMillis()
	h.LastSequenceNumber = m.LastSequenceNumber()
	h.NextRowID = m.NextRowID()
	return h
}
