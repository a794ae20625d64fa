//go:build race && linux

package arrowmem

import (
	"fmt"
	"sync"
	"syscall"
)

const (
	// guarded tells that buffers are never reused, and unreadable after they were freed.
	guarded = true
	// maxFenced is how many freed buffers stay unreadable; the system has some 65,000 mappings for a process.
	maxFenced = 16_384
)

var fenced struct {
	sync.Mutex
	all [maxFenced][]byte
	n   int
}

// fence makes that any access to b from now on ends the program with a fault.
func fence(b []byte) {
	if err := syscall.Mprotect(b, syscall.PROT_NONE); err != nil {
		panic(fmt.Sprintf("arrowmem: fence %d bytes: %v", len(b), err))
	}
	if err := syscall.Madvise(b, syscall.MADV_DONTNEED); err != nil {
		panic(fmt.Sprintf("arrowmem: drop %d bytes: %v", len(b), err))
	}
	fenced.Lock()
	defer fenced.Unlock()
	if old := fenced.all[fenced.n%maxFenced]; old != nil {
		unmapMemory(old)
	}
	fenced.all[fenced.n%maxFenced] = b
	fenced.n++
}
