package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"
)

// everyProto has a field of each kind, in each shape.
const everyProto = `syntax = "proto3";
package every;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
enum Color { RED = 0; GREEN = 1; BLUE = -5; }
message Inner {
	int32 x = 1;
	optional string y = 2;
	repeated Leaf leaves = 3;
	Nothing nothing = 4;
}
message Leaf { repeated sint64 n = 1; map<int32, bytes> m = 2; }
message Nothing {}
message Every {
	double d = 1; float f = 2; int32 i32 = 3; int64 i64 = 4; uint32 u32 = 5; uint64 u64 = 6; sint32 s32 = 7; sint64 s64 = 8;
	fixed32 f32 = 9; fixed64 f64 = 10; sfixed32 sf32 = 11; sfixed64 sf64 = 12; bool b = 13; string s = 14; bytes raw = 15; Color color = 16;
	optional int32 oi = 17; optional string os = 18; optional Color oc = 19;
	repeated int32 packed = 20; repeated int32 loose = 21 [packed = false]; repeated string strings = 22; repeated Color colors = 23; repeated double doubles = 24;
	Inner inner = 25; repeated Inner inners = 26;
	oneof choice { string left = 27; Inner right = 28; int64 middle = 29; }
	map<string, int32> counts = 30; map<int64, Inner> by_id = 31; map<bool, string> flags = 32; map<sint32, Color> colored = 33;
	google.protobuf.Timestamp at = 34; google.protobuf.Duration took = 35; google.protobuf.Struct doc = 36; google.protobuf.Value any = 37;
	google.protobuf.ListValue items = 38;
	google.protobuf.Int64Value wi = 39; google.protobuf.StringValue ws = 40; google.protobuf.UInt64Value wu = 41; google.protobuf.BoolValue wb = 42;
	repeated google.protobuf.Timestamp times = 43; map<uint64, double> far = 300;
}
`

func protoOf(tb testing.TB, text, message string, o ProtobufOptions) (*Protobuf, protoreflect.MessageDescriptor) {
	tb.Helper()
	c, err := LoadProtobuf([]byte(text), nil, "test.proto", message)
	if err != nil {
		tb.Fatal(err)
	}
	d, err := NewProtobuf(c, c.IcebergSchema(), o)
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := compileProto(text, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return d, fd.Messages().ByName(protoreflect.FullName(message).Name())
}

// protoGen draws values.
type protoGen struct {
	t    *rapid.T
	keys int
}

func (g *protoGen) message(md protoreflect.MessageDescriptor, depth int) protoreflect.Message {
	m := dynamicpb.NewMessage(md)
	switch md.FullName() {
	case "google.protobuf.Timestamp":
		g.pair(m, rapid.Int64Range(minMicros/microsPerSecond, maxMicros/microsPerSecond).Draw(g.t, "s"), rapid.Int32Range(0, nanosPerSecond-1).Draw(g.t, "n"))
		return m
	case "google.protobuf.Duration":
		sign := int64(rapid.SampledFrom([]int{-1, 1}).Draw(g.t, "sign"))
		g.pair(m, sign*rapid.Int64Range(0, maxDurationSeconds).Draw(g.t, "s"), int32(sign)*rapid.Int32Range(0, nanosPerSecond-1).Draw(g.t, "n"))
		return m
	}
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if depth <= 0 && fd.Message() != nil || rapid.IntRange(0, 2).Draw(g.t, "set") == 0 {
			continue
		}
		switch {
		case fd.IsMap():
			mp := m.Mutable(fd).Map()
			for range rapid.IntRange(0, 3).Draw(g.t, "entries") {
				mp.Set(g.key(fd.MapKey()), g.value(fd.MapValue(), depth-1))
			}
		case fd.IsList():
			l := m.Mutable(fd).List()
			for range rapid.IntRange(0, 3).Draw(g.t, "items") {
				l.Append(g.value(fd, depth-1))
			}
		default:
			m.Set(fd, g.value(fd, depth-1))
		}
	}
	return m
}

func (g *protoGen) pair(m protoreflect.Message, seconds int64, nanos int32) {
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOf(seconds))
	m.Set(m.Descriptor().Fields().ByNumber(2), protoreflect.ValueOf(nanos))
}

// key draws keys that no other map of the event has: merged events must not have one twice.
func (g *protoGen) key(fd protoreflect.FieldDescriptor) protoreflect.MapKey {
	g.keys++
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOf(strconv.Itoa(g.keys) + rapid.String().Draw(g.t, "key")).MapKey()
	case protoreflect.BoolKind:
		return protoreflect.ValueOf(rapid.Bool().Draw(g.t, "key")).MapKey()
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOf(int32(-g.keys)).MapKey()
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOf(math.MaxUint64 - uint64(g.keys)).MapKey()
	}
	return protoreflect.ValueOf(int64(-g.keys)).MapKey()
}

func (g *protoGen) value(fd protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOf(rapid.Bool().Draw(g.t, "v"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOf(protoreflect.EnumNumber(rapid.SampledFrom([]int32{0, 1, -5, 7, -9}).Draw(g.t, "v")))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOf(rapid.Int32().Draw(g.t, "v"))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOf(rapid.Uint32().Draw(g.t, "v"))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOf(rapid.Int64().Draw(g.t, "v"))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOf(rapid.Uint64().Draw(g.t, "v"))
	case protoreflect.FloatKind:
		return protoreflect.ValueOf(rapid.Float32().Draw(g.t, "v"))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOf(rapid.Float64().Draw(g.t, "v"))
	case protoreflect.StringKind:
		return protoreflect.ValueOf(rapid.String().Draw(g.t, "v"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOf(rapid.SliceOfN(rapid.Byte(), 0, 10).Draw(g.t, "v"))
	}
	return protoreflect.ValueOf(g.message(fd.Message(), depth))
}

// plainMessage turns what the oracle decoded into what stored gives.
func plainMessage(m protoreflect.Message) any {
	md := m.Descriptor()
	get := func(n protoreflect.FieldNumber) protoreflect.Value { return m.Get(md.Fields().ByNumber(n)) }
	switch md.FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration":
		return get(1).Int()*1_000_000 + get(2).Int()/1000
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue":
		return plainJSON(m)
	case "every.Nothing":
		return true
	}
	if md.ParentFile().Path() == "google/protobuf/wrappers.proto" {
		return plainProto(md.Fields().ByNumber(1), get(1))
	}
	out := make([]any, md.Fields().Len())
	for i := range out {
		fd := md.Fields().Get(i)
		switch {
		case fd.IsMap():
			list := []any{}
			m.Get(fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				list = append(list, []any{k.String(), plainProto(fd.MapValue(), v)})
				return true
			})
			out[i] = list
		case fd.IsList():
			list := []any{}
			for j := range m.Get(fd).List().Len() {
				list = append(list, plainProto(fd, m.Get(fd).List().Get(j)))
			}
			out[i] = list
		case !fd.HasPresence() || m.Has(fd):
			out[i] = plainProto(fd, m.Get(fd))
		}
	}
	return out
}

func plainJSON(m protoreflect.Message) any {
	raw, err := proto.Marshal(m.Interface())
	if err != nil {
		panic(err)
	}
	var v any
	switch m.Descriptor().Name() {
	case "Struct":
		var s structpb.Struct
		err = proto.Unmarshal(raw, &s)
		v = s.AsMap()
	case "Value":
		var s structpb.Value
		err = proto.Unmarshal(raw, &s)
		v = s.AsInterface()
	default:
		var s structpb.ListValue
		err = proto.Unmarshal(raw, &s)
		v = s.AsSlice()
	}
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func plainProto(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return v.Bool()
	case protoreflect.EnumKind:
		if e := fd.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return int64(v.Uint())
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.FormatUint(v.Uint(), 10)
	case protoreflect.FloatKind:
		return floatBits(float32(v.Float()))
	case protoreflect.DoubleKind:
		return math.Float64bits(v.Float())
	case protoreflect.StringKind:
		return v.String()
	case protoreflect.BytesKind:
		return append([]byte{}, v.Bytes()...)
	case protoreflect.MessageKind:
		return plainMessage(v.Message())
	}
	return v.Int()
}

// errOracle reports a payload on which the oracle itself fails: protobuf-go v1.36.12 panics on a map entry whose key is there and
// then there again with another wire type.
var errOracle = errors.New("the oracle panicked")

func dynamic(md protoreflect.MessageDescriptor, payload []byte) (m *dynamicpb.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errOracle, p)
		}
	}()
	m = dynamicpb.NewMessage(md)
	return m, proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(payload, m)
}

// sameAsDynamic decodes a payload with both and compares. It comes twice, for columns that are new have another way than those with room.
func sameAsDynamic(d *Protobuf, md protoreflect.MessageDescriptor, payload []byte, mayRefuse bool) error {
	out, err := d.Decode(fetchOf(string(payload), string(payload)))
	if err != nil {
		return err
	}
	m, oracleErr := dynamic(md, payload)
	if len(out.Dead) > 0 {
		if !mayRefuse || len(out.Dead) != 2 {
			return fmt.Errorf("% x: %+v; the oracle says %w", payload, out.Dead, oracleErr)
		}
		return nil
	}
	defer out.Rows.Release()
	if err := validate(out.Rows); err != nil {
		return err
	}
	if errors.Is(oracleErr, errOracle) {
		return nil
	}
	if oracleErr != nil {
		return fmt.Errorf("% x was taken, the oracle says %w", payload, oracleErr)
	}
	for row := range int(out.Rows.NumRows()) {
		got := make([]any, md.Fields().Len())
		for i := range got {
			got[i] = stored(out.Rows.Column(i), row)
		}
		if want := plainMessage(m); !equalPlain(sortedMaps(got), sortedMaps(want)) {
			return fmt.Errorf("% x\nstored %v\nwant   %v", payload, got, want)
		}
	}
	return nil
}

// Random events, and two of them joined, which is how Protobuf says that they merge: as dynamicpb reads them.
func TestProtobufAgainstAnotherDecoder(t *testing.T) {
	d, md := protoOf(t, everyProto, "every.Every", ProtobufOptions{Plain: true, Options: Options{Mem: checked(t)}})
	rapid.Check(t, func(rt *rapid.T) {
		g := &protoGen{t: rt}
		var payload []byte
		parts := rapid.IntRange(1, 2).Draw(rt, "parts")
		for range parts {
			raw, err := proto.Marshal(g.message(md, 3).Interface())
			if err != nil {
				rt.Fatal(err)
			}
			payload = append(payload, raw...)
		}
		// The keys of map<bool, …> may meet when events are joined.
		if err := sameAsDynamic(d, md, payload, parts > 1); err != nil {
			rt.Fatal(err)
		}
	})
}

// go test -fuzz FuzzProtobuf ./engine/decode
func FuzzProtobuf(f *testing.F) {
	d, md := protoOf(f, everyProto, "every.Every", ProtobufOptions{Plain: true})
	for i := range 20 {
		rapid.Custom(func(rt *rapid.T) []byte {
			raw, err := proto.Marshal((&protoGen{t: rt}).message(md, 3).Interface())
			if err != nil {
				rt.Fatal(err)
			}
			return raw
		}).Filter(func(b []byte) bool { f.Add(b); return true }).Example(i)
	}
	f.Add([]byte{})
	f.Add([]byte("\xf2\x01\x07\x0a\x01k\x08\x01\x10\x05")) // a key twice, once of another wire type: the one that fits counts
	f.Add([]byte("\x15\xff\xfa\x87\xff"))                  // a signalling NaN
	f.Add([]byte("\xc2\x02\x06\x0a\x01\xff\x0a\x01a"))     // a wrapped string twice, the first one not UTF-8
	f.Fuzz(func(t *testing.T, payload []byte) {
		if err := sameAsDynamic(d, md, payload, true); err != nil {
			t.Fatal(err)
		}
		out := mustDecode(t, d, "\x18\x05", string(payload), "\x18\x05")
		defer out.Rows.Release()
		if err := validate(out.Rows); err != nil || int(out.Rows.NumRows())+len(out.Dead) != 3 {
			t.Fatalf("%v; %d rows, %d dead letters", err, out.Rows.NumRows(), len(out.Dead))
		}
	})
}
