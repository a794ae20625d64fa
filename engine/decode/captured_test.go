package decode

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/firnlake/firn/engine"
	"github.com/firnlake/firn/internal/registry"
)

// captured is what a real client wrote and a real registry answered; the file says which. In internal/interop the same is done at
// servers.
type captured struct {
	Schema     string
	References []registry.Reference
	Value      []byte
}

func loadCaptured(t *testing.T, file string) (c captured) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Apicurio gives back what confluent-kafka registers: descriptors in Base64, of references too.
func TestProtobufSchemaAsDescriptor(t *testing.T) {
	got := loadCaptured(t, "confluent-kafka-protobuf.json")
	c, err := LoadProtobuf([]byte(got.Schema), got.References, "subject orders-value", "shop.Sales.Order")
	if err != nil {
		t.Fatal(err)
	}
	list := make(schemaList, got.Value[4]+1)
	list[got.Value[4]] = registry.Schema{Type: registry.TypeProtobuf, Text: got.Schema, References: got.References}
	d, err := NewProtobuf(c, c.IcebergSchema(), ProtobufOptions{Schemas: list, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	out := mustDecode(t, d, string(got.Value))
	defer out.Rows.Release()
	const want = `id=1099511627777 ratio=1.1 paid=false state="SENT" big="18446744073709551614" at="2024-02-29T23:59:59.123457Z" raw="AAH/" tags=["t0"] counts=[{"key":"k0","value":0}] maybe=null ` +
		`price={"currency":"EUR","units":8589934592} refund=null items=[{"n":0,"sku":"s0"}] card="c1" iban=null note=1 extra=1`
	if rows := rowsJSON(t, out.Rows); len(rows) != 1 || rows[0] != want {
		t.Errorf("rows %v, want\n%s; dead %+v", rows, want, out.Dead)
	}
}

// Connect's converters give a decimal 64 digits where the database does not say how many: the column has Iceberg's 38, and a value
// of more is a dead letter.
func TestAvroDecimalOfUnknownPrecision(t *testing.T) {
	got := loadCaptured(t, "debezium-avro.json")
	c, err := LoadAvro([]byte(got.Schema), nil, "subject prices-value")
	if err == nil {
		c, err = c.WithEnvelope(Envelope{Type: EnvelopeDebezium})
	}
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := c.IcebergSchema().FindFieldByName("cost"); !ok || f.Type.String() != "decimal(38, 2)" {
		t.Errorf("the column is %v", f)
	}
	list := make(schemaList, got.Value[4]+1)
	list[got.Value[4]] = registry.Schema{Type: registry.TypeAvro, Text: got.Schema}
	d, err := NewAvro(c, c.IcebergSchema(), AvroOptions{Schemas: list, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	const cost = "\x02\x02\xff" // there, one byte, -0.01
	value, at := string(got.Value), strings.LastIndex(string(got.Value), cost)
	long := value[:at] + "\x02\x22\x7f" + strings.Repeat("\xff", 16) + value[at+len(cost):] // 17 bytes
	out := mustDecode(t, d, value, long)
	defer out.Rows.Release()
	const want = `id=1 price="99.9999" cost="-0.01" at=1709251199123456 _op="u" _ts_ms="2026-11-26T18:33:58.021Z"`
	if rows := rowsJSON(t, out.Rows); len(rows) != 1 || !strings.HasPrefix(rows[0], want) {
		t.Errorf("rows %v, want\n%s", rows, want)
	}
	if len(out.Dead) != 1 || out.Dead[0].Reason != ReasonOutOfRange || out.Dead[0].Place != "/after/cost" {
		t.Errorf("dead %+v", out.Dead)
	}
}

// Kafka Connect writes the doubles that no JSON number is as strings. The lines are updates of Debezium 3.4.3.Final for PostgreSQL 15
// by its JsonConverter without schemas.
func TestDoublesThatAreNotFinite(t *testing.T) {
	text, err := os.ReadFile("testdata/debezium-not-finite.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	const contract = `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"d":{"type":["number","null"]%s}}}`
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	out := mustDecode(t, changesOf(t, fmt.Sprintf(contract, ""), Options{Mem: checked(t)}), append(lines, strings.Replace(lines[0], `"NaN"`, `"Infinity"`, 1))...)
	defer out.Rows.Release()
	rows := rowsJSON(t, out.Rows)
	for i, want := range []string{`id=7 d="NaN" `, `id=8 d="-Inf" `, `id=7 d="+Inf" `} {
		if len(rows) != 3 || !strings.HasPrefix(rows[i], want) {
			t.Fatalf("rows %v; dead %+v", rows, out.Dead)
		}
	}
	for reason, dead := range map[string]engine.Decoded{
		"out_of_range /after/d": mustDecode(t, changesOf(t, fmt.Sprintf(contract, `,"minimum":0`), Options{}), lines[0]),
		"invalid_format /v":     mustDecode(t, decoderOf(t, contractOf(t, `{"type":"object","properties":{"v":{"type":"string","format":"date"}}}`), Options{}), `{"v":"2024-02-29Z"}`),
		"wrong_type /d":         mustDecode(t, decoderOf(t, contractOf(t, fmt.Sprintf(contract, "")), Options{}), `{"id":7,"d":"NaN"}`), // no envelope
	} {
		if len(dead.Dead) != 1 || dead.Dead[0].Reason+" "+dead.Dead[0].Place != reason {
			t.Errorf("%+v, want %s", dead.Dead, reason)
		}
	}
}
