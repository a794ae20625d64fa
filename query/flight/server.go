package flight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/firnlake/firn/query"
)

// Bounds of a connection. Queries have their own, Config.MaxConcurrent.
const (
	maxStreamsPerConn = 256              // calls under way on one connection
	maxHeaderBytes    = 64 << 10         // of a call; min-offsets travel there
	connectTimeout    = 10 * time.Second // until TLS and HTTP/2 are set up
	keepaliveTime     = 30 * time.Second // silence after which a client is asked whether it lives
	keepaliveTimeout  = 10 * time.Second // until it counts as gone, and its queries end
	minClientPing     = 5 * time.Second  // a client that pings more often is cut off
)

// Server serves one engine, one tail source, or both. Create it with NewServer, end it with Shutdown.
type Server struct {
	cfg   Config
	eng   query.Engine
	tails query.TailSource
	log   *slog.Logger
	mem   memory.Allocator
	now   func() time.Time
	key   ticketKey
	auth  authenticator
	stmts *preparedSet
	slots chan struct{} // one per query under way

	watchers chan struct{}  // one per watch
	taken    time.Duration  // watchTaken; tests shorten it
	closing  chan struct{}  // closed when Shutdown begins
	sends    sync.WaitGroup // batches of watches that are being written, also past the end of their call

	metrics *metrics
	grpc    *grpc.Server
	stop    sync.Once
	ending  sync.Once
}

// NewServer returns a server that is not listening yet. eng may be nil when only a tail is served, tails when none is.
func NewServer(cfg Config, eng query.Engine, tails query.TailSource, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	return newServer(cfg, eng, tails, log, reg, time.Now, memory.DefaultAllocator)
}

func newServer(cfg Config, eng query.Engine, tails query.TailSource, log *slog.Logger, reg prometheus.Registerer,
	now func() time.Time, mem memory.Allocator) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if eng == nil && tails == nil {
		return nil, errors.New("flight: neither an engine nor a tail to serve")
	}
	key, err := newTicketKey(cfg.Token.Reveal())
	if err != nil {
		return nil, fmt.Errorf("flight: ticket key: %w", err)
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, eng: eng, tails: tails, log: log, mem: mem, now: now, key: key, metrics: m,
		auth: newAuthenticator(cfg.Token.Reveal()), stmts: newPreparedSet(cfg, now), slots: make(chan struct{}, cfg.MaxConcurrent),
		watchers: make(chan struct{}, cfg.MaxWatches), taken: watchTaken, closing: make(chan struct{}),
	}
	opts, err := s.grpcOptions()
	if err != nil {
		return nil, err
	}
	sql, err := newSQLService(s)
	if err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(opts...)
	flight.RegisterFlightServiceServer(s.grpc, &service{s: s, sql: flightsql.NewFlightServerWithAllocator(sql, mem), statements: sql})
	return s, nil
}

func (s *Server) grpcOptions() ([]grpc.ServerOption, error) {
	opts := []grpc.ServerOption{
		grpc.InTapHandle(s.tap),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
		grpc.MaxRecvMsgSize(int(s.cfg.MaxMessage)),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		// The handler of a call that was cut off still releases its query; Stop waits for that.
		grpc.WaitForHandlers(true),
	}
	if s.cfg.TLS.Cert == "" {
		return opts, nil
	}
	cert, err := tls.LoadX509KeyPair(s.cfg.TLS.Cert, s.cfg.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("flight: tls: %w", err)
	}
	return append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
	}))), nil
}

// Serve answers calls on lis until Shutdown, which makes it return nil. It closes lis.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.grpc.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("flight: serve %s: %w", lis.Addr(), err)
	}
	return nil
}

// Shutdown takes no further calls, ends watches and waits for the others under way; when ctx ends it cuts them off. Either way no
// handler runs any more when it returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.ending.Do(func() { close(s.closing) })
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("flight: calls were cut off: %w", ctx.Err())
		s.grpc.Stop()
		<-done
	}
	s.sends.Wait() // the end of its call ends a send
	s.stop.Do(s.metrics.unregister)
	return err
}
