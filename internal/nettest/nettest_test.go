package nettest

import (
	"fmt"
	"net"
	"testing"
)

func TestFreePortsPassesOverWhatIsTaken(t *testing.T) {
	first := FreePorts(t, 1)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", first+2))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if next := FreePorts(t, 2); next <= first+2 && first+2 < next+2 {
		t.Errorf("ports %d and %d, but %d is taken", next, next+1, first+2)
	}
	for range 3 {
		a, b := FreePorts(t, 2), FreePorts(t, 1)
		if b == a || b == a+1 {
			t.Errorf("port %d is handed out twice", b)
		}
	}
}
