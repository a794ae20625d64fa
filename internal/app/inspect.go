package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
)

// TableRow is a line of firn tables.
type TableRow struct {
	Table    string    `json:"table"`
	Rows     int64     `json:"rows"`
	Files    int64     `json:"files"`
	Bytes    int64     `json:"bytes"`
	Snapshot int64     `json:"snapshot_id"`
	At       time.Time `json:"committed_at"`
	Location string    `json:"location"`
}

// maxNamespaceDepth bounds the walk over nested namespaces.
const maxNamespaceDepth = 16

// Tables lists every table of the catalog.
func (c *Client) Tables(ctx context.Context) ([]TableRow, error) {
	cat, err := c.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	return tablesBelow(ctx, cat, nil, 0)
}

func tablesBelow(ctx context.Context, cat catalog.Catalog, ns catalog.Identifier, depth int) ([]TableRow, error) {
	if depth > maxNamespaceDepth {
		return nil, fmt.Errorf("namespace %s: nested deeper than %d", ns, maxNamespaceDepth)
	}
	var out []TableRow
	if len(ns) > 0 {
		ids, err := cat.ListTables(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
			if errors.Is(err, catalog.ErrNoSuchTable) {
				continue // dropped since it was listed
			}
			if err != nil {
				return nil, err
			}
			out = append(out, tableRow(t))
		}
	}
	children, err := cat.ListNamespaces(ctx, ns)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		rows, err := tablesBelow(ctx, cat, child, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

func tableRow(t *catalog.Table) TableRow {
	r := TableRow{Table: t.Identifier.String(), Location: t.Metadata.Location()}
	if s := t.Metadata.CurrentSnapshot(); s != nil {
		r.Snapshot, r.At = s.SnapshotID, time.UnixMilli(s.TimestampMs).UTC()
		r.Rows, r.Files, r.Bytes = snapshot.Count(s, "total-records"), snapshot.Count(s, "total-data-files"), snapshot.Count(s, "total-files-size")
	}
	return r
}

// SnapshotRow is a line of firn snapshots.
type SnapshotRow struct {
	ID        int64     `json:"snapshot_id"`
	Parent    int64     `json:"parent_id,omitempty"`
	At        time.Time `json:"committed_at"`
	Operation string    `json:"operation"`
	Kind      string    `json:"kind"` // ingest, compact, rewind; foreign for other engines
	Added     int64     `json:"added_rows"`
	Rows      int64     `json:"total_rows"`
	Files     int64     `json:"total_files"`
	Offsets   string    `json:"offsets,omitempty"`
	Refs      []string  `json:"refs,omitempty"`
}

// Snapshots lists a table's snapshots, the newest first, at most limit of them (0: all).
func (c *Client) Snapshots(ctx context.Context, name string, limit int) ([]SnapshotRow, error) {
	cat, err := c.Catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	t, err := c.Table(ctx, cat, name, catalog.LoadAll)
	if err != nil {
		return nil, err
	}
	refs := map[int64][]string{}
	for n, r := range t.Metadata.Refs() {
		refs[r.SnapshotID] = append(refs[r.SnapshotID], n)
	}
	snaps := slices.Clone(t.Metadata.Snapshots())
	slices.SortFunc(snaps, func(a, b table.Snapshot) int { return int(b.SequenceNumber - a.SequenceNumber) })
	if limit > 0 && len(snaps) > limit {
		snaps = snaps[:limit]
	}
	out := make([]SnapshotRow, 0, len(snaps))
	for i := range snaps {
		out = append(out, snapshotRow(&snaps[i], refs))
	}
	return out, nil
}

func snapshotRow(s *table.Snapshot, refs map[int64][]string) SnapshotRow {
	r := SnapshotRow{ID: s.SnapshotID, At: time.UnixMilli(s.TimestampMs).UTC(), Kind: "foreign", Added: snapshot.Count(s, "added-records"),
		Rows: snapshot.Count(s, "total-records"), Files: snapshot.Count(s, "total-data-files"), Refs: slices.Sorted(slices.Values(refs[s.SnapshotID]))}
	if s.ParentSnapshotID != nil {
		r.Parent = *s.ParentSnapshotID
	}
	if s.Summary == nil {
		return r
	}
	r.Operation, r.Added = string(s.Summary.Operation), max(r.Added, 0)
	if rec, err := ledger.ParseSummary(s.Summary.Properties); err == nil {
		r.Kind, r.Offsets = string(rec.Kind), rec.Offsets.String()
	} else if errors.Is(err, ledger.ErrBadRecord) {
		r.Kind = "unreadable: " + err.Error()
	}
	return r
}

// OffsetsReport is firn offsets: where the pipeline stands in its topic, by the table alone.
type OffsetsReport struct {
	Table       string           `json:"table"`
	Pipeline    string           `json:"pipeline"`
	Topic       string           `json:"topic"`
	TopicID     string           `json:"topic_id"`
	Topics      ledger.Topics    `json:"topics,omitempty"` // of a table that several go to, in their places
	Cluster     string           `json:"cluster_id"`
	Epoch       int64            `json:"epoch"`
	SnapshotID  int64            `json:"snapshot_id"`
	RecoveredBy string           `json:"recovered_by"`
	BatchID     string           `json:"batch_id"`
	Watermark   time.Time        `json:"watermark"`
	Partitions  []PartitionState `json:"partitions"`
	Lag         int64            `json:"lag_records"`           // -1 when Kafka did not answer
	KafkaError  string           `json:"kafka_error,omitempty"` // why not
	// Steps are what each step of recovery saw, in their order, and Stopped why none answered. Of Explain alone.
	Steps   []commit.Step `json:"steps,omitempty"`
	Stopped string        `json:"stopped,omitempty"`
	// Running is what the process that runs the pipeline says of it, or why none could be asked. Of Explain alone.
	Running *Verdict `json:"running,omitempty"`
}

// PartitionState is one partition's position. Last row is -1 when no row came from it; the log's bounds are -1 when unknown.
type PartitionState struct {
	Partition int32 `json:"partition"`
	Spot
	Next     int64 `json:"next_offset"`
	LastRow  int64 `json:"last_row"`
	LogStart int64 `json:"log_start"`
	LogEnd   int64 `json:"log_end"`
}

// Offsets reads where the table's pipeline stands. Where recovery stops, that is the error.
func (c *Client) Offsets(ctx context.Context, name string) (*OffsetsReport, error) {
	t, e, err := c.explain(ctx, name)
	if err = errors.Join(e.Stop, err); err != nil {
		return nil, err
	}
	return c.offsetsReport(ctx, t, e.State, e.Record), nil
}

// Explain is Offsets with what each step of recovery saw, and answers where recovery stops as well: then the report says
// why and has no position. What stops a pipeline on Kafka's side no table knows, so the running process is asked too.
func (c *Client) Explain(ctx context.Context, name string) (*OffsetsReport, error) {
	t, e, err := c.explain(ctx, name)
	if err != nil {
		return nil, err
	}
	r := c.offsetsReport(ctx, t, e.State, e.Record)
	r.Steps = e.Steps
	if e.Stop != nil {
		r.Stopped = e.Stop.Error()
	}
	v := c.running(ctx, t.pipeline)
	r.Running = &v
	return r, nil
}

// running asks the process at the status address for a pipeline.
func (c *Client) running(ctx context.Context, pipeline string) Verdict {
	s, err := c.Status(ctx)
	if err != nil {
		return Verdict{State: StateUnknown, Cause: err.Error()}
	}
	for _, p := range s.Pipelines {
		if p.Name == pipeline {
			return p.Verdict
		}
	}
	return Verdict{State: StateUnknown, Cause: "the Firn at http://" + c.http + " does not run it", Next: "name the one that does with --http"}
}

func (c *Client) explain(ctx context.Context, name string) (*fed, commit.Explanation, error) {
	t, err := c.fedTable(ctx, name)
	if err != nil {
		return nil, commit.Explanation{}, err
	}
	defer t.close()
	e, err := commit.Explain(ctx, t.cat, t.wh, t.Identifier, t.pipeline)
	return t, e, err
}

func (c *Client) offsetsReport(ctx context.Context, t *fed, st engine.State, rec ledger.Record) *OffsetsReport {
	f := c.feedOf(t.Table, rec)
	r := &OffsetsReport{Table: t.Identifier.String(), Pipeline: t.pipeline, Topic: f.String(), TopicID: rec.TopicID, Cluster: rec.ClusterID, Epoch: st.Epoch, SnapshotID: st.SnapshotID,
		RecoveredBy: st.Source, BatchID: rec.BatchID, Watermark: rec.Watermark, Lag: -1}
	if len(rec.Topics) > 0 {
		r.Topics = rec.Topics
	}
	bounds, err := f.bounds(ctx)
	if err != nil {
		r.KafkaError = err.Error()
	}
	if bounds != nil {
		r.Lag = 0
	}
	for _, p := range st.Offsets.Partitions() {
		ps := PartitionState{Partition: p, Next: st.Offsets[p], LastRow: -1, LogStart: -1, LogEnd: -1, Spot: f.spot(p)}
		if last, ok := rec.LastRow[p]; ok {
			ps.LastRow = last
		}
		if b, ok := bounds[p]; ok {
			ps.LogStart, ps.LogEnd = b.LogStart, b.LastStable
			if f.isRead(p) {
				r.Lag += max(b.LastStable-ps.Next, 0)
			}
		}
		r.Partitions = append(r.Partitions, ps)
	}
	return r
}

// propPipeline is the table's property by which the client verbs find what writes it; commit.PropTopic is the other.
const propPipeline = "firn.pipeline"

// pipelineOf finds the pipeline that writes a table: by the configuration, by its tag, or else by the table's property, which a
// pipeline sets before it writes.
func (c *Client) pipelineOf(t *catalog.Table) (string, error) {
	for _, p := range c.cfg.Pipelines {
		if rows, _ := p.tables(); slices.Equal(rows, t.Identifier) {
			return p.Name, nil
		}
	}
	names := writersOf(t)
	name := t.Metadata.Properties()[propPipeline]
	switch {
	case len(names) == 1:
		return names[0], nil
	case name != "":
		return name, nil
	case len(names) == 0:
		return "", fmt.Errorf("%s has no tag of a pipeline: Firn never committed rows into it", t.Identifier)
	}
	return "", fmt.Errorf("%s has tags of several pipelines: %v", t.Identifier, names)
}

// writersOf are the pipelines that have a tag in a table, sorted.
func writersOf(t *catalog.Table) []string {
	var names []string
	for tag := range t.Metadata.Refs() {
		if name, ok := strings.CutPrefix(tag, ledger.TagName("")); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
