package decode

import (
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/valyala/fastjson"

	"github.com/firnlake/firn/engine"
)

// fastJSON is what one writes by hand with the fastest parser of Go that builds a tree: parse, look up, append.
type fastJSON struct {
	parser fastjson.Parser
	b      *array.RecordBuilder
}

func newFastJSON(sc *arrow.Schema) *fastJSON {
	return &fastJSON{b: array.NewRecordBuilder(memory.DefaultAllocator, sc)}
}

func (d *fastJSON) decode(f *engine.Fetch) (arrow.RecordBatch, error) {
	d.b.Reserve(len(f.Records))
	for i := range f.Records {
		v, err := d.parser.ParseBytes(f.Records[i].Value)
		if err != nil {
			return nil, err
		}
		if err := d.event(v); err != nil {
			return nil, fmt.Errorf("event %d: %w", f.Records[i].Offset, err)
		}
	}
	return d.b.NewRecordBatch(), nil
}

func (d *fastJSON) event(v *fastjson.Value) error {
	version, err := v.Get("schema_version").Int()
	if err != nil {
		return err
	}
	d.b.Field(0).(*array.Int32Builder).Append(int32(version))
	if err := appendStrings(v, d.b.Field, 1, "event_id", "event_type"); err != nil {
		return err
	}
	key := d.b.Field(3).(*array.StructBuilder)
	key.Append(true)
	if err := appendStrings(v.Get("key"), key.FieldBuilder, 0, "user_id", "session_id"); err != nil {
		return err
	}
	payload, from := d.b.Field(4).(*array.StructBuilder), v.Get("payload")
	payload.Append(true)
	if err := appendStrings(from, payload.FieldBuilder, 0, "page", "referrer", "currency"); err != nil {
		return err
	}
	amount, err := from.Get("amount").Float64()
	if err != nil {
		return err
	}
	payload.FieldBuilder(3).(*array.Float64Builder).Append(amount)
	meta, from := d.b.Field(5).(*array.StructBuilder), v.Get("metadata")
	meta.Append(true)
	text, err := from.Get("event_timestamp").StringBytes()
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return err
	}
	meta.FieldBuilder(0).(*array.TimestampBuilder).Append(arrow.Timestamp(at.UnixMicro()))
	return appendStrings(from, meta.FieldBuilder, 1, "trace_id", "source")
}

func appendStrings(v *fastjson.Value, field func(int) array.Builder, at int, names ...string) error {
	for i, name := range names {
		s, err := v.Get(name).StringBytes()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		field(at + i).(*array.StringBuilder).BinaryBuilder.Append(s)
	}
	return nil
}

// arrowGo is the library's own way.
type arrowGo struct{ b *array.RecordBuilder }

func newArrowGo(sc *arrow.Schema) *arrowGo {
	return &arrowGo{b: array.NewRecordBuilder(memory.DefaultAllocator, sc)}
}

func (d *arrowGo) decode(f *engine.Fetch) (arrow.RecordBatch, error) {
	for i := range f.Records {
		if err := d.b.UnmarshalJSON(f.Records[i].Value); err != nil {
			return nil, fmt.Errorf("event %d: %w", f.Records[i].Offset, err)
		}
	}
	return d.b.NewRecordBatch(), nil
}
