package decode

import (
	"errors"
	"strings"
	"testing"
)

// What an Avro schema becomes as a table.
func TestAvroColumns(t *testing.T) {
	for typ, want := range map[string]string{
		`"int"`: "int", `"long"`: "long", `"float"`: "float", `"double"`: "double", `"boolean"`: "boolean", `"string"`: "string", `"bytes"`: "binary",
		`["null","long"]`: "long", `["long","null"]`: "long", `["long"]`: "long", `{"type":{"type":"string"}}`: "string",
		`{"type":"enum","name":"E","symbols":["A"]}`:                                  "string",
		`{"type":"fixed","name":"F","size":7}`:                                        "fixed[7]",
		`{"type":"int","logicalType":"date"}`:                                         "date",
		`{"type":"int","logicalType":"time-millis"}`:                                  "time",
		`{"type":"long","logicalType":"time-micros"}`:                                 "time",
		`{"type":"long","logicalType":"timestamp-millis"}`:                            "timestamptz",
		`{"type":"long","logicalType":"timestamp-micros"}`:                            "timestamptz",
		`{"type":"long","logicalType":"timestamp-nanos"}`:                             "timestamptz",
		`{"type":"long","logicalType":"local-timestamp-millis"}`:                      "timestamp",
		`{"type":"long","logicalType":"local-timestamp-micros"}`:                      "timestamp",
		`{"type":"long","logicalType":"local-timestamp-nanos"}`:                       "timestamp",
		`{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}`:            "decimal(9, 2)",
		`{"type":"fixed","name":"F","size":8,"logicalType":"decimal","precision":18}`: "decimal(18, 0)",
		`{"type":"string","logicalType":"uuid"}`:                                      "uuid",
		`{"type":"fixed","name":"F","size":16,"logicalType":"uuid"}`:                  "uuid",
		// A logical type that is unknown or not valid for its type means nothing.
		`{"type":"string","logicalType":"date"}`:                                     "string",
		`{"type":"bytes","logicalType":"decimal"}`:                                   "binary",
		`{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}`:           "binary",
		`{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":5}`: "fixed[2]",
		`{"type":"long","logicalType":"nonsense"}`:                                   "long",
		`{"type":"array","items":["null","int"]}`:                                    "list<int>",
		`{"type":"map","values":"string"}`:                                           "map<string, string>",
		`{"type":"record","name":"S","fields":[{"name":"x","type":"int"}]}`:          "struct<2: x: optional int>",
	} {
		c, err := LoadAvro([]byte(fieldV(typ)), nil, "test.avsc")
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		got := c.IcebergSchema().Field(0).Type.String()
		if got != want {
			t.Errorf("%s: %s, want %s", typ, got, want)
		}
	}
}

// Schemas that cannot be the pipeline's, each with the place and the way out.
func TestAvroSchemasThatAreRefused(t *testing.T) {
	for schema, want := range map[string]string{
		``:                             "ends inside the document",
		`"string"`:                     "must be a record",
		`{"type":"record"}`:            "needs a name",
		`{"type":"recrd","name":"R"}`:  `did you mean "record"`,
		`{"name":"R"}`:                 `"type" is missing`,
		`{"type":"record","name":"R"}`: `needs a list of "fields"`,
		`{"type":"record","name":"R","fields":[]}`:                                                    "without fields",
		`{"type":"record","name":"R","fields":[{"type":"int"}]}`:                                      "/fields/0: a field needs a name",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`: "/fields/1/name: the field \"a\" is there twice",
		`{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"A","type":"int"}]}`: "upper and lower case",
		`{"type":"record","name":"R","fields":[{"name":"_kafka_offset","type":"long"}]}`:              "belongs to a column that firn writes",
		fieldV(`"R"`):                        "contains itself",
		fieldV(`["null","int","string"]`):    "a column has one type",
		fieldV(`"null"`):                     "null alone",
		fieldV(`["null"]`):                   "null alone",
		fieldV(`[]`):                         "at least one type",
		fieldV(`["int","int"]`):              "int twice",
		fieldV(`["int",["null","int"]]`):     "neither a union",
		fieldV(`"strng"`):                    `did you mean "string"`,
		fieldV(`7`):                          "/fields/0/type",
		fieldV(`{"type":"array"}`):           `"items" is missing`,
		fieldV(`{"type":"enum","name":"E"}`): `needs "symbols"`,
		fieldV(`{"type":"enum","name":"E","symbols":["A"],"default":"B"}`):                         "none of the symbols",
		fieldV(`{"type":"fixed","name":"F","size":-1}`):                                            "/size: must be a whole number",
		fieldV(`{"type":"fixed","name":"F","size":0}`):                                             "size 0",
		fieldV(`{"type":"fixed","name":"F","size":9999999}`):                                       "/size",
		fieldV(`{"type":"fixed","name":"F","size":12,"logicalType":"duration"}`):                   "no type for a duration",
		fieldV(`{"type":"bytes","logicalType":"decimal","precision":64,"scale":39}`):               "more digits behind the point than Iceberg",
		fieldV(`{"type":"record","name":"R","fields":[{"name":"x","type":"int"}]}`):                "defined twice",
		strings.Repeat(`{"type":"array","items":`, 600) + `"int"` + strings.Repeat("}", 600):       "nested too deeply",
		fieldV(strings.Repeat(`{"type":"array","items":`, 70) + `"int"` + strings.Repeat("}", 70)): "",
	} {
		c, err := LoadAvro([]byte(schema), nil, "test.avsc")
		if want == "" { // deep, and refused where it meets max_depth
			if err == nil {
				_, err = NewAvro(c, c.IcebergSchema(), AvroOptions{})
			}
			want = "nests deeper than max_depth"
		}
		if !errors.Is(err, ErrContract) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s:\n%v\nwant %q", schema, err, want)
		}
	}
}

func TestAvroReferences(t *testing.T) {
	c, err := LoadAvro([]byte(`{"type":"record","name":"R","namespace":"a","fields":[{"name":"v","type":"b.K"},{"name":"w","type":"L"}]}`),
		[]string{`{"type":"record","name":"L","namespace":"a","fields":[{"name":"y","type":"int"}]}`,
			`{"type":"record","name":"K","namespace":"b","fields":[{"name":"x","type":"a.L"}]}`}, "test.avsc")
	if err != nil {
		t.Fatal(err)
	}
	if f := c.find("v.x.y"); f == nil || f.kind != kindInt {
		t.Errorf("v.x.y is %+v", f)
	}
	if _, err := LoadAvro([]byte(fieldV(`"b.K"`)), []string{`{`}, "test.avsc"); err == nil || !strings.Contains(err.Error(), "referenced schema 1") {
		t.Errorf("a damaged reference: %v", err)
	}
}

// Pairs that do not resolve, with what is said of them.
func TestAvroSchemasThatDoNotResolve(t *testing.T) {
	enum := func(name, symbols string) string {
		return fieldV(`{"type":"enum","name":"` + name + `","symbols":[` + symbols + `]}`)
	}
	for _, c := range []struct{ writer, reader, want string }{
		{fieldV(`"string"`), fieldV(`"int"`), "written as string, wanted as int"},
		{fieldV(`"long"`), fieldV(`"int"`), "written as long, wanted as int"},
		{fieldV(`"double"`), fieldV(`"float"`), "written as double"},
		{fieldV(`"null"`), fieldV(`"int"`), "null is not allowed"},
		{fieldV(`"boolean"`), fieldV(`"int"`), "written as boolean"},
		{fieldV(`["null","string"]`), fieldV(`"int"`), "wanted as int"},
		{enum("E", `"A"`), enum("F", `"A"`), "an alias"},
		{fieldV(`{"type":"fixed","name":"F","size":2}`), fieldV(`{"type":"fixed","name":"F","size":3}`), "2 bytes and 3"},
		{fieldV(`{"type":"array","items":"string"}`), fieldV(`{"type":"array","items":"int"}`), "written as string"},
		{fieldV(`{"type":"long","logicalType":"time-micros"}`), fieldV(`{"type":"long","logicalType":"timestamp-micros"}`), "written as long (time-micros)"},
		{fieldV(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}`), fieldV(`{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}`), "scales differ"},
		{`{"type":"record","name":"R","fields":[{"name":"w","type":"int"}]}`, fieldV(`"int"`), `no field "v"`},
		{`{"type":"record","name":"Q","fields":[{"name":"v","type":"int"}]}`, fieldV(`"int"`), "the names differ"},
		{`{"type":"record","name":"R","fields":[]}`, `{"type":"record","name":"R","fields":[{"name":"v","type":"int","default":"x"}]}`, "the default"},
		{`"int"`, fieldV(`"int"`), "written as int"},
	} {
		d := avroOf(t, c.reader, c.writer)
		out := mustDecode(t, d, confluent(0, []byte{0}))
		if len(out.Dead) != 1 || out.Dead[0].Reason != ReasonIncompatible || !strings.Contains(out.Dead[0].Message, c.want) {
			t.Errorf("%s read as %s: %+v, want %q", c.writer, c.reader, out.Dead, c.want)
		}
	}
}

// What differs from the random pairs of the oracle: symbols without a default, and units that change.
func TestAvroResolves(t *testing.T) {
	enum := func(symbols string) string { return fieldV(`{"type":"enum","name":"E","symbols":[` + symbols + `]}`) }
	long := func(logical string) string { return fieldV(`{"type":"long","logicalType":"` + logical + `"}`) }
	for _, c := range []struct{ writer, reader, body, want string }{
		{enum(`"A","B"`), enum(`"B"`), "\x02", `"B"`},
		{enum(`"A","B"`), enum(`"B"`), "\x00", "not_in_enum /v"},
		{long("timestamp-millis"), long("timestamp-micros"), "\x02", `"1970-01-01T00:00:00.001Z"`},
		{long("timestamp-micros"), long("timestamp-millis"), "\x02", `"1970-01-01T00:00:00.000001Z"`},
		{fieldV(`"long"`), long("timestamp-millis"), "\x02", `"1970-01-01T00:00:00.001Z"`},
		{fieldV(`"bytes"`), fieldV(`"string"`), "\x02\xff", "invalid_utf8 /v"},
		{fieldV(`["null",{"type":"record","name":"x.S","fields":[{"name":"a","type":"int"}]}]`),
			fieldV(`["null",{"type":"record","name":"y.S","fields":[{"name":"a","type":"long"}]}]`), "\x02\x02", `{"a":1}`},
		{fieldV(`"int"`), fieldV(`["null","double"]`), "\x02", "1"},
	} {
		d := avroOf(t, c.reader, c.writer)
		if got := one(t, d, confluent(0, []byte(c.body))); got != c.want {
			t.Errorf("%s read as %s: %s, want %s", c.writer, c.reader, got, c.want)
		}
	}
}
