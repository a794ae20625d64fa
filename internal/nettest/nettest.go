// Package nettest finds ports for servers that a test stops and starts again.
package nettest

import (
	"net"
	"os"
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
)

var (
	mu sync.Mutex
	// next differs by process, so that tests of several packages rarely try the same ports.
	next = firstPort + os.Getpid()*37%(lastPort-firstPort)
)

// FreePorts returns the first of n ports in a row on 127.0.0.1 that nothing listens on. No port is handed out twice within a
// process before all were.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for tried := 0; tried < lastPort-firstPort; tried += n {
		if next+n > lastPort {
			next = firstPort
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

func free(t testing.TB, first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
