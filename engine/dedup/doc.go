// Package dedup drops events that a table has already, told by a stable id in a column: an event is a duplicate when a row with its
// id, committed or decoded before it, has a Kafka timestamp within the window. It wraps the decoder of the table's rows, behind a
// transform, so hot rows and commits alike are without duplicates.
//
// The rule is a function of ids and Kafka timestamps alone. Time is cut into quarters of the window, and an event is a duplicate when
// a row with its id lies in the same quarter or in one of the four before and after it: at most one window away is always told, more
// than one and a quarter never. What is remembered of a quarter is the set of its ids, whatever order they came in, so what is read
// back from the table is what was forgotten.
//
// Invariants: an event is dropped only for a row that is committed or goes into the same or an earlier commit. The state belongs to
// one generation of the pipeline: Resume forgets all of it, and what of the table is needed is read from there when the first event
// near it comes (History), so nothing of rows that were never committed, or that were set back, outlives them. Rows at or beyond the
// offset to be decoded next are another writer's, which has fenced this one, and count for nothing. A record that is a dead letter
// already (engine.State.IsDead) is no row and is not remembered. null is no id: such rows stay.
//
// Memory: 16 bytes an id in open-addressed tables at most three quarters full, at most MaxIDs ids. A quarter that no partition has
// come near for a minute, and whose rows are committed, is left out and read again when it is needed after all. When the quarters in
// use do not fit, the least recently used is forgotten, counted, and not read again meanwhile: its duplicates become rows, but
// nothing is lost.
//
// Two ids with the same 128-bit hash would make the second event a duplicate, and lose it: of ten million in the window some two
// share one with odds of one in 10^25 (n²/2^129). Shorter hashes would not do. The hash is seeded, so that its tables cannot be filled on
// purpose; whoever can write events can repeat ids without a collision.
//
// Ownership: Decode releases the decoder's batch where it gives out another one. A Decoder belongs to one goroutine but for Committed.
package dedup
