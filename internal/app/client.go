package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query/flight"
)

// Target says which Firn a client verb speaks to. What is empty is taken from the configuration file, then from the
// process that runs on the data directory, then from the default ports.
type Target struct {
	Config  string // firn.yaml
	Data    string // data directory of a local firn up
	URI     string // Flight SQL: host:port or grpc://host:port
	Catalog string // http://host:port; several processes on one database separated by commas
	HTTP    string // host:port or http://host:port of the status page
	Token   units.Secret
}

// Client is what the client verbs share. It connects on first use.
type Client struct {
	cfg    *Config
	flight string
	http   string
	token  units.Secret
	log    *slog.Logger
}

// NewClient resolves the target; nothing is connected yet.
func NewClient(t Target, log *slog.Logger) (*Client, error) {
	cfg, _, err := LoadConfig(t.Config)
	if err != nil {
		return nil, err
	}
	if t.Data != "" {
		cfg.Data = t.Data
	}
	c := &Client{cfg: cfg, flight: cfg.Query.Listen, http: cfg.HTTP.Listen, token: t.Token, log: log}
	if c.token.IsZero() {
		c.token = cfg.Query.Token
	}
	// A configuration without a warehouse is one of firn up, which has its own, and whose flags may have moved its ports.
	if r, ok := FindRunning(cfg.Data); ok && (t.Config == "" || cfg.Warehouse == "") {
		setIf(&c.flight, r.Addresses.Flight)
		setIf(&c.http, r.Addresses.HTTP)
		if r.Addresses.Catalog != "" && cfg.Catalog.URI == "" {
			cfg.Catalog.URI = cfg.Catalog.scheme() + r.Addresses.Catalog
		}
		if r.Addresses.Broker != "" && len(cfg.Kafka.Brokers) == 0 {
			cfg.Kafka.Brokers = []string{r.Addresses.Broker}
		}
		setDefault(&cfg.Warehouse, r.Warehouse)
	}
	if t.Config == "" && len(cfg.Kafka.Brokers) == 0 {
		cfg.Kafka.Brokers = []string{defaultBroker}
	}
	setIf(&c.flight, trimScheme(t.URI))
	setIf(&c.http, trimScheme(t.HTTP))
	if t.Catalog != "" {
		addresses := strings.Split(t.Catalog, ",")
		for i, a := range addresses {
			if a = strings.TrimSpace(a); !strings.Contains(a, "://") {
				a = "http://" + a
			}
			addresses[i] = a
		}
		cfg.Catalog.URI = strings.Join(addresses, ",")
	}
	return c, nil
}

// UseBrokers names the Kafka to speak to instead, as host:port,…
func (c *Client) UseBrokers(list string) {
	c.cfg.Kafka.Brokers = strings.Split(list, ",")
	for i, b := range c.cfg.Kafka.Brokers {
		c.cfg.Kafka.Brokers[i] = strings.TrimSpace(b)
	}
}

func setIf(v *string, s string) {
	if s != "" {
		*v = s
	}
}

func trimScheme(uri string) string {
	if _, rest, ok := strings.Cut(uri, "://"); ok {
		return strings.TrimRight(rest, "/")
	}
	return uri
}

// Flight connects to the Flight SQL service.
func (c *Client) Flight(ctx context.Context) (*flight.Client, error) {
	fc, err := flight.Dial(ctx, c.flight, flight.ClientOptions{Token: c.token})
	if err != nil {
		return nil, fmt.Errorf("flight SQL at %s: %w: start one with firn up, or name it with --uri", c.flight, err)
	}
	return fc, nil
}

// Catalog connects to the catalog.
func (c *Client) Catalog(ctx context.Context) (*client.Client, error) {
	cc := c.cfg.catalogClient()
	cat, err := client.New(ctx, cc, c.log, nil)
	if err != nil {
		return nil, fmt.Errorf("catalog at %s: %w: start one with firn up, or name it with --catalog", cc.URI, err)
	}
	return cat, nil
}

// Warehouse opens the storage that the tables lie in.
func (c *Client) Warehouse(ctx context.Context) (*objstore.Warehouse, error) {
	if c.cfg.Warehouse == "" {
		return nil, fmt.Errorf("%w: the warehouse is not known: no firn up runs on %s, and no configuration names one: name that with -c, or the data directory of a running firn up with --data", ErrUsage, c.cfg.Data)
	}
	wh, err := objstore.Open(ctx, c.cfg.Warehouse, c.cfg.objectStore())
	if err != nil {
		return nil, err
	}
	if err := wh.Check(ctx); err != nil {
		return nil, errors.Join(err, wh.Close())
	}
	return wh, nil
}

const (
	statusTimeout  = 5 * time.Second
	maxStatusBytes = 16 << 20
)

// Status asks a running process for its status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.http+StatusPath, nil)
	if err != nil {
		return Status{}, fmt.Errorf("status of %s: %w", c.http, err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return Status{}, fmt.Errorf("no Firn answers at http://%s: %w: start one with firn up, or name it with --http", c.http, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("http://%s%s answers %s: is this Firn?", c.http, StatusPath, res.Status)
	}
	var s Status
	if err := json.NewDecoder(io.LimitReader(res.Body, maxStatusBytes)).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("http://%s%s: %w: is this Firn?", c.http, StatusPath, err)
	}
	return s, nil
}

// fed is a table with the pipeline that fills it, and what it lies in.
type fed struct {
	*catalog.Table
	pipeline string
	cat      *client.Client
	wh       *objstore.Warehouse
}

// fedTable opens a table that a pipeline fills, by its name.
func (c *Client) fedTable(ctx context.Context, name string) (_ *fed, err error) {
	f := &fed{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.cat, err = c.Catalog(ctx); err != nil {
		return nil, err
	}
	if f.Table, err = c.Table(ctx, f.cat, name, catalog.LoadRefs); err != nil {
		return nil, err
	}
	if f.pipeline, err = c.pipelineOf(f.Table); err != nil {
		return nil, err
	}
	if f.wh, err = c.Warehouse(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// close gives back what was opened; the table and the pipeline's name may be used on.
func (f *fed) close() {
	if f.cat != nil {
		f.cat.Close()
	}
	if f.wh != nil {
		_ = f.wh.Close() // it was read, or every write was confirmed
	}
}

// tableName reads the name that a person typed.
func tableName(name string) (catalog.Identifier, error) {
	id, err := catalog.ParseIdentifier(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if len(id) < 2 {
		return nil, fmt.Errorf("%w: %q has no namespace: write namespace.table", ErrUsage, name)
	}
	return id, nil
}

// Table loads a table by the name that a person typed.
func (c *Client) Table(ctx context.Context, cat catalog.Catalog, name string, how catalog.Load) (*catalog.Table, error) {
	id, err := tableName(name)
	if err != nil {
		return nil, err
	}
	t, err := cat.LoadTable(ctx, id, how)
	if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
		return nil, fmt.Errorf("%w: firn tables lists what there is", err)
	}
	return t, err
}
