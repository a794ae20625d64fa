package decode

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/avro"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/firnlake/firn/bench/events"
	"github.com/firnlake/firn/engine"
	firn "github.com/firnlake/firn/engine/decode"
	"github.com/firnlake/firn/internal/registry"
)

// The demo's contract in Avro and Protobuf: the same columns as the JSON Schema gives, event_type as text too.
const (
	avroSchema = `{"type":"record","name":"user_event","fields":[
		{"name":"schema_version","type":"int"},{"name":"event_id","type":"string"},{"name":"event_type","type":"string"},
		{"name":"key","type":{"type":"record","name":"key","fields":[{"name":"user_id","type":"string"},{"name":"session_id","type":"string"}]}},
		{"name":"payload","type":{"type":"record","name":"payload","fields":[{"name":"page","type":["null","string"]},{"name":"referrer","type":["null","string"]},
			{"name":"currency","type":["null","string"]},{"name":"amount","type":["null","double"]}]}},
		{"name":"metadata","type":{"type":"record","name":"metadata","fields":[{"name":"event_timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
			{"name":"trace_id","type":["null","string"]},{"name":"source","type":["null","string"]}]}}]}`
	protoSchema = `syntax = "proto3"; import "google/protobuf/timestamp.proto";
		message UserEvent { int32 schema_version = 1; string event_id = 2; string event_type = 3; Key key = 4; Payload payload = 5; Metadata metadata = 6; }
		message Key { string user_id = 1; string session_id = 2; }
		message Payload { optional string page = 1; optional string referrer = 2; optional string currency = 3; optional double amount = 4; }
		message Metadata { google.protobuf.Timestamp event_timestamp = 1; optional string trace_id = 2; optional string source = 3; }`
)

// event is the demo's event in Go.
type event struct {
	Version int32  `json:"schema_version" avro:"schema_version"`
	ID      string `json:"event_id" avro:"event_id"`
	Type    string `json:"event_type" avro:"event_type"`
	Key     struct {
		User    string `json:"user_id" avro:"user_id"`
		Session string `json:"session_id" avro:"session_id"`
	} `json:"key" avro:"key"`
	Payload struct {
		Page     *string  `json:"page" avro:"page"`
		Referrer *string  `json:"referrer" avro:"referrer"`
		Currency *string  `json:"currency" avro:"currency"`
		Amount   *float64 `json:"amount" avro:"amount"`
	} `json:"payload" avro:"payload"`
	Metadata struct {
		At     time.Time `json:"event_timestamp" avro:"event_timestamp"`
		Trace  *string   `json:"trace_id" avro:"trace_id"`
		Source *string   `json:"source" avro:"source"`
	} `json:"metadata" avro:"metadata"`
}

// one is a registry of one schema.
type one registry.Schema

func (o one) Schema(uint32) (registry.Schema, error) { return registry.Schema(o), nil }

// recoded is a log whose events are written by encode, behind a header of the Confluent wire format.
func recoded(in *events.Log, header []byte, encode func(*event) ([]byte, error)) (*events.Log, error) {
	out := &events.Log{Events: in.Events}
	for _, f := range in.Fetches {
		g := *f
		g.Records = append([]engine.Record(nil), f.Records...)
		for i := range g.Records {
			var e event
			if err := json.Unmarshal(g.Records[i].Value, &e); err != nil {
				return nil, err
			}
			body, err := encode(&e)
			if err != nil {
				return nil, err
			}
			g.Records[i].Value = append(append([]byte(nil), header...), body...)
			out.Bytes += int64(len(g.Records[i].Value))
		}
		events.Pack(&g)
		out.Fetches = append(out.Fetches, &g)
	}
	return out, nil
}

var confluent = binary.BigEndian.AppendUint32([]byte{0}, 1)

// avroContest is Firn's decoder beside twmb/avro into a struct and Arrow builders.
func avroContest(in *events.Log) (contest, error) {
	s, err := avro.Parse(avroSchema)
	if err != nil {
		return contest{}, err
	}
	log, err := recoded(in, confluent, func(e *event) ([]byte, error) { return s.Encode(e) })
	if err != nil {
		return contest{}, err
	}
	c, err := firn.LoadAvro([]byte(avroSchema), nil, "user_event.avsc")
	if err != nil {
		return contest{}, err
	}
	ours, err := firn.NewAvro(c, c.IcebergSchema(), firn.AvroOptions{Schemas: one{Type: registry.TypeAvro, Text: avroSchema}})
	if err != nil {
		return contest{}, err
	}
	peer := newStructs(ours, func(b []byte, e *event) error {
		_, err := s.Decode(b[len(confluent):], e)
		return err
	})
	return contest{"avro", log, []decoder{firnDecoder(ours), {"twmb-avro", peer.decode}}}, nil
}

// protobufContest is Firn's decoder beside a hand-written walk with protowire into a struct and Arrow builders, which is
// what generated code does at best.
func protobufContest(in *events.Log) (contest, error) {
	log, err := recoded(in, append(append([]byte(nil), confluent...), 0), encodeProto)
	if err != nil {
		return contest{}, err
	}
	c, err := firn.LoadProtobuf([]byte(protoSchema), nil, "user_event.proto", "UserEvent")
	if err != nil {
		return contest{}, err
	}
	ours, err := firn.NewProtobuf(c, c.IcebergSchema(), firn.ProtobufOptions{Schemas: one{Type: registry.TypeProtobuf, Text: protoSchema}})
	if err != nil {
		return contest{}, err
	}
	peer := newStructs(ours, func(b []byte, e *event) error { return decodeProto(b[len(confluent)+1:], e) })
	return contest{"protobuf", log, []decoder{firnDecoder(ours), {"protowire", peer.decode}}}, nil
}

func encodeProto(e *event) ([]byte, error) {
	at, err := proto.Marshal(timestamppb.New(e.Metadata.At))
	if err != nil {
		return nil, err
	}
	str := func(b []byte, n protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
	}
	opt := func(b []byte, n protowire.Number, s *string) []byte {
		if s == nil {
			return b
		}
		return str(b, n, *s)
	}
	key := str(str(nil, 1, e.Key.User), 2, e.Key.Session)
	payload := opt(opt(opt(nil, 1, e.Payload.Page), 2, e.Payload.Referrer), 3, e.Payload.Currency)
	if a := e.Payload.Amount; a != nil {
		payload = protowire.AppendFixed64(protowire.AppendTag(payload, 4, protowire.Fixed64Type), floatBits(*a))
	}
	meta := opt(opt(str(nil, 1, string(at)), 2, e.Metadata.Trace), 3, e.Metadata.Source)
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(e.Version))
	b = str(str(b, 2, e.ID), 3, e.Type)
	return str(str(str(b, 4, string(key)), 5, string(payload)), 6, string(meta)), nil
}

// structs reads each event into a struct and appends its fields.
type structs struct {
	b    *array.RecordBuilder
	read func([]byte, *event) error
}

func newStructs(ours engine.Decoder, read func([]byte, *event) error) *structs {
	return &structs{array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema(ours.ArrowSchema().Fields()[:payloadColumns], nil)), read}
}

func (d *structs) decode(f *engine.Fetch) (arrow.RecordBatch, error) {
	d.b.Reserve(len(f.Records))
	for i := range f.Records {
		var e event
		if err := d.read(f.Records[i].Value, &e); err != nil {
			return nil, fmt.Errorf("event %d: %w", f.Records[i].Offset, err)
		}
		d.append(&e)
	}
	return d.b.NewRecordBatch(), nil
}

func (d *structs) append(e *event) {
	d.b.Field(0).(*array.Int32Builder).Append(e.Version)
	d.b.Field(1).(*array.StringBuilder).Append(e.ID)
	d.b.Field(2).(*array.StringBuilder).Append(e.Type)
	key := d.b.Field(3).(*array.StructBuilder)
	key.Append(true)
	key.FieldBuilder(0).(*array.StringBuilder).Append(e.Key.User)
	key.FieldBuilder(1).(*array.StringBuilder).Append(e.Key.Session)
	payload := d.b.Field(4).(*array.StructBuilder)
	payload.Append(true)
	for i, s := range []*string{e.Payload.Page, e.Payload.Referrer, e.Payload.Currency} {
		appendText(payload.FieldBuilder(i), s)
	}
	if amount := payload.FieldBuilder(3).(*array.Float64Builder); e.Payload.Amount != nil {
		amount.Append(*e.Payload.Amount)
	} else {
		amount.AppendNull()
	}
	meta := d.b.Field(5).(*array.StructBuilder)
	meta.Append(true)
	meta.FieldBuilder(0).(*array.TimestampBuilder).Append(arrow.Timestamp(e.Metadata.At.UnixMicro()))
	appendText(meta.FieldBuilder(1), e.Metadata.Trace)
	appendText(meta.FieldBuilder(2), e.Metadata.Source)
}

func appendText(b array.Builder, s *string) {
	if s == nil {
		b.AppendNull()
		return
	}
	b.(*array.StringBuilder).Append(*s)
}
