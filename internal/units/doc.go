// Package units holds the scalar types of Firn's configuration: Duration ("1s", "15m", "7d"), Bytes ("64MiB")
// and Secret (env:NAME, file:PATH, or literal; never printed), and the addresses that it says to listen on. Each type
// knows its text, YAML and JSON Schema form.
//
// A value reads back from what it prints, except a literal Secret, which prints as <redacted> everywhere:
// text, YAML, JSON, %v, %#v and slog. Reveal is the only way to the value.
package units
