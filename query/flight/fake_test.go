package flight

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/logging/logtest"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine answers a handful of statements with real Arrow data.
type fakeEngine struct {
	mem    memory.Allocator
	rows   int // of "select numbers"
	batch  int // rows of a batch
	errs   map[string]error
	watch  func(context.Context, query.WatchRequest, func(query.Commit) error) error
	block  chan struct{}             // "select blocked" waits for it or for ctx
	onNext func(ctx context.Context) // called before each batch

	described, queried, scanned atomic.Int64
	open                        atomic.Int64 // results not released

	mu      sync.Mutex
	options query.Options
	params  []string
	scan    query.ScanRequest
}

var numbersSchema = arrow.NewSchema([]arrow.Field{
	{Name: "n", Type: arrow.PrimitiveTypes.Int64},
	{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "nested", Type: arrow.StructOf(
		arrow.Field{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
		arrow.Field{Name: "ok", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	), Nullable: true},
}, nil)

// numbers builds rows from..to of the table that every statement reads.
func numbers(mem memory.Allocator, from, to int) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, numbersSchema)
	defer b.Release()
	for i := from; i < to; i++ {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		if i%7 == 3 {
			b.Field(1).AppendNull()
			b.Field(2).AppendNull()
			continue
		}
		b.Field(1).(*array.StringBuilder).Append(strings.Repeat("ä", i%5) + fmt.Sprint(i))
		st := b.Field(2).(*array.StructBuilder)
		st.Append(true)
		l := st.FieldBuilder(0).(*array.ListBuilder)
		l.Append(true)
		for j := range i % 3 {
			l.ValueBuilder().(*array.StringBuilder).Append(fmt.Sprint("t", j))
		}
		st.FieldBuilder(1).(*array.BooleanBuilder).Append(i%2 == 0)
	}
	return b.NewRecordBatch()
}

func (e *fakeEngine) note(o query.Options, params arrow.RecordBatch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.options = o
	if params != nil {
		var row []string
		for _, c := range params.Columns() {
			row = append(row, c.ValueStr(0))
		}
		e.params = append(e.params, strings.Join(row, ","))
	}
}

func (e *fakeEngine) lastOptions() query.Options {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.options
}

func (e *fakeEngine) allParams() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.params...)
}

func (e *fakeEngine) Query(ctx context.Context, sql string, params arrow.RecordBatch, o query.Options) (query.Result, error) {
	e.queried.Add(1)
	e.note(o, params)
	if err := e.errs[sql]; err != nil {
		return nil, err
	}
	switch sql {
	case "select panics":
		panic(fmt.Errorf("a secret row"))
	case "select blocked":
		select {
		case <-e.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return e.result(o), nil
}

func (e *fakeEngine) result(o query.Options) query.Result {
	e.open.Add(1)
	return &fakeResult{e: e, o: o, at: 0}
}

func (e *fakeEngine) Describe(_ context.Context, sql string, o query.Options) (result, params *arrow.Schema, err error) {
	e.described.Add(1)
	e.note(o, nil)
	if err := e.errs[sql]; err != nil {
		return nil, nil, err
	}
	if sql == "select open ?" {
		return nil, arrow.NewSchema([]arrow.Field{{Name: "1", Type: arrow.BinaryTypes.String, Nullable: true}}, nil), nil
	}
	if strings.Contains(sql, "?") {
		return numbersSchema, arrow.NewSchema([]arrow.Field{
			{Name: "1", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "2", Type: arrow.BinaryTypes.String, Nullable: true},
		}, nil), nil
	}
	return numbersSchema, nil, nil
}

func (e *fakeEngine) Scan(_ context.Context, r query.ScanRequest, o query.Options) (query.Result, error) {
	e.scanned.Add(1)
	e.note(o, nil)
	e.mu.Lock()
	e.scan = r
	e.mu.Unlock()
	if r.Table.Name() == "absent" {
		return nil, fmt.Errorf("scan %s: %w", r.Table, catalog.ErrNoSuchTable)
	}
	return e.result(o), nil
}

func (e *fakeEngine) Watch(ctx context.Context, r query.WatchRequest, each func(query.Commit) error) error {
	e.open.Add(1)
	defer e.open.Add(-1)
	return e.watch(ctx, r, each)
}

func (e *fakeEngine) Tables(_ context.Context, withSchema bool) ([]query.TableInfo, error) {
	out := []query.TableInfo{
		{Identifier: catalog.Identifier{"analytics", "user_events"}}, {Identifier: catalog.Identifier{"analytics", "user_events_dead"}},
		{Identifier: catalog.Identifier{"a.b", "c", `d"e`}},
	}
	for i := range out {
		if withSchema {
			out[i].Schema = numbersSchema
		}
	}
	return out, nil
}

// fakeResult gives rows of numbers in batches.
type fakeResult struct {
	e    *fakeEngine
	o    query.Options
	at   int
	rec  arrow.RecordBatch
	err  error
	done bool
}

func (r *fakeResult) Schema() *arrow.Schema { return numbersSchema }

func (r *fakeResult) Next(ctx context.Context) bool {
	if r.rec != nil {
		r.rec.Release()
		r.rec = nil
	}
	if r.e.onNext != nil {
		r.e.onNext(ctx)
	}
	if r.err = ctx.Err(); r.err != nil {
		return false
	}
	if r.at >= r.e.rows {
		r.err = r.e.errs["at the end"]
		return false
	}
	to := min(r.at+r.e.batch, r.e.rows)
	r.rec = numbers(r.e.mem, r.at, to)
	r.at = to
	return true
}

func (r *fakeResult) RecordBatch() arrow.RecordBatch { return r.rec }
func (r *fakeResult) Err() error                     { return r.err }

func (r *fakeResult) Pins() []query.Pin {
	return []query.Pin{{
		Table: catalog.Identifier{"analytics", "user_events"}, SnapshotID: 42, Committed: offset.Vector{0: 10, 3: 7},
		End: offset.Vector{0: 12, 3: 7}, Level: query.LevelHot, AsOf: r.o.AsOf, Kind: "newest",
	}}
}

func (r *fakeResult) Release() {
	if r.done {
		panic("released twice")
	}
	r.done = true
	if r.rec != nil {
		r.rec.Release()
	}
	r.e.open.Add(-1)
}

// harness is a server on loopback with a fake engine, checked for leaks of memory and results at the end.
type harness struct {
	t    *testing.T
	eng  *fakeEngine
	srv  *Server
	addr string
	mem  *memory.CheckedAllocator
	reg  *prometheus.Registry
	log  *logtest.Buffer
}

func start(t *testing.T, cfg Config, eng *fakeEngine, tails query.TailSource) *harness {
	t.Helper()
	return startAt(t, cfg, eng, tails, time.Now)
}

func startAt(t *testing.T, cfg Config, eng *fakeEngine, tails query.TailSource, now func() time.Time) *harness {
	t.Helper()
	h := &harness{t: t, eng: eng, mem: memory.NewCheckedAllocator(memory.DefaultAllocator), reg: prometheus.NewRegistry(), log: &logtest.Buffer{}}
	var e query.Engine
	if eng != nil {
		eng.mem = h.mem
		if eng.rows == 0 {
			eng.rows, eng.batch = 1000, 300
		}
		e = eng
	}
	var err error
	h.srv, err = newServer(cfg, e, tails, slog.New(slog.NewTextHandler(h.log, nil)), h.reg, now, h.mem)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = lis.Addr().String()
	served := make(chan error, 1)
	go func() { served <- h.srv.Serve(lis) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if eng != nil && eng.open.Load() != 0 {
			t.Errorf("%d results were not released", eng.open.Load())
		}
		h.mem.AssertSize(t, 0)
	})
	return h
}

// dial returns a client that is closed before the server stops.
func (h *harness) dial(o ClientOptions) *Client {
	h.t.Helper()
	o.Mem = h.mem
	c, err := Dial(context.Background(), h.addr, o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// count reads a result to its end and checks that its rows are the numbers 0…; it releases the result.
func count(t *testing.T, res query.Result, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	n := 0
	for res.Next(context.Background()) {
		b := res.RecordBatch()
		col := b.Column(0).(*array.Int64)
		want := numbers(memory.DefaultAllocator, n, n+int(b.NumRows()))
		if !array.RecordEqual(b, want) {
			t.Fatalf("rows %d to %d differ: first is %d", n, n+int(b.NumRows()), col.Value(0))
		}
		want.Release()
		n += int(b.NumRows())
	}
	if res.Err() != nil {
		t.Fatal(res.Err())
	}
	return n
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

func newParamsWriter(to flight.DataStreamWriter, schema *arrow.Schema) *flight.Writer {
	return flight.NewRecordWriter(to, ipc.WithSchema(schema))
}

// hostileServer sends the same messages to everybody.
type hostileServer struct {
	flight.BaseFlightServer
	ms []*flight.FlightData
}

func (*hostileServer) ListActions(*flight.Empty, flight.FlightService_ListActionsServer) error {
	return nil
}

func (h *hostileServer) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	for _, m := range h.ms {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func (h *hostileServer) ListFlights(_ *flight.Criteria, stream flight.FlightService_ListFlightsServer) error {
	schema := flight.SerializeSchema(numbersSchema, memory.DefaultAllocator)
	schema[8] = 0xF0
	return stream.Send(&flight.FlightInfo{FlightDescriptor: &flight.FlightDescriptor{Path: []string{"a", "b"}}, Schema: schema})
}

// serveFlight serves srv on loopback until the end of the test.
func serveFlight(t *testing.T, srv flight.FlightServer) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	flight.RegisterFlightServiceServer(g, srv)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return lis.Addr().String()
}
