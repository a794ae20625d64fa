// Package simulation runs the engine against servers that are made up, and holds the outcome against what the log says.
// It consists of tests alone; nothing imports it.
//
// What is real: engine.Pipeline with engine/decode, engine/dedup, engine/batch, engine/tail, engine/commit and
// engine/publish, internal/snapshot and internal/datafile, byte for byte. What is modelled: Kafka (a Source with the
// contract of engine/source, which has a differential test of its own against real brokers, and a topic of dead letters),
// the catalog (held against catalogtest) and object storage.
//
// A schedule is decided by its seed. Everything runs in a synctest bubble, so time is virtual. Each request of a
// writer waits at a gate until the driver, once all goroutines are blocked, takes one of those that wait, executes it
// (once, twice, later, or not at all) and answers it, or loses the answer. The driver is the only one that draws random
// numbers, and it looks at what waits in an order that does not depend on Go's scheduler. Between two gates a writer is
// alone. Time moves on in steps of a tick, which is longer than the longest random wait in the engine. Thus the same
// seed gives the same trace, which TestDeterminism holds.
//
// The oracle is in oracle_test.go, what may happen in acts_test.go, and docs/decisions/0005-simulation.md has the bounds
// of the model and how soon it notices which broken rule.
package simulation
