package ledger

import (
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firnlake/firn/internal/offset"
)

func sample(partitions int) Record {
	r := Record{Version: 1, Kind: KindIngest, Pipeline: "user-events", BatchID: "0197a0f0-0000-7000-8000-000000000000", Epoch: 2,
		ClusterID: "c", TopicID: "n/a", Offsets: offset.Vector{}, LastRow: offset.Vector{}, Watermark: time.UnixMilli(1764000000123).UTC(), Prev: 42, TraceID: "t"}
	for p := range int32(partitions) {
		end := int64(1_000_000_000) + int64(p)*7919
		r.Offsets[p] = end
		r.Ranges = append(r.Ranges, offset.Range{Partition: p, Start: end - int64(p%37) - 1, End: end, LeaderEpoch: 3})
		r.LastRow[p] = end - 1
	}
	return r
}

func TestSummaryRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 8, 256} {
		want := sample(n)
		m, err := want.Summary()
		if err != nil {
			t.Fatal(err)
		}
		m["added-records"] = "5" // others' keys are not ours to judge
		got, err := ParseSummary(m)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Ranges) == 0 {
			got.Ranges = want.Ranges
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d partitions:\n got %+v\nwant %+v", n, got, want)
		}
		size := 0
		for k, v := range m {
			size += len(k) + len(v)
		}
		if size > 1600 {
			t.Errorf("%d partitions cost %d bytes in the summary", n, size)
		}
	}
}

func TestUnpublishedRoundTrip(t *testing.T) {
	r := sample(8)
	for _, v := range []offset.Vector{{2: 0, 5: r.Offsets[5] - 1}, r.LastRow} {
		r.Unpublished = v
		m, err := r.Summary()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseSummary(m); err != nil || !got.Unpublished.Equal(v) {
			t.Errorf("%v, %v, want %v", got.Unpublished, err, v)
		}
	}
	r.Unpublished = offset.Vector{2: r.Offsets[2]}
	if _, err := r.Summary(); err == nil {
		t.Error("a dead letter at V was noted")
	}
}

func TestParseSummaryRefuses(t *testing.T) {
	if _, err := ParseSummary(map[string]string{"operation": "append"}); !errors.Is(err, ErrNoRecord) {
		t.Fatalf("foreign summary: %v", err)
	}
	good, _ := sample(4).Summary()
	for key, bad := range map[string]string{
		KeyUnpublished: "1zzz", KeyVersion: "99", KeyEpoch: "x", KeyPrev: "", KeyOffsets: "1zzz", KeyRange: "", KeyLastRow: "2AA", KeyWatermark: "yesterday",
	} {
		m := maps.Clone(good)
		m[key] = bad
		if _, err := ParseSummary(m); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%s = %q: %v, want ErrBadRecord", key, bad, err)
		}
	}
}

// TestFormatPage holds the example of docs/format/summary.md against the code.
func TestFormatPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/summary.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, line := range strings.Split(string(page), "\n") {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " = "); ok && strings.HasPrefix(line, "    firn.") {
			want[k] = v
		}
	}
	r, err := ParseSummary(want)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Offsets.Equal(offset.Vector{0: 1250, 1: 1238, 2: 40}) || !r.LastRow.Equal(offset.Vector{0: 1249, 1: 1236}) ||
		!slices.Equal(r.Ranges, []offset.Range{{Partition: 0, Start: 1000, End: 1250, LeaderEpoch: 3}, {Partition: 1, Start: 990, End: 1238, LeaderEpoch: 3}}) {
		t.Errorf("the example reads as %+v", r)
	}
	got, err := r.Summary()
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("the page shows\n%v\nthe code writes\n%v, %v", want, got, err)
	}
	for _, key := range []string{KeyVersion, KeyPipeline, KeyBatchID, KeyEpoch, KeyClusterID, KeyTopicID, KeyRange, KeyOffsets, KeyLastRow,
		KeyWatermark, KeyPrev, KeyTraceID, KeyKind} {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("the page does not explain %s", key)
		}
	}
}
