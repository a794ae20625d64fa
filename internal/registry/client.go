package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Errors of a Client.
var (
	// ErrNotFound: the registry answers, and does not know the schema.
	ErrNotFound = errors.New("the schema registry does not know the schema")
	// ErrUnavailable: no answer that decides anything. Ask again.
	ErrUnavailable = errors.New("the schema registry does not answer")
	// ErrRefused: the registry wants other credentials. Asking again helps once somebody has mended them.
	ErrRefused = errors.New("the schema registry refuses firn's credentials")
	// ErrUnusable: an answer that no schema can be made of.
	ErrUnusable = errors.New("the schema registry's answer cannot be used")
)

// Types of schemas, as registries name them.
const (
	TypeAvro     = "AVRO"
	TypeProtobuf = "PROTOBUF"
	TypeJSON     = "JSON"
)

// Bounds of what a registry may make the process do.
const (
	maxBodyBytes = 4 << 20 // of an answer
	maxRefs      = 200     // schemas that one refers to, directly or not
	maxRefDepth  = 20
	maxCached    = 1000 // schemas by id
	maxRefused   = 1000 // ids that give no schema

	notFoundLooks = 4 // answers of 404 that make an id unknown
	notFoundPause = 250 * time.Millisecond
	// patience is for how many unknown ids at a time there are several looks. More of them are no news that has yet to
	// get around but garbage, and each look holds up the events behind it.
	patience = 10
	// refusedFor is how long a refused id is taken for refused before the registry is asked again.
	refusedFor = time.Minute

	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// Reference is a schema that another one refers to by name: a type of Avro, a file that Protobuf imports.
type Reference struct {
	Name string
	Text string
}

// Schema is one schema as the registry has it.
type Schema struct {
	ID   int
	Type string // TypeAvro, TypeProtobuf, TypeJSON
	Text string
	// References come each before what refers to it, with those of references.
	References []Reference
}

// Client asks one registry.
type Client struct {
	base  string
	cfg   Config
	http  *http.Client
	log   *slog.Logger
	ctx   context.Context // ends with Close
	close context.CancelFunc
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration)

	mu      sync.Mutex
	byID    map[int]Schema
	refused map[int]refusal
	missing map[string]int // answers of 404 so far, by path: Wait may be over before there were enough
	trouble error
}

// refusal is what the registry last said of an id that gives no schema, and until when that is taken for an answer.
type refusal struct {
	err   error
	until time.Time
}

// New prepares a client and reads its certificate files; it asks nothing yet.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry.%w", err)
	}
	if cfg.URL == "" {
		return nil, errors.New("registry.url: it is missing")
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.TLSClientConfig, tr.MaxIdleConnsPerHost = tc, 2
	c := &Client{base: strings.TrimRight(cfg.URL, "/"), cfg: cfg, log: log, now: time.Now, pause: pause,
		http: &http.Client{Transport: tr, CheckRedirect: sameHost},
		byID: map[int]Schema{}, refused: map[int]refusal{}, missing: map[string]int{}}
	c.ctx, c.close = context.WithCancel(context.Background())
	return c, nil
}

// sameHost follows redirects only on the registry itself, because credentials go along.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

func (c Config) tls() (*tls.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("registry.ca_file: %w", err)
		}
		tc.RootCAs = x509.NewCertPool()
		if !tc.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("registry.ca_file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("registry.cert_file: %w", err)
		}
		tc.Certificates = []tls.Certificate{cert}
	}
	return tc, nil
}

// Close ends requests under way and gives back connections.
func (c *Client) Close() {
	c.close()
	c.http.CloseIdleConnections()
}

// Health is the present trouble with the registry; nil when the last request was answered.
func (c *Client) Health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// Schema is ByID for a caller that waits as long as Config.Wait says, or until Close.
func (c *Client) Schema(id uint32) (Schema, error) { return c.ByID(c.ctx, int(id)) }

// ByID returns the schema of an id.
func (c *Client) ByID(ctx context.Context, id int) (Schema, error) {
	s, looks, err := c.known(id)
	if err != nil || looks == 0 {
		return s, err
	}
	var raw rawSchema
	if err = c.get(ctx, "/schemas/ids/"+strconv.Itoa(id), looks, &raw); err == nil {
		raw.ID = id
		s, err = c.complete(ctx, raw)
	}
	if err != nil {
		err = fmt.Errorf("schema id %d: %w", id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		if len(c.byID) >= maxCached {
			clear(c.byID)
		}
		c.byID[id] = s
		delete(c.refused, id)
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrUnusable):
		if len(c.refused) >= maxRefused {
			clear(c.refused)
		}
		c.refused[id] = refusal{err, c.now().Add(refusedFor)}
	}
	return s, err
}

// known is what the client knows of an id without asking, or how many looks it is worth.
func (c *Client) known(id int) (s Schema, looks int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.byID[id]; ok {
		return s, 0, nil
	}
	now := c.now()
	if r, ok := c.refused[id]; ok && now.Before(r.until) {
		return Schema{}, 0, r.err
	}
	if len(c.refused) < patience {
		return Schema{}, notFoundLooks, nil
	}
	for other, r := range c.refused {
		if !now.Before(r.until) {
			delete(c.refused, other)
		}
	}
	if len(c.refused) < patience {
		return Schema{}, notFoundLooks, nil
	}
	return Schema{}, 1, nil
}

// Latest returns the newest version of a subject. It is asked for each time.
func (c *Client) Latest(ctx context.Context, subject string) (Schema, error) {
	var raw rawSchema
	if err := c.get(ctx, "/subjects/"+url.PathEscape(subject)+"/versions/latest", 1, &raw); err != nil {
		return Schema{}, fmt.Errorf("subject %s: %w", subject, err)
	}
	s, err := c.complete(ctx, raw)
	if err != nil {
		return Schema{}, fmt.Errorf("subject %s: %w", subject, err)
	}
	return s, nil
}

// rawSchema is an answer of /schemas/ids and of /subjects/…/versions.
type rawSchema struct {
	ID         int      `json:"id"`
	Type       string   `json:"schemaType"`
	Schema     *string  `json:"schema"`
	References []rawRef `json:"references"`
}

type rawRef struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// complete fetches what a schema refers to, depth first.
func (c *Client) complete(ctx context.Context, raw rawSchema) (Schema, error) {
	if raw.Schema == nil {
		return Schema{}, fmt.Errorf("%w: it has no schema", ErrUnusable)
	}
	s := Schema{ID: raw.ID, Type: raw.Type, Text: *raw.Schema}
	if s.Type == "" {
		s.Type = TypeAvro
	}
	w := refWalk{client: c, seen: map[string]bool{}}
	err := w.follow(ctx, raw.References, 0)
	s.References = w.out
	return s, err
}

// refWalk collects references. Types of Avro and files of Protobuf have one name each in a schema, however often and
// through whatever version they are referred to.
type refWalk struct {
	client *Client
	seen   map[string]bool
	out    []Reference
}

func (w *refWalk) follow(ctx context.Context, refs []rawRef, depth int) error {
	if depth > maxRefDepth {
		return fmt.Errorf("%w: references nest deeper than %d", ErrUnusable, maxRefDepth)
	}
	for _, r := range refs {
		if w.seen[r.Name] {
			continue
		}
		w.seen[r.Name] = true
		if len(w.seen) > maxRefs {
			return fmt.Errorf("%w: more than %d references", ErrUnusable, maxRefs)
		}
		var raw rawSchema
		// What is deleted softly is still referred to.
		err := w.client.get(ctx, "/subjects/"+url.PathEscape(r.Subject)+"/versions/"+strconv.Itoa(r.Version)+"?deleted=true", notFoundLooks, &raw)
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: it is not there", ErrUnusable)
		}
		if err != nil {
			return fmt.Errorf("reference %s (subject %s, version %d): %w", r.Name, r.Subject, r.Version, err)
		}
		if raw.Schema == nil {
			return fmt.Errorf("%w: reference %s has no schema", ErrUnusable, r.Name)
		}
		if err := w.follow(ctx, raw.References, depth+1); err != nil {
			return err
		}
		w.out = append(w.out, Reference{Name: r.Name, Text: *raw.Schema})
	}
	return nil
}

// get asks until there is an answer that decides, Wait is over, or ctx ends. A schema is missing after so many looks.
func (c *Client) get(ctx context.Context, path string, looks int, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait.D())
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	wait := retryMin
	var last error
	for {
		err := c.once(ctx, path, into)
		if ctx.Err() != nil && c.ctx.Err() == nil && err != nil && last != nil {
			return last // it says more than that the time was over
		}
		last = err
		switch {
		case errors.Is(err, ErrNotFound):
			if c.lookedInVain(path) >= looks {
				c.decided(path)
				return err
			}
			last = fmt.Errorf("%w: it does not know %s yet", ErrUnavailable, path) // should there be no time for another look
			c.pause(ctx, notFoundPause)
		case err == nil || errors.Is(err, ErrUnusable):
			c.decided(path)
			return err
		default:
			c.setTrouble(err)
			c.pause(ctx, wait/2+rand.N(wait/2)) // others wait for the same registry
			wait = min(2*wait, retryMax)
		}
		if c.ctx.Err() != nil {
			return fmt.Errorf("%w: it is not asked any more: %w", ErrUnavailable, context.Canceled)
		}
		if ctx.Err() != nil {
			return last
		}
	}
}

// lookedInVain counts an answer of 404.
func (c *Client) lookedInVain(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missing) >= maxRefused {
		clear(c.missing)
	}
	c.missing[path]++
	return c.missing[path]
}

// decided notes an answer that says something about the schema.
func (c *Client) decided(path string) {
	c.mu.Lock()
	delete(c.missing, path)
	c.mu.Unlock()
	c.setTrouble(nil)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (c *Client) setTrouble(err error) {
	c.mu.Lock()
	was := c.trouble
	c.trouble = err
	c.mu.Unlock()
	switch {
	case was == nil && err != nil:
		c.log.Warn("the schema registry does not answer; asking on", "error", err)
	case was != nil && err == nil:
		c.log.Info("the schema registry answers again")
	}
}

// once asks one time.
func (c *Client) once(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout.D())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	req.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
	c.authorise(req)
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBodyBytes+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: the answer broke off: %w", ErrUnavailable, c.base, err)
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w: %s answers %s: see registry.username and registry.token", ErrRefused, c.base, res.Status)
	case res.StatusCode == http.StatusNotFound && isRegistryAnswer(body):
		return ErrNotFound
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: %s answers %s", ErrUnavailable, c.base, res.Status)
	case len(body) > maxBodyBytes:
		return fmt.Errorf("%w: more than %d bytes", ErrUnusable, maxBodyBytes)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %s does not answer as a schema registry does: %w", ErrUnavailable, c.base, err)
	}
	return nil
}

// isRegistryAnswer tells a registry's 404 from that of a proxy or of a wrong path, which says nothing about a schema:
// a registry's carries an error code (40401 no subject, 40402 no version, 40403 no schema).
func isRegistryAnswer(body []byte) bool {
	var e struct {
		Code int `json:"error_code"`
	}
	return json.Unmarshal(body, &e) == nil && e.Code/100 == http.StatusNotFound
}

func (c *Client) authorise(req *http.Request) {
	switch {
	case !c.cfg.Token.IsZero():
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token.Reveal())
	case c.cfg.Username != "":
		req.SetBasicAuth(c.cfg.Username, c.cfg.Password.Reveal())
	}
}
