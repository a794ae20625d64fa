package audit

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
)

// fakeLog is a log whose offsets are records unless they are named.
type fakeLog struct {
	cluster                     string
	topics                      []string
	bounds                      map[int32]LogBounds
	control, aborted, compacted []row
	step                        int64 // length of a stretch
	skew                        int64 // moves the start of the second stretch
	err                         error
}

func (f *fakeLog) Describe(context.Context, ledger.Topics) (string, []string, error) {
	return f.cluster, f.topics, f.err
}
func (f *fakeLog) Bounds(context.Context) (map[int32]LogBounds, error) { return f.bounds, nil }
func (f *fakeLog) ReadRange(ctx context.Context, p int32, from, to int64, fn func(Stretch) error) error {
	// Batches are not cut where the caller asks: the first may begin before, the last end after.
	for start := from / f.step * f.step; start < to; start += f.step {
		s := Stretch{Start: start, End: start + f.step}
		if start > from {
			s.Start += f.skew
		}
		for o := s.Start; o < s.End; o++ {
			switch r := (row{p, o}); {
			case slices.Contains(f.control, r):
				s.Control++
			case slices.Contains(f.aborted, r):
				s.Aborted++
			case slices.Contains(f.compacted, r):
			default:
				s.Offsets = append(s.Offsets, o)
			}
		}
		if err := fn(s); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func logOf(step int64) *fakeLog {
	return &fakeLog{cluster: "c", topics: []string{"t"}, step: step, bounds: map[int32]LogBounds{0: {0, 2600}, 1: {40, 120}}}
}

func TestTheLogAgrees(t *testing.T) {
	for _, step := range []int64{1, 7, 64, 5000} {
		l := sound(t)
		r := l.audit(Options{Kafka: logOf(step)})
		l.expect(r, Clean)
		if p := r.Partitions[0]; p.Compared != 2500 || p.Missing+p.Phantom+p.Unexplained+p.NotHeld != 0 {
			t.Errorf("stretches of %d: %+v", step, p)
		}
	}
}

func TestTheLogExplainsGaps(t *testing.T) {
	l := sound(t)
	l.ingest([]offset.Range{{Partition: 0, Start: 2500, End: 2520}, {Partition: 1, Start: 100, End: 110}}, []row{{0, 2505}},
		[]row{{0, 2501}, {0, 2502}, {0, 2503}, {1, 109}, {1, 104}}, nil)
	log := logOf(10)
	log.control, log.aborted, log.compacted = []row{{0, 2503}, {1, 109}}, []row{{0, 2501}, {0, 2502}}, []row{{1, 104}}
	l.expect(l.audit(Options{}), Unproven, KindUnexplained)
	r := l.audit(Options{Kafka: log})
	l.expect(r, Clean)
	if p := r.Partitions[0]; p.Control != 1 || p.Aborted != 2 || p.Compacted != 0 || p.DeadLetters != 2 || p.Unexplained != 0 {
		t.Errorf("partition 0: %+v", p)
	}
	if p := r.Partitions[1]; p.Control != 1 || p.Compacted != 1 || p.Unexplained != 0 {
		t.Errorf("partition 1: %+v", p)
	}
}

func TestTheLogShowsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(l *lake, log *fakeLog)
		want  []Kind
		says  string
	}{
		"a lost record": {func(l *lake, _ *fakeLog) {
			l.ingest(moved(1, 100, 110), nil, []row{{1, 103}, {1, 104}}, nil)
		}, []Kind{KindMissing}, "2 the log has records that are neither row nor dead letter: they were lost: 103-104"},
		"an aborted row": {func(l *lake, log *fakeLog) {
			log.aborted = []row{{0, 300}}
		}, []Kind{KindPhantom}, "no record that can be read: markers, aborted records, or another log's: 300"},
		"a dead letter at a marker": {func(l *lake, log *fakeLog) {
			log.control = []row{{0, 150}}
		}, []Kind{KindPhantom}, "150"},
		"a truncated log": {func(l *lake, log *fakeLog) {
			log.bounds[0] = LogBounds{0, 2000}
		}, []Kind{KindLog}, "the vector stands at 2500, the log ends at 2000"},
		"a partition less": {func(l *lake, log *fakeLog) {
			delete(log.bounds, 1)
		}, []Kind{KindLog}, "no such partition"},
		"another cluster": {func(l *lake, log *fakeLog) {
			log.cluster, log.aborted = "d", []row{{0, 1}}
		}, []Kind{KindLog}, "of the cluster d, the table was written from c"},
		"one of two topics made again": {func(l *lake, log *fakeLog) {
			*l = *newLake(l.t)
			l.record.Topics, l.record.TopicID = ledger.Topics{{Name: "eu", ID: "t"}, {Name: "us", ID: "u"}}, "n/a"
			us := ledger.Number(1, 0)
			l.ingest(moved(0, 0, 50), nil, nil, nil)
			l.ingest(moved(us, 0, 50), nil, []row{{us, 7}}, nil)
			log.topics, log.bounds = []string{"t2", "u"}, map[int32]LogBounds{0: {0, 10}, us: {0, 50}}
		}, []Kind{KindLog, KindMissing}, "of the topic eu t2, the table was written from t: they are not compared"},
		"records before the first row": {func(l *lake, log *fakeLog) {
			// Nothing in the metadata tells any more that ingest began at 40.
			*l = *newLake(l.t)
			l.record.Offsets, l.record.Prev = offset.Vector{1: 40}, 42
			l.ingestRows(moved(1, 40, 90), rowsOf(1, 40, 90), nil)
			log.bounds[1] = LogBounds{30, 120}
		}, []Kind{KindMissing}, "10 the log has records"},
	} {
		t.Run(name, func(t *testing.T) {
			l, log := sound(t), logOf(16)
			c.plant(l, log)
			r := l.audit(Options{Kafka: log})
			l.expect(r, Broken, c.want...)
			if !strings.Contains(r.String(), c.says) {
				t.Errorf("no %q in\n%s", c.says, r)
			}
		})
	}
}

func TestRetentionIsNoLoss(t *testing.T) {
	l, log := sound(t), logOf(16)
	log.bounds[0] = LogBounds{2000, 2600}
	r := l.audit(Options{Kafka: log})
	l.expect(r, Clean)
	if p := r.Partitions[0]; p.NotHeld != 2000 || p.Compared != 500 || !strings.Contains(r.String(), "the offsets 0 to 1999 were not compared") {
		t.Errorf("%+v\n%s", p, r)
	}
	// A gap below what Kafka holds stays unproven, one above is answered.
	l.ingest(moved(1, 100, 110), nil, []row{{1, 103}, {1, 108}}, nil)
	log.bounds[1], log.control = LogBounds{105, 120}, []row{{1, 108}}
	r = l.audit(Options{Kafka: log})
	l.expect(r, Unproven, KindUnexplained)
	if p := r.Problems[0]; p.Offsets != "103" || p.Count != 1 {
		t.Errorf("%+v", p)
	}
	// Nothing is left to compare with.
	log.bounds[1] = LogBounds{115, 120}
	l.expect(l.audit(Options{Kafka: log}), Unproven, KindUnexplained)
	// What the gaps table names is told apart; rows and other partitions are none of its business.
	gaps := []Gap{{1, 102, 106}, {1, 40, 50}, {9, 0, 5}}
	for _, o := range []Options{{Kafka: log, Gaps: gaps}, {Gaps: gaps}} {
		r = l.audit(o)
		want := []Kind{KindRetentionGap, KindUnexplained}
		l.expect(r, Unproven, want...)
		if p := r.Problems[0]; p.Offsets != "103" || !strings.Contains(r.String(), "gaps table") {
			t.Errorf("%+v\n%s", p, r)
		}
	}
}

func TestRowsOutliveCompactedRecords(t *testing.T) {
	l, log := sound(t), logOf(16)
	log.compacted = []row{{0, 5}, {0, 6}, {0, 150}}
	r := l.audit(Options{Kafka: log})
	l.expect(r, Clean)
	if p := r.Partitions[0]; p.CompactedRows != 3 || p.Phantom != 0 {
		t.Errorf("%+v", p)
	}
}

func TestALogThatCannotBeReadIsAnError(t *testing.T) {
	boom := errors.New("boom")
	for name, log := range map[string]*fakeLog{
		"down":           {err: boom},
		"not contiguous": {bounds: logOf(1).bounds, step: 10, skew: 1},
	} {
		l := sound(t)
		if _, err := Table(t.Context(), l.cat, l.wh, l.main, Options{Kafka: log}); err == nil || !strings.Contains(err.Error(), "kafka") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
