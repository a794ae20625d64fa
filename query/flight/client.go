package flight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight/ipccheck"
)

const (
	defaultClientMessage = 256 << 20       // bytes of one message from a server
	dialTimeout          = 5 * time.Second // until a server that is there has answered
	maxListedTables      = 1 << 20
)

// ClientOptions of a connection; the zero value speaks plain gRPC without a token.
type ClientOptions struct {
	// Token is sent as a bearer token with every call.
	Token units.Secret
	// TLS encrypts; nil encrypts with the system's roots when the address starts with grpc+tls:// and not otherwise.
	TLS *tls.Config
	// MaxMessage bounds one message from the server; default 256MiB.
	MaxMessage units.Bytes
	// Mem allocates what has to be copied; default Go's heap.
	Mem memory.Allocator
}

// Client asks a Flight server of Firn. Safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
	rpc  flightRPC
	mem  memory.Allocator
	addr string
}

// flightRPC is the part of the Flight service that the clients here use.
type flightRPC interface {
	DoGet(ctx context.Context, in *flight.Ticket, opts ...grpc.CallOption) (flight.FlightService_DoGetClient, error)
	ListFlights(ctx context.Context, in *flight.Criteria, opts ...grpc.CallOption) (flight.FlightService_ListFlightsClient, error)
	ListActions(ctx context.Context, in *flight.Empty, opts ...grpc.CallOption) (flight.FlightService_ListActionsClient, error)
}

// Dial connects to addr, "host:port" or "grpc://host:port" or "grpc+tls://host:port", and returns when the server has
// answered. Errors: ErrUnavailable, ErrUnauthenticated.
func Dial(ctx context.Context, addr string, o ClientOptions) (*Client, error) {
	c, err := newClient(addr, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.ping(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// newClient does not connect yet; gRPC does with the first call.
func newClient(addr string, o ClientOptions) (*Client, error) {
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultClientMessage
	}
	if o.Mem == nil {
		o.Mem = memory.DefaultAllocator
	}
	target, tlsConfig, err := parseAddr(addr, o.TLS)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if tlsConfig != nil {
		creds = credentials.NewTLS(tlsConfig)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(o.MaxMessage))),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDisableServiceConfig(), // a DNS record does not say how often a query is tried
	}
	if t := o.Token.Reveal(); t != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer(t)))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("flight: %s: %w", addr, err)
	}
	return &Client{conn: conn, rpc: flightClient(conn), mem: o.Mem, addr: addr}, nil
}

// bearer is the token of every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{headerAuthorization: "Bearer " + string(b)}, nil
}

// RequireTransportSecurity: a server on loopback, or behind a proxy that encrypts, takes the token in the clear.
func (bearer) RequireTransportSecurity() bool { return false }

func parseAddr(addr string, cfg *tls.Config) (target string, _ *tls.Config, err error) {
	target = addr
	if scheme, rest, ok := strings.Cut(addr, "://"); ok {
		target = strings.TrimSuffix(rest, "/")
		switch scheme {
		case "grpc", "grpc+tcp", "arrow-flight", "flight":
		case "grpc+tls", "flights":
			if cfg == nil {
				cfg = &tls.Config{MinVersion: tls.VersionTLS12}
			}
		default:
			return "", nil, fmt.Errorf("%w: address %q: want host:port, grpc://host:port or grpc+tls://host:port", ErrBadRequest, addr)
		}
	}
	if target == "" || strings.ContainsAny(target, "/ ") {
		return "", nil, fmt.Errorf("%w: address %q: want host:port, grpc://host:port or grpc+tls://host:port", ErrBadRequest, addr)
	}
	return "dns:///" + target, cfg, nil
}

// ping makes the smallest call there is, which also tells whether the token is right.
func (c *Client) ping(ctx context.Context) error {
	stream, err := c.rpc.ListActions(ctx, &flight.Empty{})
	if err != nil {
		return c.failed("connect", err)
	}
	for {
		switch _, err := stream.Recv(); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.failed("connect", err)
		}
	}
}

// failed turns the error of a call into Firn's.
func (c *Client) failed(what string, err error) error {
	err = fromStatus(err)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnauthenticated) {
		return fmt.Errorf("%s: %s: %w", what, c.addr, err)
	}
	return err
}

// Close ends the connection; results that are still open fail.
func (c *Client) Close() error { return c.conn.Close() }

// Query runs one SELECT. The result ends with ctx.
func (c *Client) Query(ctx context.Context, sql string, o query.Options) (query.Result, error) {
	return c.get(ctx, command{Firn: "sql", Query: sql, wireOptions: toWire(o)})
}

// Scan reads one table without SQL.
func (c *Client) Scan(ctx context.Context, r query.ScanRequest, o query.Options) (query.Result, error) {
	return c.get(ctx, scanCommand(r, o))
}

func (c *Client) get(ctx context.Context, cmd command) (*result, error) {
	ticket, err := cmd.encode()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r, err := c.open(ctx, cancel, ticket)
	if err != nil {
		cancel()
		return nil, c.failed(cmd.Firn, err)
	}
	if r.pins, err = decodePins(r.first); err != nil {
		r.Release()
		return nil, err
	}
	return r, nil
}

// open begins a stream and reads its schema.
func (c *Client) open(ctx context.Context, cancel context.CancelFunc, ticket []byte) (*result, error) {
	stream, err := c.rpc.DoGet(ctx, &flight.Ticket{Ticket: ticket})
	if err != nil {
		return nil, err
	}
	in := &checkedGet{stream: stream, check: ipccheck.NewStream(ipccheck.DefaultLimits())}
	return newResult(c, in, cancel)
}

// Tables lists the tables, with their schemas when asked.
func (c *Client) Tables(ctx context.Context, withSchema bool) ([]query.TableInfo, error) {
	cmd, err := command{Firn: "tables", Schema: withSchema}.encode()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.ListFlights(ctx, &flight.Criteria{Expression: cmd})
	if err != nil {
		return nil, c.failed("tables", err)
	}
	var out []query.TableInfo
	for {
		info, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, c.failed("tables", err)
		}
		if len(out) == maxListedTables {
			return nil, fmt.Errorf("%w: the server lists more than %d tables", query.ErrLimit, maxListedTables)
		}
		t := query.TableInfo{Identifier: catalog.Identifier(info.GetFlightDescriptor().GetPath())}
		if b := info.GetSchema(); len(b) > 0 {
			if err := ipccheck.Encapsulated(b, ipccheck.DefaultLimits()); err != nil {
				return nil, fmt.Errorf("schema of %s: %w", t.Identifier, err)
			}
			if t.Schema, err = flight.DeserializeSchema(b, c.mem); err != nil {
				return nil, fmt.Errorf("schema of %s: %w", t.Identifier, err)
			}
		}
		out = append(out, t)
	}
}
