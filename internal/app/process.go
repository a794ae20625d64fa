package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/internal/arrowmem"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/tracing"
)

// Role is a part of Firn that a process can run.
type Role string

// The roles. firn up runs all of them.
const (
	RoleIngest  Role = "ingest"
	RoleCatalog Role = "catalog"
	RoleCompact Role = "compact"
	RoleQuery   Role = "query"
)

// Options of a process that are not configuration.
type Options struct {
	Roles   []Role
	Version string
	Log     *slog.Logger
	// Broker starts the embedded broker and reads from it.
	Broker bool
}

func (o Options) has(r Role) bool { return slices.Contains(o.Roles, r) }

// Process is one running Firn. Start it with Start and end it with Stop.
type Process struct {
	cfg     *Config
	opt     Options
	log     *slog.Logger
	reg     *prometheus.Registry
	started time.Time
	// died receives the first error of a part that cannot go on.
	died chan error

	mu        sync.Mutex
	addr      Addresses
	waiting   string
	pipelines []*runner
	stops     []part // in start order

	warehouse *objstore.Warehouse
	catalog   catalog.Catalog
	compactor *compaction.Compactor
	tails     *tails
	arrow     *arrowmem.Pool // what pipelines decode into
}

// part is something to stop.
type part struct {
	name string
	stop func(context.Context) error
}

// Start begins the roles. It returns when all of them listen; a catalog, broker or storage that is away is waited for
// in the background where possible, and by Start, as long as ctx lasts, where nothing can begin without it. On an
// error everything that was begun is stopped again.
func Start(ctx context.Context, cfg *Config, opt Options) (*Process, error) {
	p := &Process{cfg: cfg, opt: opt, log: opt.Log, reg: prometheus.NewRegistry(), started: time.Now(), died: make(chan error, 1), tails: newTails(),
		arrow: arrowmem.NewPool(spareArrow)}
	p.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(p))
	p.reg.MustRegister(arrowGauges(p.arrow)...)
	if err := p.start(ctx); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return nil, errors.Join(err, p.Stop(stopCtx))
	}
	return p, nil
}

func (p *Process) start(ctx context.Context) error {
	roles := make([]string, len(p.opt.Roles))
	for i, r := range p.opt.Roles {
		roles[i] = string(r)
	}
	shutdown, err := tracing.Setup(ctx, p.cfg.Tracing, strings.Join(roles, "-"), p.cfg.HTTP.Listen, p.opt.Version, p.log)
	if err != nil {
		return err
	}
	p.onStop("tracing", shutdown)
	steps := []struct {
		wanted bool
		run    func(context.Context) error
	}{
		{true, p.startHTTP},
		{p.opt.Broker, p.startBroker},
		{true, p.openWarehouse},
		{p.opt.has(RoleCatalog) && p.cfg.Catalog.URI == "", p.serveCatalog},
		{p.opt.has(RoleIngest) || p.opt.has(RoleCompact) || p.opt.has(RoleQuery), p.findCatalog},
		{p.opt.has(RoleCompact), p.startCompaction},
		{p.opt.has(RoleQuery) || p.opt.has(RoleIngest), p.startFlight},
		{p.opt.has(RoleIngest), p.startPipelines},
	}
	for _, s := range steps {
		if !s.wanted {
			continue
		}
		if err := s.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stopTimeout bounds a stop that nobody else bounds; the drain of the pipelines lies within it.
const stopTimeout = 10 * time.Second

func (p *Process) onStop(name string, stop func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops = append(p.stops, part{name, stop})
}

// Stop ends the parts in the reverse order of their start: what produces before what it relies on. It goes on after a
// failure and joins the errors.
func (p *Process) Stop(ctx context.Context) error {
	p.mu.Lock()
	parts := p.stops
	p.stops = nil
	p.mu.Unlock()
	var errs []error
	for _, s := range slices.Backward(parts) {
		began := time.Now()
		if err := s.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
		p.log.Debug("stopped", "part", s.name, "took", time.Since(began))
	}
	return errors.Join(errs...)
}

// Died gives the error of a part that ended though nobody stopped it.
func (p *Process) Died() <-chan error { return p.died }

// die reports that a part has ended by itself; only the first report counts.
func (p *Process) die(err error) {
	if err == nil {
		return
	}
	select {
	case p.died <- err:
	default:
	}
}

// Addresses tells where the process listens.
func (p *Process) Addresses() Addresses {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *Process) setAddress(set func(*Addresses)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set(&p.addr)
}

func (p *Process) setWaiting(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = what
}

// background runs f until Stop; f must end soon after its context does.
func (p *Process) background(name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := f(ctx)
		if ctx.Err() == nil {
			p.die(err)
		}
		done <- err
	}()
	p.onStop(name, func(stopCtx context.Context) error {
		cancel()
		select {
		case err := <-done:
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		case <-stopCtx.Done():
			return fmt.Errorf("it did not end in time: %w", stopCtx.Err())
		}
	})
}

// listen opens a TCP address; a port that is taken is said with the way out.
func listen(ctx context.Context, what, addr, flag string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s cannot listen on %s: %w: choose another port with %s, or 0 for any free one", what, addr, err, flag)
	}
	return l, nil
}

// Status collects what the process knows of itself.
func (p *Process) Status() Status {
	now := time.Now()
	p.mu.Lock()
	s := Status{Version: p.opt.Version, Started: p.started, Now: now, Warehouse: p.cfg.Warehouse, Addresses: p.addr, Waiting: p.waiting}
	runners := slices.Clone(p.pipelines)
	compactor := p.compactor
	p.mu.Unlock()
	for _, r := range p.opt.Roles {
		s.Roles = append(s.Roles, string(r))
	}
	s.Pipelines = make([]PipelineStatus, 0, len(runners))
	for _, r := range runners {
		s.Pipelines = append(s.Pipelines, r.Status(now))
	}
	if compactor != nil {
		s.Tables = compactor.Status()
	}
	return s
}
