package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/internal/broker"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/duck"
	"github.com/firnlake/firn/query/flight"
)

const (
	// waitMin and waitMax bound the pause between two looks at something that is away.
	waitMin = 200 * time.Millisecond
	waitMax = 5 * time.Second
	// headerTimeout bounds how long a client of an HTTP server may take for its request's head.
	headerTimeout = 10 * time.Second
)

func (p *Process) startBroker(ctx context.Context) error {
	b, err := broker.Start(ctx, p.cfg.Broker, p.log.With("part", "broker"))
	if err != nil {
		return err
	}
	b.SetFloor(p.needed)
	p.reg.MustRegister(b)
	p.cfg.Kafka.Brokers = []string{b.Addr()}
	p.setAddress(func(a *Addresses) { a.Broker = b.Addr() })
	p.onStop("broker", func(context.Context) error { return b.Close() })
	for _, pl := range p.cfg.Pipelines {
		for _, topic := range pl.topicNames() {
			if err := b.EnsureTopic(ctx, topic, demoPartitions); err != nil {
				return fmt.Errorf("embedded broker: topic %s: %w", topic, err)
			}
		}
		if pl.DeadTopic == "" {
			continue
		}
		if err := b.EnsureTopic(ctx, pl.DeadTopic, 1); err != nil {
			return fmt.Errorf("embedded broker: topic %s: %w", pl.DeadTopic, err)
		}
	}
	return nil
}

// needed tells the embedded broker which offsets the pipelines have not committed yet: those it must keep.
func (p *Process) needed() map[string]map[int32]int64 {
	p.mu.Lock()
	runners := slices.Clone(p.pipelines)
	p.mu.Unlock()
	floor := map[string]map[int32]int64{}
	for _, pl := range p.cfg.Pipelines {
		for _, topic := range pl.topicNames() {
			floor[topic] = map[int32]int64{} // needed as a whole until the pipeline says where it stands
		}
	}
	if len(runners) < len(p.cfg.Pipelines) { // one that has not begun yet may need all of its topic
		return floor
	}
	for i, r := range runners {
		for topic, v := range r.committedOf() {
			for _, o := range runners[:i] { // of two pipelines on one topic, the one further behind
				if slices.Contains(o.cfg.topicNames(), topic) {
					v = least(v, floor[topic])
				}
			}
			floor[topic] = v
		}
	}
	return floor
}

// least is the lower offset of each partition that both know; a partition that one of them has not read is needed whole.
func least(a, b map[int32]int64) map[int32]int64 {
	out := map[int32]int64{}
	for p, at := range a {
		if other, ok := b[p]; ok {
			out[p] = min(at, other)
		}
	}
	return out
}

func (p *Process) openWarehouse(ctx context.Context) error {
	wh, err := objstore.Open(ctx, p.cfg.Warehouse, p.cfg.objectStore())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	p.warehouse = wh
	p.onStop("warehouse", func(context.Context) error { return wh.Close() })
	return nil
}

// serveCatalog runs Firn's own catalog. The process itself uses it without HTTP.
func (p *Process) serveCatalog(ctx context.Context) error {
	srv, err := server.New(ctx, p.cfg.Catalog.Config, p.warehouse, p.log.With("part", "catalog"), p.reg)
	if err != nil {
		return err
	}
	p.onStop("catalog", srv.Close)
	p.catalog = srv.Service()
	secure, err := srv.TLS()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	addr, err := p.serveHTTP(ctx, "catalog", p.cfg.Catalog.Listen, "--catalog-port (or catalog.listen)", srv.Handler(), secure, srv.EndWatches)
	p.setAddress(func(a *Addresses) { a.Catalog = addr })
	return err
}

// serveHTTP serves h until Stop and returns the address. secure is for https; nil is http.
func (p *Process) serveHTTP(ctx context.Context, name, addr, flag string, h http.Handler, secure *tls.Config, onShutdown ...func()) (string, error) {
	l, err := listen(ctx, name, addr, flag)
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, TLSConfig: secure}
	for _, f := range onShutdown { // ends what would hold a shutdown up
		srv.RegisterOnShutdown(f)
	}
	serve := srv.Serve
	if secure != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	go func() {
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.die(fmt.Errorf("%s: %w", name, err))
		}
	}()
	p.onStop(name+" server", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			return srv.Close() // long polls end here
		}
		return nil
	})
	return l.Addr().String(), nil
}

// findCatalog connects to the catalog unless this process serves it. It waits for one that is away.
func (p *Process) findCatalog(ctx context.Context) error {
	if p.catalog != nil {
		return nil
	}
	cc := p.cfg.catalogClient()
	var c *client.Client
	err := p.wait(ctx, "the catalog at "+cc.URI, func() (err error) {
		c, err = client.New(ctx, cc, p.log.With("part", "catalog"), p.reg)
		if err != nil && !errors.Is(err, catalog.ErrUnavailable) {
			return fmt.Errorf("%w: catalog %s: %w", errFinal, cc.URI, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.catalog = c
	p.onStop("catalog client", func(context.Context) error { c.Close(); return nil })
	return nil
}

// errFinal marks an error that waiting does not cure.
var errFinal = errors.New("this does not pass by itself")

// wait tries until try succeeds, says what it waits for, and gives up only when ctx ends or the error is final.
func (p *Process) wait(ctx context.Context, what string, try func() error) error {
	pause, last := waitMin, ""
	defer p.setWaiting("")
	for {
		err := try()
		if err == nil || errors.Is(err, errFinal) {
			return err
		}
		p.setWaiting("waiting for " + what + ": " + err.Error())
		if msg := err.Error(); msg != last {
			p.log.Warn("waiting", "for", what, "error", err)
			last = msg
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, err, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, waitMax)
	}
}

func (p *Process) startCompaction(context.Context) error {
	if p.cfg.Compaction.Off {
		return nil
	}
	c, err := compaction.New(p.cfg.Compaction, p.catalog, p.warehouse, p.log.With("part", "compaction"), p.reg)
	if err != nil {
		return fmt.Errorf("%w: compaction: %w", ErrConfig, err)
	}
	p.mu.Lock()
	p.compactor = c
	p.mu.Unlock()
	p.background("compaction", c.Run)
	return nil
}

// startFlight serves queries, the tail, or both.
func (p *Process) startFlight(ctx context.Context) error {
	var eng query.Engine
	cfg, flag := p.cfg.Query.Config, "--flight-port (or query.listen)"
	if p.opt.has(RoleQuery) {
		svc, err := p.openQuery()
		if err != nil {
			return err
		}
		eng = svc
	} else {
		cfg.Listen, flag = p.cfg.Ingest.Listen, "--flight-port (or ingest.listen)"
	}
	var local query.TailSource
	if p.opt.has(RoleIngest) {
		local = p.tails
	}
	srv, err := flight.NewServer(cfg, eng, local, p.log.With("part", "flight"), p.reg)
	if err != nil {
		return fmt.Errorf("%w: query: %w", ErrConfig, err)
	}
	l, err := listen(ctx, "Flight SQL", cfg.Listen, flag)
	if err != nil {
		return err
	}
	go func() {
		if err := srv.Serve(l); err != nil {
			p.die(fmt.Errorf("flight: %w", err))
		}
	}()
	p.onStop("flight", srv.Shutdown)
	p.setAddress(func(a *Addresses) { a.Flight = l.Addr().String() })
	return nil
}

// openQuery makes the query service, with the tails of this process or of others.
func (p *Process) openQuery() (*query.Service, error) {
	sql, err := duck.Open(p.cfg.Query.SQL)
	if err != nil && !errors.Is(err, query.ErrNotBuiltIn) {
		return nil, err
	}
	var src query.TailSource = p.tails
	if !p.opt.has(RoleIngest) {
		remote, err := flight.NewTailClient(p.cfg.Query.Tails, flight.TailOptions{ClientOptions: flight.ClientOptions{Token: p.cfg.Query.Token}, Log: p.log.With("part", "tails")})
		if err != nil {
			return nil, fmt.Errorf("%w: query.tails: %w", ErrConfig, err)
		}
		p.onStop("tail client", func(context.Context) error { return remote.Close() })
		src = remote
	}
	svc, err := query.NewService(p.cfg.Query.SQL, p.catalog, p.warehouse, src, sql, p.log.With("part", "query"), p.reg)
	if err != nil {
		return nil, fmt.Errorf("%w: query.sql: %w", ErrConfig, err)
	}
	p.onStop("query", func(context.Context) error { return svc.Close() })
	return svc, nil
}
