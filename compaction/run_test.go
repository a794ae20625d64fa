package compaction

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
)

// TestBesideAWriter: a writer appends as fast as it can while compaction runs; no row is lost or doubled, and both get on.
func TestBesideAWriter(t *testing.T) {
	l := newLake(t, byRegion())
	c := l.compactor(Config{Interval: units.Duration(100 * time.Millisecond), MinSnapshots: 5, SnapshotWindow: units.Duration(time.Second)}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	var conflicts int
	const appends = 80
	for i := range appends {
		l.advance(50 * time.Millisecond)
		_, n, err := l.tryAppend(t.Context(), 5, "eu", fmt.Sprint("region-", i%2))
		l.ok(err)
		conflicts += n
	}
	during := countKind(l)
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if during == 0 {
		t.Error("compaction committed nothing beside the writer")
	}
	t.Logf("%d rewrites beside %d appends; the writer met %d conflicts", during, appends, conflicts)
	l.rounds(l.compactor(Config{MinSnapshots: 5}, nil))
	l.sound()
	if n := len(l.files()); n > 3*2*7 {
		t.Errorf("%d files are left", n)
	}
}

func countKind(l *lake) (n int) {
	l.Helper()
	for _, s := range l.load().Snapshots() {
		if s.Summary.Operation == table.OpReplace {
			n++
		}
	}
	return n
}

// TestManySeconds drives ingest and compaction in turns and holds what stays small: files, manifests, amplification.
func TestManySeconds(t *testing.T) {
	l := newLake(t)
	c := l.compactor(Config{MinSnapshots: 5, SnapshotWindow: units.Duration(30 * time.Second)}, nil)
	const seconds = 160
	var moved, written, bytesIn int64
	maxFiles, maxManifests := 0, 0
	for s := range seconds {
		l.append(20, "eu")
		l.advance(time.Second)
		written += 20
		if s%10 == 9 {
			r := l.once(c)
			for _, j := range r.Jobs {
				moved += j.Rows
				bytesIn += j.BytesIn
			}
			st := c.Status()[0]
			maxFiles, maxManifests = max(maxFiles, st.LiveFiles), max(maxManifests, st.Manifests)
		}
	}
	t.Logf("each row was rewritten %.2f times; at most %d files and %d manifests were live", float64(moved)/float64(written), maxFiles, maxManifests)
	if amplification := float64(moved) / float64(written); amplification > 4 { // log8(3200) + 1
		t.Errorf("each row was rewritten %.2f times", amplification)
	}
	if maxFiles > 5*8+10 || maxManifests > 5*8+10 {
		t.Errorf("at most %d files and %d manifests were live", maxFiles, maxManifests)
	}
	if n := len(l.load().Snapshots()); n > 120 {
		t.Errorf("%d snapshots", n)
	}
	l.sound()
}

// TestTables: which tables are worked on.
func TestTables(t *testing.T) {
	l := newLake(t)
	ctx := t.Context()
	for range 9 {
		l.append(5, "eu")
	}
	nested := catalog.Identifier{"analytics", "deep", "er"}
	l.ok(l.cat.CreateNamespace(ctx, nested[:2], nil))
	_, err := l.cat.CreateTable(ctx, nested, catalog.CreateTable{Schema: eventSchema()})
	l.ok(err)
	_, err = l.cat.CreateTable(ctx, catalog.Identifier{"analytics", "foreign"}, catalog.CreateTable{Schema: iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "x", Type: iceberg.PrimitiveTypes.Int32})})
	l.ok(err)
	_, err = l.cat.CreateTable(ctx, catalog.Identifier{"analytics", "off"}, catalog.CreateTable{Schema: eventSchema(), Properties: map[string]string{propertyCompaction: "OFF"}})
	l.ok(err)
	c := l.compactor(Config{}, nil)
	c.round(ctx)
	var names []string
	for _, s := range c.Status() {
		names = append(names, s.Table+" "+s.Skipped)
	}
	if want := []string{"analytics.deep.er ", "analytics.events ", "analytics.off property firn.compaction is off"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if len(l.files()) != 1 {
		t.Errorf("%d files", len(l.files()))
	}
	l.ok(l.cat.DropTable(ctx, nested, false))
	c.round(ctx)
	if len(c.Status()) != 2 {
		t.Errorf("a dropped table is still shown: %+v", c.Status())
	}
	narrow := l.compactor(Config{Tables: []string{"analytics.off", "analytics.none"}}, nil)
	narrow.round(ctx)
	if s := narrow.Status(); len(s) != 1 || s[0].Table != "analytics.off" {
		t.Errorf("%+v", s)
	}
}

// failing is a catalog that cannot list.
type failing struct {
	catalog.Catalog
	calls atomic.Int32
}

func (f *failing) ListNamespaces(context.Context, catalog.Identifier) ([]catalog.Identifier, error) {
	f.calls.Add(1)
	return nil, catalog.ErrUnavailable
}

func TestRunGoesOnAfterFailures(t *testing.T) {
	l := newLake(t)
	f := &failing{Catalog: l.cat}
	c := l.compactor(Config{}, f)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	for f.calls.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestDamagedInputIsSetAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"garbage":   func(b []byte) []byte { return []byte("this is no Parquet file") },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
	} {
		t.Run(name, func(t *testing.T) {
			l, _, c := small(t, &faults{})
			victim := l.files()[3]
			k, err := l.wh.Key(victim.FilePath())
			l.ok(err)
			whole, err := l.wh.Get(t.Context(), k, 1<<30)
			l.ok(err)
			l.put(k, string(damage(whole)))
			r, err := c.RunOnce(t.Context(), tableID, false)
			if err == nil || class(err) != "corrupt" || !strings.Contains(err.Error(), k) || r.Jobs[0].Committed {
				t.Errorf("%v, %+v", err, r)
			}
			if s := c.Status()[0]; len(s.Quarantined) != 1 || s.Quarantined[0] != victim.FilePath() || s.LastError == "" {
				t.Errorf("%+v", s)
			}
			if r := l.once(c); len(r.Jobs) != 1 || r.Jobs[0].Files != 9 || !r.Jobs[0].Committed {
				t.Errorf("the rest: %+v", r)
			}
			l.put(k, string(whole))
			l.sound()
			l.advance(2 * quarantineTime)
			l.once(c)
			if s := c.Status()[0]; len(s.Quarantined) != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestMissingInputIsSetAside(t *testing.T) {
	l, _, c := small(t, &faults{})
	k, err := l.wh.Key(l.files()[0].FilePath())
	l.ok(err)
	l.ok(l.wh.Delete(t.Context(), k))
	if _, err := c.RunOnce(t.Context(), tableID, false); !errors.Is(err, objstore.ErrNotFound) || !strings.Contains(err.Error(), k) {
		t.Errorf("%v", err)
	}
	if r := l.once(c); len(r.Jobs) != 1 || r.Jobs[0].Files != 9 {
		t.Errorf("%+v", r)
	}
}

// TestSchemaAndSpecChange: files of both specs and of both schemas become files of the table's schema, each in its spec.
func TestSchemaAndSpecChange(t *testing.T) {
	l := newLake(t, byRegion())
	for range 8 {
		l.append(5, "eu")
	}
	added := eventSchema()
	fields := append(slices.Clone(added.Fields()), iceberg.NestedField{ID: 8, Name: "new", Type: iceberg.PrimitiveTypes.String})
	spec := iceberg.NewPartitionSpecID(1)
	_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{
		table.NewAddSchemaUpdate(iceberg.NewSchema(1, fields...)), table.NewSetCurrentSchemaUpdate(-1),
		table.NewAddPartitionSpecUpdate(&spec, false), table.NewSetDefaultSpecUpdate(-1)}})
	l.ok(err)
	l.spec = *l.load().PartitionSpecByID(1)
	for range 8 {
		l.append(5, "us")
	}
	c := l.compactor(Config{}, nil)
	if n := l.rounds(c); n != 2 {
		t.Errorf("%d jobs", n)
	}
	l.sound()
	specs := map[int32]int64{}
	for _, f := range l.files() {
		specs[f.SpecID()] += f.Count()
		if f.NullValueCounts()[8] != f.Count() {
			t.Errorf("the new column of %s: %v nulls of %d rows", f.FilePath(), f.NullValueCounts()[8], f.Count())
		}
	}
	if len(l.files()) != 2 || specs[0] != 40 || specs[1] != 40 {
		t.Errorf("%v", specs)
	}
}

func TestFormatVersion3IsLeftAlone(t *testing.T) {
	l := newLake(t)
	for range 9 {
		l.append(5, "eu")
	}
	_, err := l.cat.CommitTable(t.Context(), catalog.TableCommit{Identifier: tableID, Updates: table.Updates{table.NewUpgradeFormatVersionUpdate(3)}})
	l.ok(err)
	if r := l.once(l.compactor(Config{}, nil)); r.SnapshotID != 0 || !strings.Contains(r.Skipped, "version 3") {
		t.Errorf("%+v", r)
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	l, before, c := small(t, &faults{})
	r, err := c.RunOnce(t.Context(), tableID, true)
	l.ok(err)
	if len(r.Jobs) != 1 || r.Jobs[0].Files != 10 || r.Jobs[0].Output != "" || r.ManifestsMerged != 10 || !slices.Equal(l.keys(), before) {
		t.Errorf("%+v", r)
	}
}

// TestOneCommitMovesSoMuch: what does not fit into MaxJobBytes waits for the next round.
func TestOneCommitMovesSoMuch(t *testing.T) {
	l := newLake(t, byRegion())
	for range 8 {
		l.append(5, "a", "b", "c", "d")
	}
	c := l.compactor(Config{}, nil)
	c.cfg.MaxJobBytes = 30_000 // two partitions
	r := l.once(c)
	if !r.More || len(r.Jobs) == 0 || len(r.Jobs) > 2 {
		t.Errorf("%+v", r)
	}
	l.rounds(c)
	l.sound()
	if len(l.files()) != 4 {
		t.Errorf("%d files", len(l.files()))
	}
}

func TestColdPartition(t *testing.T) {
	l := newLake(t, byRegion())
	for range 3 {
		l.append(5, "old")
	}
	c := l.compactor(Config{}, nil)
	l.once(c)
	l.append(5, "new")
	l.advance(time.Hour)
	r := l.once(c)
	if len(r.Jobs) != 1 || !r.Jobs[0].Cold || r.Jobs[0].Files != 3 {
		t.Errorf("%+v", r)
	}
	l.sound()
}

func TestLargeOutputGoesThroughDisk(t *testing.T) {
	var s spool
	s.dir = t.TempDir()
	chunk := strings.Repeat("0123456789abcdef", 1<<16)
	for range 20 {
		if n, err := s.Write([]byte(chunk)); n != len(chunk) || err != nil {
			t.Fatal(err)
		}
	}
	if s.file == nil || s.mem.Cap() != 0 {
		t.Error("20 MiB are in memory")
	}
	for range 2 { // an upload that is tried again
		k := objstore.NewMemory()
		if _, err := k.Put(t.Context(), "x", s.Reader(), objstore.Overwrite); err != nil {
			t.Fatal(err)
		}
		if got, err := k.Get(t.Context(), "x", 1<<30); err != nil || string(got) != strings.Repeat(chunk, 20) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	l, _, _ := small(t, &faults{})
	reg := prometheus.NewRegistry()
	c, err := New(Config{}, l.cat, l.wh, nil, reg)
	l.ok(err)
	c.now = l.clock
	l.once(c)
	got, err := reg.Gather()
	l.ok(err)
	name := regexp.MustCompile(`^firn_compaction_[a-z_]+$`)
	values := map[string]float64{}
	for _, f := range got {
		if !name.MatchString(f.GetName()) || f.GetHelp() == "" {
			t.Errorf("metric %s", f.GetName())
		}
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	for n, want := range map[string]float64{"input_files_total": 10, "output_files_total": 1, "rows_total": 200, "commits_total": 1, "live_files": 10, "merged_manifests_total": 10} {
		if values["firn_compaction_"+n] != want {
			t.Errorf("%s is %v, want %v", n, values["firn_compaction_"+n], want)
		}
	}
	if _, err := New(Config{}, l.cat, l.wh, nil, reg); err == nil {
		t.Error("metrics are registered twice")
	}
}

func TestConfig(t *testing.T) {
	if err := (Config{}).WithDefaults().Validate(); err != nil {
		t.Error(err)
	}
	if c := (Config{TargetFileSize: 1 << 30}).WithDefaults(); c.Validate() != nil || c.SmallFileSize != 1<<29 {
		t.Errorf("%+v", c)
	}
	for want, c := range map[string]Config{
		"tables":            {Tables: []string{"events"}},
		"interval":          {Interval: 1},
		"target_file_size":  {TargetFileSize: 1000},
		"small_file_size":   {SmallFileSize: 100 << 20},
		"min_input_files":   {MinInputFiles: 1},
		"max_job_bytes":     {MaxJobBytes: 1 << 20},
		"cold_after":        {ColdAfter: units.Duration(time.Second)},
		"max_manifests":     {MaxManifests: 1},
		"manifest_interval": {ManifestInterval: 1},
		"snapshot_window":   {SnapshotWindow: -1},
		"min_snapshots":     {MinSnapshots: -1},
		"expire_interval":   {ExpireInterval: 1},
		"orphan_grace":      {OrphanGrace: units.Duration(time.Minute)},
		"stray_grace":       {StrayGrace: units.Duration(time.Minute)},
		"orphan_interval":   {OrphanInterval: 1},
	} {
		if err := c.WithDefaults().Validate(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := New(c, nil, nil, nil, nil); err == nil {
			t.Errorf("%s: New takes it", want)
		}
	}
}

// TestRowsThatDiffer: a file whose columns are not those that its manifest and the table say would lose data silently.
func TestRowsThatDiffer(t *testing.T) {
	l, _, _ := small(t, &faults{})
	victim := l.files()[4]
	k, err := l.wh.Key(victim.FilePath())
	l.ok(err)
	for name, other := range map[string]func([]iceberg.NestedField){
		"a column under another id": func(f []iceberg.NestedField) { f[0].ID = 99 },
		"two ids exchanged":         func(f []iceberg.NestedField) { f[2].ID, f[5].ID = f[5].ID, f[2].ID },
	} {
		t.Run(name, func(t *testing.T) {
			fields := slices.Clone(eventSchema().Fields())
			other(fields)
			sc := iceberg.NewSchema(0, fields...)
			as, err := datafile.ArrowSchema(sc)
			l.ok(err)
			rec := l.records(int(victim.Count()), "eu")
			defer rec.Release()
			swapped := array.NewRecordBatch(as, rec.Columns(), rec.NumRows())
			defer swapped.Release()
			var buf bytes.Buffer
			_, err = datafile.Write(&buf, sc, []arrow.RecordBatch{swapped}, datafile.DefaultWriteOptions())
			l.ok(err)
			l.put(k, buf.String())
			c := l.compactor(Config{}, nil)
			r, err := c.RunOnce(t.Context(), tableID, false)
			if !errors.Is(err, ErrRowsDiffer) || class(err) != "rows_differ" || r.Jobs[0].Committed {
				t.Errorf("%v, %+v", err, r)
			}
			if s := c.Status()[0]; len(s.Quarantined) != 10 {
				t.Errorf("%+v", s)
			}
		})
	}
}
