package decode

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/firnlake/firn/internal/registry"
)

// captured is what a real client wrote and a real registry answered; the file says which. They are of testdata/registry_acts.py
// in internal/interop, where the same is done at servers.
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
