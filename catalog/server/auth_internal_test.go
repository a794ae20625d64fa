package server

import (
	"fmt"
	"testing"
	"time"
)

// TestEveryRouteHasAPermission: a route that is added is denied to everybody until somebody says what it takes.
func TestEveryRouteHasAPermission(t *testing.T) {
	served := map[string]bool{}
	for _, e := range endpoints {
		served[e.name] = true
		if permissions[e.name] == nil {
			t.Errorf("%s %s: permissions has no entry %q", e.method, e.path, e.name)
		}
	}
	for name := range permissions {
		if !served[name] {
			t.Errorf("permissions has %q, which is no endpoint", name)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(10, 5)
	l.now = func() time.Time { return now }
	for i := range 5 {
		if _, ok := l.take("a"); !ok {
			t.Fatalf("request %d of a burst of 5 has to wait", i)
		}
	}
	for range 100 { // those that wait do not push back those that come later
		if wait, ok := l.take("a"); ok || wait != 100*time.Millisecond {
			t.Fatalf("%v, %s", ok, wait)
		}
		if wait, ok := l.peek("a"); ok || wait != 100*time.Millisecond {
			t.Fatalf("%v, %s", ok, wait)
		}
	}
	if _, ok := l.take("b"); !ok {
		t.Error("another caller has to wait")
	}
	now = now.Add(100 * time.Millisecond)
	if _, ok := l.peek("a"); !ok {
		t.Error("after its wait it has to wait again")
	}
	if _, ok := l.take("a"); !ok {
		t.Error("to look counts")
	}
	for i := range 2 * maxCallers {
		l.take(fmt.Sprint("stranger ", i))
	}
	if len(l.by) != maxCallers || l.order.Len() != maxCallers {
		t.Errorf("%d callers are remembered, in order %d", len(l.by), l.order.Len())
	}
	off := newLimiter(0, 1)
	for range 100 {
		if _, ok := off.take("a"); !ok {
			t.Fatal("without a limit one has to wait")
		}
	}
}
