package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/internal/wire"
)

// A watcher holds no queue of its own: it is told that something happened, and reads what from the history. So a slow
// one costs no memory, and one that comes back goes on where it stood.
const (
	// watchPage is how many commits a watcher reads at once.
	watchPage = 100
	// maxBehind is how many versions a watcher may be behind. One that is further loads the table anew.
	maxBehind = 10_000
	// watchPoll is how often a watcher looks for commits of other processes on the same database.
	watchPoll = time.Second
	// watchWrite bounds the write of one event: a reader that takes nothing is cut off.
	watchWrite = 10 * time.Second
	// maxWatch is how long one stream lasts. Whoever goes on is asked again whether it may.
	maxWatch = 15 * time.Minute
)

// errExpired ends a stream that has lasted its time.
var errExpired = fmt.Errorf("%w: the stream has lasted its time: connect again", catalog.ErrUnavailable)

// errShutdown ends the streams of a process that ends.
var errShutdown = fmt.Errorf("%w: the catalog is shutting down: connect again", catalog.ErrUnavailable)

// hub wakes the watchers of a table.
type hub struct {
	mu     sync.Mutex
	by     map[int64]map[chan struct{}]bool
	n, max int
	closed chan struct{}
	once   sync.Once
}

func newHub(limit int) *hub {
	return &hub{by: map[int64]map[chan struct{}]bool{}, max: limit, closed: make(chan struct{})}
}

// join returns a channel that holds a token after commits to a table.
func (b *hub) join(tableID int64) (woken chan struct{}, leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n >= b.max {
		return nil, nil, fmt.Errorf("%w: %d watchers already: raise max_watchers, or poll", catalog.ErrUnavailable, b.n)
	}
	if b.by[tableID] == nil {
		b.by[tableID] = map[chan struct{}]bool{}
	}
	woken = make(chan struct{}, 1)
	b.by[tableID][woken] = true
	b.n++
	return woken, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.by[tableID], woken)
		if len(b.by[tableID]) == 0 {
			delete(b.by, tableID)
		}
		b.n--
	}, nil
}

func (b *hub) wake(tableID int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.by[tableID] {
		select {
		case c <- struct{}{}:
		default: // it has not looked since the last one, and will see both
		}
	}
}

func (b *hub) close() { b.once.Do(func() { close(b.closed) }) }

// EndWatches ends every watch, so that a server can shut down. Close does it as well.
func (s *Service) EndWatches() { s.watches.close() }

// Watch implements catalog.Watcher.
func (s *Service) Watch(ctx context.Context, id catalog.Identifier, after int64, each func(catalog.Event) error) error {
	return s.follow(ctx, id, after, each, func() error { return nil })
}

// follow is Watch with a heartbeat: idle is called at the beginning, and when nothing has happened for a while.
func (s *Service) follow(ctx context.Context, id catalog.Identifier, after int64, each func(catalog.Event) error, idle func() error) error {
	if err := checkTableName(id); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	h, err := s.store.Head(ctx, id)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	woken, leave, err := s.watches.join(h.ID)
	if err != nil {
		return fmt.Errorf("watch %s: %w", id, err)
	}
	defer leave()
	w := &watcher{Service: s, id: id, tableID: h.ID, at: after, each: each}
	if err := w.begin(ctx, h.Version); err != nil {
		return err
	}
	if err := idle(); err != nil {
		return err
	}
	poll, beat := time.NewTicker(watchPoll), time.NewTicker(s.cfg.WatchHeartbeat.D())
	defer poll.Stop()
	defer beat.Stop()
	for {
		if err := w.drain(ctx); err != nil {
			return err
		}
		select {
		case <-woken:
		case <-poll.C:
		case <-beat.C:
			if err := idle(); err != nil {
				return err
			}
		case <-s.watches.closed:
			return errShutdown
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watcher is one watch of a table.
type watcher struct {
	*Service
	id      catalog.Identifier
	tableID int64
	at      int64 // the version that was told of last
	each    func(catalog.Event) error
}

// begin checks where the watch wants to go on; without a version it begins at the present one, and says so.
func (w *watcher) begin(_ context.Context, version int64) error {
	switch {
	case w.at == 0:
		w.at = version
		return w.each(catalog.Event{HistoryEntry: catalog.HistoryEntry{Version: version}})
	case w.at > version:
		return fmt.Errorf("watch %s: %w: version %d is not of this table, which stands at %d: it was made anew", w.id, catalog.ErrWatchEnded, w.at, version)
	}
	return nil
}

// drain tells of all commits since the last one that it told of.
func (w *watcher) drain(ctx context.Context) error {
	for {
		h, rows, err := w.store.Changes(ctx, w.id, w.at, watchPage)
		switch {
		case errors.Is(err, catalog.ErrNoSuchTable) || err == nil && h.ID != w.tableID:
			return fmt.Errorf("watch: %w: %s: it was dropped, renamed or replaced", catalog.ErrNoSuchTable, w.id)
		case err != nil:
			return fmt.Errorf("watch: %w", err)
		case h.Version-w.at > maxBehind:
			return fmt.Errorf("watch %s: %w: version %d is %d behind the newest, at most %d are told of", w.id, catalog.ErrWatchEnded, w.at, h.Version-w.at, maxBehind)
		}
		for _, r := range rows {
			e := catalog.Event{Head: true, HistoryEntry: catalog.HistoryEntry{Version: r.Version, At: time.UnixMilli(r.AtMS).UTC(), SnapshotID: r.SnapshotID, Offsets: r.Offsets}}
			if err := w.each(e); err != nil {
				return err
			}
			w.at = r.Version
		}
		if len(rows) == watchPage {
			continue
		}
		if h.Version > w.at {
			if err := w.each(catalog.Event{HistoryEntry: catalog.HistoryEntry{Version: h.Version}}); err != nil {
				return err
			}
			w.at = h.Version
		}
		return nil
	}
}

// streamed is the body of a reply that has been written already.
type streamed struct{}

// events writes server-sent events of a table's commits until the stream has lasted its time, or its reader is gone.
func (h *handler) events(r *request) (reply, error) {
	after := int64(0)
	for _, v := range []string{r.URL.Query().Get("after"), r.Header.Get("Last-Event-ID")} { // the header is what a reconnect adds
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 1 {
			return reply{}, fmt.Errorf("%w: %q is no version to go on from", catalog.ErrInvalid, v)
		}
		after = n
	}
	free, ok := h.watches.try(sharer(r.who), 1)
	if !ok {
		return reply{}, tooMuch(shareWait, sharer(r.who), "max_watchers", "too many watches: %s has %d, which is all that one principal may have of %d: end some, or poll",
			r.who.Name, h.watches.each, h.s.cfg.MaxWatchers)
	}
	defer free()
	ctx, cancel := context.WithTimeoutCause(r.conn, maxWatch, errExpired)
	defer cancel()
	s := &stream{out: r.out, rc: http.NewResponseController(r.out)}
	// The deadlines of a request do not hold for a stream; a writer that has none is one of a test.
	_ = s.rc.SetReadDeadline(time.Time{})
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }()
	err := h.s.follow(ctx, r.id(), after, s.event, func() error { return s.write(": watching\n\n") })
	if !s.begun {
		return reply{}, err
	}
	_ = s.end(err) // whoever is still there learns why
	return reply{http.StatusOK, streamed{}}, nil
}

// stream writes server-sent events.
type stream struct {
	out   http.ResponseWriter
	rc    *http.ResponseController
	begun bool
}

func (s *stream) write(text string) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(watchWrite))
	if !s.begun {
		s.begun = true
		s.out.Header().Set("Content-Type", "text/event-stream")
		s.out.Header().Set("Cache-Control", "no-store")
		s.out.Header().Set("X-Accel-Buffering", "no") // a proxy in front must not hold events back
		s.out.WriteHeader(http.StatusOK)
	}
	if _, err := io.WriteString(s.out, text); err != nil {
		return err
	}
	return s.rc.Flush()
}

func (s *stream) event(e catalog.Event) error {
	kind, body := wire.EventChange, any(wire.Change{Version: e.Version})
	if e.Head {
		kind, body = wire.EventCommit, historyBody(e.HistoryEntry)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Version, kind, data))
}

func (s *stream) end(err error) error {
	e := wire.End{Reason: wire.EndAgain}
	switch {
	case errors.Is(err, catalog.ErrNoSuchTable):
		e.Reason = wire.EndGone
	case errors.Is(err, catalog.ErrWatchEnded):
		e.Reason = wire.EndAnew
	}
	e.Message = err.Error()
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", wire.EventEnd, data))
}
