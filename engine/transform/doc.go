// Package transform changes rows between decoder and batch: it drops columns, keeps out rows that a filter does not choose,
// adds computed columns and masks personal data. Everything is stateless and a function of one row alone.
//
// New holds a Config against the schema of the contract, so that whatever is wrong with it is an error when the
// configuration is read, with the place in the expression. Bind holds the outcome against a table: DecoderSchema is what the
// decoder has to read, Wrap makes a decoder of it that gives the table's rows. Expressions are a small typed language with
// SQL's null semantics (docs/transforms.md), parsed once and evaluated column by column over Arrow arrays; what a row costs is
// what the loops over its values cost, and in steady state nothing is allocated per row.
//
// Order: the filter sees what was decoded; then masks; then computed columns, which see masked values only. So a masked
// value leaves this package through no column, and the dead letters of a pipeline with masks are sealed: their key, value and
// headers are left out or encrypted, and places inside them name nothing that the contract does not.
//
// Invariants: every record that the decoder made a row of is afterwards exactly one of a row, a dead letter (its expression
// failed) or a filtered offset. A message of this package never holds a value of a row.
//
// Ownership: Decode releases the decoder's batch and gives out another one, which the receiver releases. A Decoder belongs to
// one goroutine, a Plan is immutable.
package transform
