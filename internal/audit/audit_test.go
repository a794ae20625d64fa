package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// sound fills a lake with three commits into two partitions, a dead letter among them.
func sound(t *testing.T) *lake {
	l := newLake(t)
	l.ingest(moved(0, 0, 100), nil, nil, nil)
	l.ingest([]offset.Range{{Partition: 0, Start: 100, End: 2500}, {Partition: 1, Start: 40, End: 90}}, []row{{0, 150}, {1, 89}}, nil, nil)
	l.ingest(moved(1, 90, 100), nil, nil, nil)
	return l
}

func TestASoundTableIsClean(t *testing.T) {
	l := sound(t)
	var progress []string
	r := l.audit(Options{Progress: func(done, total int) { progress = append(progress, fmt.Sprintf("%d/%d", done, total)) }, Concurrency: 1})
	l.expect(r, Clean)
	want := []Partition{
		{Partition: 0, First: 0, Last: 2499, Rows: 2499, Distinct: 2499, Vector: 2500, LastRow: 2499, DeadLetters: 1},
		{Partition: 1, First: 40, Last: 99, Rows: 59, Distinct: 59, Vector: 100, LastRow: 99, DeadLetters: 1},
	}
	if !slices.Equal(r.Partitions, want) {
		t.Errorf("partitions\n%+v, want\n%+v", r.Partitions, want)
	}
	if r.Files != 4 || r.Rows != 2558 || r.Records != 3 || r.Pipeline != "events" || r.Pages == 0 {
		t.Errorf("report %+v", r)
	}
	if !slices.Equal(progress, []string{"1/3", "2/3", "3/3", "4/4"}) {
		t.Errorf("progress %v", progress)
	}
	for _, want := range []string{"analytics.events: clean", "2558 rows", "2499"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("no %q in\n%s", want, r)
		}
	}
	var back Report
	if raw, err := json.Marshal(r); err != nil || json.Unmarshal(raw, &back) != nil || back.Verdict != Clean || !strings.Contains(string(raw), `"problems":[]`) {
		t.Errorf("JSON %s, %v", raw, err)
	}
}

func TestAnEmptyTableIsClean(t *testing.T) {
	l := newLake(t)
	l.expect(l.audit(Options{}), Clean)
}

// Each kind of damage is planted in a table that is sound otherwise.
func TestDamageIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(l *lake)
		want  []Kind
		says  string // in the report
	}{
		"a row twice in one file": {func(l *lake) {
			l.ingestRows(moved(1, 100, 110), append(rowsOf(1, 100, 110), row{1, 105}), nil)
		}, []Kind{KindDoubled}, "partition 1: 1 offsets are there in more than one row: 105"},
		"runs twice in one file": {func(l *lake) {
			l.ingestRows(moved(1, 100, 200), append(rowsOf(1, 100, 200), rowsOf(1, 120, 140)...), nil)
		}, []Kind{KindDoubled}, "20 offsets are there in more than one row: 120-139"},
		"rows twice in two files": {func(l *lake) {
			l.ingestRows(moved(1, 100, 110), append(rowsOf(1, 100, 110), rowsOf(0, 60, 63)...), nil)
		}, []Kind{KindDoubled}, "partition 0: 3 offsets are there in more than one row: 60-62"},
		"a file listed twice": {func(l *lake) {
			f := l.file(l.main, rowsOf(1, 100, 110))
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, f, f)
		}, []Kind{KindListedTwice, KindDoubled}, "lists a data file twice"},
		"a file listed again later": {func(l *lake) {
			f := l.file(l.main, rowsOf(1, 100, 110))
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, f)
			l.ingestFiles(nil, nil, nil, f)
		}, []Kind{KindListedTwice, KindDoubled}, "readers see its rows twice"},
		"the vector ahead of the rows": {func(l *lake) {
			l.ingestRows(moved(1, 100, 120), rowsOf(1, 100, 110), func(r *ledger.Record) { r.LastRow[1] = 119 })
		}, []Kind{KindVector, KindUnexplained}, "the last row is offset 119, the last that is there is 109"},
		"rows ahead of the vector": {func(l *lake) {
			l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 115), func(r *ledger.Record) { r.LastRow[1] = 109 })
		}, []Kind{KindVector}, "rows stand at or above the vector's 110"},
		"a last row that was not told": {func(l *lake) {
			l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 110), func(r *ledger.Record) { r.LastRow[1] = 104 })
		}, []Kind{KindVector}, "but there is a row at 109"},
		"rows of a partition without a vector": {func(l *lake) {
			l.ingestRows(nil, []row{{7, 3}}, func(r *ledger.Record) { delete(r.LastRow, 7) })
		}, []Kind{KindVector}, "does not know the partition"},
		"a dead letter that is a row": {func(l *lake) {
			l.commit(l.dead, nil, l.file(l.dead, []row{{0, 77}}))
		}, []Kind{KindDeadOverlap}, "a row and a dead letter: a record is one of the two: 77"},
		"a dead letter twice": {func(l *lake) {
			l.commit(l.dead, nil, l.file(l.dead, []row{{0, 150}}))
		}, []Kind{KindDeadDoubled}, "more than once: 150"},
		"a manifest with a wrong row count": {func(l *lake) {
			data, st := l.encode(l.main, rowsOf(1, 100, 110))
			st.Rows = 11
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, l.put(l.main, data, st))
		}, []Kind{KindRowCount}, "the file holds 10 rows, its manifest says 11"},
		"a file of another size": {func(l *lake) {
			data, st := l.encode(l.main, rowsOf(1, 100, 110))
			st.Bytes++
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, l.put(l.main, data, st))
		}, []Kind{KindDamaged, KindVector, KindUnexplained}, "its manifest says"},
		"a damaged file": {func(l *lake) {
			data, st := l.encode(l.main, rowsOf(1, 100, 110))
			for i := 4; i < 40; i++ {
				data[i] ^= 0x5a
			}
			data[len(data)-6] ^= 1
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, l.put(l.main, data, st))
		}, []Kind{KindDamaged, KindVector, KindUnexplained}, datafile.ErrCorrupt.Error()},
		"a missing file": {func(l *lake) {
			f := l.file(l.main, rowsOf(1, 100, 110))
			l.ingestFiles(moved(1, 100, 110), rowsOf(1, 100, 110), nil, f)
			key, err := l.wh.Key(f.FilePath())
			l.must(err)
			l.must(l.wh.Delete(l.t.Context(), key))
		}, []Kind{KindDamaged, KindVector, KindUnexplained}, "object not found"},
		"a missing offset": {func(l *lake) {
			l.ingest(moved(1, 100, 110), nil, []row{{1, 103}}, nil)
		}, []Kind{KindUnexplained}, "run with --kafka): 103"},
		"rows of somebody else": {func(l *lake) {
			l.commit(l.main, nil, l.file(l.main, []row{{-1, 0}, {-1, 1}}))
		}, []Kind{KindNoLedger}, "2 rows without _kafka_partition"},
		"a vector that jumps": {func(l *lake) {
			l.record.Offsets = offset.Vector{0: 2500, 1: 110}
			l.ingestRows(moved(1, 110, 120), rowsOf(1, 110, 120), nil)
		}, []Kind{KindChain, KindUnexplained}, "partition 1 moves from 110, the vector stood at 100"},
		"a vector that moves without a range": {func(l *lake) {
			l.record.Offsets = offset.Vector{0: 2600, 1: 100}
			l.ingestRows(moved(1, 100, 120), rowsOf(1, 100, 120), nil)
		}, []Kind{KindChain, KindUnexplained}, "its ranges lead to"},
		"a compaction that moves the vector": {func(l *lake) {
			l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 110), func(r *ledger.Record) { r.Kind = ledger.KindCompact })
		}, []Kind{KindChain}, "a compaction moved the vector"},
		"an epoch that goes back": {func(l *lake) {
			l.record.Epoch = 3
			l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 110), nil)
			l.record.Epoch = 2
			l.ingestRows(moved(1, 110, 120), rowsOf(1, 110, 120), nil)
		}, []Kind{KindChain}, "epoch 2 follows 3"},
		"two pipelines": {func(l *lake) {
			l.record.Pipeline = "others"
			l.ingestRows(moved(1, 100, 110), rowsOf(1, 100, 110), nil)
		}, []Kind{KindChain}, "a table has one pipeline"},
		"a record that cannot be read": {func(l *lake) {
			l.commit(l.main, map[string]string{ledger.KeyVersion: "1", ledger.KeyOffsets: "?"})
		}, []Kind{KindChain}, ledger.ErrBadRecord.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			l := sound(t)
			c.plant(l)
			r := l.audit(Options{})
			v := Broken
			if slices.Equal(c.want, []Kind{KindUnexplained}) {
				v = Unproven
			}
			l.expect(r, v, c.want...)
			if !strings.Contains(r.String(), c.says) {
				t.Errorf("no %q in\n%s", c.says, r)
			}
		})
	}
}

func TestDoubledRowsNameTheirFiles(t *testing.T) {
	l := sound(t)
	first, second := l.file(l.main, rowsOf(1, 100, 110)), l.file(l.main, rowsOf(1, 105, 112))
	l.ingestFiles(moved(1, 100, 112), rowsOf(1, 100, 112), nil, first, second)
	r := l.audit(Options{})
	l.expect(r, Broken, KindDoubled)
	want := []string{first.FilePath(), second.FilePath()}
	slices.Sort(want)
	if p := r.Problems[0]; !slices.Equal(p.Files, want) || p.Count != 5 || p.Offsets != "105-109" {
		t.Errorf("%+v, want the files %v", p, want)
	}
	if p := r.Partitions[1]; p.Doubled != 5 || p.Rows != p.Distinct+5 {
		t.Errorf("partition %+v", p)
	}
}

func TestWhatIsNoDamage(t *testing.T) {
	for name, plant := range map[string]func(l *lake){
		"a foreign commit of nothing":      func(l *lake) { l.commit(l.main, nil) },
		"offsets alone":                    func(l *lake) { l.ingest(moved(0, 2500, 2501), []row{{0, 2500}}, nil, nil) },
		"a compaction":                     func(l *lake) { l.ingestRows(nil, nil, func(r *ledger.Record) { r.Kind = ledger.KindCompact }) },
		"a new partition that begins late": func(l *lake) { l.ingest(moved(5, 1<<40, 1<<40+20), nil, nil, nil) },
		"a rewind": func(l *lake) {
			l.record.Epoch++
			l.ingestRows(nil, nil, func(r *ledger.Record) { r.Kind = ledger.KindRewind })
		},
		"dead letters of a commit under way": func(l *lake) { l.commit(l.dead, nil, l.file(l.dead, []row{{1, 100}, {9, 4}})) },
	} {
		t.Run(name, func(t *testing.T) {
			l := sound(t)
			plant(l)
			l.expect(l.audit(Options{}), Clean)
		})
	}
}

func TestWithoutARecordNothingIsProved(t *testing.T) {
	l := newLake(t)
	l.commit(l.main, nil, l.file(l.main, rowsOf(0, 0, 10)))
	r := l.audit(Options{})
	l.expect(r, Broken, KindNoRecord)
	if r.ForeignSnapshots != 1 {
		t.Errorf("%d foreign snapshots", r.ForeignSnapshots)
	}
}

func TestTheDeadLetterTableIsNamed(t *testing.T) {
	l := sound(t)
	if _, err := Table(t.Context(), l.cat, l.wh, l.main, Options{DeadLetters: []string{"analytics", "none"}}); err == nil || !strings.Contains(err.Error(), "dead-letter table") {
		t.Errorf("a named dead-letter table that does not exist: %v", err)
	}
	if _, err := Table(t.Context(), l.cat, l.wh, l.dead, Options{}); err != nil {
		t.Errorf("a table of which no dead-letter table exists: %v", err)
	}
	r := l.audit(Options{DeadLetters: l.dead})
	if l.expect(r, Clean); r.DeadLetterTable != "analytics.events_dead" {
		t.Errorf("dead letters of %s", r.DeadLetterTable)
	}
}
