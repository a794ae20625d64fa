package flight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

var watchedTable = catalog.Identifier{"analytics", "user_events"}

// commitAt is the commit of a version: every third moves nothing, every fourth of the others carries no offsets.
func commitAt(t testing.TB, v int64) query.Commit {
	c := query.Commit{Event: catalog.Event{HistoryEntry: catalog.HistoryEntry{Version: v}}, AddedRows: -1, TotalRows: -1}
	if v%3 == 0 {
		return c
	}
	c.Head, c.SnapshotID, c.At = true, 1000+v, time.UnixMilli(1_700_000_000_000+v).UTC()
	if v%4 != 0 {
		var err error
		if c.Offsets, err = (offset.Vector{0: v, 3: 7 * v}).Encode(); err != nil {
			t.Fatal(err)
		}
		c.Operation, c.AddedRows, c.TotalRows = "append", v, 10*v
	}
	return c
}

// tells is an engine that tells of the versions up to one, from where it is asked, and then waits.
func tells(t testing.TB, to int64) func(context.Context, query.WatchRequest, func(query.Commit) error) error {
	return func(ctx context.Context, r query.WatchRequest, each func(query.Commit) error) error {
		after := r.After
		if r.AfterSnapshot != 0 {
			after = r.AfterSnapshot - 1000
		}
		for v := after + 1; v <= to; v++ {
			if err := each(commitAt(t, v)); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

var errEnough = errors.New("enough")

// hear watches until a version came, and checks that all after the first came once, in order.
func hear(t *testing.T, c *Client, r query.WatchRequest, from, to int64) {
	t.Helper()
	next := from
	err := c.Watch(t.Context(), r, func(got query.Commit) error {
		if want := commitAt(t, next); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if next == to {
			return errEnough
		}
		next++
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("after version %d: %v", next-1, err)
	}
}

func TestWatch(t *testing.T) {
	const all = 3000
	h := start(t, Config{}, &fakeEngine{watch: tells(t, all)}, nil)
	c := h.dial(ClientOptions{})
	hear(t, c, query.WatchRequest{Table: watchedTable}, 1, all) // more than the queue holds
	hear(t, c, query.WatchRequest{Table: watchedTable, After: 17}, 18, 40)
	hear(t, c, query.WatchRequest{Table: watchedTable, AfterSnapshot: 1017}, 18, 40)
}

// TestWatchBatches: commits that have piled up are sent in batches that clients take.
func TestWatchBatches(t *testing.T) {
	const all, most = 3000, 16 << 10
	h := start(t, Config{MaxBatch: most}, &fakeEngine{watch: tells(t, all)}, nil)
	c := h.dial(ClientOptions{})
	ticket, err := command{Firn: "watch", Table: quoteIdentifier(watchedTable)}.encode()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res, err := c.open(ctx, cancel, ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	for rows := int64(0); rows < all; rows += res.RecordBatch().NumRows() {
		if !res.Next(ctx) {
			t.Fatalf("after %d commits: %v", rows, res.Err())
		}
		if n := batchBytes(res.RecordBatch()); n > most {
			t.Fatalf("a batch of %d bytes, at most %d were asked for", n, most)
		}
	}
}

// TestWatchGoesOn: a client's watch goes on when the server comes back, from the last commit on.
func TestWatchGoesOn(t *testing.T) {
	var calls atomic.Int64
	eng := &fakeEngine{}
	eng.watch = func(ctx context.Context, r query.WatchRequest, each func(query.Commit) error) error {
		n := calls.Add(1)
		if err := each(commitAt(t, r.After+1)); err != nil {
			return err
		}
		return fmt.Errorf("%w: call %d", catalog.ErrUnavailable, n)
	}
	hear(t, start(t, Config{}, eng, nil).dial(ClientOptions{}), query.WatchRequest{Table: watchedTable}, 1, 5)
	if calls.Load() < 5 {
		t.Errorf("%d calls for five commits", calls.Load())
	}
}

// rawWatch begins a watch whose messages the test reads itself, or does not.
func (h *harness) rawWatch(ctx context.Context) flight.FlightService_DoGetClient {
	h.t.Helper()
	stream, err := h.dial(ClientOptions{}).rpc.DoGet(ctx, &flight.Ticket{Ticket: []byte(`{"firn":"watch","table":"analytics.user_events"}`)})
	if err != nil {
		h.t.Fatal(err)
	}
	return stream
}

// TestWatchSlowReader: a reader that takes nothing holds the engine back with no more than the queue and what gRPC's window
// takes, and is cut off.
func TestWatchSlowReader(t *testing.T) {
	var told atomic.Int64
	eng := &fakeEngine{watch: func(_ context.Context, _ query.WatchRequest, each func(query.Commit) error) error {
		for {
			if err := each(commitAt(t, told.Add(1))); err != nil {
				return err
			}
		}
	}}
	h := start(t, Config{}, eng, nil)
	h.srv.taken = 300 * time.Millisecond
	stream := h.rawWatch(t.Context())
	eventually(t, "the watch to be cut off", func() bool { return told.Load() > watchQueue && eng.open.Load() == 0 })
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = stream.Recv()
	}
	if st := fromStatus(err); !errors.Is(st, ErrSlowReader) || status.Code(err) != codes.Aborted {
		t.Errorf("after %d messages: %v", n, err)
	}
	// Some 100 B a row: gRPC's window of 64 KiB and the queue.
	if told.Load() > 20_000 {
		t.Errorf("%d commits were taken from the catalog for a reader that took none", told.Load())
	}
	if len(h.srv.watchers) != 0 {
		t.Error("the watch still counts")
	}
}

// TestWatchEnds: a client that goes away, and a server that stops, end a watch at once.
func TestWatchEnds(t *testing.T) {
	eng := &fakeEngine{watch: tells(t, 0)}
	h := start(t, Config{MaxWatches: 2}, eng, nil)
	ctx, leave := context.WithCancel(t.Context())
	for range 2 {
		if _, err := h.rawWatch(ctx).Recv(); err != nil { // the schema comes at once, though nothing happens
			t.Fatal(err)
		}
	}
	err := h.dial(ClientOptions{}).Watch(t.Context(), query.WatchRequest{Table: watchedTable}, func(query.Commit) error { return nil })
	if !errors.Is(err, query.ErrLimit) {
		t.Errorf("the third of two watches: %v", err)
	}
	leave()
	eventually(t, "the watches to end with their clients", func() bool { return eng.open.Load() == 0 && len(h.srv.watchers) == 0 })
	stream := h.rawWatch(t.Context())
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := h.srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the server waited %s for a watch", took)
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("at the end of the server: %v", err)
	}
}

// TestWatchRefused: what cannot be watched is said with its reason, and bad commands are refused.
func TestWatchRefused(t *testing.T) {
	for _, want := range []error{catalog.ErrNoSuchTable, catalog.ErrWatchEnded, catalog.ErrDenied, catalog.ErrUnsupported} {
		h := start(t, Config{}, &fakeEngine{watch: func(_ context.Context, _ query.WatchRequest, each func(query.Commit) error) error {
			return errors.Join(each(commitAt(t, 1)), fmt.Errorf("watch: %w", want))
		}}, nil)
		n := 0
		err := h.dial(ClientOptions{}).Watch(t.Context(), query.WatchRequest{Table: watchedTable}, func(query.Commit) error { n++; return nil })
		if !errors.Is(err, want) || n != 1 {
			t.Errorf("%d commits, then %v; want %v", n, err, want)
		}
	}
	h := start(t, Config{Token: units.NewSecret("right")}, &fakeEngine{watch: tells(t, 1)}, nil)
	c := h.dial(ClientOptions{Token: units.NewSecret("right")})
	for _, bad := range []string{`{"firn":"watch"}`, `{"firn":"watch","table":"x"}`, `{"firn":"watch","table":"a.b","after":-1}`,
		`{"firn":"watch","table":"a.b","after":1,"after_snapshot":2}`, `{"firn":"watch","table":"a.b","since":1}`} {
		stream, err := c.rpc.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(bad)})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", bad, err)
		}
	}
	stranger, err := newClient(h.addr, ClientOptions{Token: units.NewSecret("wrong")})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := stranger.Watch(t.Context(), query.WatchRequest{Table: watchedTable}, func(query.Commit) error { return nil }); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("with another token: %v", err)
	}
}

// TestWatchDamaged: an engine's offsets that nobody can read end the watch instead of the server.
func TestWatchDamaged(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{watch: func(_ context.Context, _ query.WatchRequest, each func(query.Commit) error) error {
		bad := commitAt(t, 1)
		bad.Offsets = "nonsense"
		return each(bad)
	}}, nil)
	err := h.dial(ClientOptions{}).Watch(t.Context(), query.WatchRequest{Table: watchedTable}, func(query.Commit) error { return nil })
	var remote *RemoteError
	if !errors.As(err, &remote) {
		t.Errorf("it ended with %v", err)
	}
}

// TestWatchDescribed: a descriptor tells the columns, and its ticket watches.
func TestWatchDescribed(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{watch: tells(t, 1)}, nil)
	fc, err := flight.NewClientWithMiddleware(h.addr, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer fc.Close()
	info, err := fc.GetFlightInfo(t.Context(), &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(`{"firn":"watch","table":"a.b","after":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := flight.DeserializeSchema(info.GetSchema(), h.mem)
	if err != nil || !schema.Equal(watchSchema) {
		t.Errorf("schema %v, %v", schema, err)
	}
	var c command
	if err := json.Unmarshal(info.GetEndpoint()[0].GetTicket().GetTicket(), &c); err != nil || c.Firn != "watch" || c.After != 3 || c.Table != "a.b" {
		t.Errorf("ticket %s, %v", info.GetEndpoint()[0].GetTicket().GetTicket(), err)
	}
}
