package nettest

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are handed out from below the range that the kernel takes ports of outgoing connections from (32768 on Linux, 49152
// elsewhere). A port that it picked for a listener on port 0 may belong to somebody's connection by the time that a server
// comes back to it.
const (
	firstPort = 15000
	lastPort  = 32000
	// A process hands out ports of a block of its own, so that tests of several packages at a time cannot meet. It has the
	// block for as long as it listens on the block's first port, which is until it ends.
	blockPorts = 500
)

var (
	mu    sync.Mutex
	claim net.Listener
	block int // its first port
	next  int
)

// FreePorts returns the first of n ports in a row on 127.0.0.1 that nothing listens on. No port is handed out twice within a
// process before all of its were.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if claim == nil && !claimBlock(t) {
		t.Fatalf("no block of %d ports is free", blockPorts)
	}
	for tried := 0; tried < blockPorts; tried += n {
		if next+n > block+blockPorts {
			next = block + 1
		}
		first := next
		next += n
		if free(t, first, n) {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

func claimBlock(t testing.TB) bool {
	for first := firstPort; first < lastPort; first += blockPorts {
		l, err := listen(t, first)
		if err == nil {
			claim, block, next = l, first, first+1
			return true
		}
	}
	return false
}

func listen(t testing.TB, port int) (net.Listener, error) {
	// Not the test's context: the claim is the process's.
	return (&net.ListenConfig{}).Listen(context.WithoutCancel(t.Context()), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

func free(t testing.TB, first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := listen(t, port)
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
