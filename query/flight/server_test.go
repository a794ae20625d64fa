package flight

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/hot"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
)

const canary = "tok-7f3a-canary"

func TestATokenIsWantedBeforeAnythingIsParsed(t *testing.T) {
	h := start(t, Config{Token: units.NewSecret(canary)}, &fakeEngine{}, nil)
	for name, o := range map[string]ClientOptions{"none": {}, "wrong": {Token: units.NewSecret("wrong")}} {
		if _, err := Dial(context.Background(), h.addr, o); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A request that could not even be decoded is refused for the token, not for its bytes.
	conn, err := grpc.NewClient(h.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out []byte
	garbage := []byte{0xFF, 0xFF, 0xFF, 0xFF, 0x0F}
	err = conn.Invoke(context.Background(), "/arrow.flight.protocol.FlightService/GetFlightInfo", &garbage, &out)
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("garbage: %v", err)
	}
	c := h.dial(ClientOptions{Token: units.NewSecret(canary)})
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	count(t, res, err)
	if value(h.srv.metrics.requests.WithLabelValues("GetFlightInfo", "Unauthenticated")) != 1 {
		t.Error("the refusal was not counted")
	}
	if strings.Contains(h.log.String(), canary) {
		t.Error("the token is in the log")
	}
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (raw) Name() string                    { return "proto" }

func TestAPasswordIsTradedForTheToken(t *testing.T) {
	h := start(t, Config{Token: units.NewSecret(canary)}, &fakeEngine{}, nil)
	c := h.sqlClient().Client
	ctx, err := c.AuthenticateBasicToken(context.Background(), "anybody", canary)
	if err != nil {
		t.Fatal(err)
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if got := lastOf(md, headerAuthorization); got != "Bearer "+canary {
		t.Errorf("got %q", got)
	}
	if _, err := c.AuthenticateBasicToken(context.Background(), "anybody", "wrong"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("wrong password: %v", err)
	}
}

func TestEveryErrorComesBackAsItself(t *testing.T) {
	eng := &fakeEngine{errs: map[string]error{}}
	for _, w := range wireErrors {
		eng.errs["select "+w.reason] = fmt.Errorf("plan: table analytics.x: %w: detail ü", w.err)
	}
	eng.errs["select other"] = errors.New("something else")
	eng.errs["select long"] = fmt.Errorf("%w: %s", query.ErrInvalidSQL, strings.Repeat("ü", 10<<10))
	h := start(t, Config{}, eng, nil)
	c := h.dial(ClientOptions{})
	for _, w := range wireErrors {
		_, err := c.Query(context.Background(), "select "+w.reason, query.Options{})
		var remote *RemoteError
		if !errors.Is(err, w.err) || !errors.As(err, &remote) || remote.Code != w.code || !strings.Contains(err.Error(), "detail ü") {
			t.Errorf("%s: %v (%+v)", w.reason, err, remote)
		}
	}
	var remote *RemoteError
	if _, err := c.Query(context.Background(), "select other", query.Options{}); !errors.As(err, &remote) || remote.Code != codes.Internal || err.Error() != "something else" {
		t.Errorf("other: %v", err)
	}
	if _, err := c.Query(context.Background(), "select long", query.Options{}); !errors.Is(err, query.ErrInvalidSQL) || len(err.Error()) > maxErrorText {
		t.Errorf("long: %d bytes", len(err.Error()))
	}
}

func TestAnErrorAfterRowsIsNoEnd(t *testing.T) {
	eng := &fakeEngine{errs: map[string]error{"at the end": fmt.Errorf("file x: %w", query.ErrCorrupt)}}
	h := start(t, Config{}, eng, nil)
	c := h.dial(ClientOptions{})
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	n := int64(0)
	for res.Next(context.Background()) {
		n += res.RecordBatch().NumRows()
	}
	if n != 1000 || !errors.Is(res.Err(), query.ErrCorrupt) {
		t.Errorf("%d rows, %v", n, res.Err())
	}
}

func TestAPanicEndsItsCallAlone(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.dial(ClientOptions{})
	_, err := c.Query(context.Background(), "select panics", query.Options{})
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Code != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("err = %v", err)
	}
	log := h.log.String()
	if !strings.Contains(log, "panic in a call") || !strings.Contains(log, "fake_test.go") || strings.Contains(log, "a secret row") {
		t.Errorf("log: %s", log)
	}
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	count(t, res, err)
	if value(h.srv.metrics.panics) != 1 || value(h.srv.metrics.streams) != 0 {
		t.Error("the panic was not counted, or its slot is still taken")
	}
}

func TestConcurrentQueriesAreBounded(t *testing.T) {
	eng := &fakeEngine{block: make(chan struct{})}
	h := start(t, Config{MaxConcurrent: 2}, eng, nil)
	c := h.dial(ClientOptions{})
	results := make(chan error, 2)
	for range 2 {
		go func() {
			res, err := c.Query(context.Background(), "select blocked", query.Options{})
			if err == nil {
				res.Release()
			}
			results <- err
		}()
	}
	eventually(t, "two queries", func() bool { return eng.queried.Load() == 2 })
	if _, err := c.Query(context.Background(), "select numbers", query.Options{}); !errors.Is(err, query.ErrLimit) {
		t.Errorf("the third: %v", err)
	}
	if got := value(h.srv.metrics.streams); got != 2 {
		t.Errorf("%v active streams", got)
	}
	close(eng.block)
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "free slots", func() bool { return len(h.srv.slots) == 0 })
}

// A reader that stops reading stops the query: what is produced ahead of it is bounded by the flow-control windows.
// When it goes away, the query's context ends.
func TestASlowReaderHoldsTheQueryBack(t *testing.T) {
	var (
		produced atomic.Int64
		ended    atomic.Bool
	)
	eng := &fakeEngine{rows: 10_000_000, batch: 2000, onNext: func(ctx context.Context) {
		produced.Add(1)
		context.AfterFunc(ctx, func() { ended.Store(true) })
	}}
	h := start(t, Config{}, eng, nil)
	c := h.dial(ClientOptions{})
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Next(context.Background()) {
		t.Fatal(res.Err())
	}
	// Wait until the production stands still.
	var last int64 = -1
	eventually(t, "a standstill", func() bool {
		was := last
		last = produced.Load()
		time.Sleep(100 * time.Millisecond)
		return last == was
	})
	if last > 300 { // of 5000
		t.Errorf("%d batches were produced for a reader of one", last)
	}
	res.Release()
	eventually(t, "the end of the query", func() bool { return ended.Load() && eng.open.Load() == 0 })
}

func TestNextObeysItsContext(t *testing.T) {
	var quick atomic.Int64 // batches that come at once
	eng := &fakeEngine{onNext: func(ctx context.Context) {
		if quick.Add(-1) < 0 {
			<-ctx.Done()
		}
	}}
	h := start(t, Config{}, eng, nil)
	c := h.dial(ClientOptions{})
	// The schema comes with the first batch, so the call itself waits.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Query(ctx, "select numbers", query.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("query: %v", err)
	}
	quick.Store(2)
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	batches := 0
	for res.Next(ctx) {
		batches++
	}
	if batches != 2 || !errors.Is(res.Err(), context.DeadlineExceeded) {
		t.Errorf("%d batches, then %v", batches, res.Err())
	}
}

func TestLargeBatchesAreCut(t *testing.T) {
	eng := &fakeEngine{rows: 20000, batch: 20000}
	h := start(t, Config{MaxBatch: 64 << 10}, eng, nil)
	c := h.dial(ClientOptions{})
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Release()
	batches, rows := 0, int64(0)
	for res.Next(context.Background()) {
		if got := batchBytes(res.RecordBatch()); got > 64<<10 {
			t.Errorf("a batch of %d bytes", got)
		}
		batches++
		rows += res.RecordBatch().NumRows()
	}
	if res.Err() != nil || rows != 20000 || batches < 5 {
		t.Errorf("%d rows in %d batches, %v", rows, batches, res.Err())
	}
}

// The estimate counts the rows of a slice, not the buffers behind it.
func TestBatchBytesFollowsTheSlice(t *testing.T) {
	rec := numbers(memory.DefaultAllocator, 0, 1000)
	defer rec.Release()
	whole := batchBytes(rec)
	var parts int64
	for i := range int64(10) {
		s := rec.NewSlice(i*100, (i+1)*100)
		n := batchBytes(s)
		if n < whole/20 || n > whole/5 {
			t.Errorf("part %d has %d of %d bytes", i, n, whole)
		}
		parts += n
		s.Release()
	}
	if parts < whole*9/10 || parts > whole*12/10 {
		t.Errorf("the parts have %d, the whole %d", parts, whole)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Int64)}, {Name: "n", Type: arrow.Null}}, nil))
	defer b.Release()
	for range 8 {
		b.Field(0).(*array.FixedSizeListBuilder).Append(true)
		b.Field(0).(*array.FixedSizeListBuilder).ValueBuilder().(*array.Int64Builder).AppendValues([]int64{1, 2, 3, 4}, nil)
		b.Field(1).AppendNull()
	}
	fixed := b.NewRecordBatch()
	defer fixed.Release()
	half := fixed.NewSlice(4, 8)
	defer half.Release()
	if got := batchBytes(half); got < 4*32 || got > 4*32+8 {
		t.Errorf("%d bytes, want about 128", got)
	}
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	eng := &fakeEngine{block: make(chan struct{})}
	h := start(t, Config{}, eng, nil)
	c := h.dial(ClientOptions{})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Query(context.Background(), "select blocked", query.Options{})
		failed <- err
	}()
	eventually(t, "the query", func() bool { return eng.queried.Load() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the query went on")
	}
	if eng.open.Load() != 0 || len(h.srv.slots) != 0 {
		t.Error("a handler still runs")
	}
	if _, err := Dial(context.Background(), h.addr, ClientOptions{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after the end: %v", err)
	}
}

// value reads a counter or gauge.
func value(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		panic(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}

func TestMetricsCount(t *testing.T) {
	h := start(t, Config{}, &fakeEngine{}, nil)
	c := h.dial(ClientOptions{})
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	count(t, res, err)
	_, _ = c.Scan(context.Background(), query.ScanRequest{Table: catalog.Identifier{"x", "absent"}}, query.Options{})
	m := h.srv.metrics
	eventually(t, "the counts", func() bool {
		return value(m.requests.WithLabelValues("DoGet", "OK")) == 1 && value(m.requests.WithLabelValues("DoGet", "NotFound")) == 1
	})
	if got := value(m.rows.WithLabelValues("sql")); got != 1000 {
		t.Errorf("%v rows", got)
	}
	if got := value(m.bytes.WithLabelValues("sql")); got < 30000 {
		t.Errorf("%v bytes", got)
	}
	if _, err := NewServer(Config{}, h.eng, nil, h.srv.log, h.reg); err == nil {
		t.Error("two servers on one registry")
	}
}

func TestAServerOfTailsAloneSaysSo(t *testing.T) {
	h := start(t, Config{}, nil, tailFunc(nil))
	c := h.dial(ClientOptions{})
	if _, err := c.Query(context.Background(), "select 1", query.Options{}); !errors.Is(err, ErrNotServed) {
		t.Errorf("query: %v", err)
	}
	if _, err := c.Tables(context.Background(), false); !errors.Is(err, ErrNotServed) {
		t.Errorf("tables: %v", err)
	}
	sql := h.sqlClient()
	if _, err := sql.Execute(context.Background(), "select 1"); status.Code(err) != codes.Unimplemented {
		t.Errorf("flight sql: %v", err)
	}
	if _, err := sql.Prepare(context.Background(), "select 1"); status.Code(err) != codes.Unimplemented {
		t.Errorf("prepare: %v", err)
	}
	if _, err := newServer(Config{}, nil, nil, h.srv.log, nil, time.Now, nil); err == nil {
		t.Error("a server of nothing")
	}
}

func TestRequestsThatCannotBeUnderstood(t *testing.T) {
	h := start(t, Config{MaxStatement: 2 << 10}, &fakeEngine{}, tailFunc(func() (*hot.Cut, error) { return nil, hot.ErrNoTail }))
	c := h.sqlClient().Client
	for _, ticket := range []string{
		`{`, `{}`, `{"firn":"scan"}`, `{"firn":"scan","table":"one"}`, `{"firn":"drop","table":"a.b"}`, `{"firn":"scan","table":"a.b","unknown":1}`,
		`{"firn":"scan","table":"a.b","limit":-1}`, `{"firn":"scan","table":"a.b","v":99}`, `{"firn":"scan","table":"a.b","from":{"-1":2}}`,
		`{"firn":"scan","table":"a.b","from":"nonsense"}`, `{"firn":"scan","table":"a.b"} trailing`, `{"firn":"sql","query":"x","level":"warm"}`,
		`{"firn":"sql","query":"x","as_of":"yesterday"}`, `{"firn":"tail","table":"b"}`, "", "\x00\x01\x02", "\x0a\x03abc",
	} {
		stream, err := c.DoGet(context.Background(), &flight.Ticket{Ticket: []byte(ticket)})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("ticket %q: %v", ticket, err)
		}
	}
	long := `{"firn":"sql","query":"` + strings.Repeat("x", 3<<10) + `"}`
	stream, err := c.DoGet(context.Background(), &flight.Ticket{Ticket: []byte(long)})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a long statement: %v", err)
	}
	for _, kv := range [][2]string{{headerLevel, "warm"}, {headerAsOf, "noon"}, {headerMinOffsets, "a.b"}, {headerMinOffsets, "a.b=?"}, {headerMinOffsets, "{"}} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), kv[0], kv[1])
		if _, err := h.sqlClient().Execute(ctx, "select 1"); status.Code(err) != codes.InvalidArgument {
			t.Errorf("header %v: %v", kv, err)
		}
	}
	exchange, err := c.DoExchange(context.Background())
	if err == nil {
		_, err = exchange.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("exchange: %v", err)
	}
}

func TestTLS(t *testing.T) {
	certFile, keyFile, pool := selfSigned(t)
	h := start(t, Config{TLS: TLS{Cert: certFile, Key: keyFile}}, &fakeEngine{}, nil)
	c, err := Dial(context.Background(), "grpc+tls://"+h.addr, ClientOptions{TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Mem: h.mem})
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Query(context.Background(), "select numbers", query.Options{})
	count(t, res, err)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(context.Background(), h.addr, ClientOptions{}); !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without TLS: %v", err)
	}
	if _, err := NewServer(Config{TLS: TLS{Cert: certFile, Key: certFile}}, h.eng, nil, h.srv.log, nil); err == nil {
		t.Error("a key that is none")
	}
}

// selfSigned writes a certificate for 127.0.0.1.
func selfSigned(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "firn"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}
