package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/engine/transform"
	"github.com/firnlake/firn/internal/registry"
)

// The formats of events.
const (
	formatJSON     = "json"
	formatLines    = "json_lines"
	formatAvro     = "avro"
	formatProtobuf = "protobuf"
)

// What stands before an event.
const (
	framingConfluent = "confluent"
	framingNone      = "none"
)

// isJSON tells whether the events are JSON, one or many in a record.
func (p Pipeline) isJSON() bool { return p.Format == formatJSON || p.Format == formatLines }

// format is how the events of one pipeline are read.
type format struct {
	cfg      Pipeline
	contract *decode.Contract // nil: the newest version of the subject in the registry, asked for at each preparation
	writers  []string
	registry *registry.Client // nil without one
	mem      memory.Allocator // of the batches; nil: Go's heap
}

// checkFormat holds what a format needs, and what means nothing with it.
func (p Pipeline) checkFormat() error {
	switch {
	case p.Schema == "" && p.contract == nil && p.isJSON() && p.Registry.URL == "":
		return errors.New("schema: name the JSON Schema file of the events, or registry.url to read what their subject has there")
	case p.Schema == "" && p.contract == nil && p.Registry.URL == "":
		return fmt.Errorf("schema: name the %s schema file of the events, or registry.url to read what their subject has there", p.Format)
	case p.Format == formatLines && p.Registry.URL != "":
		return errors.New("registry: lines name no schema, their contract is the file in schema; take registry out")
	case p.Format == formatJSON && p.Registry.URL == "" && p.Subject != "":
		return errors.New("subject: it is one of a registry's: set registry.url, or take subject out")
	case p.Format == formatJSON && p.Schema == "" && p.contract == nil && p.Envelope.Type != "":
		return errors.New("envelope: in JSON the schema is that of the row, and the registry has that of the whole envelope: name the row's file in schema")
	case !p.isJSON() && p.Rest != "":
		return errors.New("rest: only JSON events have fields that their schema does not name; take it out")
	case p.Format == formatLines && p.Envelope.Type != "":
		return errors.New("envelope: a change event is a record of its own: write format: json")
	case p.Format != formatAvro && len(p.Writers) > 0:
		return errors.New("writer_schemas: they are for Avro's single-object encoding; take them out")
	case p.Format != formatProtobuf && (p.Message != "" || p.Framing != ""):
		return errors.New("message: message and framing are for Protobuf; take them out")
	case p.Framing == framingNone && p.Registry.URL != "" && p.Schema != "":
		return errors.New("framing: without a header nothing names a schema in the registry; take registry out")
	case p.Format == formatLines && p.Transform.Filter != "":
		return errors.New("transform.filter: lines of a record that a filter keeps out could not be told from lost ones: filter in queries, or send an event a record")
	case p.Schema != "" && p.Subject != "":
		return errors.New("subject: schema says already what the table is made of; keep one of them")
	}
	return nil
}

// newFormat reads the pipeline's files, which a person must mend. It asks no server.
func (c *Config) newFormat(p Pipeline, log *slog.Logger) (*format, error) {
	f := &format{cfg: p}
	fail := func(err error) (*format, error) {
		f.close()
		return nil, fmt.Errorf("%w: pipeline %s: %w", ErrConfig, p.Name, err)
	}
	if p.Registry.URL != "" {
		var err error
		if f.registry, err = registry.New(p.Registry, log); err != nil {
			return fail(err)
		}
	}
	for i, path := range p.Writers {
		raw, err := os.ReadFile(c.beside(path))
		if err != nil {
			return fail(fmt.Errorf("writer_schemas[%d]: %w", i, err))
		}
		f.writers = append(f.writers, string(raw))
	}
	if p.Schema == "" && p.contract == nil {
		return f, nil
	}
	raw, name, err := c.readContract(p)
	if err != nil {
		f.close()
		return nil, err
	}
	if f.contract, err = f.load(raw, nil, name); err != nil {
		return fail(err)
	}
	if _, err := f.transform(f.contract); err != nil {
		return fail(err)
	}
	return f, nil
}

// beside is a path as one beside the configuration file.
func (c *Config) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.dir, path)
}

func (f *format) load(raw []byte, refs []registry.Reference, name string) (*decode.Contract, error) {
	c, err := f.loadSchema(raw, refs, name)
	if err != nil {
		return nil, err
	}
	if f.cfg.Format == formatLines {
		c = c.WithLines()
	}
	if f.cfg.Envelope.Type != "" {
		if c, err = c.WithEnvelope(f.cfg.Envelope); err != nil {
			return nil, err
		}
	}
	if f.cfg.Rest != "" {
		if c, err = c.WithRest(f.cfg.Rest); err != nil {
			return nil, err
		}
	}
	if len(f.cfg.Topics) > 0 {
		c = c.WithTopics()
	}
	return c.WithRules(f.cfg.Rules)
}

func (f *format) loadSchema(raw []byte, refs []registry.Reference, name string) (*decode.Contract, error) {
	switch {
	case f.cfg.Format == formatProtobuf && isDescriptorSet(name):
		return decode.LoadDescriptorSet(raw, name, f.cfg.Message)
	case f.cfg.Format == formatProtobuf:
		return decode.LoadProtobuf(raw, refs, name, f.cfg.Message)
	case f.cfg.Format == formatAvro:
		texts := make([]string, len(refs))
		for i, r := range refs {
			texts[i] = r.Text
		}
		return decode.LoadAvro(raw, texts, name)
	}
	return decode.LoadJSONSchema(raw, refs, name)
}

// isDescriptorSet tells a FileDescriptorSet by its name. A subject of the registry's is text.
func isDescriptorSet(name string) bool {
	switch filepath.Ext(name) {
	case ".desc", ".pb", ".protoset", ".binpb":
		return true
	}
	return false
}

// contractNow returns what the table is made of: the file, or what the registry has now.
func (f *format) contractNow(ctx context.Context) (*decode.Contract, error) {
	if f.contract != nil {
		return f.contract, nil
	}
	subject := f.cfg.Subject
	if subject == "" {
		subject = f.cfg.Topic + "-value"
	}
	s, err := f.registry.Latest(ctx, subject)
	if err != nil {
		return nil, err
	}
	if want := registryTypes[f.cfg.Format]; s.Type != want {
		return nil, fmt.Errorf("subject %s is of type %s and format is %s: change one of them", subject, s.Type, f.cfg.Format)
	}
	return f.load([]byte(s.Text), s.References, "the registry's subject "+subject+" (version latest)")
}

var registryTypes = map[string]string{formatAvro: registry.TypeAvro, formatProtobuf: registry.TypeProtobuf, formatJSON: registry.TypeJSON}

// transform is the pipeline's transform on the contract; nil without one.
func (f *format) transform(c *decode.Contract) (*transform.Plan, error) {
	if !f.cfg.Transform.Active() {
		return nil, nil
	}
	return transform.New(f.cfg.Transform, c.IcebergSchema(), transform.Options{EventTime: c.EventTime})
}

// schema is what a table of the contract's events has, after the transform.
func (f *format) schema(c *decode.Contract) (*iceberg.Schema, error) {
	plan, err := f.transform(c)
	if plan == nil {
		return c.IcebergSchema(), err
	}
	return plan.Schema(), nil
}

// decoder makes the decoder of a table with the given schema, transform included; onIncompatible is what it does with events
// that the table cannot follow.
func (f *format) decoder(c *decode.Contract, sc *iceberg.Schema, onIncompatible string) (engine.Decoder, error) {
	plan, err := f.transform(c)
	if err != nil {
		return nil, err
	}
	if plan == nil {
		return f.plainDecoder(c, sc, onIncompatible)
	}
	b, err := plan.Bind(sc)
	if err != nil {
		return nil, err
	}
	dec, err := f.plainDecoder(c, b.DecoderSchema(), onIncompatible)
	if err != nil {
		return nil, err
	}
	letter := decode.NewLetter
	if f.cfg.framed() {
		letter = decode.NewFramedLetter
	}
	return b.Wrap(dec, letter, f.mem)
}

// plainDecoder makes the decoder that reads the events as they are.
func (f *format) plainDecoder(c *decode.Contract, sc *iceberg.Schema, onIncompatible string) (engine.Decoder, error) {
	o := decode.Options{OnIncompatible: onIncompatible, Mem: f.mem}
	var schemas decode.Schemas
	if f.registry != nil {
		schemas = f.registry
	}
	switch f.cfg.Format {
	case formatAvro:
		return decode.NewAvro(c, sc, decode.AvroOptions{Options: o, Schemas: schemas, Writers: f.writers, Follow: f.cfg.follows()})
	case formatProtobuf:
		return decode.NewProtobuf(c, sc, decode.ProtobufOptions{Options: o, Schemas: schemas, Plain: f.cfg.Framing == framingNone, Follow: f.cfg.follows()})
	}
	if f.cfg.framed() {
		return decode.NewFramedJSON(c, sc, decode.JSONOptions{Options: o, Schemas: schemas, Follow: f.cfg.follows()})
	}
	return decode.NewJSON(c, sc, o)
}

// health is the present trouble with the registry; nil when there is none.
func (f *format) health() error {
	if f == nil || f.registry == nil {
		return nil
	}
	return f.registry.Health()
}

// close ends what waits for the registry.
func (f *format) close() {
	if f.registry != nil {
		f.registry.Close()
	}
}
