// Package ipccheck looks at Arrow IPC messages that came from somebody else before arrow-go does. arrow-go v18.8.0
// allocates by FlatBuffers lengths that it does not check, and a huge one ends the process with a fatal error that
// no recover catches; it also trusts row counts, buffer places and offsets until a value is read.
//
// The check has two parts. The header is walked as the FlatBuffers tables of Message.fbs and Schema.fbs: every
// table, vtable, vector and string must lie within the header, nesting and fields are counted against limits. The
// body of a record batch is then held against the schema of its stream: as many nodes and buffers as the columns
// need, every buffer within the body and long enough for its rows, offsets that never fall and stay within what
// they point into.
//
// Invariants: a message that passes makes arrow-go allocate no more than a small multiple of the message's own
// length; every value of its batches can be read without a panic. What Firn never sends is refused instead of
// checked: dictionaries, compressed bodies, unions, run-end encoding, views, tensors, big-endian data.
//
// The package reads bytes with the standard library alone and keeps none of them.
package ipccheck
