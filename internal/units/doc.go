// Package units holds the scalar types of Firn's configuration: Duration ("1s", "15m"), Bytes ("64MiB")
// and Secret (env:NAME, file:PATH, or literal; never printed). Each knows its YAML and JSON Schema form.
package units
