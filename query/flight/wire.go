package flight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"google.golang.org/grpc/metadata"

	"github.com/firnlake/firn/catalog"
	"github.com/firnlake/firn/internal/offset"
	"github.com/firnlake/firn/query"
)

// Headers (gRPC metadata) by which a client says what rows a query sees.
const (
	headerLevel      = "x-firn-level"       // hot | committed
	headerAsOf       = "x-firn-as-of"       // RFC 3339
	headerMinOffsets = "x-firn-min-offsets" // table=vector[;table=vector…], or a JSON object
	trailerPins      = "firn-pins"          // JSON, ASCII
)

const (
	maxPinsTrailer = 4 << 10 // bytes; many clients take headers of 8 KiB, all together
	maxMinTables   = 256     // tables named in min-offsets
	commandVersion = 1
)

// command is the JSON that Firn's own clients put into a descriptor or a ticket: {"firn":"scan","table":…}.
type command struct {
	Firn    string `json:"firn"` // scan | sql | tail | watch; tables as the criteria of ListFlights
	Version int    `json:"v,omitempty"`

	Query string `json:"query,omitempty"` // sql

	Table      string   `json:"table,omitempty"`       // scan, tail, watch
	Columns    []string `json:"columns,omitempty"`     // scan
	SnapshotID int64    `json:"snapshot_id,omitempty"` // scan
	From       vector   `json:"from,omitempty"`        // scan, tail
	To         vector   `json:"to,omitempty"`          // scan
	Limit      int64    `json:"limit,omitempty"`       // scan
	Epoch      int64    `json:"epoch,omitempty"`       // tail
	Schema     bool     `json:"schema,omitempty"`      // tables

	After         int64 `json:"after,omitempty"`          // watch: version
	AfterSnapshot int64 `json:"after_snapshot,omitempty"` // watch

	wireOptions
}

// wireOptions is query.Options as JSON.
type wireOptions struct {
	Level      string            `json:"level,omitempty"`
	AsOf       string            `json:"as_of,omitempty"`
	MinOffsets map[string]vector `json:"min_offsets,omitempty"`
}

// vector is an offset.Vector as JSON: written as its coded text, read as that or as {"partition": offset}.
type vector offset.Vector

func (v vector) MarshalJSON() ([]byte, error) {
	if v == nil {
		return []byte("null"), nil
	}
	s, err := offset.Vector(v).Encode()
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

func (v *vector) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		*v = nil
		return nil
	case len(b) > 0 && b[0] == '"':
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		d, err := offset.DecodeVector(s)
		if err != nil {
			return err
		}
		*v = vector(d)
		return nil
	}
	m := map[int32]int64{}
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	for p, o := range m {
		if p < 0 || o < 0 {
			return fmt.Errorf("partition %d at %d: neither can be negative", p, o)
		}
	}
	*v = m
	return nil
}

// isCommand tells Firn's JSON from a Flight SQL protobuf, whose first byte is a field tag and never a brace.
func isCommand(b []byte) bool { return len(b) > 0 && b[0] == '{' }

func parseCommand(b []byte) (command, error) {
	var c command
	if err := strictJSON(b, &c); err != nil {
		return command{}, fmt.Errorf("%w: command: %w", ErrBadRequest, err)
	}
	if c.Version > commandVersion {
		return command{}, fmt.Errorf("%w: command version %d, this server knows up to %d", ErrBadRequest, c.Version, commandVersion)
	}
	return c, nil
}

func strictJSON(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the object")
	}
	return nil
}

func (c command) encode() ([]byte, error) {
	c.Version = commandVersion
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: command: %w", ErrBadRequest, err)
	}
	return b, nil
}

func (c command) table() (catalog.Identifier, error) {
	id, err := catalog.ParseIdentifier(c.Table)
	if err != nil || len(id) < 2 {
		return nil, fmt.Errorf("%w: table %q: want namespace.table", ErrBadRequest, c.Table)
	}
	return id, nil
}

func (c command) scan() (query.ScanRequest, error) {
	id, err := c.table()
	if err != nil {
		return query.ScanRequest{}, err
	}
	if c.Limit < 0 {
		return query.ScanRequest{}, fmt.Errorf("%w: limit %d", ErrBadRequest, c.Limit)
	}
	return query.ScanRequest{
		Table: id, Columns: c.Columns, SnapshotID: c.SnapshotID,
		From: offset.Vector(c.From), To: offset.Vector(c.To), Limit: c.Limit,
	}, nil
}

func scanCommand(r query.ScanRequest, o query.Options) command {
	return command{
		Firn: "scan", Table: quoteIdentifier(r.Table), Columns: r.Columns, SnapshotID: r.SnapshotID,
		From: vector(r.From), To: vector(r.To), Limit: r.Limit, wireOptions: toWire(o),
	}
}

// quoteIdentifier writes id so that catalog.ParseIdentifier reads it back.
func quoteIdentifier(id catalog.Identifier) string {
	parts := make([]string, len(id))
	for i, p := range id {
		if strings.ContainsAny(p, `."`) {
			p = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
		}
		parts[i] = p
	}
	return strings.Join(parts, ".")
}

func toWire(o query.Options) wireOptions {
	w := wireOptions{Level: string(o.Level)}
	if !o.AsOf.IsZero() {
		w.AsOf = o.AsOf.UTC().Format(time.RFC3339Nano)
	}
	if len(o.MinOffsets) > 0 {
		w.MinOffsets = make(map[string]vector, len(o.MinOffsets))
		for t, v := range o.MinOffsets {
			w.MinOffsets[t] = vector(v)
		}
	}
	return w
}

// apply lays what w says over base.
func (w wireOptions) apply(base query.Options) (query.Options, error) {
	switch l := query.Level(w.Level); l {
	case "":
	case query.LevelHot, query.LevelCommitted:
		base.Level = l
	default:
		return base, fmt.Errorf("%w: level %q: want %s or %s", ErrBadRequest, clip(w.Level, 32), query.LevelHot, query.LevelCommitted)
	}
	if w.AsOf != "" {
		t, err := time.Parse(time.RFC3339Nano, w.AsOf)
		if err != nil {
			return base, fmt.Errorf("%w: as-of %q: want RFC 3339 such as 2026-06-04T11:01:23Z", ErrBadRequest, clip(w.AsOf, 64))
		}
		base.AsOf = t
	}
	if len(w.MinOffsets) > maxMinTables {
		return base, fmt.Errorf("%w: min-offsets of %d tables, at most %d", ErrBadRequest, len(w.MinOffsets), maxMinTables)
	}
	if len(w.MinOffsets) > 0 {
		base.MinOffsets = make(map[string]offset.Vector, len(w.MinOffsets))
		for t, v := range w.MinOffsets {
			base.MinOffsets[t] = offset.Vector(v)
		}
	}
	return base, nil
}

// headerOptions lays the headers of a call, and the options of its session, over base. Headers win.
func headerOptions(ctx context.Context, base query.Options) (query.Options, error) {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return base, nil
	}
	base, err := sessionOptions(md).apply(base)
	if err != nil {
		return base, err
	}
	w := wireOptions{Level: lastOf(md, headerLevel), AsOf: lastOf(md, headerAsOf)}
	if w.MinOffsets, err = parseMinOffsets(md.Get(headerMinOffsets)); err != nil {
		return base, fmt.Errorf("%w: %s: %w", ErrBadRequest, headerMinOffsets, err)
	}
	return w.apply(base)
}

func lastOf(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return strings.TrimSpace(v[len(v)-1])
	}
	return ""
}

func parseMinOffsets(values []string) (map[string]vector, error) {
	out := map[string]vector{}
	for _, v := range values {
		if v = strings.TrimSpace(v); strings.HasPrefix(v, "{") {
			m := map[string]vector{}
			if err := strictJSON([]byte(v), &m); err != nil {
				return nil, err
			}
			for t, o := range m {
				out[t] = o
			}
			continue
		}
		for _, part := range strings.Split(v, ";") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			i := strings.LastIndexByte(part, '=') // the coding has none, a quoted name may
			if i < 1 {
				return nil, fmt.Errorf("%q is not table=vector", clip(part, 64))
			}
			o, err := offset.DecodeVector(part[i+1:])
			if err != nil {
				return nil, err
			}
			out[part[:i]] = vector(o)
		}
	}
	return out, nil
}

// wirePin is query.Pin as JSON.
type wirePin struct {
	Table      string `json:"table"`
	SnapshotID int64  `json:"snapshot_id"`
	Committed  vector `json:"committed,omitempty"`
	End        vector `json:"end,omitempty"`
	Level      string `json:"level"`
	AsOf       string `json:"as_of,omitempty"`
	Kind       string `json:"kind"`
}

// answer is the app_metadata of a FlightInfo and of the first message of a stream.
type answer struct {
	Pins []wirePin `json:"pins"`
}

func encodePins(pins []query.Pin, vectors bool) []byte {
	a := answer{Pins: make([]wirePin, len(pins))}
	for i, p := range pins {
		w := wirePin{Table: quoteIdentifier(p.Table), SnapshotID: p.SnapshotID, Level: string(p.Level), Kind: p.Kind}
		if vectors {
			w.Committed, w.End = vector(p.Committed), vector(p.End)
		}
		if !p.AsOf.IsZero() {
			w.AsOf = p.AsOf.UTC().Format(time.RFC3339Nano)
		}
		a.Pins[i] = w
	}
	b, err := json.Marshal(a)
	if err != nil { // a vector that cannot be coded; what it was read from is still worth telling
		return encodePins(pins, false)
	}
	return b
}

func decodePins(b []byte) ([]query.Pin, error) {
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%w: pins: %w", ErrBadRequest, err)
	}
	pins := make([]query.Pin, len(a.Pins))
	for i, w := range a.Pins {
		id, err := catalog.ParseIdentifier(w.Table)
		if err != nil {
			return nil, fmt.Errorf("%w: pins: %w", ErrBadRequest, err)
		}
		pins[i] = query.Pin{
			Table: id, SnapshotID: w.SnapshotID, Committed: offset.Vector(w.Committed), End: offset.Vector(w.End),
			Level: query.Level(w.Level), Kind: w.Kind,
		}
		if w.AsOf != "" {
			if pins[i].AsOf, err = time.Parse(time.RFC3339Nano, w.AsOf); err != nil {
				return nil, fmt.Errorf("%w: pins: %w", ErrBadRequest, err)
			}
		}
	}
	return pins, nil
}

// pinsTrailer is the pins as a trailer: ASCII, without the vectors when they would be too long for a header, and
// nothing when even that is.
func pinsTrailer(pins []query.Pin) metadata.MD {
	for _, vectors := range []bool{true, false} {
		if s := asciiJSON(encodePins(pins, vectors)); len(s) <= maxPinsTrailer {
			return metadata.Pairs(trailerPins, s)
		}
	}
	return nil
}

// asciiJSON escapes what is not ASCII, for gRPC takes nothing else in a header.
func asciiJSON(b []byte) string {
	var s strings.Builder
	for _, r := range string(b) {
		switch {
		case r < 0x80:
			s.WriteRune(r)
		case r > 0xFFFF:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&s, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&s, `\u%04x`, r)
		}
	}
	return s.String()
}
