package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/ledger"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

// tailFunc is a tail whose cut is what the function gives.
type tailFunc func() (*hot.Cut, error)

func (f tailFunc) Cut(context.Context, catalog.Identifier, offset.Vector, int64) (*hot.Cut, error) {
	return f()
}

// fakeTail owns partitions and knows the rows [low, end) of each.
type fakeTail struct {
	mem   memory.Allocator
	epoch int64
	low   int64
	end   offset.Vector
	held  atomic.Int64
	calls atomic.Int64
}

var tailSchema = arrow.NewSchema([]arrow.Field{
	{Name: ledger.ColPartition, Type: arrow.PrimitiveTypes.Int32}, {Name: ledger.ColOffset, Type: arrow.PrimitiveTypes.Int64},
	{Name: "s", Type: arrow.BinaryTypes.String},
}, nil)

func (f *fakeTail) Cut(_ context.Context, id catalog.Identifier, from offset.Vector, epoch int64) (*hot.Cut, error) {
	f.calls.Add(1)
	if id.String() != "analytics.user_events" {
		return nil, fmt.Errorf("%s: %w", id, hot.ErrNoTail)
	}
	if epoch != f.epoch {
		return nil, fmt.Errorf("%w: tail %d", hot.ErrFenced, f.epoch)
	}
	end := from.Clone()
	var rows []arrow.RecordBatch
	for p, e := range f.end {
		if from[p] < f.low {
			releaseAll(rows)
			return nil, hot.ErrExpired
		}
		end[p] = e
		b := array.NewRecordBuilder(f.mem, tailSchema)
		for o := from[p]; o < e; o++ {
			b.Field(0).(*array.Int32Builder).Append(p)
			b.Field(1).(*array.Int64Builder).Append(o)
			b.Field(2).(*array.StringBuilder).Append(fmt.Sprint(p, "/", o))
		}
		if e > from[p] {
			rows = append(rows, b.NewRecordBatch())
		}
		b.Release()
	}
	f.held.Add(1)
	return hot.NewCut(rows, from, end, epoch, func() {
		f.held.Add(-1)
		releaseAll(rows)
	}), nil
}

// tailServer serves f; its cuts must be released by the end of the test.
func tailServer(t *testing.T, cfg Config, f *fakeTail) *harness {
	t.Helper()
	h := start(t, cfg, nil, f)
	f.mem = h.mem
	t.Cleanup(func() { eventually(t, "released cuts", func() bool { return f.held.Load() == 0 }) })
	return h
}

func tailClient(t *testing.T, o TailOptions, addrs ...string) *TailClient {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	o.Mem = mem
	c, err := NewTailClient(addrs, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		mem.AssertSize(t, 0)
	})
	return c
}

// offsetsOf lists "partition/offset" of all rows, sorted.
func offsetsOf(c *hot.Cut) []string {
	var out []string
	for _, r := range c.Rows {
		for i := range int(r.NumRows()) {
			out = append(out, strings.Clone(r.Column(2).(*array.String).Value(i)))
		}
	}
	slices.Sort(out)
	return out
}

var events = catalog.Identifier{"analytics", "user_events"}

func TestATailFromElsewhere(t *testing.T) {
	f := &fakeTail{epoch: 3, low: 2, end: offset.Vector{0: 5, 1: 4}}
	h := tailServer(t, Config{Token: units.NewSecret(canary)}, f)
	c := tailClient(t, TailOptions{ClientOptions: ClientOptions{Token: units.NewSecret(canary)}}, h.addr)
	ctx := context.Background()
	from := offset.Vector{0: 3, 1: 2}
	cut, err := c.Cut(ctx, events, from, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got := offsetsOf(cut); !slices.Equal(got, []string{"0/3", "0/4", "1/2", "1/3"}) {
		t.Errorf("rows %v", got)
	}
	if !cut.From.Equal(from) || !cut.End.Equal(offset.Vector{0: 5, 1: 4}) || cut.Epoch != 3 {
		t.Errorf("cut %+v", cut)
	}
	cut.Release()

	// Nothing since: no rows, and still an end.
	cut, err = c.Cut(ctx, events, offset.Vector{0: 5, 1: 4}, 3)
	if err != nil || len(cut.Rows) != 0 || !cut.End.Equal(offset.Vector{0: 5, 1: 4}) {
		t.Errorf("empty: %+v, %v", cut, err)
	}
	cut.Release()

	for name, want := range map[string]struct {
		id    catalog.Identifier
		from  offset.Vector
		epoch int64
		err   error
	}{
		"expired":       {events, offset.Vector{0: 1, 1: 2}, 3, hot.ErrExpired},
		"fenced":        {events, from, 2, hot.ErrFenced},
		"another table": {catalog.Identifier{"a", "b"}, from, 3, hot.ErrNoTail},
	} {
		if _, err := c.Cut(ctx, want.id, want.from, want.epoch); !errors.Is(err, want.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := c.Health(); len(got) != 1 || !got[0].OK || got[0].Since.IsZero() {
		t.Errorf("health %+v", got)
	}
}

func TestTailsOfSeveralProcessesAreJoined(t *testing.T) {
	a := tailServer(t, Config{}, &fakeTail{epoch: 1, end: offset.Vector{0: 3}})
	b := tailServer(t, Config{}, &fakeTail{epoch: 1, end: offset.Vector{1: 2}})
	// One that was fenced off and still claims partition 1, with fewer rows, and one that has nothing to do with it.
	old := tailServer(t, Config{}, &fakeTail{epoch: 1, end: offset.Vector{1: 1}})
	other := tailServer(t, Config{}, &fakeTail{epoch: 9, end: offset.Vector{5: 9}})
	c := tailClient(t, TailOptions{}, a.addr, b.addr, old.addr, other.addr)
	cut, err := c.Cut(context.Background(), events, offset.Vector{0: 1, 1: 0, 2: 7}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Release()
	if got := offsetsOf(cut); !slices.Equal(got, []string{"0/1", "0/2", "1/0", "1/1"}) {
		t.Errorf("rows %v", got)
	}
	if !cut.End.Equal(offset.Vector{0: 3, 1: 2, 2: 7}) {
		t.Errorf("end %v", cut.End)
	}
}

func TestOneExpiredTailAsksForANewPin(t *testing.T) {
	a := tailServer(t, Config{}, &fakeTail{epoch: 1, end: offset.Vector{0: 3}})
	b := tailServer(t, Config{}, &fakeTail{epoch: 1, low: 5, end: offset.Vector{1: 9}})
	c := tailClient(t, TailOptions{}, a.addr, b.addr)
	if _, err := c.Cut(context.Background(), events, offset.Vector{0: 1, 1: 0}, 1); !errors.Is(err, hot.ErrExpired) {
		t.Errorf("err = %v", err)
	}
}

func TestAnAbsentProcessCostsAQueryOnce(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	lis.Close()
	var (
		log   bytes.Buffer
		clock = time.Unix(1000, 0)
	)
	c := tailClient(t, TailOptions{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return clock }, Retry: time.Minute}, addr)
	for range 3 {
		if _, err := c.Cut(context.Background(), events, nil, 0); !errors.Is(err, hot.ErrNoTail) {
			t.Errorf("err = %v", err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if h := c.Health()[0]; h.OK || h.Error == "" || !h.Since.Equal(clock) {
		t.Errorf("health %+v", h)
	}
	// It comes back, on the same address, and is asked again when its time is over.
	f := &fakeTail{end: offset.Vector{0: 1}}
	srv, err := NewServer(Config{}, nil, f, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.mem = memory.DefaultAllocator
	lis, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	defer func() {
		if err := errors.Join(srv.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	}()
	if _, err := c.Cut(context.Background(), events, nil, 0); !errors.Is(err, hot.ErrNoTail) || f.calls.Load() != 0 {
		t.Errorf("before its time: %v, %d calls", err, f.calls.Load())
	}
	clock = clock.Add(time.Hour)
	eventually(t, "the process is back", func() bool { // gRPC takes its own time to connect again
		cut, err := c.Cut(context.Background(), events, nil, 0)
		if err == nil {
			cut.Release()
		}
		clock = clock.Add(time.Hour)
		return err == nil
	})
	if h := c.Health()[0]; !h.OK || h.Error != "" || !strings.Contains(log.String(), "answers again") {
		t.Errorf("health %+v, log:\n%s", h, log.String())
	}
}

func TestASilentProcessIsNotWaitedFor(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never speaks
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	c := tailClient(t, TailOptions{Timeout: 50 * time.Millisecond}, lis.Addr().String())
	began := time.Now()
	if _, err := c.Cut(context.Background(), events, nil, 0); !errors.Is(err, hot.ErrNoTail) {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Cut(ctx, events, nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
}

func TestATailMayBeTooLarge(t *testing.T) {
	h := tailServer(t, Config{}, &fakeTail{end: offset.Vector{0: 20000}})
	c := tailClient(t, TailOptions{MaxBytes: 10 << 10}, h.addr)
	if _, err := c.Cut(context.Background(), events, nil, 0); !errors.Is(err, query.ErrLimit) {
		t.Errorf("err = %v", err)
	}
}

// A cut that answers another question than was asked is not used: its rows could be doubled or missing.
func TestACutThatDoesNotFitIsRefused(t *testing.T) {
	for name, cut := range map[string]*hot.Cut{
		"epoch":     hot.NewCut(nil, offset.Vector{0: 1}, offset.Vector{0: 2}, 8, nil),
		"from":      hot.NewCut(nil, offset.Vector{0: 0}, offset.Vector{0: 2}, 7, nil),
		"end":       hot.NewCut(nil, offset.Vector{0: 1}, offset.Vector{0: 0}, 7, nil),
		"partition": hot.NewCut(nil, offset.Vector{0: 1}, offset.Vector{1: 2}, 7, nil),
	} {
		h := start(t, Config{}, nil, tailFunc(func() (*hot.Cut, error) { return cut, nil }))
		c := tailClient(t, TailOptions{}, h.addr)
		if _, err := c.Cut(context.Background(), events, offset.Vector{0: 1}, 7); !errors.Is(err, hot.ErrNoTail) {
			t.Errorf("%s: %v", name, err)
		}
		if h := c.Health()[0]; h.OK {
			t.Errorf("%s: health %+v", name, h)
		}
	}
}

func TestNoProcessesNoTail(t *testing.T) {
	c := tailClient(t, TailOptions{})
	if _, err := c.Cut(context.Background(), events, nil, 0); !errors.Is(err, hot.ErrNoTail) {
		t.Errorf("err = %v", err)
	}
	if _, err := NewTailClient([]string{"http://x"}, TailOptions{}); !errors.Is(err, ErrBadRequest) {
		t.Errorf("err = %v", err)
	}
}
