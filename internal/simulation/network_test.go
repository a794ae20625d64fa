package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/objstore"
)

// call is one request of a writer that waits at the gate. A writer has at most one in each lane.
type call struct {
	w       *writer
	lane    string // poll, load, seen, letters, commit, put, produce: what is drawn for it, and its place in the order
	note    string
	run     func(context.Context) error // the effect, at the server
	refuse  error                       // the answer of a server that does not want it; wraps "nothing happened"
	unknown error                       // the answer when none comes
	poll    *reader
	fetched **engine.Fetch

	sent     time.Time
	answered chan error
	gone     atomic.Bool // nobody waits for the answer any more
}

// gate holds the calls that wait for the driver.
type gate struct {
	mu      sync.Mutex
	waiting []*call
}

func (g *gate) add(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, c)
}

func (g *gate) take(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(o *call) bool { return o == c })
}

// forget drops the reads that nobody waits for any more: whether they were sent before their writer heard that it is to end, or
// never, is nobody's decision.
func (g *gate) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = slices.DeleteFunc(g.waiting, func(c *call) bool { return c.reads() && (c.gone.Load() || c.w.dead.Load()) })
}

// sorted returns the calls in an order that the order of their arrival has no part in.
func (g *gate) sorted() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := slices.Clone(g.waiting)
	slices.SortFunc(out, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.w.id, b.w.id), cmp.Compare(a.lane, b.lane))
	})
	return out
}

// errDead is what a writer hears that has crashed. It ends everything that it does.
var errDead = fmt.Errorf("%w: the process is gone", engine.ErrFenced)

// call sends a request and waits for its answer.
func (w *writer) call(ctx context.Context, c *call) error {
	if w.dead.Load() {
		return errDead
	}
	c.w, c.sent, c.answered = w, time.Now(), make(chan error, 1)
	w.net.add(c)
	select {
	case err := <-c.answered:
		return err
	case <-ctx.Done():
		c.gone.Store(true)
		if c.unknown != nil {
			return errors.Join(c.unknown, ctx.Err())
		}
		return ctx.Err()
	}
}

// reads tells that the request has no effect at the server.
func (c *call) reads() bool {
	return c.poll != nil || slices.Contains([]string{"load", "seen", "letters"}, c.lane)
}

func (c *call) answer(err error) { c.answered <- err }

// line is the catalog as one writer reaches it.
type line struct {
	w *writer
	m *model
}

var (
	errRefused = fmt.Errorf("%w: 503", catalog.ErrUnavailable)
	errLost    = fmt.Errorf("%w: the connection was cut", catalog.ErrUnknownOutcome)
)

func (l *line) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	return l.load(ctx, "load", id, how)
}

// seenLine is the catalog as a writer's deduplication reaches it, beside its commits.
type seenLine struct{ line }

func (l *seenLine) LoadTable(ctx context.Context, id catalog.Identifier, how catalog.Load) (*catalog.Table, error) {
	return l.load(ctx, "seen", id, how)
}

func (l *line) load(ctx context.Context, lane string, id catalog.Identifier, how catalog.Load) (t *catalog.Table, err error) {
	c := &call{lane: lane, refuse: errRefused, unknown: errRefused}
	c.run = func(ctx context.Context) error {
		t, err = l.m.LoadTable(ctx, id, how)
		return err
	}
	if err := l.w.call(ctx, c); err != nil {
		return nil, err
	}
	return t, nil
}

func (l *line) CommitTable(ctx context.Context, c catalog.TableCommit) (t *catalog.Table, err error) {
	err = l.commit(ctx, []catalog.TableCommit{c}, func(ctx context.Context, cs []catalog.TableCommit) error {
		var err error
		t, err = l.m.CommitTable(ctx, cs[0])
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (l *line) CommitTransaction(ctx context.Context, cs []catalog.TableCommit) error {
	if l.m.noTx {
		return fmt.Errorf("transaction: %w", catalog.ErrUnsupported)
	}
	return l.commit(ctx, cs, l.m.CommitTransaction)
}

func (l *line) commit(ctx context.Context, cs []catalog.TableCommit, do func(context.Context, []catalog.TableCommit) error) error {
	if l.w.breaks.strip != "" {
		cs = stripped(cs, l.w.breaks.strip)
	}
	c := &call{lane: "commit", note: cs[len(cs)-1].Identifier.Name(), refuse: errRefused, unknown: errLost}
	c.run = func(ctx context.Context) error { return l.w.commits(ctx, cs, do) }
	err := l.w.call(ctx, c)
	if l.w.breaks.deleteOnUnknown && errors.Is(err, catalog.ErrUnknownOutcome) {
		l.w.world.discard(l.w.putKeys())
	}
	return err
}

// stripped leaves out the requirements on a ref: "main", or whatever begins with "firn.".
func stripped(cs []catalog.TableCommit, ref string) []catalog.TableCommit {
	out := slices.Clone(cs)
	for i, c := range out {
		out[i].Requirements = slices.DeleteFunc(slices.Clone(c.Requirements), func(r table.Requirement) bool {
			v, err := requirementOf(r)
			return err == nil && strings.HasPrefix(v.Ref, ref)
		})
	}
	return out
}

func (l *line) HistoryAt(ctx context.Context, id catalog.Identifier, at time.Time) (catalog.HistoryEntry, error) {
	if l.w.dead.Load() {
		return catalog.HistoryEntry{}, errDead
	}
	return l.m.HistoryAt(ctx, id, at)
}

func (l *line) ListHistory(ctx context.Context, id catalog.Identifier, r catalog.HistoryRange) ([]catalog.HistoryEntry, error) {
	if l.w.dead.Load() {
		return nil, errDead
	}
	return l.m.ListHistory(ctx, id, r)
}

// Nothing else is asked of the catalog by what is simulated.

func (l *line) PruneHistory(context.Context, catalog.Identifier, time.Time, bool) (int64, error) {
	return 0, catalog.ErrUnsupported
}

func (l *line) ListNamespaces(context.Context, catalog.Identifier) ([]catalog.Identifier, error) {
	return nil, catalog.ErrUnsupported
}

func (l *line) CreateNamespace(context.Context, catalog.Identifier, map[string]string) error {
	return catalog.ErrUnsupported
}

func (l *line) ListTables(context.Context, catalog.Identifier) ([]catalog.Identifier, error) {
	return nil, catalog.ErrUnsupported
}

func (l *line) CreateTable(context.Context, catalog.Identifier, catalog.CreateTable) (*catalog.Table, error) {
	return nil, catalog.ErrUnsupported
}

func (l *line) DropTable(context.Context, catalog.Identifier, bool) error {
	return catalog.ErrUnsupported
}

// disk is object storage as one writer reaches it. Data files wait at the gate; what is read, and manifests, which only
// their writer knows until a commit names them, do not: a request more there is no other order of effects.
type disk struct {
	objstore.Store
	w *writer
}

var (
	errNoDisk   = fmt.Errorf("put: %w: 503", objstore.ErrUnavailable)
	errDiskLost = fmt.Errorf("put: %w: the connection was cut", objstore.ErrUnknownResult)
)

func (d *disk) Put(ctx context.Context, k string, body io.ReadSeeker, mode objstore.PutMode) (info objstore.Info, err error) {
	if !strings.HasSuffix(k, ".parquet") {
		if err := d.reach(); err != nil {
			return info, err
		}
		return d.Store.Put(ctx, k, body, mode)
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return info, err
	}
	c := &call{lane: "put", refuse: errNoDisk, unknown: errDiskLost}
	c.run = func(ctx context.Context) error {
		var err error
		info, err = d.Store.Put(ctx, k, strings.NewReader(string(raw)), mode)
		return err
	}
	d.w.puts(k)
	if err := d.w.call(ctx, c); err != nil {
		return objstore.Info{}, err
	}
	return info, nil
}

// reach fails for a writer that is gone, and while storage is down.
func (d *disk) reach() error {
	switch {
	case d.w.dead.Load():
		return errDead
	case d.w.world.diskDown.Load():
		return errNoDisk
	}
	return nil
}

func (d *disk) Get(ctx context.Context, k string, limit int64) ([]byte, error) {
	if err := d.reach(); err != nil {
		return nil, err
	}
	return d.Store.Get(ctx, k, limit)
}

func (d *disk) Open(ctx context.Context, k string) (objstore.Object, error) {
	if err := d.reach(); err != nil {
		return nil, err
	}
	return d.Store.Open(ctx, k)
}

func (d *disk) Delete(ctx context.Context, ks ...string) error {
	if err := d.reach(); err != nil {
		return err
	}
	return d.Store.Delete(ctx, ks...)
}
