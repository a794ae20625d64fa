package commit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// laid is a committer whose configuration says how rows are laid out.
func (l *lake) laid(cat catalog.Catalog, partitionBy, sortBy []string) *Committer {
	l.Helper()
	c := l.committer(cat)
	c.cfg.PartitionBy, c.cfg.SortBy = partitionBy, sortBy
	l.recover(c)
	return c
}

// specsOf tells under which partitioning each live file lies, and how many rows it holds: "1 meta_at_day 10".
func (l *lake) specsOf(id catalog.Identifier) []string {
	l.Helper()
	meta := l.load(id, catalog.LoadRefs)
	var out []string
	for _, f := range l.files(meta) {
		spec := meta.PartitionSpecByID(int(f.SpecID()))
		if spec == nil {
			l.Fatalf("file %s is of spec %d, which is not there", f.FilePath(), f.SpecID())
		}
		var names []string
		for _, pf := range spec.Fields() {
			names = append(names, pf.Name)
			if _, ok := f.Partition()[pf.FieldID]; !ok {
				l.Errorf("file %s has no value of %s", f.FilePath(), pf.Name)
			}
		}
		out = append(out, fmt.Sprintf("%d %s %d", spec.ID(), strings.Join(names, "+"), f.Count()))
	}
	slices.Sort(out)
	return out
}

func (l *lake) files(meta table.Metadata) []snapshot.File {
	l.Helper()
	files, err := l.reader.Files(context.Background(), meta.CurrentSnapshot(), nil)
	l.must(err)
	return files
}

func (l *lake) want(got, want []string) {
	l.Helper()
	if !slices.Equal(got, want) {
		l.Errorf("got  %q\nwant %q", got, want)
	}
}

// The commit that first has rows for a changed configuration changes the spec; older files stay what they were, and going
// back is going back to the spec that was.
func TestPartitioningChangesWithTheConfiguration(t *testing.T) {
	l := newLake(t, "day(meta.at)")
	l.commit(l.laid(l.cat, []string{"day(meta.at)"}, nil), rng(0, 0, 10))
	before := l.meta(l.rows)
	c := l.laid(l.cat, []string{"hour(meta.at)", "bucket(4, user)"}, nil)
	if l.meta(l.rows).DefaultPartitionSpec() != before.DefaultPartitionSpec() {
		t.Error("recovery alone changed the table")
	}
	b := l.batchOf(skips, rng(0, 10, 12))
	l.now = l.now.Add(time.Hour) // so that offsets alone are committed
	if _, err := c.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if l.meta(l.rows).DefaultPartitionSpec() != before.DefaultPartitionSpec() {
		t.Error("a commit without rows changed the table")
	}
	l.commit(c, rng(0, 12, 20))
	l.commit(c, rng(0, 20, 30))
	l.want(l.specsOf(l.rows)[:1], []string{"0 meta_at_day 10"})
	for _, s := range l.specsOf(l.rows)[1:] {
		if !strings.HasPrefix(s, "1 meta_at_hour+user_bucket_4 ") {
			t.Errorf("a new file lies under %s", s)
		}
	}
	if n := len(l.meta(l.rows).PartitionSpecs()); n != 2 {
		t.Errorf("%d specs", n)
	}
	hours := l.meta(l.rows)
	back := l.laid(l.cat, []string{"day(meta.at)"}, nil)
	l.commit(back, rng(0, 30, 40))
	after := l.meta(l.rows)
	if after.DefaultPartitionSpec() != before.DefaultPartitionSpec() || len(after.PartitionSpecs()) != 2 {
		t.Errorf("spec %d of %d", after.DefaultPartitionSpec(), len(after.PartitionSpecs()))
	}
	l.commit(l.laid(l.cat, []string{}, []string{}), rng(0, 40, 50))
	if s := l.meta(l.rows).PartitionSpec(); s.NumFields() != 0 {
		t.Errorf("without partition_by the table is still partitioned: %s", s)
	}
	// A field keeps its id in every spec.
	l.commit(l.laid(l.cat, []string{"bucket(4, user)"}, nil), rng(0, 50, 60))
	spec := l.meta(l.rows).PartitionSpec()
	hourly := hours.PartitionSpec()
	if spec.Field(0).FieldID != hourly.Field(1).FieldID {
		t.Errorf("bucket(4, user) has the id %d, it had %d", spec.Field(0).FieldID, hourly.Field(1).FieldID)
	}
	l.exactly(l.rows, 0, 60, 10, 11)
}

// exactly holds that the table has each offset once, but for those left out.
func (l *lake) exactly(id catalog.Identifier, from, to int64, without ...int64) {
	l.Helper()
	got := l.offsetsIn(id)[0]
	for o := from; o < to; o++ {
		want := 1
		if slices.Contains(without, o) {
			want = 0
		}
		if got[o] != want {
			l.Errorf("offset %d is there %d times", o, got[o])
		}
	}
}

// What another engine made of the table stays until the configuration changes.
func TestPartitioningOfAnotherEngineStays(t *testing.T) {
	l := newLake(t, "day(meta.at)")
	c := l.laid(l.cat, []string{"day(meta.at)"}, nil)
	l.commit(c, rng(0, 0, 10))
	meta := l.meta(l.rows)
	id := 1001
	spec, err := iceberg.NewPartitionSpecOpts(iceberg.WithSpecID(1), iceberg.AddPartitionFieldBySourceID(1, "u", iceberg.TruncateTransform{Width: 1}, meta.CurrentSchema(), &id))
	l.must(err)
	_, err = l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: l.rows, Updates: table.Updates{table.NewAddPartitionSpecUpdate(&spec, false), table.NewSetDefaultSpecUpdate(1)}})
	l.must(err)
	l.commit(l.laid(l.cat, []string{"day(meta.at)"}, nil), rng(0, 10, 20))
	if got := l.meta(l.rows).DefaultPartitionSpec(); got != 1 {
		t.Errorf("the spec was set back to %d", got)
	}
}

// Another engine that changes the layout between the files and the commit makes the files be written anew.
func TestPartitioningChangedByTwo(t *testing.T) {
	for _, lost := range []bool{false, true} {
		l := newLake(t)
		f := &faulty{Catalog: l.cat}
		c := l.laid(f, []string{"day(meta.at)"}, nil)
		rival := func() {
			meta := l.meta(l.rows)
			id := 1000
			spec, err := iceberg.NewPartitionSpecOpts(iceberg.WithSpecID(1), iceberg.AddPartitionFieldBySourceID(1, "u", iceberg.TruncateTransform{Width: 1}, meta.CurrentSchema(), &id))
			l.must(err)
			_, err = l.cat.CommitTable(context.Background(), catalog.TableCommit{Identifier: l.rows, Updates: table.Updates{table.NewAddPartitionSpecUpdate(&spec, false), table.NewSetDefaultSpecUpdate(1)}})
			l.must(err)
		}
		f.before = rival
		if lost {
			f.loseOne = true
		}
		b := l.batchOf(allRows, rng(0, 0, 20))
		defer release(b)
		var err error
		for range 3 {
			if _, err = c.Commit(t.Context(), b); err == nil {
				break
			}
		}
		l.must(err)
		for _, s := range l.specsOf(l.rows) {
			if !strings.HasPrefix(s, "2 meta_at_day ") {
				t.Errorf("lost %v: a file lies under %s", lost, s)
			}
		}
		l.exactly(l.rows, 0, 20)
	}
}

// faulty does something before the first commit, and loses its answer when asked.
type faulty struct {
	catalog.Catalog
	before  func()
	loseOne bool
}

func (f *faulty) CommitTable(ctx context.Context, tc catalog.TableCommit) (*catalog.Table, error) {
	if f.before != nil {
		before := f.before
		f.before = nil
		before()
		if f.loseOne {
			f.loseOne = false
			_, _ = f.Catalog.CommitTable(ctx, tc)
			return nil, fmt.Errorf("%w: injected", catalog.ErrUnknownOutcome)
		}
	}
	return f.Catalog.CommitTable(ctx, tc)
}

func TestFilesAreSorted(t *testing.T) {
	l := newLake(t)
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	l.mem = mem
	c := l.laid(l.cat, nil, []string{"user desc", "_kafka_offset desc"})
	l.commit(c, rng(0, 0, 40), rng(1, 0, 40))
	meta := l.meta(l.rows)
	order := meta.SortOrder()
	if order.IsUnsorted() || order.String() == "" || order.OrderID() != 1 {
		t.Fatalf("order %s", order)
	}
	files := l.files(meta)
	if len(files) != 1 || files[0].SortOrderID() == nil || *files[0].SortOrderID() != 1 {
		t.Fatalf("%d files, order %v", len(files), files[0].SortOrderID())
	}
	rows := 0
	last, lastOffset := "\xff", int64(1<<62)
	l.scan(meta, files[0], func(r arrow.RecordBatch) {
		for i := range int(r.NumRows()) {
			user, offset := r.Column(0).(*array.String).Value(i), r.Column(3).(*array.Int64).Value(i)
			if user > last || (user == last && offset > lastOffset) {
				t.Fatalf("row %d: %s %d follows %s %d", i, user, offset, last, lastOffset)
			}
			last, lastOffset = user, offset
			rows++
		}
	})
	if rows != 80 {
		t.Errorf("%d rows", rows)
	}
	l.exactly(l.rows, 0, 40)
	// Taken out of the configuration, files are unsorted again and say so.
	l.commit(l.laid(l.cat, []string{}, []string{}), rng(0, 40, 50))
	for _, f := range l.files(l.meta(l.rows)) {
		if f.Count() == 10 && *f.SortOrderID() != 0 {
			t.Errorf("an unsorted file says that its order is %d", *f.SortOrderID())
		}
	}
}

func (l *lake) scan(meta table.Metadata, f snapshot.File, fn func(arrow.RecordBatch)) {
	l.Helper()
	k, err := l.wh.Key(f.FilePath())
	l.must(err)
	data, err := l.wh.Get(context.Background(), k, 1<<30)
	l.must(err)
	r, err := datafile.NewReader(bytes.NewReader(data), int64(len(data)), f.FilePath(), datafile.ReadOptions{})
	l.must(err)
	defer r.Close()
	l.must(r.Scan(context.Background(), meta.CurrentSchema(), func(b arrow.RecordBatch) error { fn(b); return nil }))
}

func TestFilesEndNearTheirSize(t *testing.T) {
	sc := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "v", Type: iceberg.PrimitiveTypes.Int64})
	as, err := datafile.ArrowSchema(sc)
	if err != nil {
		t.Fatal(err)
	}
	b := array.NewInt64Builder(memory.DefaultAllocator)
	h := int64(1)
	for range 1 << 19 {
		h = h*6364136223846793005 + 1442695040888963407
		b.Append(h)
	}
	col := b.NewInt64Array()
	rows := array.NewRecordBatch(as, []arrow.Array{col}, 1<<19)
	w := &fileWriter{schema: sc, lay: fileLayout{options: datafile.DefaultWriteOptions(), size: 1 << 20}}
	err = errors.Join(w.write([]arrow.RecordBatch{rows}), w.end())
	out := w.out
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for i, f := range out {
		total += f.stats.Rows
		if n := len(f.data); i < len(out)-1 && (n < 1<<20 || n > 7<<18) {
			t.Errorf("file %d has %d bytes, 1 MiB was asked for", i, n)
		}
	}
	if total != 1<<19 || len(out) != 4 {
		t.Errorf("%d rows in %d files", total, len(out))
	}
}

// Properties of the table are followed, and taken out again with the configuration that set them.
func TestLayoutProperties(t *testing.T) {
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	cat := openCatalog(t, wh)
	id := catalog.Identifier{"layouts", "events"}
	const bloom, codec = "write.parquet.bloom-filter-enabled.column.user", "write.parquet.compression-codec"
	_, err := EnsureTable(t.Context(), cat, id, testSchema(), nil, map[string]string{bloom: "true", codec: "snappy", "firn.layout": bloom + " " + codec, "firn.pipeline": "p"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: id, Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{"write.parquet.row-group-limit": "7"})}}); err != nil {
		t.Fatal(err)
	}
	again, err := EnsureTable(t.Context(), cat, id, testSchema(), nil, map[string]string{"firn.pipeline": "p"})
	if err != nil {
		t.Fatal(err)
	}
	p := again.Metadata.Properties()
	if _, ok := p[bloom]; ok || p[codec] != "zstd" || p["write.parquet.row-group-limit"] != "7" || p["firn.layout"] != "" || p["firn.pipeline"] != "p" {
		t.Errorf("properties %v", p)
	}
	third, err := EnsureTable(t.Context(), cat, id, testSchema(), nil, map[string]string{"firn.pipeline": "p"})
	if err != nil || third.Version != again.Version {
		t.Errorf("nothing had to change, and version %d became %d, %v", again.Version, third.Version, err)
	}
	l := lakeIn(t, cat, wh)
	_, err = cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: l.rows, Updates: table.Updates{table.NewSetPropertiesUpdate(iceberg.Properties{
		codec: "lz4", "write.parquet.row-group-limit": "7", "write.metadata.metrics.default": "none"})}})
	l.must(err)
	c := l.committer(l.cat)
	l.recover(c)
	l.commit(c, rng(0, 0, 20))
	for _, f := range l.files(l.meta(l.rows)) {
		if len(f.SplitOffsets()) != 3 || f.LowerBoundValues()[1] != nil || f.LowerBoundValues()[5] == nil {
			t.Errorf("%d row groups, bounds of user %x, of the offset %x", len(f.SplitOffsets()), f.LowerBoundValues()[1], f.LowerBoundValues()[5])
		}
	}
	l.must(engineCommit(t.Context(), c, l))
	l.exactly(l.rows, 0, 30)
}

func engineCommit(ctx context.Context, c engine.Committer, l *lake) error {
	b := l.batchOf(allRows, rng(0, 20, 30))
	defer release(b)
	_, err := c.Commit(ctx, b)
	return err
}
