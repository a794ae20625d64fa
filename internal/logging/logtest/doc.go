// Package logtest has what tests read a log with.
package logtest
