package tracing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/firnlake/firn/internal/units"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector records what reaches an OTLP/HTTP endpoint.
type collector struct {
	mu     sync.Mutex
	body   []byte
	path   string
	header http.Header
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.body, c.path, c.header = append(c.body, b...), r.URL.Path, r.Header.Clone()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// restore leaves no exporter behind for the next test.
func restore(t *testing.T) {
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })
}

func TestOffWithoutAnEndpoint(t *testing.T) {
	restore(t)
	before := otel.GetTracerProvider()
	stop, err := Setup(t.Context(), Config{}, "ingest", "a", "v0", quiet())
	if err != nil {
		t.Fatal(err)
	}
	if otel.GetTracerProvider() != before {
		t.Error("a provider was installed")
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	restore(t)
	c := &collector{}
	srv := httptest.NewServer(c)
	defer srv.Close()
	stop, err := Setup(t.Context(), Config{Endpoint: srv.URL, Headers: map[string]units.Secret{"X-Token": units.NewSecret("s3cret")}},
		"ingest", "host-1", "v1.2.3", quiet())
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(context.Background(), "batch")
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.path != "/v1/traces" || c.header.Get("X-Token") != "s3cret" {
		t.Errorf("path %q, token %q", c.path, c.header.Get("X-Token"))
	}
	for _, want := range []string{"batch", "firn-ingest", "host-1", "v1.2.3"} {
		if !bytes.Contains(c.body, []byte(want)) {
			t.Errorf("the export does not hold %q", want)
		}
	}
}

func TestADeadCollectorDoesNotHoldUpShutdown(t *testing.T) {
	restore(t)
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	var out bytes.Buffer
	stop, err := Setup(t.Context(), Config{Endpoint: srv.URL, Timeout: units.Duration(300 * time.Millisecond)}, "up", "a", "v0",
		slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(context.Background(), "batch")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	if err := stop(ctx); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "spans were not exported") {
		t.Errorf("the loss of the spans was not told: %q", out.String())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("shutdown took %s", took)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]Config{
		"endpoint: \"127.0.0.1:4318\"": {Endpoint: "127.0.0.1:4318"},
		"endpoint: \"ftp://x\"":        {Endpoint: "ftp://x"},
		"put credentials into headers": {Endpoint: "http://me:canary@x:1"},
		"sample_ratio: 2":              {Endpoint: "http://x:1", SampleRatio: 2},
		"timeout: -1s":                 {Endpoint: "http://x:1", Timeout: units.Duration(-time.Second)},
	} {
		_, err := Setup(t.Context(), cfg, "up", "a", "v0", quiet())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%+v: %v; want %q", cfg, err, want)
		}
	}
}

func TestFailedExportsAreLoggedOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	c := &complaint{log: slog.New(slog.NewTextHandler(&out, nil)), endpoint: "http://x"}
	for range 5 {
		c.Handle(errors.New("connection refused"))
	}
	c.last = c.last.Add(-2 * complainEvery)
	c.Handle(errors.New("connection refused"))
	if n := strings.Count(out.String(), "\n"); n != 2 || !strings.Contains(out.String(), "not_logged_before=4") {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}
