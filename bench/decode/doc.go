// Package decode measures how fast events become Arrow record batches: Firn's decoder, fastjson with Arrow builders,
// and arrow-go's own UnmarshalJSON, on the same events into the same schema.
//
// The same events in Avro and Protobuf are measured beside it: Firn's decoders, twmb/avro into a struct with Arrow
// builders, and a walk by hand with protowire into the same.
//
// The contestants are compared value by value before anything is measured. Firn's does more for its time: it checks UTF-8,
// enums, lengths and ranges, required and doubled keys, and says where a payload is wrong.
package decode
