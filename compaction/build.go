package compaction

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// pending is a rewrite on its way into the table. Its data files do not change; its manifests are written for a head and
// serve every later head that still lists the manifests that they replace.
type pending struct {
	c      *Compactor
	ts     *tableState
	report *Report
	id     int64 // of the snapshot, in all attempts
	done   []*rewritten
	merges [][]string // manifests, besides those that hold inputs, of which each group becomes one

	gone    []*rewritten           // an input is not live any more
	new     []iceberg.ManifestFile // nil: to be written
	drop    map[string]bool        // what new replaces
	merged  int                    // of new, those that merges gave
	written []string               // manifests and lists that all attempts stored
	unsure  bool                   // an attempt got no answer: nothing is deleted any more
}

// build makes the snapshot on a head.
func (p *pending) build(ctx context.Context, head snapshot.Head) (table.Snapshot, error) {
	if v := head.Meta.Version(); v != 2 && len(p.done) > 0 {
		return table.Snapshot{}, fmt.Errorf("%w: the table was upgraded to format version %d", snapshot.ErrMoved, v)
	}
	listed := map[string]bool{}
	for _, m := range head.Manifests {
		listed[m.FilePath()] = true
	}
	if err := p.noneDeleted(ctx, head); err != nil {
		return table.Snapshot{}, err
	}
	fits := p.new != nil
	for loc := range p.drop {
		fits = fits && listed[loc]
	}
	if !fits {
		if err := p.locate(ctx, head, listed); err != nil {
			return table.Snapshot{}, err
		}
		if err := p.writeManifests(ctx, head); err != nil {
			return table.Snapshot{}, err
		}
	}
	summary, err := carried(head.Snapshot)
	if err != nil {
		return table.Snapshot{}, err
	}
	ch := snapshot.Change{SnapshotID: p.id, Operation: table.OpReplace, New: p.new, Drop: p.drop, Summary: summary}
	for _, d := range p.done {
		ch.Added = append(ch.Added, d.output)
		ch.Removed = append(ch.Removed, d.inputs...)
	}
	s, err := snapshot.Build(ctx, p.c.wh, head, ch, p.c.now())
	if err == nil {
		p.written = append(p.written, s.ManifestList)
	}
	return s, err
}

// noneDeleted looks for rows of the inputs that were deleted since they were read: they would come back in the outputs, which
// a delete by position does not name.
func (p *pending) noneDeleted(ctx context.Context, head snapshot.Head) error {
	if len(p.done) == 0 { // manifests alone
		return nil
	}
	inputs := map[string]bool{}
	for _, d := range p.done {
		for _, f := range d.inputs {
			inputs[f.FilePath()] = true
		}
	}
	gone, err := p.c.withDeletedRows(ctx, head, func(df iceberg.DataFile) bool { return inputs[df.FilePath()] })
	if err != nil {
		return err
	}
	for loc := range gone {
		return fmt.Errorf("%w since the rewrite began: of %s", snapshot.ErrDeleteFiles, loc)
	}
	return nil
}

// carried is the head's record for a snapshot that holds the same rows; nothing when the head is another engine's.
func carried(s *table.Snapshot) (map[string]string, error) {
	if s.Summary == nil {
		return nil, nil
	}
	rec, err := ledger.ParseSummary(s.Summary.Properties)
	if errors.Is(err, ledger.ErrNoRecord) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %d: %w", s.SnapshotID, err)
	}
	rec.Kind = ledger.KindCompact
	return rec.Summary()
}

// locate finds the inputs again when somebody has rewritten their manifests. Rewrites with an input that is not live any
// more are given up; ErrMoved when none is left.
func (p *pending) locate(ctx context.Context, head snapshot.Head, listed map[string]bool) error {
	lost := map[string]*snapshot.File{}
	for _, d := range p.done {
		for i := range d.inputs {
			if f := &d.inputs[i]; !listed[f.Manifest] {
				lost[f.FilePath()] = f
			}
		}
	}
	if len(lost) > 0 {
		// Whether rows of them were deleted is known by now.
		files, err := p.c.read.FilesOf(ctx, snapshot.DataManifests(head.Manifests), func(f iceberg.DataFile) bool { return lost[f.FilePath()] != nil })
		if err != nil {
			return err
		}
		for _, f := range files {
			*lost[f.FilePath()] = f
			delete(lost, f.FilePath())
		}
	}
	left, gone := 0, func(d *rewritten) bool {
		return slices.ContainsFunc(d.inputs, func(f snapshot.File) bool { return lost[f.FilePath()] != nil })
	}
	for _, d := range p.done {
		if !gone(d) {
			left++
		}
	}
	if left == 0 && len(p.done) > 0 {
		return fmt.Errorf("%w: inputs of every job", snapshot.ErrMoved) // perhaps by this very rewrite: giveUp finds out
	}
	p.done = slices.DeleteFunc(p.done, func(d *rewritten) bool {
		if gone(d) {
			p.gone = append(p.gone, d)
			p.report.Jobs[d.at].Error = snapshot.ErrMoved.Error()
			return true
		}
		return false
	})
	for i, g := range p.merges {
		p.merges[i] = slices.DeleteFunc(g, func(loc string) bool { return !listed[loc] })
	}
	p.merges = slices.DeleteFunc(p.merges, func(g []string) bool { return len(g) < 2 })
	if len(p.done) == 0 && len(p.merges) == 0 {
		return fmt.Errorf("%w: manifests to be merged", snapshot.ErrMoved)
	}
	return nil
}

// manifestGroup tells manifests to be written apart: files that will be merged again from files that are left alone, so
// that the large manifests of the latter are not written again for the former.
type manifestGroup struct {
	spec    int
	settled bool
}

// writeManifests writes the entries of all manifests that hold inputs into new ones, and each group of merges into one.
func (p *pending) writeManifests(ctx context.Context, head snapshot.Head) error {
	p.drop, p.new, p.merged = map[string]bool{}, nil, 0
	groups := map[manifestGroup][]snapshot.Entry{}
	group := func(f iceberg.DataFile, spec int) manifestGroup {
		return manifestGroup{spec, f.FileSizeBytes() >= int64(p.c.cfg.SmallFileSize)}
	}
	replaced := map[string]bool{}
	for _, d := range p.done {
		spec := int(d.inputs[0].SpecID())
		g := group(d.output, spec)
		groups[g] = append(groups[g], snapshot.Added(d.output))
		for _, f := range d.inputs {
			replaced[f.FilePath()] = true
			p.drop[f.Manifest] = true
		}
	}
	for _, m := range head.Manifests {
		if !p.drop[m.FilePath()] {
			continue
		}
		files, err := p.c.read.FilesOf(ctx, []iceberg.ManifestFile{m}, nil)
		if err != nil {
			return err
		}
		spec := int(m.PartitionSpecID())
		for _, f := range files {
			g, e := group(f, spec), snapshot.Kept(f)
			if replaced[f.FilePath()] {
				g.settled, e = false, snapshot.Removed(f)
			}
			groups[g] = append(groups[g], e)
		}
	}
	if err := p.writeGroups(ctx, head, groups); err != nil {
		return err
	}
	return p.mergeGroups(ctx, head)
}

func (p *pending) writeGroups(ctx context.Context, head snapshot.Head, groups map[manifestGroup][]snapshot.Entry) error {
	for _, g := range slices.SortedFunc(maps.Keys(groups), func(a, b manifestGroup) int {
		return cmp.Or(cmp.Compare(a.spec, b.spec), cmp.Compare(flag(a.settled), flag(b.settled)))
	}) {
		spec := head.Meta.PartitionSpecByID(g.spec)
		if spec == nil {
			return fmt.Errorf("partition spec %d is not in the table's metadata", g.spec)
		}
		for chunk := range slices.Chunk(groups[g], maxManifestEntries) {
			m, err := snapshot.WriteManifest(ctx, p.c.wh, head.Meta, *spec, p.id, chunk)
			if err != nil {
				return err
			}
			p.wrote(m)
		}
	}
	return nil
}

// mergeGroups merges manifests whose entries stay as they are.
func (p *pending) mergeGroups(ctx context.Context, head snapshot.Head) error {
	byLocation := make(map[string]iceberg.ManifestFile, len(head.Manifests))
	for _, m := range head.Manifests {
		byLocation[m.FilePath()] = m
	}
	for _, g := range p.merges {
		var inputs []iceberg.ManifestFile
		for _, loc := range g {
			if !p.drop[loc] {
				inputs = append(inputs, byLocation[loc])
			}
		}
		if len(inputs) < 2 {
			continue
		}
		id := int(inputs[0].PartitionSpecID())
		spec := head.Meta.PartitionSpecByID(id)
		if spec == nil {
			return fmt.Errorf("partition spec %d is not in the table's metadata", id)
		}
		m, err := snapshot.MergeManifests(ctx, p.c.wh, head.Meta, *spec, p.id, inputs)
		if err != nil {
			return err
		}
		for _, in := range inputs {
			p.drop[in.FilePath()] = true
		}
		p.wrote(m)
		p.merged++
	}
	return nil
}

func (p *pending) wrote(m iceberg.ManifestFile) {
	p.written = append(p.written, m.FilePath())
	p.new = append(p.new, m)
	p.c.m.manifestBytes.Add(float64(m.Length()))
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
