// Package nettest finds ports for servers that a test stops and starts again.
package nettest
