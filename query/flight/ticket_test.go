package flight

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	pb "github.com/apache/arrow-go/v18/arrow/flight/gen/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

func TestATicketIsSignedAndExpires(t *testing.T) {
	k, err := newTicketKey("secret")
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_000_000)
	want := statement{Query: "select 'ü'", Options: wireOptions{Level: "hot"}, Params: []byte{1, 2}}
	b, err := k.seal(want, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.open(b, now)
	if err != nil || got.Query != want.Query || got.Options.Level != "hot" || !slices.Equal(got.Params, want.Params) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := k.open(b, now.Add(time.Minute)); !errors.Is(err, ErrBadTicket) {
		t.Errorf("after its time: %v", err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, err := k.open(bad, now); !errors.Is(err, ErrBadTicket) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range b {
		if _, err := k.open(b[:n], now); !errors.Is(err, ErrBadTicket) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	other, _ := newTicketKey("another")
	if _, err := other.open(b, now); !errors.Is(err, ErrBadTicket) {
		t.Errorf("another token: %v", err)
	}
	same, _ := newTicketKey("secret")
	if _, err := same.open(b, now); err != nil {
		t.Errorf("a replica: %v", err)
	}
	a1, _ := newTicketKey("")
	a2, _ := newTicketKey("")
	if a1 == a2 {
		t.Error("two servers without a token share a key")
	}
}

// A ticket of one replica is served by another with the same token.
func TestAReplicaServesTheTicket(t *testing.T) {
	cfg := Config{Token: units.NewSecret(canary)}
	a := start(t, cfg, &fakeEngine{rows: 5, batch: 5}, nil)
	b := start(t, cfg, &fakeEngine{rows: 5, batch: 5}, nil)
	login := func(h *harness) (context.Context, flight.Client) {
		c := h.sqlClient().Client
		ctx, err := c.AuthenticateBasicToken(context.Background(), "x", canary)
		if err != nil {
			t.Fatal(err)
		}
		return ctx, c
	}
	ctx, ca := login(a)
	_, cb := login(b)
	cmd, err := anyBytes(&pb.CommandStatementQuery{Query: "select numbers"})
	if err != nil {
		t.Fatal(err)
	}
	info, err := ca.GetFlightInfo(ctx, &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: cmd})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := cb.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		t.Fatal(err)
	}
	r, err := flight.NewRecordReader(stream)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() || r.RecordBatch().NumRows() != 5 || a.eng.queried.Load() != 0 || b.eng.queried.Load() != 1 {
		t.Errorf("err = %v", r.Err())
	}
	for r.Next() {
	}
}

func TestPreparedStatementsExpire(t *testing.T) {
	clock := time.Unix(1000, 0)
	s := newPreparedSet(Config{MaxHandles: 2, MaxBound: 100, HandleTTL: units.Duration(time.Minute)}, func() time.Time { return clock })
	add := func(want error) string {
		t.Helper()
		id, err := s.add(prepared{query: "q"})
		if !errors.Is(err, want) {
			t.Fatalf("err = %v, want %v", err, want)
		}
		return id
	}
	a, b := add(nil), add(nil)
	add(query.ErrLimit)
	if err := errors.Join(s.bind(a, make([]byte, 60)), s.bind(b, make([]byte, 40))); err != nil {
		t.Fatal(err)
	}
	if err := s.bind(b, make([]byte, 41)); !errors.Is(err, query.ErrLimit) {
		t.Errorf("err = %v", err)
	}
	clock = clock.Add(59 * time.Second)
	if _, err := s.get(b); err != nil { // used: lives on
		t.Fatal(err)
	}
	clock = clock.Add(time.Second)
	if err := s.bind(b, make([]byte, 100)); err != nil { // a has gone and left room
		t.Errorf("err = %v", err)
	}
	if _, err := s.get(a); !errors.Is(err, ErrNoHandle) {
		t.Errorf("err = %v", err)
	}
	c := add(nil)
	clock = clock.Add(time.Hour)
	if _, err := s.get(c); !errors.Is(err, ErrNoHandle) {
		t.Errorf("err = %v", err)
	}
	add(nil)
	if s.len() != 1 || s.bound != 0 {
		t.Errorf("%d statements hold %d bytes", s.len(), s.bound)
	}
	s.drop("nothing")
}

// hostilePut binds with raw messages.
func hostilePut(t *testing.T, h *harness, handle []byte, ms ...*flight.FlightData) error {
	t.Helper()
	stream, err := h.sqlClient().Client.DoPut(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := anyBytes(&pb.CommandPreparedStatementQuery{PreparedStatementHandle: handle})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range ms {
		if i == 0 && m.FlightDescriptor == nil {
			m.FlightDescriptor = &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: cmd}
		}
		if err := stream.Send(m); err != nil {
			break // the answer tells why
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	return fromStatus(err)
}

func TestHostilePuts(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{rows: 1, batch: 1}, nil)
	st, err := h.sqlClient().Prepare(context.Background(), "select ? ?")
	if err != nil {
		t.Fatal(err)
	}
	p := params(h.mem, []int64{1}, []string{"one"})
	defer p.Release()
	var sent sentData
	w := newParamsWriter(&sent, p.Schema())
	if err := errors.Join(w.Write(p), w.Close()); err != nil {
		t.Fatal(err)
	}
	clone := func(i int) *flight.FlightData { return proto.Clone(sent[i]).(*flight.FlightData) }
	damaged := func(i int) *flight.FlightData {
		d := clone(i)
		d.DataHeader[len(d.DataHeader)/2] ^= 0xFF
		d.DataHeader[0] = 0xF0 // the root points far away
		return d
	}
	nowhere := &flight.FlightDescriptor{}
	for name, ms := range map[string][]*flight.FlightData{
		"damaged schema":  {damaged(0), clone(1)},
		"damaged batch":   {clone(0), damaged(1)},
		"batch first":     {clone(1)},
		"body alone":      {clone(0), {DataBody: []byte{1}}},
		"empty command":   {{FlightDescriptor: nowhere, DataHeader: sent[0].DataHeader}},
		"schema twice":    {clone(0), clone(0)},
		"descriptor only": {{FlightDescriptor: &flight.FlightDescriptor{Cmd: []byte{0xFF}}}},
	} {
		var remote *RemoteError
		if err := hostilePut(t, h, st.Handle(), ms...); !errors.As(err, &remote) || remote.Code.String() != "InvalidArgument" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := value(h.srv.metrics.panics); got != 0 {
		t.Errorf("%v panics:\n%s", got, h.log)
	}
	if err := hostilePut(t, h, st.Handle(), clone(0), &flight.FlightData{AppMetadata: []byte("x")}, clone(1)); err != nil {
		t.Errorf("metadata in between: %v", err)
	}
	if err := hostilePut(t, h, []byte("unknown"), clone(0), clone(1)); !errors.Is(err, ErrNoHandle) {
		t.Errorf("unknown handle: %v", err)
	}
	if err := st.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

type sentData []*flight.FlightData

func (s *sentData) Send(d *flight.FlightData) error {
	*s = append(*s, proto.Clone(d).(*flight.FlightData))
	return nil
}

// A server that sends damaged messages harms no client.
func TestAHostileServer(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	p := params(mem, []int64{1}, []string{"one"})
	defer p.Release()
	var sent sentData
	w := newParamsWriter(&sent, p.Schema())
	if err := errors.Join(w.Write(p), w.Close()); err != nil {
		t.Fatal(err)
	}
	sent[1].DataHeader[0] = 0xF0
	addr := serveFlight(t, &hostileServer{ms: sent})
	c, err := Dial(context.Background(), addr, ClientOptions{Mem: mem})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent[0].AppMetadata = []byte(`{"pins":[]}`)
	res, err := c.Query(context.Background(), "x", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.Next(context.Background()) || res.Err() == nil {
		t.Errorf("a damaged batch was read, %v", res.Err())
	}
	res.Release()
	res.Release() // twice is once
	sent[0].AppMetadata = []byte(`not pins`)
	if _, err := c.Query(context.Background(), "x", query.Options{}); err == nil {
		t.Error("pins that are none")
	}
	if _, err := c.Tables(context.Background(), true); err == nil {
		t.Error("a table with a damaged schema was listed")
	}
}

func FuzzTicket(f *testing.F) {
	k, err := newTicketKey("fuzz")
	if err != nil {
		f.Fatal(err)
	}
	good, err := k.seal(statement{Query: "select 1"}, time.UnixMilli(1<<50))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := k.open(b, time.UnixMilli(0)); err == nil && !slices.Equal(b, good) {
			t.Fatalf("forged: %x", b)
		}
		var a anypb.Any
		_ = proto.Unmarshal(b, &a)
	})
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		`{"firn":"scan","v":1,"table":"\"a.b\".c","columns":["x"],"from":{"0":5},"to":"1AgEAAgc","limit":3,"level":"hot","as_of":"2026-06-04T11:01:23Z"}`,
		`{"firn":"tail","table":"a.b","from":null,"epoch":3}`, `{"firn":"sql","query":"select 1","min_offsets":{"a.b":{"1":2}}}`, `{`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommand(b)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			return // partitions beyond what the coding takes
		}
		d, err := parseCommand(again)
		if err != nil {
			t.Fatalf("%s came back as %s: %v", b, again, err)
		}
		if third, err := d.encode(); err != nil || string(third) != string(again) {
			t.Fatalf("%s, then %s (%v)", again, third, err)
		}
		if r, err := c.scan(); err == nil {
			s := scanCommand(r, query.Options{})
			if s.Table == "" || s.Limit != c.Limit {
				t.Fatalf("%+v", s)
			}
			if back, err := s.table(); err != nil || !slices.Equal(back, r.Table) {
				t.Fatalf("table %q came back as %q, %v", r.Table, back, err)
			}
		}
		if o, err := c.apply(query.Options{}); err == nil {
			if _, err := toWire(o).apply(query.Options{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzMinOffsets(f *testing.F) {
	f.Add("a.b=1AgEAAgc;c=1AAA")
	f.Add(`{"a.b":{"0":1}}`)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMinOffsets([]string{s})
		if err != nil {
			return
		}
		for table, v := range m {
			for p, o := range v {
				if p < 0 || o < 0 {
					t.Fatalf("%q: %s at %d:%d", s, table, p, o)
				}
			}
		}
	})
}
