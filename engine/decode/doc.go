// Package decode turns the records of a Fetch into Arrow record batches of the table's schema and dead letters.
//
// A Contract (a JSON Schema file) says what an event looks like; NewJSON joins it with the table's current Iceberg
// schema into a plan, and Decode walks each payload once: the next key is predicted from the order in which keys came
// before and compared in place, values go straight into column buffers, and those buffers become Arrow arrays without
// a copy. There is no row object, no map per event and, in steady state, no allocation per event.
//
// NewAvro does the same for Avro: the writer's schema, named by the header of the Confluent wire format or of single-object
// encoding, is resolved against the contract's once per schema, and the plan that comes out of it reads each value into
// its column or over it. A schema that cannot be had now makes Decode fail with nothing lost; a schema that nobody knows,
// or that does not resolve, makes dead letters of its events. What an event may make of its few bytes (items, defaults,
// symbols) is bounded.
//
// NewProtobuf does it for Protobuf: fields are told by their numbers, as the encoding's specification says, and what comes
// twice is put into a form where it comes once. The writer's schema says only which message an event is. A map with a key
// twice is a dead letter, as it is in JSON and Avro.
//
// NewFramedJSON reads JSON with the header of the wire format before it: by the contract's plan, or where it follows the schemas of
// ids, by one made for each over the same columns.
//
// The table's schema may be behind the contract's: what it lacks has columns with ids that are nobody's yet
// (internal/evolve), and the commit that first needs them gives them theirs. With Follow the contract itself grows
// with the schemas that ids name: the batch ends, reader and columns are made anew, and the same records are read once more.
// Schemas that cannot be followed go by Options.OnIncompatible.
//
// With an envelope (WithEnvelope) an event is the change of a row. Its members are found first, because the one that says
// which of them is the row may come last, and the row alone goes through the plan; that of a delete through one that requires
// less. A schema that comes with every event is told by its bytes and held once against the contract. Avro and Protobuf do
// likewise: the walk over an envelope finds op and where the images stand, and only the one that is the row is read.
//
// What is accepted as JSON: exactly RFC 8259 objects in UTF-8, bounded in depth and size. Defined where the RFC leaves room:
//   - a contract field or a map key twice in one object is a dead letter (duplicate_key); fields that the contract
//     does not name are ignored and counted, or kept in the column of WithRest, byte for byte; their names are not compared
//     with each other;
//   - a lone surrogate (\ud800) cannot be stored as UTF-8: dead letter (invalid_utf8) in a value or map key that is
//     kept, of no account in an ignored field, nor in the rest, which keeps the escape as it was written;
//   - an integer may be written 3, 3.0 or 3e0; it never passes through floating point;
//   - a double is what strconv.ParseFloat gives; beyond the range of a double is out_of_range;
//   - a decimal must fit precision and scale exactly; nothing is rounded;
//   - date-time is RFC 3339 with an offset, years 0000 to 9999, no leap second; digits below a microsecond are cut off;
//   - null is for types that list "null"; a field that is absent and not required is null in the table;
//   - a byte-order mark is not JSON.
//
// Most values are plain: an ASCII string with room in its column, the next field in order, a short number. They have a short way that
// does nothing unless all of that holds; else the general way begins at the same byte, and it alone says what is wrong
// (docs/decisions/0015-decode.md).
//
// Rules are looked at when an event was read whole, on the values in its row: they cost nothing where there are none, and are the
// same for all formats. What a JSON Schema says without x-on-violation is checked while reading, and makes dead letters.
//
// Invariants: a record gives one row or one dead letter, never both and never half a row; columns have equal lengths
// at every record boundary; the batch handed out is never written again. The receiver of Decoded owns Rows and
// releases it; buffers return to the allocator then. A decoder belongs to one goroutine; batches may be released in any.
package decode
