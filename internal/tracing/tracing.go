package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/firnlake/firn/internal/units"
)

const (
	maxQueuedSpans = 2048
	// maxLinks is OpenTelemetry's own default; a batch keeps below it with at most 100 sampled producers.
	maxLinks = 128
	// complainEvery is how often a failing export is logged.
	complainEvery = time.Minute
)

// Config says where spans go.
type Config struct {
	// Endpoint is the collector's OTLP/HTTP address, such as http://127.0.0.1:4318; empty turns tracing off.
	Endpoint string `yaml:"endpoint" jsonschema_description:"OTLP/HTTP address of the collector, such as http://127.0.0.1:4318; empty turns tracing off."`
	// SampleRatio is the share of traces that are kept, above 0 up to 1; default 1, which is a trace a second and pipeline.
	SampleRatio float64 `yaml:"sample_ratio" jsonschema_description:"Share of traces that are kept, above 0 up to 1."`
	// Headers are sent with every export, for collectors that want a token.
	Headers map[string]units.Secret `yaml:"headers" jsonschema_description:"HTTP headers sent with every export."`
	// Timeout bounds one export; default 10s.
	Timeout units.Duration `yaml:"timeout" jsonschema_description:"Time that one export may take."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.SampleRatio == 0 {
		c.SampleRatio = 1
	}
	if c.Timeout == 0 {
		c.Timeout = units.Duration(10 * time.Second)
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("endpoint: %q is not an address of the form http://host:port or https://host:port", c.Endpoint)
		}
		if u.User != nil {
			return errors.New("endpoint: it holds a user name or password: put credentials into headers")
		}
	}
	switch {
	case c.SampleRatio <= 0 || c.SampleRatio > 1:
		return fmt.Errorf("sample_ratio: %v is not above 0 and up to 1", c.SampleRatio)
	case c.Timeout.D() <= 0:
		return fmt.Errorf("timeout: %s is not positive", c.Timeout)
	}
	return nil
}

// Setup installs the process's tracer provider and returns what flushes and stops it. The collector need not be up.
// instance tells processes of one role apart.
func Setup(ctx context.Context, cfg Config, role, instance, version string, log *slog.Logger) (shutdown func(context.Context) error, err error) {
	if cfg.Endpoint == "" {
		return func(context.Context) error { return nil }, nil
	}
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	headers := make(map[string]string, len(cfg.Headers))
	for k, v := range cfg.Headers {
		headers[k] = v.Reveal()
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(tracesURL(cfg.Endpoint)),
		otlptracehttp.WithHeaders(headers), otlptracehttp.WithTimeout(cfg.Timeout.D()))
	if err != nil {
		return nil, fmt.Errorf("tracing: exporter to %s: %w", cfg.Endpoint, err)
	}
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = maxLinks
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(maxQueuedSpans), sdktrace.WithExportTimeout(cfg.Timeout.D())),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.SampleRatio))),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "firn-"+role),
			attribute.String("service.version", version),
			attribute.String("service.instance.id", instance))),
	)
	otel.SetErrorHandler(&complaint{log: log, endpoint: cfg.Endpoint})
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return provider.Shutdown, nil
}

// tracesURL appends the path of the protocol unless the address has one of its own.
func tracesURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Path != "" && u.Path != "/" {
		return endpoint
	}
	u.Path = "/v1/traces"
	return u.String()
}

// complaint logs failing exports, at most one a minute: a collector that is down must not fill the log.
type complaint struct {
	log      *slog.Logger
	endpoint string
	mu       sync.Mutex
	last     time.Time
	silent   int
}

// Handle implements otel.ErrorHandler.
func (c *complaint) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.last.IsZero() && now.Sub(c.last) < complainEvery {
		c.silent++
		return
	}
	c.log.Warn("spans were not exported", "endpoint", c.endpoint, "error", err, "not_logged_before", c.silent)
	c.last, c.silent = now, 0
}
