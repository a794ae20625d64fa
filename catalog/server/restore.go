package server

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/objstore"
)

// RestoreOptions say how far a restore may go.
type RestoreOptions struct {
	DryRun bool
	// Overwrite puts what the warehouse has in the place of tables that are there.
	Overwrite bool
	// Inventory is the number of the inventory that counts; 0: the newest.
	Inventory int64
	// Tables are named by a person: they are restored from a metadata file or, as the others, from the newest one in
	// a table's location, whatever the inventory says.
	Tables []NamedTable
}

// NamedTable is a name and where its table lies: the location of a table or of one metadata file.
type NamedTable struct {
	Name  catalog.Identifier
	Place string
}

// What became of an entry.
const (
	OutcomeRestored = "restored"
	OutcomeReplaced = "replaced"      // the table that was there went
	OutcomeThere    = "left as it is" // the name is taken
	OutcomeFailed   = "failed"        // nothing was made; Reason says why
)

// RestoreReport is what a restore did, or, dry, would do.
type RestoreReport struct {
	Inventory string     `json:"inventory"` // its location; empty where there is none
	DryRun    bool       `json:"dry_run"`
	Entries   []Restored `json:"entries"`
	// Unnamed are tables that lie in the warehouse and that nothing names: dropped without purge, or created in the
	// last seconds before the database was lost.
	Unnamed []Unnamed `json:"unnamed"`
}

// Restored is a namespace, table or view.
type Restored struct {
	Kind             string    `json:"kind"`
	Name             string    `json:"name"`
	Outcome          string    `json:"outcome"`
	Reason           string    `json:"reason,omitempty"`
	MetadataLocation string    `json:"metadata_location,omitempty"`
	UpdatedAt        time.Time `json:"updated_at,omitzero"`
	SequenceNumber   int64     `json:"sequence_number,omitempty"`
	Notes            []string  `json:"notes,omitempty"` // what was passed over
}

// Unnamed is a directory with metadata files.
type Unnamed struct {
	Directory string `json:"directory"`
	Files     int    `json:"files"`
	Newest    string `json:"newest"`
}

// ErrNotRestored reports that some of what the warehouse names was not restored; the report says which and why.
var ErrNotRestored = errors.New("not everything was restored")

// restoring is one run.
type restoring struct {
	*Service
	o       RestoreOptions
	dirs    map[string]*metadataFiles // by key
	claimed map[string]bool           // directories that something named has
	r       *RestoreReport
}

// Restore makes the namespaces, tables and views that the warehouse's inventory names, each table from its newest
// valid metadata file. Nothing that is there already is changed, unless Overwrite says so. What is ambiguous or broken
// is reported and left out, never guessed. With ErrNotRestored the report is complete.
func (s *Service) Restore(ctx context.Context, o RestoreOptions) (*RestoreReport, error) {
	run := &restoring{Service: s, o: o, claimed: map[string]bool{}, r: &RestoreReport{DryRun: o.DryRun, Entries: []Restored{}, Unnamed: []Unnamed{}}}
	inv, err := run.inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if run.dirs, err = s.scanMetadata(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	for _, n := range run.namespaces(inv) {
		run.note(run.namespace(ctx, n))
	}
	named := map[string]bool{}
	for _, t := range o.Tables {
		named[strings.Join(t.Name, "\x1f")] = true
		run.note(run.named(ctx, t))
	}
	for _, t := range inv.Tables {
		run.claimTable(t)
		if !named[strings.Join(t.Name, "\x1f")] {
			run.note(run.table(ctx, t))
		}
	}
	for _, v := range inv.Views {
		run.note(run.view(ctx, v))
	}
	run.unnamed()
	failed := 0
	for _, e := range run.r.Entries {
		if e.Outcome == OutcomeFailed {
			failed++
		}
	}
	if failed > 0 {
		return run.r, fmt.Errorf("restore: %w: %d of %d", ErrNotRestored, failed, len(run.r.Entries))
	}
	return run.r, nil
}

func (run *restoring) note(e Restored) { run.r.Entries = append(run.r.Entries, e) }

// inventory reads the one that counts. A warehouse without one has no names but those that a person gives.
func (run *restoring) inventory(ctx context.Context) (*inventoryFile, error) {
	all, err := run.listInventories(ctx)
	if err != nil {
		return nil, err
	}
	n := run.o.Inventory
	switch {
	case n != 0 && !slices.Contains(all, n):
		return nil, fmt.Errorf("%w: there is no inventory %d; there are %v", catalog.ErrInvalid, n, all)
	case n == 0 && len(all) == 0:
		return &inventoryFile{}, nil
	case n == 0:
		n = all[len(all)-1]
	}
	run.r.Inventory = run.wh.Location(inventoryKey(n))
	return run.readInventory(ctx, inventoryKey(n))
}

// namespaces are those of the inventory and, where a person names a table, those that it needs.
func (run *restoring) namespaces(inv *inventoryFile) []inventoryNamespace {
	out, have := slices.Clone(inv.Namespaces), map[string]bool{}
	for _, n := range out {
		have[strings.Join(n.Name, "\x1f")] = true
	}
	for _, t := range run.o.Tables {
		for i := 1; i < len(t.Name); i++ {
			if key := strings.Join(t.Name[:i], "\x1f"); !have[key] {
				have[key] = true
				out = append(out, inventoryNamespace{Name: t.Name[:i]})
			}
		}
	}
	return out
}

func (run *restoring) namespace(ctx context.Context, n inventoryNamespace) Restored {
	e := Restored{Kind: "namespace", Name: catalog.Identifier(n.Name).String(), Outcome: OutcomeRestored}
	_, err := run.LoadNamespace(ctx, n.Name)
	if errors.Is(err, catalog.ErrNoSuchNamespace) {
		err = nil
		if !run.o.DryRun {
			err = run.CreateNamespace(ctx, n.Name, n.Properties)
		}
	} else if err == nil {
		e.Outcome = OutcomeThere
	}
	return e.ended(err)
}

// ended gives an entry its outcome when there was an error.
func (e Restored) ended(err error) Restored {
	if err != nil {
		e.Outcome, e.Reason = OutcomeFailed, err.Error()
	}
	return e
}

// table restores one that the inventory names.
func (run *restoring) table(ctx context.Context, t inventoryTable) Restored {
	e := Restored{Kind: "table", Name: catalog.Identifier(t.Name).String()}
	var files []objstore.Info
	for _, dir := range run.claimTable(t) {
		if m := run.dirs[dir]; m != nil {
			files = append(files, m.files...)
		}
	}
	if len(files) == 0 {
		return e.ended(fmt.Errorf("%w: no metadata file under %s; it was lost with the database if it was created in its last seconds", catalog.ErrInvalid, t.Location))
	}
	best, notes, err := run.newest(ctx, files, t.UUID)
	e.Notes = notes
	if err != nil {
		return e.ended(err)
	}
	return run.register(ctx, e, t.Name, best)
}

// claimTable returns the keys of the directories where a table's metadata files may lie.
func (run *restoring) claimTable(t inventoryTable) (dirs []string) {
	for _, loc := range []string{t.MetadataDir, metadataDir(t.Location, nil)} {
		if loc == "" {
			continue
		}
		if k, err := run.key(loc); err == nil && !slices.Contains(dirs, k) {
			dirs = append(dirs, k)
			run.claimed[k] = true
		}
	}
	return dirs
}

// named restores a table that a person names.
func (run *restoring) named(ctx context.Context, t NamedTable) Restored {
	e := Restored{Kind: "table", Name: t.Name.String()}
	key, err := run.key(t.Place)
	if err != nil {
		return e.ended(err)
	}
	if strings.HasSuffix(key, metadataSuffix) {
		run.claimed[path.Dir(key)] = true
		c, err := run.candidate(ctx, key)
		if err != nil {
			return e.ended(err)
		}
		return run.register(ctx, e, t.Name, c)
	}
	for _, dir := range []string{key, key + "/metadata"} {
		m := run.dirs[dir]
		if m == nil {
			continue
		}
		run.claimed[dir] = true
		best, notes, err := run.newest(ctx, m.files, "")
		e.Notes = notes
		if err != nil {
			return e.ended(err)
		}
		return run.register(ctx, e, t.Name, best)
	}
	return e.ended(fmt.Errorf("%w: %s has no metadata files", catalog.ErrInvalid, t.Place))
}

// register makes the table of its file, if the name is free or may be overwritten.
func (run *restoring) register(ctx context.Context, e Restored, id catalog.Identifier, c *candidate) Restored {
	e.MetadataLocation, e.UpdatedAt, e.SequenceNumber = c.location, time.UnixMilli(c.meta.LastUpdatedMillis()).UTC(), c.meta.LastSequenceNumber()
	e.Outcome = OutcomeRestored
	err := checkTableName(id)
	if err == nil {
		_, err = run.store.Head(ctx, id)
	}
	switch {
	case err == nil && !run.o.Overwrite:
		e.Outcome = OutcomeThere
		return e
	case err == nil:
		e.Outcome = OutcomeReplaced
	case !errors.Is(err, catalog.ErrNoSuchTable):
		return e.ended(err)
	}
	if run.o.DryRun {
		return e
	}
	_, err = run.Service.register(ctx, id, c.location, run.o.Overwrite)
	return e.ended(err)
}

// view restores a view from the file that the inventory names.
func (run *restoring) view(ctx context.Context, v inventoryView) Restored {
	e := Restored{Kind: "view", Name: catalog.Identifier(v.Name).String(), Outcome: OutcomeRestored, MetadataLocation: v.MetadataLocation}
	key, err := run.key(v.MetadataLocation)
	if err != nil {
		return e.ended(err)
	}
	dir := path.Dir(key)
	run.claimed[dir] = true
	if m := run.dirs[dir]; m != nil {
		for _, f := range m.files {
			if fileVersion(f.Key) > fileVersion(key) {
				e.Notes = append(e.Notes, "a newer file lies beside it, of a change in the last seconds or of one that never took effect: "+run.wh.Location(f.Key))
			}
		}
	}
	_, err = run.loadView(ctx, v.Name)
	switch {
	case err == nil:
		e.Outcome = OutcomeThere
		return e
	case !errors.Is(err, catalog.ErrNoSuchView):
		return e.ended(err)
	}
	if run.o.DryRun {
		if _, err := run.wh.Stat(ctx, key); err != nil {
			return e.ended(storageError("metadata file "+v.MetadataLocation, err))
		}
		return e
	}
	_, err = run.registerView(ctx, v.Name, v.MetadataLocation)
	return e.ended(err)
}

// unnamed lists the directories that are left.
func (run *restoring) unnamed() {
	for dir, m := range run.dirs {
		if run.claimed[dir] {
			continue
		}
		run.r.Unnamed = append(run.r.Unnamed, Unnamed{Directory: run.wh.Location(dir), Files: m.count, Newest: path.Base(m.files[0].Key)})
	}
	slices.SortFunc(run.r.Unnamed, func(a, b Unnamed) int { return strings.Compare(a.Directory, b.Directory) })
}
