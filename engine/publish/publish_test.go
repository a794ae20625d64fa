package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/datafile"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/snapshot"
)

// topic is the other side of a Producer.
type topic struct {
	mu    sync.Mutex
	keys  map[string]int
	all   []Message
	calls int
	fail  func(call int, msgs []Message) error // before anything is stored
	lose  func(call int) error                 // after all is
}

func (t *topic) Produce(_ context.Context, msgs []Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls++
	if t.fail != nil {
		if err := t.fail(t.calls, msgs); err != nil {
			return err
		}
	}
	for _, m := range msgs {
		t.keys[string(m.Key)]++
		t.all = append(t.all, m)
	}
	if t.lose != nil {
		return t.lose(t.calls)
	}
	return nil
}

var errAway = errors.New("the brokers are away")

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// world is a pipeline's tables, its committer and its publisher, each of which may be replaced as by a crash.
type world struct {
	tb
	ctx        context.Context
	cat        catalog.Catalog
	wh         *objstore.Warehouse
	rows, dead catalog.Identifier
	topic      *topic
	now        time.Time
	pub        *Publisher
	com        *commit.Committer
	at         int64 // of partition 0, and of 1
	value      func(o int64) []byte
}

var pipeline = "orders"

func newWorld(t tb, cat catalog.Catalog, wh *objstore.Warehouse, ns string) *world {
	w := &world{tb: t, ctx: context.Background(), cat: cat, wh: wh, rows: catalog.Identifier{ns, "t"}, dead: catalog.Identifier{ns, "t_dead"},
		topic: &topic{keys: map[string]int{}}, now: time.UnixMilli(1_780_000_000_000), value: func(o int64) []byte { return fmt.Appendf(nil, "v%d", o) }}
	p := iceberg.PrimitiveTypes
	_, err := commit.EnsureTable(w.ctx, cat, w.rows, iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: ledger.ColPartition, Type: p.Int32}, iceberg.NestedField{ID: 2, Name: ledger.ColOffset, Type: p.Int64},
		iceberg.NestedField{ID: 3, Name: ledger.ColTimestamp, Type: p.TimestampTz}, iceberg.NestedField{ID: 4, Name: ledger.ColIngestedAt, Type: p.TimestampTz}), nil, nil)
	w.must(err)
	_, err = commit.EnsureOwnTable(w.ctx, cat, w.dead, decode.DeadLetterSchema(true), nil)
	w.must(err)
	w.start()
	return w
}

func openLake(t *testing.T) (catalog.Catalog, *objstore.Warehouse) {
	t.Helper()
	wh := &objstore.Warehouse{Store: objstore.NewMemory(), URI: "mem://lake"}
	s, err := server.New(t.Context(), server.Config{Store: "sqlite::memory:"}, wh, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.Service(), wh
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// start begins with nothing in memory.
func (w *world) start() {
	w.Helper()
	w.pub = New(Options{Pipeline: pipeline, Topic: "orders.dead", Table: w.dead, Catalog: w.cat, Warehouse: w.wh, Producer: w.topic, Now: func() time.Time { return w.now }})
	com, err := commit.New(commit.Config{Pipeline: pipeline, Table: w.rows, DeadTable: w.dead, Unpublished: w.pub.Unpublished, Now: func() time.Time { return w.now },
		Topic: func(context.Context) (engine.Topic, error) {
			return engine.Topic{Name: "orders", ClusterID: "c", TopicID: "t"}, nil
		}},
		w.cat, w.wh, func(sc *iceberg.Schema, dead []engine.Dead) (arrow.RecordBatch, error) {
			return decode.DeadRows(memory.DefaultAllocator, sc, func(int32) string { return "orders" }, dead, w.now)
		}, nil, nil)
	w.must(err)
	w.com = com
	w.resume()
}

// resume is what the engine does when a generation begins.
func (w *world) resume() engine.State {
	w.Helper()
	st, err := w.com.Recover(w.ctx)
	w.must(err)
	w.pub.Resume(st.Unpublished, st.Offsets)
	w.at = st.Offsets[0]
	return st
}

// commit commits what kinds says of the next offsets of both partitions: r a row, d a dead letter, - nothing.
func (w *world) commit(kinds string) engine.Committed {
	w.Helper()
	n := int64(len(kinds))
	b := &engine.Batch{ID: uuid.Must(uuid.NewV7()).String(), LastRow: offset.Vector{}, Opened: w.now}
	rows := array.NewRecordBuilder(memory.DefaultAllocator, w.schema())
	defer rows.Release()
	for p := range int32(2) {
		if n > 0 {
			b.Ranges = append(b.Ranges, offset.Range{Partition: p, Start: w.at, End: w.at + n, LeaderEpoch: 1})
		}
		for i, k := range kinds {
			o := w.at + int64(i)
			switch k {
			case 'r':
				rows.Field(0).(*array.Int32Builder).Append(p)
				rows.Field(1).(*array.Int64Builder).Append(o)
				rows.Field(2).AppendNull()
				rows.Field(3).AppendNull()
				b.LastRow[p] = o
				b.RowCount++
			case 'd':
				b.Dead = append(b.Dead, engine.Dead{Partition: p, DeadLetter: engine.DeadLetter{Reason: "wrong_type", Place: "/n", Message: "no",
					Offset: o, TimestampMs: 1_779_999_999_000 + o, Key: []byte("k"), Value: w.value(o)}})
			}
		}
	}
	if b.RowCount > 0 {
		r := rows.NewRecordBatch()
		defer r.Release()
		b.Rows = []arrow.RecordBatch{r}
	}
	got, err := w.com.Commit(w.ctx, b)
	w.must(err)
	if got.SnapshotID != 0 {
		w.pub.Committed(got.DeadLetters, got.Offsets)
	}
	w.at += n
	return got
}

func (w *world) schema() *arrow.Schema {
	w.Helper()
	t, err := w.cat.LoadTable(w.ctx, w.rows, catalog.LoadRefs)
	w.must(err)
	as, err := datafile.ArrowSchema(t.Metadata.CurrentSchema())
	w.must(err)
	return as
}

// step makes one attempt at what is to be published.
func (w *world) step() error {
	j := w.pub.begin()
	if j == nil {
		return nil
	}
	err := w.pub.publish(w.ctx, j)
	w.pub.attempted(j, err)
	return err
}

func (w *world) head(id catalog.Identifier) *table.Snapshot {
	w.Helper()
	t, err := w.cat.LoadTable(w.ctx, id, catalog.LoadRefs)
	w.must(err)
	return t.Metadata.CurrentSnapshot()
}

func (w *world) noted() offset.Vector {
	w.Helper()
	r, err := ledger.ParseSummary(w.head(w.rows).Summary.Properties)
	w.must(err)
	return r.Unpublished
}

func keysOf(parts []int32, offsets ...int64) []string {
	var out []string
	for _, p := range parts {
		for _, o := range offsets {
			out = append(out, fmt.Sprintf("orders/%d/%d", p, o))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) wantKeys(times int, want ...string) {
	w.Helper()
	got := slices.Sorted(maps.Keys(w.topic.keys))
	if !slices.Equal(got, want) {
		w.Fatalf("the topic has %v, want %v", got, want)
	}
	for k, n := range w.topic.keys {
		if n != times {
			w.Fatalf("%s came %d times, want %d", k, n, times)
		}
	}
}

var both = []int32{0, 1}

// TestLettersArePublishedAfterTheirCommit, each once as long as nothing fails, and the table notes it.
func TestLettersArePublishedAfterTheirCommit(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	w.commit("rr")
	w.must(w.step())
	w.wantKeys(0)
	w.commit("rdrd")
	if n := w.noted(); !n.Equal(offset.Vector{0: 3, 1: 3}) {
		t.Errorf("noted %v", n)
	}
	w.must(w.step())
	w.commit("d")
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 3, 5, 6)...)
	if s := w.pub.Status(); s.Published != 6 || s.Problem != "" || !s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	// Nothing comes any more: an empty batch notes it, once, when the last snapshot is old enough.
	if got := w.commit(""); got.SnapshotID != 0 {
		t.Errorf("a snapshot at once: %+v", got)
	}
	w.now = w.now.Add(time.Minute)
	if got := w.commit(""); got.SnapshotID == 0 || got.Waiting || len(w.noted()) != 0 {
		t.Errorf("%+v, noted %v", got, w.noted())
	}
	w.now = w.now.Add(time.Minute)
	if got := w.commit(""); got.SnapshotID != 0 {
		t.Errorf("another snapshot: %+v", got)
	}
	w.start()
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 3, 5, 6)...)
}

// TestCrashBeforeThePublishing: the next start publishes what the last snapshot says may not be there, from the table, whoever
// has rewritten it meanwhile.
func TestCrashBeforeThePublishing(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	w.commit("ddd")
	w.must(w.step())
	w.commit("rdr")
	w.rewrite()
	w.start()
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 0, 1, 2, 4)...)
}

// rewrite makes all manifests of the dead letters new, as another engine would.
func (w *world) rewrite() {
	w.Helper()
	t, err := w.cat.LoadTable(w.ctx, w.dead, catalog.LoadRefs)
	w.must(err)
	r := snapshot.NewReader(w.wh, 1<<20)
	h, err := snapshot.LoadHead(w.ctx, r, t.Metadata, table.MainBranch)
	w.must(err)
	files, err := r.FilesOf(w.ctx, h.Manifests, nil)
	w.must(err)
	c := snapshot.Change{SnapshotID: snapshot.NewID(), Operation: table.OpReplace, Drop: map[string]bool{}}
	var entries []snapshot.Entry
	for _, f := range files {
		entries = append(entries, snapshot.Kept(f))
		c.Drop[f.Manifest] = true
	}
	m, err := snapshot.WriteManifest(w.ctx, w.wh, h.Meta, h.Meta.PartitionSpec(), c.SnapshotID, entries)
	w.must(err)
	c.New = []iceberg.ManifestFile{m}
	s, err := snapshot.Build(w.ctx, w.wh, h, c, w.now)
	w.must(err)
	_, err = w.cat.CommitTable(w.ctx, catalog.TableCommit{Identifier: w.dead, Updates: snapshot.Updates(s, table.MainBranch),
		Requirements: table.Requirements{table.AssertRefSnapshotID(table.MainBranch, h.ID())}})
	w.must(err)
}

// rollback sets the rows back to a snapshot; the dead letters stay.
func (w *world) rollback(id int64) {
	w.Helper()
	_, err := w.cat.CommitTable(w.ctx, catalog.TableCommit{Identifier: w.rows, Updates: table.Updates{snapshot.SetBranch(table.MainBranch, id)}})
	w.must(err)
}

// TestARewindPublishesAgain: V goes back and comes to the letters a second time, to those that are in the table already and to
// those that are new.
func TestARewindPublishesAgain(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	base := w.commit("rr").SnapshotID
	w.commit("drd")
	w.must(w.step())
	w.rollback(base)
	w.start()
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 2, 4)...) // V has not come to them yet
	w.commit("-d")
	w.must(w.step())
	times := func() string {
		return fmt.Sprint(w.topic.keys["orders/0/2"], w.topic.keys["orders/0/3"], w.topic.keys["orders/0/4"])
	}
	if got := times(); got != "2 1 1" {
		t.Errorf("published %s times", got)
	}
	w.commit("r") // a dead letter already, and so nothing that is worth a snapshot at once
	w.now = w.now.Add(time.Minute)
	w.commit("")
	w.must(w.step())
	if got := times(); got != "2 1 2" {
		t.Errorf("published %s times in the end", got)
	}
}

// TestAFailureRepeatsOnlyItsChunk: what the brokers have acknowledged is not sent again while the process lives, and what is
// committed meanwhile is not forgotten.
func TestAFailureRepeatsOnlyItsChunk(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	w.value = func(o int64) []byte { return []byte(strings.Repeat("x", (1-int(o%2))*aloneBytes)) }
	w.commit("ddddd")
	w.topic.fail = func(call int, _ []Message) error {
		if call == 4 {
			return errAway
		}
		return nil
	}
	j := w.pub.begin()
	if err := w.pub.publish(w.ctx, j); !errors.Is(err, errAway) || !w.pub.attempted(j, err) {
		t.Fatal(err)
	}
	if s := w.pub.Status(); s.Published == 0 || !strings.Contains(s.Problem, errAway.Error()) || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	w.commit("d")
	if v := w.pub.Unpublished(); !v.Equal(offset.Vector{0: 0, 1: 0}) {
		t.Errorf("unpublished %v", v)
	}
	w.must(w.pub.publish(w.ctx, j))
	w.pub.attempted(j, nil)
	w.wantKeys(1, keysOf(both, 0, 1, 2, 3, 4)...)
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 0, 1, 2, 3, 4, 5)...)
}

// TestTooLarge: a record that the topic does not take holds up no other.
func TestTooLarge(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	w.value = func(o int64) []byte { return make([]byte, 10+1000*int(o)) }
	w.topic.fail = func(_ int, msgs []Message) error {
		if slices.ContainsFunc(msgs, func(m Message) bool { return len(m.Value) > 2500 }) {
			return fmt.Errorf("%w: says the broker", ErrTooLarge)
		}
		return nil
	}
	w.commit("ddddd")
	w.must(w.step())
	w.wantKeys(1, keysOf(both, 0, 1, 2, 3, 4)...)
	for _, m := range w.topic.all {
		large := slices.ContainsFunc(m.Headers, func(h engine.Header) bool {
			return h.Key == HeaderValueBytes && (string(h.Value) == "3010" || string(h.Value) == "4010")
		})
		if large != (m.Value == nil) {
			t.Errorf("%s: %d bytes, headers %v", m.Key, len(m.Value), m.Headers)
		}
	}
	if s := w.pub.Status(); s.LeftOut != 4 || s.Published != 10 {
		t.Errorf("status %+v", s)
	}
}

// TestRun retries by itself, stops when it is told, and publishes nothing once the pipeline has been fenced.
func TestRun(t *testing.T) {
	cat, wh := openLake(t)
	w := newWorld(t, cat, wh, "a")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	sent := make(chan int, 100)
	w.topic.lose = func(call int) error {
		sent <- call
		if call == 1 {
			return errAway
		}
		return nil
	}
	go func() { defer close(done); w.pub.Run(ctx) }()
	w.commit("d")
	<-sent
	<-sent
	for len(w.pub.Unpublished()) > 0 {
		time.Sleep(time.Millisecond)
	}
	w.topic.mu.Lock()
	if w.topic.keys["orders/0/0"] != 2 {
		t.Errorf("%v", w.topic.keys)
	}
	w.topic.mu.Unlock()
	cancel()
	<-done
	w.commit("d")
	w.pub.Resume(nil, nil)
	if j := w.pub.begin(); j != nil || len(w.pub.Unpublished()) != 0 {
		t.Errorf("%+v is to be published", j)
	}
}

// TestNothingIsLost: whatever crashes, fails, is rewritten or set back, each dead letter of the table below V is in the topic in
// the end, and nothing is there that the table has not.
func TestNothingIsLost(t *testing.T) {
	cat, wh := openLake(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := newWorld(t, cat, wh, fmt.Sprint("n", n))
		broken := 0 // 1: nothing is stored, 2: and nothing is acknowledged
		w.topic.fail = func(int, []Message) error {
			if broken == 1 {
				return errAway
			}
			return nil
		}
		w.topic.lose = func(int) error {
			if broken == 2 {
				return errAway
			}
			return nil
		}
		var heads []int64
		for range rapid.IntRange(3, 10).Draw(t, "acts") {
			switch rapid.SampledFrom([]string{"commit", "commit", "commit", "publish", "publish", "crash", "idle", "rewind", "rewrite"}).Draw(t, "act") {
			case "commit":
				if got := w.commit(rapid.StringOfN(rapid.SampledFrom([]rune("rrd-")), 1, 4, -1).Draw(t, "kinds")); got.SnapshotID != 0 {
					heads = append(heads, got.SnapshotID)
				}
			case "publish":
				broken = rapid.IntRange(0, 2).Draw(t, "broken")
				_ = w.step() // a fault shows in what is left
			case "crash":
				w.start()
			case "idle":
				w.now = w.now.Add(time.Minute)
				w.commit("")
			case "rewind":
				if len(heads) > 0 {
					i := rapid.IntRange(0, len(heads)-1).Draw(t, "to")
					w.rollback(heads[i])
					heads = heads[:i+1]
					w.start()
				}
			case "rewrite":
				if w.head(w.dead) != nil {
					w.rewrite()
				}
			}
		}
		broken = 0
		if rapid.Bool().Draw(t, "a crash at the end") {
			w.start()
		}
		for len(w.pub.Unpublished()) > 0 {
			w.must(w.step())
		}
		w.compare()
	})
}

// compare holds the topic against the table.
func (w *world) compare() {
	w.Helper()
	in := map[string]bool{}
	st := w.resume()
	if head := w.head(w.dead); head != nil {
		t, err := w.cat.LoadTable(w.ctx, w.dead, catalog.LoadRefs)
		w.must(err)
		files, err := snapshot.LiveFiles(w.ctx, w.wh, head, nil)
		w.must(err)
		j := job{sent: map[part]int{}}
		j.From, j.To = offset.Vector{0: 0, 1: 0}, offset.Vector{0: 1 << 40, 1: 1 << 40}
		all := &topic{keys: map[string]int{}}
		reader := New(Options{Pipeline: pipeline, Table: w.dead, Catalog: w.cat, Warehouse: w.wh, Producer: all})
		w.must(reader.publish(w.ctx, &j))
		if int64(len(all.keys)) != countOf(files) || t == nil {
			w.Fatalf("%d letters were read of %d", len(all.keys), countOf(files))
		}
		for k := range all.keys {
			in[k] = true
			var p int32
			var o int64
			if _, err := fmt.Sscanf(k, "orders/%d/%d", &p, &o); err != nil {
				w.Fatal(err)
			}
			if o < st.Offsets[p] && w.topic.keys[k] == 0 {
				w.Fatalf("%s is below V and not in the topic: %v", k, w.topic.keys)
			}
		}
	}
	for k := range w.topic.keys {
		if !in[k] {
			w.Fatalf("%s is in the topic and not in the table", k)
		}
	}
}

func countOf(files []snapshot.File) int64 {
	var n int64
	for _, f := range files {
		n += f.Count()
	}
	return n
}
