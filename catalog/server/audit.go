package server

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/firnlake/firn/catalog"
)

const (
	// maxAuditQueue bounds the entries that wait for a sink. Requests never wait for it: what does not fit is counted.
	maxAuditQueue = 10_000
	// maxAuditWrite bounds the time that a sink takes for one batch.
	maxAuditWrite = 30 * time.Second
	// maxAuditBatch bounds the entries that a sink is given at once.
	maxAuditBatch = 1000
	// maxAuditAbout bounds the names of one entry, and maxAuditName their length in bytes.
	maxAuditAbout = 100
	maxAuditName  = 512
)

// AuditEntry is one line of the audit trail: a request that changes something, or one that was refused.
type AuditEntry struct {
	At        time.Time
	Principal string // empty when nobody was recognised
	Via       string // token, client, oidc, mtls, admin; empty with it
	Issuer    string // of oidc
	From      string // the address at the other end of the connection
	Action    string // the endpoint's name, as in the metrics
	About     []string
	Status    int
	Outcome   string // done, refused, failed
}

// AuditSink keeps entries. It is called by one goroutine at a time; an error is counted, and the batch is not given again.
type AuditSink interface {
	WriteAudit(ctx context.Context, batch []AuditEntry) error
}

// auditTrail writes entries to the log at once, and to a sink from a bounded queue.
type auditTrail struct {
	log   *slog.Logger
	m     *metrics
	sink  AuditSink
	every time.Duration
	queue chan AuditEntry
	full  chan struct{} // a whole batch waits
	stop  chan struct{}
	once  sync.Once
	done  sync.WaitGroup
}

func newAuditTrail(log *slog.Logger, m *metrics, sink AuditSink, every time.Duration) *auditTrail {
	a := &auditTrail{log: log, m: m, sink: sink, every: every, full: make(chan struct{}, 1), stop: make(chan struct{})}
	if sink == nil {
		return a
	}
	a.queue = make(chan AuditEntry, maxAuditQueue)
	a.done.Add(1)
	go a.run()
	return a
}

// close hands over what waits. It is called when no request runs any more.
func (a *auditTrail) close() {
	a.once.Do(func() { close(a.stop) })
	a.done.Wait()
}

func (a *auditTrail) run() {
	defer a.done.Done()
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.flush()
		case <-a.full:
			a.flush()
		case <-a.stop:
			a.flush()
			return
		}
	}
}

// flush hands over all that waits, in batches.
func (a *auditTrail) flush() {
	for {
		var batch []AuditEntry
		for len(batch) < maxAuditBatch {
			select {
			case e := <-a.queue:
				batch = append(batch, e)
				continue
			default:
			}
			break
		}
		if len(batch) == 0 {
			return
		}
		if err := a.write(batch); err != nil {
			a.m.auditLost.Add(float64(len(batch)))
			a.log.Error("audit entries cannot be kept; the log has them", "entries", len(batch), "error", err)
		}
	}
}

// write bounds the time of a batch: those behind it wait in the queue.
func (a *auditTrail) write(batch []AuditEntry) error {
	ctx, cancel := context.WithTimeout(context.Background(), maxAuditWrite)
	defer cancel()
	return a.sink.WriteAudit(ctx, batch)
}

func (a *auditTrail) add(e AuditEntry) {
	a.m.audited.WithLabelValues(e.Outcome).Inc()
	a.log.Info("audit", "action", e.Action, "outcome", e.Outcome, "status", e.Status, "principal", e.Principal, "via", e.Via,
		"issuer", e.Issuer, "from", e.From, "about", e.About)
	if a.queue == nil {
		return
	}
	select {
	case a.queue <- e:
		if len(a.queue) >= maxAuditBatch {
			select {
			case a.full <- struct{}{}:
			default: // it has been told
			}
		}
	default:
		a.m.auditLost.Inc()
	}
}

// audited keeps a request in the trail when it changes something or was refused. A catalog without authentication has
// no trail: it does not know who.
func (h *handler) audited(e endpoint, r *request, code int) {
	if h.who == nil {
		return
	}
	refused := r.denied || code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusTooManyRequests
	changes := e.name != "" && e.changesState()
	if !refused && !changes {
		return
	}
	entry := AuditEntry{At: time.Now().UTC(), From: remoteHost(r.Request), Action: e.name, Status: code, Outcome: "done"}
	switch {
	case refused:
		entry.Outcome = "refused"
	case code >= 400:
		entry.Outcome = "failed"
	}
	if r.who != nil {
		entry.Principal, entry.Via, entry.Issuer = r.who.Name, string(r.who.Via), r.who.Issuer
	}
	about := r.about
	if len(about) == 0 && len(r.ns) > 0 {
		about = []catalog.Identifier{r.ns}
		if r.table != "" {
			about = []catalog.Identifier{r.id()}
		}
	}
	for _, id := range about[:min(len(about), maxAuditAbout)] {
		entry.About = append(entry.About, auditName(id))
	}
	h.audit.add(entry)
}

// auditName writes a name so that it can be told from others: parts that hold a dot or a quote are quoted, as in SQL.
func auditName(id catalog.Identifier) string {
	parts := make([]string, len(id))
	for i, p := range id {
		if p == "" || strings.ContainsAny(p, `."`) {
			p = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
		}
		parts[i] = p
	}
	s := strings.ToValidUTF8(strings.Join(parts, "."), "?")
	if len(s) > maxAuditName {
		s = s[:maxAuditName]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}
