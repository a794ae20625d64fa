// Package ledger names what Firn writes into an Iceberg table beside the user's data, and codes it: the
// ledger columns of every ingested table, the summary record (firn.*) of every snapshot, the tag that
// follows Firn's last snapshot, and the columns of dead-letter tables.
//
// Source of the rules: docs/exactly-once.md; of the codings: docs/format/. Invariants: Decode(Encode(r)) = r;
// a summary that cannot be read whole is an error, never an empty vector.
package ledger
