// Package catalog is the Iceberg REST catalog of Firn and the contract by which the rest of Firn uses any
// REST catalog: identifiers, errors, and the Catalog interface. Its parts: server (HTTP), sqlstore (table
// state as rows), client (HTTP client), catalogtest (the suite that every implementation passes).
//
// Invariants: a commit is atomic and all its requirements hold at the instant it takes effect; every
// metadata location that was ever handed out stays readable and never changes.
package catalog
