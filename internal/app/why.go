package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/query"
)

// Why is the answer of firn why: every stage of the way of the data, and the first that does not move.
type Why struct {
	Table   string  `json:"table"`
	Verdict Verdict `json:"verdict"`
	Stages  []Stage `json:"stages"`
	Stands  string  `json:"stands,omitempty"` // name of the first stage that does not move
}

// visibleTimeout bounds each of the two looks from outside.
const visibleTimeout = 10 * time.Second

// Why walks source, decode, batch and commit as the ingest process sees them, then looks from outside whether the
// commit is visible in the catalog and whether a query answers.
func (c *Client) Why(ctx context.Context, name string) (*Why, error) {
	id, err := tableName(name)
	if err != nil {
		return nil, err
	}
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.Waiting != "" {
		return &Why{Table: name, Verdict: Verdict{State: StateWaiting, Cause: s.Waiting}, Stages: []Stage{{Name: "start", Says: s.Waiting}}, Stands: "start"}, nil
	}
	var p *PipelineStatus
	written := []string{}
	for i := range s.Pipelines {
		written = append(written, s.Pipelines[i].Table)
		if s.Pipelines[i].Table == id.String() {
			p = &s.Pipelines[i]
		}
	}
	if p == nil {
		if len(written) == 0 {
			written = append(written, "no table")
		}
		return nil, fmt.Errorf("no pipeline of the process at http://%s writes %s, but %s: ask the one that does with --http", c.http, name, strings.Join(written, ", "))
	}
	w := &Why{Table: name, Verdict: p.Verdict, Stages: append(p.Stages, c.visible(ctx, id, p), c.answers(ctx, id))}
	for _, st := range w.Stages {
		if !st.Moves {
			w.Stands = st.Name
			break
		}
	}
	return w, nil
}

// visible checks that the catalog shows others what the pipeline says it has committed.
func (c *Client) visible(ctx context.Context, id catalog.Identifier, p *PipelineStatus) Stage {
	ctx, cancel := context.WithTimeout(ctx, visibleTimeout)
	defer cancel()
	st := Stage{Name: "visible"}
	cat, err := c.Catalog(ctx)
	if err != nil {
		st.Says = err.Error()
		return st
	}
	defer cat.Close()
	t, err := cat.LoadTable(ctx, id, catalog.LoadRefs)
	if err != nil {
		st.Says = err.Error()
		return st
	}
	head := t.Metadata.CurrentSnapshot()
	if head == nil {
		st.Moves, st.Says = p.Snapshots == 0, "the table has no snapshot yet"
		return st
	}
	age := time.Since(time.UnixMilli(head.TimestampMs)).Round(10 * time.Millisecond)
	st.Says = fmt.Sprintf("the catalog's head is snapshot %d, %s old, with %s", head.SnapshotID, age, plural(snapshot.Count(head, "total-records"), "row"))
	st.Moves = true
	if head.Summary == nil {
		return st
	}
	rec, err := ledger.ParseSummary(head.Summary.Properties)
	if err != nil {
		st.Says += "; it was made by another engine"
		return st
	}
	if rec.Epoch != p.Epoch {
		st.Moves, st.Says = false, st.Says+fmt.Sprintf("; its epoch is %d, the pipeline's %d", rec.Epoch, p.Epoch)
	}
	return st
}

// answers checks that a query of one row comes back.
func (c *Client) answers(ctx context.Context, id catalog.Identifier) Stage {
	ctx, cancel := context.WithTimeout(ctx, visibleTimeout)
	defer cancel()
	st := Stage{Name: "query"}
	fc, err := c.Flight(ctx)
	if err != nil {
		st.Says = err.Error()
		return st
	}
	defer fc.Close()
	began := time.Now()
	res, err := fc.Scan(ctx, query.ScanRequest{Table: id, Columns: []string{ledger.ColOffset}, Limit: 1}, query.Options{})
	if err != nil {
		st.Says = err.Error()
		return st
	}
	defer res.Release()
	var rows int64
	for res.Next(ctx) {
		rows += res.RecordBatch().NumRows()
	}
	if err := res.Err(); err != nil {
		st.Says = err.Error()
		return st
	}
	st.Moves = true
	st.Says = fmt.Sprintf("%s at %s in %s", plural(rows, "row"), c.flight, time.Since(began).Round(time.Millisecond))
	return st
}
