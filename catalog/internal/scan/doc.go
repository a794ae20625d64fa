// Package scan plans scans for clients that do not read manifests themselves: which data files of a snapshot can hold
// rows that a filter wants, what is left of the filter for each, and which delete files apply to it.
//
// A filter comes as JSON from anybody who may read a table, so its size, depth, terms and literals are bounded before
// it is bound to a schema. A file is left out only where its manifest's partition summary, its partition or its column
// metrics prove that it holds no such row; what is not known is kept. Manifests of other engines are read by
// internal/snapshot, which bounds them and turns panics of the decoder into errors.
//
// The planner keeps nothing of a plan. A plan that is too long for one answer goes on in tasks: sealed strings that
// name the snapshot, the filter and a range of the snapshot's manifests, so that any process on the same database and
// warehouse can answer them, in any order. Their seal is a checksum, not a signature: a task gives nothing that its
// holder could not ask for by the names in it, and whoever serves one checks the rights of its sender first.
//
// What was read of a manifest is kept, up to a number of bytes, because manifests never change. It is shared and
// never written to after it is made.
package scan
