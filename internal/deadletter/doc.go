// Package deadletter reads the dead letters of a pipeline from their Iceberg table. What the columns mean stands in
// engine/decode, which writes them; columns are found by name, and one that the table lacks reads as empty.
//
// A letter that was redriven stays in the table and is marked with the snapshot that took it in (ColRedriven). The mark is
// for people and for audits; whether a record is a row is told by the table of rows alone, so a mark does no harm when the
// rows are set back.
package deadletter
