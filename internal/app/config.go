package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/catalog/client"
	"github.com/firnlake/firn/catalog/server"
	"github.com/firnlake/firn/compaction"
	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/batch"
	"github.com/firnlake/firn/engine/commit"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/dedup"
	"github.com/firnlake/firn/engine/source"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/broker"
	"github.com/firnlake/firn/internal/config"
	"github.com/firnlake/firn/internal/crash"
	"github.com/firnlake/firn/internal/layout"
	"github.com/firnlake/firn/internal/logging"
	"github.com/firnlake/firn/internal/objstore"
	"github.com/firnlake/firn/internal/registry"
	"github.com/firnlake/firn/internal/tracing"
	"github.com/firnlake/firn/internal/units"
	"github.com/firnlake/firn/query"
	"github.com/firnlake/firn/query/flight"
)

// Config is the whole of firn.yaml. Each block is the configuration of the package that it is named after.
type Config struct {
	// Data is the directory for what a process keeps itself: the embedded catalog and broker, caches.
	Data       string            `yaml:"data" jsonschema_description:"Directory for local state: embedded catalog and broker, caches; default ./firn-data."`
	Warehouse  string            `yaml:"warehouse" jsonschema_description:"Where tables lie: s3://bucket/prefix or file:///dir."`
	Storage    Storage           `yaml:"storage" jsonschema_description:"How to reach the object storage of an s3:// warehouse."`
	Kafka      source.Config     `yaml:"kafka" config:"novalidate" jsonschema_description:"The Kafka cluster to read from."`
	Broker     broker.Config     `yaml:"broker" config:"novalidate" jsonschema_description:"The embedded broker of firn up, used when kafka.brokers is empty."`
	Catalog    Catalog           `yaml:"catalog" jsonschema_description:"The Iceberg catalog: served by Firn (listen, store) or elsewhere (uri)."`
	Ingest     Ingest            `yaml:"ingest" jsonschema_description:"What the ingest role serves to queries."`
	Query      Query             `yaml:"query" jsonschema_description:"The Flight SQL service."`
	Compaction compaction.Config `yaml:"compaction" jsonschema_description:"The compactor."`
	HTTP       HTTP              `yaml:"http" jsonschema_description:"Metrics, health and the status page."`
	Log        logging.Config    `yaml:"log" jsonschema_description:"Logging."`
	Tracing    tracing.Config    `yaml:"tracing" jsonschema_description:"OpenTelemetry spans."`
	Pipelines  []Pipeline        `yaml:"pipelines" jsonschema_description:"From which topic into which table."`

	dir string // of the configuration file: relative schema paths start there
}

// Storage says how to reach S3.
type Storage struct {
	Endpoint  string       `yaml:"endpoint" jsonschema_description:"http://host:port or https://host; empty is AWS."`
	Region    string       `yaml:"region" jsonschema_description:"Default us-east-1."`
	AccessKey units.Secret `yaml:"access_key" jsonschema_description:"env:NAME or file:PATH."`
	SecretKey units.Secret `yaml:"secret_key" jsonschema_description:"env:NAME or file:PATH."`
}

// Catalog is Firn's own catalog, or where another one is.
type Catalog struct {
	server.Config `yaml:",inline"`
	// URI names a catalog elsewhere; the roles of this process use it instead of one of their own.
	URI string `yaml:"uri" jsonschema_description:"Base of an Iceberg REST catalog elsewhere, without /v1; several processes on one database separated by commas."`
	// Client tunes how this process reaches a catalog over HTTP.
	Client CatalogClient `yaml:"client" jsonschema_description:"How a catalog over HTTP is reached."`
}

// WithDefaults fills unset fields.
func (c Catalog) WithDefaults() Catalog {
	c.Config = c.Config.WithDefaults()
	return c
}

// scheme is how the catalog of this configuration is reached.
func (c Catalog) scheme() string {
	if c.TLS.Cert != "" {
		return "https://"
	}
	return "http://"
}

// CatalogClient is client.Config without what Catalog says already.
type CatalogClient struct {
	Warehouse   string         `yaml:"warehouse" jsonschema_description:"Sent to catalogs that serve several warehouses."`
	Prefix      string         `yaml:"prefix"`
	Token       units.Secret   `yaml:"token" jsonschema_description:"Bearer token; default catalog.token."`
	ClientID    string         `yaml:"client_id" jsonschema_description:"OAuth2 client that gets its tokens from the catalog, instead of token."`
	Secret      units.Secret   `yaml:"client_secret" jsonschema_description:"Its secret: env:NAME or file:PATH."`
	TokenURI    string         `yaml:"token_uri" jsonschema_description:"Where tokens are asked for; default the catalog's own /v1/oauth/tokens."`
	Scope       string         `yaml:"scope" jsonschema_description:"Scope asked for with a token; default catalog."`
	TLS         client.TLS     `yaml:"tls" jsonschema_description:"For a catalog at https."`
	Timeout     units.Duration `yaml:"timeout"`
	DialTimeout units.Duration `yaml:"dial_timeout"`
	TrustTx     bool           `yaml:"trust_transactions" jsonschema_description:"For a catalog that is not Firn's: rows and dead letters are committed as one transaction. Only where it makes all or nothing of one; Iceberg's reference implementation does not. Without it dead letters are committed before the rows."`
}

// Ingest is the Flight address at which an ingest process hands its newest rows to query processes.
type Ingest struct {
	Listen string `yaml:"listen" jsonschema_description:"Where firn ingest serves its tail to firn query; default 127.0.0.1:31338."`
}

// Query is the Flight SQL service and the SQL engine behind it.
type Query struct {
	flight.Config `yaml:",inline"`
	// Tails are the ingest processes whose newest rows a query process adds to committed ones.
	Tails []string     `yaml:"tails" jsonschema_description:"host:port of the ingest processes; default ingest.listen."`
	SQL   query.Config `yaml:"sql" config:"novalidate" jsonschema_description:"Limits of the SQL engine."`
}

// WithDefaults fills unset fields.
func (q Query) WithDefaults() Query {
	q.Config = q.Config.WithDefaults()
	return q
}

// HTTP is the address of metrics, health and the status page.
type HTTP struct {
	Listen string `yaml:"listen" jsonschema_description:"Default 127.0.0.1:8080."`
	// AllowAnonymous lets everybody who reaches Listen read metrics and status.
	AllowAnonymous bool `yaml:"allow_anonymous" jsonschema_description:"Needed to listen beyond loopback."`
	Profiles       bool `yaml:"profiles" jsonschema_description:"Serve CPU, heap, goroutine and block profiles of this process under /debug/pprof/, for go tool pprof; default false."`
}

// Pipeline moves a topic, or several, into one table.
type Pipeline struct {
	Name   string   `yaml:"name" jsonschema:"required" jsonschema_description:"Names the pipeline's tag in the table; never change it."`
	Topic  string   `yaml:"topic" jsonschema_description:"The Kafka topic that is read; or topics."`
	Topics []string `yaml:"topics" jsonschema_description:"Several topics that go to the one table (docs/routing.md), instead of topic. Their order means nothing; topics can be added and taken out."`
	Format string   `yaml:"format" jsonschema:"enum=json,enum=json_lines,enum=avro,enum=protobuf" jsonschema_description:"Of the events; docs/formats.md says what each becomes."`
	Schema string   `yaml:"schema" jsonschema_description:"Schema file of the events, relative to this file: a JSON Schema for json and json_lines, an .avsc for avro, a .proto or a FileDescriptorSet (.desc) for protobuf."`

	Rest string `yaml:"rest" jsonschema_description:"JSON: column that keeps the fields of an event which schema does not name, together as one JSON object; default: they are read over."`

	Envelope decode.Envelope `yaml:"envelope" jsonschema_description:"Events are changes of a database's rows (docs/formats.md)."`

	Registry registry.Config `yaml:"registry" jsonschema_description:"Schema registry (Confluent's API) that knows the schemas which events name."`
	Subject  string          `yaml:"subject" jsonschema_description:"Without schema: the registry's subject whose newest version the table is made of; default TOPIC-value."`
	Message  string          `yaml:"message" jsonschema_description:"Protobuf: full name of the event's message; default the first of the file."`
	Framing  string          `yaml:"framing" jsonschema:"enum=confluent,enum=none" jsonschema_description:"Protobuf: what stands before an event: Confluent's header (default), or none."`
	Writers  []string        `yaml:"writer_schemas" jsonschema_description:"Avro in single-object encoding: files of older schemas that events may be written with."`

	OnIncompatible string `yaml:"on_incompatible_schema" jsonschema:"enum=stop,enum=dead_letter,enum=new_column" jsonschema_description:"When the table cannot follow the schema of events (docs/formats.md): stop until a person decides (default without schema), make them dead letters (default with schema), or give such fields a column of their own, NAME_v2."`

	// Rules are what the events must keep beside the types of the schema.
	Rules decode.Rules `yaml:"contract" jsonschema_description:"What events must keep beside their types, and what happens to those that do not (docs/formats.md)."`

	Table      string   `yaml:"table" jsonschema_description:"namespace.table; routes name them instead where the topic goes to several."`
	DeadLetter string   `yaml:"dead_letter_table" jsonschema_description:"Default: the table's name with _dead."`
	DeadTopic  string   `yaml:"dead_letter_topic" jsonschema_description:"Kafka topic to which the dead letters go too, after the commit that has them, at least once (docs/dead-letters.md). It has to exist. Default: none."`
	Gaps       string   `yaml:"gaps_table" jsonschema_description:"Names the offsets that Kafka had dropped before they were read (on_gap: record), and is created with the first. Default: the table's name with _gaps."`
	OnGap      string   `yaml:"on_gap" jsonschema:"enum=stop,enum=record" jsonschema_description:"When Kafka's retention was faster than Firn: stop until a person decides (default), or record the gap in gaps_table and go on behind it, in one commit."`
	OnRecreate string   `yaml:"on_topic_recreated" jsonschema_description:"When the topic was deleted and created again: hold, that is stop until a person decides. There is no other way in one table: its offsets mean other records."`
	Partition  []string `yaml:"partition_by" jsonschema_description:"Such as day(metadata.event_timestamp). A change takes effect with the next commit; files that are there stay."`
	SortBy     []string `yaml:"sort_by" jsonschema_description:"Order of the rows inside files, such as key.user_id or metadata.event_timestamp desc nulls last."`
	// Routes, or RouteBy, make one pipeline of each table.
	Routes   []Route  `yaml:"routes" jsonschema_description:"The tables of a topic that goes to several (docs/routing.md)."`
	Match    string   `yaml:"match" jsonschema:"enum=first,enum=all" jsonschema_description:"With routes: an event goes to the first whose condition is true, or to all of them."`
	RouteBy  *RouteBy `yaml:"route_by" jsonschema_description:"Instead of routes: a table for each listed value of a column."`
	Unrouted string   `yaml:"unrouted" jsonschema:"enum=drop,enum=dead_letter" jsonschema_description:"Events that no route takes: counted, or dead letters of the first route. Not with otherwise."`
	// Transform changes rows before they are stored.
	Transform transform.Config `yaml:"transform" jsonschema_description:"Filter, computed columns and masks (docs/transforms.md)."`
	// Dedup drops events that the table has already.
	Dedup dedup.Config `yaml:"dedup" config:"novalidate" jsonschema_description:"Drop events that the table has already, told by an id within a window (docs/deduplication.md); default off."`
	// Layout is how files are written.
	Layout layout.Config `yaml:"layout" jsonschema_description:"Sizes, statistics and Bloom filters of the files (docs/layout.md)."`

	CommitInterval units.Duration `yaml:"commit_interval" jsonschema_description:"Time between two snapshots; default 1s."`
	CatchUp        units.Duration `yaml:"catch_up_interval" jsonschema_description:"Time between two snapshots while everything that is read is behind: batches grow, so that catching up makes few, large files. Default five times commit_interval."`
	MaxMemory      units.Bytes    `yaml:"max_memory" jsonschema_description:"Decoded rows in memory: the batch that fills, the one that is committed and rows kept for queries (docs/routing.md). When it is full the reader waits. Default 160MiB."`
	DrainTimeout   units.Duration `yaml:"drain_timeout"`
	Standby        units.Duration `yaml:"standby"`
	Lateness       units.Duration `yaml:"allowed_lateness" jsonschema_description:"How far the watermark stays behind the newest event; default 1m."`
	TailGrace      units.Duration `yaml:"tail_grace" jsonschema_description:"How long committed rows stay in memory for queries under way, at most a quarter of max_memory; default 5s."`
	Codec          string         `yaml:"codec" jsonschema:"enum=zstd,enum=snappy,enum=lz4,enum=none" jsonschema_description:"Compression of the files; default: what the table says, zstd for a new one."`

	contract []byte // of the embedded demo, instead of a file
}

// WithDefaults fills unset fields.
func (p Pipeline) WithDefaults() Pipeline {
	d := engine.DefaultConfig()
	setDefault(&p.Format, formatJSON)
	setDefault(&p.CommitInterval, d.CommitInterval)
	setDefault(&p.CatchUp, engine.CatchUp(p.CommitInterval))
	setDefault(&p.MaxMemory, d.MaxMemory)
	setDefault(&p.DrainTimeout, d.DrainTimeout)
	setDefault(&p.Standby, d.Standby)
	setDefault(&p.Lateness, defaultLateness)
	setDefault(&p.TailGrace, defaultTailGrace)
	if p.DeadLetter == "" && p.Table != "" {
		p.DeadLetter = p.Table + "_dead"
	}
	if p.Gaps == "" && p.Table != "" {
		p.Gaps = p.Table + "_gaps"
	}
	setDefault(&p.OnGap, d.OnGap)
	p.Dedup = p.Dedup.WithDefaults()
	if p.follows() {
		setDefault(&p.OnIncompatible, decode.Stop)
	}
	setDefault(&p.OnIncompatible, decode.DeadLetter)
	setDefault(&p.OnRecreate, recreatedHold)
	return p
}

// Validate names the first value that cannot be used.
func (p Pipeline) Validate() error {
	if err := p.checkTopics(); err != nil {
		return err
	}
	if err := p.checkFormat(); err != nil {
		return err
	}
	if p.isRouted() {
		return p.checkRoutes()
	}
	switch {
	case p.Match != "" || p.Unrouted != "":
		return errors.New("match: match and unrouted go with routes; take them out")
	case p.Table == "":
		return errors.New("table is missing: name the table, or several in routes (docs/routing.md)")
	}
	for key, name := range map[string]string{"table": p.Table, "dead_letter_table": p.DeadLetter, "gaps_table": p.Gaps} {
		id, err := catalog.ParseIdentifier(name)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if len(id) < 2 {
			return fmt.Errorf("%s: %q has no namespace: write namespace.table", key, name)
		}
	}
	if p.Table == p.DeadLetter {
		return errors.New("dead_letter_table: it must be another table than table")
	}
	if p.DeadTopic != "" && slices.Contains(p.topicNames(), p.DeadTopic) {
		return errors.New("dead_letter_topic: it must be another topic than topic: each dead letter would come back as an event")
	}
	if p.Gaps == p.Table || p.Gaps == p.DeadLetter {
		return errors.New("gaps_table: it must be another table than table and dead_letter_table")
	}
	if !slices.Contains([]string{decode.Stop, decode.DeadLetter, decode.NewColumn}, p.OnIncompatible) {
		return fmt.Errorf("on_incompatible_schema: %q: take stop, dead_letter or new_column", p.OnIncompatible)
	}
	if p.OnIncompatible == decode.NewColumn && p.Transform.Active() {
		return errors.New("on_incompatible_schema: new_column would bring columns that transform has not seen: take stop or dead_letter")
	}
	if err := p.checkDedup(); err != nil {
		return err
	}
	if p.OnRecreate != recreatedHold {
		return fmt.Errorf("on_topic_recreated: %q: %s is the only way in one table, because offsets of two logs would meet in it; give the new topic a table of its own, or state where to read on: firn offsets resolve --this-topic (docs/decisions/0007-topic-generations.md)", p.OnRecreate, recreatedHold)
	}
	if strings.ContainsAny(p.Name, " \t\n\"'/\\") || len(p.Name) > 100 {
		return fmt.Errorf("name: %q: take letters, digits, dots, dashes, at most 100", p.Name)
	}
	if p.Lateness < 0 || p.TailGrace < 0 {
		return errors.New("allowed_lateness: durations cannot be negative")
	}
	return p.engine().Validate()
}

// checkDedup holds deduplication against what else the pipeline does to its rows.
func (p Pipeline) checkDedup() error {
	if err := p.Dedup.Validate(); err != nil {
		return fmt.Errorf("dedup.%w", err)
	}
	if !p.Dedup.Active() {
		return nil
	}
	if p.Format == formatLines {
		return errors.New("dedup: with format json_lines, lines of a record that are dropped could not be told from lost ones: deduplicate in queries, or send an event a record")
	}
	if _, computed := p.Transform.Columns[p.Dedup.Column]; p.Envelope.Type != "" && !computed {
		return fmt.Errorf("dedup.column: %s is the same in many changes of an envelope, and all but the first would be dropped: compute a column in transform that differs for each change, or take dedup out", p.Dedup.Column)
	}
	switch m := p.Transform.Mask[p.Dedup.Column]; m.Method {
	case transform.MethodRedact, transform.MethodTruncate:
		return fmt.Errorf("dedup.column: %s is masked with %s, which makes different ids equal, and events would be lost: take %s or %s", p.Dedup.Column, m.Method, transform.MethodTokenise, transform.MethodHMAC)
	}
	return nil
}

// follows tells that the table follows the schemas that events name. A schema file says what the table is made of, and a
// transform has to have seen every column: nothing new gets past a mask.
func (p Pipeline) follows() bool {
	return p.Schema == "" && p.contract == nil && p.framed() && !p.Transform.Active() && !p.isRouted()
}

// framed tells that events may begin with Confluent's header.
func (p Pipeline) framed() bool {
	return (p.Format == formatAvro || p.Format == formatProtobuf) && p.Framing != framingNone || p.Format == formatJSON && p.Registry.URL != ""
}

func (p Pipeline) engine() engine.Config {
	c := engine.DefaultConfig()
	c.CommitInterval, c.CatchUpInterval, c.OnGap = p.CommitInterval, p.CatchUp, p.OnGap
	c.MaxMemory, c.DrainTimeout, c.Standby = p.MaxMemory, p.DrainTimeout, p.Standby
	return c
}

// batch bounds a batch so that the next one fills while it is committed.
func (p Pipeline) batch() batch.Config {
	c := batch.DefaultConfig()
	c.MaxBytes = min(c.MaxBytes, p.engine().BatchMemory()/2)
	return c
}

// recreatedHold is what a pipeline does when its topic was created again.
const recreatedHold = "hold"

// gapsTable returns the identifier of the gaps table; Validate made sure that it parses.
func (p Pipeline) gapsTable() catalog.Identifier {
	id, _ := catalog.ParseIdentifier(p.Gaps)
	return id
}

// tables returns the identifiers of rows and dead letters; Validate made sure that they parse.
func (p Pipeline) tables() (rows, dead catalog.Identifier) {
	rows, _ = catalog.ParseIdentifier(p.Table)
	dead, _ = catalog.ParseIdentifier(p.DeadLetter)
	return rows, dead
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// WithDefaults fills unset fields, also those that follow from others.
func (c Config) WithDefaults() Config {
	setDefault(&c.Data, "firn-data")
	setDefault(&c.HTTP.Listen, defaultHTTP)
	setDefault(&c.Ingest.Listen, defaultTail)
	if c.Query.Tails == nil {
		c.Query.Tails = []string{c.Ingest.Listen}
	}
	if c.Catalog.S3.Endpoint == "" && strings.HasPrefix(c.Warehouse, "s3://") {
		s := &c.Catalog.S3
		s.Endpoint, s.Region, s.PathStyle = c.Storage.Endpoint, c.Storage.Region, c.Storage.Endpoint != ""
		setDefault(&s.Region, "us-east-1")
		if s.VendStaticCredentials && s.AccessKey.IsZero() {
			s.AccessKey, s.SecretKey = c.Storage.AccessKey, c.Storage.SecretKey
		}
	}
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if c.Catalog.URI != "" {
		if err := c.catalogClient().WithDefaults().Validate(); err != nil {
			return fmt.Errorf("catalog.%w", err)
		}
	}
	if err := localOrSaid("http.listen", c.HTTP.Listen, c.HTTP.AllowAnonymous); err != nil {
		return err
	}
	if _, err := units.CheckListen(c.Ingest.Listen); err != nil {
		return fmt.Errorf("ingest.listen: %w", err)
	}
	if c.Warehouse != "" { // firn up has one of its own
		if err := objstore.CheckURI(c.Warehouse); err != nil {
			return fmt.Errorf("warehouse: %w", err)
		}
	}
	return c.checkPipelines()
}

// checkPipelines holds that no two pipelines, those of routes included, share a name or a table.
func (c Config) checkPipelines() error {
	names, tables := map[string]int{}, map[string]int{}
	for i, p := range c.Pipelines {
		for _, r := range p.routed() {
			if j, ok := names[r.Name]; ok {
				return fmt.Errorf("pipelines[%d].name: %q is the name of pipelines[%d] too: names must differ", i, r.Name, j)
			}
			names[r.Name] = i
			for _, t := range []string{r.Table, r.DeadLetter, r.Gaps} {
				j, ok := tables[t]
				switch {
				case ok && j == i && p.isRouted():
					return fmt.Errorf("pipelines[%d].routes: %q is written by two of them: give each route tables of its own, or join their conditions with or", i, t)
				case ok && !slices.Equal(c.Pipelines[j].topicNames(), p.topicNames()):
					return fmt.Errorf("pipelines[%d].table: %q is written by pipelines[%d] too, from another topic: a table has one pipeline; list all of its topics in topics of that one (docs/routing.md), or give each pipeline a table of its own", i, t, j)
				case ok:
					return fmt.Errorf("pipelines[%d].table: %q is written by pipelines[%d] too: give each pipeline tables of its own", i, t, j)
				}
				tables[t] = i
			}
		}
	}
	return c.checkDeadTopics()
}

// checkDeadTopics refuses topics of dead letters that are read into one another in a circle: a record that no pipeline of it can
// read would go round for ever.
func (c Config) checkDeadTopics() error {
	for i, first := range c.Pipelines {
		reached := []string{first.DeadTopic}
		for n := 0; n < len(reached) && first.DeadTopic != ""; n++ {
			for _, p := range c.Pipelines {
				if !slices.Contains(p.topicNames(), reached[n]) || p.DeadTopic == "" || slices.Contains(reached, p.DeadTopic) {
					continue
				}
				if slices.Contains(first.topicNames(), p.DeadTopic) {
					return fmt.Errorf("pipelines[%d].dead_letter_topic: dead letters of %s come back to it through %s: give one of the pipelines on the way another topic, or none", i, p.DeadTopic, p.topicText())
				}
				reached = append(reached, p.DeadTopic)
			}
		}
	}
	return nil
}

// localOrSaid holds the rule that nothing is reachable from outside unless asked for by name.
func localOrSaid(key, listen string, said bool) error {
	local, err := units.CheckListen(listen)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if local || said {
		return nil
	}
	return fmt.Errorf("%s: %s can be reached from outside: listen on 127.0.0.1, or say allow_anonymous: true beside it", key, listen)
}

func (c Config) catalogClient() client.Config {
	cc := client.Config{URI: c.Catalog.URI, Warehouse: c.Catalog.Client.Warehouse, Prefix: c.Catalog.Client.Prefix, Token: c.Catalog.Client.Token,
		ClientID: c.Catalog.Client.ClientID, ClientSecret: c.Catalog.Client.Secret, TokenURI: c.Catalog.Client.TokenURI, Scope: c.Catalog.Client.Scope,
		TLS: c.Catalog.Client.TLS, Timeout: c.Catalog.Client.Timeout, DialTimeout: c.Catalog.Client.DialTimeout,
		TrustTransactions: c.Catalog.Client.TrustTx}
	if cc.URI == "" {
		cc.URI = c.Catalog.scheme() + c.Catalog.Listen
	}
	if cc.Token.IsZero() && cc.ClientID == "" {
		cc.Token = c.Catalog.Token
	}
	return cc
}

func (c Config) objectStore() objstore.Options {
	return objstore.Options{Endpoint: c.Storage.Endpoint, Region: c.Storage.Region, AccessKey: c.Storage.AccessKey, SecretKey: c.Storage.SecretKey}
}

// LoadConfig reads the file (none: the environment alone) as ReadConfig does, and puts the pipelines that routes stand for in
// the place of those that have routes.
func LoadConfig(path string) (*Config, *config.Sources, error) {
	c, sources, err := ReadConfig(path)
	if err != nil {
		return nil, nil, err
	}
	c.followRoutes()
	return c, sources, nil
}

// followRoutes puts the pipelines that routes stand for in the place of those that have routes.
func (c *Config) followRoutes() {
	var all []Pipeline
	for _, p := range c.Pipelines {
		all = append(all, p.routed()...)
	}
	c.Pipelines = all
}

// ReadConfig reads the file as it is written, and tells where each value came from.
func ReadConfig(path string) (*Config, *config.Sources, error) {
	c := &Config{}
	sources, err := config.LoadWith(path, c, config.Options{Reserved: []string{"FIRN_TEST_", "FIRN_TOOLS", "FIRN_OWNER", crash.Env}})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if path != "" {
		c.dir = filepath.Dir(path)
	}
	return c, sources, nil
}

// readContract returns the pipeline's schema file and the name that errors call it by.
func (c *Config) readContract(p Pipeline) (raw []byte, name string, err error) {
	if p.contract != nil {
		return p.contract, "the built-in contract of the demo", nil
	}
	path := c.beside(p.Schema)
	raw, err = os.ReadFile(path)
	if err != nil {
		return nil, "", fmt.Errorf("%w: pipeline %s: schema: %w", ErrConfig, p.Name, err)
	}
	return raw, path, nil
}

// ValidateConfig checks a file with its contracts and returns how many pipelines it has.
func ValidateConfig(path string) (int, error) {
	c, _, err := LoadConfig(path)
	if err != nil {
		return 0, err
	}
	for _, p := range c.Pipelines {
		f, err := c.newFormat(p, slog.New(slog.DiscardHandler))
		if err != nil {
			return 0, err
		}
		if f.close(); f.contract == nil { // what the registry has is seen when the pipeline runs
			continue
		}
		schema, err := f.schema(f.contract)
		if err == nil {
			err = errors.Join(p.checkLayout(schema), p.Dedup.Check(schema))
		}
		if err != nil {
			return 0, fmt.Errorf("%w: pipeline %s: %w", ErrConfig, p.Name, err)
		}
	}
	return len(c.Pipelines), nil
}

// checkLayout holds what the configuration says of columns against the contract.
func (p Pipeline) checkLayout(sc *iceberg.Schema) error {
	if err := commit.CheckPartitionBy(sc, p.Partition); err != nil {
		return err
	}
	if err := commit.CheckSortBy(sc, p.SortBy); err != nil {
		return err
	}
	return p.Layout.Check(sc)
}

// ConfigSchema is the JSON Schema of the file, with the defaults.
func ConfigSchema() ([]byte, error) {
	c := Config{}
	if _, err := config.Read("", nil, &c, config.Options{Environ: []string{}}); err != nil {
		return nil, err
	}
	return config.Schema(&c)
}
