package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/scan"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/units"
)

// maxPlanID bounds the id of a plan, which stands in a path.
const maxPlanID = 4096

// errPlan: no plan has this id (404).
var errPlan = errors.New("no such plan")

// rowColumns are the columns that every table has and no schema names. A client may select them.
var rowColumns = []string{"_file", "_pos", "_deleted", "_spec_id", "_partition", "_row_id", "_last_updated_sequence_number"}

// PlanConfig bounds the planning of scans.
type PlanConfig struct {
	PageFiles  int         `yaml:"page_files" jsonschema_description:"Files of one answer; what is more comes in further answers. Default 2000."`
	PageBytes  units.Bytes `yaml:"page_bytes" jsonschema_description:"About how large an answer may become; default 16MiB."`
	Examine    int         `yaml:"examine" jsonschema_description:"Entries of manifests that are looked at for one answer; default 100000."`
	MaxTasks   int         `yaml:"max_tasks" jsonschema_description:"Plan tasks of one answer: how many parts of a large plan can be asked for side by side. Default 64."`
	MaxFilter  units.Bytes `yaml:"max_filter" jsonschema_description:"The longest filter of a scan, as JSON; default 256KiB."`
	MaxDeletes int         `yaml:"max_deletes" jsonschema_description:"Delete files of a snapshot that is planned here; default 100000."`
	Readers    int         `yaml:"readers" jsonschema_description:"Manifests that one request reads at once; default 8."`
	Cache      units.Bytes `yaml:"cache" jsonschema_description:"Memory for what was read of manifests, which never change; default 64MiB."`
	Reading    units.Bytes `yaml:"reading" jsonschema_description:"Bytes of manifests that are being decoded at once, all requests together; default 64MiB."`
}

// WithDefaults fills unset fields.
func (c PlanConfig) WithDefaults() PlanConfig {
	if c.PageFiles == 0 {
		c.PageFiles = 2000
	}
	if c.PageBytes == 0 {
		c.PageBytes = 16 << 20
	}
	if c.Examine == 0 {
		c.Examine = 100_000
	}
	if c.MaxTasks == 0 {
		c.MaxTasks = 64
	}
	if c.MaxFilter == 0 {
		c.MaxFilter = 256 << 10
	}
	if c.MaxDeletes == 0 {
		c.MaxDeletes = 100_000
	}
	if c.Readers == 0 {
		c.Readers = 8
	}
	if c.Cache == 0 {
		c.Cache = 64 << 20
	}
	if c.Reading == 0 {
		c.Reading = 64 << 20
	}
	return c
}

// Validate names the first value that cannot be used.
func (c PlanConfig) Validate() error {
	switch {
	case c.PageFiles < 1 || c.PageFiles > 1_000_000:
		return fmt.Errorf("page_files: %d is not within 1 to 1000000", c.PageFiles)
	case c.PageBytes < 1<<10:
		return fmt.Errorf("page_bytes: %d is less than 1KiB", c.PageBytes)
	case c.Examine < 1:
		return fmt.Errorf("examine: %d is less than 1", c.Examine)
	case c.MaxTasks < 1 || c.MaxTasks > 10_000:
		return fmt.Errorf("max_tasks: %d is not within 1 to 10000", c.MaxTasks)
	case c.MaxFilter < 1<<10 || c.MaxFilter > 1<<20:
		return fmt.Errorf("max_filter: %d is not within 1KiB to 1MiB", c.MaxFilter)
	case c.MaxDeletes < 0:
		return fmt.Errorf("max_deletes: %d is negative", c.MaxDeletes)
	case c.Readers < 1 || c.Readers > 1000:
		return fmt.Errorf("readers: %d is not within 1 to 1000", c.Readers)
	case c.Cache < 0:
		return fmt.Errorf("cache: %d is negative", c.Cache)
	case c.Reading < 1<<20:
		return fmt.Errorf("reading: %d is less than 1MiB", c.Reading)
	}
	return nil
}

func (c PlanConfig) limits() scan.Limits {
	return scan.Limits{PageFiles: c.PageFiles, PageBytes: int64(c.PageBytes), Examine: c.Examine, Tasks: c.MaxTasks,
		Deletes: c.MaxDeletes, Readers: c.Readers, Cache: int64(c.Cache), Reading: int64(c.Reading)}
}

// plan answers which files a scan reads.
func (h *handler) plan(r *request) (reply, error) {
	var body wire.PlanRequest
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	l, err := h.planTable(r)
	if err != nil {
		return reply{}, fmt.Errorf("plan scan: %w", err)
	}
	task, sc, err := h.s.resolve(r.Context(), l, body)
	if err != nil {
		return reply{}, fmt.Errorf("plan scan of %s: %w", r.id(), err)
	}
	out, err := h.planned(r, l, task, sc)
	if err != nil {
		return reply{}, fmt.Errorf("plan scan of %s: %w", r.id(), err)
	}
	if out.ID, err = planID(task); err != nil {
		return reply{}, err
	}
	return ok(out), nil
}

// planTable is the newest state of the table in the path, or the table of a past time.
func (h *handler) planTable(r *request) (*lean, error) {
	if r.past == nil {
		return h.s.current(r.Context(), r.id())
	}
	d, err := h.s.loadPast(r.Context(), r.past)
	if err != nil {
		return nil, err
	}
	m, err := parse(d.full)
	if err != nil {
		return nil, err
	}
	return &lean{head: sqlstore.Head{ID: d.tableID, UUID: m.TableUUID().String(), Location: d.root}, meta: m}, nil
}

// planID names a plan so that it can be made again of its name.
func planID(t scan.Task) (string, error) {
	t.Whole = true
	id, err := t.Seal()
	if err != nil || len(id) <= maxPlanID {
		return id, err
	}
	t.Filter, t.Answered = nil, true
	return t.Seal()
}

// planned makes a plan from its beginning.
func (h *handler) planned(r *request, l *lean, task scan.Task, sc scan.Scan) (*wire.Plan, error) {
	page, rest, err := h.s.planner.Plan(r.Context(), sc)
	h.s.m.countPlan(page.Counts)
	if err != nil {
		return nil, planError(err)
	}
	out := &wire.Plan{Status: wire.PlanCompleted, ScanTasks: wire.ScanTasks{Files: page.Files, Deletes: page.Deletes}}
	for _, task.Range = range rest {
		sealed, err := task.Seal()
		if err != nil {
			return nil, err
		}
		out.Tasks = append(out.Tasks, sealed)
	}
	lent := wire.LoadTable{Config: map[string]string{}}
	place := l.meta.Location()
	if r.past != nil { // whose files are in the place of the table itself
		place = l.head.Location
	}
	if _, err := h.lend(r, l.head.ID, place, &lent); err != nil {
		return nil, err
	}
	out.Credentials = lent.Credentials
	return out, nil
}

// planError gives the errors of reading manifests their place among the catalog's.
func planError(err error) error {
	switch {
	case errors.Is(err, snapshot.ErrCorrupt):
		return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	case errors.Is(err, objstore.ErrNotFound), errors.Is(err, objstore.ErrBadKey), errors.Is(err, objstore.ErrOutsideRoot):
		return storageError("a manifest of the snapshot", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: the plan took longer than request_timeout: %w", catalog.ErrUnavailable, err)
	}
	return err
}

// resolve holds a request against the table and returns it as a task, of which it can be made again.
func (s *Service) resolve(ctx context.Context, l *lean, q wire.PlanRequest) (task scan.Task, sc scan.Scan, err error) {
	incremental := q.Start != nil || q.End != nil
	switch {
	case incremental && q.Snapshot != nil:
		return task, sc, fmt.Errorf("%w: snapshot-id is for a scan of one moment, start-snapshot-id and end-snapshot-id for one of a span", catalog.ErrInvalid)
	case incremental && (q.Start == nil || q.End == nil):
		return task, sc, fmt.Errorf("%w: start-snapshot-id and end-snapshot-id come together", catalog.ErrInvalid)
	case q.MinRows != nil && *q.MinRows < 0:
		return task, sc, fmt.Errorf("%w: min-rows-requested is negative", catalog.ErrInvalid)
	}
	task = scan.Task{Table: l.head.UUID, Since: q.Start, Schema: l.meta.CurrentSchema().ID}
	if q.MinRows != nil {
		task.MinRows = *q.MinRows
	}
	switch id := currentID(l.meta); {
	case incremental:
		task.Snapshot = *q.End
	case q.Snapshot != nil:
		task.Snapshot = *q.Snapshot
	case id != nil:
		task.Snapshot = *id
	}
	if sc, err = s.scanOf(ctx, l, task); err != nil {
		return task, sc, err
	}
	if q.SnapshotSchema && sc.Snapshot != nil && sc.Snapshot.SchemaID != nil {
		task.Schema = *sc.Snapshot.SchemaID
		if sc.Schema, err = schemaByID(l.meta, task.Schema); err != nil {
			return task, sc, err
		}
	}
	sensitive := q.CaseSensitive == nil || *q.CaseSensitive
	for _, name := range q.Select {
		if slices.Contains(rowColumns, name) {
			continue
		}
		if _, _, err := scan.Column(sc.Schema, name, sensitive); err != nil {
			return task, sc, fmt.Errorf("select: %w", err)
		}
	}
	for _, name := range q.Stats {
		_, id, err := scan.Column(sc.Schema, name, sensitive)
		if err != nil {
			return task, sc, fmt.Errorf("stats-fields: %w", err)
		}
		task.Stats = append(task.Stats, id)
	}
	slices.Sort(task.Stats)
	task.Stats = slices.Compact(task.Stats)
	sc.Stats = task.Stats
	if sc.Filter, err = scan.ParseFilter(q.Filter, sc.Schema, sensitive, int(s.cfg.Plan.MaxFilter)); err != nil {
		return task, sc, err
	}
	task.Filter = sc.Filter.JSON
	return task, sc, nil
}

func schemaByID(m table.Metadata, id int) (*iceberg.Schema, error) {
	for _, sc := range m.Schemas() {
		if sc.ID == id {
			return sc, nil
		}
	}
	return nil, fmt.Errorf("%w: the table has no schema %d any more", catalog.ErrInvalid, id)
}

// scanOf finds what a task is about, but for its filter.
func (s *Service) scanOf(ctx context.Context, l *lean, task scan.Task) (sc scan.Scan, err error) {
	sc = scan.Scan{Meta: l.meta, Since: task.Since, Stats: task.Stats, MinRows: task.MinRows, Filter: scan.All()}
	sc.Allowed = func(ctx context.Context, locations []string) error {
		places := make([]place, len(locations))
		for i, loc := range locations {
			places[i] = place{"manifest", loc}
		}
		return s.checkPlaces(ctx, l.meta, l.head.Location, l.head.ID, places)
	}
	if sc.Schema, err = schemaByID(l.meta, task.Schema); err != nil {
		return sc, err
	}
	switch {
	case task.Since != nil:
		sc.Appends, sc.Snapshot, err = s.appends(ctx, l, *task.Since, task.Snapshot)
	case task.Snapshot != 0:
		sc.Snapshot, err = s.snapshotOf(ctx, l, task.Snapshot)
	}
	return sc, err
}

// snapshotOf finds a snapshot of a table, be it one that lean metadata leaves out.
func (s *Service) snapshotOf(ctx context.Context, l *lean, id int64) (*table.Snapshot, error) {
	if sn := l.meta.SnapshotByID(id); sn != nil {
		return sn, nil
	}
	rows, err := s.store.SnapshotsByID(ctx, l.head.ID, []int64{id})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%w: the table has no snapshot %d", catalog.ErrInvalid, id)
	}
	var sn table.Snapshot
	if err := json.Unmarshal(rows[0].Body, &sn); err != nil {
		return nil, fmt.Errorf("snapshot %d in the catalog's database: %w", id, err)
	}
	return &sn, nil
}

// appends lists the snapshots after start, up to end, that append and do nothing else, oldest first. What others took
// out or rewrote in between is not looked at, as the protocol's incremental scan has it.
func (s *Service) appends(ctx context.Context, l *lean, start, end int64) (out []table.Snapshot, last *table.Snapshot, err error) {
	last, err = s.snapshotOf(ctx, l, end)
	if err != nil || start == end {
		return nil, last, err
	}
	st, err := s.store.LoadByID(ctx, l.head.ID, sqlstore.Scope{AllSnapshots: true})
	if err != nil {
		return nil, nil, err
	}
	full, err := newLean(st)
	if err != nil {
		return nil, nil, err
	}
	for sn := last; sn != nil; {
		if sn.Summary != nil && sn.Summary.Operation == table.OpAppend {
			out = append(out, *sn)
		}
		if sn.ParentSnapshotID != nil && *sn.ParentSnapshotID == start {
			slices.Reverse(out)
			return out, last, nil
		}
		if sn.ParentSnapshotID == nil {
			break
		}
		sn = full.meta.SnapshotByID(*sn.ParentSnapshotID)
	}
	return nil, nil, fmt.Errorf("%w: snapshot %d is no ancestor of snapshot %d, or what lies between has been expired", catalog.ErrInvalid, start, end)
}

// planTasks answers a part of a plan.
func (h *handler) planTasks(r *request) (reply, error) {
	var body wire.TasksRequest
	if err := h.decode(r, &body); err != nil {
		return reply{}, err
	}
	if body.Task == "" {
		return reply{}, fmt.Errorf("%w: plan-task is missing", catalog.ErrInvalid)
	}
	l, task, err := h.openTask(r, body.Task)
	if err == nil && task.Whole {
		err = fmt.Errorf("%w: it is the id of a plan", scan.ErrTask)
	}
	if err != nil {
		return reply{}, fmt.Errorf("scan tasks of %s: %w", r.id(), err)
	}
	sc, err := h.s.again(r.Context(), l, task)
	if err != nil {
		return reply{}, fmt.Errorf("scan tasks of %s: %w", r.id(), err)
	}
	page, err := h.s.planner.Continue(r.Context(), sc, task.Range)
	h.s.m.countPlan(page.Counts)
	if err != nil {
		return reply{}, fmt.Errorf("scan tasks of %s: %w", r.id(), planError(err))
	}
	out := wire.ScanTasks{Files: page.Files, Deletes: page.Deletes}
	if page.Next != nil {
		task.Range = *page.Next
		sealed, err := task.Seal()
		if err != nil {
			return reply{}, err
		}
		out.Tasks = []string{sealed}
	}
	return ok(out), nil
}

func (h *handler) openTask(r *request, sealed string) (*lean, scan.Task, error) {
	l, err := h.planTable(r)
	if err != nil {
		return nil, scan.Task{}, err
	}
	task, err := scan.Open(sealed, l.head.UUID)
	return l, task, err
}

// again resolves a task that was given before. What it names may have gone meanwhile.
func (s *Service) again(ctx context.Context, l *lean, task scan.Task) (sc scan.Scan, err error) {
	sc, err = s.scanOf(ctx, l, task)
	if err == nil {
		sc.Filter, err = scan.ParseFilter(task.Filter, sc.Schema, true, len(task.Filter))
	}
	if errors.Is(err, catalog.ErrInvalid) {
		return sc, fmt.Errorf("%w: what it is about has changed, plan again: %w", scan.ErrTask, err)
	}
	return sc, err
}

// planResult makes a plan again of its id: nothing is kept of one, and each was complete when it was answered.
func (h *handler) planResult(r *request) (reply, error) {
	l, task, err := h.openPlan(r)
	if err == nil && task.Answered {
		err = fmt.Errorf("%w: its filter is too long to be kept in the id, and it was answered when it was made: plan again", errPlan)
	}
	if err != nil {
		return reply{}, fmt.Errorf("planning result of %s: %w", r.id(), err)
	}
	sc, err := h.s.again(r.Context(), l, task)
	if err != nil {
		return reply{}, fmt.Errorf("planning result of %s: %w", r.id(), asPlan(err))
	}
	task.Whole = false
	out, err := h.planned(r, l, task, sc)
	if err != nil {
		return reply{}, fmt.Errorf("planning result of %s: %w", r.id(), err)
	}
	return ok(out), nil
}

func (h *handler) openPlan(r *request) (*lean, scan.Task, error) {
	l, task, err := h.openTask(r, r.plan)
	if err == nil && !task.Whole {
		err = fmt.Errorf("%w: it is a task of a plan", scan.ErrTask)
	}
	return l, task, asPlan(err)
}

// asPlan tells of a plan what is said of a task.
func asPlan(err error) error {
	if errors.Is(err, scan.ErrTask) {
		return fmt.Errorf("%w: %s", errPlan, err.Error())
	}
	return err
}

// cancelPlan has nothing to give back.
func (h *handler) cancelPlan(r *request) (reply, error) {
	if _, _, err := h.openPlan(r); err != nil {
		return reply{}, fmt.Errorf("cancel planning of %s: %w", r.id(), err)
	}
	return reply{http.StatusNoContent, nil}, nil
}
