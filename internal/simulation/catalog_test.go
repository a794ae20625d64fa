package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
)

// separator joins the parts of a name to a key; no part may hold it.
const separator = "\x1f"

// offsetsKey is the summary key whose value goes into the history.
const offsetsKey = "firn.offsets"

// model is an Iceberg catalog with the states of its tables as Go values: requirements and updates are iceberg-go's own,
// storage there is none. It is held against catalogtest.
type model struct {
	wh          *objstore.Warehouse
	noTx        bool // one table a commit
	noHistory   bool
	noSequences bool // takes snapshots with sequence numbers of the past, which the specification forbids

	mu         sync.Mutex
	namespaces map[string]catalog.Identifier
	tables     map[string]*state
}

// state is one table.
type state struct {
	id      catalog.Identifier
	meta    table.Metadata
	version int64
	history []catalog.HistoryEntry
}

func newModel(wh *objstore.Warehouse) *model {
	return &model{wh: wh, namespaces: map[string]catalog.Identifier{}, tables: map[string]*state{}}
}

var (
	_ catalog.Catalog       = (*model)(nil)
	_ catalog.HistoryKeeper = (*model)(nil)
	_ catalog.HistoryKeeper = (*line)(nil) // recovery reads by version what can be listed, as every catalog's of the project can
)

func key(id catalog.Identifier) string { return strings.Join(id, separator) }

// enter begins a call: a caller that has gone changes nothing.
func (m *model) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	m.mu.Lock()
	return nil
}

func checkName(id catalog.Identifier, atLeast int) error {
	if len(id) < atLeast {
		return fmt.Errorf("%w: name %q is too short", catalog.ErrInvalid, id.String())
	}
	for _, part := range id {
		if part == "" || len(part) > 1024 || !utf8.ValidString(part) || strings.ContainsAny(part, "\x00"+separator) {
			return fmt.Errorf("%w: name %q", catalog.ErrInvalid, part)
		}
	}
	return nil
}

func (m *model) ListNamespaces(ctx context.Context, parent catalog.Identifier) ([]catalog.Identifier, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.namespaces[key(parent)]; !ok && len(parent) > 0 {
		return nil, fmt.Errorf("%w: %s", catalog.ErrNoSuchNamespace, parent)
	}
	return children(maps.Values(m.namespaces), parent), nil
}

// children are the names right below parent, in order.
func children(all iter.Seq[catalog.Identifier], parent catalog.Identifier) []catalog.Identifier {
	var out []catalog.Identifier
	for id := range all {
		if slices.Equal(id.Namespace(), parent) {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, func(a, b catalog.Identifier) int { return slices.Compare(a, b) })
	return out
}

func (m *model) CreateNamespace(ctx context.Context, ns catalog.Identifier, _ map[string]string) error {
	if err := checkName(ns, 1); err != nil {
		return err
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, ok := m.namespaces[key(ns.Namespace())]; !ok && len(ns) > 1 {
		return fmt.Errorf("%w: %s", catalog.ErrNoSuchNamespace, ns.Namespace())
	}
	if _, ok := m.namespaces[key(ns)]; ok {
		return fmt.Errorf("namespace %s: %w", ns, catalog.ErrExists)
	}
	m.namespaces[key(ns)] = slices.Clone(ns)
	return nil
}

func (m *model) ListTables(ctx context.Context, ns catalog.Identifier) ([]catalog.Identifier, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.namespaces[key(ns)]; !ok {
		return nil, fmt.Errorf("%w: %s", catalog.ErrNoSuchNamespace, ns)
	}
	ids := func(yield func(catalog.Identifier) bool) {
		for _, s := range m.tables {
			if !yield(s.id) {
				return
			}
		}
	}
	return children(ids, ns), nil
}

func (m *model) CreateTable(ctx context.Context, id catalog.Identifier, req catalog.CreateTable) (*catalog.Table, error) {
	if err := checkName(id, 2); err != nil {
		return nil, err
	}
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.namespaces[key(id.Namespace())]; !ok {
		return nil, fmt.Errorf("%w: %s", catalog.ErrNoSuchNamespace, id.Namespace())
	}
	if m.tables[key(id)] != nil {
		return nil, fmt.Errorf("table %s: %w", id, catalog.ErrExists)
	}
	if req.Schema == nil {
		return nil, fmt.Errorf("%w: the schema is missing", catalog.ErrInvalid)
	}
	uid, root, order, spec := uuid.New(), req.Location, table.UnsortedSortOrder, req.Partition
	if root == "" {
		root = m.wh.URI + "/" + uid.String()
	}
	if req.SortOrder != nil {
		order = *req.SortOrder
	}
	if spec == nil {
		spec = iceberg.UnpartitionedSpec
	}
	meta, err := table.NewMetadataWithUUID(req.Schema, spec, order, root, maps.Clone(req.Properties), uid)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	if err := m.checkLocation(meta); err != nil {
		return nil, err
	}
	s := &state{id: slices.Clone(id), meta: meta, version: 1}
	m.tables[key(id)] = s
	return s.table(meta), nil
}

func (m *model) checkLocation(meta table.Metadata) error {
	if !strings.HasPrefix(meta.Location(), m.wh.URI+"/") {
		return fmt.Errorf("%w: location %s is outside of %s", catalog.ErrInvalid, meta.Location(), m.wh.URI)
	}
	return nil
}

func (s *state) table(meta table.Metadata) *catalog.Table {
	return &catalog.Table{Identifier: slices.Clone(s.id), Metadata: meta, Version: s.version}
}

func (m *model) find(id catalog.Identifier) (*state, error) {
	if err := checkName(id, 2); err != nil {
		return nil, err
	}
	s := m.tables[key(id)]
	if s == nil {
		return nil, fmt.Errorf("%w: %s", catalog.ErrNoSuchTable, id)
	}
	return s, nil
}

func (m *model) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	s, err := m.find(id)
	if err != nil {
		return nil, err
	}
	if how == catalog.LoadRefs {
		return s.table(leanOf(s.meta)), nil
	}
	return s.table(s.meta), nil
}

// lean is metadata that shows only the snapshots which refs name.
type lean struct {
	table.Metadata
	shown []table.Snapshot
}

func leanOf(meta table.Metadata) table.Metadata {
	named := map[int64]bool{}
	for _, r := range meta.Refs() {
		named[r.SnapshotID] = true
	}
	l := lean{Metadata: meta}
	for _, s := range meta.Snapshots() {
		if named[s.SnapshotID] {
			l.shown = append(l.shown, s)
		}
	}
	return l
}

func (l lean) Snapshots() []table.Snapshot { return l.shown }

func (l lean) SnapshotByID(id int64) *table.Snapshot {
	for i := range l.shown {
		if l.shown[i].SnapshotID == id {
			return &l.shown[i]
		}
	}
	return nil
}

func (m *model) CommitTable(ctx context.Context, c catalog.TableCommit) (*catalog.Table, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	after, err := m.apply([]catalog.TableCommit{c})
	if err != nil {
		return nil, err
	}
	return after[0].table(leanOf(after[0].meta)), nil
}

func (m *model) CommitTransaction(ctx context.Context, commits []catalog.TableCommit) error {
	if m.noTx {
		return fmt.Errorf("transaction: %w", catalog.ErrUnsupported)
	}
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if len(commits) == 0 {
		return fmt.Errorf("%w: a transaction without commits", catalog.ErrInvalid)
	}
	seen := map[string]bool{}
	for _, c := range commits {
		if seen[key(c.Identifier)] {
			return fmt.Errorf("%w: table %s comes twice", catalog.ErrInvalid, c.Identifier)
		}
		seen[key(c.Identifier)] = true
	}
	_, err := m.apply(commits)
	return err
}

// apply evaluates all commits, then lets all take effect.
func (m *model) apply(commits []catalog.TableCommit) ([]*state, error) {
	after := make([]*state, len(commits))
	for i, c := range commits {
		next, err := m.evaluate(c)
		if err != nil {
			return nil, fmt.Errorf("commit table %s: %w", c.Identifier, err)
		}
		after[i] = next
	}
	for _, s := range after {
		m.tables[key(s.id)] = s
	}
	return after, nil
}

func (m *model) evaluate(c catalog.TableCommit) (*state, error) {
	s, err := m.find(c.Identifier)
	creates := slices.ContainsFunc(c.Requirements, func(r table.Requirement) bool { return r.GetType() == "assert-create" })
	if s == nil && creates && errors.Is(err, catalog.ErrNoSuchTable) {
		return m.create(c)
	}
	if err != nil {
		return nil, err
	}
	for _, r := range c.Requirements {
		if err := r.Validate(s.meta); err != nil {
			return nil, fmt.Errorf("%w: %w", catalog.ErrConflict, err)
		}
	}
	b, err := table.MetadataBuilderFromBase(s.meta, "")
	if err != nil {
		return nil, err
	}
	updates, err := m.prepare(s.meta, c.Updates)
	if err != nil {
		return nil, err
	}
	meta, err := build(b, updates)
	if err != nil {
		return nil, err
	}
	if err := m.checkLocation(meta); err != nil {
		return nil, err
	}
	next := &state{id: s.id, meta: meta, version: s.version + 1, history: s.history}
	next.remember(s.meta)
	return next, nil
}

// remember notes a move of main.
func (s *state) remember(before table.Metadata) {
	now := s.meta.CurrentSnapshot()
	if was := before.CurrentSnapshot(); now == nil || was != nil && was.SnapshotID == now.SnapshotID {
		return
	}
	e := catalog.HistoryEntry{Version: s.version, At: time.UnixMilli(time.Now().UnixMilli()), SnapshotID: now.SnapshotID}
	if now.Summary != nil {
		e.Offsets = now.Summary.Properties[offsetsKey]
	}
	s.history = append(slices.Clip(s.history), e)
}

func (m *model) create(c catalog.TableCommit) (*state, error) {
	b, err := table.NewMetadataBuilder(2)
	if err != nil {
		return nil, err
	}
	var updates table.Updates
	for _, u := range c.Updates {
		if u.Action() != table.UpdateUpgradeFormatVersion {
			updates = append(updates, u)
		}
	}
	meta, err := build(b, updates)
	if err != nil {
		return nil, err
	}
	return &state{id: slices.Clone(c.Identifier), meta: meta, version: 1}, m.checkLocation(meta)
}

// build applies updates; what the library cannot apply is a bad request.
func build(b *table.MetadataBuilder, updates table.Updates) (table.Metadata, error) {
	for _, u := range updates {
		if err := u.Apply(b); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", catalog.ErrInvalid, u.Action(), err)
		}
	}
	meta, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return meta, nil
}

// view is what the model looks at in an update, by its JSON form: iceberg-go keeps the types to itself.
type view struct {
	RefName  string         `json:"ref-name"`
	Snapshot table.Snapshot `json:"snapshot"`
}

func viewOf(u table.Update) (v view, err error) {
	raw, err := json.Marshal(u)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	return v, err
}

// prepare leaves out what is done already, and tells a snapshot on an older head from a bad request.
func (m *model) prepare(meta table.Metadata, updates table.Updates) (table.Updates, error) {
	refs := map[string]bool{}
	for name := range meta.Refs() {
		refs[name] = true
	}
	seq := meta.LastSequenceNumber()
	var out table.Updates
	for _, u := range updates {
		switch u.Action() {
		case table.UpdateAddSnapshot:
			v, err := viewOf(u)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
			}
			if sn := v.Snapshot; sn.ParentSnapshotID != nil && sn.SequenceNumber <= seq && meta.Version() > 1 {
				if !m.noSequences {
					return nil, fmt.Errorf("%w: snapshot %d has sequence number %d, the table's last is %d", catalog.ErrConflict, sn.SnapshotID, sn.SequenceNumber, seq)
				}
				sn.SequenceNumber = seq + 1
				u = table.NewAddSnapshotUpdate(&sn)
			}
			seq = max(seq, v.Snapshot.SequenceNumber)
		case table.UpdateSetSnapshotRef, table.UpdateRemoveSnapshotRef:
			v, err := viewOf(u)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
			}
			set := u.Action() == table.UpdateSetSnapshotRef
			if !set && !refs[v.RefName] {
				continue
			}
			refs[v.RefName] = set
		}
		out = append(out, u)
	}
	return out, nil
}

func (m *model) DropTable(ctx context.Context, id catalog.Identifier, _ bool) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, err := m.find(id); err != nil {
		return err
	}
	delete(m.tables, key(id))
	return nil
}

// historyPage is how many entries a listing gives at most: few, so that a recovery turns pages.
const historyPage = 3

// keptHistory is what no pruning forgets.
const keptHistory = time.Hour

// historyOf is a table's state, for a call about its history, which has entered.
func (m *model) historyOf(id catalog.Identifier) (*state, error) {
	if m.noHistory {
		return nil, fmt.Errorf("history: %w", catalog.ErrUnsupported)
	}
	return m.find(id)
}

func (m *model) HistoryAt(ctx context.Context, id catalog.Identifier, at time.Time) (catalog.HistoryEntry, error) {
	if err := m.enter(ctx); err != nil {
		return catalog.HistoryEntry{}, err
	}
	defer m.mu.Unlock()
	s, err := m.historyOf(id)
	if err != nil {
		return catalog.HistoryEntry{}, err
	}
	for _, e := range slices.Backward(s.history) {
		if !e.At.After(at) {
			return e, nil
		}
	}
	return catalog.HistoryEntry{}, fmt.Errorf("table %s: %w", id, catalog.ErrNoHistory)
}

func (m *model) ListHistory(ctx context.Context, id catalog.Identifier, r catalog.HistoryRange) ([]catalog.HistoryEntry, error) {
	if err := m.enter(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	s, err := m.historyOf(id)
	if err != nil {
		return nil, err
	}
	limit := historyPage
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	var page []catalog.HistoryEntry
	for _, e := range slices.Backward(s.history) {
		out := r.Before != 0 && e.Version >= r.Before || !r.Since.IsZero() && e.At.Before(r.Since) || !r.Until.IsZero() && e.At.After(r.Until)
		if !out && len(page) < limit {
			page = append(page, e)
		}
	}
	return page, nil
}

func (m *model) PruneHistory(ctx context.Context, id catalog.Identifier, before time.Time, dryRun bool) (int64, error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	if time.Since(before) < keptHistory {
		return 0, fmt.Errorf("%w: the history of the last %s stays", catalog.ErrInvalid, keptHistory)
	}
	s, err := m.historyOf(id)
	if err != nil {
		return 0, err
	}
	n := 0
	for n+1 < len(s.history) && s.history[n+1].At.Before(before) {
		n++
	}
	if !dryRun {
		s.history = s.history[n:]
	}
	return int64(n), nil
}

// versions is a number that grows with every commit.
func (m *model) versions() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.tables {
		n += s.version
	}
	return n
}

// expose writes the metadata of a table's present version, as a catalog does for whoever reads files, and returns where.
func (m *model) expose(ctx context.Context, id catalog.Identifier) (string, error) {
	m.mu.Lock()
	s, err := m.find(id)
	m.mu.Unlock()
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(s.meta)
	if err != nil {
		return "", err
	}
	location := fmt.Sprintf("%s/metadata/%05d.metadata.json", s.meta.Location(), s.version)
	k, err := m.wh.Key(location)
	if err != nil {
		return "", err
	}
	_, err = m.wh.Put(ctx, k, strings.NewReader(string(raw)), objstore.Overwrite)
	return location, err
}
