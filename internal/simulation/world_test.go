package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/publish"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/snapshot"
)

// The pace of a schedule, in virtual time.
const (
	// tick is how far time moves at once: farther than any random wait in engine/commit, so that these have no part in
	// what comes first.
	tick = 250 * time.Millisecond
	// patience is how long a request may take before the network gives it up.
	patience = 4 * time.Second
	// storeAgain and strayGrace stand to each other as in production: files of a batch that waits are replaced long before
	// a sweep takes them for strays, also when each of its requests took all the time it may.
	storeAgain = 2 * time.Second
	strayGrace = 20 * time.Second
)

// maxRows is more than a batch gets: one that is cut because it is full makes the commit loop choose between two reasons
// to go on, and Go's select draws lots.
const maxRows = 10_000

const pipeline = "events"

// linedEvery is of how many schedules one has records with several events each.
const linedEvery = 3

// dedupedEvery is of how many of the others one deduplicates, and dedupWindow how: a slice of its time holds five offsets.
const (
	dedupedEvery = 5
	dedupWindow  = 4 * time.Second
	slotTime     = 200 * time.Millisecond
)

// breaks are rules that are broken on purpose. The zero value breaks none.
type breaks struct {
	strip           string                  // requirements on refs that begin so are left out
	deleteOnUnknown bool                    // a batch's files are deleted when the answer is lost
	showFenced      bool                    // a fenced writer goes on to show its hot rows
	forgetLetters   bool                    // who takes over does not publish what was left to be
	noSequences     bool                    // besides: the catalog does not check sequence numbers
	committer       func(*commit.Committer) // breaks a rule inside
}

// contracts are what writers may decode by: the second takes fewer values.
var contracts = [2]*decode.Contract{contract(9), contract(5)}

func contract(maximum int) *decode.Contract {
	c, err := decode.LoadContract(fmt.Appendf(nil, `{"type":"object","required":["user","n"],"properties":{"user":{"type":"string"},"n":{"type":"integer","maximum":%d},"id":{"type":["string","null"]}}}`, maximum), "event.json")
	if err != nil {
		panic(err)
	}
	return c
}

// Shared by all schedules: they only count.
var (
	engineMetrics = engine.NewMetrics(nil)
	commitMetrics = commit.NewMetrics(nil)
	letterMetrics = publish.NewMetrics(nil)
)

// world is one schedule.
type world struct {
	seed   uint64
	rnd    *rand.Rand // the driver's alone
	breaks breaks
	store  *objstore.Memory
	wh     *objstore.Warehouse
	m      *model
	log    *topicLog
	net    gate
	rows   catalog.Identifier
	dead   catalog.Identifier
	schema *iceberg.Schema // of the rows

	contracts [2]*decode.Contract

	letters  letterTopic // nil: dead letters stay in their table
	oneWay   bool        // all writers decode by one contract
	calm     bool        // nothing goes wrong any more
	diskDown atomic.Bool
	slots    [2]*writer
	all      []*writer
	late     []request
	turns    int
	handed   map[string]string                 // metadata locations that were given to somebody, and what was there
	number   map[int64]int                     // snapshots in the order in which they came
	seen     map[string][]place                // what data files hold
	lists    map[string][]iceberg.ManifestFile // what manifest lists hold
	reader   *snapshot.Reader
	stats    stats

	mu    sync.Mutex // of what the engine's goroutines report
	wrong error      // seen outside of the oracle

	trace []string
}

// request is one that was sent and may still arrive.
type request struct {
	sent time.Time
	run  func(context.Context) error
}

// stats count what a schedule went through.
type stats struct {
	commits, stops, crashes, fences, rewinds, hot, late int
	duplicates                                          int // that stood in no table at a last look
	letters                                             int // that stood in the topic of dead letters then
	points                                              map[crash.Point]int
}

func newWorld(seed uint64, b breaks) (*world, error) {
	store := objstore.NewMemory()
	w := &world{seed: seed, rnd: rand.New(rand.NewPCG(seed, 0x66697a6e)), breaks: b, store: store,
		wh: &objstore.Warehouse{Store: store, URI: "mem://lake"}, log: newTopicLog(),
		rows: catalog.Identifier{"ns", "events"}, dead: catalog.Identifier{"ns", "events_dead"},
		handed: map[string]string{}, number: map[int64]int{},
		seen: map[string][]place{}, lists: map[string][]iceberg.ManifestFile{}}
	w.reader = snapshot.NewReader(w.wh, 16<<20)
	w.stats.points = map[crash.Point]int{}
	w.m = newModel(w.wh)
	w.m.noTx, w.m.noHistory, w.m.noSequences = w.rnd.IntN(3) == 0, w.rnd.IntN(3) == 0, w.rnd.IntN(6) == 0 || b.noSequences
	// Two commits for one batch cannot keep writers with different contracts apart, see docs/exactly-once.md.
	w.oneWay = w.m.noTx || w.rnd.IntN(2) == 0
	w.log.lined = seed%linedEvery == 0 // drawn apart: what a seed decides else stays what it was
	if w.log.deduped = !w.log.lined && seed%dedupedEvery == 1; w.log.deduped {
		w.oneWay = true // which of two events is the first is enough to be of two minds about
	}
	if seed%publishedEvery == 2 {
		w.letters = letterTopic{}
	}
	for i, c := range contracts {
		if w.contracts[i] = c; w.log.lined {
			w.contracts[i] = c.WithLines()
		}
	}
	ctx := context.Background()
	t, err := commit.EnsureTable(ctx, w.m, w.rows, w.contracts[0].IcebergSchema(), nil, nil)
	if err != nil {
		return nil, err
	}
	w.schema = t.Metadata.CurrentSchema()
	if _, err := commit.EnsureTable(ctx, w.m, w.dead, decode.DeadLetterSchema(w.log.lined), nil, nil); err != nil {
		return nil, err
	}
	w.note("catalog: transactions %t, history %t, sequence numbers %t; one contract %t, lines %t, deduplication %t, topic of dead letters %t", !w.m.noTx, !w.m.noHistory, !w.m.noSequences, w.oneWay, w.log.lined, w.log.deduped, w.letters != nil)
	return w, nil
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%4d %7.2fs  ", w.turns, time.Since(epoch).Seconds())+fmt.Sprintf(format, args...))
}

// epoch is when time begins in a bubble.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) hash() uint64 {
	h := fnv.New64a()
	for _, l := range w.trace {
		h.Write([]byte(l))
	}
	return h.Sum64()
}

func (w *world) discard(keys []string) { _ = w.store.Delete(context.Background(), keys...) }

// requirementView is what the simulation looks at in a requirement.
type requirementView struct {
	Ref string `json:"ref"`
}

func requirementOf(r table.Requirement) (v requirementView, err error) {
	raw, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	return v, err
}

// commits executes a writer's commit at the catalog. What it adds to main has to go on from main as it is, or another
// engine's work, or a person's, would be gone without anybody being told.
func (w *world) commits(ctx context.Context, cs []catalog.TableCommit, do func(context.Context, []catalog.TableCommit) error) error {
	before := map[string]*table.Snapshot{}
	var metas []table.Metadata
	for _, c := range cs {
		t, err := w.m.LoadTable(ctx, c.Identifier, catalog.LoadAll)
		if err != nil {
			return err
		}
		before[key(c.Identifier)] = t.Metadata.CurrentSnapshot()
		metas = append(metas, t.Metadata)
	}
	if err := do(ctx, cs); err != nil {
		return err
	}
	w.stats.commits++
	for i, c := range cs {
		for _, u := range c.Updates {
			if u.Action() != table.UpdateAddSnapshot {
				continue
			}
			v, err := viewOf(u)
			if err != nil {
				return err
			}
			w.number[v.Snapshot.SnapshotID] = len(w.number) + 1
			if key(c.Identifier) == key(w.rows) {
				if err := w.checkEpoch(metas[i], &v.Snapshot); err != nil {
					w.failed(err)
				}
			}
			var head *int64
			if s := before[key(c.Identifier)]; s != nil {
				head = &s.SnapshotID
			}
			if parent := v.Snapshot.ParentSnapshotID; (head == nil) != (parent == nil) || head != nil && *head != *parent {
				w.failed(fmt.Errorf("table %s: a writer's snapshot #%d goes on from %s, main was at %s: what lay between is lost",
					c.Identifier, w.number[v.Snapshot.SnapshotID], w.name(parent), w.name(head)))
			}
		}
	}
	return nil
}

// checkEpoch: who writes on after main was set back says so by a greater epoch, or the hot rows of before would be taken
// for rows of now.
func (w *world) checkEpoch(before table.Metadata, added *table.Snapshot) error {
	tag, head := before.SnapshotByName(ledger.TagName(pipeline)), before.CurrentSnapshot()
	if tag == nil || head == nil {
		return nil
	}
	var was *ledger.Record // what the head holds
	for s := head; ; {
		if s == nil || s.SnapshotID == tag.SnapshotID {
			return nil // expired, or not set back
		}
		if r, err := ledger.ParseSummary(s.Summary.Properties); err == nil && was == nil {
			was = &r
		}
		if s.ParentSnapshotID == nil {
			break
		}
		s = before.SnapshotByID(*s.ParentSnapshotID)
	}
	then, err := ledger.ParseSummary(tag.Summary.Properties)
	now, nerr := ledger.ParseSummary(added.Summary.Properties)
	if err != nil || nerr != nil || was == nil || was.Offsets.Equal(then.Offsets) || now.Epoch > then.Epoch {
		return nil
	}
	return fmt.Errorf("main was set back from %s to %s, and a writer goes on from there in epoch %d as if nothing had been", then.Offsets, was.Offsets, now.Epoch)
}

func (w *world) name(id *int64) string {
	if id == nil {
		return "nothing"
	}
	return fmt.Sprintf("#%d", w.number[*id])
}

func (w *world) failed(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrong == nil {
		w.wrong = err
	}
}

// settle waits until everybody waits for somebody, and notes what happened meanwhile.
func (w *world) settle() error {
	synctest.Wait()
	for _, a := range w.all {
		if a.crashes() {
			w.stats.crashes++
			w.note("writer %d crashes at %s", a.id, a.crashAt)
			synctest.Wait()
		}
	}
	w.net.forget()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

// pass lets time go by, to the next full tick.
func (w *world) pass(ticks int) {
	at := time.Since(epoch)
	time.Sleep((at/tick+time.Duration(ticks))*tick - at)
}

// ready are the requests that may be served now.
func (w *world) ready() []*call {
	var out []*call
	for _, c := range w.net.sorted() {
		switch {
		case c.w.dead.Load() || c.gone.Load():
		case w.turns < c.w.paused && !w.calm:
			continue
		case c.poll != nil && len(c.poll.next()) == 0:
			continue
		}
		out = append(out, c)
	}
	return out
}

// turn is one decision of the driver.
func (w *world) turn() error {
	if err := w.settle(); err != nil {
		return err
	}
	w.turns++
	switch n := w.rnd.IntN(100); {
	case n < 64:
		if ready := w.ready(); len(ready) > 0 {
			w.serve(ready[w.rnd.IntN(len(ready))])
			return nil
		}
		if w.rnd.IntN(4) == 0 {
			w.note("log: %s", w.log.grow(w.rnd))
		}
		w.pass(1)
	case n < 72:
		w.pass(1)
	case n < 82:
		w.note("log: %s", w.log.grow(w.rnd))
	default:
		return w.act()
	}
	return nil
}

// run is the whole schedule.
func (w *world) run(turns int) (err error) {
	defer func() { err = errors.Join(err, w.end()) }()
	for slot := range 1 + w.rnd.IntN(len(w.slots)) {
		if err := w.start(slot); err != nil {
			return err
		}
	}
	for range turns {
		if err := w.turn(); err != nil {
			return err
		}
	}
	return w.finish()
}

// end makes every writer go away.
func (w *world) end() error {
	for _, a := range w.all {
		if a.cancel != nil {
			a.die()
		}
	}
	for _, a := range w.all {
		for n := 0; a.cancel != nil && !a.over(); n++ {
			synctest.Wait()
			for _, c := range w.net.sorted() {
				w.net.take(c)
				c.answer(errDead)
			}
			w.pass(1)
			if n == 400 {
				return fmt.Errorf("writer %d does not end", a.id)
			}
		}
		for p, n := range a.hits {
			w.stats.points[p] += n
		}
	}
	return nil
}

// story is the end of the trace.
func (w *world) story(lines int) string {
	return strings.Join(w.trace[max(0, len(w.trace)-lines):], "\n")
}

// live are the writers that run.
func (w *world) live() []*writer {
	return slices.DeleteFunc(slices.Clone(w.slots[:]), func(a *writer) bool { return a == nil || a.dead.Load() || a.over() })
}

// numbered gives numbers to the snapshots of other people's.
func (w *world) numbered(id int64) int64 {
	if w.number[id] == 0 {
		w.number[id] = len(w.number) + 1
	}
	return id
}

// head is the head of a table as it is now. What was read once is not read again, for it does not change; that it is
// still there is asked each time.
func (w *world) head(ctx context.Context, id catalog.Identifier) (h snapshot.Head, err error) {
	t, err := w.m.LoadTable(ctx, id, catalog.LoadRefs)
	if err != nil {
		return h, err
	}
	h = snapshot.Head{Meta: t.Metadata, Snapshot: t.Metadata.CurrentSnapshot()}
	if h.Snapshot != nil {
		h.Manifests, err = w.manifests(ctx, h.Snapshot)
	}
	return h, err
}

func (w *world) manifests(ctx context.Context, s *table.Snapshot) ([]iceberg.ManifestFile, error) {
	if ms, ok := w.lists[s.ManifestList]; ok {
		return ms, w.there(ctx, s.ManifestList)
	}
	ms, err := w.reader.Manifests(ctx, s)
	w.lists[s.ManifestList] = ms
	return ms, err
}

// there fails when there is no object at a location.
func (w *world) there(ctx context.Context, location string) error {
	k, err := w.wh.Key(location)
	if err != nil {
		return err
	}
	_, err = w.store.Stat(ctx, k)
	return err
}

// files are the live files that manifests name.
func (w *world) files(ctx context.Context, ms []iceberg.ManifestFile) ([]snapshot.File, error) {
	for _, m := range ms {
		if err := w.there(ctx, m.FilePath()); err != nil {
			return nil, err
		}
	}
	return w.reader.FilesOf(ctx, ms, nil)
}
