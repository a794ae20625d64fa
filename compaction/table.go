package compaction

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction/plan"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// propertyCompaction of a table is set to "off" to leave it alone.
const propertyCompaction = "firn.compaction"

// tableState is what is remembered of a table between rounds. Whoever holds busy may use it; status is the
// Compactor's, under its lock.
type tableState struct {
	id   catalog.Identifier
	busy chan struct{}

	uuid       uuid.UUID
	manifests  map[string]*manifestInfo // of the last head, by location
	schema     int                      // that manifests were described by
	head       int64                    // snapshot of the last head; 0: none
	list       []iceberg.ManifestFile   // its manifests
	samples    []sample                 // sequence numbers seen, oldest first, back to ColdAfter
	quarantine map[string]time.Time     // location of a data file → when to try again
	condemned  map[string]time.Time     // key of a file that no snapshot names → when that was seen first
	died       map[uint64]time.Time     // hash of a key that was reachable → when a sweep missed it first
	reach      *reach                   // what the last sweep found reachable; nil before the first
	nextExpire time.Time
	nextSweep  time.Time

	status TableStatus
}

type sample struct {
	at  time.Time
	seq int64
}

// manifestInfo is what planning needs of a manifest: small files one by one, the others as a sum.
type manifestInfo struct {
	plan.Manifest
	small       []plan.File
	bytes, rows int64 // of all live files
	fixed       bool  // of a spec that cannot be written any more
}

func newTableState(id catalog.Identifier) *tableState {
	return &tableState{id: id, busy: make(chan struct{}, 1), status: TableStatus{Table: id.String()}}
}

// reset forgets everything when the name stands for another table now.
func (ts *tableState) reset(id uuid.UUID) {
	if ts.uuid == id {
		return
	}
	ts.uuid, ts.head, ts.list, ts.samples, ts.reach = id, 0, nil, nil, nil
	ts.manifests, ts.quarantine = map[string]*manifestInfo{}, map[string]time.Time{}
	ts.condemned, ts.died = map[string]time.Time{}, map[uint64]time.Time{}
	ts.nextExpire, ts.nextSweep = time.Time{}, time.Time{}
}

// work does one round on a table.
func (c *Compactor) work(ctx context.Context, id catalog.Identifier, dryRun bool) (r Report, err error) {
	ts, release, err := c.state(ctx, id)
	if err != nil {
		return Report{Table: id.String()}, err
	}
	defer release()
	began := c.now()
	r = Report{Table: id.String(), DryRun: dryRun}
	t, err := c.cat.LoadTable(ctx, id, catalog.LoadRefs)
	if err == nil {
		ts.reset(t.Metadata.TableUUID())
		if r.Skipped = c.excluded(t.Metadata); r.Skipped == "" {
			err = c.workOn(ctx, ts, t, &r)
		}
	} else {
		err = c.failed("load", fmt.Errorf("table %s: %w", id, err))
	}
	r.Seconds = c.now().Sub(began).Seconds()
	c.finish(ctx, ts, r, err)
	return r, err
}

// noLedger is why a table that Firn does not ingest into is left alone. Status does not show such tables.
const noLedger = "it has not the ledger columns of Firn"

// excluded says why a table is none of the compactor's business at all; empty when it is.
func (c *Compactor) excluded(meta table.Metadata) string {
	for _, col := range []string{ledger.ColPartition, ledger.ColOffset} {
		if _, ok := meta.CurrentSchema().FindFieldByName(col); !ok {
			return noLedger
		}
	}
	if strings.EqualFold(meta.Properties()[propertyCompaction], "off") {
		return "property " + propertyCompaction + " is off"
	}
	return ""
}

func (c *Compactor) workOn(ctx context.Context, ts *tableState, t *catalog.Table, r *Report) error {
	var errs []error
	if err := c.rewriteTable(ctx, ts, t, r); err != nil {
		errs = append(errs, fmt.Errorf("table %s: rewrite: %w", ts.id, err))
	}
	now := c.now()
	if r.DryRun || !now.Before(ts.nextExpire) {
		if err := c.expire(ctx, ts, r); err != nil {
			errs = append(errs, c.failed("expire", fmt.Errorf("table %s: expire snapshots: %w", ts.id, err)))
		} else if !r.DryRun && r.Expired < maxExpire && r.Tagged < maxTags {
			ts.nextExpire = now.Add(c.cfg.ExpireInterval.D())
		}
	}
	if !r.DryRun && !now.Before(ts.nextSweep) {
		ts.nextSweep = now.Add(c.cfg.OrphanInterval.D())
		if err := c.sweep(ctx, ts, r); err != nil {
			errs = append(errs, c.failed("orphans", fmt.Errorf("table %s: orphans: %w", ts.id, err)))
		}
	}
	return errors.Join(errs...)
}

// failed counts a failure and returns it.
func (c *Compactor) failed(work string, err error) error {
	if k := class(err); k != "canceled" {
		c.m.failures.WithLabelValues(work, k).Inc()
	}
	return err
}

// finish publishes what a round came to.
func (c *Compactor) finish(ctx context.Context, ts *tableState, r Report, err error) {
	level := slog.LevelWarn
	c.show(ts, func(s *TableStatus) {
		if r.Skipped != noLedger && !errors.Is(err, catalog.ErrNoSuchTable) {
			s.Seen = c.now()
		}
		if err != nil && (s.LastError == err.Error() || errors.Is(err, catalog.ErrNoSuchTable)) {
			level = slog.LevelDebug // said before, or no trouble at all
		}
		s.Skipped = r.Skipped
		s.Quarantined = slices.Sorted(maps.Keys(ts.quarantine))
		if r.SnapshotID != 0 {
			s.LastJob = c.now()
		}
		switch {
		case err != nil && ctx.Err() == nil:
			s.LastError, s.LastErrorAt = err.Error(), c.now()
		case err == nil && !r.DryRun:
			s.LastError, s.LastErrorAt = "", time.Time{}
		}
	})
	if r.SnapshotID != 0 {
		var files int
		var in, out int64
		for _, j := range r.Jobs {
			files, in, out = files+j.Files, in+j.BytesIn, out+j.BytesOut
		}
		c.log.Debug("table rewritten", "table", r.Table, "snapshot", r.SnapshotID, "jobs", len(r.Jobs), "files", files,
			"bytes_in", in, "bytes_out", out, "manifests", r.ManifestsMerged, "conflicts", r.Conflicts, "seconds", r.Seconds)
	}
	if r.Expired > 0 || r.Orphans > 0 {
		c.log.Debug("table cleaned", "table", r.Table, "expired", r.Expired, "deleted_files", r.Orphans, "deleted_bytes", r.OrphanBytes)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Log(ctx, level, "compaction failed; the next round tries again", "table", r.Table, "class", class(err), "error", err)
	}
}

// loadHead is snapshot.LoadHead of main, which reads nothing while the head is the one that was seen last.
func (c *Compactor) loadHead(ctx context.Context, ts *tableState, meta table.Metadata) (snapshot.Head, error) {
	s := meta.SnapshotByName(table.MainBranch)
	if s == nil || s.SnapshotID == ts.head {
		h := snapshot.Head{Meta: meta, Snapshot: s}
		if s != nil {
			h.Manifests = ts.list
		}
		return h, nil
	}
	h, err := snapshot.LoadHead(ctx, c.read, meta, table.MainBranch)
	if err == nil {
		ts.head, ts.list = s.SnapshotID, h.Manifests
	}
	return h, err
}

// survey brings ts.manifests up to the head and returns the small files whose rows are all live; it reads manifests that
// are new only.
func (c *Compactor) survey(ctx context.Context, ts *tableState, head snapshot.Head) ([]plan.File, error) {
	if id := head.Meta.CurrentSchema().ID; id != ts.schema {
		ts.schema, ts.manifests = id, map[string]*manifestInfo{} // writable and order look at the schema
	}
	fresh := make(map[string]*manifestInfo, len(head.Manifests))
	for _, m := range snapshot.DataManifests(head.Manifests) {
		info := ts.manifests[m.FilePath()]
		if info == nil {
			files, err := c.read.FilesOf(ctx, []iceberg.ManifestFile{m}, nil)
			if err != nil {
				return nil, err
			}
			info = c.describe(head.Meta, m, files)
		}
		fresh[m.FilePath()] = info
	}
	ts.manifests = fresh
	now := c.now()
	for loc, until := range ts.quarantine {
		if !now.Before(until) {
			delete(ts.quarantine, loc)
		}
	}
	var small []plan.File
	var files, smalls int
	var bytes, rows int64
	for _, info := range fresh {
		for _, f := range info.small {
			smalls++
			if _, bad := ts.quarantine[f.Path]; !bad {
				small = append(small, f)
			}
		}
		files, bytes, rows = files+info.Files, bytes+info.bytes, rows+info.rows
	}
	c.show(ts, func(s *TableStatus) {
		s.LiveFiles, s.SmallFiles, s.Bytes, s.Rows, s.Manifests = files, smalls, bytes, rows, len(head.Manifests)
	})
	gone, err := c.withDeletedRows(ctx, head, func(df iceberg.DataFile) bool {
		return df.FileSizeBytes() < int64(c.cfg.SmallFileSize)
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(small, func(f plan.File) bool { return gone[f.Path] }), nil
}

// withDeletedRows returns which of the data files that keep accepts another engine has deleted rows of. Those are left to that
// engine: rewritten here, their rows would come back.
func (c *Compactor) withDeletedRows(ctx context.Context, head snapshot.Head, keep func(iceberg.DataFile) bool) (map[string]bool, error) {
	if !slices.ContainsFunc(head.Manifests, func(m iceberg.ManifestFile) bool {
		return m.ManifestContent() == iceberg.ManifestContentDeletes && (m.AddedDataFiles() > 0 || m.ExistingDataFiles() > 0)
	}) {
		return nil, nil
	}
	files, err := c.read.LiveFilesOf(ctx, head.Manifests, keep)
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, f := range files {
		if f.Deleted != nil {
			gone[f.FilePath()] = true
		}
	}
	return gone, nil
}

func (c *Compactor) describe(meta table.Metadata, m iceberg.ManifestFile, files []snapshot.File) *manifestInfo {
	info := &manifestInfo{Manifest: plan.Manifest{Path: m.FilePath(), Spec: int(m.PartitionSpecID()), Files: len(files),
		Bytes: m.Length(), Sequence: m.SequenceNum()}, fixed: !writable(meta, int(m.PartitionSpecID()))}
	arrival, _ := meta.CurrentSchema().FindFieldByName(ledger.ColIngestedAt)
	for _, f := range files {
		info.bytes, info.rows = info.bytes+f.FileSizeBytes(), info.rows+f.Count()
		if info.fixed || f.FileSizeBytes() >= int64(c.cfg.SmallFileSize) || f.FileFormat() != iceberg.ParquetFile {
			continue
		}
		if _, err := c.wh.Key(f.FilePath()); err != nil {
			continue // elsewhere than in the warehouse: not ours to read
		}
		info.small = append(info.small, plan.File{Path: f.FilePath(), Spec: info.Spec, Partition: partitionText(f.Partition()), Rows: f.Count(),
			Bytes: f.FileSizeBytes(), Sequence: f.SequenceNumber, Order: order(f, arrival.ID)})
	}
	info.Apart = len(info.small) == 0
	return info
}

// writable tells whether manifests of a spec can be written: its columns must still be in the schema.
func writable(meta table.Metadata, specID int) bool {
	spec := meta.PartitionSpecByID(specID)
	if spec == nil {
		return false
	}
	for _, f := range spec.Fields() {
		for _, id := range f.SourceIDs {
			if _, ok := meta.CurrentSchema().FindFieldByID(id); !ok {
				return false
			}
		}
	}
	return true
}

// partitionText is the same for equal values of one spec only.
func partitionText(values map[int]any) string {
	ids := slices.Sorted(maps.Keys(values))
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte('/')
		}
		if v := values[id]; v == nil {
			fmt.Fprintf(&b, "%d=null", id)
		} else {
			fmt.Fprintf(&b, "%d=%q", id, fmt.Sprint(v))
		}
	}
	return b.String()
}

// order is when a file's first row was ingested, in microseconds. A rewritten file has a new sequence number but old
// rows; files without the column come first, by their sequence.
func order(f snapshot.File, arrival int) int64 {
	if b := f.LowerBoundValues()[arrival]; len(b) == 8 {
		return int64(binary.LittleEndian.Uint64(b))
	}
	return f.SequenceNumber
}

// coldSequence remembers the table's sequence number of now and returns the one of ColdAfter ago; -1 while that is unknown.
func (c *Compactor) coldSequence(ts *tableState, seq int64) int64 {
	now := c.now()
	if n := len(ts.samples); n == 0 || now.Sub(ts.samples[n-1].at) >= c.cfg.ColdAfter.D()/100 {
		ts.samples = append(ts.samples, sample{now, seq})
	}
	cutoff := now.Add(-c.cfg.ColdAfter.D())
	cold := int64(-1)
	for len(ts.samples) > 0 && !ts.samples[0].at.After(cutoff) {
		cold = ts.samples[0].seq
		if len(ts.samples) == 1 || ts.samples[1].at.After(cutoff) {
			break // the newest that is old enough
		}
		ts.samples = ts.samples[1:]
	}
	return cold
}

// sortedManifests is ts.manifests without those in skip, for the planner.
func (ts *tableState) sortedManifests(skip map[string]bool) []plan.Manifest {
	var out []plan.Manifest
	for loc, info := range ts.manifests {
		if !skip[loc] && !info.fixed && info.Files > 0 {
			out = append(out, info.Manifest)
		}
	}
	slices.SortFunc(out, func(a, b plan.Manifest) int { return cmp.Compare(a.Path, b.Path) })
	return out
}
