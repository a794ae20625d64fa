// Package server is the Iceberg REST catalog of Firn: Service, which implements catalog.Catalog inside the
// process, and Handler, which speaks the REST protocol over it.
//
// A commit validates its requirements against the newest version and applies its updates to the table's
// lean metadata: everything but the snapshots that no ref names. Those stay rows that the commit does not
// touch. The result is compared with what it came from and goes to catalog/sqlstore as one transaction of
// only the differences. What a commit costs follows the number of refs and columns, not the history.
//
// Materialise before expose: a metadata file is written when a version is handed to anyone but Firn itself
// (Service's own methods, and requests with the lean header), once per version, and besides in an interval
// and at Close. A location that was handed out is immutable and is never deleted here, except by a purge.
//
// Every location in a table's metadata must lie in the warehouse and in no other table's location.
package server
