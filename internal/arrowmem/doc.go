// Package arrowmem tells how much memory Arrow record batches hold.
package arrowmem
