package decode

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/firnlake/firn/internal/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests got into the expected files of testdata")

// golden runs f over the blocks of a file: input, a line of dashes, expected output, an empty line.
func golden(t *testing.T, path string, f func(input string) string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(raw)), "\n\n") {
		input, want, _ := strings.Cut(block, "\n----")
		got := strings.TrimSpace(f(input))
		if i > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n", input, got)
		if got != strings.TrimSpace(want) && !*rewrite {
			t.Errorf("%s\n  is  %s\nwant %s", input, got, strings.TrimSpace(want))
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A contract gives a schema, or an error that names the place and the nearest thing that works.
func TestContracts(t *testing.T) {
	golden(t, "testdata/contracts.txt", func(input string) string {
		c, err := LoadContract([]byte(input), "c.json")
		if err != nil {
			if !errors.Is(err, ErrContract) {
				t.Errorf("%s: %v is not ErrContract", input, err)
			}
			return strings.TrimPrefix(err.Error(), ErrContract.Error()+": ")
		}
		var b strings.Builder
		for _, f := range c.IcebergSchema().Fields() {
			if !ledger.IsColumn(f.Name) {
				fmt.Fprintf(&b, "%s\n", f)
			}
		}
		if c.EventTime != "" {
			fmt.Fprintf(&b, "event time: %s\n", c.EventTime)
		}
		return b.String()
	})
}

// A field of a contract alone: the same, for the many schemas of one line.
func TestFieldSchemas(t *testing.T) {
	golden(t, "testdata/fields.txt", func(input string) string {
		c, err := LoadContract([]byte(`{"type":"object","properties":{"v":`+input+`}}`), "c.json")
		if err != nil {
			return strings.TrimPrefix(strings.TrimPrefix(err.Error(), ErrContract.Error()+": c.json#/properties/v"), ErrContract.Error()+": ")
		}
		return c.IcebergSchema().Field(0).Type.String()
	})
}

// References that double at each level are a small file and an endless contract.
func TestContractsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, `"d%d":{"type":"object","properties":{"x":{"$ref":"#/$defs/d%d"},"y":{"$ref":"#/$defs/d%d"}}},`, i, i+1, i+1)
	}
	_, err := LoadContract([]byte(`{"$defs":{`+b.String()+`"d20":{"type":"string"}},"type":"object","properties":{"v":{"$ref":"#/$defs/d0"}}}`), "c.json")
	if !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), "more than 10000 schemas") {
		t.Error(err)
	}
}

func TestIcebergSchemaEndsWithTheLedger(t *testing.T) {
	fields := demoContract(t).IcebergSchema().Fields()
	want := []string{ledger.ColPartition, ledger.ColOffset, ledger.ColTimestamp, ledger.ColIngestedAt}
	ids := map[int]bool{}
	for i, f := range fields {
		if f.Required || ids[f.ID] {
			t.Errorf("field %s: required %v, id %d", f.Name, f.Required, f.ID)
		}
		ids[f.ID] = true
		if at := i - (len(fields) - len(want)); at >= 0 && f.Name != want[at] {
			t.Errorf("column %d is %s, want %s", i, f.Name, want[at])
		}
	}
	if c := demoContract(t); c.EventTime != "metadata.event_timestamp" {
		t.Errorf("event time %q", c.EventTime)
	}
}

// What the table's schema and the contract must agree on.
func TestTableAndContractMustFit(t *testing.T) {
	prim := iceberg.PrimitiveTypes
	led := func(fields ...iceberg.NestedField) *iceberg.Schema {
		ids := idSource(100)
		return iceberg.NewSchema(0, append(fields, ledgerFields(&ids, false, false)...)...)
	}
	f := func(name string, typ iceberg.Type, required bool) iceberg.NestedField {
		return iceberg.NestedField{ID: 1, Name: name, Type: typ, Required: required}
	}
	list := func(elem iceberg.Type, required bool) iceberg.Type {
		return &iceberg.ListType{ElementID: 2, Element: elem, ElementRequired: required}
	}
	const str = `{"type":"string"}`
	for _, c := range []struct {
		field string
		table *iceberg.Schema
		want  string // part of the error; empty when they fit
	}{
		{str, led(f("v", prim.String, false)), ""},
		{str, led(f("v", prim.String, false), iceberg.NestedField{ID: 9, Name: "w", Type: list(prim.UUID, false)}), ""},
		{str, led(f("value", prim.String, false)), ""}, // the table grows
		{str, led(f("V", prim.String, false)), `column v differs from column V in upper and lower case only`},
		{str, led(f("v", prim.Int64, false)), `column v: the contract says string (#/properties/v), the table says long; change one of them`},
		{str, led(f("v", prim.String, true)), `lets it be absent or null`},
		{str, led(f("v", prim.String, false), iceberg.NestedField{ID: 9, Name: "w", Type: prim.Int32, Required: true}), `column w: the table requires it, the contract has no such field`},
		{`{"type":"integer","format":"int32"}`, led(f("v", prim.Int64, false)), ""},
		{`{"type":"integer"}`, led(f("v", prim.Int32, false)), ""},
		{`{"type":"number","format":"decimal","x-precision":5,"x-scale":2}`, led(f("v", iceberg.DecimalTypeOf(9, 2), false)), ""},
		{`{"type":"number","format":"decimal","x-precision":5,"x-scale":2}`, led(f("v", iceberg.DecimalTypeOf(9, 3), false)), `decimal(5, 2)`},
		{`{"type":"array","items":{"type":"string"}}`, led(f("v", list(prim.String, true), false)), ""},
		{`{"type":"array","items":{"type":["string","null"]}}`, led(f("v", list(prim.String, true), false)), `the table requires list elements`},
		{`{"type":"array","items":{"type":"string"}}`, led(f("v", prim.String, false)), `the contract says list<string>`},
		{`{"type":"array","items":{"type":"string"}}`, led(f("v", list(prim.Int32, false), false)), `column v.element: the contract says string`},
		{`{"type":"object","additionalProperties":{"type":"string"}}`, led(f("v", prim.String, false)), `the table says string`},
		{`{"type":"object","additionalProperties":{"type":["string","null"]}}`,
			led(f("v", &iceberg.MapType{KeyID: 2, KeyType: prim.String, ValueID: 3, ValueType: prim.String, ValueRequired: true}, false)), `the table requires map values`},
		{`{"type":"object","properties":{"x":{"type":"string"}}}`, led(f("v", prim.String, false)), `the contract says struct`},
		{`{"type":"object","properties":{"x":{"type":"string"}}}`, led(f("v", &iceberg.StructType{FieldList: []iceberg.NestedField{{ID: 2, Name: "y", Type: prim.String}}}, false)), ""},
		{str, iceberg.NewSchema(0, f("v", prim.String, false)), "the table has no column _kafka_partition int"},
		{str, iceberg.NewSchema(0, f("v", prim.String, false), iceberg.NestedField{ID: 2, Name: ledger.ColPartition, Type: prim.Int64}), "_kafka_partition is long and must be int"},
	} {
		d, err := NewJSON(oneField(t, c.field), c.table, Options{Mem: checked(t)})
		if (err == nil) != (c.want == "") || (err != nil && (!errors.Is(err, ErrContract) || !strings.Contains(err.Error(), c.want))) {
			t.Errorf("%s against %s:\n  is  %v\nwant %s", c.field, c.table.Field(0), err, c.want)
		}
		if err == nil {
			if out := mustDecode(t, d, `{}`); out.Rows != nil {
				out.Rows.Release()
			}
		}
	}
}

func FuzzLoadContract(f *testing.F) {
	f.Add([]byte(everyKind))
	f.Add([]byte(`{"$defs":{"a":{"$ref":"#/$defs/a"}},"type":"object","properties":{"x":{"$ref":"#/$defs/a"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := LoadContract(raw, "c.json")
		if err != nil {
			if !errors.Is(err, ErrContract) {
				t.Fatal(err)
			}
			return
		}
		d, err := NewJSON(c, c.IcebergSchema(), Options{})
		if err != nil {
			if !errors.Is(err, ErrContract) {
				t.Fatal(err)
			}
			return
		}
		if out, err := d.Decode(fetchOf(`{}`)); err != nil {
			t.Fatal(err)
		} else if out.Rows != nil {
			out.Rows.Release()
		}
	})
}
