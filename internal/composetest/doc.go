// Package composetest checks what stands beside the program: docker-compose.yml with compose-go, the alert rules with
// Prometheus' own parser, and that every series that an alert or a dashboard asks for is one that Firn has.
//
// It is a module of its own, so that these heavy libraries stay out of Firn's go.mod.
package composetest
