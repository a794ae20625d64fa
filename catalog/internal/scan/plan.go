package scan

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/lru"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// Limits bound a planner.
type Limits struct {
	PageFiles int   // files of one answer
	PageBytes int64 // about how large an answer may become
	Examine   int   // entries of manifests that are looked at for one answer
	Tasks     int   // tasks of one answer
	Deletes   int   // delete files of a snapshot
	Readers   int   // manifests that one request reads at once
	Cache     int64 // bytes of memory for what was read
	Reading   int64 // encoded bytes of manifests that are decoded at once, all requests together
}

// maxTasksBytes bounds the tasks of one answer, all together.
const maxTasksBytes = 4 << 20

// maxReferences bounds how often the files of one answer refer to delete files; one file may have more.
const maxReferences = 100_000

// maxAppends bounds the snapshots of one incremental scan: each has a manifest list of its own.
const maxAppends = 2000

// Planner plans scans over the tables of one warehouse.
type Planner struct {
	limits  Limits
	wh      *objstore.Warehouse
	reader  *snapshot.Reader
	lists   *lru.Cache[string, []iceberg.ManifestFile]
	files   *lru.Cache[string, []*file]
	flights singleflight.Group
	reading *semaphore.Weighted
}

// New returns a planner without anything read.
func New(wh *objstore.Warehouse, l Limits) *Planner {
	return &Planner{limits: l, wh: wh, reader: snapshot.NewReader(wh, 0), // what is kept is kept here, in another form
		lists: lru.New[string, []iceberg.ManifestFile](l.Cache / 8), files: lru.New[string, []*file](l.Cache - l.Cache/8),
		reading: semaphore.NewWeighted(l.Reading)}
}

// Scan is what to plan, resolved against a table.
type Scan struct {
	Meta     table.Metadata
	Snapshot *table.Snapshot // nil: an empty table
	// Appends, oldest first, make it a scan of the files that these snapshots added; Snapshot is the last of the span.
	Appends []table.Snapshot
	Since   *int64
	Schema  *iceberg.Schema
	Filter  Filter
	Stats   []int // columns whose metrics the answer carries, by id
	MinRows int64 // 0: all
	// Allowed says whether a table may name these files: manifests are read with the catalog's own keys.
	Allowed func(ctx context.Context, locations []string) error
}

// Counts is what planning cost.
type Counts struct {
	ManifestsSkipped, ManifestsRead, ManifestsCached int
	FilesSkipped, FilesPlanned                       int
}

// Page is an answer: files, the delete files that they refer to, and where to go on.
type Page struct {
	Files   []wire.FileScanTask
	Deletes []wire.ContentFile
	Next    *Range // nil: that was all
	Counts  Counts
}

// source is a data manifest of a scan.
type source struct {
	manifest  iceberg.ManifestFile
	addedOnly bool // of an incremental scan: what its own snapshot added
}

// run is one request.
type run struct {
	*Planner
	s       Scan
	specs   map[int]*partitionSpec
	filters map[int]*partitionFilter
	metrics check
	page    Page
	bytes   int64
	refs    int
	rows    int64
	places  map[*file]int // of a delete file in the page
}

func (p *Planner) start(s Scan) (r *run, err error) {
	defer func() { err = recovered(recover(), err) }()
	r = &run{Planner: p, s: s, specs: specsOf(s.Meta), filters: map[int]*partitionFilter{}, places: map[*file]int{}}
	if r.metrics, err = compile(s.Filter.Expr, onColumn); err != nil {
		return nil, fmt.Errorf("%w: filter: %w", catalog.ErrInvalid, err)
	}
	for id, spec := range r.specs {
		if r.filters[id], err = newPartitionFilter(s.Filter, spec); err != nil {
			return nil, fmt.Errorf("%w: filter: %w", catalog.ErrInvalid, err)
		}
	}
	return r, nil
}

// recovered makes an error of what a decoder's panic left.
func recovered(p any, err error) error {
	if p == nil {
		return err
	}
	return fmt.Errorf("%w: the library failed: %v", catalog.ErrInvalid, p)
}

// Plan answers from the scan's beginning, and splits what is left into ranges that can be asked for side by side.
func (p *Planner) Plan(ctx context.Context, s Scan) (Page, []Range, error) {
	r, err := p.start(s)
	if err != nil {
		return Page{}, nil, err
	}
	data, deletes, err := r.manifests(ctx)
	if err != nil {
		return Page{}, nil, err
	}
	if err := r.fill(ctx, data, deletes, Range{End: len(data)}); err != nil {
		return Page{}, nil, err
	}
	if r.page.Next == nil {
		return r.page, nil, nil
	}
	ranges, err := r.split(data, *r.page.Next)
	r.page.Next = nil
	return r.page, ranges, err
}

// Continue answers a range.
func (p *Planner) Continue(ctx context.Context, s Scan, span Range) (Page, error) {
	r, err := p.start(s)
	if err != nil {
		return Page{}, err
	}
	data, deletes, err := r.manifests(ctx)
	if err != nil {
		return Page{}, err
	}
	if span.End > len(data) {
		return Page{}, fmt.Errorf("%w: the snapshot has %d manifests, it wants those before %d", ErrTask, len(data), span.End)
	}
	err = r.fill(ctx, data, deletes, span)
	return r.page, err
}

// manifests lists the data manifests of the scan, in an order that never changes, and the delete manifests.
func (r *run) manifests(ctx context.Context) (data []source, deletes []iceberg.ManifestFile, err error) {
	if r.s.Snapshot == nil {
		return nil, nil, nil
	}
	if r.s.Since == nil {
		list, err := r.list(ctx, r.s.Snapshot)
		for _, m := range list {
			if m.ManifestContent() == iceberg.ManifestContentDeletes {
				deletes = append(deletes, m)
			} else {
				data = append(data, source{manifest: m})
			}
		}
		return data, deletes, err
	}
	if len(r.s.Appends) > maxAppends {
		return nil, nil, fmt.Errorf("%w: %d snapshots lie between the two, at most %d are planned at once", catalog.ErrInvalid, len(r.s.Appends), maxAppends)
	}
	lists := make([][]iceberg.ManifestFile, len(r.s.Appends))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.limits.Readers)
	for i := range r.s.Appends {
		g.Go(func() (err error) {
			lists[i], err = r.list(gctx, &r.s.Appends[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for i, list := range lists {
		for _, m := range list {
			if m.ManifestContent() == iceberg.ManifestContentData && m.SnapshotID() == r.s.Appends[i].SnapshotID {
				data = append(data, source{manifest: m, addedOnly: true})
			}
		}
	}
	return data, nil, nil
}

// list reads a snapshot's manifest list, and makes sure that what it names is the table's to name.
func (r *run) list(ctx context.Context, sn *table.Snapshot) ([]iceberg.ManifestFile, error) {
	key := r.s.Meta.TableUUID().String() + sn.ManifestList
	if have, ok := r.lists.Get(key); ok {
		return have, nil
	}
	if sn.ManifestList == "" {
		return nil, fmt.Errorf("%w: snapshot %d has no manifest list: its writer is of format version 1", catalog.ErrUnsupported, sn.SnapshotID)
	}
	list, err := r.reader.Manifests(ctx, sn)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	weight := int64(0)
	for i, m := range list {
		names[i] = m.FilePath()
		weight += int64(400 + len(names[i]) + 100*len(m.Partitions()))
	}
	if r.s.Allowed != nil {
		if err := r.s.Allowed(ctx, names); err != nil {
			return nil, err
		}
	}
	r.lists.Add(key, weight, list)
	return list, nil
}

// live is how many live entries a manifest has, by its list; 1 where the list does not say.
func live(m iceberg.ManifestFile) int {
	if m.AddedDataFiles() < 0 || m.ExistingDataFiles() < 0 {
		return 1
	}
	return int(m.AddedDataFiles()) + int(m.ExistingDataFiles())
}

// wanted tells whether a manifest can hold files of the scan.
func (r *run) wanted(m iceberg.ManifestFile) (bool, error) {
	spec, err := specByID(r.specs, int(m.PartitionSpecID()), m)
	if err != nil {
		return false, err
	}
	f := r.filters[spec.id]
	return live(m) > 0 && f.passes(f.summary(m)) != none, nil
}

// split cuts what is left into ranges of about a page each, and no more of them than there may be tasks.
func (r *run) split(data []source, rest Range) (out []Range, err error) {
	weights, total := make([]int, len(data)), 0
	for i := rest.First; i < rest.End; i++ {
		ok, err := r.wanted(data[i].manifest)
		if err != nil {
			return nil, err
		}
		if ok {
			weights[i] = live(data[i].manifest)
			total += weights[i]
		}
	}
	most := min(r.limits.Tasks, maxTasksBytes/(len(r.s.Filter.JSON)+500)) // a task is not larger than its filter, but for its frame
	share := max(r.limits.PageFiles, total/max(1, most)+1)
	at, sum := rest, 0
	for i := rest.First; i < rest.End; i++ {
		if weights[i] == 0 {
			continue
		}
		if sum > 0 && sum+weights[i] > share && len(out) < most-1 {
			out = append(out, Range{First: at.First, Skip: at.Skip, End: i})
			at, sum = Range{First: i}, 0
		}
		sum += weights[i]
	}
	if sum > 0 {
		out = append(out, Range{First: at.First, Skip: at.Skip, End: rest.End})
	}
	return out, nil
}

// read returns what a manifest has, from memory or from the storage.
func (r *run) read(ctx context.Context, m iceberg.ManifestFile) (files []*file, cached bool, err error) {
	key := r.s.Meta.TableUUID().String() + m.FilePath()
	if have, ok := r.files.Get(key); ok {
		return have, true, nil
	}
	// Those who wait share one read, which the one who leaves first must not end.
	ch := r.flights.DoChan(key, func() (any, error) { return r.decode(context.WithoutCancel(ctx), key, m) })
	select {
	case res := <-ch:
		if res.Err != nil {
			return nil, false, res.Err
		}
		return res.Val.([]*file), false, nil
	case <-ctx.Done():
		return nil, false, fmt.Errorf("%w: reading %s: %w", catalog.ErrUnavailable, m.FilePath(), ctx.Err())
	}
}

func (r *run) decode(ctx context.Context, key string, m iceberg.ManifestFile) (files []*file, err error) {
	spec, err := specByID(r.specs, int(m.PartitionSpecID()), m)
	if err != nil {
		return nil, err
	}
	weight := min(max(m.Length(), 1), r.limits.Reading)
	if err := r.reading.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	defer r.reading.Release(weight)
	entries, err := r.reader.Entries(ctx, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: the decoder failed: %v", m.FilePath(), snapshot.ErrCorrupt, p)
		}
	}()
	sum := int64(0)
	for _, e := range entries {
		f, err := newFile(e, spec)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %s: %w", m.FilePath(), snapshot.ErrCorrupt, e.DataFile().FilePath(), err)
		}
		if f.deletes() != (m.ManifestContent() == iceberg.ManifestContentDeletes) {
			return nil, fmt.Errorf("%s: %w: %s is not of the manifest's kind", m.FilePath(), snapshot.ErrCorrupt, f.path)
		}
		files = append(files, f)
		sum += f.weight()
	}
	r.files.Add(key, sum, files)
	return files, nil
}

// readAll reads manifests side by side, in order.
func (r *run) readAll(ctx context.Context, list []iceberg.ManifestFile) ([][]*file, error) {
	out, cached := make([][]*file, len(list)), make([]bool, len(list))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.limits.Readers)
	for i, m := range list {
		g.Go(func() (err error) {
			out[i], cached[i], err = r.read(gctx, m)
			return err
		})
	}
	err := g.Wait()
	for _, c := range cached {
		if c {
			r.page.Counts.ManifestsCached++
		} else {
			r.page.Counts.ManifestsRead++
		}
	}
	return out, err
}

// index reads the delete files that can apply to files of the scan.
func (r *run) index(ctx context.Context, deletes []iceberg.ManifestFile) (*deleteIndex, error) {
	var want []iceberg.ManifestFile
	total := 0
	for _, m := range deletes {
		ok, err := r.wanted(m)
		if err != nil {
			return nil, err
		}
		if !ok {
			r.page.Counts.ManifestsSkipped++
			continue
		}
		want = append(want, m)
		total += live(m)
	}
	if total > r.limits.Deletes {
		return nil, fmt.Errorf("%w: the snapshot has %d delete files, plan.max_deletes allows %d: compact the table, or plan in the client", catalog.ErrUnsupported, total, r.limits.Deletes)
	}
	lists, err := r.readAll(ctx, want)
	if err != nil {
		return nil, err
	}
	var all []*file
	for _, l := range lists {
		all = append(all, l...)
	}
	return newDeleteIndex(all, r.specs), nil
}

// fill answers a range until the page is full.
func (r *run) fill(ctx context.Context, data []source, deletes []iceberg.ManifestFile, span Range) error {
	index, err := r.index(ctx, deletes)
	if err != nil {
		return err
	}
	looked := 0
	for i := span.First; i < span.End; {
		// As many at once as the page can take, by what the list says of them.
		var wave []iceberg.ManifestFile
		var at []int
		expect := 0
		for ; i < span.End && len(wave) < r.limits.Readers && (len(wave) == 0 || expect < r.limits.PageFiles-len(r.page.Files)); i++ {
			ok, err := r.wanted(data[i].manifest)
			if err != nil {
				return err
			}
			if !ok {
				r.page.Counts.ManifestsSkipped++
				continue
			}
			wave, at = append(wave, data[i].manifest), append(at, i)
			expect += live(data[i].manifest)
		}
		lists, err := r.readAll(ctx, wave)
		if err != nil {
			return err
		}
		for w, files := range lists {
			skip := 0
			if at[w] == span.First {
				skip = min(span.Skip, len(files))
			}
			for k := skip; k < len(files); k++ {
				if r.full() || looked >= r.limits.Examine {
					r.page.Next = &Range{First: at[w], Skip: k, End: span.End}
					return nil
				}
				looked++
				if err := r.take(files[k], data[at[w]], index); err != nil {
					return err
				}
				if r.s.MinRows > 0 && r.rows >= r.s.MinRows {
					return nil
				}
			}
		}
	}
	return nil
}

func (r *run) full() bool {
	return len(r.page.Files) >= r.limits.PageFiles || r.bytes >= r.limits.PageBytes || r.refs >= maxReferences
}

// take puts a file into the page, unless it holds no row of the scan.
func (r *run) take(f *file, src source, index *deleteIndex) (err error) {
	defer func() { err = recovered(recover(), err) }()
	filter := r.filters[f.spec]
	if src.addedOnly && !(f.added && f.snapshot == src.manifest.SnapshotID()) ||
		filter.passes(filter.tuple(f)) == none || r.metrics(f.metrics) == none {
		r.page.Counts.FilesSkipped++
		return nil
	}
	task := wire.FileScanTask{File: f.wire(r.s.Stats)}
	if task.Residual, err = filter.left(f); err != nil {
		return fmt.Errorf("residual of %s: %w", f.path, err)
	}
	for _, d := range index.of(f) {
		place, ok := r.places[d]
		if !ok {
			place = len(r.page.Deletes)
			r.places[d] = place
			r.page.Deletes = append(r.page.Deletes, d.wire(nil))
			r.bytes += size(&r.page.Deletes[place], nil)
		}
		task.Deletes = append(task.Deletes, place)
	}
	if task.Residual == nil && len(task.Deletes) == 0 {
		r.rows += f.rows
	}
	r.refs += len(task.Deletes)
	r.bytes += size(&task.File, task.Residual) + int64(6*len(task.Deletes))
	r.page.Files = append(r.page.Files, task)
	r.page.Counts.FilesPlanned++
	return nil
}

// size is about how long a file is in an answer.
func size(f *wire.ContentFile, residual json.RawMessage) int64 {
	n := 250 + len(f.Path) + len(f.References) + len(f.Partition) + len(f.Key) + 12*len(f.Splits) + len(residual)
	for _, m := range []*wire.CountMap{f.Sizes, f.Values, f.Nulls, f.NaNs} {
		if m != nil {
			n += 24 + 16*len(m.Keys)
		}
	}
	for _, m := range []*wire.ValueMap{f.Lower, f.Upper} {
		if m != nil {
			n += 24
			for _, v := range m.Values {
				n += 10 + len(v)
			}
		}
	}
	return int64(n)
}
