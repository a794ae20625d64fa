package commit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/firnlake/firn/bench/report"
	"github.com/firnlake/firn/compaction"
)

// windowOf is how many snapshots a table's metadata holds after so many commits, one a second, by the defaults: the
// window, a minute until its expiry, and a replace snapshot each ten seconds.
func windowOf(commits int) int { return min(commits, 900+60+96) }

// materializeEvery is how many commits a metadata file is written for, one a second.
const materializeEvery = 10

// measureRows measures commits to a table with a long history in the database and as many snapshots as are left of it. The
// history is not committed but filled in: the rows that so many commits leave, of the same columns and lengths, in one
// transaction. first is the median of the shortest history; it is returned.
func measureRows(ctx context.Context, rep *report.Report, rows int, first float64, o options) (_ float64, err error) {
	dir, err := os.MkdirTemp("", "firn-bench-rows-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := newLake(ctx, dir, windowOf(rows))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	l.apart = true
	if err := l.append(ctx); err != nil { // whose row is the model
		return 0, err
	}
	if err := l.fillHistory(ctx, rows-windowOf(rows)); err != nil {
		return 0, err
	}
	c, err := compaction.New(compaction.Config{SnapshotTags: "off"}, l.cat, l.wh, nil, nil)
	if err != nil {
		return 0, err
	}
	var s report.Samples
	for range o.Runs {
		if _, err := c.MergeManifests(ctx, l.id); err != nil { // between runs, as beside ingest
			return 0, err
		}
		if err := l.reload(ctx); err != nil {
			return 0, err
		}
		var times []float64
		used, err := report.Measure(func() (err error) {
			times, err = run(ctx, l, o.commits)
			return err
		})
		if err != nil {
			return 0, err
		}
		s.Add("cpu_ms", used.CPU.Seconds()*1e3/float64(o.commits))
		s.Add("median_ms", report.Of(times...).Median)
		s.Add("p99_ms", report.Percentile(times, 99))
	}
	n, _, size, err := l.verify(ctx)
	if err != nil {
		return 0, err
	}
	if least := windowOf(rows) + 1 + o.Runs*o.commits; n < least {
		return 0, fmt.Errorf("the table has %d snapshots, at least %d were made", n, least)
	}
	median := s.Figure("median_ms")
	if first == 0 {
		first = median.Median
	}
	labels := map[string]any{"history": rows, "store": "sqlite file", "filled": max(rows-windowOf(rows), 0)}
	return first, errors.Join(rep.AddFigure("median_ms", "ms", labels, median, &report.Reference{Name: "shortest history", Value: first}),
		rep.AddFigure("p99_ms", "ms", labels, s.Figure("p99_ms"), nil),
		rep.AddFigure("cpu_ms", "ms", labels, s.Figure("cpu_ms"), nil), // of all parts in this process
		rep.AddFigure("metadata_mb", "MB", labels, report.Of(float64(size)/1e6), nil))
}

// fillHistory adds what n earlier commits would have left in the database: a row of history each, like the newest, and a
// metadata file for every ten of them.
func (l *lake) fillHistory(ctx context.Context, n int) (err error) {
	if n <= 0 {
		return nil
	}
	db, err := sql.Open("sqlite", filepath.Join(l.dir, "catalog.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	const numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
	const below = " - (SELECT 1 + max(0, -min(version)) FROM "
	for _, stmt := range []struct {
		query string
		n     int
	}{
		{numbers + `INSERT INTO history (table_id, version, at_ms, snapshot_id, offsets)
			SELECT m.table_id, -i` + below + `history), m.at_ms - i * 1000, m.snapshot_id - i, m.offsets
			FROM n, (SELECT * FROM history WHERE offsets IS NOT NULL ORDER BY version DESC LIMIT 1) m`, n},
		{numbers + `INSERT INTO metadata_files (table_id, version, at_ms, location)
			SELECT m.table_id, -i` + below + `metadata_files), m.at_ms - i * 10000, m.location || i
			FROM n, (SELECT * FROM metadata_files ORDER BY version DESC LIMIT 1) m`, max(n/materializeEvery, 1)},
	} {
		if _, err := tx.ExecContext(ctx, stmt.query, stmt.n); err != nil {
			return fmt.Errorf("fill the history: %w", err)
		}
	}
	return tx.Commit()
}
