package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// layoutTTL is how old the transport's own picture of the cluster may get. It only maps node ids to addresses; leaders
// come from this package's metadata requests.
const layoutTTL = 4 * time.Second

var (
	errOldBroker = errors.New("the broker is too old")
	errWantsTLS  = errors.New("the broker expects TLS: set kafka.tls.enabled: true, or use its plain listener")
	errClosed    = errors.New("the connection to kafka is closed")
)

// unreachableError is a connection that could not be made.
type unreachableError struct {
	addr  string
	cause error
}

func (e *unreachableError) Error() string {
	return "broker " + e.addr + " unreachable: " + e.cause.Error()
}
func (e *unreachableError) Unwrap() error { return e.cause }

// client sends calls to the brokers of one cluster. Safe for concurrent use.
type client struct {
	cfg       Config
	transport *kafka.Transport
	addr      net.Addr
	stop      context.CancelFunc

	mu       sync.Mutex
	closed   bool
	conns    map[net.Conn]struct{}
	versions map[protocol.ApiKey]int16 // greatest that the broker knows; nil until asked
	nodes    map[int32]string          // addresses as the last metadata had them
}

// newClient takes a validated configuration; topic limits what the transport asks about, empty for nothing but brokers
// and all topics.
func newClient(cfg Config, topic string) (*client, error) {
	tlsConfig, err := cfg.TLS.clientConfig()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.mechanism()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &client{cfg: cfg, addr: kafka.TCP(cfg.Brokers...), stop: stop, conns: map[net.Conn]struct{}{}}
	c.transport = &kafka.Transport{Dial: c.dial, DialTimeout: cfg.DialTimeout.D(), MetadataTTL: layoutTTL, ClientID: cfg.ClientID,
		TLS: tlsConfig, SASL: mechanism, Context: ctx}
	if topic != "" {
		c.transport.MetadataTopics = []string{topic}
	}
	return c, nil
}

// dial opens a connection that close will end, because the transport itself waits for answers under way.
func (c *client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, &unreachableError{addr, err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.Join(errClosed, conn.Close())
	}
	t := &trackedConn{Conn: conn, c: c}
	c.conns[t] = struct{}{}
	return t, nil
}

type trackedConn struct {
	net.Conn
	c *client
}

func (t *trackedConn) Close() error {
	t.c.mu.Lock()
	delete(t.c.conns, t)
	t.c.mu.Unlock()
	return t.Conn.Close()
}

// do sends a call and waits for its answer, at most wait longer than the request timeout.
func (c *client) do(ctx context.Context, k *call, wait time.Duration) error {
	if k.clientID = c.cfg.ClientID; k.limit == 0 {
		k.limit = maxSmallReply
	}
	timeout := c.cfg.RequestTimeout.D() + wait
	deadline, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := c.transport.RoundTrip(deadline, c.addr, k)
	if err == nil {
		return nil
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer to %s within %s", c.name(k.broker), k.key, timeout)
	case errors.Is(err, kafka.BrokerNotAvailable):
		// The transport's picture of the cluster has no address for this node; a new pool begins by asking.
		c.transport.CloseIdleConnections()
		return fmt.Errorf("%s is not among the brokers that the cluster names", c.name(k.broker))
	}
	return c.explain(k.broker, err)
}

// explain says which broker, and what the usual reason is where the bare error does not.
func (c *client) explain(broker int32, err error) error {
	var unreachable *unreachableError
	switch {
	case errors.As(err, &unreachable):
		return unreachable
	case errors.Is(err, kafka.SASLAuthenticationFailed), errors.Is(err, kafka.UnsupportedSASLMechanism), errors.Is(err, kafka.IllegalSASLState):
		return fmt.Errorf("%s: authentication failed: %w (see kafka.sasl)", c.name(broker), err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		var hints []string
		if c.transport.SASL != nil {
			hints = append(hints, "some brokers refuse credentials like that, see kafka.sasl")
		}
		if c.transport.TLS == nil {
			hints = append(hints, "a listener that expects TLS does so too, see kafka.tls")
		}
		hint := ""
		if len(hints) > 0 {
			hint = " (" + strings.Join(hints, "; ") + ")"
		}
		return fmt.Errorf("%s closed the connection%s: %w", c.name(broker), hint, err)
	}
	return fmt.Errorf("%s: %w", c.name(broker), err)
}

func (c *client) name(broker int32) string {
	if broker >= 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if addr := c.nodes[broker]; addr != "" {
			return fmt.Sprintf("broker %d at %s", broker, addr)
		}
		return fmt.Sprintf("broker %d", broker)
	}
	return "kafka at " + strings.Join(c.cfg.Brokers, ",")
}

// close ends every connection and what waits on one.
func (c *client) close() {
	c.mu.Lock()
	c.closed = true
	open := c.conns
	c.conns = map[net.Conn]struct{}{}
	c.mu.Unlock()
	c.stop()
	c.transport.CloseIdleConnections()
	for t := range open {
		_ = t.(*trackedConn).Conn.Close() // nobody waits for a clean end
	}
}

// api is the version of an API to speak: want when the broker knows it, else fallback. kafka-go's own negotiation stops
// at the versions that it knows itself, so the broker is asked once more.
func (c *client) api(ctx context.Context, key protocol.ApiKey, want, fallback int16) (int16, error) {
	c.mu.Lock()
	known := c.versions
	c.mu.Unlock()
	if known == nil {
		k := &call{key: protocol.ApiVersions, broker: -1}
		if err := c.do(ctx, k, 0); err != nil {
			return 0, err
		}
		d := decoder{b: k.reply}
		if code := d.int16(); code != 0 {
			return 0, fmt.Errorf("%s: API versions: %w", c.name(-1), kafka.Error(code))
		}
		known = map[protocol.ApiKey]int16{}
		for n := d.array(6); n > 0; n-- {
			key, _, greatest := protocol.ApiKey(d.int16()), d.int16(), d.int16()
			known[key] = greatest
		}
		if d.err != nil {
			return 0, fmt.Errorf("%s: API versions: %w", c.name(-1), d.err)
		}
		c.mu.Lock()
		c.versions = known
		c.mu.Unlock()
	}
	if known[key] >= want {
		return want, nil
	}
	return fallback, nil
}

// forgetVersions makes the next call ask again: the brokers may have been replaced by older ones.
func (c *client) forgetVersions() {
	c.mu.Lock()
	c.versions = nil
	c.mu.Unlock()
}
