package query_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
	"github.com/firnlake/firn/internal/snapshot/snapshottest"
	"github.com/firnlake/firn/query"
)

// takeOut commits position deletes as another engine would.
func (s *stream) takeOut(deletes ...iceberg.DataFile) int64 {
	s.Helper()
	ctx, meta, id := context.Background(), s.meta(), snapshot.NewID()
	m, err := snapshottest.Manifest(ctx, s.wh, meta, id, 0, deletes...)
	s.must(err)
	h, err := snapshot.LoadHead(ctx, snapshot.NewReader(s.wh, 0), meta, table.MainBranch)
	s.must(err)
	snap, err := snapshot.Build(ctx, s.wh, h, snapshot.Change{SnapshotID: id, Operation: table.OpDelete, New: []iceberg.ManifestFile{m}}, time.Now())
	s.must(err)
	_, err = s.cat.CommitTable(ctx, catalog.TableCommit{Identifier: s.id, Updates: snapshot.Updates(snap, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, h.ID())}})
	s.must(err)
	return id
}

// dataFiles are the live data files of the head, deleted rows or not.
func (s *stream) dataFiles() []snapshot.File {
	s.Helper()
	fs, err := snapshot.NewReader(s.wh, 0).LiveFiles(context.Background(), s.meta().CurrentSnapshot(), nil)
	s.must(err)
	return fs
}

// TestRowDeletes: rows that another engine deleted by position are gone for scans, ranges of offsets and SQL, in what was
// and in what is, while Firn goes on committing, and those of it that are not yet committed are all there.
func TestRowDeletes(t *testing.T) {
	l := newLake(t)
	q := l.service()
	s := l.table(time.Minute, "analytics", "events")
	r := rand.New(rand.NewPCG(7, 7))
	gone := map[string]bool{}
	live := func(v offset.Vector) []string {
		return slices.DeleteFunc(upTo(v), func(row string) bool { return gone[row] })
	}
	for round := range 5 {
		for p := range int32(2) {
			s.ingest(p, int64(50+r.IntN(3000)))
		}
		s.commit()
		before, was := s.meta().CurrentSnapshot().SnapshotID, live(s.vec)
		out := snapshottest.Rows{}
		for _, f := range s.dataFiles() {
			low := int64(binary.LittleEndian.Uint64(f.LowerBoundValues()[4]))
			part := binary.LittleEndian.Uint32(f.LowerBoundValues()[3])
			for range r.IntN(40) {
				at := r.Int64N(f.Count())
				if round == 3 && f.SnapshotID == before { // every row of the newest files
					at = int64(len(out[f.FilePath()])) % f.Count()
				}
				out[f.FilePath()] = append(out[f.FilePath()], at)
				gone[fmt.Sprintf("%d|%d", part, low+at)] = true
			}
		}
		d, err := snapshottest.PositionDeletes(t.Context(), l.wh, s.meta(), nil, out)
		l.must(err)
		s.takeOut(d)

		got, _ := s.scan(q, query.Options{Level: query.LevelCommitted})
		same(t, "a scan", got, live(s.vec))
		s.ingest(1, 7)
		got, _ = s.scan(q, query.Options{})
		same(t, "a scan with hot rows", got, live(s.end))
		ranged, err := q.Scan(t.Context(), query.ScanRequest{Table: s.id, Columns: ledgerOnly, From: offset.Vector{0: 10, 1: s.vec[1]}, To: offset.Vector{0: 40}}, query.Options{Level: query.LevelCommitted})
		got, _, err = rows(t.Context(), ranged, err)
		l.must(err)
		same(t, "a range", got, slices.DeleteFunc(live(s.vec), func(row string) bool {
			var p, o int64
			_, _ = fmt.Sscanf(strings.ReplaceAll(row, "|", " "), "%d %d", &p, &o)
			return p != 0 || o < 10 || o >= 40
		}))
		if !withSQL {
			continue
		}
		got, _, err = l.ask(q, query.Options{}, "SELECT _kafka_partition, _kafka_offset FROM analytics.events")
		l.must(err)
		same(t, "SQL", got, live(s.end))
		got, _, err = l.ask(q, query.Options{}, "SELECT _kafka_partition, _kafka_offset FROM analytics.events FOR VERSION AS OF %d", before)
		l.must(err)
		same(t, "SQL before the delete", got, was)
	}
}
