package broker

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// batchOf is a record batch v2 with one record.
func batchOf(value string) []byte {
	rec := kmsg.Record{Value: []byte(value)}
	rec.Length = int32(len(rec.AppendTo(nil))) - 1 // one byte of length before it is known
	b := kmsg.RecordBatch{Magic: 2, PartitionLeaderEpoch: -1, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		FirstTimestamp: 1_780_000_000_000, MaxTimestamp: 1_780_000_000_000, Records: rec.AppendTo(nil)}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[batchLengthAt:], uint32(len(raw)-batchPrefix))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[batchAttrsAt:], crcTable))
	return raw
}

func TestPlan(t *testing.T) {
	now := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		keepBytes := rapid.Int64Range(0, 500).Draw(t, "keepBytes")
		keepFor := time.Duration(rapid.IntRange(1, 200).Draw(t, "keepFor")) * time.Minute
		var parts []partitionState
		var total int64
		for i := range rapid.IntRange(0, 4).Draw(t, "partitions") {
			p := partitionState{topic: "t", id: int32(i), floor: noFloor}
			base := rapid.Int64Range(0, 100).Draw(t, "start")
			for range rapid.IntRange(0, 6).Draw(t, "segments") {
				s := segment{base: base, bytes: rapid.Int64Range(0, 100).Draw(t, "bytes"),
					modified: now.Add(-time.Duration(rapid.IntRange(0, 300).Draw(t, "age")) * time.Minute)}
				base += rapid.Int64Range(1, 50).Draw(t, "records")
				total += s.bytes
				p.segments = append(p.segments, s)
			}
			p.end = base
			if n := len(p.segments); n > 0 && rapid.Bool().Draw(t, "empty last segment") {
				p.end = p.segments[n-1].base // a failed append left it
			}
			if rapid.Bool().Draw(t, "needed") {
				p.floor = rapid.Int64Range(0, p.end).Draw(t, "floor")
			}
			parts = append(parts, p)
		}
		trims, held := plan(parts, now, keepBytes, keepFor)
		cut := map[int32]int64{}
		for _, tr := range trims {
			p := parts[tr.id]
			if _, twice := cut[tr.id]; twice || tr.bytes < 0 {
				t.Fatalf("trims %+v", trims)
			}
			cut[tr.id] = tr.below
			if p.floor != noFloor && tr.below > p.floor {
				t.Fatalf("cut to %d, needed from %d", tr.below, p.floor)
			}
			if tr.below >= p.end {
				t.Fatalf("cut to %d, the last record is at %d", tr.below, p.end-1)
			}
			total -= tr.bytes
		}
		if held != max(0, total-keepBytes) {
			t.Fatalf("held %d, %d left of %d", held, total, keepBytes)
		}
		// What could go and is too much or too old is gone.
		for _, p := range parts {
			for j, s := range p.segments {
				if j == len(p.segments)-1 || s.base < cut[p.id] {
					continue
				}
				next := p.segments[j+1].base
				free := next < p.end && (p.floor == noFloor || next <= p.floor)
				if free && held > 0 {
					t.Fatalf("held %d with segment %d of partition %d still there", held, s.base, p.id)
				}
				if !free {
					break
				}
			}
		}
	})
}

func TestPlanTakesTheOldestFirst(t *testing.T) {
	now := time.Date(2026, 6, 4, 12, 0, 0, 0, time.UTC)
	seg := func(base int64, age time.Duration) segment {
		return segment{base: base, bytes: 100, modified: now.Add(-age)}
	}
	parts := []partitionState{
		{topic: "a", id: 0, end: 40, floor: noFloor, segments: []segment{seg(0, 9*time.Minute), seg(10, 5*time.Minute), seg(20, time.Minute), seg(30, 0)}},
		{topic: "b", id: 3, end: 400, floor: 100, segments: []segment{seg(0, 8*time.Minute), seg(100, 7*time.Minute), seg(200, 6*time.Minute)}},
	}
	check := func(keepBytes int64, keepFor time.Duration, want ...trim) {
		t.Helper()
		got, _ := plan(parts, now, keepBytes, keepFor)
		if len(got) != len(want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%+v, want %+v", got[i], want[i])
			}
		}
	}
	check(700, time.Hour)
	check(600, time.Hour, trim{"a", 0, 10, 100})
	check(500, time.Hour, trim{"a", 0, 10, 100}, trim{"b", 3, 100, 100})
	check(0, time.Hour, trim{"a", 0, 30, 300}, trim{"b", 3, 100, 100})
	check(700, 4*time.Minute, trim{"a", 0, 20, 200}, trim{"b", 3, 100, 100})
}

// kfake's own index files are right, and what is not is made right.
func TestRepairIndexes(t *testing.T) {
	dir := t.TempDir()
	b := mustStart(t, testConfig(dir), options{})
	c := client(t, b.Addr())
	for range 30 {
		produce(t, c, 0, string(make([]byte, 5000)))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	logDir := filepath.Join(dir, logDirName)
	if n, err := repairIndexes(logDir); err != nil || n != 0 {
		t.Fatalf("%d files of a clean log were touched: %v", n, err)
	}
	parts, err := readPartitions(logDir)
	if err != nil {
		t.Fatal(err)
	}
	var idx string
	for _, p := range parts {
		if p.topic == testTopic && p.id == 0 {
			if len(p.segments) < 3 {
				t.Fatalf("%d segments", len(p.segments))
			}
			idx = filepath.Join(p.path, "0.idx")
		}
	}
	good, err := os.ReadFile(idx)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"short":   good[:len(good)-indexEntrySize],
		"shifted": append(append([]byte{}, good[:20]...), good...),
		"epoch":   append(append([]byte{}, good[:2]...), append([]byte{9}, good[3:]...)...),
		"empty":   {},
	} {
		if err := os.WriteFile(idx, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if n, err := repairIndexes(logDir); err != nil || n != 1 {
			t.Errorf("%s: %d files touched: %v", name, n, err)
		}
		if got, err := os.ReadFile(idx); err != nil || !sameIndex(got, good) {
			t.Errorf("%s: not repaired: %v", name, err)
		}
	}
	orphan := filepath.Join(filepath.Dir(idx), "7.idx")
	if err := os.WriteFile(orphan, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := repairIndexes(logDir); err != nil || n != 1 {
		t.Errorf("orphan: %d files touched: %v", n, err)
	}
	if _, err := os.Stat(orphan); !os.IsNotExist(err) {
		t.Error("the orphan is still there")
	}
	b = mustStart(t, testConfig(dir), options{})
	if got := len(readAll(t, b.Addr())); got != 30 {
		t.Errorf("%d records", got)
	}
}

func FuzzIndexOf(f *testing.F) {
	batch := batchOf("seed")
	f.Add(append(append([]byte{}, batch...), batch...))
	f.Add(batch[:30])
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "0.dat")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		idx, err := indexOf(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(idx) / indexEntrySize; len(idx)%indexEntrySize != 0 || n > len(raw)/batchHead || !sameIndex(idx, idx) {
			t.Errorf("%d bytes of index for %d bytes", len(idx), len(raw))
		}
	})
}

func FuzzCheckHead(f *testing.F) {
	f.Add([]byte{0, 0, 0, 16, 0, 3, 0, 9})
	f.Add([]byte("GET / HT"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var head [frameHead]byte
		copy(head[:], raw)
		size, err := checkHead(head, 1<<20)
		if err == nil && (size < 10 || size > 1<<20) {
			t.Errorf("a request of %d bytes was let through", size)
		}
	})
}

func TestRetentionCutsBelowTheFloorOnly(t *testing.T) {
	cfg := testConfig(t.TempDir())
	b := mustStart(t, cfg, options{})
	c := client(t, b.Addr())
	fill := func() {
		for i := range 600 {
			produce(t, c, int32(i%testPartitions), strings.Repeat("z", 8000))
		}
	}
	fill() // 4.8 MB into a log of 1 MiB
	time.Sleep(10 * cfg.RetentionInterval.D())
	if got := offsets(t, b.Addr(), -2); got[0] != 0 || got[1] != 0 || got[2] != 0 {
		t.Fatalf("cut to %v before anybody said what is needed", got)
	}
	floor := map[int32]int64{0: 150, 1: 20} // 2 is missing: needed as a whole
	b.SetFloor(func() map[string]map[int32]int64 { return map[string]map[int32]int64{testTopic: floor} })
	waitFor(t, func() bool { return offsets(t, b.Addr(), -2)[0] > 100 })
	if got := offsets(t, b.Addr(), -2); got[0] > 150 || got[1] > 20 || got[2] != 0 {
		t.Errorf("cut to %v, needed from %v and all of partition 2", got, floor)
	}
	waitFor(t, func() bool { return b.heldBytes.Load() > 1<<20 })
	b.SetFloor(func() map[string]map[int32]int64 { return nil })
	waitFor(t, func() bool { return b.heldBytes.Load() == 0 })
	fill()
	limit := int64(cfg.RetentionBytes) + testPartitions*int64(cfg.SegmentBytes+64<<10)
	waitFor(t, func() bool { return diskUse(t, cfg.Dir) <= limit })
	waitFor(t, func() bool { // what is cut while it is read would be waited for in vain
		before := offsets(t, b.Addr(), -2)
		time.Sleep(10 * cfg.RetentionInterval.D())
		return maps.Equal(before, offsets(t, b.Addr(), -2))
	})
	if got := len(readAll(t, b.Addr())); got < 100 {
		t.Errorf("only %d records left of 1 MiB", got)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(b)
	if m, err := reg.Gather(); err != nil || len(m) != 8 {
		t.Errorf("%d metrics: %v", len(m), err)
	}
}

// Offsets go on where they were, also when everything was deleted that can be, by retention or by a client.
func TestOffsetsGoOnAfterEverythingWasDeleted(t *testing.T) {
	dir := t.TempDir()
	b := mustStart(t, testConfig(dir), options{})
	c := client(t, b.Addr())
	for i := range 10 {
		produce(t, c, 0, fmt.Sprint(i))
	}
	var all kadm.Offsets
	all.AddOffset(testTopic, 0, -1, -1)
	res, err := kadm.NewClient(c).DeleteRecords(t.Context(), all)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	if start := offsets(t, b.Addr(), -2)[0]; start != 9 {
		t.Errorf("start %d after all was deleted, want the last record kept", start)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = mustStart(t, testConfig(dir), options{})
	if off := produce(t, client(t, b.Addr()), 0, "next"); off != 10 {
		t.Errorf("the next record is at %d, want 10", off)
	}
}
