package query_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// TestHotAndCommitted: the rows are those of the snapshot and the tail's from its vector on.
func TestHotAndCommitted(t *testing.T) {
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events") // the tail keeps what is committed: it must not show twice
	q := l.service()
	got, pin := s.scan(q, query.Options{})
	same(t, "an empty table", got, []string{})
	if pin.SnapshotID != 0 || pin.Level != query.LevelHot {
		t.Errorf("pin %+v", pin)
	}
	s.ingest(0, 5)
	got, _ = s.scan(q, query.Options{})
	same(t, "before the first snapshot", got, upTo(s.end))
	got, pin = s.scan(q, query.Options{Level: query.LevelCommitted})
	same(t, "committed, before the first snapshot", got, []string{})
	if pin.Level != query.LevelCommitted {
		t.Errorf("pin %+v", pin)
	}
	id := s.commit()
	s.ingest(0, 4)
	s.ingest(1, 3) // a partition that the snapshot does not know
	got, pin = s.scan(q, query.Options{Level: query.LevelHot})
	same(t, "hot", got, upTo(s.end))
	if pin.SnapshotID != id || pin.Level != query.LevelHot || pin.Kind != query.KindNewest || !pin.Committed.Equal(s.vec) || !pin.End.Equal(s.end) || !pin.AsOf.IsZero() {
		t.Errorf("pin %+v, want %d from %s to %s", pin, id, s.vec, s.end)
	}
	got, pin = s.scan(q, query.Options{Level: query.LevelCommitted})
	same(t, "committed", got, upTo(s.vec))
	if pin.SnapshotID != id || pin.Level != query.LevelCommitted || !pin.End.Equal(s.vec) {
		t.Errorf("pin %+v", pin)
	}
	if n := l.tails.open(); n != 0 {
		t.Errorf("%d cuts were not given back", n)
	}
}

// TestForeignHead: a commit of another engine leaves the offsets where they were.
func TestForeignHead(t *testing.T) {
	l := newLake(t)
	s := l.table(0, "ns", "events")
	s.add(4)
	f, err := s.write(s.meta(), 7, 100, 102)
	l.must(err)
	s.foreign(f)
	s.ingest(0, 2)
	q := l.service()
	for range 2 { // the second time from memory
		got, pin := s.scan(q, query.Options{})
		want := append(upTo(s.end), "7|100", "7|101")
		same(t, "after a foreign commit", got, want)
		if !pin.Committed.Equal(s.vec) {
			t.Errorf("pin %+v, want vector %s", pin, s.vec)
		}
	}
}

// TestTailRefuses: what the tail answers decides what is shown, and the pin says it.
func TestTailRefuses(t *testing.T) {
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	s.add(3)
	s.ingest(0, 2)
	q := l.service()
	always := func(err error) func(string, int) error {
		return func(string, int) error { return fmt.Errorf("of the test: %w", err) }
	}
	for name, err := range map[string]error{"no tail": hot.ErrNoTail, "fenced": hot.ErrFenced, "for ever expired": hot.ErrExpired, "unreachable": fmt.Errorf("refused")} {
		l.tails.failing(always(err))
		got, pin := s.scan(q, query.Options{})
		same(t, name, got, upTo(s.vec))
		if pin.Level != query.LevelCommitted || !pin.End.Equal(s.vec) {
			t.Errorf("%s: pin %+v", name, pin)
		}
	}
	l.tails.failing(func(_ string, n int) error {
		if n <= 2 {
			return hot.ErrExpired
		}
		return nil
	})
	got, pin := s.scan(q, query.Options{})
	same(t, "expired twice", got, upTo(s.end))
	if pin.Level != query.LevelHot {
		t.Errorf("expired twice: pin %+v", pin)
	}
	l.tails.failing(nil)
	s.tail.Reset(1, s.vec) // the owner went back
	if _, pin = s.scan(q, query.Options{}); pin.Level != query.LevelCommitted {
		t.Errorf("another epoch: pin %+v", pin)
	}
	// A caller that goes away while the tail is asked gets its own error, not half an answer.
	ctx, cancel := context.WithCancel(t.Context())
	l.tails.failing(func(string, int) error { cancel(); return ctx.Err() })
	_, err := q.Scan(ctx, query.ScanRequest{Table: s.id}, query.Options{})
	fails(t, err, context.Canceled)
}

// TestNoGapNoDouble reads while rows are appended and committed, and tails forget them at once.
func TestNoGapNoDouble(t *testing.T) {
	for _, grace := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(grace.String(), func(t *testing.T) { readWhileWriting(t, grace) })
	}
}

func readWhileWriting(t *testing.T, grace time.Duration) {
	l := newLake(t)
	s := l.table(grace, "ns", "events")
	q := l.service()
	ctx, cancel := context.WithTimeout(context.Background(), 900*time.Millisecond)
	writer := make(chan error, 1)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	writing.Go(func() {
		var err error
		for i := int32(0); err == nil && ctx.Err() == nil; i++ {
			if err = s.tryIngest(i%3, 7); err == nil && i%4 == 3 {
				_, err = s.tryCommit()
			}
			time.Sleep(time.Millisecond)
		}
		writer <- err
	})
	reads, hotReads := 0, 0
	before := map[string]offset.Vector{}
	for ; ctx.Err() == nil; reads++ {
		how := "scan"
		res, err := query.Result(nil), error(nil)
		if withSQL && reads%4 == 3 {
			how = "sql"
			res, err = q.Query(t.Context(), "SELECT _kafka_partition, _kafka_offset FROM events", nil, query.Options{})
		} else {
			res, err = q.Scan(t.Context(), query.ScanRequest{Table: s.id, Columns: ledgerOnly}, query.Options{})
		}
		got, pins, err := rows(t.Context(), res, err)
		if err != nil {
			t.Fatal(err)
		}
		if pins[0].Level == query.LevelHot {
			hotReads++
		}
		seen, err := contiguous(got)
		if err != nil {
			t.Fatalf("read %d (%s): %v; pin %+v", reads, how, err, pins[0])
		}
		if lacks := behind(seen, pins[0].End); lacks != "" {
			t.Fatalf("read %d (%s): the pin says %s: %s", reads, how, pins[0].End, lacks)
		}
		// A read that fell back to committed rows may lag; one level alone never goes back.
		level := string(pins[0].Level)
		if lacks := behind(seen, before[level]); lacks != "" {
			t.Fatalf("read %d (%s, %s) went back: %s", reads, how, level, lacks)
		}
		before[level] = seen
	}
	if err := <-writer; err != nil {
		t.Fatal(err)
	}
	got, pin := s.scan(q, query.Options{})
	same(t, "at the end", got, upTo(s.end))
	if hotReads*2 < reads || pin.Level != query.LevelHot {
		t.Errorf("%d of %d reads had hot rows", hotReads, reads)
	}
}

// contiguous checks that each partition has every offset from 0 on, once, and gives the ends.
func contiguous(lines []string) (offset.Vector, error) {
	parts := map[int32][]int64{}
	for _, line := range lines {
		p, o, _ := strings.Cut(line, "|")
		pn, err1 := strconv.ParseInt(p, 10, 32)
		on, err2 := strconv.ParseInt(o, 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("row %q", line)
		}
		parts[int32(pn)] = append(parts[int32(pn)], on)
	}
	v := offset.Vector{}
	for p, at := range parts {
		slices.Sort(at)
		for i, o := range at {
			if o != int64(i) {
				return nil, fmt.Errorf("partition %d has %d rows, and row %d is offset %d", p, len(at), i, o)
			}
		}
		v[p] = int64(len(at))
	}
	return v, nil
}

func behind(have, want offset.Vector) string {
	for p, at := range want {
		if have[p] < at {
			return fmt.Sprintf("partition %d is at %d, not %d", p, have[p], at)
		}
	}
	return ""
}

// TestMinOffsets waits for rows of one's own.
func TestMinOffsets(t *testing.T) {
	l := newLake(t)
	s := l.table(time.Hour, "ns", "events")
	s.add(3)
	q := l.service()
	want := query.Options{MinOffsets: map[string]offset.Vector{"ns.events": {0: 5}}}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := q.Scan(ctx, query.ScanRequest{Table: s.id}, want)
	fails(t, err, context.DeadlineExceeded, "ns.events", "0:5", "partition 0 (at 3)")
	if n := l.tails.open(); n != 0 {
		t.Fatalf("%d cuts were not given back", n)
	}

	done := make(chan error, 1)
	go func() {
		time.Sleep(40 * time.Millisecond)
		done <- s.tryIngest(0, 2)
	}()
	got, _ := s.scan(q, want)
	same(t, "after the wait", got, upTo(offset.Vector{0: 5}))
	l.must(<-done)

	want.Level = query.LevelCommitted // hot rows are not enough here
	want.MinOffsets["ns.events"][3] = 1
	short := l.service(func(p *parts) { p.cfg.Timeout = units.Duration(300 * time.Millisecond) })
	_, err = short.Scan(t.Context(), query.ScanRequest{Table: s.id}, want)
	fails(t, err, query.ErrLimit, "query.sql.timeout", "partition 0 (at 3)", "partition 3 (no row yet)")
}
