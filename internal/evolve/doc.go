// Package evolve tells what a table's schema needs to hold rows of another one: the one function that every source of a
// new schema goes through, be it a registry, a contract file that changed, or rows on their way into a commit.
//
// A schema only ever grows: columns are added, optional and behind those that are there, and types are widened as
// Iceberg's specification allows (int to long, float to double, decimal to more digits). A column that the events no
// longer have stays, and is null. Nothing is renamed, moved, dropped or narrowed, and no field id is given twice.
//
// A column that no table has yet has an id from FirstNew on, which is nobody's: it stands for its name under its parent
// until a table gives it one. All other columns are told by their ids, so what another engine renamed is still found.
//
// Everything here is pure: schemas in, schemas out.
package evolve
