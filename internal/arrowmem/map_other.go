//go:build !linux && !darwin && !freebsd

package arrowmem

// mappable is false where Go's heap is all there is; then nothing is ever mapped.
const mappable = false

func mapMemory(size int) []byte { return make([]byte, size) }

func unmapMemory([]byte) {}
