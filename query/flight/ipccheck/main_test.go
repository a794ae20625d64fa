package ipccheck

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions" // registers the canonical types, as reading Parquet does
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(child(job))
	}
	goleak.VerifyTestMain(m)
}

// message is a header with its body, as in a FlightData.
type message struct{ header, body []byte }

// capture collects what a Flight writer sends.
type capture []message

func (c *capture) Send(d *flight.FlightData) error {
	*c = append(*c, message{append([]byte(nil), d.DataHeader...), append([]byte(nil), d.DataBody...)})
	return nil
}

// everyType is a schema with each layout that passes, and metadata and an extension name.
func everyType() *arrow.Schema {
	f := func(name string, t arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: t, Nullable: true}
	}
	md := arrow.NewMetadata([]string{"origin"}, []string{"test"})
	return arrow.NewSchema([]arrow.Field{
		f("null", arrow.Null), f("bool", arrow.FixedWidthTypes.Boolean), f("i8", arrow.PrimitiveTypes.Int8), f("u16", arrow.PrimitiveTypes.Uint16),
		f("i64", arrow.PrimitiveTypes.Int64), f("f16", arrow.FixedWidthTypes.Float16), f("f64", arrow.PrimitiveTypes.Float64),
		f("dec", &arrow.Decimal128Type{Precision: 20, Scale: 3}), f("dec256", &arrow.Decimal256Type{Precision: 60, Scale: 3}),
		f("d32", arrow.FixedWidthTypes.Date32), f("d64", arrow.FixedWidthTypes.Date64), f("t32", arrow.FixedWidthTypes.Time32ms),
		f("t64", arrow.FixedWidthTypes.Time64us), f("ts", &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}),
		f("dur", arrow.FixedWidthTypes.Duration_ns), f("iv", arrow.FixedWidthTypes.MonthDayNanoInterval),
		f("fsb", &arrow.FixedSizeBinaryType{ByteWidth: 5}), f("s", arrow.BinaryTypes.String), f("ls", arrow.BinaryTypes.LargeString),
		f("b", arrow.BinaryTypes.Binary), f("lb", arrow.BinaryTypes.LargeBinary),
		f("list", arrow.ListOf(arrow.BinaryTypes.String)), f("llist", arrow.LargeListOf(arrow.PrimitiveTypes.Int16)),
		f("fsl", arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Int32)),
		f("map", arrow.MapOf(arrow.BinaryTypes.String, arrow.ListOf(arrow.PrimitiveTypes.Float32))),
		f("struct", arrow.StructOf(f("x", arrow.PrimitiveTypes.Int64), f("y", arrow.StructOf(f("z", arrow.BinaryTypes.String))))),
		{Name: "named", Type: arrow.BinaryTypes.String, Nullable: true, Metadata: arrow.NewMetadata([]string{"ARROW:extension:name", "k"}, []string{"someone.elses", "v"})},
		f("uuid", extensions.NewUUIDType()),
	}, &md)
}

// messages are a schema and batches of the given rows, values and nulls from the seed.
func messages(t fataler, schema *arrow.Schema, seed uint64, rows ...int) []message {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var out capture
	w := flight.NewRecordWriter(&out, ipc.WithSchema(schema))
	for _, n := range rows {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for _, f := range b.Fields() {
			fill(f, rnd, n)
		}
		rec := b.NewRecordBatch()
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
		rec.Release()
		b.Release()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

type fataler interface{ Fatal(...any) }

// fill appends n values, about one in five NULL.
func fill(b array.Builder, rnd *rand.Rand, n int) {
	for range n {
		if rnd.IntN(5) == 0 {
			b.AppendNull()
			continue
		}
		switch b := b.(type) {
		case *array.StringBuilder:
			b.Append(fmt.Sprint("é", rnd.IntN(1000)))
		case *array.LargeStringBuilder:
			b.Append(fmt.Sprint("ß", rnd.IntN(1000)))
		case *array.BinaryBuilder:
			b.Append([]byte{byte(rnd.Uint32()), 0xFF})
		case *array.Int64Builder:
			b.Append(rnd.Int64())
		case *array.BooleanBuilder:
			b.Append(rnd.IntN(2) == 0)
		case *array.ListBuilder:
			b.Append(true)
			fill(b.ValueBuilder(), rnd, rnd.IntN(4))
		case *array.LargeListBuilder:
			b.Append(true)
			fill(b.ValueBuilder(), rnd, rnd.IntN(4))
		case *array.FixedSizeListBuilder:
			b.Append(true)
			fill(b.ValueBuilder(), rnd, 3)
		case *array.MapBuilder:
			b.Append(true)
			for k := range rnd.IntN(3) {
				b.KeyBuilder().(*array.StringBuilder).Append(fmt.Sprint("k", k))
				fill(b.ItemBuilder(), rnd, 1)
			}
		case *array.StructBuilder:
			b.Append(true)
			for i := range b.NumField() {
				fill(b.FieldBuilder(i), rnd, 1)
			}
		default:
			b.AppendEmptyValue()
		}
	}
}

// messagesSchema is small, so that a fuzzer finds its way through it.
func messagesSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "a", Type: arrow.PrimitiveTypes.Int64}, {Name: "b", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
	}, nil)
}
