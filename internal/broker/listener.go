package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrPortBusy is wrapped by Start when another program listens on the port.
var ErrPortBusy = errors.New("port is in use")

// errFrame ends a connection that does not speak Kafka.
var errFrame = errors.New("not a Kafka request")

// frameHead is how much of a request is judged before kfake sees it: length, api key, api version.
const frameHead = 8

// listener hands kfake connections whose requests have a known key, a known version and a bounded length.
type listener struct {
	net.Listener
	addr       net.Addr // what clients are told
	maxRequest int64
	slots      chan struct{}
	log        *slog.Logger

	open     atomic.Int64
	rejected atomic.Int64 // connections over the limit or not Kafka
}

func listen(ctx context.Context, cfg Config, log *slog.Logger) (*listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("embedded broker: %w: %s: stop the program there, choose another port with --broker-port (or broker.listen), or 0 for any free one", ErrPortBusy, cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded broker cannot listen on %s: %w: choose another address with broker.listen, or another port with --broker-port", cfg.Listen, err)
	}
	b := &listener{Listener: l, addr: l.Addr(), maxRequest: int64(cfg.MaxRequestBytes), slots: make(chan struct{}, cfg.MaxConnections), log: log}
	if cfg.Advertise != "" {
		b.addr = advertised(cfg.Advertise)
	}
	return b, nil
}

// advertised is a host:port as an address.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }

// Addr is the address that kfake puts into its metadata.
func (l *listener) Addr() net.Addr { return l.addr }

// Accept implements net.Listener. A connection beyond the limit is closed at once: its client tries again.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			l.open.Add(1)
			return &conn{Conn: c, l: l}, nil
		default:
			l.rejected.Add(1)
			l.log.Warn("too many connections", "limit", cap(l.slots), "client", c.RemoteAddr().String())
			_ = c.Close() // nothing was said on it
		}
	}
}

// conn checks the head of every request. One goroutine reads at a time.
type conn struct {
	net.Conn
	l    *listener
	once sync.Once

	head    [frameHead]byte
	pending []byte // of head, checked and not read yet
	left    int64  // of the request's body
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.pending) == 0 && c.left == 0 {
		if _, err := io.ReadFull(c.Conn, c.head[:]); err != nil {
			return 0, err
		}
		size, err := checkHead(c.head, c.l.maxRequest)
		if err != nil {
			c.l.rejected.Add(1)
			c.l.log.Warn("connection closed", "client", c.RemoteAddr().String(), "err", err)
			return 0, err
		}
		c.pending, c.left = c.head[:], size-(frameHead-4)
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// Close implements net.Conn; kfake closes twice.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.l.open.Add(-1)
		<-c.l.slots
	})
	return c.Conn.Close()
}

// checkHead returns the length of the request that head begins, or an error that says what is wrong with it.
func checkHead(head [frameHead]byte, maxRequest int64) (size int64, err error) {
	size = int64(binary.BigEndian.Uint32(head[:4]))
	key, version := int16(binary.BigEndian.Uint16(head[4:6])), int16(binary.BigEndian.Uint16(head[6:8]))
	const minSize = 10 // key, version, correlation id, client id
	if size < minSize || size > maxRequest {
		return 0, fmt.Errorf("%w: a length of %d bytes is not within %d to %d", errFrame, size, minSize, maxRequest)
	}
	req := kmsg.RequestForKey(key)
	if req == nil {
		return 0, fmt.Errorf("%w: unknown api key %d", errFrame, key)
	}
	// A version of ApiVersions that is too new has an answer of its own, by which the client finds a common one.
	if version < 0 || version > req.MaxVersion() && key != int16(kmsg.ApiVersions) {
		return 0, fmt.Errorf("%w: version %d of api %s is not known", errFrame, version, kmsg.NameForKey(key))
	}
	return size, nil
}

// serveOn hands the listener to kfake in place of one that it would open.
func (l *listener) serveOn(string, string) (net.Listener, error) { return l, nil }

// ignoreClosed drops the error of closing what is closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
