package generate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/decode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 6, 4, 12, 0, 0, 123e6, time.UTC)

func make1(cfg Config, n int) (recs []Record, late []bool, broken []Broken) {
	g := NewGenerator(cfg)
	for i := range n {
		l, b := g.Next(noon.Add(time.Duration(i) * time.Millisecond))
		late, broken = append(late, l), append(broken, b)
	}
	return g.Batch(), late, broken
}

func decoder(t *testing.T) *decode.JSON {
	t.Helper()
	c, err := decode.LoadContract(Contract, "user_event.json")
	if err != nil {
		t.Fatal(err)
	}
	if c.EventTime != "metadata.event_timestamp" {
		t.Errorf("event time %q", c.EventTime)
	}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	t.Cleanup(func() { mem.AssertSize(t, 0) })
	d, err := decode.NewJSON(c, c.IcebergSchema(), decode.Options{Mem: mem, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fetchOf(recs []Record) *engine.Fetch {
	f := &engine.Fetch{End: int64(len(recs)), LeaderEpoch: -1}
	for i, r := range recs {
		f.Records = append(f.Records, engine.Record{Offset: int64(i), TimestampMs: r.TimestampMs, Key: r.Key, Value: r.Value})
	}
	return f
}

// Every good event is a row and every broken one a dead letter, for the reason that it was broken by.
func TestEventsFitTheContract(t *testing.T) {
	reasons := map[Broken]string{
		NotJSON: decode.ReasonInvalidJSON, Truncated: decode.ReasonInvalidJSON, Empty: decode.ReasonEmptyValue, NotUTF8: decode.ReasonInvalidUTF8,
		MissingID: decode.ReasonMissingField, WrongType: decode.ReasonWrongType, BadTime: decode.ReasonInvalidFormat,
		UnknownType: decode.ReasonNotInEnum, Negative: decode.ReasonOutOfRange,
	}
	recs, _, broken := make1(Config{Seed: 7, BrokenShare: 0.3, LateShare: 0.1}, 20_000)
	out, err := decoder(t).Decode(fetchOf(recs))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Rows.Release()
	seen := map[Broken]int{}
	dead := map[int64]engine.DeadLetter{}
	for _, d := range out.Dead {
		dead[d.Offset] = d
	}
	for i, b := range broken {
		d, isDead := dead[int64(i)]
		if isDead != (b != 0) {
			t.Fatalf("event %d, %s: dead letter %v (%s)\n%s", i, b, isDead, d.Reason, recs[i].Value)
		}
		if isDead && d.Reason != reasons[b] {
			t.Errorf("%s: reason %s, want %s\n%s", b, d.Reason, reasons[b], recs[i].Value)
		}
		seen[b]++
	}
	for b := Broken(0); b <= lastBroken; b++ {
		if seen[b] == 0 {
			t.Errorf("no event is %s", b)
		}
	}
	if n := 20_000 - seen[0]; math.Abs(float64(n)-6000) > 300 {
		t.Errorf("%d broken events, want about 6000", n)
	}
	if n := out.Rows.NumRows(); n != int64(seen[0]) {
		t.Errorf("%d rows, want %d", n, seen[0])
	}
}

func TestMarkFitsTheContract(t *testing.T) {
	key, value := Mark("probe-1", noon)
	out, err := decoder(t).Decode(fetchOf([]Record{{Key: key, Value: value, TimestampMs: noon.UnixMilli()}}))
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Dead) != 0 {
		t.Fatalf("%+v", out.Dead)
	}
	defer out.Rows.Release()
	var e event
	if err := json.Unmarshal(value, &e); err != nil || e.ID != "probe-1" || e.Metadata.Source != MarkSource || !e.Metadata.Time.Equal(noon) {
		t.Errorf("%+v: %v", e, err)
	}
}

type event struct {
	Version int    `json:"schema_version"`
	ID      string `json:"event_id"`
	Type    string `json:"event_type"`
	Key     struct {
		User    string `json:"user_id"`
		Session string `json:"session_id"`
	} `json:"key"`
	Payload struct {
		Page, Referrer, Currency string
		Amount                   float64
	} `json:"payload"`
	Metadata struct {
		Time   time.Time `json:"event_timestamp"`
		Trace  string    `json:"trace_id"`
		Source string    `json:"source"`
	} `json:"metadata"`
}

// The demo looks like traffic: a few users and pages have most of it, sessions hold, few buy.
func TestEventsLookLikeTraffic(t *testing.T) {
	const n = 50_000
	cfg := Config{Seed: 1, Partitions: 4, LateShare: 0.05, TracedShare: 0.02}
	recs, late, _ := make1(cfg, n)
	types, users, pages := map[string]int{}, map[string]int{}, map[string]int{}
	sessions := map[string]string{} // session → user, referrer, source
	partition := map[string]int32{}
	ids := map[string]bool{}
	var nLate, traced, bytes int
	traceparent := regexp.MustCompile(`^00-([0-9a-f]{32})-[0-9a-f]{16}-01$`)
	uuid7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for i, r := range recs {
		var e event
		dec := json.NewDecoder(strings.NewReader(string(r.Value)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("%v\n%s", err, r.Value)
		}
		types[e.Type]++
		users[e.Key.User]++
		pages[e.Payload.Page]++
		bytes += len(r.Value)
		if !uuid7.MatchString(e.ID) || ids[e.ID] {
			t.Fatalf("event id %s", e.ID)
		}
		ids[e.ID] = true
		if string(r.Key) != e.Key.User {
			t.Errorf("key %s, user %s", r.Key, e.Key.User)
		}
		if p, ok := partition[e.Key.User]; ok && p != r.Partition || r.Partition < 0 || r.Partition > 3 {
			t.Errorf("user %s in partitions %d and %d", e.Key.User, p, r.Partition)
		}
		partition[e.Key.User] = r.Partition
		who := e.Key.User + e.Payload.Referrer + e.Metadata.Source
		if w, ok := sessions[e.Key.Session]; ok && w != who {
			t.Errorf("session %s is of %s and %s", e.Key.Session, w, who)
		}
		sessions[e.Key.Session] = who
		if (e.Type == "purchase") != (e.Payload.Amount > 0) || e.Payload.Currency == "" {
			t.Errorf("%s of %v %s", e.Type, e.Payload.Amount, e.Payload.Currency)
		}
		at := noon.Add(time.Duration(i) * time.Millisecond)
		if r.TimestampMs != at.UnixMilli() {
			t.Fatalf("record time %d, want %d", r.TimestampMs, at.UnixMilli())
		}
		back := at.Sub(e.Metadata.Time)
		if late[i] && (back < minLate-time.Second || back > maxLate) || !late[i] && back != 0 {
			t.Errorf("late %v by %v", late[i], back)
		}
		if late[i] {
			nLate++
		}
		for _, h := range r.Headers {
			traced++
			if m := traceparent.FindStringSubmatch(string(h.Value)); h.Key != "traceparent" || m == nil || m[1] != e.Metadata.Trace {
				t.Errorf("header %s %s", h.Key, h.Value)
			}
		}
	}
	near := func(what string, got int, share float64) {
		if want := share * n; math.Abs(float64(got)-want) > 0.15*want+50 {
			t.Errorf("%s: %d events, want about %.0f", what, got, want)
		}
	}
	near("page views", types["page_view"], 0.78)
	near("clicks", types["click"], 0.18)
	near("purchases", types["purchase"], 0.03)
	near("signups", types["signup"], 0.01)
	near("late", nLate, 0.05)
	near("traced", traced, 0.02)
	if users["u0"] < 20*users["u100"] || users["u0"] > n/5 || len(users) < 3000 {
		t.Errorf("no skew: %d users, the first has %d events, the hundredth %d", len(users), users["u0"], users["u100"])
	}
	if pages["/home"] < n/10 || len(pages) != pageCount {
		t.Errorf("no skew: %d pages, /home has %d events", len(pages), pages["/home"])
	}
	if len(sessions) < len(users) || len(sessions) > n/2 {
		t.Errorf("%d sessions of %d users in %d events", len(sessions), len(users), n)
	}
	t.Logf("%d users, %d sessions, %d bytes an event", len(users), len(sessions), bytes/n)
}

func TestSessionsEndInSilence(t *testing.T) {
	g := NewGenerator(Config{Users: 1})
	session := func(at time.Time) string {
		g.Next(at)
		var e event
		recs := g.Batch()
		if err := json.Unmarshal(recs[len(recs)-1].Value, &e); err != nil {
			t.Fatal(err)
		}
		return e.Key.Session
	}
	seen := map[string]bool{}
	for i := range 10 {
		s := session(noon.Add(time.Duration(i) * sessionIdle))
		if seen[s] {
			t.Errorf("session %s goes on after half an hour", s)
		}
		seen[s] = true
	}
}

// Any Config gives the same bytes twice, and batches in other sizes give the same records.
func TestSameSeedSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Seed: rapid.Uint64().Draw(t, "seed"), Users: rapid.IntRange(1, 50).Draw(t, "users"), Partitions: rapid.IntRange(1, 5).Draw(t, "partitions"),
			BrokenShare: rapid.Float64Range(0, 1).Draw(t, "broken"), LateShare: rapid.Float64Range(0, 1).Draw(t, "late"), TracedShare: rapid.Float64Range(0, 1).Draw(t, "traced")}
		want, _, _ := make1(cfg, 100)
		g := NewGenerator(cfg)
		size := rapid.IntRange(1, 40).Draw(t, "batch")
		for i := range want {
			if i%size == 0 {
				g.Reset()
			}
			g.Next(noon.Add(time.Duration(i) * time.Millisecond))
			if got := g.Batch()[i%size]; !same(got, want[i]) {
				t.Fatalf("event %d\n%s\n%s", i, got.Value, want[i].Value)
			}
		}
	})
	cfg := Config{Seed: 1}
	a, _, _ := make1(cfg, 1)
	cfg.Seed = 2
	if b, _, _ := make1(cfg, 1); bytes.Equal(a[0].Value, b[0].Value) {
		t.Error("another seed gives the same event")
	}
}

func same(a, b Record) bool {
	if a.Partition != b.Partition || a.TimestampMs != b.TimestampMs || !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		if a.Headers[i].Key != b.Headers[i].Key || !bytes.Equal(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

func TestPicker(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	weights := []float64{1, 0, 5, 2, 12}
	p := newPicker(weights)
	var got [5]int
	const n = 200_000
	for range n {
		got[p.pick(rng)]++
	}
	for i, w := range weights {
		if want := w / 20 * n; math.Abs(float64(got[i])-want) > 0.03*n/20+want/50 || w == 0 && got[i] > 0 {
			t.Errorf("%d: %d of %d, want about %.0f", i, got[i], n, want)
		}
	}
}

func TestRunKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		var last int64
		st, err := Run(t.Context(), Config{Rate: 2000, Duration: 10 * time.Second, LateShare: 0.1, BrokenShare: 0.01}, func(_ context.Context, recs []Record) error {
			at = append(at, time.Since(begin))
			for _, r := range recs {
				if r.TimestampMs < last || r.TimestampMs > time.Now().UnixMilli() || time.Now().UnixMilli()-r.TimestampMs > 21 {
					t.Errorf("at %v an event of %d, before it one of %d", time.Since(begin), r.TimestampMs, last)
				}
				last = r.TimestampMs
			}
			return nil
		})
		if err != nil || st.Sent != 20_000 || st.Errors != 0 || st.Behind != 0 || st.Elapsed != 10*time.Second {
			t.Errorf("%+v: %v", st, err)
		}
		if len(at) != 500 {
			t.Errorf("%d batches in 10 s", len(at))
		}
		if st.Late < 1800 || st.Late > 2200 || st.Broken < 150 || st.Broken > 250 || st.Bytes < 20_000*300 {
			t.Errorf("%+v", st)
		}
		if s := st.String(); !strings.Contains(s, "20000 events in 10s (2000/s, ") {
			t.Error(s)
		}
	})
}

// A stall shorter than the backlog is made up for, a longer one is cut, and what failed counts once.
func TestRunAfterAStall(t *testing.T) {
	for _, c := range []struct {
		stall            time.Duration
		behindAtLeast    int64
		behindNoMoreThan int64
	}{{3 * time.Second, 0, 0}, {12 * time.Second, 6800, 9100}} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			cfg := Config{Rate: 1000, Duration: 20 * time.Second, Progress: &Progress{}}
			var taken int64
			largest := 0
			st, err := Run(t.Context(), cfg, func(_ context.Context, recs []Record) error {
				if at := time.Since(begin); at > 2*time.Second && at < 2*time.Second+c.stall {
					return errors.New("not now")
				}
				taken += int64(len(recs))
				largest = max(largest, len(recs))
				return nil
			})
			if err != nil || st.Errors == 0 || st.Sent != taken || st.Sent+st.Behind != 20_000 {
				t.Errorf("%+v, taken %d: %v", st, taken, err)
			}
			if st.Behind < c.behindAtLeast || st.Behind > c.behindNoMoreThan {
				t.Errorf("stall of %v: %d skipped", c.stall, st.Behind)
			}
			if largest > maxBatch {
				t.Errorf("a batch of %d", largest)
			}
			if p := cfg.Progress.Stats(); p != st {
				t.Errorf("progress %+v, result %+v", p, st)
			}
		})
	}
}

func TestRunEnds(t *testing.T) {
	take := func(context.Context, []Record) error { return nil }
	t.Run("at the count", func(t *testing.T) {
		for _, rate := range []float64{0, 500} {
			synctest.Test(t, func(t *testing.T) {
				st, err := Run(t.Context(), Config{Rate: rate, Count: 2501}, take)
				if err != nil || st.Sent != 2501 {
					t.Errorf("%+v: %v", st, err)
				}
			})
		}
	})
	t.Run("with the context, while failing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			st, err := Run(ctx, Config{Rate: 10}, func(context.Context, []Record) error { return errors.New("away") })
			if !errors.Is(err, context.DeadlineExceeded) || st.Sent != 0 || st.Errors < 30 || st.Errors > 40 {
				t.Errorf("%+v: %v", st, err)
			}
		})
	})
	t.Run("with the context, while waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			st, err := Run(ctx, Config{Rate: 1}, take)
			if !errors.Is(err, context.Canceled) || st.Sent < 2 || st.Sent > 3 {
				t.Errorf("%+v: %v", st, err)
			}
		})
	})
	t.Run("at what cannot pass", func(t *testing.T) {
		st, err := Run(t.Context(), Config{Count: 10}, func(context.Context, []Record) error { return ErrPermanent })
		if !errors.Is(err, ErrPermanent) || st.Errors != 1 {
			t.Errorf("%+v: %v", st, err)
		}
	})
	t.Run("at the duration, unpaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			st, err := Run(t.Context(), Config{Duration: time.Second}, func(context.Context, []Record) error { time.Sleep(100 * time.Millisecond); return nil })
			if err != nil || st.Sent != 10*maxBatch {
				t.Errorf("%+v: %v", st, err)
			}
		})
	})
}

func TestConfig(t *testing.T) {
	good := Config{}.WithDefaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	if good.BrokenShare != 0 || good.LateShare != 0 || good.Rate != 0 {
		t.Error("a zero that means something has a default")
	}
	if p := good.Progress; good.WithDefaults().Progress != p || !strings.Contains(p.String(), "0 events") {
		t.Error("the progress is replaced")
	}
	for want, change := range map[string]func(*Config){
		"rate: ":         func(c *Config) { c.Rate = math.NaN() },
		"count: ":        func(c *Config) { c.Count = -1 },
		"duration: ":     func(c *Config) { c.Duration = -1 },
		"partitions: ":   func(c *Config) { c.Partitions = -1 },
		"users: ":        func(c *Config) { c.Users = maxUsers + 1 },
		"traced_share: ": func(c *Config) { c.TracedShare = 2 },
		"broken_share: ": func(c *Config) { c.BrokenShare = -0.1 },
		"late_share: ":   func(c *Config) { c.LateShare = math.NaN() },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if _, err := Run(t.Context(), c, nil); err == nil {
			t.Errorf("%s ran", want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	g := NewGenerator(Config{Seed: 1, BrokenShare: DefaultBrokenShare, LateShare: DefaultLateShare})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%40 == 0 {
			g.Reset()
		}
		g.Next(noon.Add(time.Duration(i) * 500 * time.Microsecond))
	}
}
