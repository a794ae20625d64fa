package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	icebergio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/catalog/internal/scan/scantest"
	"github.com/firnlake/firn/catalog/internal/wire"
	"github.com/firnlake/firn/internal/objstore"
)

func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "40") // the flag has its say: it is parsed later
	goleak.VerifyTestMain(m)
}

func wide() Limits {
	return Limits{PageFiles: 1000, PageBytes: 16 << 20, Examine: 10_000, Tasks: 8, Deletes: 1000, Readers: 4, Cache: 1 << 20, Reading: 1 << 20}
}

func spec(id int, fields ...iceberg.PartitionField) iceberg.PartitionSpec {
	for i := range fields {
		fields[i].FieldID = 1000 + 10*id + i
		fields[i].Name = "p" + string(rune('a'+i)) + string(rune('0'+id))
	}
	return iceberg.NewPartitionSpecID(id, fields...)
}

func by(column int, t iceberg.Transform) iceberg.PartitionField {
	return iceberg.PartitionField{SourceIDs: []int{column}, Transform: t}
}

// specs are the ways in which the tables of the tests are partitioned, one after the other.
var specs = []iceberg.PartitionSpec{
	spec(0),
	spec(1, by(2, iceberg.DayTransform{}), by(6, iceberg.IdentityTransform{})),
	spec(2, by(3, iceberg.TruncateTransform{Width: 1}), by(1, iceberg.BucketTransform{NumBuckets: 3})),
	spec(3, by(5, iceberg.MonthTransform{}), by(4, iceberg.IdentityTransform{}), by(6, iceberg.VoidTransform{})),
	spec(4, by(2, iceberg.HourTransform{}), by(8, iceberg.IdentityTransform{}), by(7, iceberg.TruncateTransform{Width: 50})),
	spec(5, by(3, iceberg.IdentityTransform{}), by(2, iceberg.YearTransform{})),
}

// evolved is a table that has had all of specs, in this order.
func evolved(t testing.TB, version string) *scantest.Lake {
	t.Helper()
	l := scantest.New(t, version, &specs[0])
	for _, s := range specs[1:] {
		l.Apply(table.Updates{table.NewAddPartitionSpecUpdate(&s, false), table.NewSetDefaultSpecUpdate(s.ID())})
	}
	return l
}

// grow appends a snapshot of manifests of random files under one spec.
func grow(t *rapid.T, l *scantest.Lake) int64 {
	sp := specs[rapid.IntRange(0, len(specs)-1).Draw(t, "spec")]
	var groups [][]iceberg.DataFile
	for range rapid.IntRange(1, 2).Draw(t, "manifests") {
		var files []iceberg.DataFile
		for range rapid.IntRange(1, 4).Draw(t, "files") {
			rows := rapid.SliceOfN(row(), 1, 3).Draw(t, "rows")
			want := scantest.Partition(sp, rows[0])
			rows = slices.DeleteFunc(rows, func(r scantest.Row) bool { return !equalPartition(scantest.Partition(sp, r), want) })
			if len(rows) > 0 {
				files = append(files, l.DataFile(sp, rows))
			}
		}
		if len(files) > 0 {
			groups = append(groups, files)
		}
	}
	if len(groups) == 0 { // a NaN is in no partition but its own, and equals not even that
		groups = [][]iceberg.DataFile{{l.DataFile(specs[0], []scantest.Row{make(scantest.Row, len(scantest.Columns))})}}
		sp = specs[0]
	}
	return l.Append(sp, groups...)
}

func equalPartition(a, b map[int]any) bool {
	return maps.EqualFunc(a, b, func(x, y any) bool {
		if f, ok := x.(float64); ok && f != f {
			g, ok := y.(float64)
			return ok && g != g
		}
		return x == y
	})
}

// drain plans a scan and fetches all of its tasks.
func drain(t testing.TB, p *Planner, s Scan) (files []wire.FileScanTask, deletes map[string][]string) {
	t.Helper()
	deletes = map[string][]string{}
	take := func(page Page) {
		referenced := map[int]bool{}
		for _, f := range page.Files {
			for _, d := range f.Deletes {
				referenced[d] = true
				deletes[f.File.Path] = append(deletes[f.File.Path], page.Deletes[d].Path)
			}
		}
		if len(referenced) != len(page.Deletes) {
			t.Errorf("%d delete files, %d of them referred to", len(page.Deletes), len(referenced))
		}
		files = append(files, page.Files...)
	}
	page, rest, err := p.Plan(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	take(page)
	for len(rest) > 0 {
		page, err := p.Continue(t.Context(), s, rest[0])
		if err != nil {
			t.Fatal(err)
		}
		take(page)
		if rest = rest[1:]; page.Next != nil {
			rest = append(rest, *page.Next)
		}
	}
	return files, deletes
}

func paths(files []wire.FileScanTask) []string {
	out := []string{}
	for _, f := range files {
		out = append(out, f.File.Path)
	}
	slices.Sort(out)
	return out
}

// stored opens files of a warehouse for iceberg-go.
type stored struct{ wh *objstore.Warehouse }

type opened struct{ *bytes.Reader }

func (opened) Close() error                 { return nil }
func (o opened) Stat() (fs.FileInfo, error) { return o, nil }
func (opened) Name() string                 { return "manifest" }
func (opened) Mode() fs.FileMode            { return 0 }
func (opened) ModTime() time.Time           { return time.Time{} }
func (opened) IsDir() bool                  { return false }
func (opened) Sys() any                     { return nil }

func (s stored) Open(name string) (icebergio.File, error) {
	key, err := s.wh.Key(name)
	if err != nil {
		return nil, err
	}
	data, err := s.wh.Get(context.Background(), key, 1<<30)
	return opened{bytes.NewReader(data)}, err
}

func (stored) Remove(string) error { return fs.ErrPermission }

// byLibrary plans with iceberg-go, which reads all manifests for itself.
func byLibrary(t testing.TB, l *scantest.Lake, at int64, filter iceberg.BooleanExpression) (files []string, tasks []table.FileScanTask) {
	t.Helper()
	tab := table.New(table.Identifier{"ns", "t"}, l.Meta, "", func(context.Context) (icebergio.IO, error) { return stored{l.WH}, nil }, nil)
	tasks, err := tab.Scan(table.WithRowFilter(filter), table.WithSnapshotID(at)).PlanFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		files = append(files, task.File.FilePath())
	}
	slices.Sort(files)
	return slices.Compact(files), tasks
}

func subset(a, b []string) (missing string, ok bool) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return x, false
		}
	}
	return "", true
}

// TestPlanIsBetween: over random tables whose partitioning changed on the way, for every snapshot, a plan names all files
// that hold rows of the filter, and none that iceberg-go's own planning over the same manifests leaves out; what is left
// of the filter for a file means the same for its rows as the filter does; and pages, however small, add up to the plan.
func TestPlanIsBetween(t *testing.T) {
	skipped := 0
	rapid.Check(t, func(rt *rapid.T) {
		l := evolved(t, "2")
		var ids []int64
		for range rapid.IntRange(1, 4).Draw(rt, "snapshots") {
			ids = append(ids, grow(rt, l))
		}
		p := New(l.WH, wide())
		small := wide()
		small.PageFiles, small.Examine, small.Tasks = rapid.IntRange(1, 3).Draw(rt, "page"), rapid.IntRange(1, 5).Draw(rt, "examine"), rapid.IntRange(1, 4).Draw(rt, "tasks")
		for range 4 {
			f := filters(3).Draw(rt, "filter")
			at := rapid.SampledFrom(ids).Draw(rt, "at")
			bound, err := ParseFilter([]byte(f.String()), l.Meta.CurrentSchema(), true, 1<<20)
			if err != nil {
				rt.Fatalf("%s: %v", f, err)
			}
			s := Scan{Meta: l.Meta, Snapshot: l.Meta.SnapshotByID(at), Schema: l.Meta.CurrentSchema(), Filter: bound}
			files, _ := drain(t, p, s)
			got := paths(files)
			everything, _ := byLibrary(t, l, at, iceberg.AlwaysTrue{})
			unbound, err := iceberg.ParseExpr([]byte(f.String()), l.Meta.CurrentSchema())
			if err != nil {
				rt.Fatal(err)
			}
			theirs, _ := byLibrary(t, l, at, unbound)
			if x, ok := subset(got, theirs); !ok {
				rt.Fatalf("%s: %s is planned, and iceberg-go proves that it holds no row: %v", f, x, l.Files[x].Rows)
			}
			var must []string
			for _, path := range everything {
				if slices.ContainsFunc(l.Files[path].Rows, func(r scantest.Row) bool { return f.passes(r, false) }) {
					must = append(must, path)
				}
			}
			if x, ok := subset(must, got); !ok {
				rt.Fatalf("%s: %s holds rows and is not planned: %v", f, x, l.Files[x].Rows)
			}
			skipped += len(everything) - len(got)
			for _, task := range files {
				holdResidual(rt, f, task, l.Files[task.File.Path].Rows)
			}
			paged := New(l.WH, small)
			paged.lists, paged.files = p.lists, p.files
			pages, _ := drain(t, paged, s)
			if again := paths(pages); !slices.Equal(got, again) {
				rt.Fatalf("%s: pages of %d: %v, want %v", f, small.PageFiles, again, got)
			}
		}
	})
	if skipped == 0 {
		t.Error("no file was ever left out")
	}
}

// TestEmptyStrings: iceberg-go v0.7.0 writes no bounds of a partition that is an empty string, and takes that for a proof
// that there are only nulls.
func TestEmptyStrings(t *testing.T) {
	l := evolved(t, "2")
	empty, null := make(scantest.Row, len(scantest.Columns)), make(scantest.Row, len(scantest.Columns))
	empty[2] = ""
	sp := specs[5]
	at := l.Append(sp, []iceberg.DataFile{l.DataFile(sp, []scantest.Row{empty}), l.DataFile(sp, []scantest.Row{null})})
	for filter, want := range map[string]int{`{"type":"eq","term":"name","value":""}`: 1, `{"type":"lt","term":"name","value":"x"}`: 1, `{"type":"is-null","term":"name"}`: 1,
		`{"type":"not-null","term":"name"}`: 1, `{"type":"gt","term":"name","value":""}`: 0, `{"type":"not-eq","term":"name","value":""}`: 1} {
		f, err := ParseFilter([]byte(filter), l.Meta.CurrentSchema(), true, 1000)
		if err != nil {
			t.Fatal(err)
		}
		files, _ := drain(t, New(l.WH, wide()), Scan{Meta: l.Meta, Snapshot: l.Meta.SnapshotByID(at), Schema: l.Meta.CurrentSchema(), Filter: f})
		if len(files) != want {
			t.Errorf("%s: %v, want %d files", filter, paths(files), want)
		}
	}
}

func holdResidual(t *rapid.T, f *expr, task wire.FileScanTask, rows []scantest.Row) {
	left := &expr{op: "true"}
	if task.Residual != nil {
		dec := json.NewDecoder(bytes.NewReader(task.Residual))
		dec.UseNumber()
		var doc any
		err := dec.Decode(&doc)
		if err == nil {
			left, err = parse(doc)
		}
		if err != nil {
			t.Fatalf("residual %s: %v", task.Residual, err)
		}
	}
	for _, r := range rows {
		if left.passes(r, false) != f.passes(r, false) {
			t.Fatalf("%s: what is left for %s is %s, which says %v of %v", f, task.File.Path, left, left.passes(r, false), r)
		}
	}
}

// TestDeletesAsTheLibrary: the delete files of each data file are those that iceberg-go finds, but for equality deletes,
// of which iceberg-go leaves out those that the metrics of their columns rule out.
func TestDeletesAsTheLibrary(t *testing.T) {
	found := map[bool]int{}
	rapid.Check(t, func(rt *rapid.T) {
		version := rapid.SampledFrom([]string{"2", "3"}).Draw(rt, "version")
		l := evolved(t, version)
		vectors, equality := map[string]bool{}, map[string]bool{}
		for range 3 {
			grow(rt, l)
			all := slices.Sorted(maps.Keys(l.Files))
			var list []scantest.Delete
			sp := specs[rapid.IntRange(0, 2).Draw(rt, "spec")]
			for range rapid.IntRange(0, 3).Draw(rt, "deletes") {
				of := rapid.SampledFrom(all).Draw(rt, "of")
				d := scantest.Delete{Content: iceberg.EntryContentPosDeletes, Partition: scantest.Partition(sp, l.Files[of].Rows[0])}
				switch rapid.IntRange(0, 3).Draw(rt, "kind") {
				case 0:
					d.Content, d.Equality = iceberg.EntryContentEqDeletes, []int{1}
				case 1:
					if version == "3" && !vectors[of] {
						d.Vector, d.For, vectors[of] = true, of, true
					}
				case 2:
					d.Low, d.High = of, of
				}
				list = append(list, d)
			}
			if len(list) > 0 {
				for i, path := range l.Deletes(sp, list...) {
					equality[path] = list[i].Equality != nil
				}
			}
		}
		head := l.Meta.CurrentSnapshot()
		_, got := drain(t, New(l.WH, wide()), Scan{Meta: l.Meta, Snapshot: head, Schema: l.Meta.CurrentSchema(), Filter: All()})
		_, tasks := byLibrary(t, l, head.SnapshotID, iceberg.AlwaysTrue{})
		for _, task := range tasks {
			mine := slices.Clone(got[task.File.FilePath()])
			for _, d := range slices.Concat(task.DeleteFiles, task.DeletionVectorFiles, task.EqualityDeleteFiles) {
				i := slices.Index(mine, d.FilePath())
				if i < 0 {
					rt.Fatalf("%s: %s is missing in %v", task.File.FilePath(), d.FilePath(), got[task.File.FilePath()])
				}
				mine = slices.Delete(mine, i, i+1)
				found[equality[d.FilePath()]]++
			}
			for _, extra := range mine {
				if !equality[extra] {
					rt.Fatalf("%s: %s is one too many", task.File.FilePath(), extra)
				}
			}
		}
	})
	if found[true] == 0 || found[false] == 0 {
		t.Errorf("found by equality and not: %v", found)
	}
}
