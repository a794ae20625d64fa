package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/firnlake/firn/catalog/auth"
	"github.com/firnlake/firn/catalog/sqlstore"
	"github.com/firnlake/firn/internal/units"
)

// Config tunes the catalog.
type Config struct {
	// Listen is the address to serve on; default 127.0.0.1:8181. One that others can reach needs a token or AllowAnonymous.
	Listen string `yaml:"listen"`
	// AllowAnonymous lets everybody who reaches Listen read and change every table; default off.
	AllowAnonymous bool `yaml:"allow_anonymous"`
	// Store is the database: sqlite:///abs/path, a plain path, sqlite::memory: for tests, or postgres://user@host/database,
	// which any number of catalogs may share.
	Store string `yaml:"store"`
	// SQLite tunes a store of that kind.
	SQLite sqlstore.Options `yaml:"sqlite"`
	// Postgres tunes a store of that kind.
	Postgres sqlstore.PostgresOptions `yaml:"postgres"`
	// MaterializeInterval is how often tables with new commits get a metadata file without being asked for; default 10s.
	MaterializeInterval units.Duration `yaml:"materialize_interval"`
	// MetadataLog is how many earlier metadata files a new one names, unless the table sets
	// write.metadata.previous-versions-max; default 20.
	MetadataLog int `yaml:"metadata_log"`
	// CachedTables bounds the tables whose lean metadata is held in memory; default 1000.
	CachedTables int `yaml:"cached_tables"`
	// CachedMetadata bounds the complete metadata documents held in memory, all tables together; default 64MiB.
	CachedMetadata units.Bytes `yaml:"cached_metadata"`
	// MaxBody bounds a request's body; default 32MiB.
	MaxBody units.Bytes `yaml:"max_body"`
	// MaxMetadata bounds the metadata file of a table that is registered; default 256MiB.
	MaxMetadata units.Bytes `yaml:"max_metadata"`
	// RequestTimeout bounds the work on one request; default 30s.
	RequestTimeout units.Duration `yaml:"request_timeout"`
	// IdempotencyLifetime is how long the answer to a request with an Idempotency-Key is remembered; default 30m.
	IdempotencyLifetime units.Duration `yaml:"idempotency_lifetime"`
	// HistoryRetention is how long the commit time and offsets of a commit are kept, unless a table says otherwise by the
	// property firn.history.retention; default 0, for ever. At least 1h.
	HistoryRetention units.Duration `yaml:"history_retention"`
	// MaxWatchers bounds the watches of tables that run at the same time; default 1000.
	MaxWatchers int `yaml:"max_watchers"`
	// WatchHeartbeat is how often a watch of a table that stands still shows that it is alive; default 15s.
	WatchHeartbeat units.Duration `yaml:"watch_heartbeat"`
	// AsOf bounds the tables of a past time that other engines ask for.
	AsOf AsOf `yaml:"as_of" jsonschema_description:"Tables of a past time for other engines, as in events__at_20261124T120007Z."`
	// MaxPage bounds a page of a listing; default 1000.
	MaxPage int `yaml:"max_page"`
	// Token, when set, is the bearer token that every request must carry.
	Token units.Secret `yaml:"token"`
	// Auth names those who may use the catalog and says what for. Token, when it is set beside it, may do everything.
	Auth auth.Config `yaml:"auth" jsonschema_description:"Who may use the catalog, and what for. When it names anybody, everybody else is refused."`
	// TLS makes the catalog serve https.
	TLS TLS `yaml:"tls" jsonschema_description:"The server's certificate. Without it the catalog serves http, for this machine or behind a proxy."`
	// RequestsPerSecond bounds what one principal may ask for, RequestBurst how much of it at once; default no bound.
	RequestsPerSecond float64 `yaml:"requests_per_second" jsonschema_description:"Requests a second of one principal; 0 is no limit."`
	RequestBurst      int     `yaml:"request_burst" jsonschema_description:"How many of them at once; default two seconds' worth."`
	// AuditTable keeps the audit trail as a table too.
	AuditTable    []string       `yaml:"audit_table" jsonschema_description:"A table that keeps the audit trail, as a list of its parts: [firn, audit]. It is made when it is missing. Default: the log alone."`
	AuditInterval units.Duration `yaml:"audit_interval" jsonschema_description:"How often entries are written to audit_table; default 1m. A thousand are written at once."`
	// ManifestCheck looks into the manifests of commits.
	ManifestCheck ManifestCheck `yaml:"manifest_check" jsonschema_description:"Whether the files that a commit's manifests name are held against the places where the table's files may lie."`
	// Plan bounds the planning of scans for clients that do not read manifests.
	Plan PlanConfig `yaml:"plan" jsonschema_description:"Bounds of planning scans for clients that do not read manifests themselves."`
	// S3 is what clients are told about the storage.
	S3 S3Properties `yaml:"s3"`
}

// AsOf bounds the tables of a past time.
type AsOf struct {
	Lifetime  units.Duration `yaml:"lifetime" jsonschema_description:"How long at least the files of one stay after it was handed out; default 24h."`
	MaxTables int            `yaml:"max_tables" jsonschema_description:"How many are kept at the same time, all tables together; default 1000."`
	MaxRows   int64          `yaml:"max_rows" jsonschema_description:"Rows of files that hold rows of before and after the time, which must be looked into for one; default 50000000."`
}

func (a AsOf) withDefaults() AsOf {
	if a.Lifetime == 0 {
		a.Lifetime = units.Duration(24 * time.Hour)
	}
	if a.MaxTables == 0 {
		a.MaxTables = 1000
	}
	if a.MaxRows == 0 {
		a.MaxRows = 50_000_000
	}
	return a
}

func (a AsOf) validate() error {
	switch {
	case a.Lifetime.D() < time.Minute || a.Lifetime.D() > 48*time.Hour:
		// Spark and Trino take what no snapshot names for an orphan after three and seven days.
		return fmt.Errorf("as_of.lifetime: %s is not within 1m to 48h", a.Lifetime.D())
	case a.MaxTables < 1 || a.MaxTables > 100_000:
		return fmt.Errorf("as_of.max_tables: %d is not within 1 to 100000", a.MaxTables)
	case a.MaxRows < 1:
		return fmt.Errorf("as_of.max_rows: %d is less than 1", a.MaxRows)
	}
	return nil
}

// S3Properties are handed to clients as s3.* properties.
type S3Properties struct {
	Endpoint  string `yaml:"endpoint"`
	Region    string `yaml:"region"`
	PathStyle bool   `yaml:"path_style"`
	// VendStaticCredentials hands the two keys to every client that may use the catalog; default off.
	VendStaticCredentials bool         `yaml:"vend_static_credentials"`
	AccessKey             units.Secret `yaml:"access_key"`
	SecretKey             units.Secret `yaml:"secret_key"`
	// STS gives clients that ask for them temporary keys to one table's files.
	STS           bool           `yaml:"sts" jsonschema_description:"Gives clients temporary keys (AssumeRole) to the files of the table that they load, and of no other."`
	STSEndpoint   string         `yaml:"sts_endpoint" jsonschema_description:"Where keys are asked for; default the storage's endpoint (MinIO), or AWS's of the region."`
	STSRoleARN    string         `yaml:"sts_role_arn" jsonschema_description:"The role that is assumed; AWS needs one."`
	KeyLifetime   units.Duration `yaml:"key_lifetime" jsonschema_description:"How long such keys are valid, 15m to 12h; default 1h."`
	RemoteSigning bool           `yaml:"remote_signing" jsonschema_description:"Signs the requests that clients send to the storage, one by one; needs no STS."`
}

// WithDefaults fills unset fields.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8181"
	}
	if c.MaterializeInterval == 0 {
		c.MaterializeInterval = units.Duration(10 * time.Second)
	}
	if c.MetadataLog == 0 {
		c.MetadataLog = 20
	}
	if c.CachedTables == 0 {
		c.CachedTables = 1000
	}
	if c.CachedMetadata == 0 {
		c.CachedMetadata = 64 << 20
	}
	if c.MaxBody == 0 {
		c.MaxBody = 32 << 20
	}
	if c.MaxMetadata == 0 {
		c.MaxMetadata = 256 << 20
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = units.Duration(30 * time.Second)
	}
	if c.IdempotencyLifetime == 0 {
		c.IdempotencyLifetime = units.Duration(30 * time.Minute)
	}
	if c.MaxWatchers == 0 {
		c.MaxWatchers = 1000
	}
	if c.WatchHeartbeat == 0 {
		c.WatchHeartbeat = units.Duration(15 * time.Second)
	}
	if c.MaxPage == 0 {
		c.MaxPage = 1000
	}
	if c.RequestBurst == 0 {
		c.RequestBurst = int(min(max(1, 2*c.RequestsPerSecond), 1<<20))
	}
	if c.AuditInterval == 0 {
		c.AuditInterval = units.Duration(time.Minute)
	}
	if c.S3.KeyLifetime == 0 {
		c.S3.KeyLifetime = units.Duration(time.Hour)
	}
	c.AsOf = c.AsOf.withDefaults()
	c.Auth = c.Auth.WithDefaults()
	c.Plan = c.Plan.WithDefaults()
	c.ManifestCheck = c.ManifestCheck.WithDefaults()
	return c
}

// Validate names the first value that cannot be used.
func (c Config) Validate() error {
	if err := sqlstore.CheckDSN(c.Store); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := c.SQLite.WithDefaults().Validate(); err != nil {
		return fmt.Errorf("sqlite: %w", err)
	}
	if err := c.Postgres.WithDefaults().Validate(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := errors.Join(c.AsOf.withDefaults().validate(), c.validateAuth()); err != nil {
		return err
	}
	if err := c.ManifestCheck.WithDefaults().Validate(); err != nil {
		return fmt.Errorf("manifest_check.%w", err)
	}
	if err := c.Plan.WithDefaults().Validate(); err != nil {
		return fmt.Errorf("plan.%w", err)
	}
	switch {
	case c.MaterializeInterval.D() < 100*time.Millisecond:
		return fmt.Errorf("materialize_interval: %s is shorter than 100ms", c.MaterializeInterval.D())
	case c.MetadataLog < 1 || c.MetadataLog > 1000:
		return fmt.Errorf("metadata_log: %d is not within 1 to 1000", c.MetadataLog)
	case c.CachedTables < 1:
		return fmt.Errorf("cached_tables: %d is less than 1", c.CachedTables)
	case c.CachedMetadata < 0:
		return fmt.Errorf("cached_metadata: %d is negative", c.CachedMetadata)
	case c.MaxBody < 1<<10:
		return fmt.Errorf("max_body: %d is less than 1KiB", c.MaxBody)
	case c.MaxMetadata < 1<<10:
		return fmt.Errorf("max_metadata: %d is less than 1KiB", c.MaxMetadata)
	case c.RequestTimeout.D() < 100*time.Millisecond:
		return fmt.Errorf("request_timeout: %s is shorter than 100ms", c.RequestTimeout.D())
	case c.IdempotencyLifetime.D() < time.Minute:
		return fmt.Errorf("idempotency_lifetime: %s is shorter than 1m", c.IdempotencyLifetime.D())
	case c.RequestsPerSecond < 0 || c.RequestsPerSecond > 1e6 || c.RequestsPerSecond != c.RequestsPerSecond:
		return fmt.Errorf("requests_per_second: %v is not within 0 to 1000000", c.RequestsPerSecond)
	case c.RequestBurst < 1:
		return fmt.Errorf("request_burst: %d is less than 1", c.RequestBurst)
	case c.HistoryRetention.D() != 0 && c.HistoryRetention.D() < minHistory:
		return fmt.Errorf("history_retention: %s is shorter than %s: recovery asks for what is newer; 0 keeps all", c.HistoryRetention.D(), minHistory)
	case c.MaxWatchers < 1:
		return fmt.Errorf("max_watchers: %d is less than 1", c.MaxWatchers)
	case c.WatchHeartbeat.D() < 10*time.Millisecond || c.WatchHeartbeat.D() > 30*time.Second:
		return fmt.Errorf("watch_heartbeat: %s is not within 10ms to 30s", c.WatchHeartbeat.D())
	case c.MaxPage < 1:
		return fmt.Errorf("max_page: %d is less than 1", c.MaxPage)
	case c.S3.VendStaticCredentials && (c.S3.AccessKey.Reveal() == "" || c.S3.SecretKey.Reveal() == ""):
		return fmt.Errorf("s3.vend_static_credentials: access_key and secret_key must be set with it")
	}
	return c.S3.validateDelegation()
}

// clientProperties are the s3.* properties of the warehouse.
func (p S3Properties) clientProperties() map[string]string {
	m := map[string]string{}
	if p.Endpoint != "" {
		m["s3.endpoint"] = p.Endpoint
	}
	if p.Region != "" {
		m["s3.region"] = p.Region
		m["client.region"] = p.Region
	}
	if p.PathStyle {
		m["s3.path-style-access"] = "true"
		m["s3.force-virtual-addressing"] = "false"
	}
	if p.VendStaticCredentials {
		m["s3.access-key-id"] = p.AccessKey.Reveal()
		m["s3.secret-access-key"] = p.SecretKey.Reveal()
	}
	return m
}
