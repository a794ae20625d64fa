// Package wire holds what the catalog's server and client say to each other: the JSON bodies of the Iceberg
// REST protocol, its error model, and how names stand in a URL. It decides nothing.
package wire
