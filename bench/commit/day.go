package commit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/catalogtest"
	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/internal/snapshot"
)

const (
	fullFile = 128 << 20 // bytes that an entry of the day's files says: compaction leaves such files alone
	loads    = 50        // of snapshots=refs
	pyLoads  = 9
)

// day is a table that gets a commit each second of a time of its own, as fast as they go, with the compactor's rounds and
// merges where they would be by the defaults.
type day struct {
	l   *lake
	p   *process // the catalog
	cat *catalogtest.Clocked
	c   *compaction.Compactor

	mu  sync.Mutex
	now time.Time

	times       []float64 // ms of each commit
	manifests   int       // most live
	metadata    int64     // most bytes of metadata.json
	snapshots   int       // most in it
	merges      int
	rounds      int // that committed
	expired     int
	marks       int
	compactorMS float64
}

func (d *day) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// measureDay drives o.day commits and reports what stays bounded.
func measureDay(ctx context.Context, rep *report.Report, o options) (err error) {
	seconds := o.day
	dir, err := os.MkdirTemp("", "firn-bench-day-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := newLake(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	l.apart = true
	p, err := l.handOver(ctx, o.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	d := &day{l: l, p: p, now: time.Now().Truncate(24 * time.Hour)}
	d.cat = catalogtest.NewClocked(l.cat, d.clock)
	if d.c, err = compaction.New(compaction.Config{Tables: []string{l.id.String()}}, d.cat, l.wh, nil, nil, compaction.WithClock(d.clock)); err != nil {
		return err
	}
	before, err := l.dbBytes(ctx)
	if err != nil {
		return err
	}
	for s := range seconds {
		if err := d.second(ctx, s); err != nil {
			return fmt.Errorf("second %d: %w", s, err)
		}
	}
	if err := d.measureMetadata(ctx); err != nil {
		return err
	}
	if _, rows, _, err := l.verify(ctx); err != nil || rows != int64(seconds)*rowsOfFile {
		return errors.Join(fmt.Errorf("the table has %d rows, %d commits of %d rows were made", rows, seconds, rowsOfFile), err)
	}
	after, err := l.dbBytes(ctx)
	if err != nil {
		return err
	}
	labels := map[string]any{"commits": seconds, "store": "sqlite file", "data": "never merged"}
	return errors.Join(d.report(rep, labels, seconds, float64(after-before)/float64(seconds)), d.loads(ctx, rep, labels), d.memory(ctx, rep, labels, seconds))
}

// second is one commit, and what compaction does in that second.
func (d *day) second(ctx context.Context, s int) error {
	d.mu.Lock()
	d.now = d.now.Add(time.Second)
	d.mu.Unlock()
	began := time.Now()
	if err := d.l.append(ctx); err != nil {
		return err
	}
	d.times = append(d.times, float64(time.Since(began).Microseconds())/1e3)
	d.cat.Made(*d.l.head.ID())
	d.manifests = max(d.manifests, d.l.manifests)
	began = time.Now()
	moved := false
	if s%5 == 4 {
		r, err := d.c.MergeManifests(ctx, d.l.id)
		if err != nil {
			return err
		}
		if r.SnapshotID != 0 {
			d.merges++
			moved = true
		}
	}
	if s%60 == 59 { // before what has left the window expires
		if err := d.measureMetadata(ctx); err != nil {
			return err
		}
	}
	if s%10 == 9 {
		r, err := d.c.RunOnce(ctx, d.l.id, false)
		if err != nil {
			return err
		}
		if r.SnapshotID != 0 {
			d.rounds++
		}
		d.expired, d.marks = d.expired+r.Expired, d.marks+r.Tagged
		moved = moved || r.SnapshotID != 0 || r.Expired+r.Tagged > 0
	}
	d.compactorMS += float64(time.Since(began).Microseconds()) / 1e3
	if moved {
		return d.l.reload(ctx) // as ingest does when it finds another head
	}
	return nil
}

func (d *day) measureMetadata(ctx context.Context) error {
	n, _, size, err := d.l.verify(ctx)
	d.metadata, d.snapshots = max(d.metadata, size), max(d.snapshots, n)
	return err
}

func (d *day) report(rep *report.Report, labels map[string]any, seconds int, dbBytes float64) error {
	var err error
	add := func(metric, unit string, v float64) {
		err = errors.Join(err, rep.AddFigure(metric, unit, labels, report.Of(v), nil))
	}
	add("metadata_mb_max", "MB", float64(d.metadata)/1e6)
	add("snapshots_max", "1", float64(d.snapshots))
	add("live_manifests_max", "1", float64(d.manifests))
	add("db_bytes_per_commit", "B", dbBytes)
	add("median_ms", "ms", report.Of(d.times...).Median)
	add("p99_ms", "ms", report.Percentile(d.times, 99))
	tenth := max(len(d.times)/10, 1)
	add("median_first_tenth_ms", "ms", report.Of(d.times[:tenth]...).Median)
	add("median_last_tenth_ms", "ms", report.Of(d.times[len(d.times)-tenth:]...).Median)
	add("manifest_merges", "1", float64(d.merges))
	add("rounds_with_commit", "1", float64(d.rounds))
	add("marks_set", "1", float64(d.marks))
	add("compactor_ms_per_commit", "ms", d.compactorMS/float64(seconds))
	return err
}

// memory is what each process took at most; the catalog's with the loads of others.
func (d *day) memory(ctx context.Context, rep *report.Report, labels map[string]any, seconds int) error {
	u, err := d.p.usage(ctx)
	if err != nil {
		return err
	}
	return errors.Join(rep.AddFigure("catalog_max_rss_mb", "MB", labels, report.Of(float64(u.MaxRSS)/1e6), nil),
		rep.AddFigure("catalog_cpu_ms_per_commit", "ms", labels, report.Of(u.CPUSeconds*1e3/float64(seconds)), nil),
		rep.AddFigure("committer_compactor_max_rss_mb", "MB", labels, report.Of(float64(report.MaxRSS())/1e6), nil))
}

// loads loads the table as others do.
func (d *day) loads(ctx context.Context, rep *report.Report, labels map[string]any) error {
	var times []float64
	for i := range loads + 1 {
		began := time.Now()
		n, err := get(ctx, d.p.uri+d.p.tablePath(d.l.id[1])+"?snapshots=refs")
		if err != nil {
			return err
		}
		if i == 0 { // the first writes the metadata file
			err = rep.AddFigure("refs_load_mb", "MB", labels, report.Of(float64(n)/1e6), nil)
		} else {
			times = append(times, float64(time.Since(began).Microseconds())/1e3)
		}
		if err != nil {
			return err
		}
	}
	if err := rep.AddFigure("refs_load_ms", "ms", labels, report.Of(times...), nil); err != nil {
		return err
	}
	python := filepath.Join(os.Getenv("FIRN_TOOLS"), "venv", "bin", "python")
	if _, err := os.Stat(python); err != nil || os.Getenv("FIRN_TOOLS") == "" {
		return rep.Notef("PyIceberg's load is not measured: FIRN_TOOLS names no directory with venv/bin/python")
	}
	times, err := pyIceberg(ctx, python, d.p.uri, d.l.id)
	if err != nil {
		return err
	}
	return rep.AddFigure("pyiceberg_load_ms", "ms", labels, report.Of(times...), nil)
}

func get(ctx context.Context, uri string) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", uri, res.Status)
	}
	return io.Copy(io.Discard, res.Body)
}

const pyScript = `
import sys, time
from pyiceberg.catalog.rest import RestCatalog
c = RestCatalog("firn", uri=sys.argv[1])
c.load_table(sys.argv[2])
for _ in range(int(sys.argv[3])):
    t = time.perf_counter()
    c.load_table(sys.argv[2])
    print((time.perf_counter() - t) * 1e3)
`

func pyIceberg(ctx context.Context, python, uri string, id catalog.Identifier) (times []float64, err error) {
	cmd := exec.CommandContext(ctx, python, "-c", pyScript, uri, id.String(), strconv.Itoa(pyLoads)) //nolint:gosec // of the tools that the caller names
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("PyIceberg: %w", err)
	}
	for _, line := range strings.Fields(string(out)) {
		ms, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, fmt.Errorf("PyIceberg: %w", err)
		}
		times = append(times, ms)
	}
	return times, nil
}

// next is the file of the next commit.
func (l *lake) next() (iceberg.DataFile, error) {
	if !l.apart {
		return l.file, nil
	}
	st := l.stats
	st.Bytes = fullFile
	meta := l.head.Meta
	return snapshot.DataFile(meta.PartitionSpec(), snapshot.DataLocation(meta, fmt.Sprintf("%08d.parquet", l.record.Offsets[0])), st, nil, nil)
}
