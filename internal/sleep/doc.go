// Package sleep waits in a way that the end of a context cuts short.
package sleep
