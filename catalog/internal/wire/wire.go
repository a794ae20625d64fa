package wire

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/view"

	"github.com/firnlake/firn/catalog"
)

// LeanHeader, set to "1" on a load or a commit, asks Firn's catalog for a lean answer: only referenced
// snapshots, and a metadata-location that may be older than the metadata beside it, or empty.
const LeanHeader = "X-Firn-Lean"

// VersionHeader carries the catalog's version of the table in an answer.
const VersionHeader = "X-Firn-Version"

// Separator joins the parts of a namespace in a URL.
const Separator = "\x1f"

// Iceberg's exception names, which travel as the error's type.
const (
	TypeNoSuchTable     = "NoSuchTableException"
	TypeNoSuchView      = "NoSuchViewException"
	TypeNoSuchNamespace = "NoSuchNamespaceException"
	TypeAlreadyExists   = "AlreadyExistsException"
	TypeNotEmpty        = "NamespaceNotEmptyException"
	TypeCommitFailed    = "CommitFailedException"
	TypeCommitUnknown   = "CommitStateUnknownException"
	TypeBadRequest      = "BadRequestException"
	TypeIllegalArgument = "IllegalArgumentException"
	TypeUnprocessable   = "UnprocessableEntityException"
	TypeUnsupported     = "UnsupportedOperationException"
	TypeNotAuthorized   = "NotAuthorizedException"
	TypeForbidden       = "ForbiddenException"
	TypeTooMany         = "TooManyRequestsException"
	TypeUnavailable     = "ServiceUnavailableException"
	TypeInternal        = "InternalServerError"
	TypeNoSuchEndpoint  = "NoSuchEndpointException"
	TypeNoHistory       = "NoHistoryException"  // Firn's own
	TypeWatchEnded      = "WatchEndedException" // Firn's own
)

// ErrorModel is the body of every answer that is not a success.
type ErrorModel struct {
	Error struct {
		Message string   `json:"message"`
		Type    string   `json:"type"`
		Code    int      `json:"code"`
		Stack   []string `json:"stack,omitempty"`
	} `json:"error"`
}

// Config is the answer of GET /v1/config.
type Config struct {
	Defaults  map[string]string `json:"defaults"`
	Overrides map[string]string `json:"overrides"`
	Endpoints []string          `json:"endpoints,omitempty"`
	// KeyLifetime is how long an idempotency key is remembered at least, in ISO 8601; absent where none is.
	KeyLifetime string `json:"idempotency-key-lifetime,omitempty"`
}

// Namespace is a namespace with its properties.
type Namespace struct {
	Namespace  []string          `json:"namespace"`
	Properties map[string]string `json:"properties"`
}

// Namespaces is a page of namespaces.
type Namespaces struct {
	Namespaces [][]string `json:"namespaces"`
	Next       *string    `json:"next-page-token"`
}

// UpdateProperties changes a namespace's properties.
type UpdateProperties struct {
	Removals []string          `json:"removals"`
	Updates  map[string]string `json:"updates"`
}

// UpdatedProperties says what UpdateProperties did.
type UpdatedProperties struct {
	Updated []string `json:"updated"`
	Removed []string `json:"removed"`
	Missing []string `json:"missing"`
}

// TableIdentifier names a table in a body.
type TableIdentifier struct {
	Namespace []string `json:"namespace"`
	Name      string   `json:"name"`
}

// ID returns it as an identifier.
func (t TableIdentifier) ID() catalog.Identifier {
	return append(append(catalog.Identifier{}, t.Namespace...), t.Name)
}

// NewTableIdentifier is the inverse of ID.
func NewTableIdentifier(id catalog.Identifier) TableIdentifier {
	return TableIdentifier{Namespace: id.Namespace(), Name: id.Name()}
}

// Tables is a page of tables.
type Tables struct {
	Identifiers []TableIdentifier `json:"identifiers"`
	Next        *string           `json:"next-page-token"`
}

// CreateTable creates a table or, staged, prepares one.
type CreateTable struct {
	Name       string                        `json:"name"`
	Location   string                        `json:"location,omitempty"`
	Schema     *iceberg.Schema               `json:"schema"`
	Partition  *iceberg.UnboundPartitionSpec `json:"partition-spec,omitempty"`
	WriteOrder *table.UnboundSortOrder       `json:"write-order,omitempty"`
	Stage      bool                          `json:"stage-create,omitempty"`
	Properties map[string]string             `json:"properties,omitempty"`
}

// RegisterTable makes a table of a metadata file that exists.
type RegisterTable struct {
	Name             string `json:"name"`
	MetadataLocation string `json:"metadata-location"`
	Overwrite        bool   `json:"overwrite,omitempty"`
}

// CommitTable is one table's commit.
type CommitTable struct {
	Identifier   *TableIdentifier   `json:"identifier,omitempty"`
	Requirements table.Requirements `json:"requirements"`
	Updates      table.Updates      `json:"updates"`
}

// CreateView creates a view.
type CreateView struct {
	Name       string            `json:"name"`
	Location   string            `json:"location,omitempty"`
	Schema     *iceberg.Schema   `json:"schema"`
	Version    *view.Version     `json:"view-version"`
	Properties map[string]string `json:"properties"`
}

// CommitView is a view's commit.
type CommitView struct {
	Identifier   *TableIdentifier  `json:"identifier,omitempty"`
	Requirements view.Requirements `json:"requirements"`
	Updates      view.Updates      `json:"updates"`
}

// CommitTransaction is several tables' commit.
type CommitTransaction struct {
	Changes []CommitTable `json:"table-changes"`
}

// Rename moves a table.
type Rename struct {
	Source      TableIdentifier `json:"source"`
	Destination TableIdentifier `json:"destination"`
}

// LoadTable is the answer that carries a table or a view; Config is absent from a commit's.
type LoadTable struct {
	MetadataLocation *string           `json:"metadata-location,omitempty"`
	Metadata         json.RawMessage   `json:"metadata"`
	Config           map[string]string `json:"config,omitempty"`
	// Credentials are temporary keys to the table's files.
	Credentials []StorageCredential `json:"storage-credentials,omitempty"`
}

// AccessHeader lists the ways in which a client can be given access to a table's files.
const AccessHeader = "X-Iceberg-Access-Delegation"

// The ways.
const (
	AccessVended = "vended-credentials"
	AccessSigned = "remote-signing"
)

// StorageCredential is what a client needs for the files below a prefix.
type StorageCredential struct {
	Prefix string            `json:"prefix"`
	Config map[string]string `json:"config"`
}

// Credentials is the answer to a request for fresh keys.
type Credentials struct {
	Credentials []StorageCredential `json:"storage-credentials"`
}

// SignRequest is a request to the storage that a client wants to send.
type SignRequest struct {
	Region   string              `json:"region"`
	URI      string              `json:"uri"`
	Method   string              `json:"method"`
	Headers  map[string][]string `json:"headers"`
	Body     string              `json:"body,omitempty"`
	Provider string              `json:"provider,omitempty"`
}

// SignedRequest is what to send instead: these headers are added.
type SignedRequest struct {
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers"`
}

// EncodeSegment writes a name as one path segment: everything but letters, digits, '_' and '-' is escaped,
// so that no name is a dot segment and '+' is never taken for a space.
func EncodeSegment(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// DecodeSegment is the inverse. Iceberg's own client encodes names as form values, where '+' is a space.
func DecodeSegment(s string) (string, error) {
	d, err := url.QueryUnescape(s)
	if err != nil {
		return "", fmt.Errorf("path segment %q: %w", s, err)
	}
	return d, nil
}

// EncodeNamespace writes a namespace as one path segment.
func EncodeNamespace(ns catalog.Identifier) string { return EncodeSegment(strings.Join(ns, Separator)) }

// DecodeNamespace splits an unescaped namespace into its parts.
func DecodeNamespace(s string) catalog.Identifier { return strings.Split(s, Separator) }

// History is Firn's own answer to "what was committed by then".
type History struct {
	Version    int64  `json:"version"`
	AtMS       int64  `json:"at-ms"`
	SnapshotID int64  `json:"snapshot-id"`
	Offsets    string `json:"offsets,omitempty"`
}

// Histories is a page of the history, the newest first.
type Histories struct {
	Entries []History `json:"entries"`
}

// Pruned says how many entries of a history went, or would go.
type Pruned struct {
	Entries int64 `json:"entries"`
	DryRun  bool  `json:"dry-run"`
}

// The events of a watch, and why one ends.
const (
	EventCommit = "commit" // data is History: main moved
	EventChange = "change" // data is Change: something else did
	EventEnd    = "end"    // data is End

	EndAgain = "again" // connect again, with the last event's id
	EndAnew  = "anew"  // load the table and begin at its version
	EndGone  = "gone"  // the table is not there any more
)

// Change is an event that carries nothing but the table's version.
type Change struct {
	Version int64 `json:"version"`
}

// End is the last event of a stream.
type End struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}
