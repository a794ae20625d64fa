//go:build linux || darwin || freebsd

package arrowmem

import (
	"fmt"
	"syscall"
)

// mappable tells that this system gives memory outside of Go's heap.
const mappable = true

// mapMemory panics when the system has no more memory, as Go's own allocator does.
func mapMemory(size int) []byte {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("arrowmem: map %d bytes: %v: give the process more memory, or lower max_memory", size, err))
	}
	return b
}

func unmapMemory(b []byte) {
	if err := syscall.Munmap(b); err != nil {
		panic(fmt.Sprintf("arrowmem: unmap %d bytes: %v; this is a fault of arrowmem, please report it", len(b), err))
	}
}
