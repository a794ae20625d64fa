// Package flight serves queries over Arrow Flight and Flight SQL, serves the tail of an ingest process to query
// processes, and is the client of both. It is the only importer of arrow-go's flight packages.
//
// Invariants: a call is authenticated before anything of it is parsed; an Arrow message from the other side is
// checked by ipccheck before arrow-go sees it; a ticket is the statement itself, signed, so that it can be fetched
// twice and needs no memory here; what is held for a client (prepared statements) is bounded and expires;
// a query ends with the call that reads it. Nothing is buffered for a slow reader but one record batch.
//
// Ownership: a query.Result is released by the call that opened it. A bound parameter batch belongs to its prepared
// statement and is released when it is bound again, closed or expired. A Cut of TailClient owns its batches.
package flight
