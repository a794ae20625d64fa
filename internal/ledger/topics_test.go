package ledger

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/firnlake/firn/internal/offset"
)

func topicsRecord() Record {
	r := sample(2)
	r.Topics = Topics{{"orders_eu", "Ab-_1"}, {"orders.us", "n/a"}, {"o", "x"}}
	far := Number(2, 5)
	r.Offsets[far], r.LastRow[far] = 12, 3
	r.Ranges = append(r.Ranges, offset.Range{Partition: far, Start: 0, End: 12, LeaderEpoch: -1})
	return r
}

func TestTopicsRoundTrip(t *testing.T) {
	want := topicsRecord()
	m, err := want.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if m[KeyTopics] != "orders_eu:Ab-_1,orders.us:n/a,o:x" || m[KeyVersion] != "2" {
		t.Errorf("written %q in version %s", m[KeyTopics], m[KeyVersion])
	}
	got, err := ParseSummary(m)
	want.Version = 2
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf(" got %+v, %v\nwant %+v", got, err, want)
	}
	if old, _ := sample(2).Summary(); old[KeyVersion] != "1" || old[KeyTopics] != "" {
		t.Errorf("a record of one topic is written as %v", old)
	}
	for key, bad := range map[string]string{KeyVersion: "1", KeyTopics: "a"} {
		m := maps.Clone(m)
		m[key] = bad
		if _, err := ParseSummary(m); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%s = %q: %v", key, bad, err)
		}
	}
	delete(m, KeyTopics)
	if _, err := ParseSummary(m); !errors.Is(err, ErrBadRecord) {
		t.Errorf("version 2 without topics: %v", err)
	}
}

func TestTopicsRefused(t *testing.T) {
	for _, bad := range []string{"", "a", "a:", ":x", "a:x,", "a:x:y", "a:x,b:y,a:z", strings.Repeat("a", maxTopicsText+1), strings.Repeat(",", MaxTopics)} {
		if got, err := decodeTopics(bad); err == nil {
			t.Errorf("%.40q reads as %v", bad, got)
		}
	}
	for _, bad := range []Topics{{{"a,b", "x"}}, {{"a", "x"}, {"a", "y"}}, {{"a", ""}}, make(Topics, MaxTopics+1)} {
		if text, err := bad.encode(); err == nil {
			t.Errorf("%.60v is written as %q", bad, text)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		place     int
		partition int32
	}{{0, 0}, {0, 7}, {1, 0}, {3, TopicStride - 1}, {MaxTopics, TopicStride - 1}} {
		n := Number(c.place, c.partition)
		if place, p := Place(n); n < 0 || place != c.place || p != c.partition {
			t.Errorf("%v has the number %d, which is %d of topic %d", c, n, p, place)
		}
	}
	topics := Topics{{"a", "1"}, {"b", "2"}}
	for number, want := range map[int32]string{3: "a/3", Number(1, 4): "b/4", Number(2, 0): "topic 2 of the table/0"} {
		if of, p := topics.Of(number); fmt.Sprintf("%s/%d", of.Name, p) != want {
			t.Errorf("%d is %s/%d, want %s", number, of.Name, p, want)
		}
	}
	if of, p := (Topics)(nil).Of(Number(1, 4)); of.Name != "" || p != Number(1, 4) {
		t.Errorf("of one topic: %v, %d", of, p)
	}
}

func TestTheLongerListOfTopics(t *testing.T) {
	a, b, renamed := Topics{{"a", "1"}}, Topics{{"a", "0"}, {"b", "2"}}, Topics{{"x", "1"}}
	for _, c := range []struct{ one, other, want Topics }{{a, b, Topics{{"a", "1"}, {"b", "2"}}}, {b, a, b}, {nil, b, b}, {a, nil, a}} {
		if got, err := c.one.With(c.other); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v with %v: %v, %v", c.one, c.other, got, err)
		}
	}
	if _, err := a.With(renamed); !errors.Is(err, ErrTopics) {
		t.Errorf("other names: %v", err)
	}
	if a[0].ID != "1" || len(b) != 2 {
		t.Error("a list was changed")
	}
}

func FuzzTopics(f *testing.F) {
	for _, s := range []string{"a:x", "a:x,b:n/a", "a", ",:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		topics, err := decodeTopics(text)
		if err != nil {
			return
		}
		if again, err := topics.encode(); err != nil || again != text {
			t.Errorf("%q reads as %v, which is written as %q, %v", text, topics, again, err)
		}
	})
}
